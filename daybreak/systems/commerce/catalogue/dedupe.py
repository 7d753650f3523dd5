"""Near-duplicates in time that grows with the number of photos, not with its square.

The bits of difference hashes are put into a new order again and again; each time the photos are sorted, and only
neighbours are looked at: photos of which many leading bits agree (locality-sensitive hashing, Indyk and Motwani 1998,
with bands that are as long as their crowd asks for). A pair is a duplicate where the hashes are close as a whole and in
every block of the photo, and the instance vectors agree. Pairs are joined into groups. It knows hashes and vectors,
nothing about files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float64, Int64, Num, UInt8, UInt64

from daybreak.errors import UserError
from daybreak.systems.commerce.catalogue.store import Catalogue

SIDE = 16
"""A hash has SIDE x SIDE bits."""
ORDERS = 32
"""How often the photos are sorted. More find more."""
WINDOW = 16
"""Neighbours looked at on one side, each time."""
STEP = 0.5
"""Grey levels of 255 that make a step: less is noise on a plain wall, and would fall either way."""
_BLOCKS = [mask * 0x0001000100010001 for mask in (0x00F0, 0x000F, 0xF000, 0x0F00)]
"""The bits of the four blocks, 4 x 4 cells each, whose rows lie in one 64-bit word of a hash."""

Cosines = Callable[[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]], Float64[np.ndarray, " p"]]
"""Inner products of the vectors of pairs of rows."""


@dataclass(frozen=True)
class Rule:
    """When two photos are the same."""

    bits: int = 45
    """Bits of 256 in which the hashes may differ. Two photos of different things differ in 126 on average."""
    block: int = 12
    """Bits of 16 in which any of the 16 blocks may differ: another print on the same shirt changes one block."""
    cosine: float = 0.1
    """What the inner product of the instance vectors must reach where the hashes are equal: a photo made grey has the
    same hash, and for a network it is far from its original."""
    cosine_per_bit: float = 0.04
    """How much more it must reach for each bit in which the hashes differ."""
    cosine_most: float = 0.94
    """And what is enough however many bits differ, up to `bits`."""
    bits_alone: int = 20
    """Bits in which the hashes may differ where there are no vectors to ask."""
    plain: int = 24
    """Bits that must be set where there are no vectors: a nearly plain photo has too few to tell it from another."""


def dhash(gray: Num[np.ndarray, "height width"]) -> str:
    """The 256-bit difference hash of a grey photo, 64 hex digits: which of 16 x 16 cells are darker than the next.

    Krawetz, "Kind of like that", 2013. The photo, 0 to 255, is averaged to 16 rows of 17 cells; any size will do.

    Raises:
        UserError: not a grey picture.
    """
    gray = np.asarray(gray)
    if gray.ndim != 2 or min(gray.shape) < 1 or not np.isfinite(gray).all():
        raise UserError(f"a difference hash is made of a grey picture (height x width), not of the shape {gray.shape}")
    small = _averaged(SIDE, gray.shape[0]) @ gray.astype(np.float64) @ _averaged(SIDE + 1, gray.shape[1]).T
    return np.packbits(small[:, 1:] - small[:, :-1] > STEP).tobytes().hex()


@cache
def _averaged(cells: int, pixels: int) -> Float64[np.ndarray, "cells pixels"]:
    """The weights that average `pixels` into `cells` of equal width."""
    edges = np.linspace(0, pixels, cells + 1)
    at = np.arange(pixels)
    overlap = np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at)
    weights: Float64[np.ndarray, "cells pixels"] = np.clip(overlap, 0, None) * (cells / pixels)
    return weights


def duplicates(catalogue: Catalogue, rule: Rule | None = None, space: str = "instance") -> list[list[str]]:
    """Groups of ids of the same photo, the largest first, ids in order within: pairs of `pairs`, joined.

    In a large group not every pair is one that the rule names: a look at it is worth while.
    """
    ids, found = _found(catalogue, rule or Rule(), space)
    groups = [sorted(ids[i] for i in group) for group in joined(len(ids), found)]
    return sorted(groups, key=lambda group: (-len(group), group))


def pairs(catalogue: Catalogue, rule: Rule | None = None, space: str = "instance") -> list[tuple[str, str]]:
    """Pairs of ids of the same photo, each in order, all in order.

    Photos of equal digest are the same; each is paired with the first of them. Rows without a hash are compared by
    digest alone.

    Args:
        catalogue: where they are.
        rule: when two photos are the same.
        space: the vectors that are asked, in the catalogue; the empty name asks none.

    Raises:
        UserError: the catalogue has no such space.
    """
    ids, found = _found(catalogue, rule or Rule(), space)
    named = ((ids[a], ids[b]) for a, b in found.tolist())
    return sorted({(min(pair), max(pair)) for pair in named})


def _found(catalogue: Catalogue, rule: Rule, space: str) -> tuple[list[str], Int64[np.ndarray, "p 2"]]:
    """The ids of all rows, and pairs of places among them that are the same photo."""
    view = catalogue.view()
    if space and space not in view.manifest.spaces:
        raise UserError(f"the catalogue has no vector space {space!r}; there is: {', '.join(view.manifest.spaces)}")
    at = view.positions
    hashes, has = view.dhash
    hashed = np.flatnonzero(has[at])

    def cosines(a: Int64[np.ndarray, " p"], b: Int64[np.ndarray, " p"]) -> Float64[np.ndarray, " p"]:
        left, right = view.vectors(at[hashed[a]], space), view.vectors(at[hashed[b]], space)
        products: Float64[np.ndarray, " p"] = np.einsum("ij,ij->i", left, right).astype(np.float64)
        return products

    alike = near(hashes[at[hashed]], cosines if space else None, rule)
    rows = [view.row(int(i)) for i in at]
    first: dict[str, int] = {}
    places = ((first.setdefault(row.digest, i), i) for i, row in enumerate(rows) if row.digest)
    same = [(a, b) for a, b in places if a != b]
    return [row.id for row in rows], np.concatenate([hashed[alike], np.array(same, np.int64).reshape(-1, 2)])


def near(hashes: UInt64[np.ndarray, "n 4"], cosines: Cosines | None, rule: Rule) -> Int64[np.ndarray, "p 2"]:
    """Pairs of rows that are the same photo by the rule, the lower first, each once."""
    words = np.ascontiguousarray(hashes)
    limit = rule.bits if cosines else rule.bits_alone
    telling = np.bitwise_count(words).sum(axis=1) >= (0 if cosines else rule.plain)
    codes = [np.empty(0, np.int64)]
    for a, b in _neighbours(words):
        differ = words[a] ^ words[b]
        close = np.bitwise_count(differ).sum(axis=1, dtype=np.int64) <= limit
        a, b, differ = a[close], b[close], differ[close]
        keep = _within(differ, rule.block) & telling[a] & telling[b]
        codes.append(np.unique(np.minimum(a, b)[keep] * len(words) + np.maximum(a, b)[keep]))
    code = np.unique(np.concatenate(codes))
    pairs = np.stack([code // max(len(words), 1), code % max(len(words), 1)], axis=1)
    if cosines is None or not len(pairs):
        return pairs
    reached = [cosines(part[:, 0], part[:, 1]) for part in np.array_split(pairs, len(pairs) // 65_536 + 1)]
    differ = np.bitwise_count(words[pairs[:, 0]] ^ words[pairs[:, 1]]).sum(axis=1, dtype=np.int64)
    least = np.minimum(rule.cosine_most, rule.cosine + rule.cosine_per_bit * differ)
    same: Int64[np.ndarray, "p 2"] = pairs[np.concatenate(reached) >= least]
    return same


def _neighbours(words: UInt64[np.ndarray, "n 4"]) -> Iterator[tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]]:
    """Pairs that are worth a look: ORDERS x WINDOW x n at most."""
    random = np.random.default_rng(0)
    bits: UInt8[np.ndarray, "n 256"] = np.unpackbits(words.view(np.uint8), axis=1)
    for _ in range(ORDERS):
        chosen = random.permutation(bits.shape[1])[:64]
        key = np.ascontiguousarray(np.packbits(bits[:, chosen], axis=1)).view(">u8")[:, 0].astype(np.uint64)
        order = np.argsort(key, kind="stable")
        for apart in range(1, min(WINDOW, len(order) - 1) + 1):
            yield order[:-apart], order[apart:]


def _within(differ: UInt64[np.ndarray, "p 4"], most: int) -> Bool[np.ndarray, " p"]:
    """Whether no block differs in more bits."""
    counts = np.stack([np.bitwise_count(differ & np.uint64(mask)) for mask in _BLOCKS])
    passing: Bool[np.ndarray, " p"] = counts.max(axis=(0, 2), initial=0) <= most
    return passing


def joined(count: int, pairs: Int64[np.ndarray, "p 2"]) -> list[Int64[np.ndarray, " g"]]:
    """Rows 0 to count - 1 joined by pairs, as groups of two or more: union-find over whole arrays."""
    parent = np.arange(count)
    while True:
        a, b = parent[pairs[:, 0]], parent[pairs[:, 1]]
        apart = a != b
        if not apart.any():
            break
        np.minimum.at(parent, np.maximum(a, b)[apart], np.minimum(a, b)[apart])
        while not np.array_equal(parent, shorter := parent[parent]):
            parent = shorter
    order = np.argsort(parent, kind="stable")
    cuts = np.flatnonzero(np.diff(parent[order])) + 1
    return [group for group in np.split(order, cuts) if len(group) > 1]
