"""The field's measures of composed clips, each by its definition. It knows notes in twelfths of a beat and, for the
order of keywords, a network's logits; it knows nothing about files, requests or models.

The definitions are ComMU's (Lee et al., NeurIPS 2022) as the scripts published with its improvement compute them
(YAIxPOZAlabs/Improving-TrXL-for-ComMU: controllability and diversity); where ours differ it is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from daybreak.systems.music import analysis, harmony
from daybreak.systems.music import tokens as T

EIGHTH = T.PER_BEAT // 2
NATURAL = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
"""The scales of the harmony measures: minor is natural minor. (`harmony.scale`, by which we compose, has the raised
seventh too.)"""


def pitch_range_holds(notes: T.Notes, asked: str) -> bool:
    """CP of one clip: whether its mean pitch lies in the range. CP is the share of clips."""
    return T.RANGES[T.pitch_range(float(notes[:, 2].mean()))] == asked


def velocities_inside(notes: T.Notes, low: int, high: int) -> Bool[np.ndarray, " notes"]:
    """CV of each note: whether its velocity lies in [low, high]. "CV note" is the share of notes, "CV clip" the share
    of clips all of whose notes do."""
    return np.asarray((notes[:, 3] >= low) & (notes[:, 3] <= high))


def in_harmony(notes: T.Notes, chords: T.Changes, key: str) -> Bool[np.ndarray, " notes"]:
    """CH, strictly: whether a note is in the key's scale, or in every chord that sounds during any of it.

    A note under which a stretch without a chord lies (N, or before the first chord) must be in the scale.
    """
    starts = chords[:, 0]
    ends = np.append(starts[1:], np.iinfo(np.int64).max)[: len(starts)]
    over = (starts < notes[:, :1] + notes[:, 1:2]) & (ends > notes[:, :1])
    covered = notes[:, 0] >= starts[0] if len(starts) else np.zeros(len(notes), bool)
    return np.asarray(_in_scale(notes, key) | (covered & ~(over & ~_in_chords(notes, chords)).any(1)))


def in_harmony_as_published(notes: T.Notes, chords: T.Changes, key: str, end: int) -> Bool[np.ndarray, " notes"]:
    """CH as the published script tests it: the clip is divided into eighths up to `end` (twelfths), each with the chord
    at its start. A note is compared with an eighth only if it begins or ends within it, borders not counted, or reaches
    beyond both of its borders.

    So a note of one or two whole eighths is never compared with anything, and counts as right. Quote it beside the
    published figure alone.
    """
    times = np.arange(0, end, EIGHTH)
    force = np.searchsorted(chords[:, 0], times, "right") - 1
    start, stop = notes[:, :1], notes[:, :1] + notes[:, 1:2]
    after = times + EIGHTH
    begins = (times < start) & (start < after)
    finishes = (times < stop) & (stop < after)
    compared = begins | finishes | ((start < times) & (stop > after))
    inside = np.concatenate([_in_chords(notes, chords), np.zeros((len(notes), 1), bool)], 1)[:, force]
    return np.asarray(_in_scale(notes, key) | ~(compared & ~inside).any(1))


def _in_scale(notes: T.Notes, key: str) -> Bool[np.ndarray, " notes"]:
    root, mode = key.split()
    tones = [(T.ROOTS.index(root) + step) % 12 for step in NATURAL[mode]]
    return np.isin(notes[:, 2] % 12, tones)


def _in_chords(notes: T.Notes, chords: T.Changes) -> Bool[np.ndarray, "notes chords"]:
    """Which notes are in which chords. None is in N."""
    tones = np.zeros((12, len(chords)), bool)
    for n, chord in enumerate(chords[:, 1].tolist()):
        tones[list(harmony.pitch_classes(chord)), n] = True
    return np.asarray(tones[notes[:, 2] % 12])


def key_holds(notes: T.Notes, asked: str) -> bool:
    """Whether the key that the notes suggest (`analysis.key`) is the one asked for. Real clips do so about every second
    time: never quote it without them."""
    return analysis.key(notes)[0] == asked


def distance(one: T.Notes, other: T.Notes, bars: int, beats: int) -> float:
    """How different two clips of one request are: 0 is equal, sqrt(2) / 2 the most.

    sqrt(c^2 + g^2) / 2, where c is the cosine distance of the pitch classes that begin in a bar, averaged over the
    bars, and g the same of durations. Bars in which one clip has no note are left out; NaN where all are. Durations are
    counted in twelfths of a beat (the published script: in 1/128 of a bar).
    """
    parts = []
    for column, size in ((2, 12), (1, T.LONGEST + 1)):
        a, b = (_by_bar(notes, column, size, bars, beats) for notes in (one, other))
        both = (a.sum(1) > 0) & (b.sum(1) > 0)
        if not both.any():
            return float("nan")
        a, b = a[both], b[both]
        cosine = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
        parts.append(float((1 - cosine).mean()))
    return math.hypot(*parts) / 2


def diversity(clips: Sequence[T.Notes], bars: int, beats: int) -> float:
    """Mean distance over all pairs of the clips of one request; pairs without a bar in common are left out."""
    found = [distance(one, other, bars, beats) for one, other in combinations(clips, 2)]
    kept = [value for value in found if not np.isnan(value)]
    return float(np.mean(kept)) if kept else float("nan")


def _by_bar(notes: T.Notes, column: int, size: int, bars: int, beats: int) -> Float[np.ndarray, "bars size"]:
    """How many notes that begin in a bar have each value (of pitches: each pitch class)."""
    values = notes[:, column] % 12 if column == 2 else np.minimum(notes[:, column], T.LONGEST)
    made = np.zeros((bars, size))
    np.add.at(made, (notes[:, 0] // (beats * T.PER_BEAT), values), 1)
    return made


Logits = Callable[[Int[Tensor, "orders fields"], Int[Tensor, "orders time"]], Float[Tensor, "orders time stream"]]
"""A network: rows of keyword ids and a stream for each -> logits of each next token."""


@torch.inference_mode()
def order_kl(
    net: Logits, keywords: Int[np.ndarray, " fields"], stream: Int[np.ndarray, " time"], orders: int, seed: int
) -> tuple[float, float]:
    """How far the order of keywords moves the next token: KL(usual order || drawn order) in nats, the mean over the
    stream's tokens and the drawn orders, and the largest. `keywords` are token ids in their usual order."""
    draw = np.random.default_rng(seed)
    rows = np.stack([keywords, *(draw.permutation(keywords) for _ in range(orders))])
    tokens = torch.from_numpy(np.asarray(stream, np.int64))[None].expand(len(rows), -1)
    logs = net(torch.from_numpy(rows.astype(np.int64)), tokens).double().log_softmax(-1)
    kl = (logs[:1].exp() * (logs[:1] - logs[1:])).sum(-1)
    return float(kl.mean()), float(kl.max())
