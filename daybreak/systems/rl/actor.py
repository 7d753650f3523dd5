"""Playing: one net acts in all copies of an environment, and what happens becomes columns.

The actor stacks frames, carries recurrent state, shapes rewards and keeps the books of episodes. It knows the step
contract and the acting net's; it knows nothing about losses or replay.
"""

from __future__ import annotations

import abc
import sys
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from daybreak.systems.rl.envs import Observations, VectorEnv
from daybreak.systems.rl.spec import Spec
from daybreak.systems.rl.store import Block

RECENT = 100
"""Episodes of which the training return is the mean."""


@dataclass(frozen=True)
class Acted:
    """A policy's answer for [seeds, copies]."""

    action: Tensor
    """int64 choices, or float32 vectors in the environment's units."""
    carry: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """What the learner wants to know of this decision later: columns of their own."""


class ActingNet(nn.Module, abc.ABC):
    """A net that can play. Observations are [seeds, copies, ...], frames stacked."""

    share: tuple[int, int] = (0, 1)
    """Which actor of how many plays it: what copies explore by."""

    def start(self, seeds: int, copies: int) -> Tensor | None:
        """The carry at the first step of an episode; None where the net has none."""
        return None

    @abc.abstractmethod
    def act(self, observation: Mapping[str, Tensor], carry: Tensor | None, through: float) -> Acted:
        """Decide with exploration, `through` (0 to 1) of the training."""

    @abc.abstractmethod
    def greedy(self, observation: Mapping[str, Tensor], carry: Tensor | None) -> Acted:
        """Decide as well as it can."""


class Stacker:
    """The last frames of each copy, oldest first; an episode's first frame stands for those before it."""

    def __init__(self, spec: Spec) -> None:
        self.depth = spec.stack
        self.frames: np.ndarray | None = None

    def first(self, observation: Observations) -> Observations:
        """Observations with which episodes begin everywhere."""
        if self.depth > 1:
            self.frames = np.repeat(observation["image"][:, None], self.depth, axis=1)
        return self._seen(observation)

    def next(self, observation: Observations, ended: np.ndarray) -> Observations:
        """The observations of the next step; where `ended`, a new episode begins with them."""
        if self.depth > 1:
            assert self.frames is not None
            self.frames = np.concatenate([self.frames[:, 1:], observation["image"][:, None]], axis=1)
            if ended.any():
                self.frames[ended] = observation["image"][ended][:, None]
        return self._seen(observation)

    def _seen(self, observation: Observations) -> Observations:
        if self.depth == 1:
            return observation
        assert self.frames is not None
        count, depth, channels, *size = self.frames.shape
        return {**observation, "image": self.frames.reshape(count, depth * channels, *size)}


class ReturnScale:
    """Divides rewards by the running standard deviation of discounted returns, each seed by its own."""

    def __init__(self, seeds: int, copies: int, gamma: float) -> None:
        self.gamma = gamma
        self.running = np.zeros((seeds, copies))
        self.mean, self.square, self.count = np.zeros(seeds), np.ones(seeds), 1e-4

    def __call__(self, reward: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Rewards [seeds, copies], scaled, and cut at ten deviations."""
        self.running = self.running * self.gamma + reward
        copies = reward.shape[1]
        total = self.count + copies
        gap = self.running.mean(1) - self.mean
        spread = self.square * self.count + self.running.var(1) * copies + gap**2 * self.count * copies / total
        self.mean, self.square, self.count = self.mean + gap * copies / total, spread / total, total
        self.running[ended] = 0
        scaled: np.ndarray = np.clip(reward / np.sqrt(self.square + 1e-8)[:, None], -10, 10)
        return scaled

    def state_dict(self) -> dict[str, Any]:
        """The running moments."""
        return {name: value for name, value in vars(self).items() if name != "gamma"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give it the moments that `state_dict` took."""
        vars(self).update(state)


def told(recent: Sequence[Collection[tuple[float, int]]], ended: Sequence[float], episodes: int) -> dict[str, float]:
    """The mean return and length of the recent episodes over all seeds, and of each seed where there are several; how
    many ended so far; the mean return of those that `ended` in this round, where there are such. Nothing before the
    first has ended."""
    whole = [episode for each in recent for episode in each]
    if not whole:
        return {}
    returns, lengths = np.array(whole, float).mean(0).tolist()
    now = {"episode return": sum(ended) / len(ended)} if ended else {}
    seeds = {
        f"return/seed-{seed}": sum(total for total, _ in each) / len(each)
        for seed, each in enumerate(recent)
        if each and len(recent) > 1
    }
    return {**now, "return": returns, **seeds, "length": lengths, "episodes": float(episodes)}


class Actor:
    """Plays one net in seeds x copies of an environment."""

    def __init__(
        self,
        env: VectorEnv,
        net: ActingNet,
        seeds: int,
        seed: int,
        clip_rewards: bool = False,
        scale: ReturnScale | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.env, self.net, self.seeds, self.copies = env, net, seeds, env.count // seeds
        self.clip_rewards, self.scale, self.device = clip_rewards, scale, device
        self.stacker = Stacker(env.spec)
        self.raw = env.reset(seed)
        self.seen = self.stacker.first(self.raw)
        self.seed = seed
        self.carry = net.start(seeds, self.copies)
        self.returns, self.lengths = np.zeros(env.count), np.zeros(env.count, np.int64)
        self.recent: list[deque[tuple[float, int]]] = [deque(maxlen=RECENT) for _ in range(seeds)]
        self.ended: list[float] = []
        """Returns of the episodes that ended in this round."""
        self.episodes = 0
        self.told: dict[str, float] = {}

    def tensors(self, observation: Observations) -> dict[str, Tensor]:
        """Observations of all copies as tensors [seeds, copies, ...]."""
        return {name: torch.from_numpy(self._split(value)).to(self.device) for name, value in observation.items()}

    def _split(self, value: np.ndarray) -> np.ndarray:
        """[seeds x copies, ...] as [seeds, copies, ...]."""
        return value.reshape(self.seeds, self.copies, *value.shape[1:])

    @torch.no_grad()
    def collect(self, steps: int, through: float = 0.0) -> Block:
        """Play `steps` steps in every copy."""
        shape = self.seeds, self.copies
        columns: dict[str, np.ndarray] = {}
        finals: dict[tuple[int, int, int], dict[str, np.ndarray]] = {}
        self.ended = []
        for t in range(steps):
            acted = self.net.act(self.tensors(self.seen), self.carry, through)
            action = acted.action.cpu().numpy()
            step = self.env.step(action.reshape(self.env.count, *action.shape[2:]))
            ended = step.terminated | step.truncated
            row = {name: self._split(self.raw[name]) for name in self.env.spec.observations}
            row.update({name: value.cpu().numpy() for name, value in acted.extras.items()})
            row.update(action=action, reward=self._reward(step.reward, ended))
            row.update(terminated=self._split(step.terminated), truncated=self._split(step.truncated))
            columns = columns or {n: np.empty((steps, *v.shape), v.dtype) for n, v in row.items()}
            for name, value in row.items():
                columns[name][t] = value
            for place in np.flatnonzero(step.truncated & ~step.terminated):
                key = t, int(place) // self.copies, int(place) % self.copies
                finals[key] = {name: step.next[name][place].copy() for name in self.env.spec.observations}
            self._books(step.reward, ended)
            self.raw = step.observation
            self.seen = self.stacker.next(self.raw, ended)
            self.carry = acted.carry
            if self.carry is not None and ended.any():
                keep = torch.from_numpy(~ended.reshape(shape)).to(self.carry)[..., None]
                begin = self.net.start(*shape)
                assert begin is not None
                self.carry = torch.where(keep > 0, self.carry, begin)
        after = {name: self._split(value) for name, value in self.seen.items()}
        return Block(columns, finals, after)

    def _reward(self, reward: Float[np.ndarray, envs], ended: np.ndarray) -> Float[np.ndarray, "seeds copies"]:
        shaped = reward.reshape(self.seeds, self.copies)
        if self.clip_rewards:
            shaped = np.sign(shaped)
        if self.scale is not None:
            shaped = self.scale(shaped, ended.reshape(shaped.shape))
        return shaped.astype(np.float32)

    def _books(self, reward: np.ndarray, ended: np.ndarray) -> None:
        self.returns += reward
        self.lengths += 1
        for place in np.flatnonzero(ended):
            self.recent[place // self.copies].append((float(self.returns[place]), int(self.lengths[place])))
            self.ended.append(float(self.returns[place]))
            self.returns[place], self.lengths[place] = 0.0, 0
            self.episodes += 1

    def summary(self) -> dict[str, float]:
        """What is told of the recent episodes."""
        if self.ended or not self.told:
            self.told = told(self.recent, self.ended, self.episodes)
        elif "episode return" in self.told:
            del self.told["episode return"]
        return dict(self.told)

    def state_dict(self) -> dict[str, Any]:
        """Where the playing stands, with the environment's own state where it can be had."""
        return {
            "env": self.env.state(),
            "raw": dict(self.raw),
            "frames": self.stacker.frames,
            "carry": self.carry,
            "returns": self.returns.copy(),
            "lengths": self.lengths.copy(),
            "recent": [[list(episode) for episode in recent] for recent in self.recent],
            "episodes": self.episodes,
            "scale": self.scale.state_dict() if self.scale is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Go on from a state. False where the environment could not be restored: its episodes begin anew."""
        self.told = {}
        self.recent = [deque(map(tuple, recent), maxlen=RECENT) for recent in state["recent"]]
        self.episodes = state["episodes"]
        if self.scale is not None:
            self.scale.load_state_dict(state["scale"])
        if state["env"] is None:
            print(f"{self.env.spec.name} cannot be restored: its episodes begin anew", file=sys.stderr)
            self.raw = self.env.reset(self.seed + self.episodes + 1)
            self.seen = self.stacker.first(self.raw)
            return False
        self.env.restore(state["env"])
        self.raw, self.stacker.frames, self.carry = state["raw"], state["frames"], state["carry"]
        self.seen = self.stacker._seen(self.raw)
        self.returns, self.lengths = state["returns"].copy(), state["lengths"].copy()
        return True
