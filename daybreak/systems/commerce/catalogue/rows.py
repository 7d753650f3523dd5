"""What a catalogue holds and what is asked of it: rows, filters, hits. It knows nothing about files or indexes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from json.decoder import scanstring  # type: ignore[attr-defined]
from pathlib import PurePosixPath
from typing import Any

from daybreak.errors import UserError

LONGEST_ID = 512
"""Characters of an id."""
UNKNOWN = "unknown"
"""What a filter calls the category, or the tag of a group, of an item that has none."""
DHASH_DIGITS = 64
"""Hex digits of a row's difference hash: 256 bits."""


@dataclass(frozen=True, slots=True)
class Row:
    """One item of a catalogue.

    Raises:
        UserError: a field of the wrong kind, with the item's id, the field and what would work.
    """

    id: str
    digest: str = ""
    """Hex hash of the photo's bytes; empty where the item has none."""
    image: str = ""
    """Path of the photo, relative to the shop's folder."""
    category: str = ""
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Group -> values."""
    title: str = ""
    price: float | None = None
    """In the catalogue's own unit."""
    group: str = ""
    """Sender or shop."""
    box: tuple[float, float, float, float] | None = None
    """Left, top, right, bottom of the main garment, each a fraction of the photo's width or height."""
    dhash: str = ""
    """Difference hash of the photo, 64 hex digits (`dedupe.dhash`); empty where unknown."""

    def __post_init__(self) -> None:
        if (
            not isinstance(self.id, str)
            or not self.id.strip()
            or len(self.id) > LONGEST_ID
            or not self.id.isprintable()
        ):
            raise UserError(f"an item's id is 1 to {LONGEST_ID} printable characters, not {str(self.id)[:60]!r}")
        for name in ("digest", "image", "category", "title", "group", "dhash"):
            if not isinstance(getattr(self, name), str):
                self._wrong(name, "is text")
        if self.digest and not _hex(self.digest):
            self._wrong("digest", "is a hex number")
        if self.dhash and not (len(self.dhash) == DHASH_DIGITS and _hex(self.dhash)):
            self._wrong("dhash", f"has {DHASH_DIGITS} hex digits")
        path = PurePosixPath(self.image)
        if path.is_absolute() or ".." in path.parts:
            self._wrong("image", "is a path inside the shop's folder")
        if self.price is not None:
            object.__setattr__(self, "price", self._number("price", self.price))
        if self.box is not None:
            if len(self.box) != 4:
                self._wrong("box", "has four numbers: left, top, right, bottom")
            object.__setattr__(self, "box", tuple(self._number("box", x) for x in self.box))
        tags = self.tags
        if not isinstance(tags, Mapping):
            self._wrong("tags", "maps a group to its values")
        for group, values in tags.items():
            texts = not isinstance(values, str) and all(isinstance(value, str) and value for value in values)
            if not (isinstance(group, str) and group and texts):
                self._wrong("tags", 'maps a group to a tuple of values, as {"colour": ("red",)}')
        object.__setattr__(self, "tags", {group: tuple(dict.fromkeys(values)) for group, values in tags.items()})

    def _wrong(self, name: str, rule: str) -> None:
        raise UserError(f"item {self.id}: its {name} {rule}, not {getattr(self, name)!r:.80}")

    def _number(self, name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            self._wrong(name, "is a finite number")
        return float(value)  # type: ignore[arg-type]

    def line(self) -> bytes:
        """The row as one JSON line, its id first; fields at their default are left out."""
        known = {key: value for key in _NAMES if (value := getattr(self, key)) not in ("", None, {})}
        return json.dumps(known, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Row:
        """The row of a line that `line` wrote. Trusts it: what is read back was checked when it was written."""
        known = json.loads(line.decode())
        row = object.__new__(cls)
        for name, default in _DEFAULTS.items():
            object.__setattr__(row, name, known.get(name, default))
        object.__setattr__(row, "tags", {group: tuple(values) for group, values in known.get("tags", {}).items()})
        if row.box is not None:
            object.__setattr__(row, "box", tuple(row.box))
        return row


_NAMES = tuple(f.name for f in fields(Row))
_DEFAULTS: dict[str, Any] = {
    f.name: f.default if isinstance(f.default, str) else None for f in fields(Row) if f.name != "tags"
}


def _hex(text: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in text)


Words = str | Sequence[str]


@dataclass(frozen=True)
class Where:
    """Conditions, all of which must hold. An empty condition asks for nothing; a plain word stands for one value."""

    category: Words = ()
    """Any of these; "unknown": an item without one."""
    tags: Mapping[str, Words] = field(default_factory=dict)
    """For each group, any of these values; "unknown": an item with none of the group."""
    price: tuple[float | None, float | None] | None = None
    """Lowest and highest price, both included; None is no bound. An item without a price does not pass."""
    group: Words = ()
    """Any of these senders or shops."""
    ids: Words = ()
    """Any of these items."""

    def __post_init__(self) -> None:
        for name in ("category", "group", "ids"):
            object.__setattr__(self, name, _words(name, getattr(self, name)))
        object.__setattr__(self, "tags", {group: _words(group, values) for group, values in self.tags.items()})
        if self.price is not None:
            if isinstance(self.price, (str, bytes)) or len(self.price) != 2:
                raise UserError(f"a price filter is a lowest and a highest price, not {self.price!r}")
            for bound in self.price:
                if bound is not None and (
                    isinstance(bound, bool) or not isinstance(bound, (int, float)) or math.isnan(bound)
                ):
                    raise UserError(f"a price filter's bounds are numbers or None, not {bound!r}")
            low, high = self.price
            if low is not None and high is not None and low > high:
                raise UserError(f"the lowest price {low:g} is above the highest {high:g}")
            object.__setattr__(self, "price", (low, high))

    @classmethod
    def of(cls, conditions: Mapping[str, Any]) -> Where:
        """From one flat mapping: `category`, `price`, `group` and `ids` are what they are, the rest are tag groups."""
        own = {key: value for key, value in conditions.items() if key in ("category", "price", "group", "ids")}
        if isinstance(own.get("price"), list):
            own["price"] = tuple(own["price"])
        return cls(**own, tags={key: value for key, value in conditions.items() if key not in own})

    @property
    def empty(self) -> bool:
        """Whether everything passes."""
        return not (self.category or self.tags or self.group or self.ids or self.price not in (None, (None, None)))

    @property
    def key(self) -> tuple[Any, ...]:
        """The conditions as something that can be looked up."""
        return (self.category, tuple(sorted(self.tags.items())), self.price, self.group, self.ids)


def _words(name: str, value: Words) -> tuple[str, ...]:
    words = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(word, str) for word in words):
        raise UserError(f"the filter {name} takes words, not {words!r:.80}")
    return tuple(dict.fromkeys(words))


class Hit:
    """An item that was found. Its row is read when it is first asked for, as it was when it was found."""

    __slots__ = ("_line", "_row", "parts", "score")

    def __init__(self, line: bytes, score: float, parts: dict[str, float]) -> None:
        self.score = score
        """Sum over spaces of weight x inner product, in float64."""
        self.parts = parts
        """Space -> its weighted share of the score."""
        self._line = line
        self._row: Row | None = None

    @property
    def id(self) -> str:
        """The item's id."""
        # A line begins with its id: the rest need not be read.
        return str(scanstring(self._line.decode(), len('{"id":"'))[0])

    @property
    def row(self) -> Row:
        """The item."""
        if self._row is None:
            self._row = Row.of_line(self._line)
        return self._row

    def __repr__(self) -> str:
        return f"Hit({self.id!r}, {self.score:.4f})"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search was run, and why."""

    kind: str
    """"exact": every row that passes was scored; "index": candidates of an index, scored exactly."""
    rows: int
    """Rows that pass the filter."""
    of: int
    """Rows of the catalogue."""
    exact_ms: float
    """What the exact scan would cost, from measured rates, CPU milliseconds."""
    index_ms: float | None = None
    """What the index would cost; None where there is none."""
    candidates: int = 0
    """Rows that the index named."""
    recall: float | None = None
    """Recall@10 of the index on some of the catalogue's own rows, measured when it was built."""
    why: str = ""

    def __str__(self) -> str:
        head = f"{self.rows:,} of {self.of:,} rows pass the filter; " if self.rows != self.of else f"{self.of:,} rows; "
        beside = "no index" if self.index_ms is None else f"index {self.index_ms:.2f} ms"
        recall = (
            ""
            if self.kind == "exact" or self.recall is None
            else (f", {self.candidates:,} candidates scored exactly, recall@10 {self.recall:.4f} when built")
        )
        return f"{head}{self.kind} (exact scan {self.exact_ms:.2f} ms, {beside}){recall}; {self.why}"


Trail = Sequence[tuple[str, int, int]]
"""For each condition of a filter, in order: its words, how many items are left after it, how many it lets through."""


class Hits(list[Hit]):
    """Hits, best first; equal scores by id."""

    def __init__(self, hits: Iterable[Hit] = (), *, plan: Plan, note: str = "", trail: Trail = ()) -> None:
        super().__init__(hits)
        self.plan = plan
        """`str(hits.plan)` explains the search."""
        self.note = note
        """What its user should know: fewer rows than asked for, or which condition let nothing through."""
        self.trail = trail
        """What each condition of the filter left."""


def emptied(rows: int, trail: Trail) -> str:
    """Which condition let nothing through, in words."""
    told = [f"{rows} items"]
    for words, left, alone in trail:
        told.append(f"{words} leaves {left}")
        if left == 0:
            beside = f" ({alone} have it, none of those left)" if alone and len(told) > 2 else ""
            return f"nothing passes the filter: {', '.join(told)}{beside}"
    return "the catalogue is empty"
