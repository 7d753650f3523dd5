"""Nights made by hand: run folders with curves, scores, samples and events, as the trainer leaves them.

For tests and benchmarks of what reads runs. Everything is a pure function of its arguments. Times are epoch seconds.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from daybreak.lab.codec import plain
from daybreak.lab.home import Lab
from daybreak.lab.run import Run

TEN = datetime(2026, 11, 22, 10, 0).timestamp()
"""Ten o'clock, local time, on the Sunday morning of the tests."""
GOAL = {"name": "note NLL", "better": "lower", "unit": "nats/token"}
CONFIG = {
    "seed": 0, "steps": 2000, "batch": 32, "lr": 3e-4, "warmup": 50, "schedule": "cosine", "clip": 1.0, "loaders": 0,
    "evaluate": 250, "samples": 6, "net": {"layers": 6, "width": 256, "dropout": 0.1},
}  # fmt: skip


@dataclass
class Night:
    """A lab to put runs into."""

    root: Path
    items: int = 32
    """Validation items; four of them make a group."""
    sounds: int = 6
    now: float = TEN
    lab: Lab = field(init=False)

    def __post_init__(self) -> None:
        self.lab = Lab.open(self.root)

    def run(
        self,
        number: int,
        *,
        level: float = 1.75,
        change: Mapping[str, Any] | None = None,
        parent: Run | None = None,
        hours_ago: float = 8.0,
        end: str = "finished",
        at: int | None = None,
        recipe: str = "music:compose",
        preset: str = "small",
        name: str = "",
        owner: str = "minji",
        second: str = "",
        notes: Sequence[tuple[str, str]] = (),
        step_ms: float = 900.0,
        wait: float = 0.03,
        diverge: int | None = None,
        resume: bool = False,
        job: str = "",
        **about: Any,
    ) -> Run:
        """Make a run's folder.

        Args:
            number: the lab's number for it.
            level: the goal that it settles to.
            change: config fields, dotted, that differ from the parent's.
            parent: the run that it derives from.
            hours_ago: when it started, before `now`.
            end: "finished", a terminal event's word, or "crashed" (also what becomes "running" once locked).
            at: the step at which it ended; its planned steps otherwise.
            recipe: SYSTEM:RECIPE.
            preset: as in run.json.
            name: free text.
            owner: who looks after it.
            second: who else knows.
            notes: (by, text).
            step_ms: time of a step.
            wait: share of a step spent waiting for data.
            diverge: step from which the loss runs away.
            resume: the machine went off half way, and the run was taken up half an hour later.
            job: the queue's key.
            about: other fields of run.json.
        """
        base = dict(parent.info.config) if parent else json.loads(json.dumps(CONFIG))
        config = json.loads(json.dumps(base))
        difference = {}
        for key, value in (change or {}).items():
            *path, leaf = key.split(".")
            holder = config
            for part in path:
                holder = holder[part]
            difference[key] = [holder[leaf], value]
            holder[leaf] = value
        folder = self.lab.runs / f"{number}-{recipe.split(':')[0]}-{preset or recipe.split(':')[1]}"
        for part in ("samples", "checkpoints"):
            (folder / part).mkdir(parents=True)
        start = self.now - 3600 * hours_ago
        info = {
            "version": 1, "id": folder.name, "number": number, "name": name, "recipe": recipe, "preset": preset,
            "config": config, "parent": parent.id if parent else None, "difference": difference if parent else {},
            "snapshot": "5a", "owner": owner, "second": second,
            "created": datetime.fromtimestamp(start).astimezone().isoformat(timespec="seconds"), "job": job,
            "code": {"commit": "0" * 40, "dirty": False, "diff": ""}, "versions": {"python": "3.11.7"},
            "hardware": {"host": "night", "cpu": "x86", "cores": 2, "memory_gb": 8.0, "gpu": ""}, "threads": 1,
            "world": 1, "goal": GOAL, "clock": "steps", **about,
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(info))
        last = config["steps"] if at is None else at
        if end != "new":
            self._train(folder, info, last, level, start, step_ms, wait, diverge, resume, end, notes)
        return Run(folder)

    def _train(
        self, folder: Path, info: dict[str, Any], last: int, level: float, start: float, step_ms: float, wait: float,
        diverge: int | None, resume: bool, end: str, notes: Sequence[tuple[str, str]],
    ) -> None:  # fmt: skip
        config = info["config"]
        rng = np.random.default_rng(info["number"])
        steps = np.arange(1, last + 1)
        loss = level + (5.5 - level) * (1 + steps / 40) ** -0.9 + rng.standard_t(4, last) * 0.02
        if diverge:
            loss[diverge:] = loss[diverge:] + np.expm1(np.minimum((steps[diverge:] - diverge) / 60, 12))
        if end == "diverged":
            loss[-10:] = math.nan
        grid = [s for s in range(0, last + 1, config["evaluate"]) if not diverge or s <= diverge]
        if end in ("finished", "deadline") and last not in grid:
            grid.append(last)
        bad, losses = end == "crashed", dict(zip(steps.tolist(), loss.tolist(), strict=True))
        means, rows = {}, []
        for step in grid:
            centre = level + (5.5 - level) * (1 + step / 40) ** -0.9
            values = self._values(info["number"], step, centre)
            means[step] = float(values.mean())
            rows += self._rows(folder, info["number"], step, values, step == grid[-1] and step > 0)
        lines = []
        for step in range(last + 1):
            if step:
                lines.append({"step": step, "loss": losses[step], "lr": config["lr"]})
            if step in means:
                lines.append({"step": step, f"validation/{info['goal']['name']}": means[step]})
        _write(folder / "metrics.jsonl", lines)
        _write(folder / "scores.jsonl", rows)
        windows, events = self._times(last, grid, start, step_ms, wait, resume, bad)
        finish = windows[-1]["time"] if windows else start
        _write(folder / "system.jsonl", windows)
        if end == "diverged":
            reason = f"the loss was not finite from step {last - 9}"
            events.append({"time": finish, "event": "diverged", "step": last, "reason": reason})
        elif end in ("failed", "quarantined"):
            trace = "Traceback (most recent call last):\n  ...\nRuntimeError: <b>shapes</b> (3, 4) and (5,) do not fit"
            said = {"error": "RuntimeError: shapes do not fit", "reason": "three failures", "traceback": trace}
            events.append({"time": finish, "event": end, "step": last, **said})
        elif end != "crashed":
            events.append({"time": finish, "event": end, "step": last})
        events += [{"time": finish + 60, "event": "note", "by": by, "text": text} for by, text in notes]
        _write(folder / "events.jsonl", events)
        if end == "finished":
            (folder / "final").mkdir()
            values = {f"validation/{info['goal']['name']}": means[grid[-1]]}
            result = {"step": last, "goal": {"name": info["goal"]["name"], "value": means[grid[-1]]}, "values": values}
            (folder / "final" / "result.json").write_text(json.dumps(plain(result)))

    def _values(self, number: int, step: int, centre: float) -> np.ndarray[Any, Any]:
        """One value an item: the item's own difficulty, the same for every run, and a little of the run's."""
        items = np.random.default_rng(99).normal(0, 0.25, self.items)
        own = np.random.default_rng([number, step]).normal(0, 0.02, self.items)
        return np.asarray(centre + items - items.mean() + own)

    def _rows(
        self, folder: Path, number: int, step: int, values: np.ndarray[Any, Any], shown: bool
    ) -> list[dict[str, Any]]:
        rows = []
        for i, value in enumerate(values.tolist()):
            row: dict[str, Any] = {
                "step": step, "split": "validation", "item": f"{i:02d}c4f3e9a1#bars-8", "group": f"song-{i // 4}",
                "values": {GOAL["name"]: value, "in key": 0.9},
            }  # fmt: skip
            if shown and i < self.sounds:
                row["natural"] = _keep(folder, i, 0)
                row["sample"] = _keep(folder, i, 1 + number % 5)
            rows.append(row)
        return rows

    @staticmethod
    def _times(
        last: int, grid: list[int], start: float, step_ms: float, wait: float, resume: bool, crashed: bool
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        windows, events, now = [], [{"time": start, "event": "started", "step": 0}], start
        size = max(1, round(10_000 / step_ms), math.ceil(last / 400))
        for first in range(0, last, size):
            n = min(size, last - first)
            seconds = n * step_ms / 1000
            scored = [s for s in grid if first < s <= first + n]
            if resume and first <= last // 2 < first + n:
                now += 1800
                events.append({"time": now, "event": "resumed", "step": first})
            now += seconds * (1 + wait) + 20 * len(scored) + 0.2
            windows.append(
                {
                    "time": now, "step": first + n, "steps": n, "train_s": seconds, "wait_s": seconds * wait,
                    "evaluate_s": 20.0 * len(scored), "save_s": 0.2, "step_ms": step_ms, "clock": first + n,
                    "rss_mb": 800.0, "disk_mb": 50_000,
                }
            )  # fmt: skip
            events += [{"time": now, "event": "evaluated", "step": s, "seconds": 20.0, "items": 32} for s in scored]
            if not crashed or first < last * 0.8:
                events.append({"time": now, "event": "saved", "step": first + n})
        return windows, events


def _write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(plain(dict(line))) + "\n" for line in lines))


def _keep(folder: Path, item: int, take: int) -> dict[str, str]:
    kept = {}
    sound, roll = clip(item, take)
    for name, data, suffix in (("sound", sound, ".mp3"), ("roll", roll, ".svg")):
        path = f"samples/{hashlib.sha256(data).hexdigest()[:20]}{suffix}"
        (folder / path).write_bytes(data)
        kept[name] = path
    return kept


@cache
def clip(item: int, take: int) -> tuple[bytes, bytes]:
    """A tune of four bars as (MP3, piano roll SVG); take 0 is the natural one, higher takes stray from it."""
    import soundfile

    scale = np.array([0, 2, 4, 7, 9, 12, 14, 16])
    tune = np.random.default_rng(item).integers(0, 8, 16)
    stray = np.random.default_rng([item, take])
    tune = np.where(stray.random(16) < 0.12 * take, stray.integers(0, 8, 16), tune)
    rate, beat = 22050, 0.3
    pitches = 60 + scale[tune]
    time = np.arange(int(rate * beat)) / rate
    wave = [np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * time) * np.exp(-5 * time) for p in pitches.tolist()]
    held = io.BytesIO()
    soundfile.write(held, 0.4 * np.concatenate(wave), rate, format="MP3", subtype="MPEG_LAYER_III")
    notes = "".join(
        f'<rect x="{26 + 43 * i}" y="{200 - 11 * (p - 60)}" width="40" height="9" rx="1" fill="#2f7fd1"/>'
        for i, p in enumerate(pitches.tolist())
    )
    lines = "".join(f'<line x1="{26 + 172 * i}" x2="{26 + 172 * i}" y2="206" stroke="#888"/>' for i in range(5))
    roll = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 220" width="720" height="220">{lines}{notes}</svg>'
    )
    return held.getvalue(), roll.encode()


def usual(root: Path) -> Night:
    """The night of the wireframe: last night's best, then a better run, one that diverged, and two more."""
    night = Night(root)
    best = night.run(38, level=1.745, hours_ago=40, second="jun")
    night.run(39, level=1.79, change={"lr": 1e-4}, parent=best, hours_ago=38)
    night.run(
        41, level=1.70, change={"net.layers": 8}, parent=best, hours_ago=14,
        notes=[("jun", "Bar 5 of the second clip is the first time that it modulates.\nListen to it.")],
    )  # fmt: skip
    night.run(42, change={"lr": 3e-2}, parent=best, hours_ago=13.3, end="diverged", at=1420, diverge=1250)
    night.run(43, level=1.744, change={"net.dropout": 0.2}, parent=best, hours_ago=12.6, second="minji", owner="jun")
    night.run(44, level=1.82, change={"batch": 16}, parent=best, hours_ago=12, resume=True, wait=0.4)
    return night
