"""Composed clips beside the real ones whose keywords and chords they were composed for: a row for each measure.

It knows measures, clips and groups of songs; it knows nothing about where clips come from or how rows are shown.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from daybreak.lab.compare import FEWEST_GROUPS, Goal, Scores, paired
from daybreak.systems.music import classify, measures
from daybreak.systems.music import tokens as T
from daybreak.systems.music.copies import Copies
from daybreak.systems.music.shares import wilson

SAMPLES = 10
"""Clips of one request whose diversity is measured."""


@dataclass(frozen=True)
class Clip:
    """One clip. `asked`: the keywords that it has, or was to have."""

    item: str
    group: str
    """Its song."""
    asked: dict[str, Any]
    notes: T.Notes
    chords: T.Changes

    @property
    def beats(self) -> int:
        return T.METRES[self.asked["metre"]].beats

    @property
    def bars(self) -> int:
        return int(self.asked["bars"])


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval. `count`: values; they come from `groups` songs."""

    value: float
    low: float
    high: float
    count: int
    groups: int


@dataclass(frozen=True)
class Row:
    """One measure of composed and of real clips, where each has it."""

    measure: str
    composed: Estimate | None
    real: Estimate | None
    what: str


@dataclass
class Values:
    """Values with the song of each."""

    values: list[float] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    def add(self, group: str, values: Iterable[float]) -> None:
        found = [float(value) for value in values]
        self.values += found
        self.groups += [group] * len(found)

    def estimate(self, share: bool = True) -> Estimate | None:
        """The mean; its interval from a bootstrap over songs (`lab.compare`), a share's cut at 0 and 1.

        Where a share is 0 or 1 in every song, resampling would say that it always is: Wilson's interval over the songs
        says how little so many songs can show. Values that are not finite are left out. None over nothing.
        """
        pairs = [(v, g) for v, g in zip(self.values, self.groups, strict=True) if math.isfinite(v)]
        if not pairs:
            return None
        values, groups = np.array([v for v, _ in pairs]), tuple(g for _, g in pairs)
        names, songs = tuple(map(str, range(len(values)))), len(set(groups))
        mean = float(values.mean())
        if share and mean in (0.0, 1.0):
            low, high = wilson(round(mean * songs), songs)
            low, high = (low, 1.0) if mean else (0.0, high)  # beyond rounding
        elif songs < FEWEST_GROUPS:
            low, high = -math.inf, math.inf
        else:
            found = paired(
                Scores(names, groups, values), Scores(names, groups, np.zeros(len(values))), Goal("mean", "higher")
            )
            low, high = found.low, found.high
        if share:
            low, high = max(low, 0.0), min(high, 1.0)
        return Estimate(mean, low, high, len(values), songs)


def _each(clips: Sequence[Clip], value: Callable[[Clip], Any]) -> Estimate | None:
    """Over clips, or over notes where a clip has a value for each note."""
    found = Values()
    for clip in clips:
        found.add(clip.group, np.atleast_1d(value(clip)).tolist())
    return found.estimate()


def adherence(composed: Sequence[Clip], real: Sequence[Clip]) -> list[Row]:
    """What can be measured on each clip alone."""

    def inside(clip: Clip) -> np.ndarray:
        return measures.velocities_inside(clip.notes, clip.asked["min_velocity"], clip.asked["max_velocity"])

    def same(name: str) -> Callable[[Clip], bool]:
        return lambda clip: T.measured(clip.notes, clip.bars, clip.beats)[name] == clip.asked[name]

    end = T.PER_BEAT
    tests: list[tuple[str, str, Callable[[Clip], Any], Callable[[Clip], bool]]] = [
        ("CP", "mean pitch in the range asked for", same("pitch_range"), lambda clip: True),
        ("CV note", "notes in the velocity window", inside, lambda clip: True),
        ("CV clip", "clips all of whose notes are", lambda clip: bool(inside(clip).all()), lambda clip: True),
        ("density", "notes a beat as asked for", same("density"), lambda clip: True),
        ("rhythm", "as asked for", same("rhythm"), lambda clip: True),
        (
            "CH strict", "notes in the scale, or in every chord under them",
            lambda clip: measures.in_harmony(clip.notes, clip.chords, clip.asked["key"]), _harmonic,
        ),
        (
            "CH as published", "the same, with the published script's gaps",
            lambda clip: measures.in_harmony_as_published(
                clip.notes, clip.chords, clip.asked["key"], clip.bars * clip.beats * end
            ), _harmonic,
        ),
        (
            "key heard", "Krumhansl's key is the one asked for",
            lambda clip: measures.key_holds(clip.notes, clip.asked["key"]), lambda clip: "key" in clip.asked,
        ),
    ]  # fmt: skip
    rows = []
    for name, what, value, applies in tests:
        ours, theirs = ([clip for clip in clips if applies(clip)] for clips in (composed, real))
        rows.append(Row(name, _each(ours, value), _each(theirs, value), what))
    return rows


def _harmonic(clip: Clip) -> bool:
    return "key" in clip.asked and len(clip.chords) > 0


def copies(index: Copies | None, composed: Sequence[Clip], real: Sequence[Clip]) -> list[Row]:
    """Share of clips with a near-copy, of all and by role: some roles live on figures that many songs share."""
    what = "clips that share a run of 16 notes with a training clip"
    if index is None:
        return [Row("near-copies", None, None, f"{what}; these weights bring no index")]

    def share(clips: Sequence[Clip], role: str) -> Estimate | None:
        chosen = [clip for clip in clips if role in ("", clip.asked.get("role"))]
        return _each(chosen, lambda clip: index.find(clip.notes).shared > 0)

    roles = sorted({str(clip.asked["role"]) for clip in real if "role" in clip.asked})
    rows = [Row("near-copies", share(composed, ""), share(real, ""), what)]
    return rows + [Row(f"near-copies, {role}", share(composed, role), share(real, role), "") for role in roles]


def diversity(composed: Sequence[Sequence[Clip]], held_out: Sequence[Clip]) -> Row:
    """Diversity within requests; of real clips, within those of one role, key, metre and length, of different songs."""
    ours, theirs = Values(), Values()
    for clips in composed:
        value = measures.diversity([clip.notes for clip in clips], clips[0].bars, clips[0].beats)
        ours.add(clips[0].group, [value])
    alike: dict[tuple[Any, ...], dict[str, Clip]] = defaultdict(dict)
    for clip in held_out:
        if "key" in clip.asked and "role" in clip.asked:
            kind = tuple(clip.asked[name] for name in ("role", "key", "metre", "bars"))
            alike[kind].setdefault(clip.group, clip)
    for songs in alike.values():
        found = list(songs.values())[:SAMPLES]
        if len(found) > 1:
            value = measures.diversity([clip.notes for clip in found], found[0].bars, found[0].beats)
            theirs.add(found[0].group, [value])
    what = f"among {SAMPLES} clips of a request; real: of one role, key and length, from different songs"
    return Row("diversity", ours.estimate(share=False), theirs.estimate(share=False), what)


def taught(composed: Sequence[Clip], real: Sequence[Clip], held_out: Sequence[Clip]) -> list[Row]:
    """CAS: classifiers trained on composed clips, and on the real ones that they were composed for; both are tested on
    other real clips of the split. (Some are of the same songs, which helps the second classifier, never ours.)"""
    known = {clip.item for clip in real}
    unseen = [clip for clip in held_out if clip.item not in known]
    rows = []
    for name in ("role", "pitch_range"):
        sets = [[clip for clip in clips if name in clip.asked] for clips in (composed, real, unseen)]
        ours, theirs, tests = sets
        label = f"CAS {name.replace('_', ' ')}"
        what = f"a classifier trained on {len(ours)} composed (or real) clips, tested on {len(tests)} real ones"
        if min(map(len, sets)) == 0:
            rows.append(Row(label, None, None, f"{what}: there are none"))
            continue
        test = [classify.features(clip.notes, clip.bars, clip.beats) for clip in tests]
        truth = [str(clip.asked[name]) for clip in tests]
        found = []
        for clips in (ours, theirs):
            train = [classify.features(clip.notes, clip.bars, clip.beats) for clip in clips]
            right = classify.accuracy(train, [str(clip.asked[name]) for clip in clips], test, truth)
            values = Values(right.astype(float).tolist(), [clip.group for clip in tests])
            found.append(values.estimate())
        rows.append(Row(label, found[0], found[1], what))
    return rows
