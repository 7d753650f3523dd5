"""Sampling under a grammar, so that whatever the weights say the result is a well-formed clip that obeys.

It holds: exact bars, positions that only go forward, pitches ascending and different at one position, velocities
inside the window, notes inside the clip, chords where they were asked for, notes in half of the bars, an end before the
context ends. It knows tokens and a network; it knows nothing about requests or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from daybreak.systems.music import context
from daybreak.systems.music import tokens as T
from daybreak.systems.music.net import Decoder, NetConfig


@dataclass(frozen=True)
class Rules:
    """What a clip must obey."""

    bars: int
    beats: int
    velocities: tuple[int, int] = (0, 31)
    """First and last velocity bin."""
    chords: T.Changes | None = None
    """Chords that are put where they stand; None leaves them to the network."""
    harmony: bool = True
    """Whether the stream has chords at all."""
    pitches: tuple[int, int] = (0, 127)
    """Lowest and highest pitch."""


def shortest(bars: int, chords: int = 0) -> int:
    """Tokens that a stream of so many bars needs at least, with so many chord changes."""
    return 3 * bars + 3 * chords + 5


@dataclass
class Automaton:
    """The grammar's state: which tokens may come next. `room` is what the context has left."""

    rules: Rules
    room: int
    bar: int = 0
    """Bars begun."""
    at: int = -1
    """Position in the bar; -1 before the first."""
    pitch: int = -1
    """Pitch of the last note at this position."""
    last: int = T.PAD
    notes: int = 0
    silent: int = 0
    """Bars that ended without a note."""
    heard: bool = False
    """Whether a note began in this bar."""
    tokens: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        changes = self.rules.chords
        self._changes = [] if changes is None else [tuple(int(v) for v in change) for change in changes]
        self._length = self.rules.beats * T.PER_BEAT

    @property
    def done(self) -> bool:
        return self.last == T.EOS

    def forced(self) -> int | None:
        """The next token where there is no choice, else None."""
        choices = self.choices()
        if len(choices) == 1 and choices[0][1] - choices[0][0] == 1:
            return choices[0][0]
        return None

    def allowed(self) -> np.ndarray:
        """Which tokens may come next, as flags."""
        flags = np.zeros(T.STREAM, bool)
        for first, stop in self.choices():
            flags[first:stop] = True
        return flags

    def choices(self) -> list[tuple[int, int]]:
        """Ranges [first, stop) of the tokens that may come next; never empty before the end."""
        rules, last = self.rules, self.last
        if self.bar == 0:
            return [(T.BAR, T.BAR + 1)]
        if T.PITCH <= last < T.VELOCITY:
            low, high = rules.velocities
            return [(T.VELOCITY + low, T.VELOCITY + high + 1)]
        if T.VELOCITY <= last < T.DURATION:
            left = (rules.bars - self.bar + 1) * self._length - self.at
            return [(T.DURATION, T.DURATION + min(left, T.LONGEST))]
        asked = self._asked()
        if asked is not None:
            chord, bass = asked
            if last < T.CHORD:
                return [(T.CHORD + chord, T.CHORD + chord + 1)]
            if T.CHORD <= last < T.BASS and chord != T.NO_CHORD and chord // len(T.QUALITIES) != bass:
                return [(T.BASS + bass, T.BASS + bass + 1)]
        out: list[tuple[int, int]] = []
        if asked is None and rules.harmony and rules.chords is None:
            if last == T.BAR:
                return [(T.CHORD, T.BASS)]
            if T.POSITION < last < T.PITCH and self._spare() >= 6:
                out.append((T.CHORD, T.BASS))
            if T.CHORD <= last < T.CHORD + T.NO_CHORD:
                out.append((T.BASS, T.STREAM))
        place = (self.bar - 1) * self._length + max(self.at, 0)
        nearest = next((change[0] for change in self._changes if change[0] > place), None)
        inside = nearest is not None and nearest < self.bar * self._length
        spare = self._spare()
        if self.at >= 0 and spare >= 3:
            first = max(rules.pitches[0], self.pitch + 1)
            if first <= rules.pitches[1]:
                out.append((T.PITCH + first, T.PITCH + rules.pitches[1] + 1))
        # A position must lead to a note or a chord, so it needs room for one.
        if not (T.POSITION <= last < T.PITCH):
            stop = (nearest % self._length) if inside and nearest is not None else self._length
            first = max(self.at + 1, 0)
            if spare >= 4 and first < stop:
                out.append((T.POSITION + first, T.POSITION + stop))
            if inside:
                out.append((T.POSITION + stop, T.POSITION + stop + 1))
            elif not self.heard and self.silent >= rules.bars // 2 and spare >= 4:
                pass  # too much silence: the clips of the data have a note in at least every second bar
            elif self.bar < rules.bars:
                out.append((T.BAR, T.BAR + 1))
            elif self.notes:
                out.append((T.EOS, T.EOS + 1))
        return out

    def take(self, token: int) -> None:
        """Go on with a token."""
        if token == T.BAR:
            self.silent += self.bar > 0 and not self.heard
            self.bar, self.at, self.pitch, self.heard = self.bar + 1, -1, -1, False
        elif T.POSITION <= token < T.PITCH:
            self.at, self.pitch = token - T.POSITION, -1
        elif T.PITCH <= token < T.VELOCITY:
            self.pitch = token - T.PITCH
        elif T.DURATION <= token < T.CHORD:
            self.notes += 1
            self.heard = True
        self.last = token
        self.room -= 1
        self.tokens.append(token)

    def _asked(self) -> tuple[int, int] | None:
        """Chord and bass that must be said here, or None."""
        if not self._changes or not (self.last == T.BAR or T.POSITION <= self.last < T.PITCH or self.last >= T.CHORD):
            return None
        place = (self.bar - 1) * self._length + max(self.at, 0)
        force = [change for change in self._changes if change[0] <= place]
        if not force or (self.at >= 0 and (force[-1][0] != place or self.at == 0)):
            return None
        return force[-1][1], force[-1][2]

    def _spare(self) -> int:
        """Tokens left when what must still come (bars, chords, one note, the end) is set aside."""
        place = (self.bar - 1) * self._length + max(self.at, 0)
        later = sum(change[0] > place for change in self._changes)
        note = 4 if not self.notes and self.bar < self.rules.bars else 0
        return self.room - 3 * (self.rules.bars - self.bar) - 3 * later - note - 1


def decoder(config: NetConfig) -> Decoder:
    """A network of that size for streams."""
    return Decoder(config, T.VOCABULARY, T.STREAM, len(T.FIELDS), context.MARKS)


@dataclass(frozen=True)
class Sampling:
    """How streams are drawn."""

    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: float = 0.95
    """Probability mass from which a token is drawn."""
    guidance: float = 1.0
    """Classifier-free guidance (Ho and Salimans, 2022): how far logits are pushed from what no keywords would give."""


def sample(
    net: Decoder,
    rows: Sequence[np.ndarray],
    rules: Rules,
    seed: int,
    sampling: Sampling | None = None,
    beside: context.Context = context.NONE,
) -> list[np.ndarray]:
    """Compose a stream for each row of keywords (with `tokens.OFFSETS` not yet added), int16, all at once.

    The draws of stream n come from a generator of its own, (seed, n). They do not depend on the others, but the
    network's rounding depends on how many there are.
    """
    how = sampling or Sampling()
    generators = [torch.Generator().manual_seed((seed * 1_000_003 + n) % 2**63) for n in range(len(rows))]
    room = net.config.context - len(beside.tokens)
    states = [Automaton(rules, room) for _ in rows]
    _compose(net, rows, states, generators, how, beside)
    return [np.array(state.tokens, np.int16) for state in states]


@torch.inference_mode()
def _compose(
    net: Decoder,
    rows: Sequence[np.ndarray],
    states: Sequence[Automaton],
    generators: Sequence[torch.Generator],
    how: Sampling,
    beside: context.Context,
) -> None:
    device = net.embedding.weight.device
    guided = how.guidance != 1
    said = np.stack([row.astype(np.int64) for row in rows]) + T.OFFSETS
    if guided:
        said = np.concatenate([said, np.broadcast_to(T.OFFSETS, said.shape)])
    keywords: Tensor | None = torch.from_numpy(said).to(device)
    cache = net.cache(len(said))
    tokens = np.broadcast_to(beside.tokens, (len(said), len(beside.tokens)))
    marks = np.broadcast_to(beside.marks, (len(said), *beside.marks.shape))
    start = 0
    while not all(state.done for state in states):
        forced = [T.PAD if state.done else state.forced() for state in states]
        scores = None
        if None in forced:  # what was forced meanwhile goes through the network in one pass
            new = torch.from_numpy(tokens.copy()).to(device), torch.from_numpy(marks.copy()).to(device)
            scores = net.extend(cache, new[0], start, keywords, new[1]).float().cpu()
            start, keywords = start + tokens.shape[1], None
            tokens, marks = tokens[:, :0], marks[:, :0]
            if guided:
                free = scores[len(rows) :]
                scores = free + how.guidance * (scores[: len(rows)] - free)
        taken, numbers = [], []
        for n, state in enumerate(states):
            token = forced[n]
            if token is None:
                assert scores is not None
                token = choose(scores[n], state.allowed(), generators[n], how.temperature, how.top_p)
            if not state.done:
                state.take(token)
            taken.append([token])
            numbers.append([[min(beside.first + state.bar, T.MOST_BARS), context.STREAM]])
        if guided:
            taken, numbers = 2 * taken, 2 * numbers
        tokens = np.concatenate([tokens, np.array(taken, np.int64)], 1)
        marks = np.concatenate([marks, np.array(numbers, np.int64)], 1)


def choose(
    logits: Float[Tensor, " stream"], allowed: np.ndarray, generator: torch.Generator, temperature: float, top_p: float
) -> int:
    """Draw an allowed token: temperature (0 takes the likeliest), then the smallest set of mass `top_p`."""
    ids = np.flatnonzero(allowed)
    scores = logits.double().numpy()[ids]
    if not np.isfinite(scores).all():  # a diverged network still makes a valid clip
        scores = np.nan_to_num(scores, nan=0.0, posinf=1e4, neginf=-1e4)
    if temperature == 0:
        return int(ids[scores.argmax()])
    scores = (scores - scores.max()) / temperature
    order = np.argsort(-scores, kind="stable")
    mass = np.exp(scores[order])
    mass = np.cumsum(mass / mass.sum())
    keep = int(np.searchsorted(mass, top_p)) + 1
    draw = float(torch.rand(1, generator=generator, dtype=torch.float64)) * mass[min(keep, len(mass)) - 1]
    return int(ids[order[min(int(np.searchsorted(mass, draw, "right")), len(ids) - 1)]])
