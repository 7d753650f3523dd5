"""A small synthesiser: MIDI -> sound, to hear what was composed. Additive, with envelopes; numpy alone.

It is a preview: families of timbre by General MIDI program, no drums beyond a click. A tone of each (timbre, pitch,
length) is made once and added wherever it sounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daybreak.media.audio import Audio
from daybreak.media.midi import Midi

LONGEST = 600.0
"""Seconds after which a preview ends."""


@dataclass(frozen=True)
class Timbre:
    """Amplitudes of the partials, and an envelope: attack and release in s, decay in 1/s, level held."""

    partials: tuple[float, ...]
    attack: float
    decay: float
    sustain: float
    release: float
    brightness: float = 0.0
    """How much faster each higher partial decays, in 1/s."""


PIANO = Timbre((1, 0.55, 0.32, 0.16, 0.1, 0.06, 0.03), 0.004, 1.6, 0.0, 0.12, 1.1)
TIMBRES = {
    range(8): PIANO,
    range(8, 16): Timbre((1, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.25), 0.002, 3.0, 0.0, 0.3, 1.5),
    range(16, 24): Timbre((1, 0.7, 0.4, 0.5, 0.1, 0.2), 0.02, 0.0, 1.0, 0.06),
    range(24, 32): Timbre((1, 0.6, 0.4, 0.25, 0.15, 0.08), 0.003, 2.4, 0.0, 0.08, 1.6),
    range(32, 40): Timbre((1, 0.65, 0.3, 0.12, 0.05), 0.006, 1.2, 0.15, 0.06, 0.8),
    range(40, 56): Timbre((1, 0.5, 0.35, 0.25, 0.2, 0.12, 0.08), 0.07, 0.0, 1.0, 0.18),
    range(56, 72): Timbre((1, 0.75, 0.55, 0.4, 0.22, 0.12), 0.035, 0.4, 0.75, 0.08),
    range(72, 80): Timbre((1, 0.25, 0.1, 0.03), 0.04, 0.0, 1.0, 0.08),
    range(80, 88): Timbre((1, 0.5, 0.33, 0.25, 0.2, 0.16, 0.14), 0.008, 0.6, 0.7, 0.08),
    range(88, 104): Timbre((1, 0.4, 0.22, 0.14, 0.06), 0.25, 0.0, 1.0, 0.5),
}


def timbre(program: int) -> Timbre:
    """The timbre of a General MIDI program (0..127)."""
    return next((made for programs, made in TIMBRES.items() if program in programs), PIANO)


def render(midi: Midi, rate: int = 32000) -> Audio:
    """The sound of a MIDI file, mono, at most ten minutes of it."""
    score = midi.score().to("Second")
    length = min(float(score.end()), LONGEST) + 0.8
    mix = np.zeros(int(length * rate) + 1, np.float32)
    tones: dict[tuple[Timbre, int, int], np.ndarray] = {}
    for track in score.tracks:
        kind = timbre(track.program)
        arrays = track.notes.numpy()
        for start, seconds, pitch, velocity in zip(*(arrays[n].tolist() for n in arrays), strict=True):
            if start >= LONGEST:
                continue
            if track.is_drum:
                pitch, seconds = 84, 0.03
            blocks = max(1, round(seconds * 50))  # lengths in 20 ms: tones are shared
            key = (kind, int(pitch), min(blocks, 1000))
            if key not in tones:
                tones[key] = _tone(kind, int(pitch), key[2] / 50, rate)
            tone = tones[key]
            at = int(start * rate)
            room = min(len(tone), len(mix) - at)
            mix[at : at + room] += tone[:room] * np.float32((velocity / 127) ** 1.5)
    peak = float(np.abs(mix).max()) if len(mix) else 0.0
    # Quiet pieces stay quiet; loud ones are brought below clipping.
    return Audio(mix * np.float32(0.89 / max(peak, 1.0)), rate)


def _tone(kind: Timbre, pitch: int, seconds: float, rate: int) -> np.ndarray:
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    time = np.arange(int((seconds + kind.release) * rate), dtype=np.float32) / rate
    # Harmonics of one rotation: the powers of a complex exponential cost a product each.
    turn = np.exp(1j * (2 * np.pi * frequency) * time.astype(np.float64)).astype(np.complex64)
    dull = np.exp(-kind.brightness * time).astype(np.float32)
    wave, harmonic, faded = np.zeros(len(time), np.float32), turn.copy(), np.ones_like(time)
    for n, amplitude in enumerate(kind.partials, 1):
        if frequency * n > rate * 0.45:
            break
        if amplitude:
            wave += np.float32(amplitude) * harmonic.imag * faded
        harmonic *= turn
        faded = faded * dull
    fall = kind.sustain + (1 - kind.sustain) * np.exp(-kind.decay * time)
    rise = np.minimum(time / kind.attack, 1)
    end = np.clip(1 - (time - seconds) / kind.release, 0, 1)
    # Low notes sound softer than high ones of equal amplitude.
    level = 0.16 / sum(kind.partials) * (2.0 ** ((60 - pitch) / 48))
    return np.asarray(wave * fall * rise * end**2 * level * 2, np.float32)
