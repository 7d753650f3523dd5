"""A catalogue at one instant: its segments as one table, which rows live, and which of them pass a filter.

Positions count the rows of all segments, dead ones too, in the manifest's order. A view never changes, and stays whole
while segments are merged and deleted under it. It knows nothing about scores or indexes.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Int64, UInt64

from daybreak.errors import UserError, nearest
from daybreak.systems.commerce.catalogue.manifest import MANIFEST, SEGMENTS, Manifest, read
from daybreak.systems.commerce.catalogue.rows import UNKNOWN, Row, Trail, Where
from daybreak.systems.commerce.catalogue.segment import Segment, keys_of

KEPT = 8
"""Filters whose survivors a view remembers."""
NAMED = 10_000
"""Above this many rows an unknown id is told without the nearest ones: comparing would take seconds."""


GATHERED = 1 << 23
"""Bytes of vectors, of one space, that are kept beside a filter that is asked again: 16,384 rows of 128."""


@dataclass(frozen=True)
class Survivors:
    """The rows that pass a filter."""

    at: Int64[np.ndarray, " m"] | None
    """Their positions, ascending; None for all that live."""
    rows: int
    trail: Trail = ()
    """What each condition left."""
    blocks: dict[str, Float32[np.ndarray, "m d"]] = field(default_factory=dict)
    """Space -> the vectors of these rows, beside each other; from the second question on, where they are few."""
    asked: set[str] = field(default_factory=set)
    """Spaces in which they were scored before."""

    def block(self, view: View, space: str) -> Float32[np.ndarray, "m d"] | None:
        """The vectors of these rows, where they are kept."""
        if self.at is None or self.rows * view.manifest.spaces[space] * 4 > GATHERED:
            return None
        if space not in self.blocks and space in self.asked:
            self.blocks[space] = view.vectors(self.at, space)
        self.asked.add(space)
        return self.blocks.get(space)


class View:
    """A consistent reading of a catalogue."""

    def __init__(self, manifest: Manifest, segments: Sequence[Segment], dead: Sequence[Bool[np.ndarray, " n"] | None]):
        self.manifest = manifest
        self.segments = list(segments)
        self.dead = list(dead)
        """For each segment which rows are dead; None for none."""
        self.starts: Int64[np.ndarray, " s"] = np.cumsum([0, *(segment.rows for segment in segments)])
        """The position of each segment's first row, and the end."""
        self._begins: list[int] = self.starts.tolist()
        self._kept: dict[Any, Survivors] = {}
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        """Rows that live."""
        return self.manifest.live

    @property
    def end(self) -> int:
        """Rows, dead ones too."""
        return int(self.starts[-1])

    @cached_property
    def live(self) -> Bool[np.ndarray, " n"]:
        """Which positions live."""
        live = np.ones(self.end, bool)
        for start, dead in zip(self.starts, self.dead, strict=False):
            if dead is not None:
                live[start : start + len(dead)] = ~dead
        return live

    @cached_property
    def positions(self) -> Int64[np.ndarray, " m"]:
        """The positions that live."""
        return np.flatnonzero(self.live)

    def split(self, at: Int64[np.ndarray, " m"]) -> Iterable[tuple[int, slice]]:
        """For ascending positions: the segments they are in, and which of them are in each."""
        cuts = np.searchsorted(at, self.starts)
        for number in range(len(self.segments)):
            if cuts[number] < cuts[number + 1]:
                yield number, slice(int(cuts[number]), int(cuts[number + 1]))

    def place(self, at: int) -> tuple[int, int]:
        """The segment of a position, and its row there."""
        number = bisect_right(self._begins, at) - 1
        return number, at - self._begins[number]

    def row(self, at: int) -> Row:
        """The row at a position."""
        number, within = self.place(at)
        return self.segments[number].row(within)

    def line(self, at: int) -> bytes:
        """The JSON line of the row at a position."""
        number, within = self.place(at)
        return self.segments[number].line(within)

    def find(self, ids: Sequence[str]) -> Int64[np.ndarray, " q"]:
        """The positions of the living rows with these ids; -1 where there is none."""
        found = np.full(len(ids), -1, np.int64)
        keys = keys_of(ids)
        for number, segment in enumerate(self.segments):
            dead = self.dead[number]
            for which, at in zip(*segment.find(keys), strict=True):
                if (dead is None or not dead[at]) and segment.row(at).id == ids[which]:
                    found[which] = self.starts[number] + at
        return found

    def at(self, name: str) -> int:
        """The position of an item. Raises `UserError` with the nearest ids where it is not there."""
        (at,) = self.find([name])
        if at < 0:
            raise UserError(f"no item {name!r} is in the catalogue{hint(name, self.names('id'))}")
        return int(at)

    def vectors(self, at: Int64[np.ndarray, " m"], space: str) -> Float32[np.ndarray, "m d"]:
        """The vectors of some rows, at any positions in any order."""
        if len(self.segments) == 1:
            found: Float32[np.ndarray, "m d"] = self.segments[0].vectors[space][at]
            return found
        numbers = np.searchsorted(self.starts, at, "right") - 1
        out = np.empty((len(at), self.manifest.spaces[space]), np.float32)
        for number in sorted(set(numbers.tolist())):
            mine = numbers == number
            out[mine] = self.segments[number].vectors[space][at[mine] - self.starts[number]]
        return out

    # Columns over all segments.

    def _coded(self, name: str) -> tuple[Int32[np.ndarray, " n"], dict[str, int]]:
        places: dict[str, int] = {}
        codes = [np.empty(0, np.int32)]
        for segment in self.segments:
            words = segment.vocabulary[name]
            mine = np.array([places.setdefault(word or UNKNOWN, len(places)) for word in words], np.int32)
            codes.append(mine[getattr(segment, name)])
        return np.concatenate(codes), places

    @cached_property
    def category(self) -> tuple[Int32[np.ndarray, " n"], dict[str, int]]:
        """For each row its category as a number, and the number of each category."""
        return self._coded("category")

    @cached_property
    def group(self) -> tuple[Int32[np.ndarray, " n"], dict[str, int]]:
        """For each row its group as a number, and the number of each group."""
        return self._coded("group")

    @cached_property
    def price(self) -> Float[np.ndarray, " n"]:
        """For each row its price; NaN for none."""
        return np.concatenate([np.empty(0), *(segment.price for segment in self.segments)])

    @cached_property
    def dhash(self) -> tuple[UInt64[np.ndarray, "n 4"], Bool[np.ndarray, " n"]]:
        """For each row its difference hash, and whether it has one."""
        hashes = [np.empty((0, 4), np.uint64), *(segment.dhash for segment in self.segments)]
        return np.concatenate(hashes), np.concatenate([np.empty(0, bool), *(s.has_dhash for s in self.segments)])

    @cached_property
    def _postings(self) -> tuple[Int32[np.ndarray, " t"], Int64[np.ndarray, " v"], dict[tuple[str, str], int]]:
        """Rows sorted by tag, where each tag's begin, and the number of each tag."""
        places: dict[tuple[str, str], int] = {}
        rows, codes = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
        for start, segment in zip(self.starts, self.segments, strict=False):
            words = [(group, value) for group, value in segment.vocabulary["tags"]]
            mine = np.array([places.setdefault(word, len(places)) for word in words], np.int32)
            at, code = segment.tagged
            rows.append((at + start).astype(np.int32))
            codes.append(mine[code])
        code = np.concatenate(codes)
        order = np.argsort(code, kind="stable")
        begins = np.concatenate([[0], np.cumsum(np.bincount(code, minlength=len(places)))]).astype(np.int64)
        return np.concatenate(rows)[order], begins, places

    @cached_property
    def tags(self) -> dict[str, dict[str, int]]:
        """Group -> value -> how many living rows have it."""
        rows, begins, places = self._postings
        counted: dict[str, dict[str, int]] = {}
        for (group, value), place in places.items():
            living = int(np.count_nonzero(self.live[rows[begins[place] : begins[place + 1]]]))
            counted.setdefault(group, {})[value] = living
        return counted

    # Filters.

    def names(self, kind: str) -> list[str]:
        """The names of a kind, as `unknown` gives it: "category", "group", "tag group", or a tag group's own values."""
        if kind in ("category", "group"):
            return list((self.category if kind == "category" else self.group)[1])
        if kind == "tag group":
            return list(self.tags)
        if kind == "id":
            return [self.row(at).id for at in self.positions] if self.rows <= NAMED else []
        return list(self.tags.get(kind.removesuffix(" tag"), {}))

    def unknown(self, where: Where) -> list[tuple[str, str]]:
        """The names of a filter that are not there, as (kind, name)."""
        wanted = [("category", word) for word in where.category] + [("group", word) for word in where.group]
        for group, values in where.tags.items():
            wanted += [("tag group", group)] if group not in self.tags else [(f"{group} tag", word) for word in values]
        known = {kind: {*self.names(kind), *([UNKNOWN] if kind.endswith(" tag") else ())} for kind, _ in wanted}
        missing = [(kind, word) for kind, word in wanted if word not in known[kind]]
        return missing + [("id", name) for name, at in zip(where.ids, self.find(where.ids), strict=True) if at < 0]

    def where(self, where: Where | None, lenient: bool = False) -> Survivors:
        """The living rows that pass.

        Raises:
            UserError: a category, tag, group or id that is not there, with the nearest; unless `lenient`, where it
                passes nothing.
        """
        if where is None or where.empty:
            return Survivors(None, self.rows)
        with self._lock:
            if (kept := self._kept.get(where.key)) is not None:
                return kept
        missing = self.unknown(where)
        if missing and not lenient:
            kind, name = missing[0]
            raise UserError(f"no item has the {kind} {name!r}{hint(name, self.names(kind))}")
        passing, trail = self.live, []
        for words, mask in self._conditions(where):
            passing = passing & mask
            trail.append((words, int(np.count_nonzero(passing)), int(np.count_nonzero(self.live & mask))))
        at = np.flatnonzero(passing)
        found = Survivors(at, len(at), trail)
        if not missing:
            with self._lock:
                while len(self._kept) >= KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[where.key] = found
        return found

    def _conditions(self, where: Where) -> Iterable[tuple[str, Bool[np.ndarray, " n"]]]:
        """Each condition in words, and the rows that it lets through."""
        if where.category:
            yield f"category {' or '.join(where.category)}", _any_of(*self.category, where.category)
        for group, values in where.tags.items():
            if values:
                yield f"{group} {' or '.join(values)}", self._tagged(group, values)
        if where.price not in (None, (None, None)):
            low, high = where.price
            with np.errstate(invalid="ignore"):
                mask = ~np.isnan(self.price)
                mask &= True if low is None else self.price >= low
                mask &= True if high is None else self.price <= high
            bounds = [f"from {low:g}" if low is not None else "", f"to {high:g}" if high is not None else ""]
            yield " ".join(["price", *filter(None, bounds)]), mask
        if where.group:
            yield f"group {' or '.join(where.group)}", _any_of(*self.group, where.group)
        if where.ids:
            mask = np.zeros(self.end, bool)
            at = self.find(where.ids)
            mask[at[at >= 0]] = True
            yield f"{len(where.ids)} given ids", mask

    def _tagged(self, group: str, values: Iterable[str]) -> Bool[np.ndarray, " n"]:
        rows, begins, places = self._postings
        mask = np.zeros(self.end, bool)
        for value in values:
            if (place := places.get((group, value))) is not None:
                mask[rows[begins[place] : begins[place + 1]]] = True
            elif value == UNKNOWN:
                mask |= ~self._tagged(group, [other for of, other in places if of == group])
        return mask


def hint(name: str, names: Sequence[str]) -> str:
    """The end of a message: what would work instead, where the names are few enough to be compared."""
    return f"; {nearest(name, names)}" if names else ""


def _any_of(codes: Int32[np.ndarray, " n"], places: Mapping[str, int], words: Iterable[str]) -> Bool[np.ndarray, " n"]:
    """Which rows have one of the words."""
    wanted = np.zeros(len(places), bool)
    wanted[[places[word] for word in words if word in places]] = True
    passing: Bool[np.ndarray, " n"] = wanted[codes]
    return passing


def open_view(folder: Path, known: Mapping[str, Segment], manifest: Manifest | None = None) -> View:
    """Read a catalogue as it is now, with the segments that are open already (name -> segment).

    The writer may merge and delete what a manifest names between its reading and the opening of its files; then there
    is a newer manifest, which is read instead.
    """
    for _ in range(100):
        now = manifest or read(folder / MANIFEST)
        try:
            segments = [
                known[part.name]
                if part.name in known and known[part.name].vectors.keys() == now.spaces.keys()
                else Segment(folder / SEGMENTS / part.name, now.spaces)
                for part in now.parts
            ]
            dead = [read_mask(folder / SEGMENTS / part.name / part.mask, part.rows) if part.mask else None
                    for part in now.parts]  # fmt: skip
        except FileNotFoundError as error:
            if manifest is not None or read(folder / MANIFEST).generation == now.generation:
                raise UserError(f"the catalogue {folder} lacks {error.filename}; restore a copy") from error
            continue
        return View(now, segments, dead)
    raise UserError(f"the catalogue {folder} changes faster than it can be read; try again")


def read_mask(path: Path, rows: int) -> Bool[np.ndarray, " n"]:
    """Which rows of a segment are dead. Raises FileNotFoundError where the file is gone."""
    return np.unpackbits(np.load(path, allow_pickle=False), count=rows, bitorder="little").astype(bool)
