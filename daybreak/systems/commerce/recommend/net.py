"""What is taken after what: counts of pairs, and the log-linear model that is made of them in closed form.

    score(j | history) = log p(j) + gain x sum over i of log ((n_ij + k) / (e_ij + k))

n_ij: how often j was taken after i; e_ij: how often it would be by chance; p(j): how often j is taken after anything.
It is naive Bayes over the history, with evidence that repeats itself weighed down by the gain, and shrunk by k [Manning
et al., 2008, section 13.2]. Linear auto-encoders (EASE [Steck, 2019]) rank worse on short baskets: benchmarks/
commerce_outfits.py measures both. Only pairs that occur are kept, so that memory goes by the log, not by items squared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from daybreak.systems.commerce.recommend.data import History, Taken

FULL = 8
"""Things of a history up to which each counts whole; of more, each counts less: their sum stays the same."""


class Lifts(nn.Module):
    """Sparse counts by row: row i has the columns `items[starts[i]:starts[i + 1]]`. Nothing is trained by steps."""

    starts: Tensor
    items: Tensor
    weight: Tensor
    times: Tensor
    bought: Tensor
    before: Tensor
    after: Tensor
    popular: Tensor

    def __init__(self, items: int, pairs: int) -> None:
        super().__init__()
        self.register_buffer("starts", torch.zeros(items + 1, dtype=torch.int64))
        self.register_buffer("items", torch.zeros(pairs, dtype=torch.int32))
        self.register_buffer("weight", torch.zeros(pairs))
        """n_ij: a view counts less than a purchase."""
        self.register_buffer("times", torch.zeros(pairs, dtype=torch.int32))
        """In how many histories."""
        self.register_buffer("bought", torch.zeros(pairs, dtype=torch.int32))
        """In how many both were bought."""
        self.register_buffer("before", torch.zeros(items))
        self.register_buffer("after", torch.zeros(items))
        self.register_buffer("popular", torch.zeros(items))
        """In how many histories each is."""

    def row(self, item: int) -> slice:
        """Where a row's pairs stand."""
        return slice(int(self.starts[item]), int(self.starts[item + 1]))

    def lift(self, item: int, smoothing: float) -> Float[np.ndarray, " items"]:
        """log ((n + k) / (e + k)) of every item after this one."""
        total = max(float(self.after.sum()), 1e-9)
        expected = float(self.before[item]) / total * self.after.double().numpy()
        found = np.log(smoothing / (expected + smoothing))
        at = self.row(item)
        columns = self.items[at].numpy()
        found[columns] = np.log((self.weight[at].double().numpy() + smoothing) / (expected[columns] + smoothing))
        return np.asarray(found)

    def together(self, one: int, other: int) -> tuple[int, int]:
        """In how many histories two items are, in any order, and in how many both were bought."""
        times = bought = 0
        for a, b in ((one, other), (other, one)):
            at = self.row(a)
            for n in np.flatnonzero(self.items[at].numpy() == b):
                times += int(self.times[at][n])
                bought += int(self.bought[at][n])
        return times, bought

    def prior(self) -> Float[np.ndarray, " items"]:
        """log p(j): how often each is taken after anything, shrunk to how often it is taken."""
        popular = self.popular.double().numpy()
        popular = (popular + 0.5) / (popular + 0.5).sum()
        after = self.after.double().numpy() + popular
        return np.asarray(np.log(after / after.sum()))

    def score(
        self, took: Mapping[int, float], smoothing: float, gain: float
    ) -> tuple[Float[np.ndarray, " items"], dict[int, Float[np.ndarray, " items"]]]:
        """Every item's score after a history (item -> how much it counts), and what each thing of it adds."""
        scale = gain * min(1.0, FULL / max(1.0, sum(took.values())))
        parts = {item: scale * weight * self.lift(item, smoothing) for item, weight in took.items()}
        return self.prior() + sum(parts.values(), np.zeros(len(self.popular))), parts


def count(histories: Sequence[History], items: Mapping[str, int], views: float, window: int, ordered: bool) -> Lifts:
    """The counts of histories: j after i, at most `window` things later; both ways, where order is to say nothing.

    Args:
        histories: of training persons.
        items: the items that are kept, and their numbers.
        views: how much a view counts beside a purchase.
        window: things.
        ordered: whether "after" is meant.
    """
    size = len(items)
    weight: dict[int, list[float]] = {}
    popular = np.zeros(size)
    for one in histories:
        known = [(items[taken.item], taken.bought) for taken in one if taken.item in items]
        for item, _ in known:
            popular[item] += 1
        for place, (a, a_bought) in enumerate(known):
            for b, b_bought in known[place + 1 : place + 1 + window]:
                amount = (1.0 if a_bought else views) * (1.0 if b_bought else views)
                for x, y in ((a, b),) if ordered else ((a, b), (b, a)):
                    cell = weight.setdefault(x * size + y, [0.0, 0.0, 0.0])
                    cell[0] += amount
                    # Without order each history stands in both cells, and is told once.
                    if (x, y) == (a, b):
                        cell[1] += 1
                        cell[2] += a_bought and b_bought
    keys: Int64[np.ndarray, " pairs"] = np.array(sorted(weight), np.int64)
    cells = np.array([weight[int(key)] for key in keys]).reshape(-1, 3)
    rows, columns = np.divmod(keys, max(1, size))
    net = Lifts(size, len(keys))
    net.starts.copy_(torch.from_numpy(np.searchsorted(rows, np.arange(size + 1))))
    net.items.copy_(torch.from_numpy(columns))
    net.weight.copy_(torch.from_numpy(cells[:, 0]))
    net.times.copy_(torch.from_numpy(cells[:, 1]))
    net.bought.copy_(torch.from_numpy(cells[:, 2]))
    net.before.copy_(torch.from_numpy(np.bincount(rows, cells[:, 0], size)))
    net.after.copy_(torch.from_numpy(np.bincount(columns, cells[:, 0], size)))
    net.popular.copy_(torch.from_numpy(popular))
    return net


def numbered(history: Sequence[Taken], items: Mapping[str, int], views: float) -> dict[int, float]:
    """A history as the model takes it; things that are not known are left out."""
    return {items[one.item]: 1.0 if one.bought else views for one in history if one.item in items}
