"""Simulated training: the generator on which the detectors are reported. No limit was chosen on it.

Losses come from stochastic gradient descent on noisy quadratics (a spectrum of curvatures, batches whose optimum
differs) and on logistic regressions with held-out items; faults are what makes them in life: a rate beyond stability,
frozen weights, answers shuffled, a corrupt item met once an epoch, too few noisy labels, a loader slower than the
step, a cache that grows, checkpoints that nobody deletes. Where a curve has a truth (how much is still gained, how
much the held-out loss rises), the label comes from the noise-free value, never from a detector.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.curves import Case
from daybreak.lab.compare import Goal, Scores
from daybreak.lab.watch import Record, Series, Window

GOAL = Goal("held-out loss", "lower", "nats")
TOGETHER = 25


@dataclass
class Runs:
    """Several simulated runs side by side: rows are runs."""

    loss: np.ndarray
    at: np.ndarray
    """Steps of the evaluations."""
    held_out: np.ndarray
    truth: np.ndarray
    """Expected loss after each step, without noise."""
    rate: np.ndarray


def cases(fault: str, count: int, seed: int = 0) -> Iterator[Case]:
    """`count` runs with that fault; "healthy" for none."""
    rng = np.random.default_rng((seed, sum(map(ord, fault))))
    made = 0
    while made < count:
        steps = int(rng.choice([400, 700, 1200, 2000, 3000]))
        for case in _some(rng, fault, steps):
            if made < count:
                made += 1
                yield case


def _some(rng: np.random.Generator, fault: str, steps: int) -> Iterator[Case]:
    if fault == "over-fitting":
        runs = _logistic(rng, steps, few=True)
        for row in range(len(runs.loss)):
            held = runs.held_out[row]
            best = int(np.argmin(held))
            if held[-1] - held[best] > 0.05 * (held[0] - held[best]) and runs.at[best] < 0.75 * steps:
                yield _case(rng, fault, runs, row, steps)
        return
    if fault == "not learning" and rng.random() < 0.4:
        runs = _logistic(rng, steps, shuffled=True)
        yield from (_case(rng, fault, runs, row, steps) for row in range(len(runs.loss)))
        return
    if fault not in ("plateau", "divergence", "non-finite", "spikes", "not learning") and rng.random() < 0.4:
        runs = _logistic(rng, steps)
    else:
        runs = _quadratic(rng, steps, fault)
    for row in range(len(runs.loss)):
        truth = runs.truth[row]
        progress = truth[0] - truth[-1]
        if fault == "divergence":
            low = truth.min()
            if not np.isfinite(runs.loss[row]).all() or truth[-steps // 20 :].min() - low < 0.5 * (truth[0] - low):
                continue
        elif fault == "non-finite":
            if np.isfinite(runs.loss[row]).all():
                continue
        elif fault == "plateau":
            if truth[int(0.65 * steps)] - truth[-1] > 0.001 * progress:
                continue
        elif fault != "not learning" and (
            truth[int(0.7 * steps)] - truth[-1] < 0.012 * progress or progress < 0.05 * truth[0]
        ):
            continue  # it stands still, or hardly learns: neither healthy nor a fault on its own
        yield _case(rng, fault, runs, row, steps)


def _rates(rng: np.random.Generator, steps: int, peak: np.ndarray) -> np.ndarray:
    """A learning rate for each run and step: constant, cosine, steps down, with or without warm-up."""
    through = np.arange(steps) / steps
    shapes = np.stack(
        [np.ones(steps), 0.5 * (1 + np.cos(np.pi * through)), np.where(through > 0.6, 0.2, 1.0), 1 - 0.9 * through]
    )
    warm = np.minimum(1, (1 + np.arange(steps)) / np.maximum(1, rng.uniform(0, 0.08, (len(peak), 1)) * steps))
    return peak[:, None] * shapes[rng.integers(0, 4, len(peak))] * warm


def _quadratic(rng: np.random.Generator, steps: int, fault: str) -> Runs:
    count, size = TOGETHER, 24
    curvature = np.arange(1, size + 1) ** -rng.uniform(0.5, 2.2, (count, 1))
    peak = np.exp(rng.uniform(np.log(0.02), np.log(0.6), count))
    if fault == "plateau":
        # Enough rate and little spread of curvatures: everything is learned before the end.
        curvature = np.arange(1, size + 1) ** -rng.uniform(0.0, 0.5, (count, 1))
        peak = np.exp(rng.uniform(np.log(10), np.log(40), count)) / (steps * curvature[:, -1])
        peak = np.minimum(peak, 0.6)
    rate = _rates(rng, steps, peak)
    if fault == "plateau":
        rate = np.repeat(peak[:, None], steps, 1)
    bound = np.full(count, np.inf)
    if fault in ("divergence", "non-finite"):
        onset = (steps * rng.uniform(0.05, 0.9, count)).astype(int)
        beyond = rng.uniform(2.05, 4, count)  # times the curvature: stable below 2
        rate = np.where(np.arange(steps) >= onset[:, None], beyond[:, None], rate)
        if fault == "divergence":
            bound = np.exp(rng.uniform(np.log(0.5), np.log(6), count))
    spread = np.exp(rng.uniform(np.log(0.05), np.log(0.5), (count, 1))) / np.sqrt(curvature)
    floor = rng.uniform(0, 3, count)
    at = np.unique(np.linspace(0, steps, int(rng.integers(5, 35))).astype(int))
    place = rng.normal(0, 1, (count, size)) * rng.uniform(1, 4, (count, 1))
    mean, variance = place.copy(), np.zeros_like(place)
    shift = rng.normal(0, 1, (count, size)) * spread * 0.1  # the held-out items' own optimum
    epoch = max(10, int(steps / rng.uniform(6, 20)))
    corrupt = rng.integers(0, epoch, count)
    order = np.zeros((count, steps), bool)
    if fault == "spikes":
        for first in range(0, steps, epoch):
            when = first + (rng.permutation(epoch)[:1][0] + corrupt) % epoch
            rows = np.flatnonzero(when < steps)
            order[rows, when[rows]] = True
        order[:, : steps // 50 + 10] = False
        order[:, -5:] = False
    wild = rng.uniform(30, 120, (count, 1))
    frozen = fault == "not learning"
    loss, truth = np.empty((count, steps)), np.empty((count, steps))
    held = []
    wanted = set(at.tolist())
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps):
            if step in wanted:
                held.append(floor + 0.5 * (curvature * (place - shift) ** 2).sum(1))
            optimum = rng.normal(0, 1, (count, size)) * spread
            optimum = np.where(order[:, step : step + 1], optimum * wild, optimum)
            loss[:, step] = floor + 0.5 * (curvature * (place - optimum) ** 2).sum(1)
            truth[:, step] = floor + 0.5 * (curvature * (mean**2 + variance + spread**2)).sum(1)
            pace = rate[:, step : step + 1] * (0.0 if frozen else 1.0)
            gradient = curvature * (place - optimum)
            norm = np.sqrt((gradient**2).sum(1, keepdims=True))
            # A corrupt batch is clipped, as most recipes would: it leaves a mark, not a ruin.
            limit = np.where(order[:, step : step + 1], 1.0, bound[:, None])
            place = place - pace * gradient * np.minimum(1, limit / np.maximum(norm, 1e-300))
            if np.isfinite(bound).any():
                mean, variance = place.copy(), np.zeros_like(place)
            else:
                mean = mean * (1 - pace * curvature)
                variance = variance * (1 - pace * curvature) ** 2 + (pace * curvature * spread) ** 2
            if fault == "non-finite":
                place = np.where(np.abs(place) > 3e38**0.5, np.inf, place)  # where single precision squares overflow
        held.append(floor + 0.5 * (curvature * (place - shift) ** 2).sum(1))
    return Runs(loss, at, np.array(held).T, truth, peak)


def _logistic(rng: np.random.Generator, steps: int, few: bool = False, shuffled: bool = False) -> Runs:
    count, size, batch = TOGETHER, 30, 16
    number = int(rng.integers(40, 120)) if few else 3000
    answer = rng.normal(0, 1, (count, size)) * rng.uniform(0.2, 0.8, (count, 1))
    scale = np.arange(1, size + 1) ** -rng.uniform(0, 1)
    inputs = rng.normal(0, 1, (count, number, size)) * scale
    labels = (rng.random((count, number)) < _chance(np.einsum("rnd,rd->rn", inputs, answer))).astype(float)
    if few:
        flipped = rng.random(labels.shape) < rng.uniform(0.05, 0.25, (count, 1))
        labels = np.where(flipped, 1 - labels, labels)
    fresh = rng.normal(0, 1, (count, 600, size)) * scale
    targets = (rng.random((count, 600)) < _chance(np.einsum("rnd,rd->rn", fresh, answer))).astype(float)
    peak = np.exp(rng.uniform(np.log(0.1), np.log(1.0), count)) if few else np.exp(rng.uniform(-5, -2.5, count))
    rate = _rates(rng, steps, peak)
    weights = rng.normal(0, 1, (count, size)) * (0.02 if shuffled else 0.3)  # near the prior: nothing to unlearn
    at = np.unique(np.linspace(0, steps, int(rng.integers(8, 35))).astype(int))
    loss, truth, held = np.empty((count, steps)), np.full((count, steps), np.nan), []
    rows = np.arange(count)[:, None]
    for step in range(steps + 1):
        if step in at:
            held.append(_nll(np.einsum("rnd,rd->rn", fresh, weights), targets).mean(1))
        if step == steps:
            break
        chosen = rng.integers(0, number, (count, batch))
        x, y = inputs[rows, chosen], labels[rows, chosen]
        if shuffled:
            y = rng.permuted(labels, axis=1)[:, :batch]
        margin = np.einsum("rbd,rd->rb", x, weights)
        loss[:, step] = _nll(margin, y).mean(1)
        weights = weights - rate[:, step : step + 1] * np.einsum("rb,rbd->rd", _chance(margin) - y, x) / batch
    held_out = np.array(held).T
    for row in range(count):
        truth[row] = np.interp(np.arange(steps), at, held_out[row])
    return Runs(loss, at, held_out, truth, peak)


def _chance(margin: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(margin, -50, 50)))


def _nll(margin: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, -np.where(labels > 0.5, margin, -margin))


def _case(rng: np.random.Generator, fault: str, runs: Runs, row: int, steps: int) -> Case:
    leaking = fault in ("memory", "disk")
    record = Record(
        run="simulated#8",
        number=8,
        state="running" if leaking else "finished",
        planned=3 * steps if leaking else steps,
        train={"loss": Series(np.arange(1, steps + 1), runs.loss[row])},
        validation={GOAL.name: Series(runs.at, runs.held_out[row])},
        goal=GOAL,
        windows=_machine(rng, steps, fault),
        config={"lr": float(runs.rate[row]), "steps": steps, "loaders": 2},
        recipe="simulated:sgd",
        memory_mb=8000.0,
    )
    best = None
    if fault == "regression":
        ours, theirs = _judged(rng)
        record = replace(record, scores={steps: ours})
        best = Record(run="simulated#7", number=7, scores={steps: theirs}, goal=GOAL)
    usual = Record(run="simulated#6", windows=_machine(rng, steps, "usual"), config=record.config, recipe=record.recipe)
    return Case(fault, record, usual, best)


def _machine(rng: np.random.Generator, steps: int, fault: str) -> tuple[Window, ...]:
    """A step after another, beside a loader with a queue of four: where the time of each window went."""
    base = 0.03
    cost = base * rng.gamma(100, 0.01, steps) * (1 + 0.5 * (rng.random(steps) < 0.01))
    if fault == "slower":
        cost *= rng.uniform(1.3, 2.2)
    through = np.arange(steps) / steps
    if fault == "slowing":
        growth = rng.uniform(0.6, 2)
        cost *= 1 + growth * (through if rng.random() < 0.5 else (through > rng.uniform(0.3, 0.8)))
    making = base * rng.uniform(0.1, 0.7) * rng.gamma(2, 0.5, steps)
    making[0] += rng.uniform(1, 5)  # the loader starts
    if fault == "data stall":
        if rng.random() < 0.5:
            making *= rng.uniform(1.6, 4) * base / making[1:].mean()
        else:
            first = rng.uniform(0.1, 0.6)
            making[(through > first) & (through < first + rng.uniform(0.15, 0.3))] = 4 * base
    now, ready, waits, ends = 0.0, 0.0, np.empty(steps), np.empty(steps)
    begun = np.zeros(steps)
    for step in range(steps):
        free = begun[step - 4] if step >= 4 else 0.0  # the loader stops when four batches lie ready
        ready = max(ready, free) + making[step]
        waits[step] = max(0.0, ready - now)
        begun[step] = now + waits[step]
        now = begun[step] + cost[step]
        ends[step] = now
    count = int(rng.integers(12, 100))
    cuts = np.unique(np.linspace(0, steps, count + 1).astype(int))
    resident, free_mb = 900.0, rng.uniform(3e4, 1e5)
    save = int(rng.integers(1, 4))
    eaten = free_mb * rng.uniform(0.4, 0.9) / (len(cuts) // save + 1)
    held = 7000 * rng.uniform(0.4, 0.9) / steps
    found = []
    for place, (low, high) in enumerate(itertools.pairwise(cuts)):
        if fault == "memory":
            resident = 900 + 64 * np.floor(held * high / 64)  # an allocator takes arenas, not bytes
        else:
            resident += 200 * np.exp(-place) + rng.exponential(0.2)
        if fault == "disk" and place % save == 0:
            free_mb -= eaten
        free_mb += rng.normal(0, 5)
        found.append(
            Window(
                int(high),
                int(high - low),
                float(cost[low:high].sum()),
                float(waits[low:high].sum()),
                1000 * float(np.median(cost[low:high])),
                float(resident),
                float(free_mb),
            )
        )
    return tuple(found)


def _judged(rng: np.random.Generator) -> tuple[Scores, Scores]:
    """Held-out items of one logistic model under its best weights, and under weights that were shrunk."""
    groups, each, size = 50, 3, 20
    right = rng.normal(0, 1, size)
    centres = np.repeat(rng.normal(0, 0.5, (groups, size)), each, 0)
    inputs = centres + rng.normal(0, 1, centres.shape)
    labels = (rng.random(len(inputs)) < _chance(inputs @ right)).astype(float)
    items = tuple(f"item{i}" for i in range(len(inputs)))
    names = tuple(f"group{i // each}" for i in range(len(inputs)))
    worse = _nll(inputs @ (right * rng.uniform(0.05, 0.3)), labels)
    return Scores(items, names, worse), Scores(items, names, _nll(inputs @ right, labels))
