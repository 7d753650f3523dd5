"""Learning curves: the goal as training itself meets it, with an interval over seeds that were trained side by side.

A recipe whose `step` logs a value of the goal's own name has one (an agent's return while it learns); "NAME/seed-K"
beside it is that value of seed K. It knows records; it draws nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from daybreak.lab.morning.plots import Point, thin
from daybreak.lab.watch import Record

FEWEST = 3
"""Seeds below which an interval over them says nothing."""
PLACES = 200
"""Points of a curve with an interval."""
RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Learning:
    """A curve over the clock, and the interval's ends at the same places; none over fewer than three seeds."""

    points: list[Point]
    band: list[tuple[float, float, float]]
    """(clock, low, high)."""
    seeds: int


def learning(record: Record) -> Learning | None:
    """The learning curve of a run; None where its training logs no value of the goal's name.

    Over seeds it is their interquartile mean, the interval its percentile bootstrap at 95 % (Agarwal et al. 2021,
    sections 4.1 and 4.3).
    """
    pattern = re.compile(re.escape(record.goal.name) + r"/seed-\d+")
    each = [series.finite() for name, series in record.train.items() if pattern.fullmatch(name)]
    if len(each) < FEWEST:
        series = record.train.get(record.goal.name)
        if series is None or not len(series):
            return None
        return Learning(thin(record.on_clock(series.steps), series.values), [], max(1, len(each)))
    common = each[0].steps
    for series in each[1:]:
        common = np.intersect1d(common, series.steps)
    if not len(common):
        return None
    steps = common[np.unique(np.linspace(0, len(common) - 1, PLACES).astype(int))]
    values = np.stack([series.values[np.searchsorted(series.steps, steps)] for series in each])
    middle, low, high = interval(values)
    places = [float(place) for place in record.on_clock(steps)]
    return Learning(
        [(x, float(y)) for x, y in zip(places, middle, strict=True)],
        [(x, float(a), float(b)) for x, a, b in zip(places, low, high, strict=True)],
        len(each),
    )


def interquartile(values: np.ndarray) -> np.ndarray:
    """Over the first axis, the seeds: the mean of the middle half of the seeds; of all, under four of them."""
    cut = len(values) // 4
    middle: np.ndarray = np.sort(values, axis=0)[cut : len(values) - cut].mean(0)
    return middle


def interval(values: Float[np.ndarray, "seeds places"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The interquartile mean over seeds at each place, and the ends of its bootstrap interval. The same seeds are drawn
    at all places."""
    random = np.random.default_rng(0)
    drawn = random.integers(len(values), size=(len(values), RESAMPLES))
    ends = np.quantile(interquartile(values[drawn]), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return interquartile(values), ends[0], ends[1]
