"""What is kept of a request: numbers and categories that its types give, and nothing of what was in it.

A number counts in a bin of fixed width on a scale of ratios, so that bins need not be chosen before anything was seen.
Words count only where the type or the weights list them; free text leaves its length and its kinds of letters.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, get_args, get_origin

import numpy as np
from pydantic import BaseModel

from daybreak.media import Media

FINE = 32
"""Bins between a number and its double: two numbers in one bin differ by at most 3 %."""
OCTAVES = 40
"""Numbers below 2^-40 count as 0, those above 2^40 as 2^40."""

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
    for name, info in type(value).model_fields.items():
        way = f"{prefix}{name}"
        held = getattr(value, name)
        kind = info.annotation
        if type(None) in get_args(kind):
            yield f"{way} given", "no" if held is None else "yes"
        yield from _of(held, way, kind, known)


def _of(value: Any, name: str, kind: Any, known: Mapping[str, Any]) -> Iterator[tuple[str, float | str]]:
    if value is None:
        return
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
        yield from _of_text(value, name, kind, known)
    elif isinstance(value, np.ndarray):
        yield f"{name} size", float(value.size)
        yield from _spread(name, value)
    elif isinstance(value, (list, tuple, set, frozenset, Mapping)):
        yield f"{name} size", float(len(value))
        if isinstance(value, (list, tuple)) and value and all(type(one) in (int, float) for one in value):
            yield from _spread(name, np.asarray(value, float))


def _of_text(value: str, name: str, kind: Any, known: Mapping[str, Any]) -> Iterator[tuple[str, float | str]]:
    words = known.get(name)
    listed = isinstance(words, (list, tuple)) and value in words
    if listed or _literal(kind):
        yield name, value
        return
    yield f"{name} length", float(len(value))
    if value:
        sorts = [unicodedata.category(letter)[0] for letter in value[:4096]]
        for word, of in (("letters", "L"), ("digits", "N"), ("spaces", "Z")):
            yield f"{name} {word}", sorts.count(of) / len(sorts)
        yield f"{name} latin", sum(letter.isascii() for letter in value[:4096]) / len(sorts)


def _literal(kind: Any) -> bool:
    return any(get_origin(one) is Literal for one in (kind, *get_args(kind)))


def _spread(name: str, values: Sequence[float] | np.ndarray) -> Iterator[tuple[str, float]]:
    held = np.asarray(values)
    if held.size and held.dtype.kind in "fiub":
        yield f"{name} mean", float(held.mean(dtype=float))
        yield f"{name} spread", float(held.std(dtype=float))
