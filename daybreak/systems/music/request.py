"""What a composer can be asked, and how what was left out is filled in. It knows words and ranges; no networks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from daybreak.errors import UserError, nearest
from daybreak.lab.model import Request
from daybreak.systems.music import harmony, instruments, words
from daybreak.systems.music import tokens as T
from daybreak.systems.music.notation import progression


def validated(check: Any) -> AfterValidator:
    """A check that raises `UserError`, as pydantic wants it."""

    def checked(value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return str(check(value))
        except UserError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(checked)


def one_of(name: str) -> AfterValidator:
    """A check that a value is one of a keyword's; spaces and dashes are underscores."""

    def check(value: str) -> str:
        said = value.strip().lower().replace(" ", "_").replace("-", "_")
        if said not in T.FIELDS[name]:
            raise UserError(f"unknown {name} {value!r}; {nearest(said, [str(v) for v in T.FIELDS[name]])}")
        return said

    return validated(check)


def _instrument(value: str) -> str:
    return instruments.PROGRAMS[instruments.program(value)]


def _chords(value: str) -> str:
    return progression([name for name in re.split(r"[\s,|]+", value) if name])


def _text(value: str) -> str:
    words.parse(value)
    return value


class Sampled(Request):
    """How clips are drawn."""

    n: int = Field(1, ge=1, le=64)
    """Clips to compose."""
    seed: int = Field(0, ge=0, lt=2**31)
    """The same seed and request give the same clips."""
    temperature: float = Field(1.0, ge=0, le=4)
    """Above 1 bolder, below 1 safer; 0 takes the likeliest note each time."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Probability mass from which a note is drawn."""
    best_of: int = Field(4, ge=1, le=16)
    """Candidates for each clip; the one that obeys the keywords best is kept."""
    guidance: float = Field(1.5, ge=0, le=4)
    """Above 1 the keywords weigh more than training made them weigh; it costs twice the time."""


Key = Annotated[str | None, validated(harmony.parse_key)]
Chords = Annotated[str | None, validated(_chords)]
Instrument = Annotated[str | None, validated(_instrument)]


class Compose(Sampled):
    """Keywords, all of them optional. What is left out is drawn from the seed and recorded."""

    bpm: int | None = Field(None, ge=20, le=300)
    """Quarter notes a minute, 20 to 300."""
    key: Key = None
    """Key: "C minor", "Eb major", "F#m"."""
    genre: Annotated[str | None, one_of("genre")] = None
    """Genre, where the model was taught any."""
    instrument: Instrument = None
    """General MIDI instrument: a name, a family or a number. It decides the sound, not the notes."""
    role: Annotated[str | None, one_of("role")] = None
    """The part's role: main_melody, sub_melody, accompaniment, bass, pad or riff."""
    metre: Annotated[str | None, one_of("metre")] = None
    """Time signature: 4/4, 3/4, 6/8 and others."""
    bars: int | None = Field(None, ge=1, le=T.MOST_BARS)
    """Number of bars."""
    chords: Chords = Field(None, max_length=2000)
    """Chord progression, spread evenly over the bars: "Am G F E"."""
    pitch_range: Annotated[str | None, one_of("pitch_range")] = None
    """Where the mean pitch lies: very_low, low, mid_low, mid, mid_high, high or very_high."""
    min_velocity: int | None = Field(None, ge=1, le=127)
    """Softest note, 1 to 127."""
    max_velocity: int | None = Field(None, ge=1, le=127)
    """Loudest note, 1 to 127."""
    density: Annotated[str | None, one_of("density")] = None
    """Notes a beat: sparse, medium or dense."""
    rhythm: Annotated[str | None, one_of("rhythm")] = None
    """standard or triplet."""
    text: Annotated[str | None, validated(_text)] = Field(None, max_length=words.LONGEST_TEXT)
    """Keywords in words, English or Korean, in any order: "BPM 80, jazz, C minor, main melody"."""

    @model_validator(mode="after")
    def _agree(self) -> Compose:
        try:
            said = asked(self)
        except UserError as error:
            raise ValueError(str(error)) from error
        if said.get("min_velocity", 1) > said.get("max_velocity", 127):
            raise ValueError(f"min_velocity {said['min_velocity']} is above max_velocity {said['max_velocity']}")
        return self


def asked(request: Compose) -> dict[str, Any]:
    """The keywords that were said, by text or field, in the order of the fields; without the knobs of sampling.

    Raises `UserError` where text and a field say different values of one keyword.
    """
    said = {name: value for name in words.KEYWORDS if (value := getattr(request, name)) is not None}
    for name, found in words.read(request.text or "").items():
        if said.setdefault(name, found.value) != found.value:
            raise UserError(
                f"two values of {name}: {said[name]!r} by its own name, and {found.shown} of the text; say one"
            )
    return {name: said[name] for name in words.KEYWORDS if name in said}


def complete(said: dict[str, Any], templates: Sequence[Sequence[int]], draw: np.random.Generator) -> dict[str, Any]:
    """All keywords: those said, the others from a training clip that agrees with as many of them as any does."""
    wanted = {name: v for name, v in said.items() if name in ("key", "genre", "role", "metre", "bars", "pitch_range",
                                                              "density", "rhythm")}  # fmt: skip
    if "bpm" in said:
        wanted["bpm"] = T.tempo(said["bpm"])
    row = _template(wanted, templates, draw)
    full: dict[str, Any] = {
        "bpm": 100, "key": "C major", "metre": "4/4", "bars": 8, "role": "main_melody", "pitch_range": "mid",
        "min_velocity": 60, "max_velocity": 103, "density": "medium", "rhythm": "standard",
    }  # fmt: skip
    for name in ("bpm", "key", "genre", "metre", "bars", "role", "pitch_range", "density", "rhythm"):
        if (value := T.value(row, name)) is not None:
            full[name] = value
    if (low := T.value(row, "min_velocity")) is not None and (high := T.value(row, "max_velocity")) is not None:
        full |= {"min_velocity": max(1, int(low) * 4), "max_velocity": int(high) * 4 + 3}
    full |= said
    if "min_velocity" not in said:
        full["min_velocity"] = max(1, min(full["min_velocity"], full["max_velocity"] - 11))
    if "max_velocity" not in said:
        full["max_velocity"] = min(127, max(full["max_velocity"], full["min_velocity"] + 11))
    if "instrument" not in said:
        usual = instruments.USUAL[full["role"]]
        full["instrument"] = instruments.PROGRAMS[usual[int(draw.integers(len(usual)))]]
    return full


def _template(wanted: dict[str, Any], templates: Sequence[Sequence[int]], draw: np.random.Generator) -> np.ndarray:
    if not len(templates):
        return T.row()
    rows = np.asarray(templates, np.int16)
    hits = np.zeros(len(rows), int)
    weights = {
        "genre": 8,
        "role": 8,
        "metre": 6,
        "pitch_range": 4,
        "rhythm": 4,
        "density": 3,
        "bars": 2,
        "key": 1,
        "bpm": 1,
    }
    for name, value in wanted.items():
        if value in T.FIELDS[name]:
            hits += weights[name] * (rows[:, T.COLUMN[name]] == T.FIELDS[name].index(value) + 1)
    best = np.flatnonzero(hits == hits.max())
    return np.asarray(rows[best[int(draw.integers(len(best)))]])


def row_of(full: dict[str, Any], chords: bool, taught_bars: set[int]) -> np.ndarray:
    """The row of keywords that the network reads."""
    return T.row(
        bpm=T.tempo(full["bpm"]),
        bars=full["bars"] if not taught_bars or full["bars"] in taught_bars else None,
        min_velocity=full["min_velocity"] // 4,
        max_velocity=full["max_velocity"] // 4,
        chords="with" if chords else "without",
        **{name: full.get(name) for name in ("key", "metre", "role", "pitch_range", "density", "rhythm", "genre")},
    )


def spread(chords: str, bars: int, metre: str) -> T.Changes:
    """A progression's changes, evenly over the bars on whole beats. Raises `UserError` with counts that fit."""
    names = chords.split()
    beats = bars * T.METRES[metre].beats
    if len(names) > beats or beats % len(names):
        counts = [count for count in range(1, beats + 1) if beats % count == 0]
        near = sorted(sorted(counts, key=lambda count: abs(count - len(names)))[:3])
        raise UserError(
            f"{len(names)} chords do not divide {bars} bars of {metre} into whole beats; "
            f"{', '.join(map(str, near[:-1]))} or {near[-1]} would"
            if len(near) > 1
            else f"{near[0]} would"
        )
    step = beats // len(names) * T.PER_BEAT
    rows = [(n * step, *harmony.parse_chord(name)) for n, name in enumerate(names)]
    return T.tidy_chords(np.array(rows, np.int64), beats * T.PER_BEAT)
