"""The same catalogue over several processes or machines: each shard is a catalogue, a search asks all and merges.

An item lives on the shard that a hash of its id names. Shards are Ray actors, or live in this process. Hits are those
of one catalogue: a score does not depend on which rows stand beside an item, and equal scores are ordered by id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from daybreak.errors import UserError
from daybreak.systems.commerce.catalogue.rows import Hits, Plan, Row, Where, emptied
from daybreak.systems.commerce.catalogue.segment import keys_of
from daybreak.systems.commerce.catalogue.store import Catalogue, fewer
from daybreak.systems.commerce.catalogue.view import hint
from daybreak.systems.commerce.catalogue.writer import Added

Call = Callable[..., Callable[[], Any]]
"""Begins a method of a `Worker` and returns what waits for its answer."""


class Worker:
    """One shard: a catalogue, and what the fan-out asks of it."""

    def __init__(self, path: str, threads: int = 1) -> None:
        self._catalogue = Catalogue(path, threads=threads)

    def about(self) -> tuple[str, dict[str, int], int]:
        """Its model, spaces and number of items."""
        return self._catalogue.model, self._catalogue.spaces, len(self._catalogue)

    def unknown(self, where: Where) -> dict[tuple[str, str], list[str]]:
        """The names of a filter that this shard does not know, as (kind, name), with those that it does."""
        view = self._catalogue.view()
        return {found: view.names(found[0]) for found in view.unknown(where)}

    def search(self, *args: Any, **named: Any) -> list[Hits]:
        """`Catalogue.search_batch`; a name that this shard does not know passes nothing."""
        return self._catalogue.search_batch(*args, **named, lenient=True)

    def add(self, rows: Sequence[Row], vectors: Mapping[str, Float[np.ndarray, "n d"]], model: str) -> Added:
        """Add items."""
        with self._catalogue.writing(model) as writer:
            return writer.add(rows, vectors, model)

    def remove(self, ids: Sequence[str]) -> int:
        """Remove those items that are here, and return how many."""
        with self._catalogue.writing() as writer:
            return writer.remove(ids, missing_ok=True)

    def compact(self) -> None:
        """Give back the disk and memory of dead rows."""
        self._catalogue.compact()

    def prepare(self, *spaces: str) -> None:
        """Build the index of these spaces now."""
        self._catalogue.prepare(*spaces)


@dataclass(frozen=True)
class Shards:
    """Shards that are open."""

    calls: tuple[Call, ...]

    @staticmethod
    def create(paths: Sequence[Path | str], model: str, spaces: Mapping[str, int]) -> None:
        """Make empty catalogues. Their order is part of what they are: open them in the same."""
        for path in paths:
            Catalogue.create(path, model, spaces)

    @classmethod
    def open(cls, paths: Sequence[Path | str], *, ray: bool = False, threads: int = 1) -> Shards:
        """Open shards, in the order in which they were created.

        Args:
            paths: their folders; for actors, as their machines see them.
            ray: each shard is an actor of the Ray cluster that is connected, or of one started here.
            threads: that faiss may use in each.

        Raises:
            UserError: two shards of different models, or Ray is not installed.
        """
        if not paths:
            raise UserError("a sharded catalogue has at least one shard")
        begin = _actor if ray else _local
        opened = cls(tuple(begin(str(path), threads) for path in paths))
        first, *others = opened._all("about")
        for path, about in zip(paths[1:], others, strict=True):
            if about[:2] != first[:2]:
                raise UserError(f"shard {paths[0]} is of the model {first[0]}, shard {path} of {about[0]}")
        return opened

    def __len__(self) -> int:
        return sum(rows for _, _, rows in self._all("about"))

    def _all(self, method: str, *args: Any, **named: Any) -> list[Any]:
        """Ask every shard at once."""
        waiting = [call(method, *args, **named) for call in self.calls]
        return [wait() for wait in waiting]

    def _home(self, ids: Sequence[str]) -> Int64[np.ndarray, " n"]:
        """The shard of each id."""
        homes: Int64[np.ndarray, " n"] = (keys_of(ids) % np.uint64(len(self.calls))).astype(np.int64)
        return homes

    def add(self, rows: Sequence[Row], vectors: Mapping[str, Float[np.ndarray, "n d"]], model: str = "") -> Added:
        """Add items, each to its shard. A shard takes all of its items or none; after a failure, add them again."""
        homes = self._home([row.id for row in rows])
        waiting = []
        for number, call in enumerate(self.calls):
            mine = np.flatnonzero(homes == number)
            if len(mine):
                part = {space: np.asarray(found)[mine] for space, found in vectors.items()}
                waiting.append(call("add", [rows[i] for i in mine.tolist()], part, model))
        done = [wait() for wait in waiting]
        return Added(sum(a.new for a in done), sum(a.changed for a in done), sum(a.same for a in done))

    def remove(self, ids: Sequence[str]) -> int:
        """Remove those items that are there, and return how many."""
        homes = self._home(ids)
        mine = [[ids[i] for i in np.flatnonzero(homes == number).tolist()] for number in range(len(self.calls))]
        waiting = [call("remove", some) for call, some in zip(self.calls, mine, strict=True) if some]
        return sum(wait() for wait in waiting)

    def compact(self) -> None:
        """Give back the disk and memory of dead rows, everywhere at once."""
        self._all("compact")

    def prepare(self, *spaces: str) -> None:
        """Build the index of these spaces on every shard."""
        self._all("prepare", *spaces)

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
        """As `Catalogue.search`."""
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
    ) -> list[Hits]:
        """As `Catalogue.search_batch`."""
        if where is not None and not where.empty:
            self._check(where)
        answers = self._all("search", queries, weights, where, k, exclude, model=model, exact=exact)
        return [merged(some, k, where) for some in zip(*answers, strict=True)]

    def _check(self, where: Where) -> None:
        """Refuse a name that no shard knows."""
        told = self._all("unknown", where)
        for kind, name in dict.fromkeys(pair for each in told for pair in each):
            # A shard that does not know a group of tags does not know its values either.
            group = ("tag group", kind.removesuffix(" tag"))
            if all((kind, name) in each or group in each for each in told):
                there = sorted({word for each in told for word in each.get((kind, name), [])})
                raise UserError(f"no item has the {kind} {name!r}{hint(name, there)}")


def merged(some: Sequence[Hits], k: int, where: Where | None = None) -> Hits:
    """The hits of shards as those of one catalogue."""
    best = sorted((hit for hits in some for hit in hits), key=lambda hit: (-hit.score, hit.id))[:k]
    plans = [hits.plan for hits in some]
    asked = [plan for plan in plans if plan.rows]
    through = [plan for plan in asked if plan.kind == "index"]
    plan = Plan(
        "index" if through else "exact",
        sum(plan.rows for plan in plans),
        sum(plan.of for plan in plans),
        sum(plan.exact_ms for plan in plans),
        sum(plan.index_ms or 0.0 for plan in through) if through else None,
        sum(plan.candidates for plan in through),
        min((plan.recall for plan in through if plan.recall is not None), default=None),
        f"{len(some)} shards, {len(through)} of them through their index",
    )
    trail = [
        (same[0][0], sum(step[1] for step in same), sum(step[2] for step in same))
        for same in zip(*(hits.trail for hits in some), strict=True)
    ]
    note = fewer(len(best), k, where) if plan.rows else emptied(plan.of, trail)
    return Hits(best, plan=plan, note=note, trail=trail)


def _local(path: str, threads: int) -> Call:
    worker = Worker(path, threads)

    def call(method: str, *args: Any, **named: Any) -> Callable[[], Any]:
        answer = getattr(worker, method)(*args, **named)
        return lambda: answer

    return call


def _actor(path: str, threads: int) -> Call:
    try:
        import ray
    except ImportError as error:
        raise UserError("shards as actors need Ray: pip install 'daybreak[ray]'") from error
    actor = ray.remote(Worker).remote(path, threads)

    def call(method: str, *args: Any, **named: Any) -> Callable[[], Any]:
        asked = getattr(actor, method).remote(*args, **named)

        def wait() -> Any:
            try:
                return ray.get(asked)
            except ray.exceptions.RayTaskError as error:
                # Ray wraps what the actor raised; a person's mistake is told as it was.
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                raise

        return wait

    return call
