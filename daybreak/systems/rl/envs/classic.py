"""Classic control, vectorised: CartPole, MountainCar (both), Acrobot, Pendulum, as Gymnasium defines them.

Same dynamics, bounds, rewards and time limits, held together by a test; all copies step in one numpy expression. They
need no other package, restore exactly, and draw themselves.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from daybreak.errors import UserError, nearest
from daybreak.systems.rl.envs.base import Observations, Step, VectorEnv
from daybreak.systems.rl.spec import Space, Spec


class Classic(VectorEnv):
    """What the five share: states as float64 [envs, dims], time limits, seeds, restoring."""

    NAME: ClassVar[str]
    DIMS: ClassVar[int]
    OBSERVED: ClassVar[int]
    LIMIT: ClassVar[int]
    ACTION: ClassVar[Space]
    SOLVED: ClassVar[float | None] = None

    def __init__(self, count: int) -> None:
        self.count = count
        self.spec = Spec(name=self.NAME, action=self.ACTION, vector=self.OBSERVED, episode=self.LIMIT, best=self.SOLVED)
        self.states = np.zeros((count, self.DIMS))
        self.times = np.zeros(count, np.int64)
        self.random = np.random.default_rng(0)

    def reset(self, seed: int) -> Observations:
        self.random = np.random.default_rng(seed)
        self.states = self.first(self.count)
        self.times[:] = 0
        return {"vector": self.observe(self.states)}

    def step(self, actions: np.ndarray) -> Step:
        states, reward, terminated = self.move(self.states, actions)
        self.times += 1
        truncated = (self.times >= self.LIMIT) & ~terminated
        reached: Observations = {"vector": self.observe(states)}
        ended = terminated | truncated
        self.states = states
        if not ended.any():
            return Step(reached, reached, reward.astype(np.float32), terminated, truncated)
        states[ended] = self.first(int(ended.sum()))
        self.times[ended] = 0
        return Step(reached, {"vector": self.observe(states)}, reward.astype(np.float32), terminated, truncated)

    def state(self) -> dict[str, Any]:
        return {
            "states": self.states.copy(),
            "times": self.times.copy(),
            "random": self.random.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> Observations:
        self.states, self.times = state["states"].copy(), state["times"].copy()
        self.random.bit_generator.state = state["random"]
        return {"vector": self.observe(self.states)}

    def observe(self, states: np.ndarray) -> np.ndarray:
        """What is seen of the states, float32 [envs, observed]."""
        return states.astype(np.float32)

    def first(self, count: int) -> np.ndarray:
        """States in which episodes begin."""
        raise NotImplementedError

    def move(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """New states, rewards, and whether each episode is over. Must not write into `states`."""
        raise NotImplementedError

    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        from daybreak.systems.rl.envs.drawing import draw

        return draw(self.NAME, self.states[0])


class CartPole(Classic):
    """Balance a pole on a cart (Barto, Sutton and Anderson 1983)."""

    NAME, DIMS, OBSERVED, LIMIT, ACTION, SOLVED = "CartPole-v1", 4, 4, 500, Space.discrete(2), 475.0

    def first(self, count: int) -> np.ndarray:
        return self.random.uniform(-0.05, 0.05, (count, 4))

    def move(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _, speed, angle, spin = states.T
        force = np.where(actions == 1, 10.0, -10.0)
        cos, sin = np.cos(angle), np.sin(angle)
        push = (force + 0.05 * spin**2 * sin) / 1.1
        turn = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
        pull = push - 0.05 * turn * cos / 1.1
        change = np.empty_like(states)
        change[:, 0], change[:, 1], change[:, 2], change[:, 3] = speed, pull, spin, turn
        new = states + 0.02 * change
        over = (np.abs(new[:, 0]) > 2.4) | (np.abs(new[:, 2]) > 12 * 2 * math.pi / 360)
        return new, np.ones(len(states)), over


class MountainCar(Classic):
    """Swing a car up a hill (Moore 1990)."""

    NAME, DIMS, OBSERVED, LIMIT, ACTION, SOLVED = "MountainCar-v0", 2, 2, 200, Space.discrete(3), -110.0

    def first(self, count: int) -> np.ndarray:
        return np.stack([self.random.uniform(-0.6, -0.4, count), np.zeros(count)], axis=1)

    def move(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place, speed = states.T
        speed = np.clip(speed + (actions - 1) * 0.001 - 0.0025 * np.cos(3 * place), -0.07, 0.07)
        place = np.clip(place + speed, -1.2, 0.6)
        speed = np.where((place == -1.2) & (speed < 0), 0.0, speed)
        return np.stack([place, speed], axis=1), -np.ones(len(states)), (place >= 0.5) & (speed >= 0)


class MountainCarContinuous(Classic):
    """The same hill with a motor of any force; force costs, the top pays 100."""

    NAME, DIMS, OBSERVED, LIMIT, SOLVED = "MountainCarContinuous-v0", 2, 2, 999, 90.0
    ACTION = Space.box((-1.0,), (1.0,))

    def first(self, count: int) -> np.ndarray:
        return np.stack([self.random.uniform(-0.6, -0.4, count), np.zeros(count)], axis=1)

    def move(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place, speed = states.T
        force = actions[:, 0].astype(float)
        speed = np.clip(speed + np.clip(force, -1.0, 1.0) * 0.0015 - 0.0025 * np.cos(3 * place), -0.07, 0.07)
        place = np.clip(place + speed, -1.2, 0.6)
        speed = np.where((place == -1.2) & (speed < 0), 0.0, speed)
        over = (place >= 0.45) & (speed >= 0)
        return np.stack([place, speed], axis=1), 100.0 * over - 0.1 * force**2, over


class Acrobot(Classic):
    """Swing a two-link arm above a line (Sutton 1996), the dynamics of the book."""

    NAME, DIMS, OBSERVED, LIMIT, ACTION, SOLVED = "Acrobot-v1", 4, 6, 500, Space.discrete(3), -100.0

    def first(self, count: int) -> np.ndarray:
        return self.random.uniform(-0.1, 0.1, (count, 4))

    def observe(self, states: np.ndarray) -> np.ndarray:
        one, two = states[:, 0], states[:, 1]
        parts = [np.cos(one), np.sin(one), np.cos(two), np.sin(two), states[:, 2], states[:, 3]]
        return np.stack(parts, axis=1).astype(np.float32)

    def move(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        torque = actions - 1.0
        h = 0.2  # seconds; one step of Runge and Kutta's fourth order
        k1 = self._slope(states, torque)
        k2 = self._slope(states + h / 2 * k1, torque)
        k3 = self._slope(states + h / 2 * k2, torque)
        k4 = self._slope(states + h * k3, torque)
        new = states + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        new[:, :2] = (new[:, :2] + math.pi) % (2 * math.pi) - math.pi
        new[:, 2] = np.clip(new[:, 2], -4 * math.pi, 4 * math.pi)
        new[:, 3] = np.clip(new[:, 3], -9 * math.pi, 9 * math.pi)
        over = -np.cos(new[:, 0]) - np.cos(new[:, 0] + new[:, 1]) > 1.0
        return new, np.where(over, 0.0, -1.0), over

    @staticmethod
    def _slope(states: np.ndarray, torque: np.ndarray) -> np.ndarray:
        one, two, spin1, spin2 = states.T
        d1 = 0.25 + 1.25 + np.cos(two) + 2.0
        d2 = 0.25 + 0.5 * np.cos(two) + 1.0
        phi2 = 0.5 * 9.8 * np.cos(one + two - math.pi / 2)
        phi1 = (
            -0.5 * spin2**2 * np.sin(two) - spin2 * spin1 * np.sin(two) + 1.5 * 9.8 * np.cos(one - math.pi / 2) + phi2
        )
        turn2 = (torque + d2 / d1 * phi1 - 0.5 * spin1**2 * np.sin(two) - phi2) / (1.25 - d2**2 / d1)
        turn1 = -(d2 * turn2 + phi1) / d1
        return np.stack([spin1, spin2, turn1, turn2], axis=1)


class Pendulum(Classic):
    """Swing a pendulum up and hold it; reward is minus what angle, speed and torque cost."""

    NAME, DIMS, OBSERVED, LIMIT = "Pendulum-v1", 2, 3, 200
    ACTION = Space.box((-2.0,), (2.0,))
    SOLVED = -160.0

    def first(self, count: int) -> np.ndarray:
        return self.random.uniform([-math.pi, -1.0], [math.pi, 1.0], (count, 2))

    def observe(self, states: np.ndarray) -> np.ndarray:
        parts = [np.cos(states[:, 0]), np.sin(states[:, 0]), states[:, 1]]
        return np.stack(parts, axis=1).astype(np.float32)

    def move(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        angle, spin = states.T
        torque = np.clip(actions[:, 0].astype(float), -2.0, 2.0)
        folded = (angle + math.pi) % (2 * math.pi) - math.pi
        cost = folded**2 + 0.1 * spin**2 + 0.001 * torque**2
        spin = np.clip(spin + (15.0 * np.sin(angle) + 3.0 * torque) * 0.05, -8.0, 8.0)
        return np.stack([angle + spin * 0.05, spin], axis=1), -cost, np.zeros(len(states), bool)


CLASSICS = {env.NAME: env for env in (CartPole, MountainCar, MountainCarContinuous, Acrobot, Pendulum)}


def make(id: str, count: int) -> Classic:
    """The environment of that name. Raises `UserError` with the nearest."""
    if id not in CLASSICS:
        raise UserError(f"no classic environment {id!r}; {nearest(id, CLASSICS)}")
    return CLASSICS[id](count)
