"""Monte-Carlo tree search in a learned model, many trees at once: each simulation asks the model once for all of them.

Trees are arrays [trees, nodes, moves]; simulation k adds node k + 1 to every tree. Two ways to search: pUCT as in
MuZero (Schrittwieser et al. 2020, appendix B), and Gumbel search, which plans with few simulations (Danihelka et al.
2022). It knows numbers alone: the model is a function, chance comes in as arrays, so that a search can be repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int

Expand = Callable[
    [Int[np.ndarray, " trees"], Int[np.ndarray, " trees"], int],
    tuple[Float[np.ndarray, " trees"], Float[np.ndarray, " trees"], Float[np.ndarray, "trees moves"]],
]
"""(node, move, new node) -> the reward of the move at the node of each tree, and the new node's value and logits."""

LEAST = 0.01
"""Least range of Q that is stretched to 0 to 1: smaller differences are noise of the net."""


@dataclass(frozen=True)
class Rules:
    """How to search."""

    simulations: int
    discount: float
    """Of a step; negative where the players take turns, as what is good for one is bad for the other."""
    gumbel: bool = False
    c1: float = 1.25
    """pUCT: weight of the prior."""
    c2: float = 19652.0
    """pUCT: visits at which that weight begins to grow."""
    considered: int = 16
    """Gumbel: moves that the root looks at, at most."""
    visit: float = 50.0
    scale: float = 0.1
    """Gumbel: sigma(q) = (visit + most visits) scale q."""
    bounds: tuple[float, float] | None = None
    """Least and largest Q, where known; without, the range that each tree has seen."""


@dataclass(frozen=True)
class Found:
    """What a search says of the root, for each tree."""

    visits: Float[np.ndarray, "trees moves"]
    policy: Float[np.ndarray, "trees moves"]
    """What to learn: shares of visits, or the improved policy."""
    q: Float[np.ndarray, "trees moves"]
    """The mean return of each move; of one that was not visited, what stands for it."""
    value: Float[np.ndarray, trees]
    move: Int[np.ndarray, trees]
    """The move that was found best."""


@cache
def halving(considered: int, simulations: int) -> tuple[int, ...]:
    """Sequential halving (Karnin et al. 2013): before each simulation, how many moves to keep; 0 keeps them all.

    About log2(considered) phases of as many simulations each; what is left over goes to the last two.
    """
    phases = max(1, math.ceil(math.log2(considered)))
    keep: list[int] = []
    left = considered
    while len(keep) < simulations:
        length = left * max(1, simulations // (phases * left))
        keep += [left, *[0] * (length - 1)]
        left = min(left, max(2, left // 2))
    return tuple(keep[:simulations])


def softmax(logits: Float[np.ndarray, "trees moves"]) -> Float[np.ndarray, "trees moves"]:
    """Probabilities of logits."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


class Trees:
    """All trees of a search."""

    def __init__(self, value: Float[np.ndarray, trees], logits: Float[np.ndarray, "trees moves"], rules: Rules) -> None:
        count, moves = logits.shape
        nodes = rules.simulations + 1
        self.rules, self.every = rules, np.arange(count)
        self.visits, self.q = np.zeros((count, nodes, moves)), np.zeros((count, nodes, moves))
        self.logits, self.prior = np.zeros((count, nodes, moves)), np.zeros((count, nodes, moves))
        self.child = np.full((count, nodes, moves), -1)
        self.parent, self.move = np.zeros((count, nodes), np.int64), np.zeros((count, nodes), np.int64)
        self.reward, self.raw = np.zeros((count, nodes)), np.zeros((count, nodes))
        self.mean, self.count = np.zeros((count, nodes)), np.ones((count, nodes))
        """Of each node: the mean of its own value and of what was found below it, and their number."""
        self.low, self.high = value.astype(float), value.astype(float)
        if rules.bounds is not None:
            self.low[:], self.high[:] = rules.bounds
        self.range = np.maximum(self.high - self.low, LEAST)
        self._set(0, value, logits)

    def _set(self, node: int, value: Float[np.ndarray, trees], logits: Float[np.ndarray, "trees moves"]) -> None:
        self.raw[:, node] = self.mean[:, node] = value
        self.logits[:, node], self.prior[:, node] = logits, softmax(logits)

    def descend(self, first: Int[np.ndarray, trees]) -> tuple[Int[np.ndarray, trees], Int[np.ndarray, trees]]:
        """From each root by a first move to where the tree ends: the last node, and the move that leaves the tree."""
        node, move, going = np.zeros(len(first), np.int64), first.copy(), self.every
        choose = self._improve if self.rules.gumbel else self._puct
        while True:
            child = self.child[going, node[going], move[going]]
            inside = child >= 0
            going, child = going[inside], child[inside]
            if not len(going):
                return node, move
            node[going], move[going] = child, choose(going, child)

    def _puct(self, trees: Int[np.ndarray, some], nodes: Int[np.ndarray, some]) -> Int[np.ndarray, some]:
        return np.asarray(self.puct(trees, nodes, self.prior[trees, nodes]).argmax(axis=1))

    def puct(
        self, trees: Int[np.ndarray, some], nodes: Int[np.ndarray, some], prior: Float[np.ndarray, "some moves"]
    ) -> Float[np.ndarray, "some moves"]:
        """Scores of moves (MuZero, eq. 2). What was not visited is taken to be worth what its node is."""
        rules, visits = self.rules, self.visits[trees, nodes]
        total = self.count[trees, nodes]
        q = np.where(visits > 0, self.q[trees, nodes], self.mean[trees, nodes][:, None])
        q -= self.low[trees][:, None]
        q /= self.range[trees][:, None]
        weight = np.sqrt(total) * (rules.c1 + np.log((total + rules.c2 + 1) / rules.c2))
        return np.asarray(q + prior * weight[:, None] / (1 + visits))

    def completed(self, trees: Int[np.ndarray, some], nodes: Int[np.ndarray, some]) -> Float[np.ndarray, "some moves"]:
        """Q of every move: of one that was not visited, the mix of the net's value and of visited moves' Q, weighted
        by their prior (Danihelka et al. 2022, eq. 33)."""
        visits, q, prior = self.visits[trees, nodes], self.q[trees, nodes], self.prior[trees, nodes]
        seen = visits > 0
        total, mass = visits.sum(axis=1), (prior * seen).sum(axis=1)
        known = (prior * q * seen).sum(axis=1) / np.maximum(mass, 1e-30)
        mixed = (self.raw[trees, nodes] + total * known) / (1 + total)
        return np.asarray(np.where(seen, q, mixed[:, None]))

    def better(self, trees: Int[np.ndarray, some], nodes: Int[np.ndarray, some]) -> Float[np.ndarray, "some moves"]:
        """Logits of the improved policy: the net's plus sigma of the completed Q (eq. 8 and 11)."""
        q = (self.completed(trees, nodes) - self.low[trees][:, None]) / self.range[trees][:, None]
        most = self.visits[trees, nodes].max(axis=1)[:, None]
        return np.asarray(self.logits[trees, nodes] + (self.rules.visit + most) * self.rules.scale * q)

    def _improve(self, trees: Int[np.ndarray, some], nodes: Int[np.ndarray, some]) -> Int[np.ndarray, some]:
        """The move whose share of visits lags most behind the improved policy (eq. 14)."""
        visits = self.visits[trees, nodes]
        share = visits / (1 + visits.sum(axis=1, keepdims=True))
        return np.asarray((softmax(self.better(trees, nodes)) - share).argmax(axis=1))

    def grow(
        self,
        node: int,
        parents: Int[np.ndarray, trees],
        moves: Int[np.ndarray, trees],
        reward: Float[np.ndarray, trees],
        value: Float[np.ndarray, trees],
        logits: Float[np.ndarray, "trees moves"],
    ) -> None:
        """Add a node to each tree, and tell all above it what was found."""
        every = self.every
        self.child[every, parents, moves] = node
        self.parent[:, node], self.move[:, node], self.reward[:, node] = parents, moves, reward
        self._set(node, value, logits)
        going, at, total = every, np.full(len(every), node), value.astype(float)
        while len(going):
            above, by = self.parent[going, at], self.move[going, at]
            total = self.reward[going, at] + self.rules.discount * total
            visits = self.visits[going, above, by] + 1
            q = self.q[going, above, by]
            q += (total - q) / visits
            self.visits[going, above, by], self.q[going, above, by] = visits, q
            count = self.count[going, above] + 1
            self.count[going, above] = count
            self.mean[going, above] += (total - self.mean[going, above]) / count
            if self.rules.bounds is None:
                self.low[going], self.high[going] = np.minimum(self.low[going], q), np.maximum(self.high[going], q)
            on = above > 0
            going, at, total = going[on], above[on], total[on]
        if self.rules.bounds is None:
            self.range = np.maximum(self.high - self.low, LEAST)


def search(
    value: Float[np.ndarray, trees],
    logits: Float[np.ndarray, "trees moves"],
    expand: Expand,
    rules: Rules,
    mask: Bool[np.ndarray, "trees moves"] | None = None,
    noise: Float[np.ndarray, "trees moves"] | None = None,
    share: float = 0.25,
) -> Found:
    """Search from roots whose value and logits the net has told.

    `mask` holds the moves that are legal at the root; inside the tree all are tried, as the model knows no rules.
    `noise` is Dirichlet's, of which `share` goes into the root's prior; for Gumbel search, Gumbel variables. Without
    it the search is deterministic.
    """
    allowed = np.ones(logits.shape, bool) if mask is None else mask
    trees = Trees(value, np.where(allowed, logits, -1e9), rules)
    walk = _Halving(trees, allowed, noise) if rules.gumbel else _Prior(trees, allowed, noise, share)
    for node in range(1, rules.simulations + 1):
        parents, moves = trees.descend(walk.first(node - 1))
        trees.grow(node, parents, moves, *expand(parents, moves, node))
    return walk.found()


class _Prior:
    """The root of pUCT: as every node, but for the mask and the noise."""

    def __init__(self, trees: Trees, allowed: np.ndarray, noise: np.ndarray | None, share: float) -> None:
        self.trees, self.allowed = trees, allowed
        self.root = np.zeros(len(allowed), np.int64)
        prior = trees.prior[:, 0]
        self.prior = prior if noise is None else (1 - share) * prior + share * noise

    def first(self, number: int) -> Int[np.ndarray, trees]:
        scores = self.trees.puct(self.trees.every, self.root, self.prior)
        return np.asarray(np.where(self.allowed, scores, -np.inf).argmax(axis=1))

    def found(self) -> Found:
        trees = self.trees
        visits = trees.visits[:, 0]
        q = np.where(visits > 0, trees.q[:, 0], trees.mean[:, :1])
        return Found(visits, visits / visits.sum(axis=1, keepdims=True), q, trees.mean[:, 0], visits.argmax(axis=1))


class _Halving:
    """The root of Gumbel search: the moves with the largest noise plus logits, halved by what is found of them."""

    def __init__(self, trees: Trees, allowed: np.ndarray, noise: np.ndarray | None) -> None:
        self.trees, self.alive = trees, allowed.copy()
        self.root = np.zeros(len(allowed), np.int64)
        self.noise = 0.0 if noise is None else noise
        rules = trees.rules
        number = np.minimum(allowed.sum(axis=1), min(rules.considered, rules.simulations))
        tables = {int(n): halving(int(n), rules.simulations) for n in np.unique(number)}
        self.keep = np.array([tables[int(n)] for n in number])

    def scores(self) -> Float[np.ndarray, "trees moves"]:
        """g + logits + sigma(q) of moves that are still alive."""
        return np.where(self.alive, self.noise + self.trees.better(self.trees.every, self.root), -np.inf)

    def first(self, number: int) -> Int[np.ndarray, trees]:
        keep = self.keep[:, number]
        if keep.any():
            rank = (-self.scores()).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
            self.alive &= (rank < keep[:, None]) | (keep == 0)[:, None]
        return np.asarray(np.where(self.alive, self.trees.visits[:, 0], np.inf).argmin(axis=1))

    def found(self) -> Found:
        trees = self.trees
        q = trees.completed(trees.every, self.root)
        policy = softmax(trees.better(trees.every, self.root))
        value = (policy * q).sum(axis=1)
        return Found(trees.visits[:, 0], policy, q, value, self.scores().argmax(axis=1))
