"""`daybreak commerce add | remove | snapshot | restore | compact | check | reembed`: a shop's catalogue by hand."""

from __future__ import annotations

import sys
from itertools import chain, islice
from pathlib import Path

from daybreak.errors import UserError
from daybreak.lab.home import Lab
from daybreak.lab.registry import locate
from daybreak.systems.commerce.catalogue import Catalogue
from daybreak.systems.commerce.model import Shop
from daybreak.systems.commerce.shelves import Taken, entries, tidy
from daybreak.systems.commerce.shelves import add as bring
from daybreak.systems.commerce.shelves import reembed as embed_anew

SHELF = Path("catalogue")


def add(photos: Path, /, *, catalogue: Path = SHELF, model: str = "commerce") -> None:
    """Bring a shop's photos into a catalogue, which is made if it is not there. What is there already is left.

    Args:
        photos: a folder with items.csv or items.jsonl, such a list itself, a folder of pictures, or a picture.
        catalogue: the catalogue's folder.
        model: which weights look at them: a registered model, a run, or a folder.
    """
    shop = shop_of(model)
    if not photos.exists():
        raise UserError(f"{photos} does not exist")
    found = entries(photos, shop.config.vocabulary)
    first = list(islice(found, 1))  # a list that cannot be read makes no catalogue
    shelf = opened(catalogue, shop)
    taken = bring(shop, shelf, chain(first, found), _told)
    for name, reason in taken.broken:
        print(f"set aside: {name}: {reason}", file=sys.stderr)
    if taken.broken and not taken.added and not taken.unchanged:
        raise UserError(f"{photos}: none of {len(taken.broken)} could be taken; the reasons stand above")
    print(f"{taken.added} added or changed, {taken.unchanged} left as they were, {len(taken.broken)} set aside")
    print(f"{catalogue}: {counted(len(shelf))}")


def counted(items: int) -> str:
    """ "1 item", "12 items"."""
    return f"{items:,} item{'' if items == 1 else 's'}"


def opened(catalogue: Path, shop: Shop) -> Catalogue:
    """The catalogue of that folder, made if there is none. Refuses one of another model's vectors."""
    if catalogue.is_dir() and any(catalogue.iterdir()):
        return Catalogue.open(catalogue, shop.fingerprint)
    return Catalogue.create(catalogue, shop.fingerprint, shop.spaces)


def remove(*ids: str, catalogue: Path = SHELF) -> None:
    """Take items out of a catalogue; they never come back as hits.

    Args:
        ids: the items.
        catalogue: the catalogue's folder.
    """
    if not ids:
        raise UserError("remove: no item is named")
    shelf = Catalogue.open(catalogue)
    with shelf.writing() as writer:
        print(f"{counted(writer.remove(ids))} removed, {len(shelf):,} left")


def snapshot(name: str, /, *, catalogue: Path = SHELF) -> None:
    """Keep the catalogue as it is under a name.

    Args:
        name: the snapshot's name.
        catalogue: the catalogue's folder.
    """
    shelf = Catalogue.open(catalogue)
    shelf.snapshot(name)
    print(f"{name}: {counted(len(shelf))}; there are: {', '.join(shelf.snapshots())}")


def restore(name: str, /, *, catalogue: Path = SHELF) -> None:
    """Make the catalogue what it was.

    Args:
        name: the snapshot's name.
        catalogue: the catalogue's folder.
    """
    shelf = Catalogue.open(catalogue)
    shelf.restore(name)
    print(f"{name}: {counted(len(shelf))}")


def compact(*, catalogue: Path = SHELF) -> None:
    """Give back the room of what was removed.

    Args:
        catalogue: the catalogue's folder.
    """
    shelf = Catalogue.open(catalogue)
    before = shelf.size()
    shelf.compact()
    gone = tidy(shelf)
    print(f"{before / 2**20:.1f} MiB -> {shelf.size() / 2**20:.1f} MiB; {gone} small pictures deleted")


def check(*, catalogue: Path = SHELF) -> None:
    """Read every byte of a catalogue and say what is wrong.

    Args:
        catalogue: the catalogue's folder.
    """
    shelf = Catalogue.open(catalogue)
    wrong = shelf.verify()
    if wrong:
        raise UserError(f"{catalogue}: {len(wrong)} faults; {'; '.join(wrong[:3])}")
    print(f"{catalogue}: {counted(len(shelf))} of {shelf.model}: whole")


def reembed(photos: Path, /, *, catalogue: Path = SHELF, model: str = "commerce") -> None:
    """Give a catalogue another model's vectors: made beside the old ones, then swapped. Goes on where it was stopped.

    Args:
        photos: the folder that the items' image paths start from.
        catalogue: the catalogue's folder.
        model: the new weights: a registered model, a run, or a folder.
    """
    shop = shop_of(model)
    shelf = Catalogue.open(catalogue)
    done = embed_anew(shop, shelf, photos)
    print(f"{counted(done)} looked at; {catalogue} has the vectors of {shop.fingerprint}")


def shop_of(model: str) -> Shop:
    """The shop's weights by any of their names."""
    return Shop.load(locate(Lab.existing(), model).path)


def _told(taken: Taken) -> None:
    if sys.stderr.isatty():
        print(f"\r{taken.added + taken.unchanged} items", end="", file=sys.stderr)
