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

from daybreak.systems.music import tokens as T
from daybreak.systems.music.net import Decoder


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


def sample(
    net: Decoder,
    keywords: Sequence[np.ndarray],
    rules: Rules,
    seed: int,
    temperature: float = 1.0,
    top_p: float = 0.95,
) -> list[np.ndarray]:
    """Compose a stream for each row of keywords (with `tokens.OFFSETS` not yet added), int16.

    The draws of stream n come from a generator of its own, (seed, n): they do not depend on the others.
    """
    made = []
    for n, row in enumerate(keywords):
        generator = torch.Generator().manual_seed((seed * 1_000_003 + n) % 2**63)
        made.append(_one(net, row, rules, generator, temperature, top_p))
    return made


@torch.inference_mode()
def _one(
    net: Decoder, row: np.ndarray, rules: Rules, generator: torch.Generator, temperature: float, top_p: float
) -> np.ndarray:
    device = net.embedding.weight.device
    state = Automaton(rules, net.config.context)
    cache = net.cache(1)
    said: Tensor | None = torch.from_numpy(row.astype(np.int64) + T.OFFSETS)[None].to(device)
    pending: list[int] = []
    start = 0
    while not state.done:
        token = state.forced()
        if token is None:
            # What was forced meanwhile goes through the network in one pass.
            logits = net.extend(cache, torch.tensor([pending], device=device), start, said)[0].float().cpu()
            start, pending, said = start + len(pending), [], None
            token = choose(logits, state.allowed(), generator, temperature, top_p)
        state.take(token)
        pending.append(token)
    return np.array(state.tokens, np.int16)


def choose(
    logits: Float[Tensor, " stream"], allowed: np.ndarray, generator: torch.Generator, temperature: float, top_p: float
) -> int:
    """Draw an allowed token: temperature (0 takes the likeliest), then the smallest set of mass `top_p`."""
    ids = np.flatnonzero(allowed)
    scores = logits.double().numpy()[ids]
    scores = np.nan_to_num(scores, nan=0.0, posinf=1e4, neginf=-1e4)  # a diverged network still makes a valid clip
    if temperature == 0:
        return int(ids[scores.argmax()])
    scores = (scores - scores.max()) / temperature
    order = np.argsort(-scores, kind="stable")
    mass = np.exp(scores[order])
    mass = np.cumsum(mass / mass.sum())
    keep = int(np.searchsorted(mass, top_p)) + 1
    draw = float(torch.rand(1, generator=generator, dtype=torch.float64)) * mass[min(keep, len(mass)) - 1]
    return int(ids[order[min(int(np.searchsorted(mass, draw, "right")), len(ids) - 1)]])
