"""How outfits are judged, by the field's definitions [Han et al., 2017, "Learning Fashion Compatibility with
Bidirectional LSTMs"; Vasileva et al., 2018, "Learning Type-Aware Embeddings for Fashion Compatibility"].

Compatibility AUC: how often a real outfit scores above one that is none. Two kinds are none: every piece drawn at
random, or one piece replaced. Fill in the blank (FITB): one piece is hidden, and is to be found among itself and three
others, drawn at random or of the same category. A set that is none has as many pieces as the outfit that it is made
from, and what is drawn comes from other outfits of the same split, as often as it occurs there: neither length nor
popularity tells. It knows pieces and numbers; it knows nothing about nets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from daybreak.errors import UserError
from daybreak.systems.commerce.outfits.pieces import Outfit, Piece

CHOICES = 4
"""Candidates of a blank; the first is the right one."""


@dataclass(frozen=True)
class Blank:
    """An outfit with one piece hidden."""

    rest: tuple[Piece, ...]
    """The others."""
    place: int
    """Where the hidden one stood."""
    candidates: tuple[Piece, ...]
    """The hidden piece, then others drawn at random."""
    same: tuple[Piece, ...]
    """The hidden piece, then others of its category; empty where other outfits have not enough of them."""


@dataclass(frozen=True)
class Case:
    """What one held-out outfit is asked about."""

    outfit: Outfit
    random: tuple[Outfit, ...]
    """As many pieces, all drawn from other outfits."""
    replaced: tuple[Outfit, ...]
    """Itself with one piece from another outfit."""
    blanks: tuple[Blank, ...]
    """Questions to fill in, each with a piece hidden at random: the first is the published one, more are less noise."""


def cases(outfits: Sequence[Outfit], draws: int = 4, seed: int = 0) -> list[Case]:
    """What each outfit of a split is asked. Drawn from its name, so that it is the same for every model.

    Raises:
        UserError: an outfit beside which there are too few other pieces to draw from.
    """
    pool = [(n, piece) for n, outfit in enumerate(outfits) for piece in outfit.pieces]
    by_category: dict[str, list[int]] = {}
    for at, (_, piece) in enumerate(pool):
        by_category.setdefault(piece.category, []).append(at)
    return [_case(n, outfit, pool, by_category, draws, seed) for n, outfit in enumerate(outfits)]


def _case(
    n: int,
    outfit: Outfit,
    pool: Sequence[tuple[int, Piece]],
    by_category: Mapping[str, Sequence[int]],
    draws: int,
    seed: int,
) -> Case:
    if len(pool) - len(outfit.pieces) < max(len(outfit.pieces), CHOICES - 1):
        raise UserError(
            f"beside the held-out outfit {outfit.name!r} there are only {len(pool) - len(outfit.pieces)} pieces to "
            f"draw other sets from; add outfits, or more of them to its split"
        )
    digest = hashlib.blake2b(f"{seed} {outfit.name}".encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest))

    def drawn(count: int, among: Sequence[int] | None = None) -> tuple[Piece, ...]:
        """Pieces of other outfits, each once."""
        size = len(pool) if among is None else len(among)
        found: dict[int, Piece] = {}
        while len(found) < count:
            at = int(rng.integers(size))
            at = at if among is None else among[at]
            if pool[at][0] != n:
                found[at] = pool[at][1]
        return tuple(found.values())

    pieces, size = outfit.pieces, len(outfit.pieces)
    random = tuple(Outfit(outfit.name, drawn(size)) for _ in range(draws))
    replaced, blanks = [], []
    for _ in range(draws):
        at = int(rng.integers(size))
        replaced.append(Outfit(outfit.name, (*pieces[:at], *drawn(1), *pieces[at + 1 :])))
    for _ in range(draws):
        at = int(rng.integers(size))
        candidates = (pieces[at], *drawn(CHOICES - 1))
        alike = [place for place in by_category[pieces[at].category] if pool[place][0] != n]
        same = (pieces[at], *drawn(CHOICES - 1, alike)) if len(alike) >= CHOICES - 1 else ()
        blanks.append(Blank((*pieces[:at], *pieces[at + 1 :]), at, candidates, same))
    return Case(outfit, random, tuple(replaced), tuple(blanks))


def below(score: float, others: Float[np.ndarray, " others"]) -> float:
    """The share of sorted `others` that lie below; equal ones count half.

    The mean of this over real outfits, with all sets that are none as the others, is the AUC [DeLong et al., 1988]:
    so that each outfit has a value of its own, and an interval over outfits can be had.
    """
    low, high = np.searchsorted(others, score, "left"), np.searchsorted(others, score, "right")
    return float((low + high) / 2 / len(others)) if len(others) else float("nan")


def filled(scores: Sequence[float]) -> float:
    """What one blank counts: 1 where the first candidate scores best, a share where others score the same, else 0."""
    best = max(scores)
    return 1 / sum(score == best for score in scores) if scores[0] == best else 0.0
