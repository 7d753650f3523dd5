"""Actors, critics and multipliers of the control family, seeds stacked on the first axis.

Inside the nets an action is in units of the half range. Replay keeps it as drawn ("stored"): before tanh (squashed),
before the bounds cut it (gaussian), so that its density needs no inverse. It knows nothing about losses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from daybreak.systems.rl import dist
from daybreak.systems.rl.actor import Acted, ActingNet
from daybreak.systems.rl.control.config import ControlConfig
from daybreak.systems.rl.nets.encoders import Encoder, Normaliser, mlp
from daybreak.systems.rl.nets.layers import Linear
from daybreak.systems.rl.spec import Spec

LOG_STD = (-20.0, 2.0)
"""Bounds of a squashed Gaussian's log-deviation."""
START = 0.7
"""MPO's deviation at the start, in half ranges."""
LEAST = 1e-4
"""MPO's least deviation."""


class ActorNet(ActingNet):
    """Observations to the numbers of a policy: an action before tanh, means and log-deviations, or logits."""

    def __init__(self, config: ControlConfig, spec: Spec, seeds: int) -> None:
        super().__init__()
        self.config, self.space, self.seeds = config, spec.action, seeds
        self.kind: Literal["deterministic", "squashed", "gaussian", "choices"]
        self.kind = config.actor if spec.action.kind == "box" else "choices"
        self.normaliser = Normaliser(seeds, spec.vector) if config.normalise and spec.vector else None
        self.encoder = Encoder(seeds, spec, config.hidden, config.activation, config.image)
        size = spec.action.size if spec.action.kind == "box" else spec.action.choices[0]
        self.size = size
        outputs = 2 * size if self.kind in ("squashed", "gaussian") else size
        self.head = Linear(seeds, self.encoder.size, outputs)
        if self.kind == "deterministic":
            # Near the middle of the bounds, where tanh has a slope (Lillicrap et al. 2016, section 7).
            nn.init.uniform_(self.head.weight, -3e-3, 3e-3)
            nn.init.uniform_(self.head.bias, -3e-3, 3e-3)
        if spec.action.kind == "box":
            low, high = torch.tensor(spec.action.low), torch.tensor(spec.action.high)
            self.register_buffer("middle", (low + high) / 2)
            self.register_buffer("reach", (high - low) / 2)
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))
        self.middle: Tensor
        self.reach: Tensor
        self.begun: Tensor
        """Whether learning has begun; before, exploration is uniform."""

    def prepared(self, observation: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Observations as every net of the family sees them: scaled where there is a normaliser."""
        if self.normaliser is None:
            return observation
        return {**observation, "vector": self.normaliser(observation["vector"])}

    def forward(self, prepared: Mapping[str, Tensor]) -> Float[Tensor, "seeds batch outputs"]:
        numbers: Tensor = self.head(self.encoder(prepared))
        return dist.masked(numbers, prepared.get("mask")) if self.kind == "choices" else numbers

    def gaussian(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-deviation: of what tanh squashes, or in half ranges."""
        mean, spread = numbers.chunk(2, dim=-1)
        if self.kind == "squashed":
            return mean, spread.clamp(*LOG_STD)
        return torch.tanh(mean), (F.softplus(spread) * (START / math.log(2)) + LEAST).log()

    def squashed(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """A draw before tanh, with its gradient, and the log-density of its tanh (Haarnoja et al. 2018, eq. 21)."""
        mean, log_std = self.gaussian(numbers)
        noise = torch.randn_like(mean)
        z = torch.addcmul(mean, log_std.exp(), noise)
        # log N(z) - `dist.log_squash(z)`, with what needs a gradient in few steps.
        constant = self.size * (dist.LOG_ROOT_2PI + 2 * math.log(2))
        slope = (2 * (z + F.softplus(-2 * z)) - log_std).sum(-1)
        return z, slope - (0.5 * noise.square().sum(-1) + constant)

    def unit(self, stored: Tensor) -> Tensor:
        """A stored action in [-1, 1], as critics see it and as the environment's bounds are scaled from."""
        if self.kind == "squashed":
            return torch.tanh(stored)
        return stored.clamp(-1, 1) if self.kind == "gaussian" else stored

    def log_prob(self, numbers: Tensor, stored: Tensor) -> Float[Tensor, "seeds batch"]:
        """Log-density of stored actions, or log-probability of choices. A deterministic actor has none."""
        if self.kind == "choices":
            return dist.log_choice(numbers, stored)
        mean, log_std = self.gaussian(numbers)
        log = dist.log_gaussian(stored, mean, log_std)
        return log - dist.log_squash(stored) if self.kind == "squashed" else log

    def start(self, seeds: int, copies: int) -> Tensor | None:
        if self.kind == "deterministic" and self.config.noise == "ou":
            return self.head.weight.new_zeros(seeds, copies, self.size)
        return None

    def act(self, observation: Mapping[str, Tensor], carry: Tensor | None, through: float) -> Acted:
        extras: dict[str, Tensor] = {}
        if self.begun:
            numbers = self(self.prepared(observation))
            stored, carry = self._explored(numbers, carry)
            if self.config.returns == "retrace":
                extras["log_prob"] = self.log_prob(numbers, stored)
        else:
            stored, log_prob = self._uniform(observation)
            if self.config.returns == "retrace":
                extras["log_prob"] = log_prob
        return Acted(self._outer(stored), carry, {"stored": stored, **extras})

    def greedy(self, observation: Mapping[str, Tensor], carry: Tensor | None) -> Acted:
        numbers = self(self.prepared(observation))
        if self.kind == "choices":
            return Acted(numbers.argmax(-1), carry)
        if self.kind == "deterministic":
            return Acted(self._outer(torch.tanh(numbers)), carry)
        return Acted(self._outer(self.gaussian(numbers)[0]), carry)

    def _outer(self, stored: Tensor) -> Tensor:
        """A stored action as the environment takes it."""
        return stored if self.kind == "choices" else self.middle + self.reach * self.unit(stored)

    def _explored(self, numbers: Tensor, carry: Tensor | None) -> tuple[Tensor, Tensor | None]:
        config = self.config
        if self.kind == "choices":
            return dist.choose(numbers), carry
        if self.kind == "deterministic":
            noise = config.noise_std * torch.randn_like(numbers)
            if carry is not None:
                noise = carry = (1 - config.ou_theta) * carry + noise
            return (torch.tanh(numbers) + noise).clamp(-1, 1), carry
        mean, log_std = self.gaussian(numbers)
        return mean + log_std.exp() * torch.randn_like(mean), carry

    def _uniform(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Stored actions that are uniform within the bounds, or over what is allowed, and their log-densities."""
        seen = next(iter(observation.values()))
        shape = seen.shape[:2]
        if self.kind == "choices":
            even = dist.masked(torch.zeros(*shape, self.size, device=seen.device), observation.get("mask"))
            choice = dist.choose(even)
            return choice, dist.log_choice(even, choice)
        drawn = torch.rand(*shape, self.size, device=seen.device)
        log = torch.full(shape, -self.size * math.log(2), device=seen.device)
        # tanh of half a logistic draw is uniform: what is squashed is drawn before tanh here too.
        return drawn.logit(1e-6) / 2 if self.kind == "squashed" else 2 * drawn - 1, log


class CriticNet(nn.Module):
    """`config.critics` values of observations and actions. Critics are more seeds: c of seed s is c x seeds + s."""

    def __init__(self, config: ControlConfig, spec: Spec, seeds: int) -> None:
        super().__init__()
        self.critics, copies = config.critics, config.critics * seeds
        box = spec.action.kind == "box"
        self.encoder = Encoder(copies, spec, (), config.activation, config.image)
        size = self.encoder.size + (spec.action.size if box else 0)
        self.body = mlp(copies, (size, *config.hidden), config.activation, norm=config.norm)
        outputs = config.atoms if box else spec.action.choices[0]
        self.head = Linear(copies, config.hidden[-1] if config.hidden else size, outputs)

    def forward(
        self, prepared: Mapping[str, Tensor], action: Tensor | None = None
    ) -> Float[Tensor, "critics seeds batch *draws outputs"]:
        """Atoms of the actions [seeds, batch, dims], or of several in each state [seeds, batch, draws, dims]; without
        an action, the value of each choice."""
        features = self.encoder({n: self._each(v) for n, v in prepared.items() if n != "mask"})
        draws: tuple[int, ...] = ()
        if action is not None:
            action = self._each(action)
            if action.dim() == 4:
                draws = (action.shape[2],)
                features = features[:, :, None].expand(*features.shape[:2], *draws, features.shape[-1]).flatten(1, 2)
                action = action.flatten(1, 2)
            features = torch.cat([features, action], dim=-1)
        out: Tensor = self.body(features)
        if self.head.outputs == 1:  # a product and a sum: stacked matrices of one column are multiplied slowly
            out = (out * self.head.weight.mT).sum(-1, keepdim=True) + self.head.bias
        else:
            out = self.head(out)
        seeds = len(out) // self.critics
        return out.view(self.critics, seeds, -1, *draws, out.shape[-1])

    def _each(self, x: Tensor) -> Tensor:
        """For every critic the same."""
        return x[None].expand(self.critics, *x.shape).flatten(0, 1)


class Temperature(nn.Module):
    """SAC's weight of the entropy, by its log."""

    def __init__(self, seeds: int, begin: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.full((seeds, 1), math.log(begin)))

    def forward(self) -> Float[Tensor, "seeds 1"]:
        return self.log.exp()


class Duals(nn.Module):
    """MPO's temperature and multipliers, positive by softplus. Choices have one multiplier, Gaussians two for each
    dimension."""

    def __init__(self, seeds: int, multipliers: tuple[int, ...], begin: float = 1.0) -> None:
        super().__init__()
        inverse = math.log(math.expm1(begin))
        self.eta = nn.Parameter(torch.full((seeds, 1), inverse))
        self.alphas = nn.ParameterList(torch.full((seeds, 1, count), inverse) for count in multipliers)

    def forward(self) -> tuple[Float[Tensor, "seeds 1"], list[Float[Tensor, "seeds 1 count"]]]:
        return F.softplus(self.eta) + 1e-8, [F.softplus(alpha) + 1e-8 for alpha in self.alphas]
