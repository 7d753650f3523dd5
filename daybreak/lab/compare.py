"""Is this run better than that one: intervals over items, over seeds, and the words for them.

Two claims are kept apart. `paired` compares two sets of weights on the same items and resamples the items' groups
(songs, speakers): it says "these weights are better on these items". `seeds` compares two recipes, three or more runs
on each side: it says "the change is better". Best-of-many is corrected by `holm`. The file knows numbers, items and
groups; it knows nothing about runs on disk, training or pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from daybreak.errors import UserError

Floats = NDArray[np.float64]


class Grouped(Protocol):
    """A row that belongs to a group."""

    @property
    def group(self) -> str: ...


R = TypeVar("R", bound=Grouped)
Better = Literal["lower", "higher"]

RESAMPLES = 10_000
FEWEST_GROUPS = 5
"""Below this a resampling has too few different outcomes to carry an interval."""
FEWEST_SEEDS = 3
MOST_GROUPS = 1000
"""More groups than this are pooled at random into so many: the interval is the same, the time is not."""


SHARE = "_share/"
"""Before a metric's name: what an item's group adds to it, where it is no mean over items."""


def shares(rows: Sequence[R], aggregate: Callable[[Sequence[R]], float]) -> list[float]:
    """What the group of each row (objects with `group`) adds to a figure that is no mean over items.

    The pseudo-values of a jackknife that leaves one group out, with groups of unequal size (Busing, Meijer and van der
    Leeden 1999, Delete-m jackknife for unequal m, eq. 6), moved together so that their mean is the figure: their own
    corrects a bias that such a jackknife cannot know of a figure that jumps, as a mean over the tags that occur. For a
    mean they are the groups' means: everything here does the same with them as with values of items. NaN where the
    figure is not defined without the group.
    """
    of: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        of.setdefault(row.group, []).append(place)
    whole, found = aggregate(rows), [math.nan] * len(rows)
    for members in of.values() if len(of) > 1 else ():
        inside = set(members)
        rest = aggregate([row for place, row in enumerate(rows) if place not in inside])
        times = len(rows) / len(members)
        for place in members:
            found[place] = times * whole - (times - 1) * rest
    known = [share for share in found if math.isfinite(share)]
    off = whole - math.fsum(known) / len(known) if known else 0.0
    return [share + off for share in found]


class Measured(Protocol):
    """What a comparison needs to know about a metric; `daybreak.lab.recipe.Metric` has it."""

    @property
    def name(self) -> str: ...
    @property
    def better(self) -> Better: ...
    @property
    def unit(self) -> str: ...


@dataclass(frozen=True)
class Goal:
    """A metric as run.json holds it: name, direction, unit."""

    name: str
    better: Better = "lower"
    unit: str = ""


@dataclass(frozen=True)
class Scores:
    """One value an item, with the item's group. Items are unique."""

    items: tuple[str, ...]
    groups: tuple[str, ...]
    values: Floats

    @classmethod
    def of(cls, rows: Iterable[Any], name: str) -> Scores:
        """From score rows (mappings or objects with item, group, values). Rows without the value are left out.

        An item that was scored twice counts with its last row. Where the metric is no value of an item, the items'
        shares in it stand for them (`shares`).
        """
        found: dict[str, tuple[str, float]] = {}
        for row in rows:
            item, group, values = (
                (row["item"], row["group"], row["values"])
                if isinstance(row, Mapping)
                else (row.item, row.group, row.values)
            )
            value = values.get(name, values.get(SHARE + name))
            if value is not None:
                found[item] = (group, float(value))  # float() reads "NaN" and "Infinity" too
        return cls(tuple(found), tuple(g for g, _ in found.values()), np.array([v for _, v in found.values()], float))

    def __len__(self) -> int:
        return len(self.items)

    def mean(self) -> float:
        """The mean over items; NaN over none."""
        return float(self.values.mean()) if len(self) else math.nan


@dataclass(frozen=True)
class Interval:
    """A difference `a - b` in the metric's unit, and how sure it is.

    `low` and `high` bound it at `level`; `p` is two-sided against "no difference" and agrees with the interval.
    """

    difference: float
    low: float
    high: float
    p: float
    level: float
    items: int
    groups: int
    better: Better
    unit: str = ""
    seeds: tuple[int, int] = (1, 1)
    left_out: int = 0
    """Items that one side lacks, or whose score is not finite on one side."""

    @property
    def half(self) -> float:
        """Half the interval's width, in the metric's unit."""
        return (self.high - self.low) / 2

    @property
    def verdict(self) -> Literal["better", "worse", "undecided"]:
        """Whether `a` is better than `b`, by the interval alone."""
        if self.low > 0 or self.high < 0:
            return "better" if (self.high < 0) == (self.better == "lower") else "worse"
        return "undecided"


def paired(
    a: Scores | Iterable[Any],
    b: Scores | Iterable[Any],
    metric: Measured,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean difference a - b over the items that both have, by a studentised bootstrap over groups.

    Groups, not items, are drawn with replacement: clips of one song are not independent. The bootstrap is the
    studentised one (bootstrap-t; Efron and Tibshirani 1993, chapter 12.5): with few groups or skewed scores the
    percentile interval is too narrow and BCa mends only part of it (docs/watch.md has the coverage of each). `p`
    inverts the same interval. With fewer than five groups the interval is infinite and `p` is 1. Raises `UserError`
    when the two have no item in common.
    """
    one = a if isinstance(a, Scores) else Scores.of(a, metric.name)
    two = b if isinstance(b, Scores) else Scores.of(b, metric.name)
    where = {item: place for place, item in enumerate(two.items)}
    pairs = [(i, where[item]) for i, item in enumerate(one.items) if item in where]
    if not pairs:
        raise UserError(
            f"nothing to compare: {len(one)} and {len(two)} items with {metric.name!r}, none in common; "
            "compare runs that were evaluated on the same snapshot"
        )
    left, right = np.array(pairs).T
    with np.errstate(invalid="ignore"):
        differences = one.values[left] - two.values[right]
    finite = np.isfinite(differences)
    left_out = len(one) + len(two) - 2 * len(pairs) + int((~finite).sum())
    groups = np.array([one.groups[i] for i in left])[finite]
    sums, counts = _by_group(groups, differences[finite])
    difference, low, high, p = _studentised(sums, counts, level, resamples, seed)
    return Interval(
        difference,
        low,
        high,
        p,
        level,
        items=int(finite.sum()),
        groups=len(sums),
        better=metric.better,
        unit=metric.unit,
        left_out=left_out,
    )


def seeds(
    a: Sequence[Scores],
    b: Sequence[Scores],
    metric: Measured,
    *,
    level: float = 0.95,
) -> Interval:
    """The difference of two recipes, each run with three or more seeds, on the items that all runs have.

    Welch's t over the runs' means, with the sampling of the items' groups added to its variance, so that the claim is
    about new seeds and new items; degrees of freedom by Satterthwaite. A bootstrap over three seeds has only ten
    different outcomes and comes out far too narrow, a t interval does not. Raises `UserError` with fewer than three
    runs on a side, or without an item in common.
    """
    if min(len(a), len(b)) < FEWEST_SEEDS:
        raise UserError(
            f"a comparison over seeds needs {FEWEST_SEEDS} runs or more on each side, not {len(a)} and {len(b)}; "
            "compare two runs by their items instead"
        )
    tables = [dict(zip(run.items, run.values.tolist(), strict=True)) for run in (*a, *b)]
    groups_of = dict(zip(a[0].items, a[0].groups, strict=True))
    common = [item for item in a[0].items if all(item in table and math.isfinite(table[item]) for table in tables)]
    if not common:
        raise UserError(f"nothing to compare: the runs have no item with a finite {metric.name!r} in common")
    values = np.array([[table[item] for item in common] for table in tables])  # runs, items
    ours, theirs = values[: len(a)], values[len(a) :]
    parts = [(side.mean(1).var(ddof=1) / len(side), len(side) - 1) for side in (ours, theirs)]
    sums, counts = _by_group(np.array([groups_of[item] for item in common]), ours.mean(0) - theirs.mean(0))
    difference = float(sums.sum() / counts.sum())
    if len(sums) > 1:
        parts.append((_variance(sums, counts), len(sums) - 1))
    variance = float(sum(v for v, _ in parts))
    if len(sums) < FEWEST_GROUPS:
        low, high, p = -math.inf, math.inf, 1.0
    elif variance <= 0:
        low, high, p = difference, difference, 1.0 if difference == 0 else 2.0 ** (1 - len(values))
    else:
        freedom = variance**2 / sum(v * v / df for v, df in parts)
        error = math.sqrt(variance)
        reach = t_quantile(0.5 + level / 2, freedom) * error
        low, high = difference - reach, difference + reach
        p = 2 * (1 - t_cdf(abs(difference) / error, freedom))
    every = set().union(*(run.items for run in (*a, *b)))
    return Interval(
        difference,
        low,
        high,
        p,
        level,
        items=len(common),
        groups=len(sums),
        better=metric.better,
        unit=metric.unit,
        seeds=(len(a), len(b)),
        left_out=len(every) - len(common),
    )


def holm(p: Sequence[float]) -> list[float]:
    """P values corrected for being the best of many, in the order given (Holm 1979): compare each with the level."""
    order = sorted(range(len(p)), key=lambda place: p[place])
    corrected, running = [0.0] * len(p), 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = running
    return corrected


def words(interval: Interval, *, subject: str = "these weights", corrected: float | None = None, of: int = 1) -> str:
    """One sentence, without a trailing full stop: what the interval says, and never more.

    `corrected` is the p value after `holm` over `of` comparisons, where the run was picked among many.

    >>> words(Interval(-0.041, -0.053, -0.029, 1e-4, 0.95, 96, 40, "lower", "nats/token"))
    'these weights are better on these items: -0.041 ±0.012 nats/token over 96 items in 40 groups; one seed'
    """
    over = f"over {_count(interval.items, 'item')} in {_count(interval.groups, 'group')}"
    seeded = min(interval.seeds) >= FEWEST_SEEDS
    tail = f"; {interval.seeds[0]} and {interval.seeds[1]} seeds" if seeded else "; one seed"
    if interval.left_out:
        tail += f"; {_count(interval.left_out, 'item')} without a score on both sides left out"
    if interval.groups < FEWEST_GROUPS:
        return (
            f"no difference shown: {interval.groups} groups are too few for an interval, five are needed ({over}){tail}"
        )
    amount = f"{signed(interval)}{' ' + interval.unit if interval.unit else ''} {over}"
    if interval.level != 0.95:
        amount += f" at {100 * interval.level:g} %"
    verdict = interval.verdict
    if verdict != "undecided" and corrected is not None and corrected > 1 - interval.level:
        return f"no difference shown once corrected for {of} comparisons (p {corrected:.2g}): {amount}{tail}"
    if verdict == "undecided":
        return f"no difference shown: {amount}{tail}"
    if seeded:
        return f"the change is {verdict}: {amount}{tail}"
    are = "is" if subject.endswith(tuple("0123456789")) else "are"
    return f"{subject} {are} {verdict} on these items: {amount}{tail}"


def signed(interval: Interval) -> str:
    """The difference with its interval and no more digits than it supports: "-0.041 ±0.012".

    A clearly lopsided interval is written out: "-0.041 (-0.050 to -0.012)".
    """
    if not math.isfinite(interval.half):
        return f"{interval.difference:+.3g}"
    # Two digits of the half width, one where it starts with 3 or more would hide nothing.
    digits = 3 if interval.half <= 0 else max(0, 1 - math.floor(math.log10(interval.half)))
    digits = min(digits, 12)
    above, below = interval.high - interval.difference, interval.difference - interval.low
    if interval.half > 0 and max(above, below) > 1.5 * min(above, below):
        return f"{interval.difference:+.{digits}f} ({interval.low:+.{digits}f} to {interval.high:+.{digits}f})"
    return f"{interval.difference:+.{digits}f} ±{interval.half:.{digits}f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


# The arithmetic.


def _by_group(groups: NDArray[Any], differences: Floats) -> tuple[Floats, Floats]:
    """Sum of differences and number of items of each group, groups in sorted order."""
    _, place = np.unique(groups, return_inverse=True)
    return np.bincount(place, differences).astype(float), np.bincount(place).astype(float)


def _variance(sums: Floats, counts: Floats) -> float:
    """Variance of the mean over items when groups are sampled: the linearised ratio estimator."""
    number = len(sums)
    residuals = sums - sums.sum() / counts.sum() * counts
    return float(number / (number - 1) * (residuals**2).sum() / counts.sum() ** 2)


def draws(number: int, resamples: int, seed: int) -> Iterable[Floats]:
    """How often each of `number` groups is drawn, a row a resample, in pieces that fit a cache."""
    generator = np.random.default_rng(seed)
    piece = max(1, min(resamples, 1_000_000 // max(number, 1)))
    for start in range(0, resamples, piece):
        rows = min(piece, resamples - start)
        chosen = generator.integers(0, number, (rows, number)) + number * np.arange(rows)[:, None]
        yield np.bincount(chosen.ravel(), minlength=rows * number).reshape(rows, number).astype(float)


def _studentised(
    sums: Floats, counts: Floats, level: float, resamples: int, seed: int
) -> tuple[float, float, float, float]:
    """Difference, low, high, p of the mean over items."""
    if len(sums) == 0:
        return math.nan, -math.inf, math.inf, 1.0
    difference = float(sums.sum() / counts.sum())
    number = len(sums)
    if number < FEWEST_GROUPS:
        return difference, -math.inf, math.inf, 1.0
    error = math.sqrt(_variance(sums, counts))
    # Equal up to rounding everywhere: nothing is left to resample.
    if error <= 1e-12 * max(abs(difference), float(np.abs(sums).max())):
        p = 1.0 if difference == 0 else max(2.0 ** (1 - number), 1 / (resamples + 1))
        return difference, difference, difference, p
    if number > MOST_GROUPS:
        pool = np.random.default_rng(seed).permutation(number) % MOST_GROUPS
        sums, counts = np.bincount(pool, sums).astype(float), np.bincount(pool, counts).astype(float)
        number = MOST_GROUPS
    centred = sums - difference * counts
    columns = np.stack([centred, counts, centred**2, centred * counts, counts**2], 1)
    ratios = []
    for weights in draws(number, resamples, seed):
        s, n, ss, sn, nn = (weights @ columns).T
        shift = s / n
        spread = np.maximum(ss - 2 * shift * sn + shift**2 * nn, 0.0) * (number / (number - 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append(np.nan_to_num(s / np.sqrt(spread), nan=0.0, posinf=np.inf, neginf=-np.inf))
    ratio = np.sort(np.concatenate(ratios))
    place = max(0, math.floor((resamples + 1) * (1 - level) / 2) - 1)
    low = difference - float(ratio[resamples - 1 - place]) * error
    high = difference - float(ratio[place]) * error
    observed = difference / error
    above = resamples - int(np.searchsorted(ratio, observed, "left"))
    below = int(np.searchsorted(ratio, observed, "right"))
    p = min(1.0, 2 * (1 + min(above, below)) / (resamples + 1))
    return difference, low, high, p


def t_cdf(t: float, freedom: float) -> float:
    """Student's t: the probability of a value up to `t`. By the incomplete beta's continued fraction (Lentz)."""
    if t == 0 or not math.isfinite(t):
        return 0.5 if t == 0 else float(t > 0)
    tail = 0.5 * _beta(freedom / (freedom + t * t), freedom / 2, 0.5)
    return 1 - tail if t > 0 else tail


def t_quantile(probability: float, freedom: float) -> float:
    """Student's t: the value below which `probability` lies, by bisection."""
    low, high = -1.0, 1.0
    while t_cdf(low, freedom) > probability:
        low *= 2
    while t_cdf(high, freedom) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def f_tail(ratio: float, above: float, below: float) -> float:
    """Fisher's F: the probability of a ratio above this one, with the degrees of freedom above and below."""
    return 1.0 if ratio <= 0 else float(_beta(below / (below + above * ratio), below / 2, above / 2))


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    f, c, d = 1.0, 1.0, 0.0
    for i in range(500):
        m = i // 2
        if i == 0:
            term = 1.0
        elif i % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / (1 + term * d or 1e-300)
        c = 1 + term / c or 1e-300
        f *= c * d
        if abs(1 - c * d) < 1e-14:
            break
    return front * (f - 1)
