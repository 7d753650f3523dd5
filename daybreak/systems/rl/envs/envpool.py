"""EnvPool (Weng et al. 2022): 1,651 environments in C++ behind one thread pool, "envpool:Pong-v5".

EnvPool starts the next episode one step late; here the copies that ended are reset within the step, so that the last
observation and the first are both exact. It offers no way to take a state out.
"""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

import numpy as np
from jaxtyping import UInt8

from daybreak.errors import UserError, nearest
from daybreak.systems.rl.envs.base import Observations, Step, VectorEnv
from daybreak.systems.rl.envs.singles import line
from daybreak.systems.rl.envs.spaces import Reader, action_space
from daybreak.systems.rl.spec import Spec


class EnvPool(VectorEnv):
    """`count` copies; `options` are EnvPool's own."""

    def __init__(self, id: str, count: int, threads: int, options: dict[str, Any]) -> None:
        self.id, self.count = id, count
        said = os.environ.get("OMP_NUM_THREADS", "")
        default = int(said) if said.isdigit() and int(said) else os.cpu_count() or 1
        self.options = {"num_threads": min(count, threads or default), **options}
        self.env: Any = self._new(0)
        stack = 1
        if "stack_num" in self.env.spec.config._fields and "stack_num" not in options:
            # Frames are stored once and stacked by who learns.
            stack = int(self.env.spec.config.stack_num)
            self.options["stack_num"] = 1
            self.env.close()
            self.env = self._new(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self.reader = Reader(f"envpool:{id}", self.env.observation_space)
            actions = self.env.action_space
        space, _ = action_space(f"envpool:{id}", actions)
        self._start, self._shape, self._dtype = getattr(actions, "start", 0), actions.shape, actions.dtype
        self.spec = Spec(
            name=f"envpool:{id}",
            action=space,
            vector=self.reader.vector,
            image=self.reader.image,
            stack=stack,
            episode=int(getattr(self.env.spec.config, "max_episode_steps", 0) or 0),
            best=getattr(self.env.spec.config, "reward_threshold", None) or None,
        )
        self._picture: np.ndarray | None = None

    def reset(self, seed: int) -> Observations:
        # Seeds are taken only when it is made.
        self.env.close()
        self.env = self._new(int(np.random.SeedSequence(seed).generate_state(1)[0] >> 2))
        seen, _ = self.env.reset()
        return self._read(seen, self.count)

    def step(self, actions: np.ndarray) -> Step:
        given = (np.reshape(actions, (self.count, *self._shape)) + self._start).astype(self._dtype)
        if given.ndim == 1:
            given = given.astype(np.int32)
        seen, reward, over, cut, _ = self.env.step(given)
        reached = self._read(seen, self.count)
        terminated, truncated = np.array(over, bool), np.array(cut, bool) & ~np.asarray(over, bool)
        ended = np.flatnonzero(terminated | truncated).astype(np.int32)
        gained = np.array(reward, np.float32)
        if not len(ended):
            return Step(reached, reached, gained, terminated, truncated)
        seen, info = self.env.reset(ended)
        first = self._read(seen, len(ended))
        observation = {name: array.copy() for name, array in reached.items()}
        for name, array in first.items():
            observation[name][info["env_id"]] = array
        self._picture = observation.get("image")
        return Step(reached, observation, gained, terminated, truncated)

    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        if self._picture is None:
            return super().frame()
        first = self._picture[0]
        first = first[-3:] if len(first) >= 3 else np.repeat(first[-1:], 3, axis=0)
        return np.asarray(first.transpose(1, 2, 0))

    def close(self) -> None:
        self.env.close()

    def _new(self, seed: int) -> Any:
        library = importlib.import_module("envpool")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # That bounds are float32, for each space.
            return library.make_gymnasium(self.id, num_envs=self.count, seed=seed, **self.options)

    def _read(self, seen: Any, rows: int) -> dict[str, np.ndarray]:
        arrays = {name: np.empty((rows, *shape), kind) for name, (shape, kind) in self.spec.observations.items()}
        if isinstance(seen, np.ndarray) and seen.ndim == 2:
            arrays["vector"][:] = seen
            return arrays
        for row in range(rows):
            self.reader.write(pick(seen, row), arrays, row)
        self._picture = arrays.get("image")
        return arrays


def pick(seen: Any, row: int) -> Any:
    """One copy's part of a tree of arrays."""
    if hasattr(seen, "items"):
        return {name: pick(part, row) for name, part in seen.items()}
    return seen[row]


def make(id: str, count: int, threads: int = 0, **options: Any) -> VectorEnv:
    """`count` copies of an EnvPool id. `threads`: 0 for OMP_NUM_THREADS, else the cores; `options` are EnvPool's own.
    Raises `UserError` for an unknown id or option."""
    library = importlib.import_module("envpool")
    known = library.list_all_envs()
    if id not in known:
        raise UserError(f"EnvPool has no environment {id!r}; {nearest(id, known)}")
    try:
        return EnvPool(id, count, threads, options)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"envpool:{id} cannot be built: {line(error)}") from error
