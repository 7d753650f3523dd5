"""Files -> items: a shop's table, a folder per class, or garments that the project draws itself.

It knows layouts on disk; it knows nothing about nets or training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from daybreak.errors import UserError
from daybreak.systems.commerce.data import folder, table
from daybreak.systems.commerce.tags import Vocabulary

if TYPE_CHECKING:
    from daybreak.lab.lake import Broken, Draft, Item, Snapshot

PHOTO, TAGS = "photo", "tags"
"""The label `kind` of a photo, and of the file that names the groups of tags."""


def ingest(path: Path) -> Iterator[Draft | Broken]:
    """What a folder or a list holds: outfits, a log of views and purchases, or photos.

    Photos: `items.csv` or `items.jsonl` with photos by path, else a folder for each class; a `tags.toml` beside it
    names the groups of tags, and becomes an item too. Outfits and logs: see `outfits.data` and `recommend.data`.
    """
    from daybreak.systems.commerce.outfits import data as outfits
    from daybreak.systems.commerce.recommend import data as recommend

    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist")
    log, sets = recommend.find(path), outfits.find(path)
    if log is not None:
        yield from recommend.ingest(log)
    if sets is not None and sets != log:
        yield from outfits.ingest(sets)
    if log is not None or sets is not None:
        return
    listing = table.find(path)
    root = listing.parent if listing else path
    own = root / "tags.toml"
    vocabulary = Vocabulary.open(own) if own.is_file() else Vocabulary.usual()
    if own.is_file():
        yield table.vocabulary_draft(own.read_bytes())
    yield from table.ingest(listing, vocabulary) if listing else folder.ingest(path, vocabulary)


def embedded() -> Iterator[Draft | Broken]:
    """Garments and outfits made by rule: for a first run on a machine without data, never called real."""
    from daybreak.systems.commerce.data.drawn import drawings
    from daybreak.systems.commerce.outfits.drawn import drawn

    yield from drawings()
    yield from drawn()


def photos(items: Sequence[Item]) -> list[int]:
    """Where the photos stand among the items of a split."""
    return [n for n, item in enumerate(items) if item.labels.get("kind") == PHOTO]


def vocabulary(data: Snapshot) -> Vocabulary:
    """The groups of tags that a snapshot brings, or the usual ones."""
    for item in data.split("train"):
        if item.labels.get("kind") == TAGS:
            return Vocabulary.read(data.read(item).decode(), item.name)
    return Vocabulary.usual()
