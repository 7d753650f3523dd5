"""A noisy curve cut into windows: level and noise of each, and straight lines with an honest error.

The level of a window is the mean of its middle half: nearly as efficient as the mean for normal noise, and as deaf to
single wild steps as the median. The file knows numbers only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from daybreak.lab.compare import Floats
from daybreak.lab.watch.record import Integers, Series

SMALLEST = 20
"""Steps in a window, at least."""
MOST = 100
"""Windows in a curve, about."""


@dataclass(frozen=True)
class Curve:
    """A training curve as windows."""

    begins: Integers
    """The first step of each window."""
    steps: Integers
    """The last step of each window."""
    width: int
    level: Floats
    error: Floats
    """Standard error of each level, neighbours' noise pooled."""
    single: Floats
    """Standard deviation of one step around the trend, in each window."""
    noise: float
    """Typical standard deviation of one step around the trend."""
    start: float
    """Level at the very beginning: the median of the first three steps."""

    def __len__(self) -> int:
        return len(self.level)

    @classmethod
    def of(cls, series: Series) -> Curve:
        """Cut a series of finite values. Steps that do not fill a window are left out at the start."""
        values, steps = series.values, series.steps
        width = max(SMALLEST, len(values) // MOST)
        count = len(values) // width
        if count == 0:
            empty = np.array([], float)
            return cls(np.array([], np.int64), np.array([], np.int64), width, empty, empty, empty, math.nan, math.nan)
        first = len(values) - count * width
        table = values[first:].reshape(count, width)
        ordered = np.sort(table, 1)
        level = ordered[:, width // 4 : width - width // 4].mean(1)
        # Noise from differences of neighbours, so that a trend inside a window is not taken for noise.
        apart = np.abs(np.diff(table, axis=1))
        single = 1.4826 * np.median(apart, 1) / math.sqrt(2)
        single = _smooth(single)
        error = 1.1 * single / math.sqrt(width)
        # Noise that is correlated over steps shows between windows: it widens all errors alike.
        if count >= 8:
            bends = np.abs(level[:-2] - 2 * level[1:-1] + level[2:]) / math.sqrt(6)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = 1.4826 * np.median(bends / error[1:-1])
            if math.isfinite(ratio):
                error = error * max(1.0, ratio)
        return cls(
            steps[first:].reshape(count, width)[:, 0],
            steps[first:].reshape(count, width)[:, -1],
            width,
            level,
            error,
            single,
            float(np.median(single)),
            float(np.median(values[:3])),
        )


def _smooth(values: Floats) -> Floats:
    """Running median of five: one odd window does not set its own noise."""
    if len(values) < 5:
        return np.full(len(values), np.median(values))
    padded = np.pad(values, 2, "edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), 1)


@dataclass(frozen=True)
class Line:
    """A straight line through values: how much they change from end to end, with the standard error."""

    change: float
    error: float
    freedom: int

    @property
    def z(self) -> float:
        """The change in standard errors."""
        return (
            self.change / self.error if self.error > 0 else math.copysign(math.inf, self.change) if self.change else 0
        )


def line(values: Floats, x: Floats | None = None) -> Line:
    """Least squares over `x` (evenly spaced without one). The error grows with the residuals' lag-1 correlation."""
    count = len(values)
    if count < 3:
        return Line(float(values[-1] - values[0]) if count else 0.0, math.inf, 0)
    at = np.arange(count, dtype=float) if x is None else np.asarray(x, float)
    centred = at - at.mean()
    squares = float(centred @ centred)
    slope = float(centred @ values) / squares
    residuals = values - values.mean() - slope * centred
    variance = float(residuals @ residuals) / (count - 2)
    if count >= 8 and variance > 0:
        rho = float(residuals[1:] @ residuals[:-1]) / float(residuals @ residuals)
        rho = min(max(rho + 1 / count, 0.0), 0.9)
        variance *= (1 + rho) / (1 - rho)
    reach = float(at[-1] - at[0])
    return Line(slope * reach, math.sqrt(variance / squares) * reach, count - 2)
