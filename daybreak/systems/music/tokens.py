"""Notes and chords <-> tokens, keywords <-> token ids.

A clip is a number of bars of one metre. Time is counted in twelfths of a beat, so that sixteenths and triplets are
exact; a compound metre's beat is the dotted quarter. This file knows numbers and names; it knows nothing about files,
networks or sampling.

The stream of a clip, in REMI's manner (Huang and Yang, 2020): for each bar `Bar [Chord [Bass]]`, then for each
position at which something starts `Position [Chord [Bass]] (Pitch Velocity Duration)*`, pitches ascending; `EOS` at
the end. The chord in force is said again at each bar, so that a bar can be read alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

PER_BEAT = 12
LONGEST = 96
"""Twelfths of a beat in the longest note: eight beats."""
ROOTS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
QUALITIES = ("maj", "min", "dim", "aug", "sus2", "sus4", "maj7", "min7", "7", "6", "min6", "hdim7")
INTERVALS = (
    (0, 4, 7), (0, 3, 7), (0, 3, 6), (0, 4, 8), (0, 2, 7), (0, 5, 7),
    (0, 4, 7, 11), (0, 3, 7, 10), (0, 4, 7, 10), (0, 4, 7, 9), (0, 3, 7, 9), (0, 3, 6, 10),
)  # fmt: skip
"""Semitones above the root, by quality."""
NO_CHORD = len(ROOTS) * len(QUALITIES)
CHORDS = NO_CHORD + 1


@dataclass(frozen=True)
class Metre:
    """A time signature and its beat. `quarters`: quarter notes in a beat (1.5 in compound metres)."""

    numerator: int
    denominator: int
    beats: int
    quarters: float


METRES = {
    "2/4": Metre(2, 4, 2, 1.0),
    "3/4": Metre(3, 4, 3, 1.0),
    "4/4": Metre(4, 4, 4, 1.0),
    "5/4": Metre(5, 4, 5, 1.0),
    "6/8": Metre(6, 8, 2, 1.5),
    "9/8": Metre(9, 8, 3, 1.5),
    "12/8": Metre(12, 8, 4, 1.5),
}
MOST_BEATS = max(metre.beats for metre in METRES.values())

# The vocabulary of the stream.
PAD, EOS, BAR = 0, 1, 2
POSITION = 3
PITCH = POSITION + MOST_BEATS * PER_BEAT
VELOCITY = PITCH + 128
DURATION = VELOCITY + 32
CHORD = DURATION + LONGEST
BASS = CHORD + CHORDS
STREAM = BASS + 12
"""Size of the stream's vocabulary; keyword ids come after it."""

ROLES = ("main_melody", "sub_melody", "accompaniment", "bass", "pad", "riff")
RANGES = ("very_low", "low", "mid_low", "mid", "mid_high", "high", "very_high")
RANGE_CUTS = (36, 48, 60, 72, 84, 96)
"""Mean pitch (MIDI) at which the next range starts: the cuts of ComMU."""
DENSITIES = ("sparse", "medium", "dense")
DENSITY_CUTS = (1.0, 2.5)
"""Notes a beat at which the next density starts."""
RHYTHMS = ("standard", "triplet")
TRIPLET_SHARE = 0.15
"""Share of onsets on the triplet grid above which the rhythm is called triplet."""
GENRES = (
    "pop", "jazz", "new_age", "cinematic", "waltz", "folk", "classical", "rock", "electronic", "latin", "blues", "hymn",
)  # fmt: skip
KEYS = tuple(f"{root} {mode}" for mode in ("major", "minor") for root in ROOTS)
TEMPOS = tuple(range(20, 301, 5))
MOST_BARS = 32

FIELDS: dict[str, tuple[str | int, ...]] = {
    "bpm": TEMPOS,
    "key": KEYS,
    "metre": tuple(METRES),
    "bars": tuple(range(1, MOST_BARS + 1)),
    "role": ROLES,
    "pitch_range": RANGES,
    "min_velocity": tuple(range(32)),
    "max_velocity": tuple(range(32)),
    "density": DENSITIES,
    "rhythm": RHYTHMS,
    "genre": GENRES,
    "chords": ("with", "without"),
}
"""Keywords by field. In a row of keywords 0 is "none" and i + 1 is the field's i-th value."""
COLUMN = {name: index for index, name in enumerate(FIELDS)}
_STARTS = np.cumsum([STREAM, *(len(values) + 1 for values in FIELDS.values())])
OFFSETS = _STARTS[:-1].astype(np.int64)
"""What to add to a row of keywords to get token ids."""
VOCABULARY = int(_STARTS[-1])

Notes = Int[np.ndarray, "notes 4"]
"""Rows of onset, duration (twelfths of a beat), pitch (MIDI), velocity (1..127)."""
Changes = Int[np.ndarray, "chords 3"]
"""Rows of onset (twelfths of a beat), chord (0..144), pitch class of the bass."""


def no_notes() -> Notes:
    """No notes."""
    return np.zeros((0, 4), np.int64)


def no_chords() -> Changes:
    """No chords: what a clip without harmony has."""
    return np.zeros((0, 3), np.int64)


def tidy(notes: Notes, length: int) -> Notes:
    """Notes as a stream can say them, sorted by onset and pitch.

    Notes outside [0, length) are left out, the ends cut at `length`; a note ends where the same pitch starts again; of
    two equal ones the longer stays; durations are 1 to 96; velocities become the middle of their bin of four.
    """
    notes = notes[(notes[:, 0] >= 0) & (notes[:, 0] < length)]
    if not len(notes):
        return no_notes()
    onset, duration, pitch, velocity = notes.T.astype(np.int64)
    # One key a note: by pitch, then onset, then the longest first.
    order = np.argsort((pitch << 44) + (onset << 22) - np.minimum(duration, 1 << 21), kind="stable")
    onset, duration, pitch, velocity = onset[order], duration[order], pitch[order], velocity[order]
    first = np.ones(len(onset), bool)
    first[1:] = (onset[1:] != onset[:-1]) | (pitch[1:] != pitch[:-1])
    onset, duration, pitch, velocity = onset[first], duration[first], pitch[first], velocity[first]
    limit = length - onset
    same = pitch[1:] == pitch[:-1]
    limit[:-1][same] = np.minimum(limit[:-1][same], (onset[1:] - onset[:-1])[same])
    duration = np.clip(np.minimum(duration, limit), 1, LONGEST)
    velocity = np.clip(velocity, 1, 127) // 4 * 4 + 2
    order = np.argsort((onset << 8) + pitch)  # no two are equal
    return np.stack([onset, duration, pitch, velocity], 1)[order]


def tidy_chords(chords: Changes, length: int) -> Changes:
    """Chord changes within [0, length): the one in force at 0 first, repetitions left out."""
    if not len(chords):
        return no_chords()
    chords = chords[np.argsort(chords[:, 0], kind="stable")]
    chords = chords[chords[:, 0] < length].astype(np.int64)
    if not len(chords):
        return np.array([[0, NO_CHORD, 0]])
    at = np.maximum(chords[:, 0], 0)
    last = np.ones(len(at), bool)
    last[:-1] = at[1:] != at[:-1]  # of several at one time the last is in force
    chords = np.column_stack([at, chords[:, 1:]])[last]
    if chords[0, 0] > 0:
        chords = np.concatenate([[[0, NO_CHORD, 0]], chords])
    changed = np.ones(len(chords), bool)
    changed[1:] = (chords[1:, 1:] != chords[:-1, 1:]).any(1)
    return chords[changed]


def later(rows: Int[np.ndarray, "rows columns"], by: int) -> Int[np.ndarray, "rows columns"]:
    """Notes or chords `by` twelfths later."""
    moved = rows.copy()
    moved[:, 0] += by
    return moved


def encode(notes: Notes, chords: Changes, bars: int, beats: int) -> Int[np.ndarray, " tokens"]:
    """The stream of a clip, int16. `notes` and `chords` as `tidy` and `tidy_chords` give them."""
    bar = beats * PER_BEAT
    starts = np.arange(bars) * bar
    keys, tokens = [starts * 1024], [np.full(bars, BAR)]

    def put(at: np.ndarray, rank: int | np.ndarray, token: np.ndarray) -> None:
        keys.append(at * 1024 + rank)
        tokens.append(token)

    inner = no_chords()
    if len(chords):
        force = np.searchsorted(chords[:, 0], starts, "right") - 1
        inner = chords[chords[:, 0] % bar != 0]
        for at, rank, rows in ((starts, 1, chords[force]), (inner[:, 0], 4, inner)):
            put(at, rank, CHORD + rows[:, 1])
            over = (rows[:, 1] != NO_CHORD) & (rows[:, 1] // len(QUALITIES) != rows[:, 2])
            put(at[over], rank + 1, BASS + rows[over, 2])
    onsets = np.unique(np.concatenate([notes[:, 0], inner[:, 0]]))
    put(onsets, 3, POSITION + onsets % bar)
    for sub, values in enumerate((PITCH + notes[:, 2], VELOCITY + notes[:, 3] // 4, DURATION + notes[:, 1] - 1)):
        put(notes[:, 0], 8 + notes[:, 2] * 4 + sub, values)
    put(np.array([bars * bar]), 0, np.array([EOS]))
    return np.concatenate(tokens)[np.argsort(np.concatenate(keys), kind="stable")].astype(np.int16)


def decode(tokens: Int[np.ndarray, " tokens"], beats: int) -> tuple[Notes, Changes, int]:
    """Notes, chord changes and number of bars of a stream. Raises ValueError where it is ill-formed."""
    notes: list[tuple[int, int, int, int]] = []
    chords: list[list[int]] = []
    bar, at, bars = beats * PER_BEAT, -1, 0
    pitch = velocity = -1
    for place, token in enumerate(int(t) for t in tokens):
        if token == EOS:
            break
        if pitch >= 0 and not (VELOCITY <= token < CHORD):
            raise ValueError(f"token {place} ({token}) does not finish the note before it")
        if token == BAR:
            at, bars = bars * bar, bars + 1
        elif POSITION <= token < PITCH and bars and token - POSITION < bar:
            at = (bars - 1) * bar + token - POSITION
        elif PITCH <= token < VELOCITY and bars:
            pitch, velocity = token - PITCH, -1
        elif VELOCITY <= token < DURATION and pitch >= 0 and velocity < 0:
            velocity = (token - VELOCITY) * 4 + 2
        elif DURATION <= token < CHORD and velocity > 0:
            notes.append((at, token - DURATION + 1, pitch, velocity))
            pitch = velocity = -1
        elif CHORD <= token < BASS and bars:
            chord = token - CHORD
            chords.append([at, chord, chord // len(QUALITIES) if chord != NO_CHORD else 0])
        elif BASS <= token < STREAM and chords:
            chords[-1][2] = token - BASS
        else:
            raise ValueError(f"token {place} ({token}) cannot stand where it stands")
    length = bars * bar
    changes = tidy_chords(np.array(chords), length) if chords else no_chords()
    return np.array(notes, np.int64).reshape(-1, 4), changes, bars


def row(**values: str | int | None) -> Int[np.ndarray, " fields"]:
    """A row of keywords, int16; fields left out are "none".

    >>> row(key="C minor")[COLUMN["key"]]
    np.int16(13)
    """
    made = np.zeros(len(FIELDS), np.int16)
    for name, value in values.items():
        if value is not None:
            made[COLUMN[name]] = FIELDS[name].index(value) + 1
    return made


def value(keywords: Int[np.ndarray, " fields"], name: str) -> str | int | None:
    """One field's value in a row, or None."""
    index = int(keywords[COLUMN[name]])
    return FIELDS[name][index - 1] if index else None


def pitch_range(mean: float) -> int:
    """Index into `RANGES` of a mean pitch."""
    return int(np.searchsorted(RANGE_CUTS, mean, "right"))


def tempo(bpm: float) -> int:
    """The tempo keyword nearest to a number of quarter notes a minute.

    >>> tempo(83.0)
    85
    """
    return min(max(round(bpm / 5) * 5, TEMPOS[0]), TEMPOS[-1])


_TRIPLETS = np.isin(np.arange(PER_BEAT), (2, 4, 8, 10))
"""Which twelfths of a beat only triplets stand on."""


def measured(notes: Notes, bars: int, beats: int) -> dict[str, str | int]:
    """The keywords that a clip's notes decide: range, velocities, density, rhythm. There must be a note."""
    triplets = _TRIPLETS[notes[:, 0] % PER_BEAT].mean()
    return {
        "pitch_range": RANGES[pitch_range(float(notes[:, 2].mean()))],
        "min_velocity": int(notes[:, 3].min()) // 4,
        "max_velocity": int(notes[:, 3].max()) // 4,
        "density": DENSITIES[int(np.searchsorted(DENSITY_CUTS, len(notes) / (bars * beats), "right"))],
        "rhythm": RHYTHMS[int(triplets > TRIPLET_SHARE)],
    }


def transpose(
    tokens: Int[np.ndarray, " tokens"], keywords: Int[np.ndarray, " fields"], shift: int
) -> tuple[Int[np.ndarray, " tokens"], Int[np.ndarray, " fields"]]:
    """A clip `shift` semitones higher: pitches, chords, basses, key and range. Stays as it is where pitches would
    leave 0..127."""
    pitched = (tokens >= PITCH) & (tokens < VELOCITY)
    pitches = tokens[pitched] - PITCH + shift
    if shift == 0 or (len(pitches) and not 0 <= int(pitches.min()) <= int(pitches.max()) <= 127):
        return tokens, keywords
    moved, said = tokens.copy(), keywords.copy()
    moved[pitched] = pitches + PITCH
    chord = (tokens >= CHORD) & (tokens < CHORD + NO_CHORD)
    kinds = len(QUALITIES)
    moved[chord] = CHORD + (tokens[chord] - CHORD + shift * kinds) % NO_CHORD
    bass = (tokens >= BASS) & (tokens < STREAM)
    moved[bass] = BASS + (tokens[bass] - BASS + shift) % 12
    if key := int(keywords[COLUMN["key"]]):
        said[COLUMN["key"]] = (key - 1) // 12 * 12 + (key - 1 + shift) % 12 + 1
    if keywords[COLUMN["pitch_range"]] and len(pitches):
        said[COLUMN["pitch_range"]] = pitch_range(float(pitches.mean())) + 1
    return moved, said
