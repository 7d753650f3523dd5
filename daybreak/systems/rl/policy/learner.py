"""Policy-gradient agents: REINFORCE, A2C, PPO (with ICM or RND), V-MPO and IMPALA, one class.

They learn from what was just played, then forget it. A preset chooses how advantages are computed (Monte Carlo, GAE,
V-trace), what is maximised (the gradient, PPO's clip, V-MPO's dual) and what is added for curiosity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from daybreak.errors import UserError
from daybreak.systems.rl import dist, returns
from daybreak.systems.rl.actor import ReturnScale
from daybreak.systems.rl.mixing import mixed, policy_presets
from daybreak.systems.rl.nets.curiosity import Icm, Rnd
from daybreak.systems.rl.policy.config import PolicyConfig
from daybreak.systems.rl.policy.nets import Duals, PolicyNet
from daybreak.systems.rl.recipe import Learner
from daybreak.systems.rl.spec import Spec
from daybreak.systems.rl.store import Block, Ring


class Policy(Learner[PolicyConfig]):
    """Learns a policy from its own play: PPO and its relatives."""

    Config: ClassVar[type[Any]] = PolicyConfig
    family = "policy"
    presets: ClassVar[Mapping[str, PolicyConfig]] = {
        name: PolicyConfig(**parts) for name, parts in policy_presets().items()
    }

    @classmethod
    def preset(cls, name: str) -> PolicyConfig | None:
        """A preset, plain or with the settings tuned for an environment ("ppo@Acrobot-v1")."""
        return mixed(PolicyConfig, cls.presets, name)

    @classmethod
    def net_of(cls, config: PolicyConfig, spec: Spec, seeds: int) -> PolicyNet:
        return PolicyNet(config, spec, seeds)

    def build(self) -> None:
        config = self.config
        self.play = config.play
        played = config.play * config.envs
        if played % config.batch:
            raise UserError(
                f"--batch {config.batch} does not divide the {played} steps that {config.envs} copies play in "
                f"{config.play}: {played % config.batch} would be left over"
            )
        self.length = (config.sequence or config.play) if config.memory != "none" else 1
        """Steps that are learned from in one piece."""
        for name, whole in (("--play", config.play), ("--batch", config.batch)):
            if whole % self.length:
                raise UserError(
                    f"{name} {whole} is no multiple of the {self.length} steps of a sequence through which the memory "
                    f"learns: {whole % self.length} would be left over; set --sequence"
                )
        self.net: PolicyNet = self.net_of(config, self.spec, config.seeds).to(self.device)
        kind: Any = torch.optim.RMSprop if config.optimiser == "rmsprop" else config.optimiser
        options = (
            {"alpha": 0.99, "eps": 1e-5} if config.optimiser == "rmsprop" else {"fused": True, "eps": config.adam_eps}
        )
        learned = list(self.net.parameters())
        self.curiosity: Icm | Rnd | None = None
        if config.curiosity != "none":
            made = Icm if config.curiosity == "icm" else Rnd
            self.curiosity = made(config.seeds, self.spec).to(self.device)
            learned += [p for p in self.curiosity.parameters() if p.requires_grad]
        if config.objective == "vmpo":
            # The duals are nets, so that they are saved with the others.
            count = 2 if self.spec.action.kind == "box" else 1
            self.duals = Duals(config.seeds, count).to(self.device)
            learned += list(self.duals.parameters())
        self.optimiser("net", learned, kind, **options)
        # Frames are stacked as replay stacks them.
        self.ring = Ring(
            self.spec, config.seeds, config.envs, (config.play + self.spec.stack) * config.envs, self.spec.stack
        )
        self.bonus_scale = ReturnScale(config.seeds, config.envs, config.bonus_gamma)

    def reward_scale(self) -> ReturnScale | None:
        config = self.config
        return ReturnScale(config.seeds, config.envs, config.gamma) if config.normalise_rewards else None

    def state(self) -> Mapping[str, Any]:
        found = {**super().state(), "bonus_scale": self.bonus_scale}
        return {**found, "frames": self.ring} if self.spec.stack > 1 else found

    # Learning

    def learn(self, block: Block) -> dict[str, Tensor | float]:
        config = self.config
        rows = self.ring.add(block)
        column = {n: torch.from_numpy(v).to(self.device) for n, v in block.columns.items() if n != "image"}
        seen = self._seen(block, rows)
        if config.normalise:
            self.net.see({"vector": self._flat(seen["vector"])})
        with torch.no_grad():
            value, next_value = self._values(block, column, seen)
            bonus = self._bonus(block, seen, column)
            advantage, goal = self._advantages(column, value, next_value, bonus, seen)
        parts = {**column, "advantage": advantage, "goal": goal, "value": value}
        flat = {n: self._flat(parts[n]) for n in ("stored", "log_prob", "advantage", "goal", "value")}
        if self.net.memory is not None:
            flat.update(carry=self._flat(column["carry"]), first=self._flat(_first(column)))
        if config.objective == "vmpo":
            flat["numbers"] = self._flat(column["numbers"])
            flat["log_std"] = (
                self.net.log_std.detach().clone() if self.net.space.kind == "box" else flat["value"][:, :1]
            )
        observations = {name: self._flat(v) for name, v in seen.items()}
        following = self._following(block, seen) if config.curiosity == "icm" else None
        count = flat["stored"].shape[1]
        if config.standardise and config.batch == count:
            flat["advantage"] = _standard(flat["advantage"])
        out: dict[str, Tensor] = {}
        for epoch in range(config.epochs):
            order = self._order(count) if config.batch < count else None
            for begin in range(0, count, config.batch):
                pick = None if order is None else order[:, begin : begin + config.batch].to(self.device)
                # What is logged is the round's last update; measuring each would cost a fifth of the time.
                watched = begin + config.batch == count and (epoch == config.epochs - 1 or config.most_kl > 0)
                found = self._update(flat, observations, following, pick, watched)
                out = found or out
            if config.most_kl and float(out["kl"]) > 1.5 * config.most_kl:
                break
        spread = goal.var()
        out["explained"] = 1 - (goal - value).var() / spread.clamp(min=1e-12)
        if bonus is not None:
            out["bonus"] = bonus.mean()
        return {**out}

    def _seen(self, block: Block, rows: np.ndarray) -> dict[str, Tensor]:
        """The observations [time, seeds, copies, ...], stacked."""
        if self.spec.stack == 1:
            return {n: torch.from_numpy(block.columns[n]).to(self.device) for n in self.spec.observations}
        seeds, copies = self.config.seeds, self.config.envs
        at = np.broadcast_to(rows[None, :, None], (seeds, len(rows), copies))
        each = np.broadcast_to(np.arange(copies), at.shape)
        seen = self.ring.observe(at, each)
        return {
            n: torch.from_numpy(np.ascontiguousarray(np.moveaxis(v, 1, 0))).to(self.device) for n, v in seen.items()
        }

    def _finals(self, block: Block) -> tuple[list[tuple[int, int, int]], dict[str, Tensor]]:
        """Where episodes were cut off, and the observations there, [1, count, ...] a seed at a time is not needed:
        each stands in its own seed's row."""
        keys = list(block.finals)
        stacked: dict[str, list[np.ndarray]] = {name: [] for name in self.spec.observations}
        for t, seed, copy in keys:
            for name, value in block.finals[t, seed, copy].items():
                if name == "image" and self.spec.stack > 1:
                    row = self.ring.added - len(block) + t
                    value = np.concatenate([*self.ring._history(seed, row, copy), value], axis=0)
                stacked[name].append(value)
        return keys, {n: torch.from_numpy(np.stack(v)).to(self.device) for n, v in stacked.items() if v}

    def _order(self, count: int) -> Tensor:
        """A shuffle of `count` steps for each seed; the steps of a sequence stay together."""
        pieces = np.tile(np.arange(count // self.length), (self.config.seeds, 1))
        order = torch.from_numpy(self.random.permuted(pieces, axis=1))
        if self.length == 1:
            return order
        return (order[..., None] * self.length + torch.arange(self.length)).flatten(1)

    def _values(self, block: Block, column: Mapping[str, Tensor], seen: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Values [time, seeds, copies, heads] of what was seen, and of what each step led to."""
        value, carry = column["value"], column.get("carry")
        after = {n: torch.from_numpy(v).to(self.device) for n, v in block.after.items()}
        if carry is not None:
            _, _, carry = self.net.recall({n: v[-1] for n, v in seen.items()}, carry[-1])
            assert carry is not None
            carry = carry * (1 - _ended(column)[-1])[..., None]
        following = torch.cat([value[1:], self.net.recall(after, carry)[1][None]])
        keys, finals = self._finals(block)
        if keys:
            # Every seed's net sees every final: few, and each takes its own seed's answer.
            seeds = self.config.seeds

            def spread(x: Tensor) -> Tensor:
                return x[None].expand(seeds, *x.shape)

            held = None
            if carry is not None:
                places = tuple(torch.tensor(place) for place in zip(*keys, strict=True))
                before = {n: spread(v[places]) for n, v in seen.items()}
                held = self.net.recall(before, spread(column["carry"][places]))[2]
            _, answers, _ = self.net.recall({n: spread(v) for n, v in finals.items()}, held)
            for number, (t, seed, copy) in enumerate(keys):
                following[t, seed, copy] = answers[seed, number]
        return value, following

    def _following(self, block: Block, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What each step led to, [seeds, time x copies, ...]."""
        after = {n: torch.from_numpy(v).to(self.device)[None] for n, v in block.after.items()}
        led = {n: torch.cat([v[1:], after[n]]) for n, v in seen.items()}
        keys, finals = self._finals(block)
        for number, (t, seed, copy) in enumerate(keys):
            for name in led:
                led[name][t, seed, copy] = finals[name][number]
        return {n: self._flat(v) for n, v in led.items()}

    def _bonus(self, block: Block, seen: Mapping[str, Tensor], column: Mapping[str, Tensor]) -> Tensor | None:
        """The curiosity's reward [time, seeds, copies]."""
        if self.curiosity is None:
            return None
        led = self._following(block, seen)
        if isinstance(self.curiosity, Rnd):
            if self.curiosity.normaliser is not None:
                self.curiosity.normaliser.see(led["vector"])
            raw, _ = self.curiosity(led)
            whole = self._unflat(raw, len(block))
            ended = np.zeros(whole.shape[1:], bool)
            scaled = [self.bonus_scale(row.cpu().numpy(), ended) for row in whole]
            return torch.from_numpy(np.stack(scaled).astype(np.float32)).to(self.device)
        now = {n: self._flat(v) for n, v in seen.items()}
        raw, _ = self.curiosity(now, led, self._flat(column["stored"]))
        return self._unflat(raw, len(block))

    def _advantages(
        self, column: Mapping[str, Tensor], value: Tensor, next_value: Tensor, bonus: Tensor | None,
        seen: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Advantages [time, seeds, copies] and the values' goals [time, seeds, copies, heads]."""
        config = self.config
        reward, terminated = column["reward"], column["terminated"].float()
        ended = _ended(column)
        if bonus is not None and config.curiosity == "icm":
            reward = reward + config.bonus * bonus
        v, after = value[..., 0], next_value[..., 0]
        if config.advantage == "gae":
            advantage = returns.gae(reward, v, after, terminated, ended, config.gamma, config.lam)
            goal = advantage + v
        elif config.advantage == "returns":
            goal = returns.discounted(reward, ended, after * (1 - terminated), config.gamma)
            advantage = goal - v
        else:
            held = {}
            if self.net.memory is not None:
                held = {"carry": self._flat(column["carry"]), "first": self._flat(_first(column))}
            numbers, _ = self._both({n: self._flat(x) for n, x in seen.items()}, held)
            now = self._unflat(self.net.log_prob(numbers, self._flat(column["stored"])), len(reward))
            goal, advantage = returns.vtrace(
                reward, v, after, terminated, ended, now - column["log_prob"], config.gamma, config.lam
            )
        if bonus is None or config.curiosity != "rnd":
            return advantage, goal[..., None]
        # RND has a value of its own, which goes on through the ends of episodes (Burda et al. 2019, section 2.3).
        never = torch.zeros_like(ended)
        extra = returns.gae(bonus, value[..., 1], next_value[..., 1], never, never, config.bonus_gamma, config.lam)
        return advantage + config.bonus * extra, torch.stack([goal, extra + value[..., 1]], dim=-1)

    def _update(
        self, flat: Mapping[str, Tensor], observations: Mapping[str, Tensor], following: Mapping[str, Tensor] | None,
        pick: Tensor | None, watched: bool,
    ) -> dict[str, Tensor]:  # fmt: skip
        config = self.config
        item = {n: _picked(v, pick) if v.shape[1] > 1 or pick is None else v for n, v in flat.items()}
        seen = {n: _picked(v, pick) for n, v in observations.items()}
        numbers, value = self._both(seen, item)
        log_prob = self.net.log_prob(numbers, item["stored"])
        advantage = item["advantage"]
        if config.standardise and pick is not None:
            advantage = _standard(advantage)
        move = log_prob - item["log_prob"]
        if config.objective == "clip":
            edge = config.ratio * ((1 - self.through) if config.ratio_falls else 1.0)
            # Schulman et al. 2017, eq. 7. Where the advantage has a sign, clipping bounds the gain on one side alone.
            most = torch.add(advantage, advantage.abs(), alpha=edge)
            policy = -torch.minimum(move.exp() * advantage, most).mean(1)
        elif config.objective == "gradient":
            policy = -(log_prob * advantage).mean(1)
        else:
            policy = self._vmpo(numbers, log_prob, item)
        error = (value - item["goal"]).square()
        if config.value_clip:
            near = item["value"] + (value - item["value"]).clamp(-config.value_clip, config.value_clip)
            error = torch.maximum(error, (near - item["goal"]).square())
        wrong = error.mean((1, 2))
        loss = torch.add(policy, wrong, alpha=config.value_weight * error.shape[-1])
        if config.entropy:
            loss = loss - config.entropy * self.net.entropy(numbers).mean(1)
        if self.curiosity is not None:
            if isinstance(self.curiosity, Rnd):
                _, odd = self.curiosity(seen)
            else:
                assert following is not None
                _, odd = self.curiosity(seen, {n: _picked(v, pick) for n, v in following.items()}, item["stored"])
            loss = loss + odd.mean(1)
        self.update("net", loss.sum())
        self.counts["updates"] += 1
        if not watched:
            return {}
        with torch.no_grad():
            ratio = move.exp()
            out = {"loss": loss, "policy": policy, "value": 0.5 * error.shape[-1] * wrong, "kl": ratio - 1 - move}
            out["entropy"] = self.net.entropy(numbers)
            if config.objective == "clip":
                out["clipped"] = ((ratio - 1).abs() > config.ratio).float()
            return {name: v.mean() for name, v in out.items()}

    def _both(self, seen: Mapping[str, Tensor], item: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The net's answers to what was seen [seeds, batch, ...]; with a memory, from the carries with which the
        sequences began when they were played."""
        if self.net.memory is None:
            return self.net.both(seen)

        def pieces(x: Tensor) -> Tensor:
            return x.view(len(x), -1, self.length, *x.shape[2:])

        begin = pieces(item["carry"])[:, :, 0]
        return self.net.through({n: pieces(v) for n, v in seen.items()}, begin, pieces(item["first"]))

    def _flat(self, x: Tensor) -> Tensor:
        """[time, seeds, copies, ...] -> [seeds, steps, ...]; the steps of a sequence beside one another."""
        if self.length == 1:
            return x.transpose(0, 1).flatten(1, 2)
        pieces = x.reshape(-1, self.length, *x.shape[1:]).permute(2, 0, 3, 1, *range(4, x.dim() + 1))
        return pieces.flatten(1, 3)

    def _unflat(self, x: Tensor, times: int) -> Tensor:
        """[seeds, steps] -> [time, seeds, copies]."""
        if self.length == 1:
            return x.view(len(x), times, -1).transpose(0, 1)
        return x.view(len(x), times // self.length, -1, self.length).permute(1, 3, 0, 2).flatten(0, 1)

    def _vmpo(self, numbers: Tensor, log_prob: Tensor, item: Mapping[str, Tensor]) -> Tensor:
        """V-MPO (Song et al. 2020, section 4): the better half of the batch, weighted by its advantages at a learned
        temperature, within a divergence from the policy that played."""
        config = self.config
        eta, alpha = self.duals()
        advantage = item["advantage"]
        best = advantage.topk(max(1, advantage.shape[1] // 2), dim=1)
        scaled = best.values / eta
        weight = torch.softmax(scaled.detach(), dim=1)
        policy = -(weight * log_prob.gather(1, best.indices)).sum(1)
        count = torch.log(torch.tensor(float(best.values.shape[1]), device=scaled.device))
        temperature = (eta * (config.eps_eta + torch.logsumexp(scaled, dim=1, keepdim=True) - count))[:, 0]
        if self.net.space.kind == "box":
            std, old = self.net.log_std.expand_as(numbers), item["log_std"].expand_as(numbers)
            mean_kl = dist.kl_gaussian(item["numbers"], old, numbers, old)
            spread_kl = dist.kl_gaussian(item["numbers"], old, item["numbers"], std)
            divergences = torch.stack([mean_kl.mean(1), spread_kl.mean(1)], dim=-1)
            bounds = torch.tensor([config.eps_alpha, 0.01 * config.eps_alpha], device=numbers.device)
        else:
            pairs = zip(self.net.parts(item["numbers"]), self.net.parts(numbers), strict=True)
            divergences = torch.stack([dist.kl_choice(p, q) for p, q in pairs]).sum(0).mean(1, keepdim=True)
            bounds = torch.tensor([config.eps_alpha], device=numbers.device)
        held = (alpha * (bounds - divergences.detach()) + alpha.detach() * divergences).sum(-1)
        loss: Tensor = policy + temperature + held
        return loss


def _ended(column: Mapping[str, Tensor]) -> Tensor:
    """1 where a step ended its episode."""
    return (column["terminated"] | column["truncated"]).float()


def _first(column: Mapping[str, Tensor]) -> Tensor:
    """1 where a step is its episode's first; of the round's own first the carry is what it should be."""
    ended = _ended(column)
    return torch.cat([torch.zeros_like(ended[:1]), ended[:-1]])


def _standard(x: Tensor) -> Tensor:
    """Mean 0 and deviation 1 for each seed."""
    return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-8)


def _picked(x: Tensor, pick: Tensor | None) -> Tensor:
    """The items of each seed."""
    if pick is None:
        return x
    if x.shape[0] == 1:
        alone: Tensor = x[0][pick[0]][None]
        return alone
    picked: Tensor = x[torch.arange(x.shape[0], device=x.device)[:, None], pick]
    return picked
