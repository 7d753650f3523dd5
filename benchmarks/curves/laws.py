"""Curves from formulas: the generator on which the limits of the detectors were chosen.

Loss = floor + power law or sum of exponentials + what the schedule's end brings, with Student-t noise that is
correlated over steps and shrinks as the loss falls. Faults are painted onto it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.curves import Case
from daybreak.lab.compare import Goal, Scores
from daybreak.lab.watch import Record, Series, Window

GOAL = Goal("nll", "lower", "nats")


def case(fault: str, seed: int) -> Case:
    """A run with that fault ("healthy" for none), always the same for the same seed."""
    rng = np.random.default_rng((seed, 17))
    steps = int(np.exp(rng.uniform(np.log(300), np.log(12_000))))
    trend, validation = _trends(rng, steps, fault)
    progress = trend[0] - trend[-1]
    at = np.arange(1, steps + 1)
    scale = progress * np.exp(rng.uniform(np.log(0.01), np.log(0.6)))
    if fault == "plateau":
        scale = min(scale, 0.1 * progress)
    noise = _noise(rng, steps) * scale * (0.5 + 0.5 * (trend[1:] - trend[-1]) / progress)
    evaluations = np.unique(np.linspace(0, steps, int(rng.integers(4, 40))).astype(int))
    if fault == "over-fitting" and rng.random() < 0.3:  # the goal has little to gain from the start
        validation = np.minimum(
            validation,
            validation.min()
            + rng.uniform(0, 0.05) * progress
            + np.maximum.accumulate(
                np.where(np.arange(steps + 1) > int(np.argmin(validation)), validation - validation.min(), 0)
            ),
        )
    if fault == "over-fitting":
        evaluations = np.unique(np.linspace(0, steps, int(rng.integers(10, 40))).astype(int))
    shaky = progress * np.exp(rng.uniform(np.log(0.001), np.log(0.02)))
    wander = np.cumsum(rng.normal(size=len(evaluations))) * shaky * rng.uniform(0, 0.3)
    values = np.interp(evaluations, np.arange(steps + 1), validation)
    loss = trend[1:] + noise
    if fault == "not learning":
        base = np.full(steps + 1, trend[0])
        kind = rng.integers(3)
        if kind == 1:  # learns how frequent each answer is, then nothing
            base = base * (
                1 + rng.uniform(0.005, 0.03) * np.exp(-np.arange(steps + 1) / rng.uniform(2, 0.01 * steps + 2))
            )
        if kind == 2:  # wanders off on noise, and gets a little worse by it
            base = base * (
                1 + rng.uniform(0, 0.04) * (1 - np.exp(-np.arange(steps + 1) / (steps * rng.uniform(0.05, 1))))
            )
        loss = base[1:] + _noise(rng, steps) * max(scale, 0.01 * trend[0])
        values = base[evaluations]
        if kind:
            values = values + _wandering(rng, len(values)) * rng.uniform(0, 0.01) * trend[0]
    if fault == "divergence":
        onset = int(steps * rng.uniform(0.05, 0.9))
        high = rng.uniform(0.6, 3) * (trend[0] - trend[onset]) + 12 * scale * rng.uniform(0.2, 1)
        away = np.clip(at - onset, 0, None)
        pace = steps * rng.uniform(0.002, 0.02)
        loss = np.where(away > 0, trend[onset] + high * (1 - np.exp(-away / pace)) + noise * rng.uniform(1, 3), loss)
        values = np.where(evaluations > onset, values + high, values)
    if fault == "non-finite":
        onset = int(steps * rng.uniform(0.02, 0.98))
        bad = np.arange(onset, steps) if rng.random() < 0.5 else np.array([onset])
        loss[bad] = rng.choice([np.nan, np.inf, -np.inf])
    alone = rng.integers(0, 3)
    wild = int(rng.integers(6, 30)) if fault == "spikes" else int(alone)
    wild = max(min(wild, steps // 40), int(0.002 * steps) + 2) if fault == "spikes" else wild
    places = rng.choice(np.arange(int(0.05 * steps) + 10, steps - 10), wild, replace=False)
    if fault not in ("non-finite", "divergence"):
        loss[places] += np.maximum(rng.uniform(0.5, 3, wild) * progress, rng.uniform(30, 90, wild) * scale)
    rate = 10 ** rng.uniform(-4.5, -2)
    record = Record(
        run="law#2",
        number=2,
        state="running" if fault in ("memory", "disk") else "finished",
        planned=steps * 2 if fault in ("memory", "disk") else steps,
        train={"loss": Series(at, loss), "lr": Series(at, np.full(steps, rate))},
        validation={"nll": Series(evaluations, values + shaky * rng.standard_t(6, len(values)) + wander)},
        goal=GOAL,
        windows=_windows(rng, steps, fault, 1.0),
        scores={steps: _scores(rng, 0.0 if fault != "regression" else rng.uniform(0.05, 0.2))},
        config={"lr": rate, "steps": steps, "clip": 0.0, "dropout": 0.1, "loaders": 0},
        recipe="law:curve",
        memory_mb=16_000.0,
    )
    before = _windows(rng, steps, "healthy", 1.0 if fault != "slower" else 1 / rng.uniform(1.3, 2.5))
    best = Record(run="law#1", number=1, scores={steps: _scores(rng, 0.0)}, goal=GOAL)
    return Case(fault, record, Record(run="law#0", windows=before, config=record.config, recipe="law:curve"), best)


def _trends(rng: np.random.Generator, steps: int, fault: str) -> tuple[np.ndarray, np.ndarray]:
    """The loss without noise, and the goal, at steps 0 to `steps`."""
    at = np.arange(steps + 1)
    floor, height = rng.uniform(0.1, 4), np.exp(rng.uniform(np.log(0.05), np.log(6)))
    if fault == "plateau":
        height = max(height, 0.1 * floor)  # less, all at once, is what not learning looks like
    through = at / steps
    while True:
        kind = rng.integers(3)
        if fault == "plateau":
            # Done before two thirds of the run, then flat.
            done = rng.uniform(0.1, 0.6)
            shape = np.exp(-through / (done / 7))
        elif kind == 0:
            shape = (1 + at / (steps * 10 ** rng.uniform(-3, -0.5))) ** -rng.uniform(0.2, 1)
        elif kind == 1:
            share = rng.uniform(0.3, 0.9)
            shape = share * np.exp(-through / rng.uniform(0.01, 0.1)) + (1 - share) * np.exp(
                -through / rng.uniform(0.3, 1)
            )
        else:
            shape = np.exp(-((through / rng.uniform(0.02, 0.4)) ** rng.uniform(0.3, 0.7)))
        if fault != "plateau" and rng.random() < 0.4:  # the schedule's end brings something
            shape = shape - rng.uniform(0.02, 0.1) * np.clip((through - 0.5) * 2, 0, None) ** 2
        if rng.random() < 0.4:  # a warm-up delays the fall
            warm = rng.uniform(0.005, 0.05)
            delayed = np.interp(np.clip(through - warm * np.exp(-through / warm), 0, None), through, shape)
            shape = delayed
        whole = shape[0] - shape[-1]
        gain = (shape[int(0.7 * steps)] - shape[-1]) / whole
        if fault == "plateau" or gain > 0.012:
            break
    trend = floor + height * shape / (shape[0] - shape.min() + 1e-9)
    validation = trend
    if fault == "over-fitting":
        onset = np.exp(rng.uniform(np.log(0.03), np.log(0.7)))
        best = np.interp(onset, through, trend)
        rise = np.exp(rng.uniform(np.log(0.06), np.log(1.5))) * (trend[0] - best)
        since = np.clip((through - onset) / (1 - onset), 0, None)
        after = since ** rng.uniform(0.4, 1.6)
        if rng.random() < 0.4:  # worse at once, then no more
            pace = rng.uniform(2, 12)
            after = (1 - np.exp(-pace * since)) / (1 - np.exp(-pace))
        validation = np.where(through < onset, trend, best + rise * after)
    return trend, validation


def _noise(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Student-t noise of unit scale, correlated over steps."""
    raw = rng.standard_t(np.exp(rng.uniform(np.log(3), np.log(30))), steps)
    rho = rng.choice([0.0, rng.uniform(0, 0.6)])
    if rho == 0:
        return raw
    kernel = rho ** np.arange(20)
    kernel /= np.sqrt((kernel**2).sum())
    return np.convolve(raw, kernel)[:steps]


def _wandering(rng: np.random.Generator, count: int) -> np.ndarray:
    """Noise with a memory of several evaluations, of unit scale."""
    kept = rng.uniform(0.3, 0.95)
    state, found = 0.0, np.empty(count)
    for place in range(count):
        state = kept * state + np.sqrt(1 - kept**2) * rng.normal()
        found[place] = state
    return found


def _windows(rng: np.random.Generator, steps: int, fault: str, pace: float) -> tuple[Window, ...]:
    count = int(rng.integers(12, 150))
    at = np.linspace(0, steps, count + 1).astype(int)[1:]
    each = np.diff(at, prepend=0)
    step_ms = 40 * pace * np.exp(rng.uniform(0, 0.04) * rng.normal(size=count))
    step_ms[rng.random(count) < 0.02] *= rng.uniform(1.2, 2)  # something else ran on the machine
    if fault == "slowing":
        from_share, factor = rng.uniform(0.25, 0.8), rng.uniform(1.4, 3)
        place = np.arange(count) / count
        jump = place > from_share
        step_ms *= 1 + (factor - 1) * (jump if rng.random() < 0.5 else np.clip((place - 0.25) / 0.6, 0, 1))
    share = rng.beta(1.5, 40, count)
    share[0] = rng.uniform(0, 0.8)
    if fault == "data stall":
        if rng.random() < 0.6:
            share = rng.beta(8, 12, count)
        else:
            share[rng.choice(np.arange(1, count), int(rng.integers(3, 6)), replace=False)] = rng.uniform(0.6, 0.95)
    train = each * step_ms / 1000
    grown = 1 - np.exp(-np.arange(count) / count * rng.uniform(5, 60))
    rss = rng.uniform(500, 6000) * (1 + rng.uniform(0, 0.5) * grown) + rng.normal(size=count) * rng.uniform(0, 30)
    free = rng.uniform(2e4, 2e5) - rng.uniform(0, 2000) * at / steps + rng.normal(size=count) * 20
    if fault == "memory":
        rss = rss + (16_000 - rss[-1]) * rng.uniform(0.55, 0.95) * at / steps
    if fault == "disk":
        free = free[0] * (1 - rng.uniform(0.55, 0.95) * at / steps) + rng.normal(size=count) * 20
    return tuple(
        Window(int(s), int(e), float(t), float(t * w / (1 - w)), float(m), float(r), float(d))
        for s, e, t, w, m, r, d in zip(at, each, train, share, step_ms, rss, free, strict=True)
    )


def _scores(rng: np.random.Generator, worse: float) -> Scores:
    items = 80
    hard = np.random.default_rng(3).normal(2, 0.5, items)
    song = np.repeat(rng.normal(0, 0.03, items // 2), 2)
    return Scores(
        tuple(f"item{i}" for i in range(items)),
        tuple(f"song{i // 2}" for i in range(items)),
        hard + worse + song + rng.normal(0, 0.05, items),
    )


def cases(fault: str, count: int, seed: int = 0) -> Iterator[Case]:
    """`count` runs with that fault; "healthy" for none."""
    return (case(fault, seed + number) for number in range(count))
