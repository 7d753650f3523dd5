"""Any environment of Gymnasium's registry: its own, Box2D, MuJoCo, or a user's ("gym:my_module:MyEnv-v0").

Copies are stepped by our loop (faster than Gymnasium's vector classes, and exact at an episode's end); with
`process=True` each has a process, so that one that hangs is found out. MuJoCo's state can be restored with the same
bits; Box2D's solver keeps what nobody can read, so it cannot.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from daybreak.errors import UserError, nearest
from daybreak.systems.rl.envs.base import VectorEnv
from daybreak.systems.rl.envs.singles import Remote, Single, Singles, line
from daybreak.systems.rl.envs.spaces import Reader, action_space
from daybreak.systems.rl.spec import Spec

TRANSPARENT = ("TimeLimit", "OrderEnforcing", "PassiveEnvChecker")
"""Wrappers whose state is known."""
PACKAGES = {"box2d": ("Box2D and pygame", "box2d"), "mujoco": ("MuJoCo", "mujoco")}


class GymSingle:
    """One Gymnasium environment; an observation is (theirs, mask or None)."""

    def __init__(self, spec: Any, options: dict[str, Any], render: bool) -> None:
        import gymnasium

        modes = metadata(spec).get("render_modes") or ()
        if render and "rgb_array" in modes and "render_mode" not in options:
            options = {**options, "render_mode": "rgb_array"}
        self.env: Any = gymnasium.make(spec, disable_env_checker=True, **options)
        _, self.decode = action_space(spec.id, self.env.action_space)

    def reset(self, seed: int | None) -> tuple[Any, Any]:
        seen, info = self.env.reset(seed=seed)
        return seen, info.get("action_mask")

    def step(self, action: Any) -> tuple[tuple[Any, Any], float, bool, bool]:
        seen, reward, terminated, truncated, info = self.env.step(self.decode(action))
        return (seen, info.get("action_mask")), reward, terminated, truncated

    def state(self) -> dict[str, Any] | None:
        env, chain = self.env, []
        while env is not env.unwrapped:
            chain.append(env)
            env = env.env
        if not is_mujoco(env) or any(type(wrapper).__name__ not in TRANSPARENT for wrapper in chain):
            return None
        return {
            "data": {name: getattr(env.data, name).copy() for name in arrays(env)},
            "time": float(env.data.time),
            "random": env.np_random.bit_generator.state,
            "elapsed": [int(getattr(wrapper, "_elapsed_steps", 0) or 0) for wrapper in chain],
        }

    def restore(self, state: dict[str, Any]) -> tuple[Any, Any]:
        self.env.reset()  # So that the wrappers know of an episode.
        env, elapsed = self.env, list(state["elapsed"])
        while env is not env.unwrapped:
            steps = elapsed.pop(0)
            if hasattr(env, "_elapsed_steps"):
                env._elapsed_steps = steps
            env = env.env
        for name, value in state["data"].items():
            getattr(env.data, name)[...] = value
        env.data.time = state["time"]
        env.np_random.bit_generator.state = state["random"]
        return env._get_obs(), None

    def frame(self) -> np.ndarray:
        bare = self.env.unwrapped
        if bare.render_mode is None and "rgb_array" in (bare.metadata.get("render_modes") or ()):
            # Now, and not when it is built: some simulate more where they are drawn, which costs every step.
            bare.render_mode = "rgb_array"
        if is_mujoco(bare) and sys.platform == "linux" and not os.environ.get("DISPLAY"):
            os.environ.setdefault("MUJOCO_GL", "egl")  # Its own default opens a window.
        try:
            picture = self.env.render()
        except Exception as error:
            if is_mujoco(bare):
                raise UserError(
                    f"{self.env.spec.id} cannot be drawn: MuJoCo found no display; "
                    "start with MUJOCO_GL=egl (a GPU) or MUJOCO_GL=osmesa (Mesa's software)"
                ) from error
            raise
        if picture is None:
            raise UserError(f"{self.env.spec.id} cannot be drawn: it has no render mode rgb_array")
        return np.asarray(picture)

    def close(self) -> None:
        self.env.close()


def metadata(spec: Any) -> dict[str, Any]:
    """What the environment's class says of itself, read before it is built."""
    import gymnasium

    found = spec.entry_point
    if isinstance(found, str):
        found = gymnasium.envs.registration.load_env_creator(found)
    return dict(getattr(found, "metadata", None) or {})


def is_mujoco(env: Any) -> bool:
    """Whether it is Gymnasium's MuJoCo environment (v4 and later)."""
    return any(c.__module__ == "gymnasium.envs.mujoco.mujoco_env" for c in type(env).__mro__)


def arrays(env: Any) -> list[str]:
    """Names of MjData's arrays of fixed size: the state, and what was derived from it and is read before a step."""
    import mujoco

    fresh = mujoco.MjData(env.model)
    names = []
    for name in dir(fresh):
        if not name.startswith("_"):
            value = getattr(fresh, name)
            if isinstance(value, np.ndarray) and value.size and value.shape == getattr(env.data, name).shape:
                names.append(name)
    return names


def make(
    id: str, count: int, process: bool = False, timeout: float = 60.0, render: bool = False, **options: Any
) -> VectorEnv:
    """`count` copies of a registered environment; `options` go to its constructor.

    `timeout` counts the seconds of one answer where `process` gives each copy a process; `render` builds the first copy
    for pictures, for one that cannot turn to them later. Raises `UserError` for an id that nobody registered (with the
    nearest), a package that is missing, and spaces that no agent here can use.
    """
    gymnasium = importlib.import_module("gymnasium")
    spec = found(gymnasium, id)
    try:
        singles = [_build((spec, options, render and n == 0), process, timeout) for n in range(count)]
        # The first copy tells the spaces; where it lives in a process, one more is built for that here.
        probe = singles[0] if isinstance(singles[0], GymSingle) else GymSingle(spec, options, False)
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(missing(id, spec, error)) from error
    except ModuleNotFoundError as error:
        raise UserError(f"{id} needs the module {error.name}, which is not installed") from error
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{id} cannot be built: {line(error)}") from error
    assert isinstance(probe, GymSingle)
    reader = Reader(id, probe.env.observation_space)
    action, _ = action_space(id, probe.env.action_space)
    try:
        masked = action.kind != "box" and probe.reset(0)[1] is not None
    except Exception as error:
        raise UserError(f"{id}, copy 0: could not start an episode: {line(error)}") from error
    built = Spec(
        name=id,
        action=action,
        vector=reader.vector,
        image=reader.image,
        masked=masked,
        episode=probe.env.spec.max_episode_steps or 0,
        best=probe.env.spec.reward_threshold,
    )
    if probe is not singles[0]:
        probe.close()
    return Singles(built, singles, _writer(id, reader, masked, sum(action.choices)))


def _build(arguments: tuple[Any, dict[str, Any], bool], process: bool, timeout: float) -> Single:
    return Remote(GymSingle, arguments, timeout) if process else GymSingle(*arguments)


def _writer(name: str, reader: Reader, masked: bool, choices: int) -> Callable[[Any, dict[str, np.ndarray], int], None]:
    def write(seen: Any, rows: dict[str, np.ndarray], row: int) -> None:
        reader.write(seen[0], rows, row)

    def write_masked(seen: Any, rows: dict[str, np.ndarray], row: int) -> None:
        reader.write(seen[0], rows, row)
        mask = seen[1]
        if mask is None:
            raise UserError(f"{name} gave an action mask at first and none later")
        flat = np.concatenate([np.ravel(part) for part in mask]) if isinstance(mask, tuple) else np.ravel(mask)
        if flat.size != choices:
            raise UserError(f"{name} gave an action mask of {flat.size} for {choices} choices")
        rows["mask"][row] = flat

    return write_masked if masked else write


def found(gymnasium: Any, id: str) -> Any:
    """The registered spec of an id. Raises `UserError` with the nearest ids, or the module that cannot be imported."""
    module, colon, rest = id.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise UserError(
                f"{id}: there is no module {error.name!r}; install it, or put its folder into PYTHONPATH"
            ) from error
        except Exception as error:
            raise UserError(f"{id}: module {module!r} fails to import: {line(error)}") from error
    try:
        return gymnasium.spec(rest)
    except gymnasium.error.Error as error:
        raise UserError(f"no environment {rest!r}; {nearest(rest, gymnasium.registry)}") from error


def missing(id: str, spec: Any, error: Exception) -> str:
    """The line that installs what an environment needs."""
    for part, (packages, extra) in PACKAGES.items():
        if f".{part}." in f".{spec.entry_point}.".replace(":", "."):
            return f"{id} needs {packages}, which is not installed: pip install 'daybreak[{extra}]'"
    return f"{id} needs what is not installed: {line(error)}"
