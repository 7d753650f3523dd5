"""A small real recipe: regression with dropout, samples and a model with an action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import nn

from daybreak.lab.batches import Batch, Order
from daybreak.lab.config import Folder
from daybreak.lab.model import Model, Request, Response, action
from daybreak.lab.program import Axis, Program
from daybreak.lab.recipe import Config, Gate, Metric, Recipe, Score
from daybreak.media import Media

COUNT = 256


class Note(Media):
    """Text as media."""

    mime, suffix = "text/plain", ".txt"

    def __init__(self, text: str) -> None:
        self.text = text

    def to_bytes(self) -> bytes:
        return self.text.encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Note:
        return cls(data.decode())

    def html(self) -> str:
        return "<p>note</p>"


class Net(BaseModel):
    width: int = Field(16, ge=1)
    """Hidden units."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of units dropped."""


class MlpConfig(Config):
    steps: int = Field(60, ge=0)
    """Updates to make."""
    net: Net = Net()
    kind: Literal["adamw", "sgd"] = "adamw"
    """Optimiser."""
    start: Folder = ""
    """Where it began; nothing is read from it."""


def points(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, :1] * x[:, 1:2]).sin()


class Points:
    def __init__(self, config: MlpConfig) -> None:
        self.order = Order(COUNT, config.batch, config.seed)

    def items(self, step: int) -> tuple[str, ...]:
        return tuple(f"point-{i}" for i in self.order(step))

    def __call__(self, step: int) -> Batch:
        x, y = points(1, COUNT)
        index = torch.from_numpy(self.order(step))
        return Batch(self.items(step), {"x": x[index], "y": y[index]})


@dataclass(frozen=True)
class Point:
    id: str
    group: str
    index: int


class Mlp(Recipe[MlpConfig]):
    Config = MlpConfig
    presets = {"wide": MlpConfig(net=Net(width=64)), "plain": MlpConfig(net=Net(dropout=0.0))}  # noqa: RUF012
    goal = Metric("squared error", "lower")
    gates = (Gate(goal, 2.0),)

    @staticmethod
    def batches(config, data):
        return Points(config)

    def __init__(self, config, data, device="cpu"):
        super().__init__(config, data, device)
        self.net = network(config.net)
        self.optimiser("net", self.net.parameters(), config.kind)

    def step(self, batch, step):
        loss = (self.net(batch["x"]) - batch["y"]).square().mean()
        self.update("net", loss)
        return {"loss": loss.detach()}

    def items(self, split):
        start = {"train": 0, "validation": 10, "test": 20}[split]
        return [Point(f"{split}-{n}", f"{split}-{n // 2}", start + n) for n in range(8)]

    def evaluate(self, items):
        x, y = points(2, 64)
        for n, item in enumerate(items):
            got = self.net(x[item.index])
            noise = torch.rand(()).item()
            sample = {"note": Note(f"{got.item()} {noise}")} if n < self.config.samples else {}
            yield Score(item.id, item.group, {"squared error": (got - y[item.index]).square().item()}, sample)

    def model(self):
        model = MlpModel(self.config.net)
        model.net = self.net
        return model


def network(config: Net) -> nn.Module:
    width = config.width
    return nn.Sequential(nn.Linear(16, width), nn.Dropout(config.dropout), nn.Tanh(), nn.Linear(width, 1))


class Ask(Request):
    x: tuple[float, ...] = Field(min_length=16, max_length=16)
    """Sixteen numbers."""


class Answer(Response):
    y: float
    """The prediction."""


class MlpModel(Model):
    Config = Net

    def __init__(self, config: Net) -> None:
        super().__init__(config)
        self.net = network(config)

    @action
    def predict(self, request: Ask) -> Answer:
        """Predict one value."""
        return Answer(y=self.net(torch.tensor(request.x)).item())

    def programs(self) -> dict[str, Program]:
        def real(data, split):
            x, _ = points({"train": 3, "validation": 4, "test": 5}[split], 64)
            yield from ({"x": x[n : n + 1 + n % 9]} for n in range(40))

        example = {"x": torch.zeros(2, 16)}
        return {"predict": Program(self.net, example, ("y",), real, {"x": {0: Axis("batch", 1, 64)}}, about="A value.")}

    def through(self, run) -> None:
        self.net.forward = lambda x: run["predict"](x[None] if x.ndim == 1 else x)[0]
