"""How a model got there: one fixed request through every registered version, failures included.

It knows the registry and actions; it draws nothing.
"""

from __future__ import annotations

import time
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from daybreak.errors import UserError
from daybreak.lab import limits
from daybreak.lab.codec import number
from daybreak.lab.config import check, nested
from daybreak.lab.home import Lab
from daybreak.lab.model import Action, Model
from daybreak.lab.registry import Version, versions
from daybreak.lab.ship.kiosk.shown import html
from daybreak.media import Media

EVENTS = 20
"""Of a stream that are told."""


@dataclass(frozen=True)
class Chapter:
    """What one version made of the request."""

    title: str
    made: str
    """When it was registered."""
    goal: str
    """What it reached on its test items; empty where nothing was read."""
    html: str = ""
    failure: str = ""
    """Why there is no answer."""
    seconds: float = 0.0


def fixed(model: Model, told: Mapping[str, Any]) -> tuple[Action, BaseModel]:
    """The action and the request of a model's story: what kiosk.toml tells, else the first that can be made up.

    Raises `UserError` where neither is possible.
    """
    actions = model.actions()
    if told:
        name = str(told.get("action", ""))
        if name not in actions:
            raise UserError(f"kiosk.toml: a story needs one of the actions {', '.join(actions)}, not {name!r}")
        return actions[name], check(actions[name].request, told.get("request", {}), f"kiosk.toml: {name}")
    known = model.describe()
    for action in actions.values():
        try:
            request = action.request.model_validate(example(action.request, known))
        except ValidationError:
            continue
        return action, request
    raise UserError("no request can be made up from the types alone; kiosk.toml can tell one under [stories.MODEL]")


def example(request: type[BaseModel], known: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The smallest values for the fields that have no default, from their types."""
    return {
        name: _value(info, known, f"{prefix}{name}")
        for name, info in request.model_fields.items()
        if info.is_required() and not _media(info.annotation)
    }


def chapters(
    lab: Lab | None, name: str, action: Action, request: BaseModel, open_: Mapping[str, str]
) -> Iterator[Chapter]:
    """Every registered version of a model, oldest first, asked the same. A version that fails tells why."""
    for version in versions(lab, name) if lab is not None else []:
        began = time.monotonic()
        about = (version.title, str(version.record.get("created", ""))[:16], _goal(version))
        try:
            model = Model.load(version.path).open(**open_)
            answer = getattr(model, action.method)(request)
            drawn = html(list(islice(answer, EVENTS)) if action.streams else answer)
        except UserError as error:
            yield Chapter(*about, failure=str(error))
        except Exception as error:  # an old version may fail in any way: that is part of the story
            yield Chapter(*about, failure=f"{type(error).__name__}: {error}")
        else:
            yield Chapter(*about, html=drawn, seconds=time.monotonic() - began)


def _goal(version: Version) -> str:
    goal = (version.record.get("test") or {}).get("goal")
    return f"{goal['name']} {number(goal['value']):.4g}" if goal else ""


def _media(annotation: Any) -> bool:
    kinds = (annotation, *typing.get_args(annotation))
    return any(isinstance(kind, type) and issubclass(kind, Media) for kind in kinds)


def _value(info: FieldInfo, known: Mapping[str, Any], name: str) -> Any:
    bounds = {
        key: getattr(one, key) for one in info.metadata for key in ("ge", "gt", "min_length") if hasattr(one, key)
    }
    kind = info.annotation
    if inner := nested(kind):
        return example(inner, known, f"{name}.")
    if typing.get_origin(kind) is Literal:
        return typing.get_args(kind)[0]
    if typing.get_origin(kind) in (tuple, list):
        (item, *_) = typing.get_args(kind)
        return [_value(FieldInfo(annotation=item), known, name)] * int(bounds.get("min_length", 0))
    if kind is bool:
        return False
    if kind in (int, float):
        return bounds.get("ge", bounds["gt"] + 1 if "gt" in bounds else 0)
    words = limits.words(known, name)
    return words[0] if words else "a" * int(bounds.get("min_length", 0))
