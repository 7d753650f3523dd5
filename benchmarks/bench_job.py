"""A recipe without torch, whose every step leaves a line in a file outside the lab: who took it, and when."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from daybreak.lab.recipe import Config, Metric, Recipe

WITNESS = "DAYBREAK_BENCH_WITNESS"
"""The environment variable that names the file."""


class JobConfig(Config):
    """Five short steps."""

    steps: int = 5


class Job(Recipe[JobConfig]):
    """Waits a little, and says so."""

    Config = JobConfig
    goal = Metric("loss", "lower")

    def step(self, batch: Any, step: int) -> Mapping[str, float]:
        """One line of the witness: seed, step, process, time. One write, so that lines of many processes stay whole."""
        time.sleep(0.01)
        handle = os.open(os.environ[WITNESS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{self.config.seed} {step} {os.getpid()} {time.time()}\n".encode())
        os.close(handle)
        return {"loss": 1 / (step + 1)}
