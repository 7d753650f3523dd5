"""Probe environments: so small that the right value of every observation is known (after Jones 2020, Debugging RL).

Each asks for one more thing than the one before it: that a value is learned at all, that it follows the observation,
that it comes back in time, that actions follow it, that they follow what was seen long ago, and that an episode that
was cut off is not one that ended. A name with "-box" takes a real number in place of a choice. `VALUES` holds what is
right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from daybreak.errors import UserError, nearest
from daybreak.systems.rl.envs.base import Observations, Step, VectorEnv
from daybreak.systems.rl.spec import Space, Spec

DELAY = 3
"""Steps between the cue and the question in "memory"."""
CUT = 10
"""Steps after which "truncation" is cut off."""


@dataclass(frozen=True)
class Known:
    """The value of an observation under the best policy, and of each choice there."""

    observation: tuple[float, ...]
    reward: float
    """What is earned at the end; each step, where `forever`."""
    delay: int = 0
    """Steps until then."""
    forever: bool = False
    choices: tuple[float, ...] = ()
    """What each choice earns at once, in the variant with choices, where they differ."""
    best: float | None = None
    """The best action in the variant with a real number, where one is better than another."""

    def value(self, discount: float) -> float:
        """The discounted return. Raises ZeroDivisionError for one that never ends, undiscounted."""
        return self.reward / (1 - discount) if self.forever else self.reward * discount**self.delay


RIGHT = (-1.0, 1.0)
VALUES: Mapping[str, tuple[Known, ...]] = {
    "constant": (Known((0.0,), 1.0),),
    "observation": (Known((-1.0,), -1.0), Known((1.0,), 1.0)),
    "discount": (Known((0.0,), 1.0, delay=1), Known((1.0,), 1.0)),
    "action": (Known((0.0,), 1.0, choices=RIGHT, best=0.5),),
    "both": (
        Known((-1.0,), 1.0, choices=RIGHT[::-1], best=-0.5),
        Known((1.0,), 1.0, choices=RIGHT, best=0.5),
    ),
    # Where nothing is remembered, the question is worth 0: the cue is not seen there.
    "memory": (
        Known((-1.0, 0.0), 1.0, delay=DELAY + 1),
        Known((1.0, 0.0), 1.0, delay=DELAY + 1),
        Known((0.0, 1.0), 1.0),
    ),
    # Who takes the cut for an end learns about 1 / (1 - discount (1 - 1 / CUT)): less.
    "truncation": (Known((0.0,), 1.0, forever=True),),
}
"""By name without "-box": both variants share observations and values."""
LENGTHS = {"discount": 2, "memory": DELAY + 2, "truncation": CUT}
"""Steps of an episode; 1 in the others."""
SOLVED = {"action": 0.95, "both": 0.95, "memory": 0.95}
"""A mean return that only the right actions reach: the best is 1, a policy that is blind to what matters earns 0."""


class Probe(VectorEnv):
    """`count` copies of a probe. Choice 1 and the number 0.5 mean "up"; choice 0 and -0.5 mean "down"."""

    def __init__(self, id: str, count: int) -> None:
        self.kind, self.box = id.removesuffix("-box"), id.endswith("-box")
        self.count, self.length = count, LENGTHS.get(self.kind, 1)
        self.spec = Spec(
            name=f"probe:{id}",
            action=Space.box((-1.0,), (1.0,)) if self.box else Space.discrete(2),
            vector=len(VALUES[self.kind][0].observation),
            episode=CUT if self.kind == "truncation" else 0,
            best=SOLVED.get(self.kind),
        )
        self.random = np.random.default_rng(0)
        self.times, self.cues = np.zeros(count, np.int64), np.ones(count)

    def reset(self, seed: int) -> Observations:
        self.random = np.random.default_rng(seed)
        self.times[:] = 0
        self.cues = self._draw(self.count)
        return self._observe(self.times)

    def step(self, actions: np.ndarray) -> Step:
        reward = self._reward(actions).astype(np.float32)
        self.times += 1
        reached = self._observe(self.times)
        ended = self.times >= self.length
        self.times[ended] = 0
        self.cues[ended] = self._draw(int(ended.sum()))
        nobody = np.zeros(self.count, bool)
        over, cut = (nobody, ended) if self.kind == "truncation" else (ended, nobody)
        return Step(reached, self._observe(self.times), reward, over, cut)

    def state(self) -> dict[str, Any]:
        return {"times": self.times.copy(), "cues": self.cues.copy(), "random": self.random.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> Observations:
        self.times, self.cues = state["times"].copy(), state["cues"].copy()
        self.random.bit_generator.state = state["random"]
        return self._observe(self.times)

    def _draw(self, count: int) -> Float[np.ndarray, " count"]:
        return np.asarray(self.random.integers(2, size=count) * 2.0 - 1.0)

    def _observe(self, times: np.ndarray) -> Observations:
        parts = {
            "observation": [self.cues],
            "both": [self.cues],
            "discount": [times],
            "memory": [np.where(times == 0, self.cues, 0.0), times == self.length - 1],
        }.get(self.kind, [np.zeros(self.count)])
        return {"vector": np.stack(parts, axis=1).astype(np.float32)}

    def _reward(self, actions: np.ndarray) -> np.ndarray:
        last = self.times == self.length - 1
        match self.kind:
            case "observation":
                return self.cues.copy()
            case "discount":
                return np.asarray(last, float)
            case "action":
                return self._agreement(actions, np.ones(self.count))
            case "both":
                return self._agreement(actions, self.cues)
            case "memory":
                return np.where(last, self._agreement(actions, self.cues), 0.0)
        return np.ones(self.count)

    def _agreement(self, actions: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """1 for the right action; 0 on average (choices) or in the middle (numbers) for one that ignores `wanted`."""
        if self.box:
            return np.asarray(1 - 4 * (actions[:, 0] - 0.5 * wanted) ** 2)
        return np.where((actions == 1) == (wanted > 0), 1.0, -1.0)


def make(id: str, count: int) -> Probe:
    """`count` copies of a probe. Raises `UserError` with the nearest."""
    known = [*VALUES, *(f"{name}-box" for name in VALUES)]
    if id not in known:
        raise UserError(f"no probe environment {id!r}; {nearest(id, known)}")
    return Probe(id, count)
