"""Watch: what went wrong or well in a run, each with its evidence and, where there is one, the next experiment.

`watch(Record.of(run))` runs every detector. They are pure functions of numbers: nothing here trains, opens an item or
writes a file.
"""

from __future__ import annotations

from collections.abc import Iterable

from daybreak.lab.recipe import Gate
from daybreak.lab.watch import detect, finite, system
from daybreak.lab.watch.detect import Items
from daybreak.lab.watch.finding import LIMITS, Finding, Limits
from daybreak.lab.watch.record import Record, Series, Window

__all__ = ["Finding", "Limits", "Record", "Series", "Window", "watch"]

ORDER = {"alarm": 0, "warn": 1, "good": 2}


def watch(
    record: Record,
    previous: Record | None = None,
    best: Record | None = None,
    gates: Iterable[Gate] = (),
    *,
    items: Items | None = None,
    limits: Limits = LIMITS,
) -> list[Finding]:
    """Every finding about a run, alarms first.

    `previous` is an earlier run of the same recipe (last night's), for speed; `best` the run to beat, with its scores;
    `gates` the recipe's. `items` is `Batches.items` (the index of a step's batch -> ids), so that a spike names the
    items of its batch.
    """
    curve = detect.curve_of(record)
    not_finite = finite.non_finite(record)
    broken = not_finite is not None and not_finite.kind == "non-finite"
    diverged = detect.divergence(record, curve, limits)
    stuck = None if diverged or broken else detect.not_learning(record, curve, limits)
    # A run that blew up or stood still has no plateau, and its wild steps are no spikes.
    healthy = not (broken or diverged or stuck)
    over = detect.over_fitting(record, curve, limits) if healthy else None
    found = [
        not_finite,
        diverged,
        stuck,
        detect.spikes(record, detect.loss_of(record), limits, items) if not diverged else None,
        over,
        detect.plateau(record, curve, limits) if healthy and not over else None,
        system.data_stall(record, limits),
        system.slower(record, previous, limits) if previous is not None else None,
        system.slowing(record, limits),
        detect.regression(record, best, limits) if best is not None and best.number != record.number else None,
        system.memory(record),
        system.disk(record),
        detect.gate_reached(record, gates),
    ]
    return sorted((finding for finding in found if finding is not None), key=lambda finding: ORDER[finding.weight])
