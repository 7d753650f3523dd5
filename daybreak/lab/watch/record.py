"""A run as numbers: what the detectors look at, and reading it from a run's folder.

A `Record` is pure data, so that a detector can be tried on a curve that no run ever made. Reading is tolerant: a run
that is still running, was killed in the middle of a line, or never began gives a shorter record, never an error.
The file knows the names in the run's files; it judges nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daybreak.lab.codec import number
from daybreak.lab.compare import Floats, Goal, Scores

if TYPE_CHECKING:
    from daybreak.lab.run import Run

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Series:
    """Values at steps, steps rising. Values may be NaN or infinite: that is what they were."""

    steps: Integers
    values: Floats

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, float]]) -> Series:
        """From (step, value) pairs; a step that occurs twice counts with its last value."""
        found = dict(pairs)
        steps = np.array(sorted(found), np.int64)
        return cls(steps, np.array([found[int(step)] for step in steps], float))

    def __len__(self) -> int:
        return len(self.steps)

    def finite(self) -> Series:
        """Without the values that are not finite."""
        keep = np.isfinite(self.values)
        return self if keep.all() else Series(self.steps[keep], self.values[keep])

    def upto(self, step: int) -> float:
        """The last value at or before a step; NaN before the first."""
        place = int(np.searchsorted(self.steps, step, "right")) - 1
        return float(self.values[place]) if place >= 0 else math.nan


EMPTY = Series(np.array([], np.int64), np.array([], float))


@dataclass(frozen=True)
class Window:
    """One line of system.jsonl: where about ten seconds went. Times in s, the median step in ms, memory in MB."""

    step: int
    steps: int
    train_s: float
    wait_s: float
    step_ms: float
    """Median step, waiting for data excluded; NaN where no step was made."""
    rss_mb: float = math.nan
    disk_mb: float = math.nan
    """Free space on the lab's disk."""


@dataclass(frozen=True)
class Record:
    """What one run did."""

    run: str = "run"
    """Title for a person: "music:small#41"."""
    number: int = 0
    state: str = "finished"
    """The word of `Run.state()`."""
    planned: int = 0
    """Steps that were meant to be made; 0 where nothing says."""
    train: Mapping[str, Series] = field(default_factory=dict)
    """Each value logged at updates, by name: "loss", "lr", "norm/main"."""
    validation: Mapping[str, Series] = field(default_factory=dict)
    """Each value of the evaluations, by name, without "validation/"."""
    goal: Goal = field(default_factory=lambda: Goal("loss"))
    progress: Goal = field(default_factory=lambda: Goal("loss"))
    """The value logged at updates that tells whether training gets on."""
    windows: tuple[Window, ...] = ()
    scores: Mapping[int, Scores] = field(default_factory=dict)
    """The goal's value of each validation item, by step; whole evaluations only."""
    clock: str = "steps"
    """The axis on which runs of the recipe compare."""
    ticks: Series = EMPTY
    """The clock's count at each update; empty where the clock is the step."""
    config: Mapping[str, Any] = field(default_factory=dict)
    difference: Mapping[str, Any] = field(default_factory=dict)
    """Config fields that differ from the parent's: dotted name -> [parent's, this run's]."""
    recipe: str = ""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    memory_mb: float = math.inf
    """Memory that the run may use."""

    @classmethod
    def of(cls, run: Run) -> Record:
        """Read a run's folder, whatever state it is in."""
        info = run.info
        goal, progress = _goal(info.goal), _goal(run.judged().progress)
        train: dict[str, list[tuple[int, float]]] = {}
        validation: dict[str, list[tuple[int, float]]] = {}
        for line in run.metrics():
            step = int(line["step"])
            for name, value in line.items():
                if name == "step":
                    continue
                held = validation if name.startswith("validation/") else train
                held.setdefault(name.removeprefix("validation/"), []).append((step, value))
        ticks = train.pop(info.clock, [])  # the clock's own count is no loss
        whole = {step for step, _ in validation.get(goal.name, [])}
        rows: dict[int, list[Any]] = {}
        for row in run.scores():
            if row.step in whole:
                rows.setdefault(row.step, []).append(row)
        memory = info.hardware.get("memory_gb")
        return cls(
            run=run.title,
            number=run.number,
            state=run.state().word,
            planned=run.planned(),
            train={name: Series.of(pairs) for name, pairs in train.items()},
            validation={name: Series.of(pairs) for name, pairs in validation.items()},
            goal=goal,
            progress=progress,
            windows=tuple(_window(line) for line in run.windows()),
            scores={step: Scores.of(found, goal.name) for step, found in rows.items()},
            clock=info.clock,
            ticks=Series.of(ticks),
            config=info.config,
            difference=info.difference,
            recipe=info.recipe,
            hardware=info.hardware,
            threads=info.threads,
            memory_mb=1024 * float(memory) if memory else math.inf,
        )

    def on_clock(self, steps: ArrayLike) -> np.ndarray:
        """Steps as counts of the recipe's clock."""
        at = np.asarray(steps, float)
        return at if not len(self.ticks) else np.interp(at, [0, *self.ticks.steps], [0, *self.ticks.values])

    @property
    def loss(self) -> Series:
        """The training loss: "loss", else the first value whose name has "loss" in it; empty where there is none."""
        if "loss" in self.train:
            return self.train["loss"]
        return next((series for name, series in self.train.items() if "loss" in name), EMPTY)

    @property
    def training(self) -> Series:
        """What tells whether training gets on, at updates: the loss, or what the recipe names instead."""
        return self.loss if self.progress.name == "loss" else self.train.get(self.progress.name, EMPTY)

    @property
    def lr(self) -> Series:
        """The learning rate at each update; empty where there is none."""
        return self.train.get("lr", EMPTY)

    @property
    def reached(self) -> Series:
        """The goal's value at each evaluation."""
        return self.validation.get(self.goal.name, EMPTY)

    @property
    def last(self) -> int:
        """The last step that anything is known of."""
        ends = [int(s.steps[-1]) for s in (*self.train.values(), *self.validation.values()) if len(s)]
        return max([*ends, *(w.step for w in self.windows[-1:])], default=0)

    @property
    def spec(self) -> str:
        """What to write after `tonight add`: "music:small"."""
        return self.run.rpartition("#")[0] or self.recipe

    def column(self, get: Callable[[Window], float]) -> Floats:
        """One value of every window."""
        return np.array([get(window) for window in self.windows], float)


def _goal(held: Mapping[str, str]) -> Goal:
    return Goal(held.get("name", ""), "higher" if held.get("better") == "higher" else "lower", held.get("unit", ""))


def _window(line: Mapping[str, Any]) -> Window:
    def value(name: str) -> float:
        held = line.get(name)
        return math.nan if held is None else number(held)

    return Window(
        step=int(line["step"]),
        steps=int(line.get("steps") or 0),
        train_s=value("train_s"),
        wait_s=value("wait_s"),
        step_ms=value("step_ms"),
        rss_mb=value("rss_mb"),
        disk_mb=value("disk_mb"),
    )
