"""What a stylist takes from a catalogue: items that pass a filter, as pieces of an outfit; and pieces said in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from daybreak.errors import UserError
from daybreak.systems.commerce.outfits.pieces import Names, Piece

if TYPE_CHECKING:
    from daybreak.systems.commerce.catalogue import Catalogue, Row, Where

SPACE = "product"
"""The vectors of a catalogue that a stylist reads, where it was taught with them."""


class Shelf(NamedTuple):
    """The items among which a match is looked for."""

    rows: list[Row]
    places: list[int]
    """Each row's category, among the names that were taught."""
    pieces: list[Piece]
    notes: list[str]
    """What was left out, and why."""


def shelf(catalogue: Catalogue, where: Where, names: Names, wanted: set[int], worn: set[str], product: int) -> Shelf:
    """The items that pass the filter, are of a wanted category (any of those taught, where none is) and are not worn.

    Every one of them is read: the time grows with their number.
    """
    from daybreak.systems.commerce.catalogue.rows import emptied

    view = catalogue.view()
    found = view.where(where)
    at = view.positions if found.at is None else found.at
    notes = [] if found.rows else [emptied(view.rows, found.trail)]
    codes, numbers = view.category
    place_of = {number: names.find(name) for name, number in numbers.items()}
    counted = np.bincount(codes[at], minlength=len(numbers)) if len(at) else np.zeros(len(numbers), np.int64)
    untaught = {name: int(counted[n]) for name, n in numbers.items() if place_of[n] is None and counted[n]}
    if untaught:
        told = ", ".join(f"{name or 'no category'} ({count})" for name, count in sorted(untaught.items())[:6])
        more = f" and {len(untaught) - 6} more" if len(untaught) > 6 else ""
        notes.append(f"items of categories that were not taught are left out: {told}{more}")
    fine = [n for n, place in place_of.items() if place is not None and (not wanted or place in wanted)]
    at = at[np.isin(codes[at], fine)]
    rows = [view.row(int(one)) for one in at]
    keep = [n for n, row in enumerate(rows) if row.id not in worn]
    if wanted and not keep:
        notes.append("no item of a wanted category passes the filters")
    vectors = _vectors(catalogue, at[keep], product)
    places = [place_of[int(code)] for code in codes[at[keep]]]
    pieces = [_piece(rows[n], vector) for n, vector in zip(keep, vectors, strict=True)]
    return Shelf([rows[n] for n in keep], [place for place in places if place is not None], pieces, notes)


def item(catalogue: Catalogue, id: str, product: int) -> Piece:
    """One item. Raises `UserError` with the nearest ids."""
    view = catalogue.view()
    at = np.array([view.at(id)])
    return _piece(view.row(int(at[0])), _vectors(catalogue, at, product)[0])


def worn(text: str) -> Piece:
    """A piece by words: "Pumps", or "Pumps: red leather pumps"."""
    category, _, title = text.partition(":")
    if not category.strip():
        raise UserError(f"--wear {text!r} names no category; write CATEGORY or CATEGORY: TITLE")
    return Piece(text, category.strip(), title.strip())


def _vectors(catalogue: Catalogue, at: np.ndarray, product: int) -> Sequence[tuple[float, ...]]:
    """The rows' product embeddings, where the stylist takes any."""
    if not product:
        return [()] * len(at)
    if catalogue.spaces.get(SPACE) != product:
        raise UserError(
            f"the stylist was taught with {product} numbers of a product; {catalogue.path} has "
            f"{catalogue.spaces.get(SPACE, 'none')}"
        )
    return [tuple(map(float, row)) for row in catalogue.view().vectors(at, SPACE)]


def _piece(row: Row, vector: tuple[float, ...]) -> Piece:
    return Piece(row.id, row.category, row.title, vector)
