"""How a running job is doing, read off its run's files: progress, silence, scores, and what it last said.

It reads what the trainer appends and knows nothing about processes.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from daybreak.lab.codec import number
from daybreak.lab.night.clock import Clock
from daybreak.lab.run import Run, read_last

GROWING = ("metrics.jsonl", "system.jsonl", "scores.jsonl", "events.jsonl")
LONGEST = 8192
"""Bytes of a log that are kept as a traceback."""


class Pulse:
    """The signs of life of one try."""

    def __init__(self, run: Run, clock: Clock) -> None:
        self.run, self._clock = run, clock
        self._key = f"validation/{run.info.goal.get('name', '')}"
        self._sizes: dict[str, int] = {}
        self._read = 0
        self._times: list[float] = []
        self._loss: float | None = None
        self.scores: dict[int, float] = {}
        """The goal's value by step."""
        self.log_start = _size(run.path / "log.txt")
        self.began, self.last = clock.awake(), clock.awake()
        self.first_step: int | None = None

    def look(self) -> bool:
        """Look at the files. Whether an evaluation came in."""
        sizes = {name: _size(self.run.path / name) for name in GROWING}
        grown = [name for name in GROWING if sizes[name] != self._sizes.get(name, 0)]
        if not grown:
            return False
        self.last, self._sizes = self._clock.awake(), sizes
        if "system.jsonl" in grown and (window := read_last(self.run.path / "system.jsonl")) and window.get("step_ms"):
            self._times = [*self._times[-99:], float(window["step_ms"]) / 1000]
        return "metrics.jsonl" in grown and self._read_scores()

    def silent(self, least: float, factor: float) -> str:
        """Why it is taken to hang, in words; empty while it does not.

        Args:
            least: seconds of silence that are always allowed.
            factor: and this many median steps.
        """
        step = statistics.median(self._times) if self._times else 0.0
        allowed = max(least, factor * step)
        quiet = self._clock.awake() - self.last
        return f"no step for {quiet:.0f} s (allowed: {allowed:.0f} s)" if quiet > allowed else ""

    def progress(self) -> tuple[int, float | None, float | None]:
        """Steps done, the last loss, and seconds to the end of its steps where they can be told."""
        line = read_last(self.run.path / "metrics.jsonl") or {}
        step = int(line.get("step", 0))
        if "loss" in line:  # the line of an evaluation has none
            self._loss = number(line["loss"])
        if self.first_step is None:
            self.first_step = step
        made, took = step - self.first_step, self._clock.awake() - self.began
        left = self.run.planned() - step
        return step, self._loss, left * took / made if made > 0 and left >= 0 else None

    def said(self) -> str:
        """What this try wrote to its log last: its traceback where there is one."""
        try:
            with open(self.run.path / "log.txt", "rb") as file:
                file.seek(max(self.log_start, _size(self.run.path / "log.txt") - LONGEST))
                text = file.read(LONGEST).decode(errors="replace")
        except OSError:
            return ""
        for opening in ("Fatal Python error", "Traceback (most recent call last)"):
            if (at := text.rfind(opening)) >= 0:
                return text[at:].strip()
        return "\n".join(text.splitlines()[-40:]).strip()

    def _read_scores(self) -> bool:
        path = self.run.path / "metrics.jsonl"
        before = len(self.scores)
        if self._sizes["metrics.jsonl"] < self._read:
            self._read, self.scores = 0, {}  # the trainer went back to its checkpoint
        try:
            with open(path, "rb") as file:
                file.seek(self._read)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read += len(line)
                    if b'"validation/' in line and self._key in (values := json.loads(line)):
                        self.scores[int(values["step"])] = number(values[self._key])
        except (OSError, ValueError):
            return False
        return len(self.scores) != before


def newest(run: Run) -> int:
    """The step of the newest checkpoint; -1 without one."""
    found = [path.name.removeprefix("step-") for path in run.checkpoints()]
    return max((int(name) for name in found if name.isdigit()), default=-1)


def needed(run: Run | None, floor: int, copies: int) -> int:
    """Bytes that must be free before a run starts: a few of its checkpoints, or a floor."""
    if run is None or not (found := run.checkpoints()):
        return floor
    return max(floor, copies * sum(_size(path) for path in found[-1].rglob("*")))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
