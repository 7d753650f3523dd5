"""Curves of runs with and without faults, for the detectors of `daybreak.lab.watch`.

`laws` draws them from formulas; the limits were chosen on it. `dynamics` simulates training; the figures are reported
on it. `trainings` trains small nets and makes the fault happen. The three share nothing but `Case`.
"""

from __future__ import annotations

from dataclasses import dataclass

from daybreak.lab.watch import Record


@dataclass(frozen=True)
class Case:
    """One run, what is wrong with it ("healthy" when nothing is), and the runs to hold it against."""

    fault: str
    record: Record
    previous: Record | None = None
    best: Record | None = None


FAULTS = (
    "non-finite", "divergence", "not learning", "spikes", "over-fitting", "plateau", "data stall", "slower", "slowing",
    "regression", "memory", "disk",
)  # fmt: skip
