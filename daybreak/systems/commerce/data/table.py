"""A shop's list of items: CSV or JSON lines, photos by their path beside the list.

Columns: `image` (or `file`), and what there is of `id`, `title`, `price`, `category`, `sender` (or `shop`, `group`),
`split`, `box`, and one for each group of tags; several values of a group stand with "|" or ";" between them. A column
`GROUP_auto` (and `GROUP2_auto`) holds tags that a program gave: they weigh half. It knows lists; it opens no picture.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from daybreak.errors import UserError
from daybreak.lab.lake import Broken, Draft
from daybreak.lab.lake.item import Split
from daybreak.media.image import Image
from daybreak.systems.commerce.tags import Vocabulary

NAMES = ("items.csv", "items.jsonl", "products.csv", "products.jsonl", "catalogue.csv", "catalogue.jsonl")
SPLITS: Mapping[str, Split] = {
    "train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test",
}  # fmt: skip
GROUPS = ("sender", "shop", "group")
PHOTO = ("image", "file")
"""The column that names an item's photo."""
TWICE = "the id is twice in the list; the first one was taken"


def find(path: Path) -> Path | None:
    """The list in a folder, or the list itself."""
    if path.is_file():
        if path.suffix not in (".csv", ".jsonl"):
            raise UserError(f"{path}: a list of items is a .csv or a .jsonl file")
        return path
    return next((path / name for name in NAMES if (path / name).is_file()), None)


def rows(path: Path, columns: Sequence[str] = ()) -> Iterator[dict[str, Any] | Broken]:
    """The list's rows, with the values that are empty left out.

    Columns of a CSV stand between commas, semicolons or tabs, whichever its first line has most of. Raises `UserError`
    for a list that is not UTF-8, has no rows, or, a CSV, has none of the `columns`.
    """
    try:
        _check_letters(path)
        with open(path, newline="", encoding="utf-8-sig") as file:
            found = False
            for row in _table(path, file, columns) if path.suffix == ".csv" else _objects(path, file):
                found = True
                yield row
    except (OSError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not found:
        raise UserError(f"{path} has no rows")


def _check_letters(path: Path) -> None:
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise UserError(f"{path}: line {number} is not UTF-8; save the list as CSV UTF-8") from error


def _table(path: Path, file: TextIO, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    first = file.readline()
    file.seek(0)
    reader = csv.DictReader(file, delimiter=max(",;\t", key=first.count))
    found = list(reader.fieldnames or ())
    if found and columns and not set(columns) & set(found):
        raise UserError(f"{path} has no column {' or '.join(columns)}; it has {', '.join(found)}")
    for row in reader:
        yield {k: v for k, v in row.items() if k is not None and v not in ("", None)}


def _objects(path: Path, file: TextIO) -> Iterator[dict[str, Any] | Broken]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            yield Broken(f"{path.name}:{number}", f"not JSON: {error}")
            continue
        if not isinstance(found, dict):
            yield Broken(f"{path.name}:{number}", f"a row is an object, not {type(found).__name__}")
            continue
        yield {k: v for k, v in found.items() if v not in ("", None)}


def ingest(path: Path, vocabulary: Vocabulary) -> Iterator[Draft | Broken]:
    """A draft for each row whose photo can be read."""
    root = path.parent.resolve()
    seen: set[str] = set()
    for number, row in enumerate(rows(path, PHOTO), 1):
        if isinstance(row, Broken):
            yield row
            continue
        name = str(row.get("id", f"{path.name}:{number}"))
        if name in seen:
            yield Broken(name, TWICE)
            continue
        seen.add(name)
        try:
            yield _draft(row, name, root, vocabulary)
        except UserError as error:
            yield Broken(name, str(error))


def _draft(row: Mapping[str, Any], name: str, root: Path, vocabulary: Vocabulary) -> Draft:
    image = row.get("image", row.get("file"))
    if not image:
        raise UserError("the row names no image (a column image or file)")
    data = read_image(root, str(image))
    Image.from_bytes(data)  # whole and readable, or it says why not
    tags, weak = tags_of(row, vocabulary)
    split = row.get("split")
    if split is not None and split not in SPLITS:
        raise UserError(f"unknown split {split!r}; one of {', '.join(SPLITS)}")
    labels: dict[str, Any] = {"kind": "photo", "tags": tags}
    if weak:
        labels["weak"] = weak
    labels |= {key: str(row[key]) for key in ("title", "category") if key in row}
    if "price" in row:
        labels["price"] = price_of(row["price"])
    group = next((str(row[key]) for key in GROUPS if key in row), name)
    return Draft(name, group, {"data": data}, labels, None if split is None else SPLITS[str(split)])


def read_image(root: Path, image: str) -> bytes:
    """A photo's bytes. A list reaches no file outside its own folder; a path may begin with that folder's name."""
    for base in (root, root.parent):
        file = (base / image).resolve()
        if file.is_relative_to(root) and file.is_file():
            if file.stat().st_size > Image.largest:
                raise UserError(f"{image} has {file.stat().st_size / 2**20:.0f} MiB; at most {Image.largest >> 20}")
            return file.read_bytes()
    if not any((base / image).resolve().is_relative_to(root) for base in (root, root.parent)):
        raise UserError(f"{image} is outside the folder of the list")
    raise UserError(f"{image} is not there: paths start from the folder of the list")


def tags_of(row: Mapping[str, Any], vocabulary: Vocabulary) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """A row's tags by group, and the groups that a program gave. Words count as the values that they stand for."""
    found: dict[str, tuple[str, ...]] = {}
    weak = []
    for group, known in vocabulary.groups.items():
        given = list(_listed(row.get(group)))
        auto = [*_listed(row.get(f"{group}_auto")), *_listed(row.get(f"{group}2_auto"))]
        if group == "wearer" and not given and "kids" in row:  # a yes-or-no column
            given = ["kids" if str(row["kids"]).lower() in ("1", "true", "yes") else "adult"]
        if not given and auto:
            given = auto
            weak.append(group)
        values = []
        for word in given:
            if word in known.values:
                values.append(word)
                continue
            parsed = vocabulary.parse(word)
            read = None if parsed.read_as or parsed.unknown else parsed.tags.get(group)
            if not read:
                vocabulary.check({group: (word,)})  # says what is near
            values += read or ()
        if values:
            found |= vocabulary.check({group: tuple(values)})
    return found, weak


def _listed(value: Any) -> Iterator[str]:
    if isinstance(value, (list, tuple)):
        yield from (str(one).strip() for one in value)
    elif value is not None:
        yield from (word.strip() for word in re.split(r"[|;]", str(value)) if word.strip())


def price_of(value: Any) -> float:
    """A price as a number: "$1,299.00" is 1299."""
    try:
        number = float(re.sub(r"[^\d.\-]", "", str(value)) if isinstance(value, str) else value)
    except (TypeError, ValueError):
        raise UserError(f"price {value!r} is no number") from None
    if not 0 <= number < 1e12:
        raise UserError(f"price {value!r} is out of range")
    return number


def vocabulary_draft(data: bytes) -> Draft:
    """The file of tags as an item: a snapshot carries it to the runs."""
    return Draft("tags.toml", "tags", {"data": data}, {"kind": "tags"}, "train")
