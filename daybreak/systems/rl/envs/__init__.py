"""Environments by name: a family before a colon ("ale:Pong", "procgen:coinrun"), else classic control or Gymnasium's.

Options follow a question mark, as in an address: "ale:Pong?size=52&sticky=0.25".

This file knows the families' names and what installs them, and imports none before it is asked for. A third party's
family comes through the entry-point group `daybreak.envs`: a function (id, count, options) -> VectorEnv.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import parse_qsl

from daybreak.errors import UserError, nearest
from daybreak.systems.rl.envs.base import Guard, Observations, Step, VectorEnv

__all__ = ["FAMILIES", "Family", "Guard", "Observations", "Step", "VectorEnv", "make"]


@dataclass(frozen=True)
class Family:
    """A kind of environments that one package brings."""

    target: str
    """"module:function" taking (id, count) and options, returning a VectorEnv."""
    line: str
    extra: str = ""
    """The extra that installs it; "" where nothing is needed."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Options that hold while an agent learns, not while it is judged."""


FAMILIES: Mapping[str, Family] = {
    "classic": Family("daybreak.systems.rl.envs.classic:make", "CartPole-v1, Acrobot-v1, ...: ours, vectorised"),
    "gym": Family("daybreak.systems.rl.envs.gym:make", "any Gymnasium id (Box2D, MuJoCo, your own)", "gym"),
    "ale": Family("daybreak.systems.rl.envs.ale:make", "108 Atari games: ale:Pong", "atari", {"life_loss": True}),
    "procgen": Family("daybreak.systems.rl.envs.procgen:make", "16 generated games: procgen:coinrun", "procgen"),
    "nes": Family("daybreak.systems.rl.envs.nes:make", "Super Mario Bros: nes:SuperMarioBros-v0", "nes"),
    "minatar": Family("daybreak.systems.rl.envs.minatar:make", "five games of 10 x 10: minatar:breakout", "minatar"),
    "envpool": Family("daybreak.systems.rl.envs.envpool:make", "any EnvPool id", "envpool"),
    "board": Family("daybreak.systems.rl.envs.board:make", "tictactoe, connect4, go9, against itself"),
    "unity": Family("daybreak.systems.rl.envs.unity:make", "a Unity ML-Agents player: unity:PATH", "unity"),
    "probe": Family("daybreak.systems.rl.envs.probe:make", "tiny environments with known values, for `rl verify`"),
}


def families() -> dict[str, Family]:
    """Every family by name, a third party's too."""
    others = {point.name: Family(point.value, "from another package") for point in entry_points(group="daybreak.envs")}
    return {**others, **FAMILIES}


def split(name: str) -> tuple[str, dict[str, Any]]:
    """A name and the options behind its question mark: numbers, true and false as such, all else as text.

    Raises `UserError` for an option without a value.
    """
    bare, _, query = name.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UserError(f"{name}: options are written {bare}?NAME=VALUE&NAME=VALUE") from None
    return bare, {key: _value(text) for key, text in pairs}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def make(name: str, count: int = 1, training: bool = False, **options: Any) -> VectorEnv:
    """`count` copies of the environment `name`, to learn in or to be judged in; `options` beside those in the name.

    Raises `UserError` with the nearest names, or with what installs it.
    """
    from daybreak.systems.rl.envs.classic import CLASSICS

    bare, told = split(name)
    options = {**told, **options}
    family, colon, id = bare.partition(":")
    if not colon:
        family, id = ("classic", bare) if bare in CLASSICS else ("gym", bare)
    known = families()
    if family not in known:
        raise UserError(f"unknown family of environments {family!r} in {name!r}; {nearest(family, known)}")
    found = known[family]
    module, _, attribute = found.target.partition(":")
    try:
        maker: Callable[..., VectorEnv] = getattr(importlib.import_module(module), attribute)
        given = {**found.training, **options} if training else options
        _check(name, maker, given)
        return Guard(maker(id, count, **given))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("daybreak"):
            raise
        need = f"pip install 'daybreak[{found.extra}]'" if found.extra else f"install {error.name}"
        raise UserError(f"{name} needs {error.name}, which is not installed: {need}") from error


def _check(name: str, maker: Callable[..., VectorEnv], options: Mapping[str, Any]) -> None:
    """Refuse an option that the family does not know, unless it hands what it is given to somebody else."""
    parameters = inspect.signature(maker).parameters
    known = list(parameters)[2:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for option in options:
        if option not in known:
            raise UserError(f"{name} has no option {option!r}; {nearest(option, known)}")
