"""Scoring rows exactly, and the order of hits. It knows vectors and positions; nothing about filters or indexes.

Rows are scored in float32 and the best once more in float64, row by row, so that a score does not depend on which rows
stood beside it: the same items give the same hits from one catalogue, from shards, and through an index.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float32, Float64, Int64

from daybreak.systems.commerce.catalogue.rows import Hit
from daybreak.systems.commerce.catalogue.view import View

BLOCK = 4096
"""Rows gathered at a time: 2 MB at 128 dimensions, which stays in the cache."""
SCORES = 1 << 24
"""Scores held at once, 64 MB."""
RESIDENT = 1 << 28
"""Bytes of a space up to which its vectors are taken into memory when they are used much; above they stay mapped."""
SLACK = 1e-5
"""How far a float32 score may be from the float64 one, for a weight of 1."""

LOWEST = float(np.finfo(np.float32).min)
"""Above the score of a dead row."""

Query = Mapping[str, Float32[np.ndarray, "b d"]]
"""Space -> queries, multiplied by the space's weight."""

_own = threading.local()


def _scratch(rows: int, width: int) -> Float32[np.ndarray, "rows width"]:
    """This thread's memory for gathered rows: fresh pages for each query would cost more than the products."""
    kept = getattr(_own, "scratch", None)
    if kept is None or kept.size < BLOCK * width:
        kept = _own.scratch = np.empty(BLOCK * width, np.float32)
    return kept[: rows * width].reshape(rows, width)


def scan(
    view: View,
    query: Query,
    at: Int64[np.ndarray, " m"] | None,
    k: int,
    blocks: Mapping[str, Float32[np.ndarray, "m d"]] | None = None,
) -> Iterator[Int64[np.ndarray, " c"]]:
    """For each query the positions among which the best k are: those k and all within rounding of the last.

    Args:
        view: what is searched.
        query: one or several queries.
        at: the rows to score, ascending; None for all that live.
        k: at least 1.
        blocks: space -> the vectors of those rows, where they are at hand.
    """
    rows = view.end if at is None else len(at)
    queries = len(next(iter(query.values())))
    slack = SLACK * sum(max(map(_length, q)) for q in query.values())
    together = max(1, min(64, SCORES // max(rows, 1)))
    for first in range(0, queries, together):
        some = {space: q[first : first + together] for space, q in query.items()} if queries > 1 else query
        for scores in _gathered(some, blocks) if blocks else _scores(view, some, at, rows):
            best = _best(scores, k, slack)
            yield best if at is None else at[best]


def _gathered(query: Query, blocks: Mapping[str, Float32[np.ndarray, "m d"]]) -> Float32[np.ndarray, "b m"]:
    scores: Float32[np.ndarray, "b m"] | None = None
    for space, wanted in query.items():
        # One vector at a time is faster as a product of a matrix and a vector.
        part = (blocks[space] @ wanted[0])[None] if len(wanted) == 1 else wanted @ blocks[space].T
        scores = part if scores is None else scores + part
    assert scores is not None
    return scores


def _scores(view: View, query: Query, at: Int64[np.ndarray, " m"] | None, rows: int) -> Float32[np.ndarray, "b m"]:
    count = len(next(iter(query.values())))
    scores = np.zeros((count, rows), np.float32)
    resident = view.end * max(q.shape[1] for q in query.values()) * 4 <= RESIDENT
    parts = (
        (
            (number, slice(int(view.starts[number]), int(view.starts[number + 1])))
            for number in range(len(view.segments))
        )
        if at is None
        else view.split(at)
    )
    for number, part in parts:
        chosen = None if at is None else at[part] - view.starts[number]
        for space, wanted in query.items():
            stored = view.segments[number].stored(space, part.stop - part.start, resident)
            for start in range(part.start, part.stop, BLOCK):
                stop = min(start + BLOCK, part.stop)
                if chosen is None:
                    block = stored[start - part.start : stop - part.start]
                else:
                    block = _scratch(stop - start, stored.shape[1])
                    # "clip" spares numpy a checked copy; the positions are in range.
                    np.take(stored, chosen[start - part.start : stop - part.start], axis=0, mode="clip", out=block)
                if count == 1:
                    scores[0, start:stop] += block @ wanted[0]
                else:
                    scores[:, start:stop] += wanted @ block.T
        if chosen is None and (dead := view.dead[number]) is not None:
            scores[:, part][:, dead] = -np.inf
    return scores


def _best(scores: Float32[np.ndarray, " m"], k: int, slack: float) -> Int64[np.ndarray, " c"]:
    """Where the best k scores are, with all that rounding may have put below them."""
    if len(scores) <= k:
        return np.flatnonzero(scores > -np.inf)
    bound = np.partition(scores, len(scores) - k)[len(scores) - k] - 2 * slack
    return np.flatnonzero(scores >= max(bound, LOWEST))


def _length(q: Float32[np.ndarray, " d"]) -> float:
    return math.sqrt(np.dot(q, q))


def ranked(
    view: View, query: Mapping[str, Float32[np.ndarray, " d"]], at: Int64[np.ndarray, " c"], k: int
) -> list[Hit]:
    """The best k of some rows by float64 score, equal ones by id."""
    parts: dict[str, Float64[np.ndarray, " c"]] = {}
    for space, q in query.items():
        products = view.vectors(at, space).astype(np.float64)
        products *= q
        parts[space] = products.sum(axis=1)
    total, *others = parts.values()
    for other in others:
        total = total + other
    order = np.argsort(-total, kind="stable")
    if len(order) > k:
        order = order[total[order] >= total[order[k - 1]]]
    scores = total[order].tolist()
    hits = [Hit(view.line(place), score, {}) for place, score in zip(at[order].tolist(), scores, strict=True)]
    for space, part in parts.items():
        for hit, share in zip(hits, part[order].tolist(), strict=True):
            hit.parts[space] = share
    if len(set(scores)) < len(scores):
        hits.sort(key=lambda hit: (-hit.score, hit.id))
    return hits[:k]
