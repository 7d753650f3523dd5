"""A composer by rule: small songs in six styles, so that a newcomer's machine has music to learn from.

Harmony comes from progressions, melody from a motif that is repeated and varied over chord tones, accompaniment from
the style's figure. The same seed gives the same song. It is marked as made by rule wherever it goes; figures about real
music are never taken on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from daybreak.media.midi import Midi
from daybreak.systems.music import harmony, score
from daybreak.systems.music import tokens as T

if TYPE_CHECKING:
    from daybreak.lab.lake import Draft

MAJOR = ((0, "maj"), (2, "min"), (4, "min"), (5, "maj"), (7, "maj"), (9, "min"))
MINOR = ((0, "min"), (3, "maj"), (5, "min"), (7, "min"), (8, "maj"), (10, "maj"))


@dataclass(frozen=True)
class Style:
    """What makes a style: tempo range, metre, progressions by scale step, figures."""

    genre: str
    metre: str
    tempo: tuple[int, int]
    modes: tuple[str, ...]
    progressions: tuple[tuple[int, ...], ...]
    seventh: bool
    swing: bool
    figure: str
    programs: tuple[int, int, int]
    """Of melody, accompaniment and bass."""


STYLES = (
    Style("pop", "4/4", (76, 124), ("major", "minor"), ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4)), False, False, "block",
          (80, 0, 33)),
    Style("jazz", "4/4", (100, 180), ("major",), ((1, 4, 0, 5), (0, 5, 1, 4), (2, 5, 1, 4)), True, True, "comp",
          (65, 0, 32)),
    Style("new_age", "4/4", (60, 84), ("major", "minor"), ((0, 3, 5, 4), (5, 3, 0, 4)), False, False, "arpeggio",
          (73, 46, 48)),
    Style("cinematic", "4/4", (84, 120), ("minor",), ((0, 4, 1, 5), (0, 5, 4, 1)), False, False, "ostinato",
          (61, 48, 42)),
    Style("waltz", "3/4", (132, 186), ("major", "minor"), ((0, 0, 4, 4), (0, 3, 4, 0)), False, False, "waltz",
          (40, 21, 32)),
    Style("folk", "6/8", (90, 132), ("major", "minor"), ((0, 3, 0, 4), (0, 4, 5, 3)), False, False, "jig", (73, 24, 32)),
)  # fmt: skip


def songs(rounds: int = 10, seed: int = 0) -> Iterator[Draft]:
    """Songs, the styles in turn; the last of each style are for validation and test."""
    from daybreak.lab.lake import Draft, Split

    for number in range(rounds * len(STYLES)):
        style, turn = STYLES[number % len(STYLES)], number // len(STYLES)
        midi = song(style, np.random.default_rng((seed, number)))
        split: Split = "test" if turn == rounds - 1 else "validation" if turn == rounds - 2 else "train"
        name = f"{style.genre}-{number:03d}"
        yield Draft(name, name, {"mid": midi.to_bytes()}, {"genre": style.genre, "made": "by rule"}, split)


def song(style: Style, chance: np.random.Generator) -> Midi:
    """One song of 16 or 32 bars: A A B A of four or eight bars."""
    tonic, mode = int(chance.integers(12)), str(chance.choice(style.modes))
    bpm = int(chance.integers(style.tempo[0] // 4, style.tempo[1] // 4 + 1)) * 4
    beats = T.METRES[style.metre].beats
    bar = beats * T.PER_BEAT
    length = int(chance.choice((4, 8)))
    sections = {name: _section(style, tonic, mode, length, chance) for name in "AB"}
    melody, backing, bass, changes = [], [], [], []
    for place, name in enumerate("AABA"):
        chords, tune = sections[name]
        start = place * length * bar
        for n, chord in enumerate(chords):
            at = start + n * bar
            changes.append((at, chord, chord // len(T.QUALITIES)))
            backing += [(at + t, *rest) for t, *rest in _figure(style, chord, bar, place, chance)]
            following = chords[(n + 1) % length]
            bass += [(at + t, *rest) for t, *rest in _bass(style, chord, following, bar, chance)]
        last = place == 3
        melody += [
            (start + t, d, p, v)
            for t, d, p, v in tune
            if not (last and t >= (length - 1) * bar)  # the last bar holds the tonic
        ]
    end = 4 * length * bar
    final = max((p for *_, p, _ in melody), default=72)
    melody.append((end - bar, bar, final - (final - tonic) % 12, 84))
    roles = ("main_melody", "accompaniment", "bass")
    parts = [
        score.Part(role, program, T.tidy(np.array(notes, np.int64), end))
        for role, program, notes in zip(roles, style.programs, (melody, backing, bass), strict=True)
    ]
    key = f"{T.ROOTS[tonic]} {mode}"
    held = T.tidy_chords(np.array(changes), end)
    return score.write(parts, metre=style.metre, bpm=bpm, key=key, chords=held, text=f"composed by rule: {style.genre}")


def _section(style: Style, tonic: int, mode: str, bars: int, chance: np.random.Generator) -> tuple[list[int], list]:
    """Chords by bar and a melody of (time, duration, pitch, velocity)."""
    degrees = MAJOR if mode == "major" else MINOR
    pattern = style.progressions[int(chance.integers(len(style.progressions)))]
    chords = []
    for n in range(bars):
        step, quality = degrees[pattern[n % len(pattern)]]
        if style.seventh:
            quality = {"maj": "7" if step == 7 else "maj7", "min": "min7"}[quality]
        chords.append((tonic + step) % 12 * len(T.QUALITIES) + T.QUALITIES.index(quality))
    bar = T.METRES[style.metre].beats * T.PER_BEAT
    rhythms = [_rhythm(style, bar, chance) for _ in range(2)]
    scale = sorted(harmony.scale(f"{T.ROOTS[tonic]} {mode}"))
    if mode == "minor":
        scale = [p for p in scale if p != (tonic + 11) % 12]
    ladder = [p for p in range(60, 86) if p % 12 in scale]
    place = int(chance.integers(4, len(ladder) - 4))
    contour = chance.integers(-2, 3, size=16)
    tune = []
    for n, chord in enumerate(chords):
        tones = harmony.pitch_classes(chord)
        rhythm = rhythms[(n % 4) // 2]
        for index, (at, duration) in enumerate(rhythm):
            move = int(contour[(index + 4 * (n % 2)) % 16]) + (int(chance.integers(-1, 2)) if n % 4 == 3 else 0)
            place = min(max(place + move, 0), len(ladder) - 1)
            if at % (2 * T.PER_BEAT) == 0:  # strong beats fall on chord tones
                near = sorted(range(len(ladder)), key=lambda i: (abs(i - place), i))
                place = next((i for i in near if ladder[i] % 12 in tones), place)
            loud = 92 if at == 0 else 84 if at % T.PER_BEAT == 0 else 74
            tune.append((n * bar + at, duration, ladder[place], loud))
    return chords, tune


def _rhythm(style: Style, bar: int, chance: np.random.Generator) -> list[tuple[int, int]]:
    """Onsets and durations of one bar."""
    if style.metre == "6/8":
        cells = ((4, 4, 4), (8, 4), (12,))
    elif style.swing:
        cells = ((8, 4), (12,), (8, 4), (4, 4, 4))
    else:
        cells = ((6, 6), (12,), (6, 3, 3), (9, 3))
    made, at = [], 0
    while at < bar:
        if bar - at >= 24 and chance.random() < 0.2:
            made.append((at, 24))
            at += 24
            continue
        for length in cells[int(chance.integers(len(cells)))]:
            made.append((at, length))
            at += length
    return made


def _voicing(chord: int, low: int) -> list[int]:
    """The chord's tones upwards from `low`."""
    root = chord // len(T.QUALITIES)
    steps = T.INTERVALS[chord % len(T.QUALITIES)]
    return sorted(low + (root + step - low) % 12 for step in steps)


def _figure(
    style: Style, chord: int, bar: int, place: int, chance: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    tones = _voicing(chord, 52)
    beat = T.PER_BEAT
    match style.figure:
        case "arpeggio":
            order = [*tones, tones[0] + 12, *reversed(tones[1:])]
            return [(t, 12, order[(t // 6) % len(order)], 62 + 4 * (t % 24 == 0)) for t in range(0, bar, 6)]
        case "ostinato":
            return [(t, 6, tones[(0, 2, 1, 2)[(t // 6) % 4] % len(tones)], 58 + 9 * place) for t in range(0, bar, 6)]
        case "waltz":
            return [(t, 10, p, 62) for t in range(beat, bar, beat) for p in tones]
        case "jig":
            return [(t, 4, tones[(t // 4) % len(tones)], 64 + 8 * (t % beat == 0)) for t in range(0, bar, 4)]
        case "comp":
            hits = ((0, 12), (20, 4), (32, 10)) if chance.random() < 0.5 else ((8, 4), (24, 12), (44, 4))
            return [(t, d, p, 66) for t, d in hits for p in tones]
    return [(t, 2 * beat - 2, p, 70 if t == 0 else 62) for t in range(0, bar, 2 * beat) for p in tones]


def _bass(
    style: Style, chord: int, following: int, bar: int, chance: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    root = 36 + chord // len(T.QUALITIES)
    beat = T.PER_BEAT
    if style.swing:  # a walking bass leads to the next root by a half step
        aim = 36 + following // len(T.QUALITIES)
        tones = _voicing(chord, root)
        walk = [root, tones[1], tones[2], aim + (1 if chance.random() < 0.5 else -1)]
        return [(n * beat, beat, p, 78) for n, p in enumerate(walk)]
    if style.figure == "waltz":
        return [(0, beat, root, 80)]
    if style.figure in ("arpeggio", "ostinato"):
        return [(0, bar, root, 70)]
    return [(0, bar // 2, root, 80), (bar // 2, bar - bar // 2, root + (7 if chance.random() < 0.4 else 0), 74)]
