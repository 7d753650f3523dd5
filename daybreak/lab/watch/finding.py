"""What a detector says, and the limits at which it says it. Every threshold of `daybreak.lab.watch` is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "non-finite", "undefined", "divergence", "not learning", "spikes", "over-fitting", "plateau",
    "data stall", "slower", "slowing", "regression", "memory", "disk", "gate",
]  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that went wrong or well, with its evidence."""

    kind: Kind
    run: str
    """Title of the run."""
    step: int | None
    """Where it shows on the curve."""
    text: str
    """One sentence with the evidence and its units, without a trailing full stop."""
    weight: Literal["alarm", "warn", "good"] = "warn"
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """The figures of the text, for `data.json`: plain values."""
    next: tuple[str, ...] | None = None
    """The next experiment: arguments after `daybreak`."""


@dataclass(frozen=True)
class Limits:
    """When a detector speaks. Tuned on one generator of curves, reported on another: docs/watch.md."""

    rise: float = 1 / 3
    """Divergence: rise above the lowest level, as a share of the progress made before it."""
    rise_z: float = 8.0
    """Divergence: the same rise in standard errors."""
    rise_share: float = 0.1
    """Divergence of a loss that never fell: rise as a share of its size."""
    learned_z: float = 4.0
    """Not learning: progress below so many standard errors is none."""
    learned_share: float = 0.05
    """Not learning: a fall of less than this share of the start, all of it in the first twentieth of the run."""
    goal_share: float = 0.01
    """Not learning: a goal that moved less than this share of its start did not move."""
    spike: float = 12.0
    """Spikes: height above the neighbourhood in median absolute deviations."""
    spike_tail: float = 8.0
    """Spikes: the same height in multiples of the noise's 90th percentile, for noise with heavy tails."""
    spike_count: int = 3
    """Spikes: so many are nothing yet."""
    spike_share: float = 0.0005
    """Spikes: nor is this share of the steps."""
    worse_z: float = 3.3
    """Over-fitting: how far the last third after the best evaluation is above it, in standard errors."""
    picked_z: float = 1.5
    """Over-fitting: what the best evaluation owes to having been picked, in standard errors."""
    worse_share: float = 0.03
    """Over-fitting: the same as a share of the goal's whole progress."""
    best_before: float = 0.8
    """Over-fitting: the best evaluation lies before this share of the run."""
    flat_tail: float = 0.3
    """Plateau: the shortest last part of a run that may be called flat, as a share of the run."""
    flat_gain: float = 0.009
    """Plateau: gain in `flat_tail` of a run that is surely not exceeded, as a share of the whole progress."""
    flat_z: float = 1.5
    """Plateau: a slope of so many standard errors is not flat."""
    stall: float = 0.2
    """Data stall: median share of the time spent waiting for batches."""
    stall_window: float = 0.5
    """Data stall: share of one window; two such windows are enough."""
    slower: float = 1.15
    """Slower: median step against the earlier run's."""
    slowing: float = 1.25
    """Slowing: the last tenth of the windows against the second tenth."""
    slow_z: float = 3.0
    """Slower and slowing: the same in standard errors."""
    level: float = 0.995
    """Regression: level of the interval."""


LIMITS = Limits()
