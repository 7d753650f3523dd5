"""A MIDI file that is composed on: its parts in bars, and what their keywords are. It knows files and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from daybreak.errors import UserError
from daybreak.media.midi import Midi
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data import cut, folder


@dataclass(frozen=True)
class Voice:
    """One track."""

    name: str
    role: str | None
    program: int
    notes: T.Notes
    """Times in twelfths of a beat from the first bar."""


@dataclass(frozen=True)
class Source:
    """Bars of one metre."""

    metre: str
    bars: int
    bpm: float
    key: str | None
    chords: T.Changes
    """Of the file's markers; none where it names none."""
    voices: tuple[Voice, ...]

    @property
    def bar(self) -> int:
        """Twelfths in a bar."""
        return T.METRES[self.metre].beats * T.PER_BEAT

    def voice(self, track: int | None) -> Voice:
        """The track of that number (1 is the first), or the only one. Raises `UserError`."""
        names = ", ".join(f"{n} ({voice.name or 'no name'})" for n, voice in enumerate(self.voices, 1))
        if track is None and len(self.voices) > 1:
            raise UserError(f"the file has {len(self.voices)} tracks with notes; name one by --track: {names}")
        if track is not None and not 1 <= track <= len(self.voices):
            raise UserError(f"the file has no track {track} with notes; it has {names}")
        return self.voices[(track or 1) - 1]

    def stream(self, voice: Voice, first: int, bars: int) -> np.ndarray:
        """The stream of a track's bars from `first` (0 is the first)."""
        start, end = first * self.bar, (first + bars) * self.bar
        inside = voice.notes[(voice.notes[:, 0] >= start) & (voice.notes[:, 0] < end)] - (start, 0, 0, 0)
        return T.encode(T.tidy(inside, end - start), self.window(first, bars), bars, T.METRES[self.metre].beats)

    def window(self, first: int, bars: int) -> T.Changes:
        """The chords of those bars, from their start."""
        if not len(self.chords):
            return T.no_chords()
        return cut.window(self.chords, first * self.bar, (first + bars) * self.bar)

    def keywords(self, voice: Voice) -> dict[str, Any]:
        """What a track says of itself and what its notes are."""
        found: dict[str, Any] = {"metre": self.metre, "bpm": round(self.bpm)}
        if self.key:
            found["key"] = self.key
        if voice.role:
            found["role"] = voice.role
        if len(voice.notes):
            found |= T.measured(voice.notes, self.bars, T.METRES[self.metre].beats)
            found |= {"min_velocity": int(voice.notes[:, 3].min()), "max_velocity": int(voice.notes[:, 3].max())}
        return found


def read(midi: Midi) -> Source:
    """The bars of a file, those of its longest stretch in one metre. Raises `UserError`."""
    stretches = list(folder.stretches({}, lambda _: midi.to_bytes()))
    if not stretches:
        raise UserError(f"the MIDI file has no notes in a metre that is known: {', '.join(T.METRES)}")
    if len(stretches) > 1:
        counts = ", ".join(f"{stretch.bars} bars of {stretch.metre}" for stretch in stretches)
        raise UserError(f"the MIDI file changes its metre ({counts}); cut it where it does")
    stretch = stretches[0]
    tracks = [track for track in midi.score().tracks if not track.is_drum and len(track.notes)]
    length = stretch.bars * T.METRES[stretch.metre].beats * T.PER_BEAT
    voices = tuple(
        Voice(track.name, role, track.program, T.tidy(notes, length))
        for track, (role, notes) in zip(tracks, stretch.parts, strict=True)
    )
    chords = T.tidy_chords(stretch.chords, length) if stretch.chords is not None else T.no_chords()
    return Source(stretch.metre, stretch.bars, float(stretch.bpm[0]), stretch.key(0, length), chords, voices)
