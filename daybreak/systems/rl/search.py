"""Agents that search in a model they have learned: MuZero and Gumbel MuZero, of one and of two players.

Play stores what each search found; learning unrolls the model along what was played and holds it to that. In a game of
two players every step is seen by its own mover: one sign in the discount is all that differs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from daybreak.errors import UserError
from daybreak.systems.rl import recipe
from daybreak.systems.rl.actor import Acted, ActingNet
from daybreak.systems.rl.mcts import Found, Rules, search
from daybreak.systems.rl.mixing import FITS, mixed, search_presets
from daybreak.systems.rl.nets.muzero import Support, World, halved
from daybreak.systems.rl.recipe import Learner
from daybreak.systems.rl.spec import Spec
from daybreak.systems.rl.store import Block, Priorities, Ring


class SearchConfig(recipe.Config):
    """What a searching agent is made of."""

    rule: Literal["puct", "gumbel"] = "puct"
    """How it searches: pUCT (MuZero), or the Gumbel trick with sequential halving (Gumbel MuZero)."""
    simulations: int = Field(30, ge=2)
    """Simulations of one search."""
    c1: float = Field(1.25, ge=0)
    """pUCT's weight of the prior."""
    noise_alpha: float = Field(0.25, gt=0)
    """Dirichlet noise at the root, as it plays to learn (pUCT)."""
    noise_share: float = Field(0.25, ge=0, le=1)
    """Share of that noise in the root's prior."""
    warmth: float = Field(1.0, gt=0)
    """Temperature of drawing a move by its visits, at the start (pUCT)."""
    warmth_end: float = Field(0.25, gt=0)
    """The same at the end of the budget."""
    explore: float = Field(0.0, ge=0, le=1)
    """Share of moves that are any legal one, as it plays to learn. No value looks beyond such a move."""
    considered: int = Field(16, ge=1)
    """Moves that the root considers at most (Gumbel)."""
    q_visit: float = Field(50.0, ge=0)
    """Gumbel: Q weighs (q_visit + most visits) q_scale."""
    q_scale: float = Field(0.1, gt=0)
    """1 in the paper's board games, 0.1 in its Atari."""
    hidden: tuple[int, ...] = Field((128,), min_length=1)
    """Sizes of the layers of each function."""
    latent: int = Field(64, ge=1)
    """Length of the hidden state, where there are no blocks."""
    blocks: int = Field(0, ge=0)
    """Residual blocks on the planes of images; 0 makes everything flat."""
    channels: int = Field(32, ge=1)
    """Planes of the hidden state, with blocks."""
    support: int = Field(20, ge=1)
    """Values and rewards are told between -support and support (after the rescaling)."""
    rescaled: bool = True
    """Rescale values and rewards by h (Pohlen et al. 2018)."""
    unroll: int = Field(5, ge=1)
    """Steps that the model is unrolled to learn."""
    n_step: int = Field(10, ge=1)
    """Steps of reward before a value is taken from a search; a game's length and more: the result alone."""
    value_weight: float = Field(0.25, gt=0)
    """Weight of the value's loss beside those of policy and reward."""
    reanalyse: float = Field(0.0, ge=0, le=1)
    """Share of a batch whose policies are searched anew, by a recent net, and whose values come from it."""
    target_every: int = Field(100, ge=1)
    """Updates between copies into that net."""
    prioritised: bool = False
    """Replay by the value's error (Schaul et al. 2016)."""
    alpha: float = Field(0.6, ge=0, le=1)
    """Exponent of priorities."""
    beta: float = Field(0.4, ge=0, le=1)
    """Exponent of the importance weights at the start; 1 at the end."""
    batch: int = Field(64, ge=1)
    """Unrolled runs in one update, for each seed."""
    replay: int = Field(50_000, ge=2)
    """Steps that are kept, for each seed."""
    spill: bool = False
    """Keep replay in files that the system pages, where it does not fit into memory."""
    play: int = Field(16, ge=1)
    """Steps in each copy between two rounds of learning."""
    updates: int = Field(16, ge=1)
    """Updates in a round."""
    learning_starts: int = Field(500, ge=1)
    """Steps before learning begins."""
    lr: float = Field(2e-3, gt=0)
    """Peak learning rate."""
    gamma: float = Field(0.997, ge=0, le=1)
    """Discount of a step."""
    clip: float = Field(5.0, ge=0)
    """Largest gradient norm; 0 leaves gradients alone."""


class SearchNet(ActingNet):
    """A learned model that plays by searching in it."""

    def __init__(self, config: SearchConfig, spec: Spec, seeds: int) -> None:
        super().__init__()
        self.config = config
        two = spec.players == 2
        self.world = World(
            seeds, spec, config.hidden, config.latent, config.blocks, config.channels,
            Support(config.support, config.rescaled), config.normalise,
        )  # fmt: skip
        self.rules = Rules(
            config.simulations, -config.gamma if two else config.gamma, config.rule == "gumbel", config.c1,
            considered=config.considered, visit=config.q_visit, scale=config.q_scale,
            # A game's result is 1, 0 or -1: its range is known.
            bounds=(-1.0, 1.0) if two else None,
        )  # fmt: skip

    @torch.inference_mode()
    def plan(self, observation: Mapping[str, Tensor], noise: Tensor | None = None) -> Found:
        """Search from observations [seeds, copies, ...]; what was found is [seeds x copies, ...]."""
        world = self.world
        hidden = world.represent(observation)
        shape, device = hidden.shape[:2], hidden.device
        seeds = torch.arange(shape[0], device=device)[:, None]
        copies = torch.arange(shape[1], device=device)
        kept = hidden.new_empty(self.rules.simulations + 1, *hidden.shape)
        kept[0] = hidden

        def expand(nodes: np.ndarray, moves: np.ndarray, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            at = torch.from_numpy(nodes.reshape(shape)).to(device)
            after, reward = world.dynamics(kept[at, seeds, copies], torch.from_numpy(moves.reshape(shape)).to(device))
            kept[new] = after
            logits, value = world.predict(after)
            told = world.support.mean(torch.stack([reward, value])).flatten(1).cpu().numpy()
            return told[0], told[1], logits.flatten(0, 1).cpu().numpy()

        logits, value = world.predict(hidden)
        mask = observation.get("mask")
        return search(
            world.support.mean(value).flatten().cpu().numpy(), logits.flatten(0, 1).double().cpu().numpy(), expand,
            self.rules, None if mask is None else mask.flatten(0, 1).cpu().numpy(),
            None if noise is None else noise.flatten(0, 1).cpu().numpy(), self.config.noise_share,
        )  # fmt: skip

    def noise(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The root's noise: Dirichlet's over the moves that are legal, or Gumbel variables."""
        shape = (*next(iter(observation.values())).shape[:2], self.world.moves)
        if self.rules.gumbel:
            return -torch.empty(shape).exponential_().clamp(min=1e-30).log()
        drawn = torch.distributions.Gamma(torch.full(shape, self.config.noise_alpha), 1.0).sample()
        if "mask" in observation:
            drawn = drawn * observation["mask"].cpu()
        return drawn / drawn.sum(-1, keepdim=True).clamp(min=1e-30)

    def act(self, observation: Mapping[str, Tensor], carry: Tensor | None, through: float) -> Acted:
        config, shape = self.config, next(iter(observation.values())).shape[:2]
        found = self.plan(observation, self.noise(observation))
        move = torch.from_numpy(found.move)
        if not self.rules.gumbel:
            warmth = config.warmth + (config.warmth_end - config.warmth) * through
            visits = torch.from_numpy(found.visits)
            move = (visits.log() / warmth - torch.empty_like(visits).exponential_().log()).argmax(-1)
        acted = self._acted(found, move, shape)
        if not config.explore:
            return acted
        drawn = torch.rand(acted.extras["policy"].shape)
        if "mask" in observation:
            drawn = drawn.masked_fill(~observation["mask"].cpu(), -1.0)
        strayed = torch.rand(shape) < config.explore
        return Acted(torch.where(strayed, drawn.argmax(-1), acted.action), None, {**acted.extras, "strayed": strayed})

    def greedy(self, observation: Mapping[str, Tensor], carry: Tensor | None) -> Acted:
        found = self.plan(observation)
        return self._acted(found, torch.from_numpy(found.move), next(iter(observation.values())).shape[:2])

    def _acted(self, found: Found, move: Tensor, shape: torch.Size) -> Acted:
        extras = {
            "policy": torch.from_numpy(found.policy.astype(np.float32)).view(*shape, -1),
            "value": torch.from_numpy(found.value.astype(np.float32)).view(shape),
        }
        return Acted(move.view(shape), None, extras)


@dataclass(frozen=True)
class Targets:
    """What an unrolled model is held to, [seeds, batch, unroll + 1]; masks are 0 where nothing is known."""

    value: Float[np.ndarray, "seeds batch steps"]
    value_mask: Bool[np.ndarray, "seeds batch steps"]
    """Also behind a terminal step: a state in which nothing more is earned."""
    reward: Float[np.ndarray, "seeds batch steps"]
    """At k: of the step that led there; of 0, nothing."""
    reward_mask: Bool[np.ndarray, "seeds batch steps"]
    alive: Bool[np.ndarray, "seeds batch steps"]
    """Where the episode goes on: only there is a policy."""


def targets(
    reward: Float[np.ndarray, "*batch rows"],
    terminated: Bool[np.ndarray, "*batch rows"],
    truncated: Bool[np.ndarray, "*batch rows"],
    value: Float[np.ndarray, "*batch rows"],
    strayed: Bool[np.ndarray, "*batch rows"],
    unroll: int,
    n: int,
    discount: float,
) -> Targets:
    """Targets of unrolls from the first of unroll + n + 1 rows (Schrittwieser et al. 2020, appendix G).

    `value` is what the search at each row found. A value is the sum of n rewards and the value found then, each times
    a power of `discount`, which is negative where players take turns. Where an episode was cut off, the value found at
    its last step stands for the rest, and nothing is known behind it. Where a move was not the search's own
    (`strayed`), the value found there stands for the rest too.
    """
    steps = unroll + 1
    ended = terminated | truncated
    shape = (*reward.shape[:-1], steps)
    alive, absorbed = np.ones(shape, bool), np.zeros(shape, bool)
    for k in range(1, steps):
        alive[..., k] = alive[..., k - 1] & ~ended[..., k - 1]
        absorbed[..., k] = absorbed[..., k - 1] | (alive[..., k - 1] & terminated[..., k - 1])
    total, going = np.zeros(shape), alive.copy()
    for i in range(n):
        rows = slice(i, i + steps)
        cut = going & (strayed[..., rows] | (truncated[..., rows] & ~terminated[..., rows]))
        total += np.where(cut, discount**i * value[..., rows], 0)
        going &= ~cut
        total += np.where(going, discount**i * reward[..., rows], 0)
        going &= ~terminated[..., rows]
    total += np.where(going, discount**n * value[..., n : n + steps], 0)
    led, led_mask = np.zeros(shape), np.zeros(shape, bool)
    led[..., 1:] = np.where(alive[..., :-1], reward[..., :unroll], 0)
    led_mask[..., 1:] = alive[..., :-1] | absorbed[..., :-1]
    return Targets(total, alive | absorbed, led, led_mask, alive)


class Search(Learner[SearchConfig]):
    """Learns a model from replay and plays by searching in it: MuZero, Gumbel MuZero."""

    Config: ClassVar[type[Any]] = SearchConfig
    family = "search"
    sides = 2
    presets: ClassVar[Mapping[str, SearchConfig]] = {
        name: SearchConfig(**parts) for name, parts in search_presets().items()
    }

    @classmethod
    def preset(cls, name: str) -> SearchConfig | None:
        """A preset, plain or with the settings tuned for an environment ("gumbel_muzero@board:tictactoe")."""
        return mixed(SearchConfig, cls.presets, name)

    @classmethod
    def net_of(cls, config: SearchConfig, spec: Spec, seeds: int) -> SearchNet:
        if spec.action.kind != "discrete":
            raise recipe.refuse(spec, "a searching agent", FITS)
        if config.blocks and spec.image is None:
            raise UserError(f"--blocks {config.blocks}: {spec.name} shows no image; use --blocks 0")
        return SearchNet(config, spec, seeds)

    def build(self) -> None:
        config = self.config
        self.play = config.play
        self.net: SearchNet = self.net_of(config, self.spec, config.seeds).to(self.device)
        if config.reanalyse:
            self.target = copy.deepcopy(self.net).requires_grad_(False)
        self.optimiser("net", self.net.parameters(), "adam", fused=True)
        self.span = config.unroll + config.n_step + 1
        self.ring = Ring(self.spec, config.seeds, config.envs, config.replay, self.spec.stack, config.spill)
        if self.ring.rows < self.span:
            raise UserError(
                f"--replay {config.replay} over {config.envs} copies keeps {self.ring.rows} steps of each; an update "
                f"needs {self.span} (--unroll and --n-step): use --replay {self.span * config.envs} or more"
            )
        rows = self.ring.rows
        self.priorities = Priorities(config.seeds, rows, config.envs, config.alpha) if config.prioritised else None

    def state(self) -> Mapping[str, Any]:
        found = {**super().state(), "replay": self.ring}
        return {**found, "priorities": self.priorities} if self.priorities is not None else found

    def step(self, batch: Any, step: int) -> Mapping[str, Tensor | float]:
        logs = dict(super().step(batch, step))
        if self.spec.players == 2:
            # A return is of the last mover alone: it says nothing.
            logs = {name: value for name, value in logs.items() if "return" not in name}
        return logs

    def learn(self, block: Block) -> dict[str, Tensor | float]:
        config = self.config
        if self.net.world.normaliser is not None:
            seen = torch.from_numpy(block.columns["vector"]).transpose(0, 1).flatten(1, 2)
            self.net.world.normaliser.see(seen.to(self.device))
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
        weights = None
        if self.priorities is not None:
            beta = config.beta + (1 - config.beta) * self.through
            rows, copies, importance = self.priorities.pick(self.ring, self.random, config.batch, beta)
            weights = self._tensor(importance)
        else:
            rows, copies = self.ring.draw(self.random, config.batch, self.span)
        losses, errors, logs = self._losses(rows, copies)
        loss = (losses if weights is None else losses * weights).mean(1).sum()
        self.update("net", loss)
        if self.priorities is not None:
            self.priorities.set(rows, copies, errors.cpu().numpy() + 1e-6)
        self.counts["updates"] += 1
        if config.reanalyse and self.counts["updates"] % config.target_every == 0:
            self.target.load_state_dict(self.net.state_dict())
        return {"loss": loss.detach() / config.seeds, **logs} if watched else {}

    def _losses(
        self, rows: Int[np.ndarray, "seeds batch"], copies: Int[np.ndarray, "seeds batch"]
    ) -> tuple[Float[Tensor, "seeds batch"], Float[Tensor, "seeds batch"], dict[str, Tensor]]:
        """The loss of each unroll, the error of its first value, and what to log."""
        config, world = self.config, self.net.world
        steps = config.unroll + 1
        at = rows[..., None] + np.arange(self.span)
        each = np.broadcast_to(copies[..., None], at.shape)
        columns: dict[str, np.ndarray] = {
            name: self.ring.column(name, at, each)
            for name in ("reward", "terminated", "truncated", "value", "policy", "action", "strayed")
            if name in self.ring.columns
        }
        columns.setdefault("strayed", np.zeros(at.shape, bool))
        if config.reanalyse:
            self._reanalyse(columns, at, each)
        told = targets(
            columns["reward"], columns["terminated"], columns["truncated"], columns["value"], columns["strayed"],
            config.unroll, config.n_step, self.net.rules.discount,
        )  # fmt: skip
        # Behind an episode's end any move leads nowhere.
        random = self.random.integers(world.moves, size=(*rows.shape, config.unroll))
        moves = self._tensor(np.where(told.alive[..., :-1], columns["action"][..., : config.unroll], random))
        hidden = world.represent({n: self._tensor(v) for n, v in self.ring.observe(rows, copies).items()})
        states, rewards = [hidden], []
        for k in range(config.unroll):
            hidden, reward = world.dynamics(hidden, moves[..., k])
            hidden = halved(hidden)
            states.append(hidden)
            rewards.append(reward)
        logits, values = world.predict(torch.stack(states, 2).flatten(1, 2))
        shape = (*rows.shape, steps)
        logits, values = logits.view(*shape, -1), values.view(*shape, -1)
        policy = self._tensor(columns["policy"][..., :steps, :])
        goal, led = self._tensor(told.value.astype(np.float32)), self._tensor(told.reward.astype(np.float32))
        support = world.support
        by_policy = _cross(policy, logits) * self._tensor(told.alive)
        by_value = _cross(support.two_hot(goal), values) * self._tensor(told.value_mask)
        by_reward = _cross(support.two_hot(led[..., 1:]), torch.stack(rewards, 2))
        by_reward = F.pad(by_reward * self._tensor(told.reward_mask[..., 1:]), (1, 0))
        # The unrolled steps weigh as much together as the first one.
        scale = torch.full((steps,), 1 / config.unroll, device=goal.device)
        scale[0] = 1.0
        losses = ((by_policy + config.value_weight * by_value + by_reward) * scale).sum(-1)
        mean = support.mean(values[..., 0, :].detach())
        logs = {
            "policy_loss": by_policy.detach().mean(), "value_loss": by_value.detach().mean(),
            "reward_loss": by_reward.detach().mean(), "value": mean.mean(),
        }  # fmt: skip
        return losses, (mean - goal[..., 0]).abs(), logs

    def _reanalyse(self, columns: dict[str, np.ndarray], at: np.ndarray, each: np.ndarray) -> None:
        """Replace the policies of a share of the batch by a new search's, and what their values bootstrap from."""
        config = self.config
        count, steps = round(config.reanalyse * at.shape[1]), config.unroll + 1
        if not count:
            return
        for first, name in ((0, "policy"), (config.n_step, "value")):
            rows, copies = (x[:, :count, first : first + steps].reshape(len(x), -1) for x in (at, each))
            seen = {n: self._tensor(v) for n, v in self.ring.observe(rows, copies).items()}
            if name == "policy":
                # Gumbel search explores by its noise; pUCT's policy is better without.
                found = self.target.plan(seen, self.target.noise(seen) if self.target.rules.gumbel else None).policy
            else:
                with torch.no_grad():
                    world = self.target.world
                    found = world.support.mean(world.predict(world.represent(seen))[1]).cpu().numpy()
            shape = columns[name][:, :count, first : first + steps].shape
            columns[name][:, :count, first : first + steps] = found.reshape(shape)

    def _tensor(self, value: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(value)).to(self.device)


def _cross(p: Float[Tensor, "*batch n"], logits: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Cross-entropy with a distribution."""
    return -(p * F.log_softmax(logits, dim=-1)).sum(-1)
