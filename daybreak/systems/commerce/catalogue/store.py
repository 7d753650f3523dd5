"""The catalogue: one folder that is searched by many and written by one.

    with catalogue.writing() as writer:
        writer.add(rows, {"instance": ..., "product": ..., "colour": ...})
    hits = catalogue.search({"product": vector}, where=Where(category="dress", price=(None, 50)), k=10)

A reader sees the last commit when it searches, and one consistent state while it does.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from daybreak.errors import UserError, nearest
from daybreak.lab.lock import hold
from daybreak.systems.commerce.catalogue.index import available
from daybreak.systems.commerce.catalogue.manifest import (
    MANIFEST,
    NAME,
    SEGMENTS,
    SNAPSHOTS,
    Manifest,
    read,
    snapshots,
    write,
)
from daybreak.systems.commerce.catalogue.planner import Planner, order
from daybreak.systems.commerce.catalogue.rows import Hits, Plan, Row, Where, emptied
from daybreak.systems.commerce.catalogue.scan import Query, ranked
from daybreak.systems.commerce.catalogue.view import View, open_view
from daybreak.systems.commerce.catalogue.writer import Writer

LOCK = "writer.lock"


class Catalogue:
    """A catalogue's folder, opened. Threads may share one; it holds no lock until it writes."""

    def __init__(self, path: Path | str, *, threads: int = 1, auto_index: bool = True) -> None:
        """Open it. `create` makes one; `open` also checks the model.

        Args:
            path: its folder.
            threads: that faiss may use.
            auto_index: build an index when scans have cost as much as building it; else only by `prepare`.

        Raises:
            UserError: it is not a catalogue, is damaged, or is of a newer daybreak.
        """
        self.path = Path(path)
        self._manifest = str(self.path / MANIFEST)
        self.planner = Planner(threads, auto_index)
        self._lock = threading.RLock()
        self._seen: tuple[int, int] | None = None
        self._view: View | None = None
        self.view()

    @classmethod
    def create(cls, path: Path | str, model: str, spaces: Mapping[str, int], **options: Any) -> Catalogue:
        """Make an empty catalogue.

        Args:
            path: a folder that is not there or is empty.
            model: fingerprint of the weights that make its vectors.
            spaces: name of each vector space -> its dimensions.
            options: as for opening.
        """
        folder = Path(path)
        if not model:
            raise UserError("a catalogue needs the fingerprint of the model that makes its vectors")
        if not spaces:
            raise UserError('a catalogue needs a vector space, as {"product": 128}')
        for space, width in spaces.items():
            if not NAME.fullmatch(space) or space in ("rows", "columns", "segment") or not 1 <= width <= 65_536:
                raise UserError(f"a vector space has a plain name and 1 to 65536 dimensions, not {space!r}: {width}")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} is there already and not empty; open it, or choose another folder")
        (folder / SEGMENTS).mkdir(parents=True)
        (folder / SNAPSHOTS).mkdir()
        write(folder / MANIFEST, Manifest(model=model, spaces=dict(spaces)))
        return cls(folder, **options)

    @classmethod
    def open(cls, path: Path | str, model: str = "", **options: Any) -> Catalogue:
        """Open a catalogue, and refuse it where it is of another model than the one given."""
        found = cls(path, **options)
        found.check_model(model)
        return found

    def view(self) -> View:
        """The catalogue as it is now."""
        with self._lock:
            try:
                stat = os.stat(self._manifest)
                seen = (stat.st_ino, stat.st_mtime_ns)
            except FileNotFoundError:
                seen = None
            if self._view is None or seen is None or seen != self._seen:
                known = {} if self._view is None else {s.folder.name: s for s in self._view.segments}
                self._view = open_view(self.path, known)
                # A commit since `stat` is seen the next time.
                self._seen = seen
            return self._view

    @property
    def manifest(self) -> Manifest:
        """What the catalogue is now."""
        return self.view().manifest

    @property
    def model(self) -> str:
        """Fingerprint of the weights that made its vectors."""
        return self.manifest.model

    @property
    def spaces(self) -> dict[str, int]:
        """Vector spaces and their dimensions."""
        return self.manifest.spaces

    def __len__(self) -> int:
        return self.manifest.live

    def check_model(self, model: str) -> None:
        """Refuse vectors of another model; the empty name passes."""
        refuse(self.path, self.model, model)

    def has(self, name: str, digest: str = "") -> bool:
        """Whether the item is there; with a digest, with that photo."""
        view = self.view()
        (at,) = view.find([name])
        return bool(at >= 0 and (not digest or view.row(int(at)).digest == digest))

    def get(self, name: str) -> Row:
        """An item. Raises `UserError` with the nearest ids where it is not there."""
        view = self.view()
        return view.row(view.at(name))

    def vectors(self, name: str) -> dict[str, Float[np.ndarray, " d"]]:
        """An item's vectors, to search by it."""
        view = self.view()
        at = np.array([view.at(name)])
        return {space: view.vectors(at, space)[0] for space in view.manifest.spaces}

    def rows(self) -> Iterator[Row]:
        """All items, in no promised order."""
        view = self.view()
        for at in view.positions:
            yield view.row(int(at))

    # Searching.

    def search(
        self,
        query: Mapping[str, Float[np.ndarray, " d"]],
        weights: Mapping[str, float] | None = None,
        where: Where | None = None,
        k: int = 10,
        exclude: Sequence[str] = (),
        *,
        model: str = "",
        exact: bool = False,
    ) -> Hits:
        """The k items with the highest score: the sum over spaces of weight x inner product; equal ones by id.

        Args:
            query: space -> vector. Spaces that are not named count for nothing.
            weights: space -> weight; 1 where it is not named.
            where: conditions that an item must meet.
            k: how many; fewer are given where there are fewer, and `note` says so.
            exclude: ids that are not wanted, as the item itself.
            model: fingerprint of the weights that made the query.
            exact: score every row that passes, whatever it costs.

        Raises:
            UserError: a vector, weight or filter that does not fit, with what would.
        """
        batch = {space: np.asarray(vector)[None] for space, vector in query.items()}
        return self.search_batch(batch, weights, where, k, [exclude], model=model, exact=exact)[0]

    def search_batch(
        self,
        queries: Mapping[str, Float[np.ndarray, "b d"]],
        weights: Mapping[str, float] | None = None,
        where: Where | None = None,
        k: int = 10,
        exclude: Sequence[Sequence[str]] | None = None,
        *,
        model: str = "",
        exact: bool = False,
        lenient: bool = False,
    ) -> list[Hits]:
        """Many searches under one filter, in one pass over the vectors.

        As `search`; `exclude` has a list of ids for each query. `lenient` is for shards: a filter's name that is not
        there passes nothing, for another shard may know it.
        """
        view = self.view()
        refuse(self.path, view.manifest.model, model)
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise UserError(f"k is how many items to give, at least 1, not {k!r}")
        weighted = weigh(view, queries, weights or {})
        count = len(next(iter(weighted.values())))
        unwanted = list(exclude) if exclude is not None else [()] * count
        if len(unwanted) != count or any(isinstance(ids, str) for ids in unwanted):
            raise UserError(f"exclude is a list of ids for each of the {count} queries")
        among = view.where(where, lenient)
        if among.rows == 0:
            plan = Plan("exact", 0, view.rows, 0.0, why="there is nothing to score")
            note = emptied(view.rows, among.trail)
            return [Hits(plan=plan, note=note, trail=among.trail) for _ in range(count)]
        more = max(map(len, unwanted), default=0)
        found, plan = self.planner.search(view, weighted, among, int(k) + more, exact)
        results = []
        for i, at in enumerate(found):
            at = _without(view, at, unwanted[i])
            one = {space: q[i] for space, q in weighted.items()}
            hits = ranked(view, one, at, int(k))
            results.append(Hits(hits, plan=plan, note=fewer(len(hits), int(k), where), trail=among.trail))
        return results

    def prepare(self, *spaces: str) -> None:
        """Build the index of these spaces together now, as a service does before its first query."""
        view = self.view()
        for space in spaces:
            _known_space(view, space)
        if not spaces:
            raise UserError(f"name the spaces of the index; there is: {', '.join(view.manifest.spaces)}")
        if not available():
            raise UserError("an index needs faiss: pip install 'daybreak[commerce]'")
        if view.rows:
            self.planner.build(view, order(spaces, list(view.manifest.spaces)))

    # Writing.

    @contextmanager
    def writing(self, model: str = "") -> Iterator[Writer]:
        """Become the one writer. Raises `UserError` where another process, or this one, is."""
        with hold(self.path / LOCK, f"the catalogue {self.path}"):
            self.check_model(model)
            yield Writer(self)

    def snapshot(self, name: str) -> None:
        """Keep the catalogue as it is now under a name. Segments are shared, so it costs a small file."""
        with self.writing() as writer:
            writer.snapshot(name)

    def restore(self, name: str) -> None:
        """Make the catalogue what it was at a snapshot, its model too."""
        with self.writing() as writer:
            writer.restore(name)

    def drop(self, name: str) -> None:
        """Forget a snapshot, and give back the disk that only it held."""
        with self.writing() as writer:
            writer.drop(name)

    def compact(self) -> None:
        """Leave out dead rows, and give their disk and memory back."""
        with self.writing() as writer:
            writer.compact()

    def snapshots(self) -> dict[str, Manifest]:
        """Name -> manifest of each snapshot."""
        return snapshots(self.path)

    def verify(self) -> list[str]:
        """What is wrong with the catalogue and its snapshots, one line a fault; nothing where it is whole."""
        wrong: list[str] = []
        seen: set[str] = set()
        every = {"": read(self.path / MANIFEST), **snapshots(self.path)}
        for name, manifest in every.items():
            where = f"snapshot {name}: " if name else ""
            try:
                view = open_view(self.path, {}, manifest if name else None)
            except UserError as error:
                wrong.append(f"{where}{error}")
                continue
            ids: set[str] = set()
            for number, (part, segment) in enumerate(zip(view.manifest.parts, view.segments, strict=True)):
                if part.name not in seen:
                    seen.add(part.name)
                    found = segment.damage()
                    wrong += [f"{where}{line}" for line in found]
                    if found:
                        continue
                dead = view.dead[number]
                count = 0 if dead is None else int(dead.sum())
                if (segment.rows, count) != (part.rows, part.dead):
                    wrong.append(f"{where}{part.name} has {segment.rows} rows, {count} dead; its manifest says "
                                 f"{part.rows}, {part.dead}")  # fmt: skip
                for at in range(segment.rows):
                    if dead is None or not dead[at]:
                        name_of = segment.row(at).id
                        if name_of in ids:
                            wrong.append(f"{where}item {name_of} is there twice")
                        ids.add(name_of)
        return wrong

    def size(self) -> int:
        """Bytes that its segments take on the disk, those of snapshots too."""
        return sum(path.stat().st_size for path in (self.path / SEGMENTS).rglob("*") if path.is_file())


def fewer(found: int, k: int, where: Where | None) -> str:
    """What to say of fewer hits than were asked for; nothing where there are enough."""
    if found >= k:
        return ""
    there = "are there" if where is None or where.empty else "pass the filter"
    return f"{found} of the {k} asked for: no more items {there}"


def refuse(path: Path, model: str, other: str) -> None:
    """Two models' vectors never meet: raises `UserError` with both names."""
    if other and other != model:
        raise UserError(
            f"the catalogue {path} has vectors of the model {model}, these are of {other}; "
            "embed with that model, or embed the catalogue again"
        )


def weigh(view: View, queries: Mapping[str, Float[np.ndarray, "b d"]], weights: Mapping[str, float]) -> Query:
    """The queries times their weights, in the catalogue's order of spaces. Checks shapes, values and names."""
    for space in [*queries, *weights]:
        _known_space(view, space)
    for space, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float, np.number)) or not np.isfinite(weight):
            raise UserError(f"the weight of {space} is a finite number, not {weight!r}")
        if weight and space not in queries:
            raise UserError(
                f"there is a weight for {space} but no vector; the query has {', '.join(queries) or 'none'}"
            )
    weighted = {}
    count = None
    for space in order(list(queries), list(view.manifest.spaces)):
        vectors = np.asarray(queries[space], np.float32)
        width = view.manifest.spaces[space]
        if vectors.ndim != 2 or vectors.shape[1] != width:
            raise UserError(f"a query in {space} has {width} numbers, not the shape {vectors.shape[1:]}")
        if not math.isfinite(np.vdot(vectors, vectors)):
            raise UserError(f"a query in {space} has numbers that are not finite, or far too large")
        if count not in (None, len(vectors)):
            raise UserError("the spaces of a batch have as many queries each")
        count = len(vectors)
        if weights.get(space, 1.0):
            weighted[space] = np.ascontiguousarray(
                vectors * np.float32(weights[space]) if space in weights else vectors
            )
    if not weighted or not count:
        raise UserError(f"a query needs a vector with a weight; there is: {', '.join(view.manifest.spaces)}")
    return weighted


def _known_space(view: View, space: str) -> None:
    if space not in view.manifest.spaces:
        raise UserError(f"the catalogue has no vector space {space!r}; {nearest(space, view.manifest.spaces)}")


def _without(view: View, at: Int64[np.ndarray, " c"], ids: Sequence[str]) -> Int64[np.ndarray, " c"]:
    if not ids:
        return at
    return at[~np.isin(at, view.find(list(ids)))]
