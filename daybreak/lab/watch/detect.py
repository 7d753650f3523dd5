"""Detectors of what a training curve shows. Each is a pure function: record and curve in, one finding or none out.

The curve is the loss, or what the recipe says measures progress, turned so that lower is better. They know losses,
validation values and learning rates. Times and memory are in `system.py`, thresholds in
`finding.py`, what to try next in `advice.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from daybreak.lab import compare
from daybreak.lab.compare import Floats
from daybreak.lab.recipe import Gate
from daybreak.lab.watch import advice
from daybreak.lab.watch.curve import Curve, Line, line
from daybreak.lab.watch.finding import LIMITS, Finding, Limits
from daybreak.lab.watch.record import Record, Series

Items = Callable[[int], Sequence[str]]
NAMED_SPIKES = 3
NAMED_ITEMS = 8


def divergence(record: Record, curve: Curve, limits: Limits = LIMITS) -> Finding | None:
    """The curve left its best level and stayed away from it to the end of the record."""
    if len(curve) < 4:
        return None
    best = int(np.argmin(curve.level))
    floor, error = float(curve.level[best]), float(curve.error[best])
    progress = float(curve.level[0]) - floor
    end = curve.level[-3:] if len(curve) - best > 3 else curve.level[best + 1 :]
    if len(end) == 0:
        return None
    rise = float(end.min()) - floor
    needed = max(limits.rise * progress, limits.rise_z * error, 3 * float(np.median(curve.error[-3:])))
    if progress < limits.learned_z * error:  # it never fell: a small rise is wandering
        needed = max(needed, limits.rise_share * abs(floor))
    if len(end) < 3:  # the record ends early: only what is beyond doubt
        needed = max(2 * progress, 4 * needed)
    if not rise > needed:
        return None
    reached = record.reached.finite()
    if len(reached) >= 3:
        sign = 1 if record.goal.better == "lower" else -1
        # A goal that is at its best while the curve is up: the curve means something else here.
        if int(np.argmin(sign * reached.values)) == len(reached) - 1 and reached.steps[-1] >= curve.steps[-3]:
            return None
    away = np.flatnonzero(curve.level <= floor + needed / 2)[-1]
    step = int(curve.begins[min(int(away) + 1, len(curve) - 1)])
    now = float(np.median(curve.level[-3:]))
    told, turned = _told(record), _turned(record)
    return Finding(
        "divergence",
        record.run,
        step,
        f"diverged at about step {step:,}: {told} {'rose' if turned == 1 else 'fell'} from {_n(turned * floor)} to "
        f"{_n(turned * now)} and stayed there" + (f" (lr {record.lr.upto(step):.2g} then)" if len(record.lr) else ""),
        "alarm",
        {
            "best": turned * floor,
            "best_step": int(curve.steps[best]),
            "now": turned * now,
            "errors": rise / error if error else None,
        },
        advice.lower_rate(record, step),
    )


def not_learning(record: Record, curve: Curve, limits: Limits = LIMITS) -> Finding | None:
    """Neither the curve nor the goal moved further than noise."""
    if len(curve) < 5:
        return None
    late = max(2, len(curve) // 3)
    level = float(curve.level[-late:].mean())
    error = float(curve.error[-late:].mean()) / math.sqrt(late)
    sure = _surely_fell(curve, level, error)
    start = max(curve.start, float(curve.level[0]))
    early = max(1, len(curve) // 20)
    learned = sure > limits.learned_z
    if learned:
        # The fall of a net that only learns how frequent each answer is: small, at once, then nothing.
        rest = line(curve.level[early:]) if len(curve) - early >= 8 else None
        fell = start - level
        small = start > 0 and fell < limits.learned_share * start
        if not (small and rest and rest.z > -2 and abs(rest.change) < 0.2 * fell):
            return None
    reached = record.reached.finite()
    if len(reached) >= 2:
        sign = 1 if record.goal.better == "lower" else -1
        values = sign * reached.values
        # What the goal gained in the first twentieth counts only where it is much.
        later = int(np.searchsorted(reached.steps[:-1], curve.steps[early - 1]))
        if _gained(values[later:], limits, limits.goal_share):
            return None
        if not learned and _gained(values, limits, limits.learned_share):
            return None
    last, turned = record.last, _turned(record)
    return Finding(
        "not learning",
        record.run,
        int(curve.steps[-1]),
        f"did not learn: {_told(record)} went from {_n(turned * curve.start)} to {_n(turned * level)} in {last:,} "
        f"steps, where single steps vary by {_n(curve.noise)}"
        + (
            f"; {record.goal.name} from {_n(reached.values[0])} to {_n(reached.values[-1])}"
            if len(reached) >= 2
            else ""
        ),
        "alarm",
        {"start": turned * curve.start, "now": turned * level, "noise": curve.noise, "errors": sure},
        advice.search_rate(record),
    )


def _gained(values: Floats, limits: Limits, share: float) -> bool:
    """Whether the goal (lower is better) got better from its first value to its last third, beyond noise."""
    if len(values) < 2:
        return False
    gain = float(values[0] - np.median(values[-max(1, len(values) // 3) :]))
    return gain > max(1.5 * limits.learned_z * _spread(values[1:]), share * abs(float(values[0])))


def _surely_fell(curve: Curve, level: float, error: float) -> float:
    """How far the loss fell to its last level, in standard errors: the surest of several beginnings of the curve."""
    first = (curve.start - level) / math.hypot(error, 1.25 * curve.noise / math.sqrt(3)) / 1.5
    found = [first, -line(curve.level).z]
    for share in (0.0, 0.02, 0.05, 0.1, 0.2, 0.33):
        count = max(1, round(share * len(curve)))
        beginning = float(curve.error[:count].mean()) / math.sqrt(count)
        found.append((float(curve.level[:count].mean()) - level) / math.hypot(error, beginning))
    return max(found)


def spikes(record: Record, curve: Curve, limits: Limits = LIMITS, items: Items | None = None) -> Finding | None:
    """Single steps whose loss stands far above the steps before and after."""
    series = record.loss.finite()
    if len(series) < 3 * curve.width or len(curve) < 3:
        return None
    values = series.values
    heights, local = _heights(values, curve)
    typical = np.abs(heights[local > 0] / local[local > 0])
    if not len(typical):
        return None
    # 1.4826 deviations are one standard deviation of normal noise.
    needed = local * max(limits.spike / 1.4826, limits.spike_tail * float(np.quantile(typical, 0.9)))
    places = [int(p) for p in np.flatnonzero(heights > needed) if _stands_out(values, int(p), float(needed[p]))]
    if len(places) <= max(limits.spike_count, limits.spike_share * len(values)):
        return None
    highest = sorted(places, key=lambda place: -heights[place])[:NAMED_SPIKES]
    named = {
        int(series.steps[p]): [str(i) for i in items(int(series.steps[p]) - 1)] if items else []
        for p in sorted(highest)
    }
    often = (
        _often(
            [items(int(series.steps[p]) - 1) for p in places],
            [items(int(s) - 1) for s in series.steps[:: max(1, len(series) // 50)]],
        )
        if items
        else []
    )
    text = (
        f"{len(places)} spikes of the loss, the highest at step{'s' * (len(named) > 1)} "
        f"{', '.join(f'{step:,}' for step in named)}: up to {_n(values[highest[0]])} "
        f"where its neighbours are near {_n(values[highest[0]] - heights[highest[0]])}"
    )
    if often:
        text += (
            f"; in their batches most often: {', '.join(f'{item} ({count} of {len(places)})' for item, count in often)}"
        )
    elif items:
        first = next(iter(named))
        text += f"; the batch of step {first:,}: {', '.join(named[first][:NAMED_ITEMS])}" + (
            " ..." if len(named[first]) > NAMED_ITEMS else ""
        )
    return Finding(
        "spikes",
        record.run,
        int(series.steps[highest[0]]),
        text,
        "warn",
        {
            "steps": [int(series.steps[p]) for p in places][:200],
            "count": len(places),
            "needed": float(needed[highest[0]]),
            "items": named,
            "often": [list(pair) for pair in often],
        },
        advice.clip(record),
    )


def over_fitting(record: Record, curve: Curve, limits: Limits = LIMITS) -> Finding | None:
    """The goal was best well before the end and got worse since, while the training curve got no worse."""
    reached = record.reached.finite()
    if len(reached) < 5 or not len(curve):
        return None
    sign = 1 if record.goal.better == "lower" else -1
    values, steps = sign * reached.values, reached.steps
    best = int(np.argmin(values))
    if steps[best] >= limits.best_before * steps[-1] or len(values) - best < 3:
        return None
    # What came after the best: its last third against its first, or against the best and its neighbour, which is the
    # sharper test where it got worse at once, but flattered by having been picked.
    tail = values[best:]
    part = max(1, len(tail) // 3)
    noise = _noise(tail if len(tail) >= 6 else values[1:])
    late, floor = float(tail[-part:].mean()), float(tail[:2].mean())
    rise = late - floor
    errors = max(
        _over(late - float(tail[:part].mean()), noise * math.sqrt(2 / part)),
        _over(rise, noise * math.sqrt(1 / part + 1 / 2)) - limits.picked_z,
    )
    progress = float(values[0]) - floor
    if not (errors > limits.worse_z and rise > limits.worse_share * progress):
        return None
    at = min(int(np.searchsorted(curve.steps, steps[best])), len(curve) - 1)
    then, after = curve.level[max(0, at - 1) : at + 2], curve.level[-max(2, len(curve) // 10) :]
    if after.mean() > then.mean() + 2 * float(curve.error[at]):
        return None
    # Where the goal had never improved, only a loss that surely fell on tells over-fitting from wandering.
    fell = float(then.mean() - after.mean()) / math.hypot(float(curve.error[at]), float(curve.error[-1]))
    if progress < 4 * noise and max(fell, -line(curve.level[at:]).z) < limits.worse_z:
        return None
    step = int(steps[best])
    unit = f" {record.goal.unit}" if record.goal.unit else ""
    evidence = {
        "best": float(sign * values.min()),
        "step": step,
        "now": float(reached.values[-1]),
        "worse": rise,
        "errors": errors if math.isfinite(errors) else None,
    }
    return Finding(
        "over-fitting",
        record.run,
        step,
        f"over-fitted after step {step:,}: {record.goal.name} went from {_n(sign * values.min())} "
        f"to {_n(reached.values[-1])}{unit} "
        f"while {'the training loss' if record.progress.name == 'loss' else _told(record)} went from "
        f"{_n(_turned(record) * float(then.mean()))} to {_n(_turned(record) * float(after.mean()))}",
        "warn",
        evidence,
        advice.stop_earlier(record, step),
    )


def plateau(record: Record, curve: Curve, limits: Limits = LIMITS) -> Finding | None:
    """Nothing was gained in the last part of the run: it could have stopped at step N."""
    if len(curve) < 10:
        return None
    progress = max(curve.start, float(curve.level[0])) - float(curve.level[-3:].mean())
    if progress <= 0:
        return None
    if line(curve.level[-max(5, round(limits.flat_tail * len(curve))) :]).z < -2 * limits.flat_z:
        return None
    from_place, gained = None, 0.0
    for share in (limits.flat_tail, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        tail = curve.level[-max(5, round(share * len(curve))) :]
        change, error = _together([(line(tail), progress), *_goal_line(record, share)])
        # A longer part may gain more in all: it is the rate that tells a flat run from a slow one.
        most = limits.flat_gain * share / limits.flat_tail
        surely = max(-change + 1.7 * error, abs(change))
        if change > -limits.flat_z * error and surely < most:
            from_place, gained = len(curve) - len(tail), surely
    if from_place is None:
        return None
    step = int(curve.begins[from_place]) - 1
    if _goal_moved(record, step, limits):
        return None
    level = _turned(record) * float(curve.level[from_place:].mean())
    last = record.last
    return Finding(
        "plateau",
        record.run,
        step,
        f"could have stopped at step {step:,} of {last:,}: {_told(record)} stayed at {_n(level)} since "
        f"(at most {100 * gained:.1f} % of its whole progress came after)",
        "warn",
        {"stop": step, "of": last, "level": level, "gained_share": gained, "spared": 1 - step / last if last else 0.0},
        advice.stop_earlier(record, step, dropout=False),
    )


def _goal_line(record: Record, share: float) -> list[tuple[Line, float]]:
    """The goal's last part as a line (lower is better), with the goal's whole progress; none where it says little."""
    reached = record.reached.finite()
    sign = 1 if record.goal.better == "lower" else -1
    values = sign * reached.values
    tail = values[reached.steps >= (1 - share) * record.last]
    if len(tail) < 5:
        return []
    whole = float(values[0] - np.median(tail))
    return [(line(tail), whole)] if whole > 0 else []


def _together(lines: Sequence[tuple[Line, float]]) -> tuple[float, float]:
    """Changes as shares of their progress, weighted by their precision: the change and its standard error."""
    weights, sums = 0.0, 0.0
    for fitted, progress in lines:
        # Few values: the error is itself uncertain, as in Student's t.
        widened = compare.t_quantile(0.95, fitted.freedom) / 1.645 if fitted.freedom < 30 else 1.0
        weight = (progress / (fitted.error * widened)) ** 2 if fitted.error > 0 else 1e12
        weights += weight
        sums += weight * fitted.change / progress
    return sums / weights, weights**-0.5


def _goal_moved(record: Record, step: int, limits: Limits) -> bool:
    """Whether the goal went on improving after a step, beyond its noise."""
    reached = record.reached.finite()
    if len(reached) < 3:
        return False
    sign = 1 if record.goal.better == "lower" else -1
    values = sign * reached.values
    before, after = values[reached.steps < step], values[reached.steps >= step]
    whole = float(values[0] - values.min())
    if len(after) >= 4:
        fitted = line(after)
        sure = compare.t_quantile(0.975, fitted.freedom)
        return fitted.z < -sure and -fitted.change > 2 * limits.flat_gain * whole
    if not len(after) or len(before) < 2:
        return False
    gained = float(before[-1] - after.min())
    return gained > max(5 * limits.flat_gain * whole, 3 * _noise(values[1:]))


def regression(record: Record, best: Record, limits: Limits = LIMITS) -> Finding | None:
    """Worse than the best on the items of both, at 99.5 %; at equal steps where the run stopped early."""
    if not record.scores or not best.scores or record.goal.name != best.goal.name:
        return None
    step = max(record.scores)
    other = step if step in best.scores else max(best.scores) if record.state == "finished" else None
    if other is None or not set(record.scores[step].items) & set(best.scores[other].items):
        return None
    interval = compare.paired(record.scores[step], best.scores[other], record.goal, level=limits.level)
    if interval.verdict != "worse":
        return None
    at = f"step {step:,}" if step == other else f"steps {step:,} and {other:,}"
    return Finding(
        "regression",
        record.run,
        step,
        f"{record.goal.name} is worse than {best.run} at {at}: {compare.words(interval)}",
        "alarm",
        {"against": best.run, **asdict(interval)},
    )


def gate_reached(record: Record, gates: Iterable[Gate]) -> Finding | None:
    """Every gate of the recipe is passed on validation items: the run may be worth registering."""
    told = []
    for gate in gates:
        series = record.validation.get(gate.metric.name)
        if series is None or not len(series) or not gate.passes(float(series.values[-1])):
            return None
        sign = "<=" if gate.metric.better == "lower" else ">="
        told.append(
            (
                gate,
                float(series.values[-1]),
                f"{gate.metric.name} {_n(series.values[-1])} {sign} {_n(gate.bound)} {gate.metric.unit}".rstrip(),
            )
        )
    if not told:
        return None
    return Finding(
        "gate",
        record.run,
        record.last,
        f"passes {len(told)} of {len(told)} gates on validation items: {', '.join(text for _, _, text in told)}",
        "good",
        {gate.metric.name: {"value": value, "bound": gate.bound} for gate, value, _ in told},
        ("registry", "add", str(record.number)) if record.state == "finished" else None,
    )


# Arithmetic.


def _n(value: float) -> str:
    """A number with four digits."""
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:.3g}"


def _over(value: float, error: float) -> float:
    """A value in standard errors."""
    return value / error if error > 0 else math.inf if value > 0 else 0.0


def _noise(values: Floats) -> float:
    """Standard deviation of evaluations around their trend, from second differences; robust where there are enough."""
    if len(values) < 4:
        return float(np.abs(np.diff(values)).mean()) if len(values) > 1 else 0.0
    bends = np.abs(values[:-2] - 2 * values[1:-1] + values[2:]) / math.sqrt(6)
    return float(max(1.4826 * np.median(bends), 0.5 * math.sqrt(float((bends**2).mean()))))


def _spread(values: Floats) -> float:
    """Standard deviation around the best falling curve: noise, and slow wandering too, which differences miss."""
    blocks: list[tuple[float, int]] = []
    for value in values:  # pool adjacent violators
        level, count = float(value), 1
        while blocks and blocks[-1][0] < level:
            before, number = blocks.pop()
            level, count = (before * number + level * count) / (number + count), number + count
        blocks.append((level, count))
    fitted = np.repeat([level for level, _ in blocks], [count for _, count in blocks])
    return max(_noise(values), float(np.sqrt(((values - fitted) ** 2).mean())))


def _heights(values: Floats, curve: Curve) -> tuple[Floats, Floats]:
    """Each value above the level of its window, the levels joined by straight lines; and the noise there."""
    count, width = len(curve), curve.width
    centres = len(values) - count * width + width * (np.arange(count) + 0.5)
    at = np.arange(len(values))
    return values - np.interp(at, centres, curve.level), np.interp(at, centres, curve.single)


def _stands_out(values: Floats, place: int, needed: float, reach: int = 10) -> bool:
    """Whether a value is above both what came before and what came after: a step of a slope is not."""
    before, after = values[max(0, place - reach) : place], values[place + 1 : place + 1 + reach]
    if len(before) < 5 or len(after) < 3:
        return False
    return bool(values[place] - max(np.median(before), np.median(after)) > needed)


def _often(spiky: Sequence[Sequence[str]], usual: Sequence[Sequence[str]]) -> list[tuple[str, int]]:
    """Items that are in two spikes' batches or more, and in a larger share of them than of other batches."""
    counts: dict[str, int] = {}
    for batch in spiky:
        for item in set(batch):
            counts[item] = counts.get(item, 0) + 1
    found = []
    for item, count in counts.items():
        elsewhere = sum(item in batch for batch in usual) / max(1, len(usual))
        if count >= 2 and count / len(spiky) > 4 * elsewhere + 0.2:
            found.append((item, count))
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:NAMED_SPIKES]


def curve_of(record: Record) -> Curve:
    """The curve of what measures the record's progress, lower is better."""
    series = record.training.finite()
    return Curve.of(Series(series.steps, _turned(record) * series.values))


def loss_of(record: Record) -> Curve:
    """The curve of the record's training loss."""
    return Curve.of(record.loss.finite())


def _turned(record: Record) -> int:
    """1, or -1 where what measures progress is better when higher."""
    return 1 if record.progress.better == "lower" else -1


def _told(record: Record) -> str:
    """What measures progress, in words."""
    return "the loss" if record.progress.name == "loss" else f"the training {record.progress.name}"
