"""What a clip was to be, what it is, and what in it stands in the training clips. It knows files, never networks."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from daybreak.lab.model import Request, Response
from daybreak.media.midi import Midi
from daybreak.systems.music import metrics
from daybreak.systems.music import tokens as T
from daybreak.systems.music.copies import RUN, Copies, runs
from daybreak.systems.music.extract import about, extract, parts
from daybreak.systems.music.words import KEYWORDS


class Check(Request):
    """A clip to look at."""

    midi: Midi
    """The file. One of ours holds its request; of any other only what it is can be said."""


class Line(BaseModel):
    """One keyword."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    asked: str | None
    """What the clip was to be; none where nobody can know."""
    got: str
    """What it is, measured on its notes or read in its file."""
    holds: bool | None
    """Whether it is what was asked for."""
    drawn: bool | None
    """The request left it out; it was drawn from the seed."""


class Near(BaseModel):
    """Bars in which a track has notes as a training clip has them."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    track: int
    first: int
    """The first of the bars; 1 is the clip's first."""
    last: int


class Checked(Response):
    """What `check` answers."""

    ours: bool
    """The file holds the request from which it was composed."""
    model: str
    """The weights that composed it, and `seed` and `clip` that they began from; empty in files that are not ours."""
    seed: int | None
    clip: int | None
    lines: list[Line]
    """Asked and got. Of a piece of several tracks, the piece's own keywords."""
    holds: bool | None
    """Whether all lines hold."""
    runs: int
    """Runs of 16 notes in its tracks."""
    shared: int | None
    """Those that training clips have too, in whatever key; none where the weights bring no index of them."""
    copies: list[Near]
    """Where they are."""
    remarks: list[str]


def check(midi: Midi, copies: Copies | None) -> Checked:
    """Look at a clip. Raises `UserError` where it has no notes."""
    said, described = about(midi), extract(midi)
    remarks: list[str] = []
    if said is None or not isinstance(said.get("keywords"), dict):
        said = None
        remarks.append("the file is not one of ours: it holds no request, so that only what it is can be said")
        remarks += described.remarks
        lines = [Line(name=f.name, asked=None, got=str(f.value), holds=None, drawn=None) for f in described.keywords]
    else:
        lines = _lines(midi, said, several=len(described.tracks) > 1)
    if copies is None:
        remarks.append(f"these weights bring no index of their training clips; runs of {RUN} notes are not compared")
    metre = T.METRES[str(described.value("metre"))]
    count, shared, near = 0, 0, []
    for number, notes in enumerate(parts(midi, metre), 1):
        count += len(runs(notes))
        if copies is not None:
            found = copies.find(notes)
            shared += found.shared
            for start, end in found.spans:
                bars = [1 + at // (metre.beats * T.PER_BEAT) for at in (start, end)]
                near.append(Near(track=number, first=bars[0], last=bars[1]))
    own = said or {}
    return Checked(
        ours=said is not None,
        model=str(own.get("model", "")),
        seed=own.get("seed"),
        clip=own.get("clip"),
        lines=lines,
        holds=all(line.holds for line in lines) if said else None,
        runs=count,
        shared=None if copies is None else shared,
        copies=near,
        remarks=remarks,
    )


def _lines(midi: Midi, said: dict[str, Any], several: bool) -> list[Line]:
    asked, request, got = said["keywords"], said.get("request") or {}, metrics.keywords(midi)
    # Range, density and the like are a part's; of a piece the song's alone can be compared.
    names = [n for n in KEYWORDS if n in asked and (not several or n in ("bpm", "key", "metre", "bars", "chords"))]
    return [
        Line(
            name=name,
            asked=str(asked[name]),
            got=str(asked[name] if name == "genre" else got.get(name, "")),
            holds=metrics.holds(name, asked[name], got),
            drawn=name not in request,
        )
        for name in names
    ]
