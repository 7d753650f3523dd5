"""The agent: what users call. It acts on an observation, plays whole episodes, and is judged by them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from daybreak.errors import UserError, nearest
from daybreak.lab.model import Model, Request, Response, action
from daybreak.lab.program import Page, Program, Run
from daybreak.lab.system import resolve
from daybreak.media.video import Video
from daybreak.systems.rl.actor import ActingNet
from daybreak.systems.rl.recipe import STARTS, Learner, play
from daybreak.systems.rl.spec import Spec

RECIPES: Mapping[str, str] = {
    "value": "daybreak.systems.rl.value:Value",
    "policy": "daybreak.systems.rl.policy:Policy",
    "control": "daybreak.systems.rl.control:Control",
    "search": "daybreak.systems.rl.search:Search",
}
"""The four families of agents."""
ON_PAGE = ("CartPole-v1", "Acrobot-v1")
"""Environments that `page.js` knows."""


class AgentConfig(BaseModel):
    """What rebuilds an agent."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    family: str
    """One of the four."""
    settings: dict[str, Any]
    """The config of the run that made it."""
    spec: Spec
    """What it was trained to see and to do."""


class Act(Request):
    """One observation: what the environment shows."""

    vector: tuple[float, ...] | None = None
    """Numbers, as many as the agent's environment shows."""
    image: Video | None = None
    """Frames, the newest last, as many as the agent sees at once, each of its size; grey where it sees grey."""
    mask: tuple[bool, ...] | None = None
    """Choices that are allowed; all of them without it."""
    explore: bool = False
    """Draw from the policy, as in training, instead of taking the best."""
    seed: int = Field(0, ge=0)
    """Of that draw."""


class Decision(Response):
    """What the agent does."""

    action: tuple[int, ...] | tuple[float, ...]
    """The choice, one number for each part, or a vector in the environment's units."""
    values: tuple[float, ...] = ()
    """What the agent expects: of each choice, or of the state. Empty where it does not say."""


class Play(Request):
    """Episodes to play and to film."""

    env: str = ""
    """Another environment of the same shape; "" plays the agent's own."""
    seed: int = Field(0, ge=0)
    """The episodes' starts."""
    most: int = Field(2000, ge=1, le=100_000)
    """Steps after which an episode that does not end is left."""


class Played(Response):
    """An episode."""

    video: Video
    """Its first steps."""
    total: float
    """Its return: the sum of rewards, undiscounted."""
    length: int
    """Its steps."""


class Evaluate(Request):
    """Episodes to be judged by."""

    env: str = ""
    """Another environment of the same shape; "" takes the agent's own."""
    episodes: int = Field(20, ge=1, le=1000)
    """Whole episodes, greedily played."""
    seed: int = Field(0, ge=0)
    """The episodes' starts."""


class Evaluation(Response):
    """Returns of whole episodes."""

    mean: float
    low: float
    """Of the 95 % interval of the mean, by bootstrap over episodes."""
    high: float
    returns: tuple[float, ...]
    lengths: tuple[int, ...]


class Agent(Model):
    """An agent that was trained in an environment."""

    Config = AgentConfig
    about: ClassVar[str] = (
        "An agent that was trained by play in one environment. It knows nothing outside of it: a change of the "
        "environment's rules, sizes or speeds may make it fail without a sign. It is for games and for learning about "
        "learning; nothing that could hurt a person should be steered by it."
    )

    def __init__(self, config: AgentConfig) -> None:
        super().__init__(config)
        if config.family not in RECIPES:
            raise UserError(f"no family of agents {config.family!r}; {nearest(config.family, RECIPES)}")
        family: type[Learner[Any]] = resolve(RECIPES[config.family])
        self.net: ActingNet = family.net_of(family.Config(**config.settings), config.spec, 1)

    @classmethod
    def of(cls, learner: Learner[Any]) -> Self:
        """The agent that a recipe has trained: the first of its seeds."""
        settings = learner.config.model_dump(mode="json", exclude_defaults=True)
        settings["seeds"] = 1
        agent = cls(AgentConfig(family=learner.family, settings=settings, spec=learner.spec))
        if learner.config.seeds == 1:
            agent.net = learner.net
            return agent
        trained = learner.net.state_dict()
        # Stacked nets have nets x seeds as their first axis: the first seed's stand `seeds` apart.
        mine = {
            name: trained[name] if trained[name].shape == value.shape else trained[name][:: learner.config.seeds]
            for name, value in agent.net.state_dict().items()
        }
        agent.net.load_state_dict(mine)
        agent.net.eval().requires_grad_(False)
        return agent

    def describe(self) -> dict[str, Any]:
        spec = self.config.spec
        seen = {name: list(shape) for name, (shape, _) in spec.observations.items()}
        return {"environment": spec.name, "sees": seen, "frames": spec.stack, "acts": str(spec.action)}

    def programs(self) -> dict[str, Program]:
        from daybreak.systems.rl.programs import programs

        return programs(self.net, self.config.spec)

    def through(self, run: Mapping[str, Run]) -> None:
        from daybreak.systems.rl.programs import through

        through(self.net, run)

    def page(self) -> Page | None:
        """It plays in the page where the page knows the environment; of others a form is shown."""
        script = Path(__file__).parent / "page.js"
        return Page(script, {"env": self.config.spec.name}) if self.config.spec.name in ON_PAGE else None

    @action
    def act(self, request: Act) -> Decision:
        """Decide on one observation."""
        observation = self._observation(request)
        carry = self.net.start(1, 1)
        with torch.no_grad():
            if request.explore:
                state = torch.get_rng_state()
                torch.manual_seed(request.seed)
                acted = self.net.act(observation, carry, 1.0)
                torch.set_rng_state(state)
            else:
                acted = self.net.greedy(observation, carry)
        chosen = np.atleast_1d(acted.action.numpy()[0, 0])
        worth = acted.extras.get("q", acted.extras.get("value"))
        values = () if worth is None else tuple(float(x) for x in np.ravel(worth.numpy()[0, 0]))
        return Decision(action=tuple(chosen.tolist()), values=values)

    @action
    def play(self, request: Play) -> Played:
        """Play one episode and film it."""
        played = play(self.net, self._env(request.env), 1, 1, request.seed, videos=1, most=request.most)
        total, length, video = played[0, 0]
        if video is None:
            raise UserError(f"{self._env(request.env)} cannot be drawn; `evaluate` tells its returns")
        return Played(video=video, total=total, length=length)

    @action
    def evaluate(self, request: Evaluate) -> Evaluation:
        """Play whole episodes greedily; their mean return and its interval."""
        found = play(self.net, self._env(request.env), 1, request.episodes, STARTS["test"] + request.seed)
        returns = np.array([total for total, _, _ in found.values()])
        random = np.random.default_rng(request.seed)
        means = returns[random.integers(len(returns), size=(2000, len(returns)))].mean(1)
        low, high = np.quantile(means, (0.025, 0.975))
        return Evaluation(
            mean=float(returns.mean()), low=float(low), high=float(high), returns=tuple(returns.tolist()),
            lengths=tuple(length for _, length, _ in found.values()),
        )  # fmt: skip

    def _env(self, name: str) -> str:
        from daybreak.systems.rl.envs import make

        if not name or name == self.config.spec.name:
            own: str = self.config.spec.name
            return own
        other = make(name)
        spec, mine = other.spec, self.config.spec
        other.close()
        if (spec.observations, spec.action) != (mine.observations, mine.action):
            raise UserError(
                f"{name} does not fit an agent of {mine.name}: it shows {spec.observations} and takes {spec.action}"
            )
        return name

    def _observation(self, request: Act) -> dict[str, torch.Tensor]:
        spec = self.config.spec
        out: dict[str, torch.Tensor] = {}
        if spec.vector:
            given = len(request.vector) if request.vector is not None else 0
            if request.vector is None or given != spec.vector:
                raise UserError(f"--vector has {given} numbers; {spec.name} shows {spec.vector}")
            if not np.isfinite(request.vector).all():
                raise UserError(f"--vector holds a number that is not finite: {list(request.vector)}")
            out["vector"] = torch.tensor(request.vector)[None, None]
        if spec.image:
            channels, height, width = spec.image
            frames = None if request.image is None else request.image.frames
            if frames is None or frames.shape[:3] != (spec.stack, height, width):
                got = "none" if frames is None else f"{len(frames)} of {frames.shape[1]} x {frames.shape[2]}"
                raise UserError(f"--image wants {spec.stack} frames of {height} x {width}; got {got}")
            planes = frames.transpose(0, 3, 1, 2)[:, :channels] if channels <= 3 else frames
            out["image"] = torch.from_numpy(
                np.ascontiguousarray(planes).reshape(1, 1, spec.stack * channels, height, width)
            )
        if spec.masked:
            choices = sum(spec.action.choices)
            mask = request.mask if request.mask is not None else (True,) * choices
            if len(mask) != choices or not any(mask):
                raise UserError(
                    f"--mask has {len(mask)} choices, {sum(mask)} of them allowed; {spec.name} has {choices}"
                )
            out["mask"] = torch.tensor(mask)[None, None]
        return out
