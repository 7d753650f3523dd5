"""Layers of several nets at once: every tensor carries the seed as its first axis, weights too.

Seed k's output and gradient depend on seed k's weights and input alone, so that several seeds train in one process,
each as it would alone. This file knows tensors; it knows nothing about observations or algorithms.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Initial = Literal["orthogonal", "uniform"]


def _filled(shape: tuple[int, ...], initial: Initial, gain: float, fan_in: int) -> Tensor:
    """Weights [seeds, in, out] or [seeds, out, in, ...], each seed drawn on its own."""
    weight = torch.empty(shape)
    for one in weight:
        if initial == "orthogonal":
            nn.init.orthogonal_(one, gain)
        else:
            nn.init.uniform_(one, -gain / math.sqrt(fan_in), gain / math.sqrt(fan_in))
    return weight


class Linear(nn.Module):
    """`seeds` affine maps. `gain` scales the initial weights: of an orthogonal matrix, or of torch's uniform one."""

    def __init__(self, seeds: int, inputs: int, outputs: int, initial: Initial = "uniform", gain: float = 1.0) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.weight = nn.Parameter(_filled((seeds, inputs, outputs), initial, gain, inputs))
        bias = torch.zeros(seeds, 1, outputs)
        if initial == "uniform":
            nn.init.uniform_(bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))
        self.bias = nn.Parameter(bias)

    def forward(self, x: Float[Tensor, "seeds batch inputs"]) -> Float[Tensor, "seeds batch outputs"]:
        return affine(x, self.weight, self.bias)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b for each seed. One seed takes the faster kernel."""
    if weight.shape[0] == 1:  # squeezed, not selected: a selection's gradient is copied into zeros
        return torch.addmm(bias.squeeze(0), x.squeeze(0), weight.squeeze(0))[None]
    return torch.baddbmm(bias, x, weight)


class NoisyLinear(Linear):
    """A linear layer with learned, factorised Gaussian noise (Fortunato et al. 2018, eq. 10 and 11).

    The noise is that of the last `resample()`; in evaluation mode there is none.
    """

    def __init__(self, seeds: int, inputs: int, outputs: int, sigma: float = 0.5) -> None:
        super().__init__(seeds, inputs, outputs)
        scale = 1 / math.sqrt(inputs)
        with torch.no_grad():
            self.weight.uniform_(-scale, scale)
            self.bias.uniform_(-scale, scale)
        self.weight_sigma = nn.Parameter(torch.full((seeds, inputs, outputs), sigma * scale))
        self.bias_sigma = nn.Parameter(torch.full((seeds, 1, outputs), sigma * scale))
        self.register_buffer("noise_in", torch.zeros(seeds, inputs, 1))
        self.register_buffer("noise_out", torch.zeros(seeds, 1, outputs))
        self.noise_in: Tensor
        self.noise_out: Tensor
        self.resample()

    def resample(self) -> None:
        """Draw new noise: f(x) = sign(x) sqrt|x| of Gaussians, once for each input and each output."""
        for noise in (self.noise_in, self.noise_out):
            drawn = torch.randn_like(noise)
            noise.copy_(drawn.sign() * drawn.abs().sqrt())

    def forward(self, x: Float[Tensor, "seeds batch inputs"]) -> Float[Tensor, "seeds batch outputs"]:
        if not self.training:
            return super().forward(x)
        weight = self.weight + self.weight_sigma * (self.noise_in * self.noise_out)
        return affine(x, weight, self.bias + self.bias_sigma * self.noise_out)


def resample(module: nn.Module) -> None:
    """Draw new noise in every noisy layer."""
    for layer in module.modules():
        if isinstance(layer, NoisyLinear):
            layer.resample()


class Conv2d(nn.Module):
    """`seeds` convolutions, computed as one grouped convolution."""

    def __init__(
        self, seeds: int, inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0, gain: float = 1.0,
        initial: Initial = "uniform",
    ) -> None:  # fmt: skip
        super().__init__()
        self.seeds, self.stride, self.padding = seeds, stride, padding
        fan_in = inputs * size * size
        self.weight = nn.Parameter(_filled((seeds, outputs, inputs, size, size), initial, gain, fan_in))
        bias = torch.zeros(seeds, outputs)
        if initial == "uniform":
            nn.init.uniform_(bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
        self.bias = nn.Parameter(bias)

    def forward(self, x: Float[Tensor, "seeds batch inputs height width"]) -> Float[Tensor, "seeds batch outputs h w"]:
        if self.seeds == 1:
            return F.conv2d(x[0], self.weight[0], self.bias[0], self.stride, self.padding)[None]
        seeds = len(x)
        joined = x.transpose(0, 1).flatten(1, 2)
        out = F.conv2d(joined, self.weight.flatten(0, 1), self.bias.flatten(), self.stride, self.padding, groups=seeds)
        return out.view(len(out), seeds, -1, *out.shape[2:]).transpose(0, 1)


class LayerNorm(nn.Module):
    """Layer normalisation with `seeds` scales and shifts."""

    def __init__(self, seeds: int, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(seeds, 1, size))
        self.shift = nn.Parameter(torch.zeros(seeds, 1, size))

    def forward(self, x: Float[Tensor, "seeds batch size"]) -> Float[Tensor, "seeds batch size"]:
        return F.layer_norm(x, x.shape[-1:]) * self.scale + self.shift


class Recurrent(nn.Module):
    """`seeds` LSTMs or GRUs over time, whose state starts from zero at each new episode."""

    def __init__(self, seeds: int, inputs: int, size: int, kind: Literal["lstm", "gru"] = "lstm") -> None:
        super().__init__()
        self.kind, self.size = kind, size
        gates = 4 if kind == "lstm" else 3
        self.inner = Linear(seeds, inputs, gates * size)
        self.outer = Linear(seeds, size, gates * size, "orthogonal")
        self.width = 2 * size if kind == "lstm" else size
        """Length of the carry of one environment: an LSTM's output and cell, a GRU's output."""

    def start(self, seeds: int, batch: int) -> Float[Tensor, "seeds batch width"]:
        """The carry of an episode's first step."""
        return self.inner.weight.new_zeros(seeds, batch, self.width)

    def forward(
        self,
        x: Float[Tensor, "time seeds batch inputs"],
        carry: Float[Tensor, "seeds batch width"],
        first: Float[Tensor, "time seeds batch"] | None = None,
    ) -> Float[Tensor, "time seeds batch width"]:
        """The carry after each time; its first `size` numbers are the output. `first` is 1 where an episode begins."""
        carries = []
        for t, one in enumerate(x):
            if first is not None:
                carry = carry * (1 - first[t][..., None])
            carry = self.cell(one, carry)
            carries.append(carry)
        return torch.stack(carries)

    def cell(self, x: Float[Tensor, "seeds batch inputs"], carry: Float[Tensor, "seeds batch width"]) -> Tensor:
        """The carry after one step."""
        out = carry[..., : self.size]
        into, back = self.inner(x), self.outer(out)
        if self.kind == "lstm":
            enter, keep, new, show = (into + back).chunk(4, dim=-1)
            cell = torch.sigmoid(keep + 1) * carry[..., self.size :] + torch.sigmoid(enter) * torch.tanh(new)
            return torch.cat([torch.sigmoid(show) * torch.tanh(cell), cell], dim=-1)
        (reset, update, new), (back_reset, back_update, back_new) = into.chunk(3, dim=-1), back.chunk(3, dim=-1)
        mixed = torch.tanh(new + torch.sigmoid(reset + back_reset) * back_new)
        keep = torch.sigmoid(update + back_update)
        return keep * out + (1 - keep) * mixed
