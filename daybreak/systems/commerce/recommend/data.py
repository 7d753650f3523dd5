"""A log of views and purchases -> one item of the lake for each person, and items -> histories.

The log is a CSV with the columns person, item, event (view or purchase) and time (seconds, or ISO 8601). A person is a
group of their own: nobody stands in two splits. Where there is no log, outfits serve as baskets whose things are
categories, in the order in which the outfit lists them.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from daybreak.errors import UserError, nearest
from daybreak.lab.lake import Broken, Draft
from daybreak.systems.commerce.data import table
from daybreak.systems.commerce.outfits import data as outfits

if TYPE_CHECKING:
    from daybreak.lab.lake import Item, Snapshot, Split

BASKET = "basket"
"""The label `kind` of a person's history."""
NAMES = ("log.csv", "events.csv")
COLUMNS = ("person", "item", "event", "time")
EVENTS = ("view", "purchase")
Source = Literal["baskets", "outfits"]


class Taken(NamedTuple):
    """One thing of a history."""

    item: str
    bought: bool
    """Bought at some time, not viewed alone."""


History = tuple[Taken, ...]
"""What a person took, each thing once, in the order of first events."""


def find(path: Path) -> Path | None:
    """The log in a folder, or the log itself; None where there is none."""
    if path.is_dir():
        return next((path / name for name in NAMES if (path / name).is_file()), None)
    if not path.is_file() or path.suffix != ".csv":
        return None
    head = outfits.header(path)
    return path if "person" in head or path.name in NAMES else None


def ingest(file: Path) -> Iterator[Draft | Broken]:
    """A draft for each person of a log; a row that cannot be used is set aside with its number."""
    found, broken = people(file)
    yield from broken
    for person, history in found.items():
        yield draft(person, history)


def draft(person: str, history: Sequence[Taken]) -> Draft:
    """One person's history as a draft."""
    rows = [[one.item, EVENTS[one.bought]] for one in history]
    data = json.dumps({"took": rows}, ensure_ascii=False, separators=(",", ":")).encode()
    return Draft(person, f"person {person}", {"data": data}, {"kind": BASKET})


def people(file: Path) -> tuple[dict[str, History], list[Broken]]:
    """The histories in a log by person, and the rows that could not be used. Raises `UserError` without a column."""
    head = outfits.header(file)
    for name in COLUMNS:
        if name not in head:
            raise UserError(f"{file} has no column {name!r} ({', '.join(COLUMNS)} are needed); {nearest(name, head)}")
    events: dict[str, list[tuple[float, int, str, bool]]] = {}
    broken = []
    try:
        for number, row in enumerate(table.rows(file), 2):
            if isinstance(row, Broken):
                broken.append(row)
                continue
            try:
                person, event = _event(row, number)
                events.setdefault(person, []).append(event)
            except UserError as error:
                broken.append(Broken(f"{file.name}:{number}", str(error)))
    except csv.Error as error:
        raise UserError(f"cannot read {file}: {error}") from error
    return {person: history(some) for person, some in events.items()}, broken


def _event(row: Mapping[str, str], number: int) -> tuple[str, tuple[float, int, str, bool]]:
    if missing := [name for name in COLUMNS if name not in row]:
        raise UserError(f"the row has no {' and no '.join(missing)}")
    if row["event"] not in EVENTS:
        raise UserError(f"unknown event {row['event']!r}; {nearest(row['event'], EVENTS)}")
    return row["person"], (seconds(row["time"]), number, row["item"], row["event"] == "purchase")


def seconds(text: str) -> float:
    """A time in seconds since 1970; one without a zone is UTC. Raises `UserError`.

    >>> seconds("1970-01-02"), seconds("12.5")
    (86400.0, 12.5)
    """
    try:
        value = float(text)
    except ValueError:
        try:
            read = datetime.fromisoformat(text)
        except ValueError:
            raise UserError(f"time {text!r} is neither seconds nor ISO 8601, as 2026-05-01T12:00") from None
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(value):
        raise UserError(f"time {text!r} is not finite")
    return value


def history(events: Iterable[tuple[float, int, str, bool]]) -> History:
    """Events (time, row, item, bought) in any order as a history: by time, then by row."""
    took: dict[str, bool] = {}
    for _, _, item, bought in sorted(events):
        took[item] = took.get(item, False) or bought
    return tuple(Taken(item, bought) for item, bought in took.items())


def read(item: Item, data: bytes, source: Source) -> History:
    """The history that an item holds: a person's, or an outfit's categories. Raises `UserError`."""
    if source == "outfits":
        pieces = outfits.read(item, data).pieces
        return tuple(Taken(category, True) for category in dict.fromkeys(piece.category for piece in pieces))
    try:
        return tuple(Taken(str(name), EVENTS.index(event) == 1) for name, event in json.loads(data)["took"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{item.name} is no history: {error!r}") from error


def places(items: Sequence[Item], source: Source) -> list[int]:
    """Where the histories stand among the items of a split."""
    if source == "outfits":
        return outfits.places(items)
    return [n for n, item in enumerate(items) if item.labels.get("kind") == BASKET]


def histories(data: Snapshot, split: Split, source: Source) -> list[History]:
    """All histories of a snapshot's split."""
    items = data.split(split)
    return [read(item, data.read(item), source) for item in items.take(places(items, source))]


class Log:
    """A log that a model opens, to recommend to a person by name."""

    def __init__(self, people: Mapping[str, History]) -> None:
        self.people = people

    @classmethod
    def open(cls, path: Path | str) -> Log:
        """Read a log's file. Raises `UserError` with the first row that cannot be used."""
        file = find(Path(path))
        if file is None:
            raise UserError(
                f"{path} is no log: a CSV with the columns {', '.join(COLUMNS)}, or a folder with {NAMES[0]}"
            )
        found, broken = people(file)
        if broken:
            raise UserError(f"{file}: {broken[0].name}: {broken[0].reason} ({len(broken)} such rows)")
        return cls(found)

    def history(self, person: str) -> History:
        """What a person took. Raises `UserError` with the nearest names."""
        if person not in self.people:
            raise UserError(f"no person {person!r} is in the log; {nearest(person, self.people)}")
        return self.people[person]
