"""From all keywords to one part: candidates drawn together under the grammar, and the one that obeys best.

It joins keywords, sampling and what a stream is composed beside. It knows nothing about files or requests.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from daybreak.systems.music import analysis, context, measures
from daybreak.systems.music import request as requests
from daybreak.systems.music import tokens as T
from daybreak.systems.music.decode import Rules, Sampling, sample
from daybreak.systems.music.net import Decoder

REACH = {"accompaniment": 30, "pad": 24}
"""Semitones beyond its pitch range that a part may use, by role: two hands reach further than a melody."""
USUAL_REACH = 17


@dataclass(frozen=True)
class Made:
    """A composed part. Times count from the first bar that was composed."""

    notes: T.Notes
    chords: T.Changes
    stream: np.ndarray


@dataclass(frozen=True)
class Composer:
    """A network with how to draw from it."""

    net: Decoder
    sampling: Sampling
    best_of: int = 1
    taught_bars: Collection[int] = ()
    """Numbers of bars of a clip that training saw; of others the network is told nothing."""

    def part(
        self,
        full: Mapping[str, Any],
        said: Collection[str],
        seed: int,
        *,
        bars: int | None = None,
        chords: T.Changes | None = None,
        harmonic: bool = True,
        beside: context.Context = context.NONE,
    ) -> Made:
        """The best of `best_of` candidates.

        Args:
            full: all keywords of the clip.
            said: those that were asked for: they weigh twice as much as the others.
            seed: of the draws.
            bars: how many are composed; by default all of the clip's.
            chords: put where they stand, in twelfths from the first composed bar; None leaves them to the network.
            harmonic: whether the part has chords at all.
            beside: what it is composed beside.
        """
        beats = T.METRES[full["metre"]].beats
        count = bars or int(full["bars"])
        window = full["min_velocity"] // 4, full["max_velocity"] // 4
        rules = Rules(count, beats, window, chords, harmonic, reach(full))
        row = requests.row_of(dict(full), harmonic, set(self.taught_bars))
        streams = sample(self.net, [row] * self.best_of, rules, seed, self.sampling, beside)
        made = [Made(*T.decode(stream, beats)[:2], stream) for stream in streams]
        return max(made, key=lambda one: fit(one.notes, one.chords, full, said, count))


def reach(full: Mapping[str, Any]) -> tuple[int, int]:
    """Lowest and highest pitch for a part of that range and role."""
    place = T.RANGES.index(full["pitch_range"])
    low = T.RANGE_CUTS[place - 1] if place else 0
    high = T.RANGE_CUTS[place] if place < len(T.RANGE_CUTS) else 127
    beyond = REACH.get(str(full.get("role")), USUAL_REACH)
    return max(0, low - beyond), min(127, high + beyond)


def fit(notes: T.Notes, chords: T.Changes, full: Mapping[str, Any], said: Collection[str], bars: int) -> float:
    """How well notes obey what only the network decides: a point for each keyword that holds, two where it was asked
    for, as many for the key that is heard, four times the share of notes that suit key and chords, twice the share of
    bars in which a note begins."""
    if not len(notes):
        return -1.0
    beats = T.METRES[full["metre"]].beats
    got = T.measured(notes, bars, beats)
    sounding = len(np.unique(notes[:, 0] // (beats * T.PER_BEAT))) / bars
    points = sum(
        (2.0 if name in said else 1.0) * (got[name] == full[name]) for name in ("pitch_range", "density", "rhythm")
    )
    if T.KEYS[int(analysis.correlations(notes).argmax())] == full["key"]:
        points += 2.0 if "key" in said else 1.0
    return float(points) + 2 * sounding + 4 * float(measures.in_harmony(notes, chords, full["key"]).mean())
