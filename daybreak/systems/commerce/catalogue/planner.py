"""Which way a search goes: every row that passes, or an index and an exact rerank. Decided by measured cost.

The rates of the exact scan are measured once a catalogue and process on its own rows, in some milliseconds; those of an
index when it is built. An index is built when the scans that it would have spared have cost as much as building it
(renting before buying: never more than twice the best possible), or when asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Int64

from daybreak.systems.commerce.catalogue.index import Index, available
from daybreak.systems.commerce.catalogue.rows import Plan
from daybreak.systems.commerce.catalogue.scan import Query, scan
from daybreak.systems.commerce.catalogue.view import Survivors, View

INDEX_FROM = 20_000
"""Rows below which no index is built by itself: an exact scan costs less than a millisecond."""
BUILD_US = 12.0
"""CPU microseconds that building an index costs a row and 128 dimensions, before one was built here."""
SAMPLE = 4096
TAIL = 0.2
"""Share of the rows that an index may not know: those are scored exactly beside it. Above, it is built again."""
WORTH = 2.0
"""How many times cheaper the index must be: an exact answer is worth something."""
MOST = 16_384
"""Candidates above which the index is not asked: its list would cost more than the scan."""


class Planner:
    """The rates and indexes of one catalogue in one process."""

    def __init__(self, threads: int = 1, auto: bool = True) -> None:
        self.threads, self.auto = threads, auto
        self._indexes: dict[tuple[str, ...], Index] = {}
        self._rates: dict[tuple[str, ...], tuple[float, float]] = {}
        self._spent: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def rates(self, view: View, spaces: tuple[str, ...]) -> tuple[float, float]:
        """CPU milliseconds a row: of gathered rows, and of all rows in their order."""
        if spaces not in self._rates:
            at = np.sort(np.random.default_rng(0).permutation(view.end)[:SAMPLE])
            query = {space: view.vectors(at[:1], space) for space in spaces}
            taken = []
            for _ in range(5):
                began = time.process_time()
                list(scan(view, query, at, 10))
                taken.append(time.process_time() - began)
            gathered = 1000 * float(np.median(taken[1:])) / len(at)
            # In order they come from memory, not from the cache: as wide as a row is, at 12 GB/s, until measured.
            width = sum(view.manifest.spaces[space] for space in spaces)
            self._rates[spaces] = (max(gathered, 1e-7), width * 4 / 12e6)
        return self._rates[spaces]

    def index(self, view: View, spaces: tuple[str, ...]) -> tuple[Index, int] | None:
        """The index of these spaces and how many of the view's first rows it knows, where there is one worth asking."""
        found = self._indexes.get(spaces)
        if found is None:
            return None
        with self._lock:
            known = found.covers(view)
            if known == found.rows < view.end:
                found.extend(view)
                known = view.end
            if known < (1 - TAIL) * view.end:
                self._indexes.pop(spaces, None)
                return None
        return found, known

    def build(self, view: View, spaces: tuple[str, ...], cells: int | None = None) -> Index:
        """Build the index of these spaces now."""
        built = Index(view, spaces, self.threads, cells)
        with self._lock:
            self._indexes[spaces] = built
            self._spent[spaces] = 0.0
        return built

    def search(
        self, view: View, query: Query, among: Survivors, k: int, exact: bool
    ) -> tuple[Iterator[Int64[np.ndarray, " c"]], Plan]:
        """For each query the positions that hold its best k, and the plan. `among` has at least one row."""
        spaces = tuple(query)
        count = len(next(iter(query.values())))
        gathered, streamed = self.rates(view, spaces)
        blocks = {space: block for space in spaces if (block := among.block(view, space)) is not None}
        if len(blocks) == len(spaces):
            exact_ms = among.rows * min(streamed, gathered)
        else:
            blocks, exact_ms = {}, view.end * streamed if among.at is None else among.rows * gathered
        usable = None if exact else self.index(view, spaces)
        why = "an exact scan was asked for" if exact else ""
        if not exact and usable is None:
            worth, why = self._worth(view, spaces, exact_ms * count)
            usable = (self.build(view, spaces), view.end) if worth else None
        if usable is None:
            plan = Plan("exact", among.rows, view.rows, exact_ms, why=why)
            return self._timed(view, query, among, k, blocks), plan
        index, known = usable
        # As many more candidates as there are rows that do not pass, for those would take the places of others.
        wanted = int(index.candidates * max(k / 10, 1.0) * index.rows / among.rows)
        index_ms = index.cost(wanted) + (view.end - known) * gathered
        if wanted <= MOST and k < among.rows and WORTH * index_ms < exact_ms:
            why = "the index is cheaper"
            plan = Plan("index", among.rows, view.rows, exact_ms, index_ms, wanted, index.recall, why)
            return self._through(view, index, known, query, among, k, wanted), plan
        why = "the index would name too many candidates" if wanted > MOST else "the index would spare too little"
        plan = Plan("exact", among.rows, view.rows, exact_ms, index_ms, 0, index.recall, why)
        return self._timed(view, query, among, k, blocks), plan

    def _worth(self, view: View, spaces: tuple[str, ...], ms: float) -> tuple[bool, str]:
        """Whether to build an index now, and why not."""
        if view.rows < INDEX_FROM:
            return False, f"no index below {INDEX_FROM:,} rows"
        if not self.auto:
            return False, "indexes are built when asked for"
        if not available():
            return False, "no index without faiss (pip install 'daybreak[commerce]')"
        width = sum(view.manifest.spaces[space] for space in spaces)
        price = view.end * BUILD_US * width / 128 / 1000
        spent = self._spent[spaces] = self._spent.get(spaces, 0.0) + ms
        return (
            spent > price,
            f"an index is built when scans have cost {price / 1000:.1f} s, {spent / 1000:.2f} s so far",
        )

    def _timed(
        self, view: View, query: Query, among: Survivors, k: int, blocks: Mapping[str, Float32[np.ndarray, "m d"]]
    ) -> Iterator[Int64[np.ndarray, " c"]]:
        """The exact scan; one over all rows also measures the rate of the next."""
        began = time.thread_time()
        found = list(scan(view, query, among.at, k, blocks))
        if among.at is None and len(found) == 1 and view.end >= SAMPLE:
            spaces = tuple(query)
            gathered, streamed = self._rates[spaces]
            now = 1000 * (time.thread_time() - began) / view.end
            self._rates[spaces] = (gathered, 0.8 * streamed + 0.2 * now)
        return iter(found)

    @staticmethod
    def _through(
        view: View, index: Index, known: int, query: Query, among: Survivors, k: int, wanted: int
    ) -> Iterator[Int64[np.ndarray, " c"]]:
        passing = view.live
        if among.at is not None:
            passing = np.zeros(view.end, bool)
            passing[among.at] = True
        tail = known + np.flatnonzero(passing[known:])
        for i, named in enumerate(index.search(query, wanted)):
            one = {space: q[i : i + 1] for space, q in query.items()}
            named = named[named < known]
            left = np.concatenate([named[passing[named]], tail])
            # Too few of those named pass: every row that does is scored instead.
            yield from scan(view, one, left if len(left) >= k else among.at, k)


def order(spaces: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Spaces in the catalogue's own order, so that sums are the same however they were named."""
    return tuple(space for space in known if space in spaces)
