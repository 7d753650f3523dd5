"""Stretches of regular bars -> clips: streams with their keywords. It knows bars; it knows nothing about files."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from daybreak.systems.music import tokens as T

LONG, SHORT = 8, 4
"""Bars of a clip, and of the clip that is cut from what is left of a stretch."""
FEWEST = 4
"""Notes below which a clip is left out; there must also be one in every second bar."""


@dataclass(frozen=True)
class Stretch:
    """Bars of one metre without a break. Times are twelfths of a beat from its start."""

    metre: str
    bars: int
    bpm: np.ndarray
    """Quarter notes a minute, by bar."""
    parts: Sequence[tuple[str | None, T.Notes]]
    """Role (None: unknown) and notes of each part."""
    chords: T.Changes | None = None
    """None: not annotated."""
    key: Callable[[int, int], str | None] = field(default=lambda start, end: None)
    """The key of the most of a span of time."""
    genre: str | None = None


def cut(stretches: Iterable[Stretch]) -> dict[str, np.ndarray]:
    """The clips of a song: `tokens` (int16, all streams in a row), `offsets` (int64, one more than clips),
    `keywords` (int16, clips by fields), `bpm` (float32, the exact tempo), `places` (int32: stretch, first bar, part:
    clips of one stretch, first bar and number of bars sound together)."""
    streams: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    tempos: list[float] = []
    where: list[tuple[int, int, int]] = []
    for number, stretch in enumerate(stretches):
        beats = T.METRES[stretch.metre].beats
        bar = beats * T.PER_BEAT
        for index, (role, notes) in enumerate(stretch.parts):
            notes = notes[np.argsort(notes[:, 0], kind="stable")]
            for first, bars in _places(stretch.bars):
                start, end = first * bar, (first + bars) * bar
                low, high = np.searchsorted(notes[:, 0], (start, end))
                if high - low < FEWEST:
                    continue
                part = T.tidy(notes[low:high] - (start, 0, 0, 0), end - start)
                if len(part) < FEWEST or len(np.unique(part[:, 0] // bar)) * 2 < bars:
                    continue
                bpm = statistics.median(stretch.bpm[first : first + bars].tolist())
                chords = T.no_chords()
                if stretch.chords is not None:
                    chords = window(stretch.chords, start, end)
                streams.append(T.encode(part, chords, bars, beats))
                rows.append(
                    T.row(
                        bpm=T.tempo(bpm),
                        key=stretch.key(start, end),
                        metre=stretch.metre,
                        bars=bars,
                        role=role,
                        genre=stretch.genre,
                        chords="with" if len(chords) else "without",
                        **T.measured(part, bars, beats),
                    )
                )
                tempos.append(bpm)
                where.append((number, first, index))
    return {
        "tokens": np.concatenate(streams) if streams else np.zeros(0, np.int16),
        "offsets": np.cumsum([0, *(len(stream) for stream in streams)]).astype(np.int64),
        "keywords": np.stack(rows) if rows else np.zeros((0, len(T.FIELDS)), np.int16),
        "bpm": np.array(tempos, np.float32),
        "places": np.array(where, np.int32).reshape(-1, 3),
    }


def _places(bars: int) -> list[tuple[int, int]]:
    """First bar and length of each clip."""
    places = [(first, LONG) for first in range(0, bars - LONG + 1, LONG)]
    rest = bars // LONG * LONG
    if bars - rest >= SHORT:
        places.append((rest, SHORT))
    return places


def window(chords: T.Changes, start: int, end: int) -> T.Changes:
    """The chords in force between two times, counted from the first."""
    first = max(0, int(np.searchsorted(chords[:, 0], start, "right")) - 1)
    last = int(np.searchsorted(chords[:, 0], end))
    return T.tidy_chords(chords[first:last] - (start, 0, 0), end - start)
