"""Files -> items -> batches. A file is JSON: {"recorder": NAME, "hertz": 3.2, "samples": [64 numbers, one second]}."""

import json
import math
import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import torch

from daybreak.lab.batches import Batch, Order
from daybreak.lab.lake import Broken, Draft, Item, Snapshot

SAMPLES = 64


def ingest(path: Path) -> Iterator[Draft | Broken]:
    """Read a file, or every .json file of a folder. One that cannot be read is told, not raised."""
    for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
        try:
            yield draft(file.name, file.read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield Broken(str(file), f"{type(error).__name__}: {error}")


def embedded() -> Iterator[Draft | Broken]:
    """The data that the system makes itself: 240 recordings by 60 recorders."""
    chance = random.Random(1)
    for n in range(240):
        hertz, phase = chance.uniform(1, 20), chance.uniform(0, math.tau)
        wave = [math.sin(math.tau * hertz * t / SAMPLES + phase) + chance.gauss(0, 0.2) for t in range(SAMPLES)]
        about = {"recorder": f"recorder-{n % 60}", "hertz": hertz, "samples": wave}
        yield draft(f"made-{n}.json", json.dumps(about).encode())


def draft(name: str, data: bytes) -> Draft:
    """One recording. Its group is the recorder, so that no recorder is both trained on and judged by."""
    about = json.loads(data)
    if len(about["samples"]) != SAMPLES or not all(math.isfinite(float(x)) for x in about["samples"]):
        raise ValueError(f"expected {SAMPLES} finite samples, found {len(about['samples'])}")
    return Draft(name, str(about["recorder"]), {"data": data}, {"hertz": float(about["hertz"])})


def tensors(data: Snapshot, items: Sequence[Item]) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples [item, 64] and frequencies [item] in Hz."""
    about = [json.loads(data.read(item)) for item in items]
    return torch.tensor([a["samples"] for a in about]), torch.tensor([a["hertz"] for a in about])


class Recordings:
    """The training batches: small, picklable, a pure function of (seed, step)."""

    def __init__(self, data: Snapshot, batch: int, seed: int) -> None:
        self.data, self.train = data, data.split("train")
        self.order = Order(len(self.train), batch, seed)

    @cached_property
    def all(self) -> tuple[torch.Tensor, torch.Tensor]:
        """They are small: read once, in the process that uses them."""
        return tensors(self.data, self.train)

    def items(self, step: int) -> tuple[str, ...]:
        return self.train.ids(self.order(step))

    def __call__(self, step: int) -> Batch:
        index = torch.from_numpy(self.order(step))
        samples, hertz = self.all
        return Batch(self.items(step), {"samples": samples[index], "hertz": hertz[index]})
