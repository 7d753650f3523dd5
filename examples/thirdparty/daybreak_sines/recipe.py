"""How the model trains: one loss, one goal, one gate. The loop, the nights and the pages are the lab's."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from pydantic import Field

from daybreak.lab.batches import Batch
from daybreak.lab.lake import Item, Snapshot
from daybreak.lab.recipe import Config, Gate, Metric, Recipe, Score
from daybreak_sines.data import Recordings, tensors
from daybreak_sines.model import Shape, Sines, Spectrum


class FrequencyConfig(Config):
    """What a run may change; every field is a flag: `daybreak train sines --width 64`."""

    steps: int = Field(200, ge=0)
    """Updates to make."""
    lr: float = Field(1e-2, gt=0)
    """Peak learning rate."""
    width: int = Field(32, ge=1)
    """Hidden units."""


class Frequency(Recipe[FrequencyConfig]):
    """Regression of the frequency."""

    Config = FrequencyConfig
    goal = Metric("error", "lower", "Hz")
    gates = (Gate(goal, 2.0),)

    @staticmethod
    def batches(config: FrequencyConfig, data: Snapshot) -> Recordings:
        return Recordings(data, config.batch, config.seed)

    def __init__(self, config: FrequencyConfig, data: Snapshot, device: torch.device | str = "cpu") -> None:
        super().__init__(config, data, device)
        self.net = Spectrum(config.width).to(device)
        self.optimiser("net", self.net.parameters())

    def step(self, batch: Batch, step: int) -> Mapping[str, torch.Tensor]:
        loss = (self.net(batch["samples"]) - batch["hertz"]).abs().mean()
        self.update("net", loss)
        return {"loss": loss.detach()}

    def evaluate(self, items: Sequence[Item]) -> Iterator[Score]:
        for item in items:
            samples, hertz = tensors(self.data, [item])
            error = (self.net(samples.to(self.device)).cpu() - hertz).abs().item()
            yield Score(item.id, item.group, {"error": error})

    def model(self) -> Sines:
        model = Sines(Shape(width=self.config.width))
        model.net = self.net
        return model
