"""Files -> outfits as items of the lake, and items -> outfits.

Two layouts are read. Polyvore's folder: `outfits.csv` (set_id, split, items as "index:category ..."), `categories.csv`
and `items.csv` with titles. A shop's own list: one row for each piece, with the columns outfit_id, item_id, category
and perhaps title and split. One item of the lake is one outfit, and its own group.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daybreak.errors import UserError, nearest
from daybreak.lab.lake import Broken, Draft
from daybreak.systems.commerce.data import table
from daybreak.systems.commerce.outfits.pieces import Outfit, Piece

if TYPE_CHECKING:
    from daybreak.lab.lake import Item, Snapshot, Split

OUTFIT = "outfit"
"""The label `kind` of an outfit."""
SMALLEST, LARGEST = 2, 24
"""Pieces of an outfit."""
POLYVORE = ("set_id", "split", "items")
SHOP = ("outfit_id", "item_id", "category")


def find(path: Path) -> Path | None:
    """The list of outfits in a folder, or the list itself; None where there is none."""
    file = path / "outfits.csv" if path.is_dir() else path
    if not file.is_file() or file.suffix != ".csv":
        return None
    head = header(file)
    return file if path.is_dir() or {"set_id", "outfit_id"} & set(head) else None


def header(file: Path) -> list[str]:
    """The names of a CSV's columns."""
    try:
        with open(file, encoding="utf-8-sig") as opened:
            return [name.strip().strip('"') for name in opened.readline().split(",")]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}; a list is a CSV in UTF-8") from error


def is_polyvore(file: Path) -> bool:
    """Whether a list is in Polyvore's layout."""
    return set(POLYVORE) <= set(header(file))


def ingest(file: Path) -> Iterator[Draft | Broken]:
    """A draft for each outfit of a list, in the order of the list."""
    if is_polyvore(file):
        yield from _polyvore(file)
        return
    head = header(file)
    for name in SHOP:
        if name not in head:
            raise UserError(f"{file} has no column {name!r} ({', '.join(SHOP)} are needed); {nearest(name, head)}")
    yield from _shop(file)


def draft(name: str, pieces: Sequence[Piece], split: Split | None = None, **labels: Any) -> Draft:
    """One outfit as a draft. Raises `UserError` when it is too small or too large, or a piece of it is
    there twice or has no category."""
    if not SMALLEST <= len(pieces) <= LARGEST:
        raise UserError(f"an outfit has {SMALLEST} to {LARGEST} pieces, not {len(pieces)}")
    seen: set[str] = set()
    for piece in pieces:
        if piece.id in seen:
            raise UserError(f"the piece {piece.id!r} is there twice")
        seen.add(piece.id)
        if not piece.id or not piece.category.strip():
            raise UserError(f"the piece {piece.id!r} has no {'category' if piece.id else 'id'}")
    rows = [{key: value for key, value in piece._asdict().items() if value} for piece in pieces]
    data = json.dumps({"pieces": rows}, ensure_ascii=False, separators=(",", ":")).encode()
    return Draft(name, f"outfit {name}", {"data": data}, {"kind": OUTFIT, **labels}, split)


def read(item: Item, data: bytes) -> Outfit:
    """The outfit that an item holds. Raises `UserError` when its data is none."""
    try:
        rows = json.loads(data)["pieces"]
        pieces = tuple(
            Piece(str(r["id"]), str(r["category"]), str(r.get("title", "")), tuple(map(float, r.get("product", ()))))
            for r in rows
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{item.name} is no outfit: {error!r}") from error
    return Outfit(item.name, pieces)


def places(items: Sequence[Item]) -> list[int]:
    """Where the outfits stand among the items of a split. Drawn ones count only where there are no others."""
    found = [(n, bool(item.labels.get("drawn"))) for n, item in enumerate(items) if item.labels.get("kind") == OUTFIT]
    real = [n for n, drawn in found if not drawn]
    return real or [n for n, _ in found]


def outfits(data: Snapshot, split: Split) -> list[Outfit]:
    """All outfits of a snapshot's split."""
    items = data.split(split)
    return [read(item, data.read(item)) for item in items.take(places(items))]


def _polyvore(file: Path) -> Iterator[Draft | Broken]:
    names = dict(_table(file.parent / "categories.csv", lambda row: (row["category_id"], row["name"])))
    titles = dict(_table(file.parent / "items.csv", lambda row: (row["item_id"], row.get("text", ""))))
    for row in table.rows(file):
        if isinstance(row, Broken):
            yield row
            continue
        name = str(row.get("set_id", ""))
        try:
            pieces = []
            for word in str(row.get("items", "")).split():
                index, _, number = word.partition(":")
                if number not in names:
                    raise UserError(f"category {number!r} is not in categories.csv")
                id = f"{name}_{index}"
                pieces.append(Piece(id, names[number], titles.get(id, "")))
            if row.get("split") not in table.SPLITS:
                raise UserError(f"unknown split {row.get('split')!r}; one of {', '.join(table.SPLITS)}")
            yield draft(name, pieces, table.SPLITS[row["split"]])
        except UserError as error:
            yield Broken(name, str(error))


def _table(file: Path, pair: Callable[[Mapping[str, Any]], tuple[str, str]]) -> Iterator[tuple[str, str]]:
    if not file.is_file():
        raise UserError(f"{file} is missing; a list in Polyvore's layout needs it")
    for row in table.rows(file):
        if not isinstance(row, Broken):
            try:
                yield pair(row)
            except KeyError as error:
                raise UserError(f"{file} has no column {error}") from error


def _shop(file: Path) -> Iterator[Draft | Broken]:
    """A shop's outfits; the rows of one need not stand together."""
    found: dict[str, list[Piece]] = {}
    splits: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for number, row in enumerate(table.rows(file), 2):
        if isinstance(row, Broken):
            yield row
            continue
        missing = [name for name in SHOP if name not in row]
        if missing:
            yield Broken(f"{file.name}:{number}", f"the row has no {' and no '.join(missing)}")
            if "outfit_id" in row:  # an outfit that lacks a piece is another outfit
                wrong.setdefault(str(row["outfit_id"]), f"row {number} is broken")
            continue
        name = str(row["outfit_id"])
        found.setdefault(name, []).append(Piece(str(row["item_id"]), str(row["category"]), str(row.get("title", ""))))
        if "split" in row and splits.setdefault(name, row["split"]) != row["split"]:
            wrong.setdefault(name, f"stands in two splits, {splits[name]} and {row['split']}")
        if "split" in row and row["split"] not in table.SPLITS:
            wrong.setdefault(name, f"unknown split {row['split']!r}; one of {', '.join(table.SPLITS)}")
    for name, pieces in found.items():
        try:
            if name in wrong:
                raise UserError(wrong[name])
            yield draft(name, pieces, table.SPLITS[splits[name]] if name in splits else None)
        except UserError as error:
            yield Broken(name, str(error))
