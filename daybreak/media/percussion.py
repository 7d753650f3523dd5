"""General MIDI's percussion (GM Level 1, note numbers of channel 10): names, and where each stands on a staff.

Places follow common drum-set notation: drums have plain heads and cymbals crosses, each as high as it hangs. Hand
percussion stands on the middle line, pairs (high and low bongo) beside it. Sounds that share a place and a head keep
their own names and numbers in the file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Drum:
    """One sound. `place`: step and octave at which a treble clef would have it."""

    name: str
    place: str = "B4"
    cross: bool = False


_KIT = (
    Drum("Acoustic Bass Drum", "E4"), Drum("Bass Drum", "F4"), Drum("Side Stick", "C5", True),
    Drum("Acoustic Snare", "C5"), Drum("Hand Clap", "C5", True), Drum("Electric Snare", "C5"),
    Drum("Low Floor Tom", "G4"), Drum("Closed Hi-Hat", "G5", True), Drum("High Floor Tom", "A4"),
    Drum("Pedal Hi-Hat", "D4", True), Drum("Low Tom", "B4"), Drum("Open Hi-Hat", "G5", True),
    Drum("Low-Mid Tom", "D5"), Drum("High-Mid Tom", "D5"), Drum("Crash Cymbal 1", "A5", True), Drum("High Tom", "E5"),
    Drum("Ride Cymbal 1", "F5", True), Drum("Chinese Cymbal", "B5", True), Drum("Ride Bell", "F5", True),
    Drum("Tambourine", "B4", True), Drum("Splash Cymbal", "A5", True), Drum("Cowbell", "E5", True),
    Drum("Crash Cymbal 2", "A5", True), Drum("Vibraslap", "B4", True), Drum("Ride Cymbal 2", "F5", True),
)  # fmt: skip
_HAND = (
    Drum("High Bongo", "C5"), Drum("Low Bongo", "A4"), Drum("Mute High Conga", "C5", True),
    Drum("Open High Conga", "C5"), Drum("Low Conga", "A4"), Drum("High Timbale", "C5"), Drum("Low Timbale", "A4"),
    Drum("High Agogo", "C5"), Drum("Low Agogo", "A4"), Drum("Cabasa"), Drum("Maracas"), Drum("Short Whistle"),
    Drum("Long Whistle"), Drum("Short Guiro"), Drum("Long Guiro"), Drum("Claves"), Drum("High Wood Block", "C5"),
    Drum("Low Wood Block", "A4"), Drum("Mute Cuica", "C5"), Drum("Open Cuica", "A4"), Drum("Mute Triangle", "B4", True),
    Drum("Open Triangle"),
)  # fmt: skip
DRUMS = dict(enumerate((*_KIT, *_HAND), 35))
"""Note number -> sound, 35 to 81."""


def drum(number: int) -> Drum:
    """The sound of a note number; those that General MIDI does not name are called by it."""
    return DRUMS.get(number) or Drum(f"Percussion {number}")
