"""What users call. From these types come the Python call and `daybreak sines measure --samples 0.1,0.2,...`."""

from collections.abc import Iterator, Mapping

import torch
from pydantic import BaseModel, Field
from torch import nn

from daybreak.lab.lake import Snapshot, Split
from daybreak.lab.model import Model, Request, Response, action
from daybreak.lab.program import Axis, Inputs, Program, Run
from daybreak_sines.data import SAMPLES, tensors


class Shape(BaseModel):
    """What the network is built from."""

    width: int = Field(32, ge=1)
    """Hidden units."""


class Spectrum(nn.Module):
    """The magnitudes of the spectrum, and two layers that read a frequency off them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(SAMPLES // 2 + 1, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.fft.rfft(samples).abs())[:, 0]


class Recording(Request):
    """A second of a swing."""

    samples: tuple[float, ...] = Field(min_length=SAMPLES, max_length=SAMPLES)
    """64 samples, one second."""


class Swing(Response):
    """How fast it swings."""

    hertz: float
    """Frequency in Hz."""


class Sines(Model):
    """Reads the frequency off a second of samples."""

    Config = Shape

    def __init__(self, config: Shape) -> None:
        super().__init__(config)
        self.net = Spectrum(config.width)

    @action
    def measure(self, request: Recording) -> Swing:
        """Measure the frequency of a recording."""
        return Swing(hertz=self.net(torch.tensor([request.samples])).item())

    def programs(self) -> dict[str, Program]:
        """What leaves the lab: `daybreak export sines --to onnx,page`."""

        def recordings(data: Snapshot, split: Split) -> Iterator[Inputs]:
            for item in data.split(split):
                yield {"samples": tensors(data, [item])[0]}

        example = {"samples": torch.zeros(2, SAMPLES)}
        axes = {"samples": {0: Axis("batch", 1, 64)}}
        return {"measure": Program(self.net, example, ("hertz",), recordings, axes)}

    def through(self, run: Mapping[str, Run]) -> None:
        """Exported files answer in place of the network; so fp16 and int8 are scored."""
        self.net.forward = lambda samples: run["measure"](samples)[0]
