"""How the control family learns: critics from replay, then the actor from the critics.

DDPG (Lillicrap et al. 2016), TD3 (Fujimoto et al. 2018), SAC (Haarnoja et al. 2018; for choices Christodoulou 2019),
TQC (Kuznetsov et al. 2020) and MPO (Abdolmaleki et al. 2018) share the loop and differ in two places: the value of what
follows, and what the actor descends.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from daybreak.errors import UserError
from daybreak.systems.rl import dist, recipe
from daybreak.systems.rl import returns as sums
from daybreak.systems.rl.control import targets
from daybreak.systems.rl.control.config import ControlConfig
from daybreak.systems.rl.control.nets import ActorNet, CriticNet, Duals, Temperature
from daybreak.systems.rl.mixing import FITS, control_presets, mixed
from daybreak.systems.rl.recipe import Learner
from daybreak.systems.rl.spec import Spec
from daybreak.systems.rl.store import Block, Ring
from daybreak.systems.rl.values import quantile_huber

Seen = Mapping[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """What one update learns from, [seeds, batch, ...]; of sequences, [seeds, time x batch, ...]."""

    now: Seen
    after: Seen
    """What the action led to, or n steps did."""
    stored: Tensor
    reward: Tensor
    discount: Tensor
    """gamma^n, 0 where nothing follows."""
    ended: Tensor | None = None
    """Whether the episode ended with this step (sequences)."""
    log_prob: Tensor | None = None
    """Of the action, as it was played (sequences)."""


@dataclass(frozen=True)
class Draws:
    """What MPO's target policy would do in the states that a batch led to, and its value there."""

    numbers: Tensor
    drawn: Tensor | None
    """Actions [seeds, batch, draws, dims]; None where every choice is looked at."""
    q: Float[Tensor, "seeds batch draws"]
    log_prior: Tensor | None
    """Log-probability of each choice."""


class Control(Learner[ControlConfig]):
    """Learns an actor through critics, from replay: DDPG, TD3, SAC, TQC, MPO."""

    Config: ClassVar[type[Any]] = ControlConfig
    family = "control"
    presets: ClassVar[Mapping[str, ControlConfig]] = {
        name: ControlConfig(**parts) for name, parts in control_presets().items()
    }

    @classmethod
    def preset(cls, name: str) -> ControlConfig | None:
        """A preset, plain or with the settings tuned for an environment ("sac@CartPole-v1")."""
        return mixed(ControlConfig, cls.presets, name)

    @classmethod
    def net_of(cls, config: ControlConfig, spec: Spec, seeds: int) -> ActorNet:
        kind = spec.action.kind
        if kind == "multi":
            raise recipe.refuse(spec, "an agent of the control family", FITS)
        if kind == "discrete" and config.actor == "deterministic":
            raise recipe.refuse(spec, "a deterministic actor (ddpg, td3)", FITS)
        if kind == "discrete" and config.atoms > 1:
            raise recipe.refuse(spec, "an agent with quantile critics (tqc)", FITS)
        return ActorNet(config, spec, seeds)

    def build(self) -> None:
        config = self.config
        self._check()
        self.play = config.play
        self.net: ActorNet = self.net_of(config, self.spec, config.seeds).to(self.device)
        self.critics = CriticNet(config, self.spec, config.seeds).to(self.device)
        self.target = copy.deepcopy(self.critics).requires_grad_(False)
        self.optimiser("critics", self.critics.parameters(), "adam", fused=True, lr=config.critic_lr or config.lr)
        self._moved: list[tuple[list[Tensor], list[Tensor]]] = [
            (list(self.target.parameters()), list(self.critics.parameters()))
        ]
        if config.actor != "squashed":
            self.old = copy.deepcopy(self.net).requires_grad_(False)
            self._moved.append((list(self.old.parameters()), list(self.net.parameters())))
        self.soft = config.entropy_reward
        if self.soft is None:
            self.soft = not (self.net.kind == "choices" and config.learn_temperature)
        # Multipliers are nets, so that they are saved with the others; they learn with the actor.
        learned: list[dict[str, Any]] = [{"params": list(self.net.parameters())}]
        if config.actor == "squashed":
            self.temperature = Temperature(config.seeds, config.temperature).to(self.device)
            if config.learn_temperature:
                learned.append({"params": list(self.temperature.parameters()), "lr": config.dual_lr})
        elif config.actor == "gaussian":
            size = self.net.size
            self.duals = Duals(config.seeds, (1,) if self.net.kind == "choices" else (size, size)).to(self.device)
            learned.append({"params": list(self.duals.parameters()), "lr": config.dual_lr})
        self.optimiser("net", learned, "adam", fused=True)
        self.span = (config.length if config.returns == "retrace" else config.n_step) + 1
        self.ring = Ring(self.spec, config.seeds, config.envs, config.replay, self.spec.stack, config.spill)
        if self.ring.rows < self.span:
            raise UserError(
                f"--replay {config.replay} over {config.envs} copies keeps {self.ring.rows} steps of each; "
                f"an update needs {self.span}: use --replay {self.span * config.envs} or more"
            )

    def _check(self) -> None:
        config = self.config
        if config.atoms > 1 and config.actor == "gaussian":
            raise UserError("--atoms with --actor gaussian: MPO's critics learn means; use --atoms 1")
        if config.atoms > 1 and config.dropped >= config.atoms:
            raise UserError(f"--dropped {config.dropped} leaves none of --atoms {config.atoms}")
        if config.returns == "retrace" and config.actor != "gaussian":
            raise UserError(
                "--returns retrace needs the density of each action: it goes with --actor gaussian; use n_step"
            )
        if config.returns == "retrace" and config.n_step > 1:
            raise UserError(f"--n-step {config.n_step} with --returns retrace: Retrace takes as many steps as --length")

    def state(self) -> Mapping[str, Any]:
        return {**super().state(), "replay": self.ring}

    # Learning

    def learn(self, block: Block) -> dict[str, Tensor | float]:
        config = self.config
        if self.net.normaliser is not None:
            seen = torch.from_numpy(block.columns["vector"]).transpose(0, 1).flatten(1, 2)
            self.net.normaliser.see(seen.to(self.device))
        self.ring.add(block)
        if len(self.ring) * config.envs < config.learning_starts or len(self.ring) < self.span:
            return {}
        self.net.begun.fill_(True)
        logs: dict[str, Tensor] = {}
        for number, batch in enumerate(self._batches(config.updates)):
            # What is logged is the round's last update, and of the actor the last one that it had.
            logs.update(self._update(batch, watched=number >= config.updates - config.actor_every))
        return {**logs}

    def _update(self, batch: Batch, watched: bool) -> dict[str, Tensor]:
        config = self.config
        with torch.no_grad():
            draws = self._draws(batch.after) if config.actor == "gaussian" else None
            goal = self._goal(batch, draws)
        q = self._values(self.critics, batch.now, batch.stored)
        loss = self._critic_loss(q, goal)
        self.update("critics", loss)
        logs = {"loss": loss.detach() / config.seeds, "q": q.detach().mean()} if watched else {}
        self.counts["updates"] += 1
        if self.counts["updates"] % config.actor_every == 0:
            lessons, found = self._mpo(batch.after, draws) if draws is not None else self._climb(batch.now)
            self.update("net", lessons.mean(1).sum())
            if watched:
                logs.update({name: value.detach().mean() for name, value in found.items()})
            if self.counts["updates"] // config.actor_every % config.target_every == 0:
                with torch.no_grad():
                    for mine, online in self._moved:
                        torch._foreach_lerp_(mine, online, config.tau)
        return logs

    def _values(self, critics: CriticNet, seen: Seen, stored: Tensor) -> Float[Tensor, "critics seeds batch atoms"]:
        """What critics say of stored actions."""
        if self.net.kind != "choices":
            return critics(seen, self.net.unit(stored))  # type: ignore[no-any-return]
        q = critics(seen)
        return q.gather(-1, stored.long()[None, ..., None].expand(*q.shape[:-1], 1))  # type: ignore[no-any-return]

    def _critic_loss(self, q: Tensor, goal: Float[Tensor, "seeds batch goals"]) -> Tensor:
        """The mean over the batch, summed over seeds and critics."""
        atoms = q.shape[-1]
        losses: Tensor
        if atoms == 1:
            losses = 0.5 * (q - goal).square()
        else:
            taus = ((torch.arange(atoms, device=q.device) + 0.5) / atoms).expand(q.shape)
            losses = quantile_huber(q, taus, goal.expand(len(q), *goal.shape))
        return losses.mean(2).sum()

    def _goal(self, batch: Batch, draws: Draws | None) -> Float[Tensor, "seeds batch goals"]:
        """What critics aim at."""
        config, net = self.config, self.net
        if draws is not None:
            value = draws.q.mean(-1) if draws.log_prior is None else (draws.log_prior.exp() * draws.q).sum(-1)
            if config.returns == "retrace":
                return self._retrace(batch, value)[..., None]
            return (batch.reward + batch.discount * value)[..., None]
        after = batch.after
        if net.kind == "choices":
            log = torch.log_softmax(net(after), dim=-1)
            q = self.target(after).amin(0)
            worth = q - self.temperature()[..., None] * log if self.soft else q
            follows = (log.exp() * worth).sum(-1, keepdim=True)
        elif net.kind == "squashed":
            z, log = net.squashed(net(after))
            q = targets.cautious(self.target(after, torch.tanh(z)), config.dropped)
            follows = q - (self.temperature() * log)[..., None] if self.soft else q
        else:
            action = torch.tanh(self.old(after))
            if config.smoothing:
                action = targets.smoothed(action, config.smoothing, config.smoothing_most)
            follows = targets.cautious(self.target(after, action), config.dropped)
        goal: Tensor = batch.reward[..., None] + batch.discount[..., None] * follows
        return goal

    def _climb(self, now: Seen) -> tuple[Float[Tensor, "seeds batch"], dict[str, Tensor]]:
        """What the actor descends (and the temperature), of DDPG, TD3, SAC and TQC; and what to log."""
        config, net = self.config, self.net
        numbers = net(now)
        if net.kind == "deterministic":
            lesson = -self.critics(now, torch.tanh(numbers))[0].mean(-1)
            return lesson, {"actor": lesson}
        weight = self.temperature().detach()
        if net.kind == "choices":
            log = torch.log_softmax(numbers, dim=-1)
            with torch.no_grad():
                q = self.critics(now).amin(0)
            entropy = -(log.exp() * log).sum(-1)
            lesson = -(log.exp() * q).sum(-1) - weight * entropy
        else:
            z, log = net.squashed(numbers)
            said = self.critics(now, torch.tanh(z))
            entropy = -log
            # TQC climbs the mean of all atoms (its eq. 13), SAC the least of the critics.
            lesson = -(said.mean((0, -1)) if config.atoms > 1 else said.amin(0)[..., 0]) - weight * entropy
        found = {"actor": lesson, "entropy": entropy, "temperature": weight}
        if config.learn_temperature:
            lesson = lesson + targets.temperature_loss(self.temperature.log, entropy, self._aim(now))
        return lesson, found

    def _aim(self, now: Seen) -> Tensor | float:
        """The entropy that the temperature holds."""
        config = self.config
        if config.target_entropy is not None:
            return config.target_entropy
        if self.net.kind != "choices":
            return -float(self.net.size)
        mask = now.get("mask")
        if mask is None:
            return config.entropy_share * math.log(self.net.size)
        return config.entropy_share * mask.sum(-1).log()

    # MPO

    def _draws(self, after: Seen) -> Draws:
        """Both steps use the same draws, in the states that the batch led to: half the work (as in DeepMind's Acme)."""
        numbers = self.old(after)
        if self.net.kind == "choices":
            log = torch.log_softmax(numbers, dim=-1)
            return Draws(numbers, None, self.target(after).amin(0), log)
        mean, log_std = self.net.gaussian(numbers)
        shape = (*mean.shape[:2], self.config.draws, mean.shape[-1])
        noise = torch.randn(shape, device=mean.device)
        drawn = mean[:, :, None] + log_std.exp()[:, :, None] * noise
        q = self.target(after, self.net.unit(drawn)).amin(0)[..., 0]
        return Draws(numbers, drawn, q, None)

    def _mpo(self, after: Seen, draws: Draws) -> tuple[Float[Tensor, "seeds batch"], dict[str, Tensor]]:
        """What the actor and the multipliers descend, and what to log."""
        config, net = self.config, self.net
        eta, alphas = self.duals()
        weights, dual = targets.reweigh(draws.q, eta.expand(draws.q.shape[:2]), config.eps_eta, draws.log_prior)
        numbers = net(after)
        if draws.drawn is None:
            assert draws.log_prior is not None
            lesson = -(weights * torch.log_softmax(numbers, dim=-1).nan_to_num()).sum(-1)
            kl = dist.kl_choice(draws.numbers, numbers)
            # The divergence that is bounded is the mean over states: so each multiplier's dual is, too.
            bound = targets.held(kl, alphas[0][..., 0], config.eps_mean)
            return lesson + dual + bound, {"actor": lesson, "eta": eta, "kl": kl, "alpha": alphas[0]}
        mean, log_std = net.gaussian(numbers)
        lesson, mean_kl, spread_kl = targets.follow(weights, draws.drawn, mean, log_std, *net.gaussian(draws.numbers))
        bound = targets.held(mean_kl, alphas[0], config.eps_mean) + targets.held(
            spread_kl, alphas[1], config.eps_spread
        )
        found = {"actor": lesson, "eta": eta, "kl": mean_kl, "kl_spread": spread_kl, "deviation": log_std.exp(),
                 "alpha": alphas[0], "alpha_spread": alphas[1]}  # fmt: skip
        return lesson + dual + bound.sum(-1), found

    def _retrace(self, batch: Batch, value: Float[Tensor, "seeds steps"]) -> Float[Tensor, "seeds steps"]:
        """Retrace's targets of every step of the sequences, under the target policy."""
        config = self.config
        assert batch.ended is not None
        assert batch.log_prob is not None
        q = self._values(self.target, batch.now, batch.stored).amin(0)[..., 0]
        log_ratio = self.net.log_prob(self.old(batch.now), batch.stored) - batch.log_prob

        def over(x: Tensor) -> Tensor:
            return x.view(len(x), config.length, -1).transpose(0, 1)

        goal = sums.retrace(
            over(batch.reward), over(q), over(value), over((batch.discount == 0).float()), over(batch.ended.float()),
            over(log_ratio), config.gamma, config.lam,
        )  # fmt: skip
        return goal.transpose(0, 1).flatten(1)

    # Replay

    def _batches(self, count: int) -> Iterator[Batch]:
        """Batches for a round's updates. Those of numbers are gathered at once, those of frames one by one."""
        together = 1 if self.spec.image else count
        for _ in range(0, count, together):
            rows, copies = self.ring.draw(self.random, together * self.config.batch, self.span)
            yield from self._cut(rows, copies, together)

    def _cut(self, rows: np.ndarray, copies: np.ndarray, parts: int) -> Iterator[Batch]:
        config = self.config
        if config.returns == "retrace":
            raw = self.ring.sequences(rows, copies, config.length)
            raw["discount"] = np.where(raw["terminated"], 0.0, config.gamma).astype(np.float32)
            raw["ended"] = raw["terminated"] | raw["truncated"]
        else:
            raw = self.ring.transitions(rows, copies, config.n_step, config.gamma)
            raw["stored"] = self.ring.column("stored", rows, copies)
        time = 1 if config.returns == "retrace" else 0

        def tensor(value: np.ndarray) -> Tensor:
            """[seeds, parts, (time x) batch, ...]."""
            whole = torch.from_numpy(np.ascontiguousarray(value)).to(self.device)
            if time:
                whole = whole.view(*whole.shape[:2], parts, config.batch, *whole.shape[3:])
                return whole.permute(1, 2, 0, *range(3, whole.dim())).flatten(2, 3)
            return whole.view(len(whole), parts, config.batch, *whole.shape[2:])

        numbers = {n: tensor(raw[n]) for n in ("stored", "reward", "discount")}
        played = {n: tensor(raw[n]) for n in ("ended", "log_prob")} if time else {}
        now, after = ({n: tensor(v) for n, v in raw[which].items()} for which in ("observation", "next"))
        for part in range(parts):
            yield Batch(
                self.net.prepared({n: v[:, part] for n, v in now.items()}),
                self.net.prepared({n: v[:, part] for n, v in after.items()}),
                **{n: v[:, part] for n, v in (numbers | played).items()},
            )
