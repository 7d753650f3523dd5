"""Real trainings of a small net, with the fault really made: the third source, not tuned on either.

A numpy net of one hidden layer learns a random teacher's answers by SGD. Times are measured: a loader that sleeps, a
step that does its work three times, work that piles up. A window here is some milliseconds, which anything else on the
machine would drown, so the clock is the thread's own CPU time plus what it slept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.curves import Case
from daybreak.lab.compare import Goal, Scores
from daybreak.lab.watch import Record, Series, Window

GOAL = Goal("held-out loss", "lower", "nats")
NOT_MADE = ("memory", "disk")
"""Filling this machine's memory or disk for real would disturb whoever else uses it."""


def cases(fault: str, count: int, seed: int = 0) -> Iterator[Case]:
    """`count` trainings with that fault; "healthy" for none."""
    for number in range(count):
        rng = np.random.default_rng((seed, number, 4))
        record = _train(rng, fault, 2 + number)
        previous = (
            _train(np.random.default_rng((seed, number, 5)), "healthy", 1) if fault in ("healthy", "slower") else None
        )
        best = None
        if fault == "regression":
            best = _train(np.random.default_rng((seed, number, 4)), "healthy", 1)
        yield Case(fault, record, previous, best)


def _train(rng: np.random.Generator, fault: str, number: int) -> Record:
    inputs, classes, hidden = 20, 8, 48
    steps, batch = int(rng.integers(500, 900)), 32
    rate = float(np.exp(rng.uniform(np.log(0.02), np.log(0.08))))
    items = 6000
    teacher = rng.normal(0, 1, (inputs, 24)), rng.normal(0, 1, (24, classes))
    if fault == "over-fitting":
        items, rate, steps = int(rng.integers(60, 200)), 0.3, 1500
    if fault == "plateau":  # an easy task, long done
        teacher = rng.normal(0, 1, (inputs, 3)), rng.normal(0, 1, (3, 2))
        rate, steps, hidden = 0.0, 4000, 6
    x, held_x = rng.normal(0, 1, (items, inputs)), rng.normal(0, 1, (600, inputs))
    y, held_y = _answers(rng, x, teacher), _answers(rng, held_x, teacher)
    if fault == "over-fitting":
        wrong = rng.random(items) < 0.2
        y = np.where(wrong, rng.integers(0, classes, items), y)
    if fault == "plateau":
        rate = 0.5
    if fault == "regression":
        wrong = rng.random(items) < 0.5
        y = np.where(wrong, rng.integers(0, classes, items), y)
    net = [
        rng.normal(0, inputs**-0.5, (inputs, hidden)), np.zeros(hidden),
        rng.normal(0, hidden**-0.5, (hidden, classes)), np.zeros(classes),
    ]  # fmt: skip
    if fault == "not learning" and number % 2:
        rate *= 1e-5  # the other half is frozen below
    onset = int(steps * rng.uniform(0.1, 0.8))
    corrupt = {}
    if fault == "spikes":  # eight corrupt items, each met once an epoch
        corrupt = {int(i): rng.uniform(60, 200) for i in rng.choice(items, 8, replace=False)}
        steps = max(steps, 5 * items // batch)
    evaluate = steps // int(rng.integers(10, 25))
    per_window = max(1, steps // 24)
    losses: list[float] = []
    reached: list[tuple[int, float]] = []
    windows: list[Window] = []
    waited, worked, times = 0.0, 0.0, []
    order = rng.permutation(items)
    pile: list[np.ndarray] = []
    slept = 0.0
    with np.errstate(all="ignore"):
        for step in range(steps):
            if step % evaluate == 0:
                reached.append((step, float(_forward(net, held_x, held_y)[0].mean())))
            begun = time.thread_time() + slept
            first = step * batch % items
            if first + batch > items:
                order = rng.permutation(items)
                first = 0
            chosen = order[first : first + batch]
            bx, by = x[chosen], y[chosen]
            if fault == "data stall" and (number % 2 or onset < step < onset + 5 * per_window):
                time.sleep(0.001)
                slept += 0.001
            if corrupt and (bad := [i for i, item in enumerate(chosen) if int(item) in corrupt]):
                bx = bx.copy()
                for i in bad:
                    bx[i] *= corrupt[int(chosen[i])]
            got = time.thread_time() + slept
            loss, gradients = _forward(net, bx, by, gradients=True)
            for _ in range(2 if fault == "slower" else 0):
                _forward(net, bx, by, gradients=True)
            if fault == "slowing":
                if step % 10 == 0:
                    pile.append(np.ones(4000 if step > steps // 4 else 0))
                sum(float(kept.sum()) for kept in pile)
            pace = rate
            if fault in ("divergence", "non-finite") and step >= onset:
                pace = rate * (1000 if fault == "divergence" else 1e9)
            norm = float(np.sqrt(sum(float((g**2).sum()) for g in gradients)))
            clip = min(1.0, 1 / norm) if fault != "non-finite" and norm > 0 else 1.0
            if not (fault == "not learning" and number % 2 == 0):  # frozen
                net = [w - pace * clip * g for w, g in zip(net, gradients, strict=True)]
            if fault == "non-finite":
                net = [w.astype(np.float32).astype(float) for w in net]
            losses.append(float(loss.mean()))
            done = time.thread_time() + slept
            waited, worked = waited + got - begun, worked + done - got
            times.append(done - got)
            if len(times) == per_window:
                windows.append(Window(step + 1, per_window, worked, waited, 1000 * float(np.median(times))))
                waited, worked, times = 0.0, 0.0, []
    scores = _forward(net, held_x, held_y)[0]
    reached.append((steps, float(scores.mean())))
    names = tuple(str(i) for i in range(len(held_x)))
    config: dict[str, Any] = {"lr": rate, "steps": steps, "loaders": 0}
    return Record(
        run=f"net#{number}", number=number, planned=steps, config=config, goal=GOAL, recipe="net:sgd",
        train={"loss": Series.of((s + 1, v) for s, v in enumerate(losses))},
        validation={GOAL.name: Series.of(reached)}, windows=tuple(windows),
        scores={steps: Scores(names, tuple(str(i // 5) for i in range(len(held_x))), scores)},
    )  # fmt: skip


def _answers(rng: np.random.Generator, x: np.ndarray, teacher: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """What a random net answers, drawn from its probabilities."""
    margin = np.tanh(x @ teacher[0] / 4) @ teacher[1]
    return (margin + rng.gumbel(size=margin.shape)).argmax(1)


def _forward(
    net: list[np.ndarray], x: np.ndarray, y: np.ndarray, gradients: bool = False
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Loss of each item, and the gradients of their mean."""
    first, bias, second, last = net
    inner = np.maximum(x @ first + bias, 0)
    margin = inner @ second + last
    margin = margin - margin.max(1, keepdims=True)
    logs = margin - np.log(np.exp(margin).sum(1, keepdims=True))
    rows = np.arange(len(y))
    loss = -logs[rows, y]
    if not gradients:
        return loss, []
    back = np.exp(logs)
    back[rows, y] -= 1
    back /= len(y)
    down = (back @ second.T) * (inner > 0)
    return loss, [x.T @ down, down.sum(0), inner.T @ back, back.sum(0)]
