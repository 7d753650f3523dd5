"""A request on a screen: what each field is drawn as, from its type, and what was entered as a request again.

It knows types; it draws nothing.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from daybreak.errors import UserError, nearest
from daybreak.lab import limits
from daybreak.lab.config import build, describe, leaves
from daybreak.lab.model import Action
from daybreak.media import Media

Kind = Literal["choice", "choices", "switch", "slider", "number", "text", "media"]
WIDEST = 10_000
"""Steps of a slider; a wider range is a number to type."""


@dataclass(frozen=True)
class Shown:
    """One field of a request, as it is drawn."""

    name: str
    """Dotted, as the command line's flag."""
    kind: Kind
    about: str
    """Its docstring, or what it takes."""
    default: Any = None
    """None: nothing is entered, and the type's own default counts."""
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    media: type[Media] | None = None
    required: bool = False

    @property
    def label(self) -> str:
        """The name for a person."""
        words = self.name.replace(".", ": ").replace("_", " ")
        return f"{words} *" if self.required else words


def plan(request: type[BaseModel], known: Mapping[str, Any]) -> list[Shown]:
    """The fields of a request; `known` are the limits of the weights.

    What the request's class says itself comes before what it shares with others.
    """
    own = vars(request).get("__annotations__", {})
    fields = [_shown(request, name, info, known) for name, info in leaves(request).items()]
    return sorted(fields, key=lambda one: one.name.partition(".")[0] not in own)


def _shown(request: type[BaseModel], name: str, info: FieldInfo, known: Mapping[str, Any]) -> Shown:
    kind, options = _inner(info.annotation)
    default = _default(request, name, info)
    required = info.is_required() and "." not in name
    about = info.description or f"{describe(info)}."
    words = limits.words(known, name)
    if name in known and not words:
        about = f"{about} These weights: {known[name]}."
    more: dict[str, Any] = {"about": about, "required": required, "default": default}
    if isinstance(kind, type) and issubclass(kind, Media):
        return Shown(name, "media", **{**more, "default": None}, media=kind)
    if typing.get_origin(kind) is Literal:
        choices = tuple(str(value) for value in typing.get_args(kind))
        return Shown(name, "choice", **{**more, "default": None if default is None else str(default)}, choices=choices)
    if kind is bool:
        return Shown(name, "switch", **{**more, "default": bool(default)})
    if kind in (int, float):
        bounds = {
            key: getattr(one, key) for one in info.metadata for key in ("ge", "gt", "le", "lt") if hasattr(one, key)
        }
        low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
        closed = "ge" in bounds and "le" in bounds and default is not None
        if closed and low is not None and high is not None and (kind is float or high - low <= WIDEST):
            return Shown(name, "slider", **more, low=float(low), high=float(high), whole=kind is int)
        return Shown(name, "number", **more, whole=kind is int)
    if kind is str and words:
        return Shown(name, "choice", **more, choices=("", *words))
    if options and words:
        return Shown(name, "choices", **more, choices=tuple(words))
    if options and default is not None:
        more["default"] = (
            ", ".join(map(str, default)) if all(isinstance(x, (str, int, float)) for x in default) else None
        )
    if not isinstance(more["default"], (str, type(None))):
        more["default"] = None
    return Shown(name, "text", **more)


def _inner(annotation: Any) -> tuple[Any, bool]:
    """The type without None, and whether it is a list of strings or numbers."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    args = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
    if type(None) in typing.get_args(annotation) and len(args) == 1:
        return _inner(args[0])
    return annotation, typing.get_origin(annotation) in (tuple, list, set, frozenset)


def _default(request: type[BaseModel], name: str, info: FieldInfo) -> Any:
    """A field's default, that of a nested model's field from the value its owner gives it."""
    top, *way = name.split(".")
    owner = request.model_fields[top] if way else info
    if owner.is_required():
        return None if info.is_required() else info.get_default(call_default_factory=True)
    value = owner.get_default(call_default_factory=True)
    for step in way:
        value = getattr(value, step, None)
    return value


def request_of(
    action: Action, fields: Sequence[Shown], values: Sequence[Any], known: Mapping[str, Any], files: Path
) -> Any:
    """What was entered as a request. Raises `UserError` with the field and what would work.

    `files` is the folder of uploads: a media field is a file in it, and no other.
    """
    given: dict[str, list[str]] = {}
    for field, value in zip(fields, values, strict=True):
        if value in (None, "", []):
            continue
        if field.kind == "media":
            path = Path(str(value)).resolve()
            if not path.is_relative_to(files.resolve()):
                raise UserError(f"{field.name}: only what was uploaded here is read")
            given[field.name] = [str(path)]
        elif field.kind == "choices":
            given[field.name] = [str(word) for word in value]
        elif isinstance(value, bool):
            given[field.name] = [str(value).lower()]
        else:
            given[field.name] = [repr(value) if isinstance(value, float) else str(value)]
    try:
        request = build(action.request, given, None, action.name)
    except UserError as error:
        raise UserError(str(error).removeprefix(f"{action.name}: ").replace("--", "")) from error
    if found := limits.unknown(request, known):
        name, word, words = found
        raise UserError(f"{name}: these weights know no {word!r}; {nearest(word, words)}")
    return request
