"""From a typed function to a command: positional-only parameters are words, the others are flags.

Values and one-line errors come from `lab.config`; the help page is tyro's. A command that takes `*rest` gets the words
and flags that are not its own.
"""

from __future__ import annotations

import functools
import inspect
import typing
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

from daybreak.errors import UserError, nearest
from daybreak.lab.config import build, describe, leaves, split_flags


def call(function: Callable[..., Any], argv: Sequence[str], where: str) -> Any:
    """Call a command with the words of a command line. Raises `UserError` for a mistake in them."""
    parameters = inspect.signature(function).parameters.values()
    hints = typing.get_type_hints(function, include_extras=True)
    words = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    if rest is None and ("--help" in argv or "-h" in argv):
        return show_help(function, where)
    fields: dict[str, Any] = {
        # `for_` is the flag --for: the word alone is Python's.
        p.name.rstrip("_"): (hints[p.name], ... if p.default is p.empty else p.default)
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.KEYWORD_ONLY)
    }
    with warnings.catch_warnings():
        # A flag may have the name of one of pydantic's methods (json, copy): nobody calls them here.
        warnings.filterwarnings("ignore", message="Field name .* shadows an attribute")
        model = create_model(
            function.__name__,
            __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True),
            **fields,
        )
    flags = leaves(model)
    given, left = split_flags(
        argv, {n: f for n, f in flags.items() if n not in {p.name for p in words}}, where, rest is not None
    )
    for position, parameter in enumerate(words):
        # A flag that is not ours may stand among the words: they end where it begins.
        if left and not (rest and left[0].startswith("--")):
            given[parameter.name] = [left.pop(0)]
        elif parameter.default is parameter.empty:
            missing = " ".join(p.name.upper() for p in words[position:] if p.default is p.empty)
            raise UserError(f"{where}: {missing} is missing: {describe(flags[parameter.name])}")
    if left and rest is None:
        raise UserError(f"{where}: unexpected {left[0]!r}")
    value: BaseModel = build(model, given, None, where)
    held = {p.name: getattr(value, p.name.rstrip("_")) for p in parameters if p.name.rstrip("_") in fields}
    positional = [held.pop(p.name) for p in words]
    return function(*positional, *(left if rest else []), **held)


def show_help(function: Callable[..., Any], where: str) -> None:
    """Print a command's help page."""
    import tyro

    try:
        tyro.cli(_spelled(function), args=["--help"], prog=f"daybreak {where}")
    except SystemExit:
        return


def _spelled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as the help page shall spell it: `as_` is --as."""
    import tyro

    hints = typing.get_type_hints(function, include_extras=True)
    names = [p.name for p in inspect.signature(function).parameters.values() if p.name.endswith("_")]
    if not names:
        return function

    @functools.wraps(function)
    def shown(*words: Any, **flags: Any) -> Any: ...

    spelled = {name: typing.Annotated[hints[name], tyro.conf.arg(name=name.rstrip("_"))] for name in names}
    del shown.__wrapped__
    shown.__annotations__ = {**hints, **spelled}
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=shown.__annotations__[n]) for n, p in signature.parameters.items()]
    shown.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return shown


def choose(
    commands: dict[str, Callable[..., Any]], argv: Sequence[str], where: str
) -> tuple[Callable[..., Any], list[str]]:
    """The command that the first word names, and the other words."""
    name = argv[0] if argv else ""
    if name not in commands:
        raise UserError(f"{where}: unknown command {name!r}; {nearest(name, commands)}")
    return commands[name], list(argv[1:])
