"""What the one writer of a catalogue does: add, update, remove, merge, compact, snapshot, restore.

Each call is one commit: new segments and masks are written and fsynced first, and one renamed manifest makes them be
there. A kill before that rename leaves files that no manifest names; the next writer deletes them.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from daybreak.errors import UserError, nearest
from daybreak.systems.commerce.catalogue.manifest import (
    BESIDE,
    MANIFEST,
    SEGMENTS,
    Manifest,
    Part,
    read,
    snapshot_path,
    snapshots,
    write,
)
from daybreak.systems.commerce.catalogue.rows import Row
from daybreak.systems.commerce.catalogue.segment import BLOCK, write_mask
from daybreak.systems.commerce.catalogue.segment import write as write_segment
from daybreak.systems.commerce.catalogue.view import View

if TYPE_CHECKING:
    from daybreak.systems.commerce.catalogue.store import Catalogue

LARGEST = 131_072
"""Rows of a segment at most, which bounds the memory that writing one takes."""
FANOUT = 16
"""Segments of one size that are let stand; one more, and all of that size become one."""
LENGTH = 1e-3
"""How far a vector's length may be from 1."""


@dataclass(frozen=True)
class Added:
    """What became of the rows of an `add`."""

    new: int
    """Items that were not there."""
    changed: int
    """Items that were there with another photo or other fields, and were replaced."""
    same: int
    """Items that were there just so."""


class Writer:
    """The writer, while it holds the lock. `Catalogue.writing` gives one."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._folder = catalogue.path
        self.collect()

    @property
    def _view(self) -> View:
        return self._catalogue.view()

    def add(self, rows: Sequence[Row], vectors: Mapping[str, Float[np.ndarray, "n d"]], model: str = "") -> Added:
        """Add items, or replace those of the same id. When it returns they survive a power cut; all of them or none.

        An item that is there with the same digest and the same fields is left as it is, so that a job that was killed
        is simply run again.

        Args:
            rows: no id twice.
            vectors: for every space of the catalogue a vector of length 1 for each row.
            model: fingerprint of the weights that made the vectors.

        Raises:
            UserError: vectors of another model, shape or length; an id twice. Nothing was added.
        """
        view = self._view
        self._catalogue.check_model(model)
        checked = _checked(rows, vectors, view.manifest.spaces)
        if not rows:
            return Added(0, 0, 0)
        at = view.find([row.id for row in rows])
        fresh = [i for i, old in enumerate(at) if old < 0 or not self._same(view, int(old), rows[i], checked, i)]
        replaced = at[fresh]
        replaced = replaced[replaced >= 0]
        if fresh:
            chosen = np.array(fresh)
            self._put([rows[i] for i in fresh], lambda space, part: checked[space][chosen[part]], replaced)
        return Added(len(fresh) - len(replaced), len(replaced), len(rows) - len(fresh))

    @staticmethod
    def _same(view: View, at: int, row: Row, vectors: Mapping[str, Float32[np.ndarray, "n d"]], i: int) -> bool:
        if view.row(at) != row:
            return False
        # Without a digest nothing but the vectors says that the photo is the same.
        return bool(row.digest) or all(
            np.array_equal(view.vectors(np.array([at]), space)[0], vectors[space][i]) for space in vectors
        )

    def update(self, name: str, **fields: Any) -> None:
        """Change fields of an item, as its price. Its vectors stay, so its photo does too."""
        self.update_many({name: fields})

    def update_many(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Change fields of many items in one commit: id -> fields.

        Raises:
            UserError: an item that is not there, or a field that is not one or belongs to the photo. Nothing changed.
        """
        if not changes:
            return
        view = self._view
        names = [field.name for field in dataclasses.fields(Row)]
        rows, at = [], []
        for name, fields in changes.items():
            for field in fields:
                if field not in names:
                    raise UserError(f"an item has no {field!r}; {nearest(field, names)}")
                if field in ("id", "digest", "dhash"):
                    raise UserError(f"the {field} of an item stays; add the item again with its new photo's vectors")
            place = view.at(name)
            old = view.row(place)
            row = dataclasses.replace(old, **fields)
            if row != old:
                rows.append(row)
                at.append(place)
        if rows:
            places = np.array(at, np.int64)
            self._put(rows, lambda space, part: view.vectors(places[part], space), places)

    def remove(self, ids: Iterable[str], *, missing_ok: bool = False) -> int:
        """Remove items, and return how many. Raises `UserError` for one that is not there, unless that is fine."""
        names = [ids] if isinstance(ids, str) else list(dict.fromkeys(ids))
        view = self._view
        at = view.find(names)
        if not missing_ok and (at < 0).any():
            view.at(names[int(np.argmax(at < 0))])
        at = at[at >= 0]
        if len(at):
            self._commit(view, self._killed(view, at))
        return len(at)

    def compact(self) -> None:
        """Leave out dead rows and join small segments. Readers go on with what they read until their next search."""
        view = self._view
        self._join(view, [i for i, part in enumerate(view.manifest.parts) if part.dead or part.rows < LARGEST // 2])
        self.collect()

    # Snapshots.

    def snapshot(self, name: str) -> None:
        """Keep the catalogue as it is now under a name."""
        write(snapshot_path(self._folder, name, there=False), self._view.manifest)

    def restore(self, name: str) -> None:
        """Make the catalogue what it was at a snapshot. What was not in it, and in no other snapshot, is deleted."""
        wanted = read(snapshot_path(self._folder, name, there=True))
        now = self._view.manifest
        numbers = {"generation": now.generation + 1, "next": max(now.next, wanted.next)}
        write(self._folder / MANIFEST, wanted.model_copy(update=numbers))
        self.collect()

    def drop(self, name: str) -> None:
        """Forget a snapshot."""
        snapshot_path(self._folder, name, there=True).unlink()
        self.collect()

    # Commits.

    def _put(self, rows: Sequence[Row], vectors: Any, replaced: Int64[np.ndarray, " r"]) -> None:
        """One commit that adds rows and kills others. `vectors(space, slice)` gives the vectors of some of the rows."""
        view = self._view
        manifest = self._killed(view, replaced) if len(replaced) else view.manifest
        parts, number = write_parts(self._folder, manifest.next, rows, vectors, manifest.spaces)
        self._commit(view, manifest.model_copy(update={"parts": (*manifest.parts, *parts), "next": number}))
        self._tidy()

    def _killed(self, view: View, at: Int64[np.ndarray, " r"]) -> Manifest:
        """The manifest with some rows dead; the masks are written."""
        manifest = view.manifest
        parts, number = list(manifest.parts), manifest.next
        for segment, part in view.split(np.sort(at)):
            old = view.dead[segment]
            dead: Bool[np.ndarray, " n"] = np.zeros(view.segments[segment].rows, bool) if old is None else old.copy()
            dead[np.sort(at)[part] - view.starts[segment]] = True
            name = f"dead-{number:08}.npy"
            write_mask(self._folder / SEGMENTS / parts[segment].name / name, dead)
            parts[segment] = parts[segment].model_copy(update={"dead": int(dead.sum()), "mask": name})
            number += 1
        # A segment of which nothing lives is left out.
        return manifest.model_copy(update={"parts": tuple(p for p in parts if p.dead < p.rows), "next": number})

    def _commit(self, view: View, manifest: Manifest) -> None:
        write(self._folder / MANIFEST, manifest.model_copy(update={"generation": view.manifest.generation + 1}))

    def _tidy(self) -> None:
        """Join segments when there are many of one size, so that thousands of small batches stay few files."""
        view = self._view
        sizes: dict[int, list[int]] = {}
        for i, part in enumerate(view.manifest.parts):
            if part.rows < LARGEST // 2:
                sizes.setdefault(int(np.log(part.rows) / np.log(FANOUT)), []).append(i)
        crowded = [i for many in sizes.values() if len(many) > FANOUT for i in many]
        if crowded:
            self._join(view, crowded)
            self.collect()

    def _join(self, view: View, chosen: Sequence[int]) -> None:
        """One commit that puts the living rows of some segments into new ones."""
        if not chosen or (len(chosen) == 1 and not view.manifest.parts[chosen[0]].dead):
            return
        manifest = view.manifest
        inside = np.zeros(view.end, bool)
        for i in chosen:
            inside[view.starts[i] : view.starts[i + 1]] = True
        at = np.flatnonzero(inside & view.live)
        parts: list[Part] = []
        number = manifest.next
        for start in range(0, len(at), LARGEST):
            some = at[start : start + LARGEST]
            rows = [view.row(int(i)) for i in some]
            more, number = write_parts(
                self._folder,
                number,
                rows,
                lambda space, part, some=some: view.vectors(some[part], space),
                manifest.spaces,
            )
            parts += more
        kept = [part for i, part in enumerate(manifest.parts) if i not in set(chosen)]
        self._commit(view, manifest.model_copy(update={"parts": (*kept, *parts), "next": number}))

    def collect(self) -> None:
        """Delete segments and masks that neither the manifest nor a snapshot names, and a re-embedding that is done."""
        folder = self._folder / SEGMENTS
        wanted: set[str] = set()
        for manifest in [read(self._folder / MANIFEST), *snapshots(self._folder).values()]:
            wanted |= manifest.files()
        beside, old = self._folder / BESIDE, self._folder / f"{BESIDE}.done"
        if (beside / MANIFEST).exists() and read(beside / MANIFEST).model == read(self._folder / MANIFEST).model:
            beside.replace(old)  # first out of the way, so that a kill leaves no half of it
        shutil.rmtree(old, ignore_errors=True)
        for path in folder.iterdir():
            if path.name not in wanted:
                shutil.rmtree(path)
                continue
            for mask in path.glob("dead-*.npy"):
                if f"{path.name}/{mask.name}" not in wanted:
                    mask.unlink()


def write_parts(
    folder: Path, number: int, rows: Sequence[Row], vectors: Any, spaces: Mapping[str, int]
) -> tuple[list[Part], int]:
    """Write rows as segments from a number on, and return what a manifest says of them, and the next number.

    Args:
        folder: the catalogue's.
        number: the first that was never used.
        rows: in any number.
        vectors: `vectors(space, slice)` gives the vectors of those rows.
        spaces: space -> dimensions.
    """
    parts = []
    for start in range(0, len(rows), LARGEST):
        some = rows[start : start + LARGEST]
        name = f"{number:08}"

        def blocks(
            space: str, start: int = start, end: int = start + len(some)
        ) -> Iterator[Float32[np.ndarray, "b d"]]:
            for first in range(start, end, BLOCK):
                yield vectors(space, slice(first, min(first + BLOCK, end)))

        write_segment(folder / SEGMENTS / name, some, {space: blocks(space) for space in spaces}, spaces)
        parts.append(Part(name=name, rows=len(some)))
        number += 1
    return parts, number


def _checked(
    rows: Sequence[Row], vectors: Mapping[str, Float[np.ndarray, "n d"]], spaces: Mapping[str, int]
) -> dict[str, Float32[np.ndarray, "n d"]]:
    """The vectors as float32, of the right shape and length, and no id twice."""
    ids: set[str] = set()
    for row in rows:
        if row.id in ids:
            raise UserError(f"item {row.id} is twice in one batch; keep one of them")
        ids.add(row.id)
    for space in vectors:
        if space not in spaces:
            raise UserError(f"the catalogue has no vector space {space!r}; {nearest(space, spaces)}")
    checked = {}
    for space, width in spaces.items():
        if space not in vectors:
            raise UserError(f"the rows need vectors in {space} too; given: {', '.join(vectors) or 'none'}")
        found = np.asarray(vectors[space], np.float32)
        if found.shape != (len(rows), width):
            raise UserError(f"{len(rows)} rows need {space} vectors of shape ({len(rows)}, {width}), not {found.shape}")
        lengths = np.linalg.norm(found, axis=1)
        wrong = ~(np.abs(lengths - 1) <= LENGTH)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise UserError(f"item {rows[i].id}: its {space} vector has length {lengths[i]:g}; vectors have length 1")
        checked[space] = found
    return checked
