"""What a stream is composed beside: other parts of the same bars, or the part's own other bars.

A context stands before the stream. Each of its pieces begins with a role and ends with EOS; marks tell of every token
the number of its bar and whose it is. So to continue, to fill in and to accompany are one task: a context is given, and
the bars of the stream are numbered from where they stand. It knows tokens; it knows nothing about networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from daybreak.systems.music import tokens as T

STREAM, PART, OWN = 0, 1, 2
"""Whose a token is: of what is composed, of another part, of the part's own other bars."""
MARKS = (T.MOST_BARS + 1, 3)
"""Sizes of the marks: the number of the bar (0 before the first), and whose."""

Marks = Int[np.ndarray, "tokens 2"]


@dataclass(frozen=True)
class Context:
    """Pieces in a row, and where the stream begins. Without pieces: a whole clip, composed from its keywords."""

    tokens: Int[np.ndarray, " tokens"]
    marks: Marks
    first: int = 0
    """Bars of the clip before the stream's first."""


NONE = Context(np.zeros(0, np.int64), np.zeros((0, 2), np.int64))


def numbers(tokens: Int[np.ndarray, " tokens"], first: int = 0) -> Int[np.ndarray, " tokens"]:
    """The number of each token's bar, from `first` + 1."""
    return np.asarray(np.minimum(first + np.cumsum(tokens == T.BAR), T.MOST_BARS))


def marks(tokens: Int[np.ndarray, " tokens"], first: int = 0, whose: int = STREAM) -> Marks:
    """A piece's marks."""
    return np.stack([numbers(tokens, first), np.full(len(tokens), whose)], 1)


def beside(parts: Sequence[tuple[str | None, Int[np.ndarray, " tokens"]]]) -> Context:
    """Other parts that sound in the same bars: role and stream of each."""
    pieces = [(_role(role), stream, 0, PART) for role, stream in parts]
    return _joined(pieces, 0)


def without(role: str | None, stream: Int[np.ndarray, " tokens"], first: int, stop: int) -> Context:
    """A clip's own bars, but for those from `first` (0 is the clip's first) up to `stop`."""
    before, _, after = divided(stream, first, stop)
    pieces = [
        (_role(role), np.append(piece, T.EOS), at, OWN) for piece, at in ((before, 0), (after, stop)) if len(piece)
    ]
    return _joined(pieces, first)


def both(one: Context, other: Context) -> Context:
    """One context, then another; the stream begins where the second says."""
    return Context(np.concatenate([one.tokens, other.tokens]), np.concatenate([one.marks, other.marks]), other.first)


def divided(
    stream: Int[np.ndarray, " tokens"], first: int, stop: int
) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"], Int[np.ndarray, " c"]]:
    """The tokens of the bars before `first`, from there up to `stop`, and from `stop` on; without EOS."""
    body = stream[:-1] if len(stream) and stream[-1] == T.EOS else stream
    bars = np.append(np.flatnonzero(body == T.BAR), len(body))
    start, end = bars[min(first, len(bars) - 1)], bars[min(stop, len(bars) - 1)]
    return body[:start], body[start:end], body[end:]


def _role(role: str | None) -> int:
    place = T.COLUMN["role"]
    return int(T.OFFSETS[place]) + (0 if role is None else T.FIELDS["role"].index(role) + 1)


def _joined(pieces: Sequence[tuple[int, Int[np.ndarray, " tokens"], int, int]], first: int) -> Context:
    if not pieces:
        return Context(NONE.tokens, NONE.marks, first)
    tokens = [np.concatenate([[role], stream]).astype(np.int64) for role, stream, _, _ in pieces]
    made = [marks(stream, at, whose) for stream, (_, _, at, whose) in zip(tokens, pieces, strict=True)]
    return Context(np.concatenate(tokens), np.concatenate(made), first)
