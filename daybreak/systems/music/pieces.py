"""What can be asked of music that exists, and of whole pieces. It knows words and ranges; no networks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, model_validator

from daybreak.errors import UserError
from daybreak.media.midi import Midi
from daybreak.systems.music import tokens as T
from daybreak.systems.music.request import Chords, Instrument, Key, Sampled, one_of, validated

FEWEST, MOST = 16, 64
"""Bars of a whole piece."""
USUAL = {16: "A8 B8", 24: "A8 B8 A8", 32: "intro4 A8 B8 A8 outro4", 64: "intro8 A8 A8 B8 A8 B8 A8 outro8"}
"""Arrangements where none is given; other numbers of bars take the longest that fits and a longer outro."""
_SECTION = re.compile(r"(intro|outro|[A-Ha-h])\s*(\d{1,2})", re.IGNORECASE)


class Continue(Sampled):
    """Bars that follow."""

    midi: Midi
    """The clip to go on from."""
    bars: int = Field(4, ge=1, le=T.MOST_BARS)
    """Bars to add."""
    track: int | None = Field(None, ge=1)
    """Which of the file's tracks, where it has several; 1 is the first with notes."""
    chords: Chords = Field(None, max_length=2000)
    """Chord progression of the new bars, spread evenly over them."""


class Infill(Sampled):
    """Bars within a clip, composed anew."""

    midi: Midi
    """The clip."""
    first: int = Field(ge=1)
    """The first bar to compose; 1 is the clip's first."""
    last: int = Field(ge=1)
    """The last bar to compose."""
    track: int | None = Field(None, ge=1)
    """Which of the file's tracks, where it has several; 1 is the first with notes."""
    chords: Chords = Field(None, max_length=2000)
    """Chord progression of those bars; by default the file's own, where its markers name one."""

    @model_validator(mode="after")
    def _agree(self) -> Infill:
        if self.first > self.last:
            raise ValueError(f"first {self.first} is behind last {self.last}")
        return self


def _roles(value: str) -> str:
    check = one_of("role").func
    return ", ".join(check(role) for role in value.split(",") if role.strip())  # type: ignore[call-arg]


Roles = Annotated[str, validated(_roles)]


class Accompany(Sampled):
    """Other roles for a melody, or for a chord progression."""

    midi: Midi | None = None
    """The music to accompany: all of its tracks are heard."""
    chords: Chords = Field(None, max_length=2000)
    """Chord progression, spread evenly over the bars; by default the file's own, where its markers name one."""
    roles: Roles = "accompaniment"
    """Roles to compose, one after the other, each beside those before it: "accompaniment, bass"."""
    bars: int | None = Field(None, ge=1, le=T.MOST_BARS)
    """Number of bars, where there is no file; by default 8."""
    bpm: int | None = Field(None, ge=20, le=300)
    """Quarter notes a minute, where there is no file."""
    key: Key = None
    """Key, where the file has none."""
    metre: Annotated[str | None, one_of("metre")] = None
    """Time signature, where there is no file."""
    genre: Annotated[str | None, one_of("genre")] = None
    """Genre, where the model was taught any."""
    density: Annotated[str | None, one_of("density")] = None
    """Notes a beat of the new parts."""
    instrument: Instrument = None
    """General MIDI instrument of the new parts."""

    @model_validator(mode="after")
    def _agree(self) -> Accompany:
        if self.midi is None and self.chords is None:
            raise ValueError("accompany needs music (--midi FILE) or a chord progression (--chords 'Am G F E')")
        if self.midi is not None and (wrong := [n for n in ("bars", "bpm", "metre") if getattr(self, n) is not None]):
            raise ValueError(f"{wrong[0]} is the file's; it is asked for where there is none")
        return self


class Combine(Sampled):
    """A whole piece: roles composed beside one another, in sections."""

    bars: int = Field(32, ge=FEWEST, le=MOST)
    """Number of bars."""
    arrangement: str = Field("", max_length=400)
    """Sections and their bars: "intro 4, A 8, B 8, A 8, outro 4". Equal letters are equal music."""
    roles: Roles = "main_melody, accompaniment, bass"
    """Roles, each composed beside those before it."""
    bpm: int | None = Field(None, ge=20, le=300)
    """Quarter notes a minute."""
    key: Key = None
    """Key: "C minor", "Eb major", "F#m"."""
    genre: Annotated[str | None, one_of("genre")] = None
    """Genre, where the model was taught any."""
    metre: Annotated[str | None, one_of("metre")] = None
    """Time signature: 4/4, 3/4, 6/8 and others."""
    chords: Chords = Field(None, max_length=2000)
    """Chord progression of section A, spread evenly over its bars."""

    @model_validator(mode="after")
    def _agree(self) -> Combine:
        try:
            self.sections()
        except UserError as error:
            raise ValueError(str(error)) from error
        return self

    def sections(self) -> list[Section]:
        """The sections that are asked for. `bars` counts where no arrangement does, or must agree with it."""
        counts = "bars" in self.model_fields_set or not self.arrangement
        return sections(self.arrangement, self.bars if counts else None)


@dataclass(frozen=True)
class Section:
    """A name (intro, outro or a letter) and its bars."""

    name: str
    bars: int


def sections(arrangement: str, bars: int | None = None) -> list[Section]:
    """The sections of an arrangement, or the usual ones for a number of bars. Raises `UserError`.

    >>> [f"{s.name}{s.bars}" for s in sections("intro 4, A 8, b 8, outro 4")]
    ['intro4', 'A8', 'B8', 'outro4']
    """
    if not arrangement.strip():
        count = bars or 32
        known = max(n for n in USUAL if n <= count)
        found = sections(USUAL[known])
        while (left := count - sum(section.bars for section in found)) > 0:
            found.append(Section("outro" if left < 8 else "A", min(left, 8)))
        ordered = [section for section in found if section.name != "outro"]
        ending = sum(section.bars for section in found if section.name == "outro")
        return [*ordered, Section("outro", ending)] if ending else ordered
    found, at = [], 0
    while at < len(arrangement):
        if arrangement[at] in " ,;|-\t\n":
            at += 1
            continue
        match = _SECTION.match(arrangement, at)
        if match is None:
            raise UserError(
                f"arrangement: {arrangement[at : at + 12]!r} at column {at + 1} is no section; "
                "write them like 'intro 4, A 8, B 8, outro 4'"
            )
        name = match[1].lower() if len(match[1]) > 1 else match[1].upper()
        if not 1 <= int(match[2]) <= 16:
            raise UserError(f"arrangement: section {name} has 1 to 16 bars, not {int(match[2])}")
        found.append(Section(name, int(match[2])))
        at = match.end()
    total = sum(section.bars for section in found)
    if bars is not None and total != bars:
        raise UserError(f"arrangement: its sections have {total} bars, and bars is {bars}; leave one of them out")
    if not FEWEST <= total <= MOST:
        raise UserError(f"arrangement: its sections have {total} bars; a piece has {FEWEST} to {MOST}")
    if not any(len(section.name) == 1 for section in found):
        raise UserError("arrangement: there is no section with a letter; an intro and an outro need one to lead to")
    for name in dict.fromkeys(section.name for section in found if len(section.name) == 1):
        lengths = {section.bars for section in found if section.name == name}
        if len(lengths) > 1:
            counts = " and ".join(map(str, sorted(lengths)))
            raise UserError(f"arrangement: section {name} has {counts} bars; equal letters are equal music")
    return found
