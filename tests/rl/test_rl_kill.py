"""kill -9 in the middle of learning by play: the resumed run has the bits of one that was never stopped."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daybreak.lab.derive import new_run, plan
from daybreak.lab.train import train

FAMILIES = {
    "rl:multistep+per": ("--learning_starts", "128", "--updates", "2", "--batch", "16", "--budget", "6000"),
    "rl:ppo": ("--epochs", "2", "--budget", "8192"),
    "rl:sac@Pendulum-v1": ("--learning_starts", "64", "--updates", "1", "--batch", "16", "--budget", "800"),
}
"""What is trained, at a size of seconds."""
SHARED = ("--hidden", "16,16", "--seeds", "2", "--episodes", "2", "--checkpoint", "0", "--samples", "0")


def worker(lab, run):
    """A process that trains."""
    command = [sys.executable, "-m", "daybreak.lab.train", str(lab.root), str(run.path)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)


def bits(run):
    """The final weights and every metric line."""
    return (run.path / "final" / "weights.safetensors").read_bytes(), (run.path / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("spec", FAMILIES)
def test_resume_after_kill_gives_the_same_bits(lab, spec):
    def made():
        return new_run(lab, plan(lab, spec, [*FAMILIES[spec], *SHARED]), threads=1)

    whole = made()
    assert train(lab, whole, progress=False) == "finished"
    run = made()
    chance = random.Random(0)
    for _ in range(2):
        process = worker(lab, run)
        until = time.monotonic() + 60
        while not list(Path(run.path, "checkpoints").glob("step-*")) and process.poll() is None:
            assert time.monotonic() < until, "the run made no checkpoint"
            time.sleep(0.02)
        time.sleep(chance.uniform(0.0, 0.4))
        process.kill()
        process.wait()
    assert train(lab, run, progress=False) == "finished"
    assert bits(run) == bits(whole)
    assert run.scores() == whole.scores()
