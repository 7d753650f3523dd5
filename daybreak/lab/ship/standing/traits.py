"""What is kept of a request: numbers and categories that its types give, and nothing of what was in it.

A number counts in a bin of fixed width on a scale of ratios, so that bins need not be chosen before anything was seen.
Words count only where the type or the weights list them; free text leaves its length and its kinds of letters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, Literal, get_args, get_origin

import numpy as np
from pydantic import BaseModel

from daybreak.media import Media

FINE = 32
"""Bins between a number and its double: two numbers in one bin differ by at most 3 %."""
OCTAVES = 40
"""Numbers below 2^-40 count as 0, those above 2^40 as 2^40."""

SOME = 1000
"""Letters of a text whose kinds are counted."""

Traits = dict[str, float | str]


def traits(request: BaseModel, known: Mapping[str, Any] | None = None) -> Traits:
    """The numbers (float) and categories (str) of a request, by dotted name.

    Args:
        request: what an action was asked.
        known: the limits of the weights: a text field whose words they list counts as a category.
    """
    return dict(_of_model(request, "", known or {}))


def of_media(name: str, value: Media) -> Traits:
    """The numbers of one media value under a field's name."""
    return {f"{name}.{key}": float(number) for key, number in value.traits().items()}


def bin_of(value: float) -> int:
    """The bin of a number; bins are in the order of their numbers, 0 is that of zero."""
    if not value or value != value:
        return 0
    fraction, octave = math.frexp(min(abs(value), 2.0**OCTAVES))
    place = (octave + OCTAVES) * FINE + int((fraction - 0.5) * 2 * FINE)
    return int(math.copysign(place, value)) if place > 0 else 0


def middle(place: int) -> float:
    """The number in the middle of a bin."""
    if not place:
        return 0.0
    octave, part = divmod(abs(place), FINE)
    return math.copysign(math.ldexp(0.5 + (part + 0.5) / (2 * FINE), octave - OCTAVES), place)


def _of_model(value: BaseModel, prefix: str, known: Mapping[str, Any]) -> Iterator[tuple[str, float | str]]:
    for name, optional, listed in _fields(type(value)):
        way = prefix + name
        held = getattr(value, name)
        if optional:
            yield f"{way} given", "no" if held is None else "yes"
        if type(held) is float:
            yield way, held
        elif held is not None:
            yield from _of(held, way, listed, known)


@cache
def _fields(model: type[BaseModel]) -> tuple[tuple[str, bool, bool], ...]:
    """Name of each field, whether it may be left out, whether its type lists its words."""
    found = []
    for name, info in model.model_fields.items():
        parts = (info.annotation, *get_args(info.annotation))
        found.append((name, type(None) in parts, any(get_origin(one) is Literal for one in parts)))
    return tuple(found)


def _of(value: Any, name: str, listed: bool, known: Mapping[str, Any]) -> Iterator[tuple[str, float | str]]:
    if isinstance(value, Media):
        yield from of_media(name, value).items()
    elif isinstance(value, BaseModel):
        yield from _of_model(value, f"{name}.", known)
    elif isinstance(value, bool):
        yield name, "yes" if value else "no"
    elif isinstance(value, Enum):
        yield name, value.name
    elif isinstance(value, (int, float)):
        yield name, float(value)
    elif isinstance(value, str):
        yield from _of_text(value, name, listed, known)
    elif isinstance(value, np.ndarray):
        yield f"{name} size", float(value.size)
        yield from _spread(name, value)
    elif isinstance(value, (list, tuple, set, frozenset, Mapping)):
        yield f"{name} size", float(len(value))
        if isinstance(value, (list, tuple)) and value and all(type(one) in (int, float) for one in value):
            yield from _spread(name, np.asarray(value, float)) if len(value) > 64 else _few(name, value)


def _of_text(value: str, name: str, listed: bool, known: Mapping[str, Any]) -> Iterator[tuple[str, float | str]]:
    words = known.get(name)
    if listed or (isinstance(words, (list, tuple)) and value in words):
        yield name, value
        return
    yield f"{name} length", float(len(value))
    if some := value[:SOME]:
        yield f"{name} letters", sum(map(str.isalpha, some)) / len(some)
        yield f"{name} digits", sum(map(str.isdigit, some)) / len(some)
        yield f"{name} spaces", sum(map(str.isspace, some)) / len(some)
        yield f"{name} latin", sum(map(str.isascii, some)) / len(some)


def _few(name: str, values: Sequence[float]) -> Iterator[tuple[str, float]]:
    """The same as `_spread`, faster for a handful."""
    mean = math.fsum(values) / len(values)
    yield f"{name} mean", mean
    yield f"{name} spread", math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _spread(name: str, values: Sequence[float] | np.ndarray) -> Iterator[tuple[str, float]]:
    held = np.asarray(values)
    if held.size and held.dtype.kind in "fiub":
        yield f"{name} mean", float(held.mean(dtype=float))
        yield f"{name} spread", float(held.std(dtype=float))
