"""Is what is asked now unlike what it is held against: a test of each trait, and how sure it is.

Two histograms are compared by their orthonormal components: for a number the first four polynomials of its rank (where
it lies, how far it spreads, its shape: Neyman's smooth test with two samples; Rayner, Thas and Best 2009, chapter 9),
for a category all of its shares (Pearson's chi-squared). Their squares are divided by how much more the days differ
among themselves than visits that are drawn anew would (the design effect; Rao and Scott 1984), drawn towards that of
the action's other traits (Smyth 2004), and held against F (Thomas and Rao 1987). All traits together are corrected by
Holm. It knows counts; it knows nothing about files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from daybreak.lab.compare import f_tail, holm
from daybreak.lab.ship.standing.served import Actions, Bins
from daybreak.lab.ship.standing.traits import middle

LEVEL = 0.001
"""Of one look, over all traits. A week has at most seven: 0.7 % of quiet weeks are called a drift, or fewer."""
LEAST = 0.25
"""The least effect that counts, in standard deviations: below it a difference is real and no reason to train."""
ORDERS = 4
"""Polynomials of the rank."""
FEW = 5.0
"""Visits that a category must have on either side, in expectation, to count for itself."""
FEWEST_VISITS = 50
FEWEST_DAYS = 3
PRIOR = 24.0
"""Degrees of freedom that the other traits' design effect counts for, beside a trait's own."""
LEAST_DESIGN = 0.5
"""Days that are more alike than this are no proof of anything."""

Side = Sequence[Bins]
"""A trait's weights, day by day; one part where days mean nothing (a snapshot's items)."""


@dataclass(frozen=True)
class Shift:
    """One trait that moved, or did not."""

    action: str
    trait: str
    p: float
    """After Holm's correction over all traits that were tested."""
    effect: float
    """Root of the sum of squared differences in the components, noise taken off: in standard deviations."""
    design: float
    """How many times more days differ than visits drawn anew would; below 1 where requests of a visit differ."""
    words: str
    """What moved from where to where."""
    against: str
    """What it was held against: "snapshot" or "first weeks"."""

    @property
    def drifted(self) -> bool:
        """Sure enough, and large enough to matter."""
        return self.p < LEVEL and self.effect >= LEAST

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"drifted": self.drifted}


def test(now: Sequence[Actions], references: Mapping[str, Sequence[Actions]]) -> list[Shift]:
    """Every trait that stands on both sides, the surest drift first.

    Args:
        now: what was asked, day by day.
        references: what to hold it against, by name ("snapshot", "first weeks"): a trait is held against the first one
            that has it. One part where days mean nothing.
    """
    pairs: list[tuple[str, str, str, Pair]] = []
    for action, name in sorted({(a, n) for day in now for a, counts in day.items() for n in counts.bins}):
        ours = side(now, action, name)
        for against, parts in references.items():
            if theirs := side(parts, action, name):
                if (pair := compare(theirs, ours)) is not None:
                    pairs.append((action, name, against, pair))
                break
    usual = {
        key: sum(pair.design * pair.freedom for a, _, r, pair in pairs if (a, r) == key)
        / sum(pair.freedom for a, _, r, pair in pairs if (a, r) == key)
        for key in {(action, against) for action, _, against, _ in pairs}
    }
    judged = [pair.judged(usual[action, against]) for action, _, against, pair in pairs]
    corrected = holm([p for p, _, _ in judged])
    shifts = [
        Shift(action, name, p, effect, design, pair.words, against)
        for (action, name, against, pair), (_, effect, design), p in zip(pairs, judged, corrected, strict=True)
    ]
    return sorted(shifts, key=lambda s: (not s.drifted, s.p, -s.effect))


@dataclass(frozen=True)
class Pair:
    """One trait on both sides, before it is judged beside the others."""

    squares: Float[np.ndarray, components]
    """Squared differences of the components' means."""
    noise: float
    """Their expectation where nothing moved and visits are drawn anew."""
    design: float
    """This trait's own design effect."""
    freedom: int
    """Degrees of freedom of `design`."""
    number: bool
    words: str

    def judged(self, usual: float) -> tuple[float, float, float]:
        """P value, effect and the design effect used. `usual` is that of the action's traits."""
        count, below = len(self.squares), PRIOR + self.freedom
        design = max(LEAST_DESIGN, (PRIOR * usual + self.freedom * self.design) / below)
        unit, total = self.noise * design, float(self.squares.sum())
        p = f_tail(total / (unit * count), count, below)
        if self.number:  # most drifts move the middle: it is also tested alone, and two tests cost a factor of two
            p = min(1.0, 2 * min(p, f_tail(float(self.squares[0]) / unit, 1, below)))
        return p, math.sqrt(max(0.0, total - count * unit)), design


def side(days: Sequence[Actions], action: str, trait: str) -> Side:
    """A trait's weights day by day; days on which it was not asked for are left out."""
    return [day[action].bins[trait] for day in days if action in day and trait in day[action].bins]


def compare(before: Side, after: Side) -> Pair | None:
    """One trait on both sides; None where nothing could differ or too little is there."""
    places = sorted({place for day in (*before, *after) for place in day}, key=lambda place: (str(type(place)), place))
    number = all(isinstance(place, int) for place in places)
    table = np.array([[day.get(place, 0.0) for place in places] for day in (*before, *after)])
    one, two = table[: len(before)], table[len(before) :]
    sizes = one.sum(), two.sum()
    if min(sizes) < FEWEST_VISITS or len(places) < 2:
        return None
    freedom = sum(len(part) - 1 for part in (one, two))
    if freedom < 1:
        return None
    pooled = table.sum(0)
    columns = _powers(pooled) if number else _shares(pooled, min(sizes) / sum(sizes))
    basis = _orthonormal(columns, pooled / pooled.sum())
    if not basis.shape[1]:
        return None
    means = [part.sum(0) @ basis / size for part, size in zip((one, two), sizes, strict=True)]
    count = basis.shape[1]
    return Pair(
        squares=np.square(means[1] - means[0]),
        noise=1 / sizes[0] + 1 / sizes[1],
        design=_between(one, basis, means[0], freedom) + _between(two, basis, means[1], freedom),
        freedom=count * freedom,
        number=number,
        words=_words(places, one.sum(0) / sizes[0], two.sum(0) / sizes[1], number),
    )


def _between(
    days: Float[np.ndarray, "days bins"],
    basis: Float[np.ndarray, "bins components"],
    mean: Float[np.ndarray, components],
    freedom: int,
) -> float:
    """This side's part of the variance between days, in units of what visits that are drawn anew would have."""
    weights = days.sum(1)
    apart = days @ basis / weights[:, None] - mean
    return float((weights[:, None] * np.square(apart)).sum() / (basis.shape[1] * freedom))


def _powers(pooled: Float[np.ndarray, bins]) -> Float[np.ndarray, "bins orders"]:
    """Legendre polynomials of the mid-rank in -1..1."""
    share = pooled / pooled.sum()
    rank = 2 * (np.cumsum(share) - share / 2) - 1
    found: np.ndarray = np.polynomial.legendre.legvander(rank, ORDERS)[:, 1:]
    return found


def _shares(pooled: Float[np.ndarray, bins], least: float) -> Float[np.ndarray, "bins categories"]:
    """An indicator a category; those of which too few are expected on the smaller side are one together."""
    rare = pooled * least < FEW
    kept = np.eye(len(pooled))[:, ~rare]
    return np.concatenate([kept, rare[:, None].astype(float)], 1) if pooled[rare].sum() * least >= FEW else kept


def _orthonormal(
    columns: Float[np.ndarray, "bins columns"], share: Float[np.ndarray, bins]
) -> Float[np.ndarray, "bins components"]:
    """Components of mean 0 and variance 1 under the pooled shares, uncorrelated; dependent columns are dropped."""
    root = np.sqrt(share)
    found = [root]
    for column in columns.T:
        rest = column * root
        size = float(np.linalg.norm(rest))
        for _ in range(2):  # twice is enough (Kahan and Parlett): the columns may be nearly alike
            rest = rest - sum((rest @ known) * known for known in found)
        if (left := float(np.linalg.norm(rest))) > 1e-6 * max(size, 1e-12):
            found.append(rest / left)
    return np.stack(found[1:], 1) / root[:, None] if len(found) > 1 else np.zeros((len(share), 0))


def _words(
    places: Sequence[int | str], before: Float[np.ndarray, bins], after: Float[np.ndarray, bins], number: bool
) -> str:
    """What moved, in the trait's own unit."""
    if not number:
        worst = int(np.abs(after - before).argmax())
        return f"{str(places[worst])[:40]!r} {before[worst]:.0%} -> {after[worst]:.0%}"
    values = [middle(place) for place in places if isinstance(place, int)]
    old, new = (_quartiles(values, share) for share in (before, after))
    if abs(new[1] - old[1]) >= 0.25 * max(abs((new[2] - new[0]) - (old[2] - old[0])), 1e-12):
        return f"{'higher' if new[1] > old[1] else 'lower'}: median {old[1]:.3g} -> {new[1]:.3g}"
    wider = new[2] - new[0] > old[2] - old[0]
    ends = f"middle half {old[0]:.3g} to {old[2]:.3g} -> {new[0]:.3g} to {new[2]:.3g}"
    return f"{'more' if wider else 'less'} spread: {ends}" if old != new else f"another shape: {ends}"


def _quartiles(values: Sequence[float], share: Float[np.ndarray, bins]) -> tuple[float, float, float]:
    sums = np.cumsum(share) / share.sum()
    low, middle_, high = (values[min(int(np.searchsorted(sums, q)), len(values) - 1)] for q in (0.25, 0.5, 0.75))
    return low, middle_, high


def strength(effect: float) -> str:
    """An effect in a word."""
    return "slight" if effect < 0.5 else "clear" if effect < 1.0 else "strong"


def sentence(shift: Shift, of: int) -> str:
    """One line: what moved, how far, how sure. `of` is how many traits were tested."""
    sure = "below 1e-12" if shift.p < 1e-12 else f"{shift.p:.1g}"
    against = "the snapshot" if shift.against == "snapshot" else f"the {shift.against}"
    return (
        f"{shift.action}: {shift.trait} {shift.words} against {against}, {strength(shift.effect)} "
        f"({shift.effect:.2g} standard deviations; p {sure} after Holm over {of})"
    )
