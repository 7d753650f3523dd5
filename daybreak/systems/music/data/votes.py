"""What a listener decided about a pair of clips <-> an item of the lake.

A vote keeps both clips twice: as MIDI files, for people and other programs, and as the streams that were composed, so
that whoever learns from it sees what was chosen token by token. It knows items and tokens; nothing about pages or nets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from daybreak.errors import UserError
from daybreak.lab.lake import Draft, Item
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data import VOTE

Side = Literal["a", "b"]
Choice = Literal["a", "b", "none"]
"""Which clip was preferred; "none": neither."""
SIDES: tuple[Side, Side] = ("a", "b")
REAL = "real"
"""Maker of a clip that is a song's own."""
LAYOUT = [T.POSITION, T.PITCH, T.VELOCITY, T.DURATION, T.CHORD, T.BASS, T.STREAM]
"""Where the kinds of tokens begin: streams that were written with another vocabulary must not be read with this one."""


@dataclass(frozen=True)
class Made:
    """One clip of a pair."""

    maker: str
    """REAL, or the model's id."""
    title: str
    """The same for a person: a song's clip, a model's name and version."""
    stream: np.ndarray
    midi: bytes


@dataclass(frozen=True)
class Pair:
    """Two clips for the same keywords."""

    id: str
    row: np.ndarray
    """Their keywords (`tokens.row`)."""
    given: bool
    """Whether the chords were given to the composer."""
    group: str
    """The request or song: it must not stand in two splits."""
    licence: str
    clips: Mapping[Side, Made]


def keywords(row: np.ndarray) -> dict[str, Any]:
    """A row of keywords by name."""
    return {name: value for name in T.FIELDS if (value := T.value(row, name)) is not None}


def draft(pair: Pair, key: str, choice: Choice, by: str, at: str) -> Draft:
    """A vote as a draft. `key`: the page's; `by`: who voted; `at`: when, in ISO 8601.

    The parts are what the vote is about, the labels what was decided: the same vote again is a duplicate, and a
    listener who changes their mind relabels the item.
    """
    about = {"key": key, "pair": pair.id, "by": by}
    composed: dict[str, Any] = {
        "layout": LAYOUT,
        "keywords": keywords(pair.row),
        "given": pair.given,
        **{side: made.stream.tolist() for side, made in pair.clips.items()},
    }
    labels: dict[str, Any] = {
        "kind": VOTE,
        "winner": choice,
        "asked": keywords(pair.row),
        **{side: made.maker for side, made in pair.clips.items()},
        **about,
        "at": at,
    }
    parts = {
        "vote": _json(about),
        **{f"{side}.mid": made.midi for side, made in pair.clips.items()},
        "streams": _json(composed),
    }
    return Draft(f"vote/{key}/{pair.id}/{by}", pair.group, parts, labels)


def streams(item: Item, read: Callable[[str], bytes]) -> tuple[np.ndarray, dict[Side, np.ndarray], bool]:
    """A vote's row of keywords, its two streams, and whether their chords were given. Raises `UserError`."""
    held = json.loads(read("streams"))
    if held["layout"] != LAYOUT:
        raise UserError(f"vote {item.id} was written with another vocabulary of tokens; collect votes anew")
    try:
        row = T.row(**held["keywords"])
    except (KeyError, ValueError) as error:
        raise UserError(f"vote {item.id} has a keyword that this vocabulary lacks: {error}") from error
    return row, {side: np.array(held[side], np.int16) for side in SIDES}, bool(held["given"])


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
