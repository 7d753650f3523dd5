"""The nets of policy-gradient agents: observations to a policy and a value, with a memory or without; V-MPO's duals.

They know spaces and carries; they know nothing about losses.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from daybreak.systems.rl import dist
from daybreak.systems.rl.actor import Acted, ActingNet
from daybreak.systems.rl.nets.encoders import Encoder
from daybreak.systems.rl.nets.layers import Linear, Recurrent
from daybreak.systems.rl.policy.config import PolicyConfig
from daybreak.systems.rl.spec import Spec


class PolicyNet(ActingNet):
    """Observations to a policy and a value (two with RND). Reals come from a Gaussian whose deviation is one for all
    states; the action is stored as drawn, and cut to the bounds only where the environment takes it."""

    def __init__(self, config: PolicyConfig, spec: Spec, seeds: int) -> None:
        super().__init__()
        self.config, self.space = config, spec.action
        self.shared = config.shared or spec.image is not None
        self.times = 1 if self.shared else 2

        # Two encoders of one shape are one encoder of twice the seeds: half the calls.
        self.encoder = Encoder(
            seeds * self.times, spec, config.hidden, config.activation, config.image,
            orthogonal=True, normalise=config.normalise,
        )  # fmt: skip
        size = self.encoder.size
        # A memory of their own each, where policy and value share no encoder.
        self.memory = Recurrent(seeds * self.times, size, size, config.memory) if config.memory != "none" else None
        outputs = self.space.size if self.space.kind == "box" else sum(self.space.choices)
        self.policy = Linear(seeds, size, outputs, "orthogonal", 0.01)
        self.value = Linear(seeds, size, 2 if config.curiosity == "rnd" else 1, "orthogonal", 1.0)
        if self.space.kind == "box":
            self.log_std = nn.Parameter(torch.full((seeds, 1, outputs), config.log_std))
            low, high = torch.tensor(self.space.low), torch.tensor(self.space.high)
            self.register_buffer("middle", (low + high) / 2)
            self.register_buffer("reach", (high - low) / 2)
        self.middle: Tensor
        self.reach: Tensor

    def start(self, seeds: int, copies: int) -> Tensor | None:
        """The carry [seeds, copies, width]: the policy's memory, then the value's where it has one."""
        if self.memory is None:
            return None
        return self.memory.inner.weight.new_zeros(seeds, copies, self.times * self.memory.width)

    def both(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The policy's numbers [seeds, batch, outputs] (logits, or means in units of the half range) and the values
        [seeds, batch, 1 or 2], of a net without memory."""
        return self._answers(self._features(observation), observation.get("mask"))

    def recall(self, observation: Mapping[str, Tensor], carry: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """As `both`, from a carry; and the carry after it."""
        features = self._features(observation)
        if self.memory is None or carry is None:
            return *self._answers(features, observation.get("mask")), carry
        after = self.memory.cell(features, self._stacked(carry))
        out = after[..., : self.memory.size]
        return *self._answers(out, observation.get("mask")), torch.cat(after.chunk(self.times), dim=-1)

    def through(self, observation: Mapping[str, Tensor], carry: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """As `both`, of sequences: observations [seeds, batch, time, ...] from carries [seeds, batch, width]; `first`
        [seeds, batch, time] is 1 where an episode begins. Answers are [seeds, batch x time, ...]."""
        assert self.memory is not None
        _, batch, time = first.shape
        flat = {name: value.flatten(1, 2) for name, value in observation.items()}
        features = self._features(flat).view(-1, batch, time, self.encoder.size).movedim(2, 0)
        begins = first.movedim(2, 0).repeat(1, self.times, 1)
        out = self.memory(features, self._stacked(carry), begins)[..., : self.memory.size]
        return self._answers(out.movedim(0, 2).flatten(1, 2), flat.get("mask"))

    def _features(self, observation: Mapping[str, Tensor]) -> Tensor:
        """What the encoders make of observations [seeds, batch, ...]: [seeds or twice as many, batch, size]."""
        if not self.shared:
            # One seed's is shown twice, without a copy; several seeds' stand one after another.
            observation = {
                n: v.expand(2, *v.shape[1:]) if len(v) == 1 else torch.cat((v, v)) for n, v in observation.items()
            }
        features: Tensor = self.encoder(observation)
        return features

    def _answers(self, features: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Numbers and values of features."""
        actor, critic = (features, features) if self.shared else features.chunk(2)
        numbers = self.policy(actor)
        return dist.masked(numbers, mask) if self.space.kind != "box" else numbers, self.value(critic)

    def _stacked(self, carry: Tensor) -> Tensor:
        """The carry as the memory takes it: [seeds or twice as many, copies, width]."""
        return torch.cat(carry.chunk(self.times, dim=-1))

    def see(self, observation: Mapping[str, Tensor]) -> None:
        """Let the normaliser take in observations [seeds, batch, ...]."""
        self.encoder.see({n: v.repeat(self.times, *[1] * (v.dim() - 1)) for n, v in observation.items()})

    def parts(self, numbers: Tensor) -> tuple[Tensor, ...]:
        """Logits of each choice."""
        return (numbers,) if self.space.kind == "discrete" else torch.split(numbers, list(self.space.choices), dim=-1)

    def sample(self, numbers: Tensor) -> Tensor:
        """An action as it is stored: choices, or reals in units of the half range, not cut."""
        if self.space.kind == "box":
            return numbers + self.log_std.exp() * torch.randn_like(numbers)
        drawn = [dist.choose(part) for part in self.parts(numbers)]
        return drawn[0] if self.space.kind == "discrete" else torch.stack(drawn, dim=-1)

    def log_prob(self, numbers: Tensor, action: Tensor) -> Tensor:
        """Log-probability of stored actions [seeds, batch]."""
        if self.space.kind == "box":
            return dist.log_gaussian(action, numbers, self.log_std.expand_as(numbers))
        if self.space.kind == "discrete":
            return dist.log_choice(numbers, action)
        return torch.stack([dist.log_choice(p, action[..., i]) for i, p in enumerate(self.parts(numbers))]).sum(0)

    def entropy(self, numbers: Tensor) -> Tensor:
        """Entropy in nats [seeds, batch]."""
        if self.space.kind == "box":
            return dist.entropy_gaussian(self.log_std.expand_as(numbers))
        if self.space.kind == "discrete":
            return dist.entropy_choice(numbers)
        return torch.stack([dist.entropy_choice(part) for part in self.parts(numbers)]).sum(0)

    def outer(self, action: Tensor) -> Tensor:
        """A stored action as the environment takes it."""
        if self.space.kind != "box":
            return action
        return self.middle + self.reach * action.clamp(-1, 1)

    def act(self, observation: Mapping[str, Tensor], carry: Tensor | None, through: float) -> Acted:
        numbers, value, after = self.recall(observation, carry)
        stored = self.sample(numbers)
        extras = {"stored": stored, "log_prob": self.log_prob(numbers, stored), "value": value}
        if self.config.objective == "vmpo":
            extras["numbers"] = numbers
        if carry is not None:
            extras["carry"] = carry
        return Acted(self.outer(stored), after, extras)

    def greedy(self, observation: Mapping[str, Tensor], carry: Tensor | None) -> Acted:
        numbers, value, after = self.recall(observation, carry)
        if self.space.kind == "box":
            return Acted(self.outer(numbers), after, {"value": value})
        best = [part.argmax(-1) for part in self.parts(numbers)]
        return Acted(best[0] if self.space.kind == "discrete" else torch.stack(best, dim=-1), after, {"value": value})


class Duals(nn.Module):
    """V-MPO's temperature and multipliers, positive by softplus."""

    def __init__(self, seeds: int, multipliers: int) -> None:
        super().__init__()
        self.eta = nn.Parameter(torch.full((seeds, 1), 0.54))  # softplus(0.54) = 1
        self.alpha = nn.Parameter(torch.full((seeds, multipliers), 4.99))

    def forward(self) -> tuple[Tensor, Tensor]:
        return F.softplus(self.eta) + 1e-8, F.softplus(self.alpha) + 1e-8
