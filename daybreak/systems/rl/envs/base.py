"""The vector step contract: many copies of an environment that step together.

Truncation is never termination: a step tells both, and `next` is the observation that the action led to even where
the episode ended there and `observation` is already the next episode's first. Every adapter keeps this contract, so
that no algorithm knows whose environment it plays.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from daybreak.errors import UserError
from daybreak.systems.rl.spec import Spec

Observations = Mapping[str, np.ndarray]
""""vector" float32 [envs, dims], "image" uint8 [envs, channels, height, width], "mask" bool [envs, choices]."""


@dataclass(frozen=True)
class Step:
    """What one action in each environment led to."""

    next: Observations
    """What the action led to: the last observation of an episode that ended."""
    observation: Observations
    """What the next action answers to: the first of a new episode where one ended."""
    reward: Float[np.ndarray, envs]
    terminated: Bool[np.ndarray, envs]
    """The episode is over: nothing more can be earned."""
    truncated: Bool[np.ndarray, envs]
    """The episode was cut off (time, or an environment that was lost): what would have come still counts."""


class VectorEnv(abc.ABC):
    """`count` copies of one environment. They reset themselves: a step that ends an episode starts the next."""

    spec: Spec
    count: int

    @abc.abstractmethod
    def reset(self, seed: int) -> Observations:
        """Start every copy anew. The same seed gives the same episodes."""

    @abc.abstractmethod
    def step(self, actions: np.ndarray) -> Step:
        """One action in each copy. The arrays belong to the caller: a later step does not write into them."""

    def state(self) -> dict[str, Any] | None:
        """Everything that a restored copy needs, as a tree for `lab.codec`; None where it cannot be had."""
        return None

    def restore(self, state: dict[str, Any]) -> Observations:
        """Go on from a state. Returns the observations at it."""
        raise NotImplementedError(f"{self.spec.name} cannot be restored")

    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        """A picture of the first copy. Raises `UserError` where it has none."""
        raise UserError(f"{self.spec.name} cannot be drawn")

    def close(self) -> None:  # noqa: B027  # most hold nothing
        """Free what it holds."""


class Guard(VectorEnv):
    """Watches another: an observation or a reward that is not finite is refused with where it came from."""

    def __init__(self, env: VectorEnv) -> None:
        self.env, self.spec, self.count = env, env.spec, env.count
        self.steps = 0

    def reset(self, seed: int) -> Observations:
        return self._checked(self.env.reset(seed), None)

    def step(self, actions: np.ndarray) -> Step:
        self.steps += 1
        step = self.env.step(actions)
        if not np.isfinite(step.reward).all():
            which = int(np.flatnonzero(~np.isfinite(step.reward))[0])
            self._refuse(f"reward {step.reward[which]}", which, actions)
        self._checked(step.next, actions)
        if step.observation is not step.next:
            self._checked(step.observation, actions)
        return step

    def state(self) -> dict[str, Any] | None:
        return self.env.state()

    def restore(self, state: dict[str, Any]) -> Observations:
        return self.env.restore(state)

    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        return self.env.frame()

    def close(self) -> None:
        self.env.close()

    def _checked(self, observations: Observations, actions: np.ndarray | None) -> Observations:
        vector = observations.get("vector")
        if vector is not None and not np.isfinite(vector).all():
            which = int(np.flatnonzero(~np.isfinite(vector).all(axis=1))[0])
            self._refuse(f"observation {vector[which].tolist()[:8]}", which, actions)
        return observations

    def _refuse(self, what: str, which: int, actions: np.ndarray | None) -> None:
        last = "at reset" if actions is None else f"at step {self.steps}, after action {np.asarray(actions)[which]}"
        raise UserError(f"{self.spec.name}, copy {which}: {what} is not finite, {last}")
