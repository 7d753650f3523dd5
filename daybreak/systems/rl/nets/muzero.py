"""A learned model of a game (Schrittwieser et al. 2020): representation, dynamics, prediction, for several seeds.

Hidden states are flat vectors, or planes where there are residual blocks; every one is scaled to 0 to 1. Rewards and
values are distributions on whole numbers after the rescaling h. It knows tensors; it knows nothing about trees.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from daybreak.systems.rl.nets.encoders import Encoder, Normaliser, Residual, mlp
from daybreak.systems.rl.nets.layers import Conv2d, Linear
from daybreak.systems.rl.returns import rescale, unscale
from daybreak.systems.rl.spec import Spec

SMALL = 16
"""Images of at most this height and width are boards and grids: they are not made smaller."""


class Support:
    """Scalars as distributions on the whole numbers from -`largest` to `largest` (appendix F), after h if `rescaled`.

    What lies beyond is taken for the end: `largest` bounds what can be told.
    """

    def __init__(self, largest: int, rescaled: bool) -> None:
        self.largest, self.rescaled = largest, rescaled
        self.size = 2 * largest + 1

    def two_hot(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch atoms"]:
        """The distribution on the two nearest atoms whose mean is x."""
        place = (rescale(x) if self.rescaled else x).clamp(-self.largest, self.largest) + self.largest
        below = place.floor().clamp(max=self.size - 2)
        above = (place - below)[..., None]
        index = below.long()[..., None]
        out = torch.zeros(*x.shape, self.size, device=x.device, dtype=x.dtype)
        return out.scatter(-1, index, 1 - above).scatter(-1, index + 1, above)

    def mean(self, logits: Float[Tensor, "*batch atoms"]) -> Float[Tensor, "*batch"]:
        """The scalar that logits stand for."""
        atoms = torch.arange(-self.largest, self.largest + 1, device=logits.device, dtype=logits.dtype)
        mean = logits.softmax(-1) @ atoms
        return unscale(mean) if self.rescaled else mean


def scaled(hidden: Tensor) -> Tensor:
    """Each hidden state from 0 to 1 (appendix G), as the actions beside it."""
    flat = hidden.flatten(2)
    low, high = flat.amin(-1, keepdim=True), flat.amax(-1, keepdim=True)
    return ((flat - low) / (high - low + 1e-5)).view(hidden.shape)


def halved(hidden: Tensor) -> Tensor:
    """The same, with half its gradient (appendix G)."""
    return 0.5 * hidden + 0.5 * hidden.detach()


class Flat(nn.Module):
    """Hidden states [seeds, batch, latent]."""

    def __init__(self, seeds: int, spec: Spec, hidden: tuple[int, ...], latent: int, normalise: bool) -> None:
        super().__init__()
        self.board = spec.image is not None and max(spec.image[1:]) <= SMALL
        *before, last = hidden
        if self.board:
            assert spec.image is not None
            channels, height, width = spec.image
            size = channels * spec.stack * height * width + spec.vector
            self.encoder: nn.Module = mlp(seeds, (size, *hidden))
        else:
            self.encoder = Encoder(seeds, spec, hidden, normalise=normalise)
        self.into = Linear(seeds, last, latent)
        self.moves = spec.action.choices[0]
        self.trunk = mlp(seeds, (latent + self.moves, *before, last))
        self.out = Linear(seeds, last, latent)
        self.size, self.features = latent, last

    def represent(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The hidden state of what is seen."""
        if self.board:
            parts = [
                observation["image"].flatten(2).float(),
                *([observation["vector"]] if "vector" in observation else []),
            ]
            return scaled(self.into(self.encoder(torch.cat(parts, dim=-1))))
        return scaled(self.into(self.encoder(observation)))

    def follow(self, hidden: Tensor, move: Int[Tensor, "seeds batch"]) -> tuple[Tensor, Float[Tensor, "seeds batch f"]]:
        """The hidden state after a move, and features that tell its reward."""
        hot = nn.functional.one_hot(move.long(), self.moves).to(hidden)
        features = self.trunk(torch.cat([hidden, hot], dim=-1))
        return scaled(hidden + self.out(features)), features

    def flat(self, hidden: Tensor) -> Tensor:
        """What the prediction reads."""
        return hidden


class Planes(nn.Module):
    """Hidden states [seeds, batch, channels, height, width]: residual blocks (He et al. 2016)."""

    def __init__(self, seeds: int, spec: Spec, channels: int, blocks: int) -> None:
        super().__init__()
        assert spec.image is not None
        planes, height, width = spec.image
        planes = planes * spec.stack + spec.vector
        self.scale = 255.0 if max(height, width) > SMALL else 1.0
        first: list[nn.Module] = []
        while max(height, width) > SMALL:
            first += [Conv2d(seeds, planes, channels, 3, stride=2, padding=1), Residual(seeds, channels)]
            planes, height, width = channels, (height + 1) // 2, (width + 1) // 2
        first += [Conv2d(seeds, planes, channels, 3, padding=1), *[Residual(seeds, channels) for _ in range(blocks)]]
        self.first = nn.Sequential(*first)
        self.height, self.width, self.moves = height, width, spec.action.choices[0]
        cells = height * width
        # A move is a plane: where there is one for each cell (Go, TicTacToe), at first it marks the cell.
        mark = torch.eye(self.moves, cells) if self.moves in (cells, cells + 1) else torch.rand(self.moves, cells)
        self.mark = nn.Parameter(mark.repeat(seeds, 1, 1))
        self.join = Conv2d(seeds, channels + 1, channels, 3, padding=1)
        self.blocks = nn.Sequential(*[Residual(seeds, channels) for _ in range(blocks)])
        self.tell = Conv2d(seeds, channels, 2, 1)
        self.read = Conv2d(seeds, channels, 4, 1)
        self.size, self.features = 4 * cells, 2 * cells

    def represent(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The hidden state of what is seen."""
        image = observation["image"].float() / self.scale
        if "vector" in observation:
            vector = observation["vector"]
            image = torch.cat([image, vector[..., None, None].expand(*vector.shape, *image.shape[3:])], dim=2)
        return scaled(self.first(image))

    def follow(self, hidden: Tensor, move: Int[Tensor, "seeds batch"]) -> tuple[Tensor, Float[Tensor, "seeds batch f"]]:
        """The hidden state after a move, and features that tell its reward."""
        seeds = torch.arange(len(hidden), device=hidden.device)[:, None]
        plane = self.mark[seeds, move.long()].view(*move.shape, 1, self.height, self.width)
        after = self.blocks(hidden + self.join(torch.cat([hidden, plane], dim=2)))
        return scaled(after), torch.relu(self.tell(after)).flatten(2)

    def flat(self, hidden: Tensor) -> Tensor:
        """What the prediction reads."""
        return torch.relu(self.read(hidden)).flatten(2)


class World(nn.Module):
    """The three functions of MuZero."""

    def __init__(
        self,
        seeds: int,
        spec: Spec,
        hidden: tuple[int, ...],
        latent: int,
        blocks: int,
        channels: int,
        support: Support,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        self.support, self.moves = support, spec.action.choices[0]
        self.core = (
            Planes(seeds, spec, channels, blocks)
            if blocks and spec.image is not None
            else Flat(seeds, spec, hidden, latent, normalise)
        )
        self.trunk = mlp(seeds, (self.core.size, *hidden))
        # Heads begin at nothing: the first values and rewards are 0, the first policy is even.
        self.heads = Linear(seeds, hidden[-1], self.moves + support.size, gain=0.0)
        self.reward = Linear(seeds, self.core.features, support.size, gain=0.0)
        for head in (self.heads, self.reward):
            nn.init.zeros_(head.bias)

    def represent(self, observation: Mapping[str, Tensor]) -> Tensor:
        """h: the hidden state of an observation."""
        return self.core.represent(observation)

    def dynamics(self, hidden: Tensor, move: Int[Tensor, "seeds batch"]) -> tuple[Tensor, Tensor]:
        """g: the next hidden state, and the logits of the reward."""
        after, features = self.core.follow(hidden, move)
        return after, self.reward(features)

    def predict(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """f: the logits of the policy and of the value."""
        out: Tensor = self.heads(self.trunk(self.core.flat(hidden)))
        return out[..., : self.moves], out[..., self.moves :]

    @property
    def normaliser(self) -> Normaliser | None:
        """Of vector observations, where there is one."""
        encoder = getattr(self.core, "encoder", None)
        return encoder.normaliser if isinstance(encoder, Encoder) else None
