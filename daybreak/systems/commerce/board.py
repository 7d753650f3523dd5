"""`daybreak commerce board`: queries with their hits on one page that needs no network; and the demo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from daybreak.errors import UserError
from daybreak.media.image import Image
from daybreak.systems.commerce.catalogue import Catalogue
from daybreak.systems.commerce.commands import SHELF, counted, opened, shop_of
from daybreak.systems.commerce.model import Findings, Search, Shop, SimilarImage, SimilarProduct
from daybreak.systems.commerce.shelves import Entry, add, thumb
from daybreak.systems.commerce.tags import words_of

SHOWN = 6


def board(
    *queries: str,
    catalogue: Path = SHELF,
    model: str = "commerce",
    mode: str = "product",
    out: Path = Path("board.html"),
) -> None:
    """Write a page of queries and their hits: score, why, box, filters.

    Args:
        queries: pictures, ids of items, or words; without any, eight of the catalogue's items.
        catalogue: the catalogue's folder.
        model: which weights: a registered model, a run, or a folder.
        mode: what a picture asks for: "product" or "image".
        out: the page.
    """
    if mode not in ("product", "image"):
        raise UserError(f"--mode {mode!r} is neither product nor image")
    shop = shop_of(model)
    shop.catalogue = shelf = Catalogue.open(catalogue, shop.fingerprint)
    names = list(queries) or [row.id for _, row in zip(range(8), shelf.rows(), strict=False)]
    if not len(shelf):
        raise UserError(f"{catalogue} is empty; `commerce add` brings photos")
    page = render(
        shop, shelf, [_asked(shop, shelf, name, mode) for name in names], f"{catalogue}: {counted(len(shelf))}"
    )
    out.write_text(page)
    print(out)


def _asked(shop: Shop, shelf: Catalogue, name: str, mode: str) -> tuple[str, Image | None, Findings]:
    """A query's name, its picture, and what was found."""
    if shelf.has(name):
        found = shop.similar_product(SimilarProduct(item=name, k=SHOWN))
        return name, thumb(shelf.path, shelf.get(name)), found
    if Path(name).is_file():
        image = Image.open(name)
        if mode == "image":
            return name, image.thumbnail(128), shop.similar_image(SimilarImage(image=image, k=SHOWN))
        return name, image.thumbnail(128), shop.similar_product(SimilarProduct(image=image, k=SHOWN))
    return name, None, shop.search(Search(text=name, k=SHOWN))


def render(shop: Shop, shelf: Catalogue, asked: Sequence[tuple[str, Image | None, Findings]], title: str) -> str:
    """The page. Everything that comes from data is escaped."""
    from importlib.resources import files

    from jinja2 import Environment

    told = _telling(shelf)
    queries = []
    for name, picture, found in asked:
        hits: list[dict[str, Any]] = []
        for hit in found.hits:
            small = thumb(shelf.path, shelf.get(hit.id)) if shelf.has(hit.id) else None  # removed meanwhile
            box = None
            if hit.box is not None:
                left, top, right, bottom = hit.box
                box = [round(100 * x, 1) for x in (left, top, right - left, bottom - top)]
            hits.append(
                {
                    "picture": small.html() if small else "",
                    "box": box,
                    "title": hit.title or hit.id,
                    "category": hit.category,
                    "price": f"{hit.price:g}" if hit.price is not None else "",
                    "score": f"{hit.score:.2f}",
                    "parts": " + ".join(f"{part} {round(value, 2) + 0.0:.2f}" for part, value in hit.parts.items()),
                    "why": ", ".join(tag.partition(".")[2] for tag in hit.shared if tag in told),
                    "words": f"{hit.id} {hit.title} {hit.category} {words_of(hit.tags)}".lower(),
                }
            )
        notes = [*found.notes, *(f"{word!r} is no tag: {near}" for word, near in found.unknown.items())]
        sure = {group: values for group, values in found.read.items() if group != shop.kind}
        kind = found.kind or ("kind unknown" if picture else "")
        read = ", ".join(filter(None, (kind, words_of(sure))))
        shown = picture.html() if picture else ""
        queries.append({"name": name, "picture": shown, "read": read, "hits": hits, "notes": notes, "plan": found.plan})
    text = (files("daybreak.systems.commerce") / "board.html.j2").read_text()
    about = (
        f"{shop.fingerprint}. A box is where the network sees the garment, roughly. A kind with a question mark is a "
        "guess. Both: tags that query and hit share, without those that nearly every item has."
    )
    return Environment(autoescape=True).from_string(text).render(title=title, about=about, queries=queries)


def _telling(shelf: Catalogue) -> set[str]:
    """The tags that tell something: those that less than nine in ten of the items have."""
    counted = shelf.view().tags
    return {f"{group}.{v}" for group, values in counted.items() for v, n in values.items() if n < 0.9 * len(shelf)}


def demo(*, out: Path = Path("commerce-demo"), model: str = "commerce") -> None:
    """Fill a catalogue with drawn garments, ask it four things, and write the board. Needs no photos.

    Args:
        out: folder for the catalogue and the page.
        model: which weights: a registered model, a run, or a folder.
    """
    shop = shop_of(model)
    shop.catalogue = shelf = opened(out / "catalogue", shop)
    taken = add(shop, shelf, _drawn(120))
    print(f"{taken.added} drawings added, {taken.unchanged} there already")
    words = shelf.get("drawing 2").title
    asked = [_asked(shop, shelf, name, "product") for name in ("drawing 3", "drawing 10", words, "치마 100 이하")]
    for name, _, found in asked:
        print(f"{name}: {', '.join(hit.title for hit in found.hits[:4]) or 'nothing'}")
    page = out / "board.html"
    page.write_text(render(shop, shelf, asked, "drawn garments, no photos"))
    print(page)


def _drawn(count: int) -> Iterator[Entry]:
    from daybreak.systems.commerce.data.drawn import drawings

    for draft in drawings(count):
        labels = draft.labels
        fields = {"tags": dict(labels["tags"]), "title": labels["title"], "price": labels["price"]}
        yield Entry(draft.name, draft.parts["data"], fields)
