"""Near-copies: runs of notes that a clip shares with the clips a model was trained on.

A clip is a near-copy when it has a run of `RUN` successive notes, ordered by onset and then pitch, with the same
intervals and the same times from onset to onset (in twelfths of a beat) as a training clip, in whatever key. What was
trained on is kept as a Bloom filter (Bloom, 1970): it never misses a run, takes another for one about once in 100,000
times, and gives no song back. It knows notes and streams; it knows nothing about files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt64
from torch import Tensor, nn

from daybreak.systems.music import tokens as T

RUN = 16
"""Notes of a run."""
BITS = 24
"""Bits of the filter for each run that it holds."""
PROBES = 16
"""Bits that each run sets. A run that is not held is taken for one with probability (1 - e^(-16/24))^16 = 1e-5."""

Runs = UInt64[np.ndarray, " runs"]


def runs(notes: T.Notes) -> Runs:
    """A number for each run of a part, in order: run n begins at note n, by onset and then pitch."""
    return _hashed(_steps(*_ordered(notes)))


def song_runs(made: Mapping[str, np.ndarray]) -> Runs:
    """The runs of all clips of a song, as `data.clips` derives them; none reaches from one clip into the next."""
    tokens, offsets = made["tokens"].astype(np.int64), made["offsets"]
    clip = np.searchsorted(offsets, np.arange(len(tokens)), "right") - 1
    beats = np.array([T.METRES[str(T.value(row, "metre"))].beats for row in made["keywords"]], np.int64)
    is_pitch = (tokens >= T.PITCH) & (tokens < T.VELOCITY)
    # A note stands at the last position said before it, in a bar that began before that.
    said = np.where((tokens >= T.POSITION) & (tokens < T.PITCH), np.arange(len(tokens)), -1)
    position = tokens[np.maximum.accumulate(said)[is_pitch]] - T.POSITION
    clip_of = clip[is_pitch]
    # Bars are counted through the song: runs across clips are left out, so where a clip begins does not matter.
    onset = np.cumsum(tokens == T.BAR)[is_pitch] * beats[clip_of] * T.PER_BEAT + position
    hashed = _hashed(_steps(onset, tokens[is_pitch] - T.PITCH))
    within = clip_of[: len(hashed)] == clip_of[len(clip_of) - len(hashed) :]
    return np.asarray(hashed[within])


def _ordered(notes: T.Notes) -> tuple[np.ndarray, np.ndarray]:
    """Onsets and pitches in order; a note that stands twice counts once, as in a stream."""
    onset, pitch = np.divmod(np.unique(notes[:, 0] * 128 + notes[:, 2]), 128)
    return onset, pitch


def _steps(onset: np.ndarray, pitch: np.ndarray) -> UInt64[np.ndarray, " steps"]:
    """From each note to the next: time and interval in one number."""
    return (np.diff(onset) * 256 + np.diff(pitch) + 128).astype(np.uint64)


def _hashed(steps: UInt64[np.ndarray, " steps"]) -> Runs:
    """64 bits for each RUN - 1 successive steps."""
    count = max(0, len(steps) - RUN + 2)
    mixed, found = _mixed(steps), np.zeros(count, np.uint64)
    for n in range(RUN - 1):
        found = found * np.uint64(0x9E3779B97F4A7C15) + mixed[n : n + count]
    return _mixed(found)


def _mixed(x: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """A number in which each bit depends on all bits of `x` (the finaliser of SplitMix64, Steele et al., 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


@dataclass(frozen=True)
class Copied:
    """What a part shares with the training clips."""

    runs: int
    """Runs of 16 notes that it has."""
    shared: int
    """Those that a training clip has too."""
    spans: tuple[tuple[int, int], ...]
    """First and last onset (twelfths of a beat) of each stretch of shared runs that overlap."""


class Copies(nn.Module):
    """The runs of the training clips, as a filter of `size` bytes that is saved with the weights."""

    bits: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("bits", torch.zeros(size, dtype=torch.uint8))

    @classmethod
    def of(cls, songs: Iterable[Mapping[str, np.ndarray]]) -> Copies:
        """The filter of all clips of some songs, as `data.clips` derives them."""
        held = np.unique(np.concatenate([np.zeros(0, np.uint64), *(np.unique(song_runs(song)) for song in songs)]))
        made = cls(max(1, -(-len(held) * BITS // 8)))
        flags = np.zeros(8 * len(made.bits), bool)
        for n in range(PROBES):
            flags[made._places(held, n)] = True
        made.bits.copy_(torch.from_numpy(np.packbits(flags, bitorder="little")))
        return made

    def holds(self, runs: Runs) -> Bool[np.ndarray, " runs"]:
        """Which runs a training clip has."""
        bits = self.bits.cpu().numpy()
        found = np.ones(len(runs), bool)
        for n in range(PROBES):
            places = self._places(runs, n)
            found &= (bits[places >> 3] >> (places & 7).astype(np.uint8)) & 1 == 1
        return found

    def find(self, notes: T.Notes) -> Copied:
        """What a part shares with the training clips."""
        onsets = _ordered(notes)[0]
        shared = self.holds(runs(notes))
        starts = np.flatnonzero(shared)
        spans: list[tuple[int, int]] = []
        last = -RUN
        for start in starts.tolist():
            end = int(onsets[start + RUN - 1])
            if start - last < RUN:  # the two runs have a note in common
                spans[-1] = spans[-1][0], end
            else:
                spans.append((int(onsets[start]), end))
            last = start
        return Copied(len(shared), len(starts), tuple(spans))

    def _places(self, runs: Runs, probe: int) -> np.ndarray:
        """The bit of each run that one probe looks at."""
        step = np.uint64((probe + 1) * 0xD1342543DE82EF95 % 2**64)
        return (_mixed(runs + step) % np.uint64(8 * len(self.bits))).astype(np.int64)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Weights that were trained on other songs bring a filter of another size."""
        if (held := state.get(f"{prefix}bits")) is not None:
            self.bits = torch.zeros_like(held, device=self.bits.device)
        super()._load_from_state_dict(state, prefix, *rest)
