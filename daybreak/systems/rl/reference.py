"""Published scores of an environment, to draw beside ours: RL Baselines3 Zoo, CleanRL, Dopamine.

The tables are read where `DAYBREAK_DATA` says; without it there are none. One run each stands behind the Zoo's figures;
CleanRL's are means of a few runs at the end of training, Dopamine's are curves of five.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Published:
    """A published score or curve."""

    source: str
    algorithm: str
    points: tuple[tuple[float, float], ...]
    """(steps of the environment, return); one point where only the end was published."""
    spread: float
    """Standard deviation at the end: over episodes (Zoo) or over runs."""


def published(env: str) -> list[Published]:
    """What was published of an environment, the nearest version of it; nothing where the tables are not here."""
    folder = Path(os.environ.get("DAYBREAK_DATA", "")) / "rl"
    if not os.environ.get("DAYBREAK_DATA") or not folder.is_dir():
        return []
    return [*_zoo(folder, env), *_dopamine(folder, env)]


def _stem(name: str) -> str:
    """The name without family and version: "ale:Pong" and "PongNoFrameskip-v4" are "pong"."""
    bare = name.partition("?")[0].rpartition(":")[2].rpartition("/")[2]
    return re.sub(r"(NoFrameskip)?-v\d+$", "", bare).lower().replace("_", "")


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if path.exists():
        with open(path, newline="") as file:
            yield from csv.DictReader(file)


def _count(text: str) -> float:
    """ "500k" and "1M" as numbers."""
    unit = {"k": 1e3, "M": 1e6}.get(text[-1:], 1.0)
    return float(text.rstrip("kM")) * unit


def _zoo(folder: Path, env: str) -> Iterator[Published]:
    for row in _rows(folder / "sb3_zoo_benchmark.csv"):
        if _stem(row["env_id"]) == _stem(env):
            point = _count(row["n_timesteps"]), float(row["mean_reward"])
            yield Published("Zoo", row["algo"], (point,), float(row["std_reward"]))


def _dopamine(folder: Path, env: str) -> Iterator[Published]:
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for row in _rows(folder / "dopamine_atari_curves.csv"):
        if row["game"] == _stem(env) and env.startswith("ale"):
            place = float(row["agent_steps_end"])
            curves.setdefault(row["agent"], []).append((place, float(row["return_mean"]), float(row["return_std"])))
    for row in _rows(folder / "dopamine_mujoco_curves.csv"):
        if row["env"] == _stem(env):
            place = 1000.0 * (float(row["iteration"]) + 1)
            curves.setdefault(row["agent"], []).append((place, float(row["return_mean"]), float(row["return_std"])))
    for agent, points in curves.items():
        held = sorted(points)
        yield Published("Dopamine", agent, tuple((x, y) for x, y, _ in held), held[-1][2])
