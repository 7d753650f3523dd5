"""How an agent learns: what every family shares. Play, learn, judge by whole episodes.

A family (value, policy, control, search) brings its acting net, its losses and what it does with a block of play. The
clock is steps of the environment, counted for one seed, so that runs compare at equal experience.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from daybreak.errors import UserError
from daybreak.lab import recipe as lab
from daybreak.lab.config import Folder
from daybreak.lab.lake import Item, Snapshot, Split
from daybreak.lab.recipe import Metric, Score
from daybreak.lab.system import target_of
from daybreak.media.video import Video
from daybreak.systems.rl.actor import ActingNet, Actor, ReturnScale, Stacker
from daybreak.systems.rl.envs import make
from daybreak.systems.rl.fleet import Fleet
from daybreak.systems.rl.nets.encoders import Picture
from daybreak.systems.rl.reference import published
from daybreak.systems.rl.spec import Spec
from daybreak.systems.rl.store import Block

WATCHED = 300
"""Steps of an episode that its video shows."""


class Config(lab.Config):
    """What every family may change."""

    steps: int = Field(10**9, ge=0)
    """Rounds of play and learning. The budget on the clock of environment steps is what ends a run."""
    budget: float | None = Field(100_000, gt=0)
    """Steps of the environment, for each seed."""
    env: str = "CartPole-v1"
    """The environment (`daybreak rl envs` lists them), its options behind a question mark: "ale:Pong?sticky=0.25"."""
    envs: int = Field(8, ge=1)
    """Copies of the environment that are played at once, for each seed."""
    start: Folder = ""
    """Folder of a saved agent (a run's final/) whose net is the start of every seed: another night of the same game, or
    a game that is alike. What is not saved with an agent (critics, replay, optimisers) begins anew."""
    seeds: int = Field(1, ge=1, le=64)
    """Agents that learn beside one another in one process, alike but for chance."""
    gamma: float = Field(0.99, ge=0, le=1)
    """Discount of a step."""
    hidden: tuple[int, ...] = (256, 256)
    """Sizes of the layers after the convolutions, or of the whole network where there are none."""
    activation: Literal["relu", "tanh", "silu"] = "relu"
    """Between layers."""
    image: Picture = "nature"
    """The convolutions for images."""
    normalise: bool = False
    """Scale vector observations by their running mean and deviation."""
    clip_rewards: bool = False
    """Learn from the sign of the reward."""
    actors: int = Field(0, ge=0, le=1024)
    """Processes that play, each its share of the copies; 0 plays in the learner's own."""
    engine: Literal["process", "ray"] = "process"
    """Where actors run: processes here, or Ray's workers."""
    ahead: int = Field(0, ge=0, le=8)
    """Rounds that actors play before the learner has taken them in: 0 is synchronous."""
    episodes: int = Field(20, ge=1)
    """Whole episodes by which each seed is judged, at each evaluation."""
    samples: int = Field(1, ge=0)
    """Episodes of each evaluation that come with a video."""


C = TypeVar("C", bound=Config)

SMALL = 100_000
"""Weights under which a net's tensors are laid end to end: PPO on CartPole then learns a fifth faster. At 270,000 the
copy of the gradients costs more than it saves."""


def iqm(scores: Sequence[Score]) -> float:
    """The interquartile mean over seeds of the mean return (Agarwal et al. 2021); under four seeds, the mean."""
    by_seed: dict[str, list[float]] = {}
    for score in scores:
        by_seed.setdefault(score.group, []).append(score.values["return"])
    means = np.sort([float(np.mean(values)) for values in by_seed.values()])
    cut = len(means) // 4
    return float(means[cut : len(means) - cut].mean()) if len(means) else float("nan")


RETURN = Metric("return", "higher", aggregate=iqm)


class Learner(lab.Recipe[C]):
    """What the families share. Derive, set `Config`, build nets and optimisers in `build()`, learn in `learn()`."""

    Config: ClassVar[type[Any]] = Config
    goal = RETURN
    progress = Metric("episode return", "higher")
    clock = "env_steps"
    threads = 1
    family: ClassVar[str]
    sides: ClassVar[int] = 1
    """Players of a game that it can learn to be all of at once."""
    play: int
    """Steps in every copy between two rounds of learning; set by the family."""
    net: ActingNet

    def __init__(self, config: C, data: Snapshot, device: torch.device | str = "cpu") -> None:
        super().__init__(config, data, device)
        if config.accumulate != 1:
            raise UserError(
                f"--accumulate {config.accumulate}: an agent's batch is not cut into parts; use --accumulate 1"
            )
        self.env = make(config.env, 1 if config.actors else config.seeds * config.envs, training=True)
        self.spec = self.env.spec
        if self.spec.players > self.sides:
            raise UserError(
                f"{config.env} is played by both sides, which the {self.family} family does not learn; "
                f"use {self.spec.judged}, or muzero or gumbel_muzero"
            )
        self.random = np.random.default_rng(config.seed)
        self.counts: dict[str, int] = {"played": 0, "updates": 0}
        self.build()
        if config.start:
            self._begin(Path(config.start))
        self.actor: Actor | Fleet
        if config.actors:
            self.actor = Fleet(target_of(type(self)), config, self.net)
        else:
            self.actor = Actor(
                self.env, self.net, config.seeds, config.seed, config.clip_rewards, self.reward_scale(), device
            )

    def _begin(self, folder: Path) -> None:
        """Take a saved agent's net, and the same for its slow copy where the family has one."""
        from daybreak.systems.rl.model import Agent

        saved = Agent.load(folder).net.state_dict()
        seeds = self.config.seeds
        found = {name: value.repeat_interleave(seeds, 0) if value.dim() else value for name, value in saved.items()}
        for net in self.nets().values():
            if type(net) is not type(self.net):
                continue
            shapes = {name: value.shape for name, value in net.state_dict().items()}
            if shapes != {name: value.shape for name, value in found.items()}:
                raise UserError(
                    f"start: {folder} has a net of another kind or size; give the settings it was made with"
                )
            net.load_state_dict(found)
        for name, averages in self._averages.items():
            for average, parameter in zip(averages, self._parameters[name], strict=True):
                average.copy_(parameter.detach())

    # What a family brings.

    def build(self) -> None:
        """Set `self.net`, other nets, `self.play`, and register optimisers."""
        raise NotImplementedError

    def learn(self, block: Block) -> dict[str, Tensor | float]:
        """Learn from what was played: calls `self.update`. Returns what to log, a "loss" among it once there is one."""
        raise NotImplementedError

    def reward_scale(self) -> ReturnScale | None:
        """What rewards are divided by."""
        return None

    @classmethod
    def net_of(cls, config: Any, spec: Spec, seeds: int) -> ActingNet:
        """The net that plays, untrained. Raises `UserError` where the family cannot act in such an environment."""
        raise NotImplementedError

    # The lab's contract.

    def step(self, batch: Any, step: int) -> Mapping[str, Tensor | float]:
        """A round: play, then learn."""
        block = self.actor.collect(self.play, self.through)
        self.counts["played"] += len(block) * self.config.envs
        logs = self.learn(block)
        return {**logs, **self.actor.summary(), "env_steps": float(len(block) * self.config.envs)}

    def optimiser(self, name: str, parameters: Any, kind: Any = "adamw", **options: Any) -> None:
        """As the lab's; a small net's tensors are laid end to end."""
        parameters = list(parameters)
        small = isinstance(parameters[0], Tensor) and sum(p.numel() for p in parameters) < SMALL
        super().optimiser(name, parameters, kind, joined=small, **options)

    def clip(self, parameters: list[nn.Parameter], largest: float) -> Tensor:
        """Scale each seed's gradients to a norm of at most `largest`; the mean of the norms before."""
        grads = [p.grad for p in parameters if p.grad is not None]
        if self.config.seeds == 1 and len(grads) == 1:  # the same in three calls
            norm = torch.linalg.vector_norm(grads[0])
            grads[0].mul_((largest / (norm + 1e-6)).clamp_(max=1))
            return norm  # type: ignore[no-any-return]
        if self.config.seeds == 1:
            return super().clip(parameters, largest)
        # The first axis is the seed, or nets x seeds where a seed has several of one shape.
        seeds = self.config.seeds
        grads = [part.flatten(1) for p in parameters if p.grad is not None for part in self._parts_of(p)]
        each = [torch.linalg.vector_norm(grad, dim=1).square_().view(-1, seeds).sum(0) for grad in grads]
        norms = torch.stack(each).sum(0).sqrt()
        factor = (largest / (norms + 1e-6)).clamp(max=1)
        factors = {nets: factor.repeat(nets)[:, None] for nets in {len(grad) // seeds for grad in grads}}
        torch._foreach_mul_(grads, [factors[len(grad) // seeds] for grad in grads])
        return norms.mean().detach()

    def _parts_of(self, parameter: nn.Parameter) -> list[Tensor]:
        """A parameter's gradient: views of it, one for each of the tensors that were laid end to end in it."""
        assert parameter.grad is not None
        members = next((m for n, m in self._members.items() if self._parameters[n][0] is parameter), None)
        if members is None:
            return [parameter.grad]
        parts = torch.split(parameter.grad, [member.numel() for member in members])
        return [part.view_as(member) for part, member in zip(parts, members, strict=True)]

    def items(self, split: Split) -> Sequence[Item]:
        """Whole episodes, `episodes` for each seed: their starts differ between splits."""
        return [
            episode(self.config.env, split, seed, number)
            for seed in range(self.config.seeds)
            for number in range(self.config.episodes)
        ]

    def evaluate(self, items: Sequence[Item]) -> Iterator[Score]:
        """Play the episodes greedily, all at once; a stopped evaluation plays them anew, and they come out the same."""
        if not items:
            return
        first = int(items[0].labels["start"])
        wanted = {(int(item.labels["seed"]), int(item.labels["number"])): item for item in items}
        played = play(
            self.net, self.config.env, self.config.seeds, self.config.episodes, first, self.config.samples, self.device
        )
        for key, item in wanted.items():
            total, length, video = played[key]
            sample = {"video": video} if video is not None else {}
            yield Score(item.id, item.group, {"return": total, "length": float(length)}, sample)

    def state(self) -> Mapping[str, Any]:
        """The playing, this recipe's own chance, and what the family adds."""
        return {"actor": self.actor, "books": Books(self)}

    def task(self) -> str:
        """The environment: a return in one says nothing beside a return in another."""
        return str(self.config.env)

    def references(self) -> Sequence[tuple[str, Sequence[tuple[float, float]]]]:
        """Published curves of this environment within the budget; where only an end is known, a level line to it."""
        found = []
        budget = self.config.budget or 0.0
        for one in published(self.config.env):
            inside = [point for point in one.points if point[0] <= budget]
            if len(one.points) == 1:
                inside = [(0.0, one.points[0][1]), (budget, one.points[0][1])]
            if len(inside) > 1:
                found.append((f"{one.source} {one.algorithm}, {one.points[-1][0]:.0e}".replace("e+0", "e"), inside))
        return found[:6]

    @classmethod
    def shipped(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """One agent, played in this process: the first of its seeds is what ships."""
        return {**super().shipped(config), "seeds": 1, "actors": 0, "episodes": 100, "start": ""}

    def model(self) -> Any:
        """The agent: the first of stacked seeds."""
        from daybreak.systems.rl.model import Agent

        return Agent.of(self)


class Books:
    """A learner's own chance and its counts, as a part of the state."""

    def __init__(self, learner: Learner[Any]) -> None:
        self.learner = learner

    def state_dict(self) -> dict[str, Any]:
        """The generator's state and the counts."""
        return {"random": self.learner.random.bit_generator.state, "counts": dict(self.learner.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from them."""
        self.learner.random.bit_generator.state = state["random"]
        self.learner.counts.update(state["counts"])


STARTS: Mapping[str, int] = {"train": 1_000_000, "validation": 2_000_000, "test": 3_000_000}
"""Where each split's episodes begin: seeds of the environment."""


def episode(env: str, split: Split, seed: int, number: int) -> Item:
    """An episode as an item: it is made, not stored."""
    name = f"{env} {split} {number} seed {seed}"
    digest = hashlib.sha256(name.encode()).hexdigest()
    labels = {"start": STARTS[split], "seed": seed, "number": number}
    return Item(digest[:16], "rl", name, f"seed-{seed}", split, digest, {}, labels, env, "", "", "")


Played = tuple[float, int, Video | None]


@torch.no_grad()
def play(
    net: ActingNet,
    env: str,
    seeds: int,
    episodes: int,
    start: int,
    videos: int = 0,
    device: torch.device | str = "cpu",
    most: int = 0,
) -> dict[tuple[int, int], Played]:
    """Greedy episodes of each seed: (seed, number) -> return, length in steps, and a video of the first `videos`.

    `most` steps end the play where an episode does not end by itself; 0 plays to the end.
    """  # fmt: skip
    game = make(env, seeds * episodes)
    if game.spec.judged:
        game = make(game.spec.judged, seeds * episodes)
    try:
        return _play(net, game, seeds, episodes, start, videos, device, most)
    finally:
        game.close()


def _play(
    net: ActingNet, game: Any, seeds: int, episodes: int, start: int, videos: int, device: Any, most: int
) -> dict[tuple[int, int], Played]:
    stacker = Stacker(game.spec)
    seen = stacker.first(game.reset(start))
    carry = net.start(seeds, episodes)
    totals, lengths = np.zeros(game.count), np.zeros(game.count, np.int64)
    going = np.ones(game.count, bool)
    frames: list[np.ndarray] = []
    while going.any():
        if videos and going[0] and len(frames) < WATCHED:
            try:
                frames.append(game.frame())
            except UserError:
                videos = 0
        tensors = {
            name: torch.from_numpy(value.reshape(seeds, episodes, *value.shape[1:])).to(device)
            for name, value in seen.items()
        }
        acted = net.greedy(tensors, carry)
        carry = acted.carry
        action = acted.action.cpu().numpy()
        step = game.step(action.reshape(game.count, *action.shape[2:]))
        totals += np.where(going, step.reward, 0)
        lengths += going
        ended = step.terminated | step.truncated
        going &= ~ended
        if most and lengths.max() >= most:
            break
        seen = stacker.next(step.observation, ended)
        if carry is not None and ended.any():
            keep = torch.from_numpy(~ended.reshape(seeds, episodes)).to(carry)[..., None]
            begin = net.start(seeds, episodes)
            assert begin is not None
            carry = torch.where(keep > 0, carry, begin)
    video = Video(np.stack(frames), 30) if frames else None
    return {
        (place // episodes, place % episodes): (
            float(totals[place]),
            int(lengths[place]),
            video if place == 0 else None,
        )
        for place in range(game.count)
    }


def refuse(spec: Spec, family: str, fits: Mapping[str, Sequence[str]]) -> UserError:
    """What is said where a family cannot act in a space: the presets that can."""
    presets = fits[spec.action.kind]
    return UserError(
        f"{family} cannot act in {spec.name}, whose actions are {spec.action}; these can: {', '.join(presets)}"
    )
