"""From an observation to features: MLP, plain convolutions, IMPALA, and both at once where there are image and vector.

Encoders take observations as the store keeps them (uint8 images, stacked frames) and carry the observation's
normaliser, so that a saved net needs nothing beside it. They know nothing about actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from daybreak.systems.rl.nets.layers import Conv2d, Initial, LayerNorm, Linear
from daybreak.systems.rl.spec import Spec

Activation = Literal["relu", "tanh", "silu"]
ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}
GAINS: Mapping[str, float] = {"relu": 2**0.5, "tanh": 2**0.5, "silu": 2**0.5}


class Normaliser(nn.Module):
    """Running mean and variance of vectors (Welford, merged in batches as Chan et al. 1979), and (x - mean) / std.

    Each seed has its own. What lies beyond ten standard deviations is cut, as everywhere in the field.
    """

    def __init__(self, seeds: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(seeds, 1, size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(seeds, 1, size, dtype=torch.float64))
        self.register_buffer("count", torch.full((), 1e-4, dtype=torch.float64))
        self.mean: Tensor
        self.variance: Tensor
        self.count: Tensor

    def see(self, x: Float[Tensor, "seeds batch size"]) -> None:
        """Take in a batch."""
        x = x.double()
        mean, variance, count = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True), x.shape[1]
        total = self.count + count
        gap = mean - self.mean
        spread = self.variance * self.count + variance * count + gap.square() * self.count * count / total
        self.mean.copy_(self.mean + gap * count / total)
        self.variance.copy_(spread / total)
        self.count.copy_(total)

    def forward(self, x: Float[Tensor, "seeds batch size"]) -> Float[Tensor, "seeds batch size"]:
        scale = torch.rsqrt(self.variance + 1e-8).float()
        return ((x - self.mean.float()) * scale).clamp(-10, 10)


def mlp(
    seeds: int, sizes: tuple[int, ...], activation: Activation = "relu", orthogonal: bool = False, norm: bool = False
) -> nn.Sequential:
    """Linear layers, each followed by the activation. `orthogonal` initialises as PPO does."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        gain = GAINS[activation] if orthogonal else 1.0
        layers.append(Linear(seeds, before, after, "orthogonal" if orthogonal else "uniform", gain))
        layers += [LayerNorm(seeds, after)] if norm else []
        # In place saves time: what comes before is an affine map's own output (one seed's is a view).
        layers.append(nn.ReLU(inplace=True) if activation == "relu" and seeds > 1 else ACTIVATIONS[activation]())
    return nn.Sequential(*layers)


Picture = Literal["nature", "workshop", "impala"]

PLAIN: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "nature": ((32, 8, 4), (64, 4, 2), (64, 3, 1)),
    "workshop": ((16, 8, 4), (32, 4, 2)),
}
"""Channels, size and stride of the convolutions of Mnih et al. 2015 (Nature, Methods) and of the smaller ones of
Mnih et al. 2013 (NIPS workshop, section 4.1)."""


class Convolutions(nn.Module):
    """Plain convolutions, each with a ReLU after it.

    Smaller pictures (MinAtar's 10 x 10) get one layer of 16 of 3 x 3, as in MinAtar's own paper.
    """

    def __init__(self, kind: str, seeds: int, channels: int, height: int, width: int, orthogonal: bool = False) -> None:
        super().__init__()
        initial: Initial = "orthogonal" if orthogonal else "uniform"
        gain = 2**0.5 if orthogonal else 1.0
        shapes = PLAIN[kind] if min(height, width) >= 36 else ((16, 3, 1),)
        layers: list[nn.Module] = []
        for outputs, size, stride in shapes:
            layers += [Conv2d(seeds, channels, outputs, size, stride, gain=gain, initial=initial), nn.ReLU()]
            channels, height, width = outputs, (height - size) // stride + 1, (width - size) // stride + 1
        self.layers = nn.Sequential(*layers)
        self.size = channels * height * width

    def forward(self, x: Float[Tensor, "seeds batch channels height width"]) -> Float[Tensor, "seeds batch size"]:
        return self.layers(x).flatten(2)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside the identity (He et al. 2016, pre-activation)."""

    def __init__(self, seeds: int, channels: int) -> None:
        super().__init__()
        self.one = Conv2d(seeds, channels, channels, 3, padding=1)
        self.two = Conv2d(seeds, channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(torch.relu(self.one(torch.relu(x))))  # type: ignore[no-any-return]


class Impala(nn.Module):
    """The residual network of Espeholt et al. 2018, figure 3 right: 16, 32 and 32 channels, times `wide`."""

    def __init__(self, seeds: int, channels: int, height: int, width: int, wide: int = 1) -> None:
        super().__init__()
        self.convolutions, self.blocks = nn.ModuleList(), nn.ModuleList()
        for outputs in (16 * wide, 32 * wide, 32 * wide):
            self.convolutions.append(Conv2d(seeds, channels, outputs, 3, padding=1))
            self.blocks.append(nn.Sequential(Residual(seeds, outputs), Residual(seeds, outputs)))
            channels, height, width = outputs, (height + 1) // 2, (width + 1) // 2
        self.size = channels * height * width

    def forward(self, x: Float[Tensor, "seeds batch channels height width"]) -> Float[Tensor, "seeds batch size"]:
        for convolution, blocks in zip(self.convolutions, self.blocks, strict=True):
            x = convolution(x)
            seeds = x.shape[0]
            pooled = nn.functional.max_pool2d(x.flatten(0, 1), 3, stride=2, padding=1)
            x = blocks(pooled.view(seeds, -1, *pooled.shape[1:]))
        return torch.relu(x).flatten(2)


class Encoder(nn.Module):
    """Features of whatever an environment shows: of its image, its vector, or both joined.

    `hidden` are the sizes of the layers after that; `size` is the features' number.
    """

    def __init__(
        self,
        seeds: int,
        spec: Spec,
        hidden: tuple[int, ...],
        activation: Activation = "relu",
        image: Picture = "nature",
        orthogonal: bool = False,
        normalise: bool = False,
        norm: bool = False,
    ) -> None:
        super().__init__()
        size = 0
        self.normaliser = Normaliser(seeds, spec.vector) if normalise and spec.vector else None
        self.picture: Convolutions | Impala | None = None
        if spec.image:
            channels, height, width = spec.image
            channels *= spec.stack
            self.scale = 255.0 if max(height, width) > 16 else 1.0  # small pictures are planes of 0 and 1
            self.picture = (
                Impala(seeds, channels, height, width)
                if image == "impala"
                else Convolutions(image, seeds, channels, height, width, orthogonal)
            )
            size += self.picture.size
        size += spec.vector
        self.body = mlp(seeds, (size, *hidden), activation, orthogonal, norm)
        self.size = hidden[-1] if hidden else size

    def forward(self, observation: Mapping[str, Tensor]) -> Float[Tensor, "seeds batch size"]:
        parts = []
        if self.picture is not None:
            parts.append(self.picture(_beside(observation["image"]).float() / self.scale))
        if "vector" in observation:
            vector = observation["vector"]
            parts.append(vector if self.normaliser is None else self.normaliser(vector))
        return self.body(parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1))  # type: ignore[no-any-return]

    def see(self, observation: Mapping[str, Tensor]) -> None:
        """Let the normaliser take in observations [seeds, batch, ...]; without one nothing happens."""
        if self.normaliser is not None:
            self.normaliser.see(observation["vector"])


def _beside(image: Float[Tensor, "seeds batch channels height width"]) -> Tensor:
    """The same picture with a pixel's channels beside one another in memory where the processor convolves one seed's:
    oneDNN takes a third less time so. An exported program keeps them as they are: its target has an order of its own,
    and ExecuTorch takes no input for one that asks for this."""
    if len(image) > 1 or image.device.type != "cpu" or torch.compiler.is_exporting():
        return image
    return image[0].contiguous(memory_format=torch.channels_last)[None]
