"""Value-based agents: DQN and all that grew on it, one class whose parts mix freely.

Every name of the family (double, dueling, multistep, per, noisy, c51, qrdqn, iqn, m_dqn, rainbow, ape_x, r2d2...) is a
set of switches of one config, so that any legal mix is an agent: "dqn+dueling+per+munchausen+iqn+n3+lstm".
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from daybreak.errors import UserError
from daybreak.systems.rl import recipe, values
from daybreak.systems.rl.actor import Acted, ActingNet
from daybreak.systems.rl.dist import masked
from daybreak.systems.rl.mixing import FITS, mixed, value_presets
from daybreak.systems.rl.nets.encoders import Encoder
from daybreak.systems.rl.nets.layers import LayerNorm, Linear, NoisyLinear, Recurrent, resample
from daybreak.systems.rl.recipe import Learner
from daybreak.systems.rl.returns import rescale, unscale
from daybreak.systems.rl.spec import Spec
from daybreak.systems.rl.store import Block, Priorities, Ring

COSINES = 64
"""Length of IQN's embedding of a quantile (Dabney et al. 2018, eq. 4)."""


class ValueConfig(recipe.Config):
    """What a value-based agent is made of."""

    head: Literal["scalar", "c51", "quantile", "iqn"] = "scalar"
    """What is learned of the return: its mean, its distribution on fixed atoms, its quantiles, any quantile."""
    double: bool = False
    """The online net picks the action that the target net values (van Hasselt et al. 2016)."""
    dueling: bool = False
    """A stream for the state and one for the advantages (Wang et al. 2016)."""
    noisy: bool = False
    """Explore by learned noise in the weights (Fortunato et al. 2018)."""
    munchausen: bool = False
    """Add the scaled log-policy to the reward, and a soft target (Vieillard et al. 2020)."""
    n_step: int = Field(1, ge=1, le=64)
    """Steps of reward before the bootstrap."""
    prioritised: bool = False
    """Replay by priority (Schaul et al. 2016)."""
    memory: Literal["none", "lstm", "gru"] = "none"
    """A recurrent layer, learned on sequences (Kapturowski et al. 2019)."""
    norm: bool = False
    """Layer normalisation, which keeps bootstrapped values from running away (Gallici et al. 2025)."""
    rescaled: bool = False
    """Learn the value rescaled by h (Pohlen et al. 2018)."""
    batch: int = Field(64, ge=1)
    """Transitions, or sequences where there is a memory, in one update, for each seed."""
    replay: int = Field(50_000, ge=2)
    """Steps that are kept, for each seed."""
    spill: bool = False
    """Keep replay in files that the system pages, where it does not fit into memory."""
    play: int = Field(16, ge=1)
    """Steps in each copy between two rounds of learning."""
    updates: int = Field(32, ge=1)
    """Updates in a round."""
    learning_starts: int = Field(1000, ge=1)
    """Steps before learning begins."""
    target_every: int = Field(200, ge=1)
    """Updates between copies of the online net into the target net."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    clip: float = Field(10.0, ge=0)
    """Largest gradient norm; 0 leaves gradients alone."""
    epsilon: float = Field(1.0, ge=0, le=1)
    """Share of random actions at the start."""
    epsilon_end: float = Field(0.04, ge=0, le=1)
    """Share of random actions once the share has fallen."""
    epsilon_over: float = Field(0.2, gt=0, le=1)
    """Share of the budget over which it falls."""
    spread: float = Field(0.0, ge=0)
    """Each copy's own share, epsilon^(1 + spread i / (copies - 1)), for good (Horgan et al. 2018); 0: none."""
    alpha: float = Field(0.6, ge=0, le=1)
    """Exponent of priorities."""
    beta: float = Field(0.4, ge=0, le=1)
    """Exponent of the importance weights at the start; 1 at the end."""
    atoms: int = Field(51, ge=2)
    """Atoms of C51, or quantiles of a quantile head; the targets' number for IQN."""
    v_min: float = 0.0
    """Least return of C51's support."""
    v_max: float = 100.0
    """Largest return of C51's support."""
    temperature: float = Field(0.03, gt=0)
    """Of Munchausen's policy."""
    bonus: float = Field(0.9, ge=0, le=1)
    """Weight of Munchausen's log-policy."""
    length: int = Field(20, ge=1)
    """Steps of a sequence that are learned from."""
    burn_in: int = Field(10, ge=0)
    """Steps of a sequence that only warm the memory."""
    optimiser: Literal["adam", "adamw"] = "adam"
    """What makes the updates."""


class QNet(ActingNet):
    """Observations to values [seeds, batch, actions, atoms], with its exploration."""

    def __init__(self, config: ValueConfig, spec: Spec, seeds: int) -> None:
        super().__init__()
        self.config, self.seeds, self.actions = config, seeds, spec.action.choices[0]
        *before, last = config.hidden or (64,)
        self.encoder = Encoder(
            seeds, spec, tuple(before), config.activation, config.image,
            normalise=config.normalise, norm=config.norm,
        )  # fmt: skip
        size = self.encoder.size
        self.memory = Recurrent(seeds, size, last, config.memory) if config.memory != "none" else None
        size = last if self.memory is not None else size
        layer: type[Linear] = NoisyLinear if config.noisy else Linear
        atoms = 1 if config.head in ("scalar", "iqn") else config.atoms
        self.atoms = atoms

        def stream(outputs: int) -> nn.Sequential:
            norm = [LayerNorm(seeds, last)] if config.norm else []
            return nn.Sequential(layer(seeds, size, last), *norm, nn.ReLU(), layer(seeds, last, outputs))

        self.advantage = stream(self.actions * atoms)
        self.state = stream(atoms) if config.dueling else None
        self.embed = Linear(seeds, COSINES, size) if config.head == "iqn" else None
        if config.head == "c51":
            self.register_buffer("support", torch.linspace(config.v_min, config.v_max, atoms))
        self.support: Tensor

    def start(self, seeds: int, copies: int) -> Tensor | None:
        return self.memory.start(seeds, copies) if self.memory is not None else None

    def head(self, features: Tensor, taus: Tensor | None = None) -> Tensor:
        """Values [seeds, batch, actions, atoms] of features; IQN's atoms are those of `taus` [seeds, batch, n]."""
        batch = features.shape[1]
        if self.embed is not None:
            assert taus is not None
            n = taus.shape[-1]
            waves = torch.cos(torch.pi * torch.arange(1, COSINES + 1, device=taus.device) * taus[..., None])
            embedded = torch.relu(self.embed(waves.flatten(1, 2)))
            features = (features[:, :, None] * embedded.view(len(features), batch, n, -1)).flatten(1, 2)
            out = self._streams(features)[..., 0]
            return out.view(len(out), batch, n, -1).transpose(2, 3)
        return self._streams(features)

    def _streams(self, features: Tensor) -> Tensor:
        advantage: Tensor = self.advantage(features).view(*features.shape[:2], self.actions, self.atoms)
        if self.state is None:
            return advantage
        state: Tensor = self.state(features)
        return state[..., None, :] + advantage - advantage.mean(2, keepdim=True)

    def mean(self, out: Tensor) -> Tensor:
        """Expected values [seeds, batch, actions] of the head's output."""
        if self.config.head == "c51":
            return (out.softmax(-1) * self.support).sum(-1)
        return out.mean(-1)

    def _q(self, observation: Mapping[str, Tensor], carry: Tensor | None) -> tuple[Tensor, Tensor | None]:
        features = self.encoder(observation)
        if self.memory is not None:
            assert carry is not None
            carry = self.memory.cell(features, carry)
            features = carry[..., : self.memory.size]
        taus = None
        if self.config.head == "iqn":
            shape = (*features.shape[:2], 32)
            # As it plays after training, an agent answers the same to the same.
            taus = (
                torch.rand(shape, device=features.device)
                if self.training
                else ((torch.arange(32, device=features.device) + 0.5) / 32).expand(shape)
            )
        q = self.mean(self.head(features, taus))
        return masked(q, observation.get("mask")), carry

    def act(self, observation: Mapping[str, Tensor], carry: Tensor | None, through: float) -> Acted:
        config = self.config
        if config.noisy:
            resample(self)
        q, following = self._q(observation, carry)
        action = q.argmax(-1)
        if not config.noisy:
            random = torch.rand_like(q)
            mask = observation.get("mask")
            random = (random if mask is None else random.masked_fill(~mask, -1.0)).argmax(-1)
            action = torch.where(
                torch.rand(action.shape, device=q.device) < self.epsilon(action.shape, through).to(q.device),
                random,
                action,
            )
        extras = {"carry": carry} if carry is not None else {}
        return Acted(action, following, extras)

    def epsilon(self, shape: torch.Size, through: float) -> Tensor:
        """Each copy's share of random actions."""
        config = self.config
        if config.spread:
            index, count = self.share
            copies = (torch.arange(shape[1]) + index * shape[1]) / max(1, count * shape[1] - 1)
            return (config.epsilon ** (1 + config.spread * copies)).expand(shape)
        fallen = min(1.0, through / config.epsilon_over)
        return torch.full(shape, config.epsilon + (config.epsilon_end - config.epsilon) * fallen)

    def greedy(self, observation: Mapping[str, Tensor], carry: Tensor | None) -> Acted:
        q, following = self._q(observation, carry)
        return Acted(q.argmax(-1), following, {"q": q})


class Value(Learner[ValueConfig]):
    """Learns values from replay: DQN, its children, and any mix of their parts."""

    Config: ClassVar[type[Any]] = ValueConfig
    family = "value"
    presets: ClassVar[Mapping[str, ValueConfig]] = {
        name: ValueConfig(**parts) for name, parts in value_presets().items()
    }

    @classmethod
    def preset(cls, name: str) -> ValueConfig | None:
        """A preset or a mix ("dqn+per+n3"), either with the settings for an environment ("dqn@Acrobot-v1")."""
        return mixed(ValueConfig, cls.presets, name)

    @classmethod
    def net_of(cls, config: ValueConfig, spec: Spec, seeds: int) -> QNet:
        if spec.action.kind != "discrete":
            raise recipe.refuse(spec, "a value-based agent", FITS)
        return QNet(config, spec, seeds)

    def build(self) -> None:
        config = self.config
        self.play = config.play
        self.net: QNet = self.net_of(config, self.spec, config.seeds).to(self.device)
        self.target = copy.deepcopy(self.net).requires_grad_(False)
        options = {"fused": True, "eps": 1e-8 if config.head == "scalar" else 1e-4 / config.batch}
        self.optimiser("net", self.net.parameters(), config.optimiser, **options)
        span = config.n_step if self.net.memory is None else config.burn_in + config.length + config.n_step - 1
        self.span = span + 1  # the row after tells what the last step led to
        self.ring = Ring(self.spec, config.seeds, config.envs, config.replay, self.spec.stack, config.spill)
        if self.ring.rows < self.span:
            raise UserError(
                f"--replay {config.replay} over {config.envs} copies keeps {self.ring.rows} steps of each; "
                f"an update needs {self.span}: use --replay {self.span * config.envs} or more"
            )
        rows = self.ring.rows
        self.priorities = Priorities(config.seeds, rows, config.envs, config.alpha) if config.prioritised else None

    def state(self) -> Mapping[str, Any]:
        found = {**super().state(), "replay": self.ring}
        return {**found, "priorities": self.priorities} if self.priorities is not None else found

    def learn(self, block: Block) -> dict[str, Tensor | float]:
        config = self.config
        if config.normalise:
            seen = torch.from_numpy(block.columns["vector"]).transpose(0, 1).flatten(1, 2)
            self.net.encoder.see({"vector": seen.to(self.device)})
        rows = self.ring.add(block)
        if self.priorities is not None:
            self.priorities.complete(self.ring, rows, self.span)
        if len(self.ring) * config.envs < config.learning_starts or len(self.ring) < self.span:
            return {}
        # What is logged is the round's last update.
        for number in range(config.updates):
            logs = self._update(watched=number == config.updates - 1)
        return {**logs}

    def _update(self, watched: bool) -> dict[str, Tensor]:
        config = self.config
        if self.priorities is not None:
            beta = config.beta + (1 - config.beta) * self.through
            rows, copies, importance = self.priorities.pick(self.ring, self.random, config.batch, beta)
            weights = self._tensor(importance)
        else:
            rows, copies = self.ring.draw(self.random, config.batch, self.span)
            weights = None
        if config.noisy:
            resample(self.net)
            resample(self.target)
        losses, errors, q = self._losses(rows, copies) if self.net.memory is None else self._sequence(rows, copies)
        loss = (losses if weights is None else losses * weights).mean(1).sum()
        self.update("net", loss)
        if self.priorities is not None:
            self.priorities.set(rows, copies, errors.cpu().numpy() + 1e-6)
        self.counts["updates"] += 1
        if self.counts["updates"] % config.target_every == 0:
            with torch.no_grad():
                for mine, online in zip(self.target.parameters(), self.net.parameters(), strict=True):
                    mine.copy_(online)
                for kept, current in zip(self.target.buffers(), self.net.buffers(), strict=True):
                    kept.copy_(current)
        if not watched:
            return {}
        out = {"loss": loss.detach() / config.seeds, "q": q.mean().detach()}
        if weights is not None:
            out["effective"] = (weights.sum(1).square() / weights.square().sum(1)).mean() / config.batch
        return out

    def _losses(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Losses and errors [seeds, batch], and the values of the actions taken."""
        raw = self.ring.transitions(rows, copies, self.config.n_step, self.config.gamma)
        batch = {name: self._tensor(value) for name, value in raw.items() if not isinstance(value, dict)}
        now = {name: self._tensor(value) for name, value in raw["observation"].items()}
        after = {name: self._tensor(value) for name, value in raw["next"].items()}
        online, frozen = self.net.encoder, self.target.encoder
        with torch.no_grad():
            following = frozen(after)
            own = online(after) if self.config.double else following
            before = frozen(now) if self.config.munchausen else None
        return self._compare(
            online(now), before, following, own, batch["action"], batch["reward"], batch["discount"],
            after.get("mask"),
        )  # fmt: skip

    def _compare(
        self, features: Tensor, before: Tensor | None, following: Tensor, own: Tensor, action: Tensor, reward: Tensor,
        discount: Tensor, mask: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """The heads' outputs at features against their targets: losses, errors and values, [seeds, batch]."""
        config, net, target = self.config, self.net, self.target
        shape = (*features.shape[:2], config.atoms)

        def taus() -> Tensor | None:
            return torch.rand(shape, device=features.device) if config.head == "iqn" else None

        with torch.no_grad():
            next_out = target.head(following, taus())
            next_q = masked(target.mean(next_out), mask)
            chooser = masked(net.mean(net.head(own, taus())), mask) if config.double else next_q
            if config.munchausen:
                assert before is not None
                _, log_pi = values.soft(target.mean(target.head(before, taus())), config.temperature)
                reward = reward + config.bonus * values.pick(log_pi, action).clamp(-1, 0)
                pi, entropy = values.soft(next_q, config.temperature)
                follows = (pi[..., None] * (next_out - entropy[..., None])).nan_to_num(0.0, 0.0, 0.0).sum(2)
            else:
                follows = values.pick(next_out, chooser.argmax(-1))
        drawn = taus()
        taken = values.pick(net.head(features, drawn), action)
        if config.head == "scalar":
            with torch.no_grad():
                follow = unscale(follows[..., 0]) if config.rescaled else follows[..., 0]
                goal = reward + discount * follow
                goal = rescale(goal) if config.rescaled else goal
            error = (taken[..., 0] - goal).detach().abs()
            return F.smooth_l1_loss(taken[..., 0], goal, reduction="none"), error, taken
        if config.head == "c51":
            goals = values.project(follows.softmax(-1), net.support, reward, discount)
            losses = -(goals * F.log_softmax(taken, -1)).sum(-1)
            # The priority is the divergence, not the cross-entropy: a certain target is not an error.
            error = (losses + torch.special.xlogy(goals, goals).sum(-1)).detach().clamp(min=0)
            return losses, error, (taken.detach().softmax(-1) * net.support).sum(-1)
        goals = reward[..., None] + discount[..., None] * follows
        at = (
            drawn
            if drawn is not None
            else ((torch.arange(config.atoms, device=taken.device) + 0.5) / config.atoms).expand(shape)
        )
        losses = values.quantile_huber(taken, at, goals)
        return losses, losses.detach(), taken

    def _sequence(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """As `_losses`, over sequences: the memory is warmed without gradient, then every step is learned from."""
        config, memory, target_memory = self.config, self.net.memory, self.target.memory
        assert memory is not None
        assert target_memory is not None
        total = self.span - 1
        raw = self.ring.sequences(rows, copies, total)
        get = {n: self._tensor(v) for n, v in raw.items() if not isinstance(v, dict)}
        now = {n: self._tensor(v) for n, v in raw["observation"].items()}
        after = {n: self._tensor(v) for n, v in raw["next"].items()}
        first, begin = get["first"].float(), get["carry"][0]

        def over(encoder: Encoder, seen: Mapping[str, Tensor]) -> Tensor:
            times, _, batch = next(iter(seen.values())).shape[:3]
            flat = {n: v.transpose(0, 1).flatten(1, 2) for n, v in seen.items()}
            out: Tensor = encoder(flat)
            return out.view(len(out), times, batch, -1).transpose(0, 1)

        burn, steps = config.burn_in, config.length
        with torch.no_grad():
            frozen = target_memory(over(self.target.encoder, now), begin, first)
            led_to = over(self.target.encoder, after)
            next_frozen = torch.stack([target_memory.cell(x, c) for x, c in zip(led_to, frozen, strict=True)])
            warm = (
                memory(over(self.net.encoder, {n: v[:burn] for n, v in now.items()}), begin, first[:burn])[-1]
                if burn
                else begin
            )
        carries = memory(over(self.net.encoder, {n: v[burn:] for n, v in now.items()}), warm, first[burn:])
        with torch.no_grad():
            own_led = over(self.net.encoder, {n: v[burn:] for n, v in after.items()})
            next_own = torch.stack([memory.cell(x, c) for x, c in zip(own_led, carries, strict=True)])
        reward, discount, last = _n_steps(
            get["reward"], get["terminated"], get["truncated"], burn, steps, config.n_step, config.gamma
        )
        size = memory.size

        def flat(x: Tensor) -> Tensor:
            return x.transpose(0, 1).flatten(1, 2)

        def at_last(x: Tensor) -> Tensor:
            index = last[..., None].expand(*last.shape, x.shape[-1])
            return flat(x.gather(0, index))

        mask = after.get("mask")
        losses, errors, q = self._compare(
            flat(carries[:steps, ..., :size]),
            flat(frozen[burn : burn + steps, ..., :size]) if config.munchausen else None,
            at_last(next_frozen[burn:, ..., :size]),
            at_last(next_own[..., :size]),
            flat(get["action"][burn : burn + steps]),
            flat(reward),
            flat(discount),
            at_last(mask[burn:]) if mask is not None else None,
        )
        batch = rows.shape[1]
        losses, errors = losses.view(-1, steps, batch), errors.view(-1, steps, batch)
        # Kapturowski et al. 2019, section 2.3: 0.9 of the largest error and 0.1 of the mean.
        return losses.mean(1), 0.9 * errors.amax(1) + 0.1 * errors.mean(1), q

    def _tensor(self, value: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(value)).to(self.device)


def _n_steps(
    reward: Tensor, terminated: Tensor, truncated: Tensor, burn: int, steps: int, n: int, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """n-step sums, discounts and the last step of each (counted from `burn`), of `steps` times after the burn-in."""
    shape = (steps, *reward.shape[1:])
    total, discount = reward.new_zeros(shape), reward.new_ones(shape)
    going = torch.ones(shape, dtype=torch.bool, device=reward.device)
    last = torch.zeros(shape, dtype=torch.long, device=reward.device)
    times = torch.arange(steps, device=reward.device).view(-1, *[1] * (reward.dim() - 1))
    for k in range(n):
        at = slice(burn + k, burn + k + steps)
        total = total + torch.where(going, discount * reward[at], 0.0)
        discount = torch.where(going, discount * gamma, discount)
        last = torch.where(going, times + k, last)
        discount = discount * ~(going & terminated[at])
        going = going & ~(terminated[at] | truncated[at])
    return total, discount, last
