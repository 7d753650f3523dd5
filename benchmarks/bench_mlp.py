"""A 16-32-1 regression, the same for us and for every trainer beside us: its net, its batches, its clock.

Batches are a function of (seed, step), for all. The clock is read inside the step, so that a trainer's start and end
are not counted, and all that it does between two steps is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from daybreak.lab.batches import Batch, Order
from daybreak.lab.lake import Item, Snapshot
from daybreak.lab.recipe import Config, Metric, Recipe, Score

ROWS = 4096


class MlpConfig(Config):
    """The regression's config."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the hidden units that a step leaves out."""


class Rows:
    """Batches of a made-up table: 16 numbers and their noisy, bent sum."""

    def __init__(self, seed: int, batch: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.x = torch.randn(ROWS, 16, generator=draw)
        self.y = torch.sin(self.x.sum(1, keepdim=True)) + 0.1 * torch.randn(ROWS, 1, generator=draw)
        self.names = [f"row-{n}" for n in range(ROWS)]
        self.order = Order(ROWS, batch, seed)

    def items(self, step: int) -> tuple[str, ...]:
        """The rows of a step."""
        return tuple(self.names[i] for i in self.order(step))

    def __call__(self, step: int) -> Batch:
        """The step's rows."""
        rows = self.order(step)
        at = torch.from_numpy(rows)
        return Batch(tuple(self.names[i] for i in rows), {"x": self.x[at], "y": self.y[at]})


def net(dropout: float = 0.0) -> nn.Sequential:
    """The 16-32-1 net."""
    middle = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), *middle, nn.Linear(32, 1))


class Clock:
    """CPU time of this process, all its threads, between two steps."""

    def __init__(self) -> None:
        self.first, self.last, self.began, self.ended = -1, -1, 0.0, 0.0

    def between(self, first: int, last: int) -> None:
        """Measure from the start of step `first` to the start of step `last`."""
        self.first, self.last = first, last

    def tick(self, step: int) -> None:
        """To be called at the start of each step."""
        if step == self.first:
            self.began = time.process_time()
        elif step == self.last:
            self.ended = time.process_time()

    @property
    def seconds(self) -> float:
        """CPU seconds a step."""
        return (self.ended - self.began) / (self.last - self.first)


clock = Clock()


class Mlp(Recipe[MlpConfig]):
    """The regression. With a snapshot, an item is scored by what its bytes, taken as 16 numbers, are mapped to."""

    Config = MlpConfig
    goal = Metric("output", "lower")

    @staticmethod
    def batches(config: MlpConfig, data: Snapshot) -> Rows:
        """A made-up table's rows."""
        return Rows(config.seed, config.batch)

    def __init__(self, config: MlpConfig, data: Snapshot, device: torch.device | str = "cpu") -> None:
        super().__init__(config, data, device)
        self.net = net(config.dropout)
        self.optimiser("net", self.net.parameters())

    def step(self, batch: Batch, step: int) -> Mapping[str, Tensor | float]:
        """One update on the mean squared error."""
        clock.tick(step)
        loss = nn.functional.mse_loss(self.net(batch["x"]), batch["y"])
        self.update("net", loss)
        return {"loss": loss.detach()}

    def evaluate(self, items: Sequence[Item]) -> Iterator[Score]:
        """Map each item; its sample is a drawing of the hidden units, with noise from the seeded generator."""
        from daybreak.media.svg import Svg

        for item in items:
            x = torch.from_numpy(np.frombuffer(self.data.read(item), "u1")[:16].astype("f4") / 128 - 1)
            hidden = self.net[:2](x) + 0.01 * torch.randn(32)
            value = float(self.net[2:](hidden))
            bars = "".join(f'<rect x="{n}" width="1" height="{h:.6f}"/>' for n, h in enumerate(hidden.tolist()))
            drawing = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 4">{bars}</svg>'
            yield Score(item.id, item.group, {"output": value}, {"units": Svg.from_bytes(drawing.encode())})
