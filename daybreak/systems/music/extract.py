"""A MIDI file -> its keywords, each with where it came from and how sure it is: "more like this".

What the file says wins: signatures, tempo, chord markers, the track's name and program, the request in our own files.
What it does not say is measured on its notes. It knows files; it knows nothing about networks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import gcd
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from daybreak.errors import UserError
from daybreak.lab.model import Request, Response
from daybreak.media.midi import Midi
from daybreak.systems.music import analysis, harmony, instruments, words
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data.folder import role as role_of_name
from daybreak.systems.music.score import END

LONGEST = 4096
"""Bars of the longest file that is analysed."""
Where = Literal["file", "measured", "assumed"]


class Extract(Request):
    """Music to be described."""

    midi: Midi
    """The file."""
    track: int | None = Field(None, ge=1)
    """Which of its tracks is described; 1 is the first with notes. By default the melody, or else the first. Key and
    chords are those of all tracks together."""


class Found(BaseModel):
    """One keyword of a file."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    value: str | int | float
    source: Where
    """file: the file says so; measured: its notes do; assumed: neither does, the MIDI standard's default holds."""
    confidence: float | None
    """1 where the file says so or the notes are counted, else about the share of such calls that are right (for
    chords: the share of sounding time that lies within them); none where it is assumed."""


class Extracted(Response):
    """What `extract` answers."""

    text: str
    """The keywords as `compose --text` reads them."""
    keywords: list[Found]
    track: int
    tracks: list[str]
    """The names of the tracks with notes; the first is track 1."""
    remarks: list[str]
    """What could not be said, or is in doubt."""

    def value(self, name: str) -> str | int | float | None:
        """A keyword's value, or None."""
        return next((found.value for found in self.keywords if found.name == name), None)


def about(midi: Midi) -> dict[str, Any] | None:
    """What one of our files says of itself (model, seed, request, keywords), or None."""
    try:
        said = json.loads(midi.text)
    except ValueError:
        return None
    return said if isinstance(said, dict) and str(said.get("made by", "")).startswith("daybreak") else None


def extract(midi: Midi, track: int | None = None) -> Extracted:
    """The keywords of a file. Raises `UserError` where it has no notes but drums, or no such track."""
    score = midi.score()
    tracks = _sounding(score)
    if not tracks:
        raise UserError("the MIDI file has no notes" + (" but drums" if score.note_num() else ""))
    names = [t.name for t in tracks]
    if track is not None and track > len(tracks):
        shown = ", ".join(f"{n} ({name or 'no name'})" for n, name in enumerate(names, 1))
        raise UserError(f"the file has no track {track} with notes; it has {shown}")
    melodies = [n for n, t in enumerate(tracks, 1) if role_of_name(t.name, 0) == "main_melody"]
    chosen = track or (melodies or [1])[0]
    remarks: list[str] = []
    found: dict[str, Found] = {}

    def put(name: str, value: str | int | float, source: Where, confidence: float | None = 1.0) -> None:
        kept = None if confidence is None else round(confidence, 3)
        found[name] = Found(name=name, value=value, source=source, confidence=kept)

    metre, unit = _metre(score, put, remarks)
    every = [_notes(t, unit) for t in tracks]
    bars = _bars(score, unit * metre.beats * T.PER_BEAT)
    put("bars", bars, "measured")
    _tempo(score, put, remarks)
    together = np.concatenate(every)
    _key(score, together, put, remarks)
    _chords(score, about(midi) is not None, together, bars, metre.beats, unit, put, remarks)
    own = every[chosen - 1]
    if said := role_of_name(tracks[chosen - 1].name, tracks[chosen - 1].program):
        put("role", said, "file")
    else:
        put("role", *_second(analysis.role(own, bars, metre.beats)))
    put("instrument", instruments.PROGRAMS[tracks[chosen - 1].program], "file")
    counted = T.measured(own, bars, metre.beats)
    counted |= {"min_velocity": int(own[:, 3].min()), "max_velocity": int(own[:, 3].max())}
    for name, value in counted.items():
        put(name, value, "measured")
    composed = (about(midi) or {}).get("keywords")
    if isinstance(composed, dict) and composed.get("genre") in T.GENRES:
        put("genre", composed["genre"], "file")
    if len(tracks) > 1 and track is None:
        remarks.append(f"track {chosen} of {len(tracks)} is described; --track names another")
    text = words.canonical(_asking(found, remarks))
    ordered = [found[name] for name in words.KEYWORDS if name in found]
    return Extracted(text=text, keywords=ordered, track=chosen, tracks=names, remarks=remarks)


def parts(midi: Midi, metre: T.Metre) -> list[T.Notes]:
    """The notes of each track that has any, drums aside, counted in a metre's beats."""
    score = midi.score()
    return [_notes(track, score.tpq * metre.quarters / T.PER_BEAT) for track in _sounding(score)]


def progression(chords: T.Changes, bars: int, beats: int) -> str:
    """Chords as a request says them: one name for each of equal steps, the longest whole number of beats that has all
    changes at its ends. A change between two beats goes to the nearer one.

    >>> progression(np.array([[0, 0, 0], [72, 108, 9]]), 2, 4)
    'C C C Am'
    """
    total = bars * beats
    at = np.rint(chords[:, 0] / T.PER_BEAT).astype(int) * T.PER_BEAT
    moved = T.tidy_chords(np.column_stack([at, chords[:, 1:]]), total * T.PER_BEAT)
    step = gcd(total, *(int(onset) // T.PER_BEAT for onset in moved[:, 0])) * T.PER_BEAT
    force = np.searchsorted(moved[:, 0], np.arange(0, total * T.PER_BEAT, step), "right") - 1
    return " ".join(harmony.chord_name(chord, bass) for _, chord, bass in moved[force].tolist())


def _sounding(score: Any) -> list[Any]:
    return [track for track in score.tracks if not track.is_drum and len(track.notes)]


def _second(call: tuple[str, float]) -> tuple[str, Where, float]:
    return call[0], "measured", call[1]


def _notes(track: Any, unit: float) -> T.Notes:
    arrays = track.notes.numpy()
    columns = [arrays[name].astype(np.float64) for name in ("time", "duration", "pitch", "velocity")]
    rows = np.stack(columns, 1)
    rows[:, :2] = np.rint(rows[:, :2] / unit)
    rows[:, 1] = np.maximum(rows[:, 1], 1)
    return rows.astype(np.int64)


def _bars(score: Any, bar: float) -> int:
    last = max(int(track.notes.numpy()["time"].max()) for track in _sounding(score)) + 1
    end = next((marker.time for marker in score.markers if marker.text == END and marker.time >= last), score.end())
    bars = max(1, int(np.ceil(end / bar - 1e-6)))
    if bars > LONGEST:
        raise UserError(f"the MIDI file has {bars:,} bars; at most {LONGEST:,} are analysed")
    return bars


def _metre(score: Any, put: Any, remarks: list[str]) -> tuple[T.Metre, float]:
    """The first time signature, and ticks in a twelfth of its beat."""
    said = [f"{s.numerator}/{s.denominator}" for s in sorted(score.time_signatures, key=lambda s: s.time)]
    name = said[0] if said else "4/4"
    if name in T.METRES:
        put("metre", name, *(("file", 1.0) if said else ("assumed", None)))
    else:
        remarks.append(f"{name} is no metre that is known ({', '.join(T.METRES)}); bars are counted as 4/4")
        put("metre", "4/4", "assumed", None)
    if others := sorted(set(said) - {name}):
        remarks.append(f"the metre changes to {', '.join(others)}; all bars are counted as {_counted(name)}")
    metre = T.METRES[_counted(name)]
    return metre, score.tpq * metre.quarters / T.PER_BEAT


def _counted(name: str) -> str:
    """The metre in which bars are counted: the one named, or 4/4."""
    return name if name in T.METRES else "4/4"


def _tempo(score: Any, put: Any, remarks: list[str]) -> None:
    tempos = sorted((tempo.time, tempo.qpm) for tempo in score.tempos)
    if not tempos:
        put("bpm", 120, "assumed", None)
        return
    start = max((at for at, _ in tempos if at <= score.start()), default=tempos[0][0])
    put("bpm", round(dict(tempos)[start], 2), "file")
    values = [round(bpm) for _, bpm in tempos]
    if min(values) != max(values):
        remarks.append(f"the tempo changes between {min(values)} and {max(values)} bpm; the first notes' is said")


def _key(score: Any, notes: T.Notes, put: Any, remarks: list[str]) -> None:
    heard, sure = analysis.key(notes)
    said = [
        harmony.key_of_signature(k.key, k.tonality == 1) for k in sorted(score.key_signatures, key=lambda k: k.time)
    ]
    if not said:
        put("key", heard, "measured", sure)
        return
    put("key", said[0], "file")
    if others := sorted(set(said) - {said[0]}):
        remarks.append(f"the key changes to {', '.join(others)}; the first is said")
    if heard != said[0] and sure > 0.5:
        remarks.append(f"the key signature says {said[0]}, the notes sound more like {heard} ({sure:.2f})")


def _chords(
    score: Any, ours: bool, notes: T.Notes, bars: int, beats: int, unit: float, put: Any, remarks: list[str]
) -> None:
    marks = []
    for marker in score.markers:
        try:
            marks.append((round(marker.time / unit), *harmony.parse_chord(marker.text)))
        except UserError:
            continue  # a marker that names no chord ("Verse 1")
    # Bare letters name chords in our files, sections ("A", "B") in others.
    letters = all(len(marker.text.strip()) == 1 for marker in score.markers)
    if marks and (ours or not letters):
        changes, source, sure = np.array(sorted(marks), np.int64), "file", 1.0
    elif ours:
        return  # composed without chords
    else:
        (changes, sure), source = analysis.chords(notes, bars, beats), "measured"
    changes = T.tidy_chords(changes, bars * beats * T.PER_BEAT)
    if (changes[:, 0] % T.PER_BEAT).any():
        remarks.append("chord changes between beats are moved to the nearest beat")
    put("chords", progression(changes, bars, beats), source, sure)


def _asking(found: Mapping[str, Found], remarks: list[str]) -> dict[str, Any]:
    """The keywords as a request that `compose` takes; what it cannot take is left out and said."""
    said: dict[str, Any] = {name: one.value for name, one in found.items()}
    said["bpm"] = round(said["bpm"])
    if not words.RANGES["bpm"][0] <= said["bpm"] <= words.RANGES["bpm"][1]:
        remarks.append(f"bpm {said.pop('bpm')} is left out of the text: a request takes 20 to 300")
    if said["bars"] > T.MOST_BARS:
        remarks.append(f"bars and chords are left out of the text: a clip has at most {T.MOST_BARS} of the bars")
        said.pop("bars")
        said.pop("chords", None)
    if len(said.get("chords", "")) > 2000:
        remarks.append("chords are left out of the text: a request takes 2,000 characters of them")
        said.pop("chords")
    return said
