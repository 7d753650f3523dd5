"""Curiosity: reward for what a net cannot predict. ICM (Pathak et al. 2017) and RND (Burda et al. 2019).

Both take observations [seeds, batch, ...] and return a bonus and a loss for each item; they know no policies.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from daybreak.systems.rl.nets.encoders import Encoder, Normaliser
from daybreak.systems.rl.nets.layers import Linear
from daybreak.systems.rl.spec import Space, Spec

PerItem = Float[Tensor, "seeds batch"]


def as_input(action: Tensor, space: Space) -> Tensor:
    """Actions as a net takes them: one-hot choices side by side, or the vector."""
    if space.kind == "box":
        return action.float()
    parts = action[..., None] if space.kind == "discrete" else action
    hot = [F.one_hot(parts[..., i].long(), n) for i, n in enumerate(space.choices)]
    return torch.cat(hot, dim=-1).float()


class Icm(nn.Module):
    """An inverse model learns features that tell the action; the error of a forward model in them is the bonus."""

    def __init__(self, seeds: int, spec: Spec, hidden: int = 64) -> None:
        super().__init__()
        self.space = spec.action
        size = spec.action.size if spec.action.kind == "box" else sum(spec.action.choices)
        self.encoder = Encoder(seeds, spec, (hidden,))
        self.inverse = nn.Sequential(Linear(seeds, 2 * hidden, hidden), nn.ReLU(), Linear(seeds, hidden, size))
        self.forwards = nn.Sequential(Linear(seeds, hidden + size, hidden), nn.ReLU(), Linear(seeds, hidden, hidden))

    def forward(
        self, now: Mapping[str, Tensor], following: Mapping[str, Tensor], action: Tensor, beta: float = 0.2
    ) -> tuple[PerItem, PerItem]:
        """The bonus (half the squared error in feature space) and (1 - beta) inverse + beta forward loss."""
        one, two = self.encoder(now), self.encoder(following)
        guess = self.forwards(torch.cat([one, as_input(action, self.space)], dim=-1))
        bonus = 0.5 * (guess - two.detach()).square().sum(-1)
        told = self.inverse(torch.cat([one, two], dim=-1))
        if self.space.kind == "box":
            wrong = (told - action).square().mean(-1)
        else:
            parts = action[..., None] if self.space.kind == "discrete" else action
            logits = told.split(list(self.space.choices), dim=-1)
            wrong = torch.stack(
                [F.cross_entropy(x.flatten(0, 1), parts[..., i].flatten().long(), reduction="none").view(x.shape[:2])
                 for i, x in enumerate(logits)]
            ).sum(0)  # fmt: skip
        return bonus.detach(), (1 - beta) * wrong + beta * bonus


class Rnd(nn.Module):
    """A net learns to agree with a random one; where it does not yet, things are new.

    The random net has no batch statistics: it is the same function for good. Vectors are normalised before both.
    """

    def __init__(self, seeds: int, spec: Spec, hidden: int = 64) -> None:
        super().__init__()
        self.normaliser = Normaliser(seeds, spec.vector) if spec.vector else None
        self.target = nn.Sequential(Encoder(seeds, spec, (hidden,)), Linear(seeds, hidden, hidden))
        self.target.requires_grad_(False)
        self.guess = nn.Sequential(
            Encoder(seeds, spec, (hidden,)), Linear(seeds, hidden, hidden), nn.ReLU(), Linear(seeds, hidden, hidden)
        )

    def seen(self, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The observation as both nets take it; the newest frame alone would do, the stack does too."""
        if self.normaliser is None:
            return dict(observation)
        return {**observation, "vector": self.normaliser(observation["vector"]).clamp(-5, 5)}

    def forward(self, observation: Mapping[str, Tensor]) -> tuple[PerItem, PerItem]:
        """The bonus and the loss: the squared error of the guess."""
        seen = self.seen(observation)
        error = (self.guess(seen) - self.target(seen)).square().mean(-1)
        return error.detach(), error
