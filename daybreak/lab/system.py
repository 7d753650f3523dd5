"""What a system is, and which ones are installed.

A system names its parts as strings, "module:attribute", so that listing systems imports none of them.
Systems come through the entry-point group `daybreak.systems`: ours and a third party's through the same door.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from daybreak.errors import UserError, nearest

GROUP = "daybreak.systems"


@dataclass(frozen=True)
class System:
    """One complete system.

    `recipes`, `models` and `commands` map a name to "module:attribute". The first recipe and the first model are the
    default ones. `ingest` is "module:function", path -> drafts (see `daybreak.lab.lake`); `embedded` is
    "module:function", () -> drafts: the data that the system carries or makes itself, for a newcomer's machine.
    """

    name: str
    line: str
    ingest: str = ""
    embedded: str = ""
    recipes: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


@cache
def systems() -> Mapping[str, System]:
    """The installed systems by name. A package whose system does not import is left out by `broken()`."""
    return {name: found for name, found in _load().items() if isinstance(found, System)}


def broken() -> Mapping[str, str]:
    """Entry points that could not be loaded, with the reason."""
    return {name: found for name, found in _load().items() if isinstance(found, str)}


@cache
def _load() -> dict[str, System | str]:
    found: dict[str, System | str] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            value = point.load()
            found[point.name] = value if isinstance(value, System) else f"{point.value} is not a System"
        except Exception as error:  # a third party's import may fail in any way
            found[point.name] = f"{point.value} cannot be imported: {type(error).__name__}: {error}"
    return found


def system(name: str) -> System:
    """The installed system of that name. Raises `UserError` with the nearest names."""
    try:
        return systems()[name]
    except KeyError:
        reason = broken().get(name)
        raise UserError(reason or f"unknown system {name!r}; {nearest(name, systems())}") from None


def resolve(target: str) -> Any:
    """Import "module:attribute"."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def target_of(cls: type) -> str:
    """The "module:attribute" of a class."""
    return f"{cls.__module__}:{cls.__qualname__}"
