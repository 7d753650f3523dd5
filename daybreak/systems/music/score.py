"""Clips and songs -> MIDI files that open in any DAW: program, tempo, key, metre, chords as markers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from daybreak.media.midi import Midi
from daybreak.systems.music import harmony
from daybreak.systems.music import tokens as T

TICKS = 480
"""Ticks a quarter note: a twelfth of a beat is 40 of them, in a compound metre 60."""
END = "end"
"""The marker at the end of the last bar, so that a file is as long as its bars even where they end in silence."""


@dataclass(frozen=True)
class Part:
    """One track: its name (a role), General MIDI program (0..127) and notes in twelfths of a beat."""

    name: str
    program: int
    notes: T.Notes


def write(
    parts: Sequence[Part],
    *,
    metre: str,
    bpm: float,
    bars: int,
    key: str | None = None,
    chords: T.Changes | None = None,
    text: str = "",
) -> Midi:
    """A MIDI file. `bpm` counts quarter notes; `text` becomes a text event at the start."""
    import symusic

    about = T.METRES[metre]
    unit = round(TICKS * about.quarters) // T.PER_BEAT
    score: Any = symusic.Score(TICKS)
    score.time_signatures.append(symusic.TimeSignature(0, about.numerator, about.denominator))
    score.tempos.append(symusic.Tempo(0, qpm=float(bpm)))
    if key is not None:
        sharps, minor = harmony.signature_of_key(key)
        score.key_signatures.append(symusic.KeySignature(0, sharps, int(minor)))
    for onset, chord, bass in (chords if chords is not None else T.no_chords()).tolist():
        score.markers.append(symusic.TextMeta(onset * unit, harmony.chord_name(chord, bass)))
    score.markers.append(symusic.TextMeta(bars * about.beats * T.PER_BEAT * unit, END))
    for part in parts:
        track: Any = symusic.Track(name=part.name, program=part.program)
        for onset, duration, pitch, velocity in part.notes.tolist():
            track.notes.append(symusic.Note(onset * unit, duration * unit, pitch, velocity))
        score.tracks.append(track)
    return Midi.of(score, text)
