"""An index over the vectors of some spaces: 4-bit codes that name candidates, which are then scored exactly.

Product quantisation with two dimensions a code of 4 bits (Jegou et al., PAMI 2011), scanned in registers (Andre et
al., VLDB 2015; faiss "fast scan"): 32 bytes a row of 128 dimensions. All codes are scanned up to `CELLS_FROM` rows;
above, an inverted file visits some cells only. How many candidates and cells are enough is measured when it is built,
on rows of the catalogue. It covers dead rows too, which its user leaves out, so that removing costs nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from daybreak.systems.commerce.catalogue.scan import Query, scan
from daybreak.systems.commerce.catalogue.view import View

TRAINED_ON = 32_768
"""Rows that the code book is made of: 16 centroids a sub-space need no more."""
CELLS_FROM = 2_000_000
"""Rows from which an inverted file is used: below, scanning all codes costs less than 10 ms."""
BLOCK = 65_536
TRIED = 64
"""Rows of the catalogue that serve as queries when it is measured."""
WANTED = 0.9995
"""Recall@10 on those; twice the candidates that it takes are used."""
LADDER = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Numbers of candidates, of which the first that suffices is taken."""


def available() -> bool:
    """Whether faiss is installed."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


class Index:
    """Codes of all rows of a view, and what is needed to search them well."""

    def __init__(self, view: View, spaces: Sequence[str], threads: int = 1, cells: int | None = None) -> None:
        """Build and measure it.

        Args:
            view: its rows.
            spaces: their vectors are put beside each other, in this order.
            threads: that faiss may use.
            cells: of the inverted file; 0 for none. By default none below `CELLS_FROM` rows.
        """
        import faiss

        began = time.process_time()
        self.spaces, self.threads = tuple(spaces), threads
        self.segments = [segment.folder.name for segment in view.segments]
        self.rows = 0
        self._lock = threading.Lock()
        self._known: tuple[View, int] | None = None
        width = sum(view.manifest.spaces[space] for space in spaces)
        # Pairs of dimensions; where the width is odd, the widest sub-spaces that divide it.
        codes = next(m for m in range(max(width // 2, 1), 0, -1) if width % m == 0)
        if cells is None:
            cells = int(4 * view.end**0.5) if view.end >= CELLS_FROM else 0
        faiss.omp_set_num_threads(threads)
        kind = f"IVF{cells},PQ{codes}x4fs" if cells else f"PQ{codes}x4fs"
        self._index: Any = faiss.index_factory(width, kind, faiss.METRIC_INNER_PRODUCT)
        self.cells, self.probes = cells, min(cells, max(1, cells // 16))
        some = np.random.default_rng(0).permutation(view.end)[: max(TRAINED_ON, 40 * cells)]
        self._index.train(self._beside(view, np.sort(some)))
        self.bytes_a_row = codes / 2 + (8 if cells else 0)
        self.extend(view)
        self.candidates, self.recall, self.ms, self.ms_a_candidate = 0, 0.0, 0.0, 0.0
        self._measure(view)
        self.build_s = time.process_time() - began

    def _beside(self, view: View, at: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "m d"]:
        return np.concatenate([view.vectors(at, space) for space in self.spaces], axis=1)

    def covers(self, view: View) -> int:
        """How many of a view's first rows it knows: its segments up to the first that was merged or compacted."""
        if self._known is None or self._known[0] is not view:
            names = [segment.folder.name for segment in view.segments]
            same = next((i for i, (a, b) in enumerate(zip(names, self.segments, strict=False)) if a != b), None)
            known = int(view.starts[min(len(names), len(self.segments)) if same is None else same])
            self._known = (view, known)
        return self._known[1]

    def extend(self, view: View) -> None:
        """Take in the rows of a view that it covers in part."""
        with self._lock:
            for start in range(self.rows, view.end, BLOCK):
                self._index.add(self._beside(view, np.arange(start, min(start + BLOCK, view.end))))
            self.rows, self._known = view.end, None
            self.segments = [segment.folder.name for segment in view.segments]

    def search(self, query: Query, candidates: int) -> list[Int64[np.ndarray, " c"]]:
        """For each query the positions that it names, ascending; dead ones among them."""
        import faiss

        whole = np.ascontiguousarray(np.concatenate([query[space] for space in self.spaces], axis=1), np.float32)
        with self._lock:
            faiss.omp_set_num_threads(self.threads)
            parameters: Any = faiss.SearchParametersIVF
            more = {"params": parameters(nprobe=self.probes)} if self.cells else {}
            _, found = self._index.search(whole, min(candidates, self.rows), **more)
        # Where it finds fewer it fills up with -1.
        return [np.sort(at[at >= 0]) for at in found]

    def _measure(self, view: View) -> None:
        """Choose candidates and cells by recall@10 against the exact scan, and time a search."""
        sample = np.sort(np.random.default_rng(1).permutation(view.positions)[:TRIED])
        query = {space: view.vectors(sample, space) for space in self.spaces}
        # The row itself is found without effort: it counts for nothing.
        truth = []
        for own, near in zip(sample, scan(view, query, None, 11), strict=True):
            scores = sum(view.vectors(near, space) @ view.vectors(np.array([own]), space)[0] for space in self.spaces)
            best = near[np.argsort(-np.asarray(scores), kind="stable")]
            truth.append(best[best != own][:10])
        wide = self.rows / max(view.rows, 1)
        while True:
            for self.candidates in LADDER:
                found = self.search(query, int(self.candidates * wide))
                hits = [np.isin(t, f).mean() if len(t) else 1.0 for t, f in zip(truth, found, strict=True)]
                self.recall = float(np.mean(hits))
                if self.recall >= WANTED or self.candidates >= self.rows:
                    break
            if self.recall >= WANTED or self.probes >= self.cells:
                break
            self.probes = min(2 * self.probes, self.cells)
        self.candidates *= 2
        costs = []
        for count in (self.candidates, 4 * self.candidates):
            costs.append(self._timed(view, query, count))
        self.ms_a_candidate = max((costs[1] - costs[0]) / (3 * self.candidates), 1e-5)
        self.ms = max(costs[0] - self.ms_a_candidate * self.candidates, 1e-3)

    def _timed(self, view: View, query: Mapping[str, Float32[np.ndarray, "b d"]], count: int) -> float:
        """CPU milliseconds of one search for so many candidates, with their exact scores."""
        taken = []
        for i in range(min(8, len(next(iter(query.values()))))):
            one = {space: q[i : i + 1] for space, q in query.items()}
            began = time.process_time()
            (found,) = self.search(one, count)
            list(scan(view, one, found, 10))
            taken.append(time.process_time() - began)
        return 1000 * float(np.median(taken))

    def cost(self, candidates: float) -> float:
        """CPU milliseconds that a search for so many candidates takes."""
        return self.ms + self.ms_a_candidate * candidates
