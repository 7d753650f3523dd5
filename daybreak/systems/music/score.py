"""Clips and songs -> MIDI files that open in any DAW: program, tempo, key, metre, chords as markers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from daybreak.media.midi import Midi
from daybreak.systems.music import harmony
from daybreak.systems.music import tokens as T

TICKS = 480
"""Ticks a quarter note: a twelfth of a beat is 40 of them, in a compound metre 60."""
INSTRUMENTS = {
    "piano": 0, "electric_piano": 4, "vibraphone": 11, "organ": 16, "accordion": 21, "guitar": 24, "electric_guitar": 27,
    "bass": 32, "electric_bass": 33, "violin": 40, "cello": 42, "strings": 48, "choir": 52, "trumpet": 56, "brass": 61,
    "saxophone": 65, "oboe": 68, "clarinet": 71, "flute": 73, "lead_synth": 80, "pad_synth": 88, "harp": 46,
}  # fmt: skip
"""Names of instruments and their General MIDI programs (0 to 127)."""
CHORD_MARK = "chord:"


@dataclass(frozen=True)
class Part:
    """One track: its name (a role), program and notes in twelfths of a beat."""

    name: str
    program: int
    notes: T.Notes


def write(
    parts: Sequence[Part], *, metre: str, bpm: float, key: str | None, chords: T.Changes | None = None, text: str = ""
) -> Midi:
    """A MIDI file. `bpm` counts quarter notes; `text` becomes a text event at the start."""
    import symusic

    about = T.METRES[metre]
    unit = round(TICKS * about.quarters) // T.PER_BEAT
    score = symusic.Score(TICKS)
    score.time_signatures.append(symusic.TimeSignature(0, about.numerator, about.denominator))
    score.tempos.append(symusic.Tempo(0, qpm=float(bpm)))
    if key is not None:
        sharps, minor = harmony.signature_of_key(key)
        score.key_signatures.append(symusic.KeySignature(0, sharps, int(minor)))
    for onset, chord, bass in (chords if chords is not None else T.no_chords()).tolist():
        name = harmony.chord_name(chord, bass if chord != T.NO_CHORD else None)
        score.markers.append(symusic.TextMeta(onset * unit, f"{CHORD_MARK}{name}"))
    for part in parts:
        track = symusic.Track(name=part.name, program=part.program)
        for onset, duration, pitch, velocity in part.notes.tolist():
            track.notes.append(symusic.Note(onset * unit, duration * unit, pitch, velocity))
        score.tracks.append(track)
    return Midi.of(score, text)
