"""A recipe without torch: it counts, and can be made to fail in every way."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from daybreak.errors import UserError
from daybreak.lab.recipe import Config, Metric, Recipe, Score


class CountConfig(Config):
    steps: int = Field(20, ge=0)
    """Updates to make."""
    pause: float = Field(0.0, ge=0)
    """Seconds that a step takes."""
    fault: Literal["", "raise", "hang", "exit", "refuse", "kill", "nan"] = ""
    """What goes wrong."""
    at: int = 5
    """At which step."""
    level: float = 1.0
    """What the score is."""
    episodes: int = 3
    """Items to score."""
    tally: str = ""
    """A file that gets a line for each finished evaluation."""


@dataclass(frozen=True)
class Episode:
    id: str
    group: str


class Count(Recipe[CountConfig]):
    Config = CountConfig
    presets = {"short": CountConfig(steps=3)}  # noqa: RUF012
    goal = Metric("level", "higher", "points")

    def __init__(self, config, data, device="cpu"):
        super().__init__(config, data, device)
        self.total = 0

    def state(self):
        return {"total": self}

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]

    def step(self, batch, step):
        config = self.config
        if config.pause:
            time.sleep(config.pause)
        if config.fault and step == config.at:
            match config.fault:
                case "raise":
                    raise RuntimeError("the recipe raised")
                case "hang":
                    time.sleep(10_000)
                case "exit":
                    os._exit(9)
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "refuse":
                    raise UserError("this cannot work")
        self.total += step
        bad = config.fault == "nan" and step >= config.at
        return {"loss": float("nan") if bad else 1.0 / (1 + step), "total": self.total}

    def items(self, split):
        return [Episode(f"{split}-{n}", f"{split}-{n}") for n in range(self.config.episodes)]

    def evaluate(self, items):
        for n, item in enumerate(items):
            yield Score(item.id, item.group, {"level": self.config.level + n / 10 + self.total * 1e-6})
        if self.config.tally:
            with open(self.config.tally, "a") as file:
                file.write(f"{self.total}\n")
