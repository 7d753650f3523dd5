"""What a clip is, measured: its keywords read back from its MIDI file, and whether they are those asked for.

Pitch range, velocities and their shares follow ComMU (Lee et al., NeurIPS 2022): a clip's mean pitch falls in the
range asked for; all of its velocities lie inside the window. It knows files; nothing about how they were made.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from daybreak.media.midi import Midi
from daybreak.systems.music import harmony, instruments
from daybreak.systems.music import tokens as T
from daybreak.systems.music.score import END


def keywords(midi: Midi) -> dict[str, Any]:
    """The keywords of a clip, from its file alone. What the file does not say is left out."""
    score = midi.score()
    found: dict[str, Any] = {}
    signature = next((f"{s.numerator}/{s.denominator}" for s in score.time_signatures), "4/4")
    if signature in T.METRES:
        found["metre"] = signature
    metre = T.METRES.get(signature, T.METRES["4/4"])
    unit = score.tpq * metre.quarters / T.PER_BEAT
    for tempo in score.tempos[:1]:
        found["bpm"] = round(tempo.qpm, 2)
    for key in score.key_signatures[:1]:
        found["key"] = harmony.key_of_signature(key.key, key.tonality == 1)
    markers = [(m.time, m.text) for m in score.markers]
    end = next((time for time, text in markers if text == END), score.end())
    found["bars"] = int(np.ceil(end / (unit * T.PER_BEAT * metre.beats) - 1e-6))
    found["chords"] = " ".join(text for _, text in markers if text != END)
    for track in score.tracks[:1]:
        if track.name in T.ROLES:
            found["role"] = track.name
        found["instrument"] = instruments.PROGRAMS[track.program]
        arrays = track.notes.numpy()
        columns = [arrays[name].astype(np.float64) for name in ("time", "duration", "pitch", "velocity")]
        notes = np.stack(columns, 1)
        if len(notes):
            notes[:, :2] = np.rint(notes[:, :2] / unit)
            rows = notes.astype(np.int64)
            found |= T.measured(rows, max(1, found["bars"]), metre.beats)
            found |= {"min_velocity": int(rows[:, 3].min()), "max_velocity": int(rows[:, 3].max())}
    return found


def holds(name: str, asked: Any, got: dict[str, Any]) -> bool:
    """Whether a keyword is what was asked for. A genre cannot be measured: it always holds."""
    if name == "genre":
        return True
    if name not in got:
        return False
    if name == "min_velocity":
        return bool(got[name] >= asked)
    if name == "max_velocity":
        return bool(got[name] <= asked)
    if name == "bpm":
        return bool(abs(got[name] - asked) < 0.01)
    if name == "chords":
        merged = [chord for n, chord in enumerate(asked.split()) if n == 0 or chord != asked.split()[n - 1]]
        return bool(got[name].split() == merged)
    return bool(got[name] == asked)
