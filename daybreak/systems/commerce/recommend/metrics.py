"""Leave-last-out: the last new thing of a history is hidden and to be ranked high, among all that is not in the rest.

And what a recommender must beat: popularity, and item neighbours by cosine [Sarwar et al., 2001]. It knows histories
and numbers; it knows nothing about runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from daybreak.systems.commerce.recommend.data import History

AT = 10


def rank(scores: Float[np.ndarray, " items"], seen: Sequence[int], target: int | None) -> float:
    """The target's rank, 0 for the best, among what was not seen; the middle one of those that score the same.
    Infinite for an item that is not known."""
    if target is None:
        return float("inf")
    among = scores.copy()
    among[list(seen)] = -np.inf
    own = scores[target]
    return float((among > own).sum() + ((among == own).sum() - 1) / 2)


def values(place: float) -> dict[str, float]:
    """hit@10, NDCG@10 [Jarvelin and Kekalainen, 2002; one relevant item] and the reciprocal rank."""
    inside = place < AT
    return {
        f"hit@{AT}": float(inside),
        f"NDCG@{AT}": float(1 / np.log2(place + 2)) if inside else 0.0,
        "MRR": 1 / (place + 1),
    }


def cosine(histories: Sequence[History], items: Mapping[str, int]) -> Float[np.ndarray, "items items"]:
    """Cosine of two items' columns in the matrix of persons and items; 0 of an item with itself. Items squared in
    memory: for comparison, not for use."""
    together = np.zeros((len(items), len(items)))
    for one in histories:
        known = np.array([items[taken.item] for taken in one if taken.item in items], np.int64)
        together[np.ix_(known, known)] += 1
    norm = np.sqrt(np.diag(together))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.nan_to_num(together / np.outer(norm, norm))
    np.fill_diagonal(found, 0)
    return np.asarray(found)
