"""Composing on: bars that follow, bars within, other roles, whole pieces. All by one thing: a part beside a context.

It joins sources, contexts and the composer. It knows nothing about files or pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daybreak.errors import UserError
from daybreak.systems.music import context, harmony
from daybreak.systems.music import request as requests
from daybreak.systems.music import tokens as T
from daybreak.systems.music.compose import Composer
from daybreak.systems.music.data.cut import window
from daybreak.systems.music.pieces import Section
from daybreak.systems.music.source import Source, Voice

WINDOW = 8
"""Bars that are looked at together: those of a training clip."""
AHEAD = 4
"""Bars composed at a time where music goes on, after as many that are there."""


@dataclass(frozen=True)
class Part:
    """A composed part of a piece: notes from the piece's start, and the keywords it was composed from."""

    keywords: Mapping[str, Any]
    notes: T.Notes


def going_on(
    composer: Composer,
    full: Mapping[str, Any],
    stream: np.ndarray,
    bars: int,
    more: int,
    chords: T.Changes | None,
    seed: int,
) -> tuple[T.Notes, T.Changes]:
    """`more` bars after a stream of `bars`, a few at a time; times count from the first of them."""
    beats = T.METRES[full["metre"]].beats
    bar = beats * T.PER_BEAT
    notes, changes, done = [T.no_notes()], [T.no_chords()], 0
    harmonic = bool(((stream >= T.CHORD) & (stream < T.BASS)).any()) or chords is not None
    while done < more:
        heard, count = min(AHEAD, bars), min(AHEAD, more - done)
        tail = np.append(context.divided(stream, bars - heard, bars)[1], T.EOS)
        beside = context.without(str(full["role"]), tail, heard, heard + count)
        asked = None if chords is None else window(chords, done * bar, (done + count) * bar)
        made = composer.part(
            {**full, "bars": heard + count}, (), seed + done, bars=count, chords=asked, harmonic=harmonic, beside=beside
        )
        notes.append(T.later(made.notes, done * bar))
        changes.append(T.later(made.chords, done * bar))
        stream = np.concatenate([tail[:-1], made.stream])
        bars, done = heard + count, done + count
    return np.concatenate(notes), T.tidy_chords(np.concatenate(changes), more * bar)


def within(
    composer: Composer,
    full: Mapping[str, Any],
    source: Source,
    voice: Voice,
    first: int,
    stop: int,
    chords: T.Changes | None,
    seed: int,
) -> tuple[T.Notes, T.Changes]:  # fmt: skip
    """The bars from `first` (0 is the clip's first) up to `stop`, composed anew; times count from `first`."""
    count = stop - first
    if count >= WINDOW:
        raise UserError(f"at most {WINDOW - 1} bars are filled in at once, beside one that is there; not {count}")
    if count >= source.bars:
        raise UserError(f"the clip has {source.bars} bars; at least one of them must stay")
    size = min(WINDOW, source.bars)
    begin = min(max(0, first - (size - count) // 2), source.bars - size)
    stream = source.stream(voice, begin, size)
    beside = context.without(str(full["role"]), stream, first - begin, stop - begin)
    own = source.window(first, count)
    asked = chords if chords is not None else own if len(own) else None
    made = composer.part(
        {**full, "bars": size}, (), seed, bars=count, chords=asked, harmonic=asked is not None, beside=beside
    )
    return made.notes, made.chords


def beside(
    composer: Composer,
    full: Mapping[str, Any],
    said: Sequence[str],
    parts: Sequence[tuple[str | None, T.Notes]],
    chords: T.Changes | None,
    bars: int,
    seed: int,
) -> tuple[T.Notes, T.Changes]:
    """A part of `bars` bars beside others, a window at a time. Chords that are not given come from the network."""
    beats = T.METRES[full["metre"]].beats
    bar = beats * T.PER_BEAT
    notes, changes = [T.no_notes()], [T.no_chords()]
    for start in range(0, bars, WINDOW):
        count = min(WINDOW, bars - start)
        begin, end = start * bar, (start + count) * bar
        asked = None if chords is None else window(chords, begin, end)
        streams = []
        for role, rows in parts:
            inside = rows[(rows[:, 0] >= begin) & (rows[:, 0] < end)] - (begin, 0, 0, 0)
            heard = T.no_chords() if asked is None else asked
            streams.append((role, T.encode(T.tidy(inside, end - begin), heard, count, beats)))
        made = composer.part(
            {**full, "bars": count}, said, seed + start, chords=asked, beside=_fitting(composer, streams, count)
        )
        notes.append(T.later(made.notes, begin))
        changes.append(T.later(made.chords, begin))
    return np.concatenate(notes), T.tidy_chords(np.concatenate(changes), bars * bar)


def piece(
    composer: Composer,
    full: Mapping[str, Any],
    said: Sequence[str],
    roles: Sequence[Mapping[str, Any]],
    arrangement: Sequence[Section],
    chords: str | None,
    seed: int,
) -> tuple[list[Part], T.Changes, int]:
    """A whole piece: parts, chords and number of bars.

    Each letter's section is composed once: its first role leads and brings the chords, the others are composed beside
    those before them. An intro is the beginning of the first section without its leading part; an outro is its end,
    closed by the tonic chord in its last bar. `roles` are all keywords of each role.
    """
    bar = T.METRES[full["metre"]].beats * T.PER_BEAT
    letters = {section.name: section.bars for section in arrangement if len(section.name) == 1}
    made: dict[str, tuple[list[T.Notes], T.Changes]] = {}
    for number, (name, bars) in enumerate(letters.items()):
        given = requests.spread(chords, bars, full["metre"]) if chords and number == 0 else None
        found: list[T.Notes] = []
        for place, keywords in enumerate(roles):
            others = [(str(roles[n]["role"]), notes) for n, notes in enumerate(found)]
            notes, changes = beside(composer, keywords, said, others, given, bars, seed + 1000 * number + 100 * place)
            given = changes if given is None else given
            found.append(notes)
        made[name] = found, given if given is not None else T.no_chords()
    main = next(iter(letters))
    parts: list[list[T.Notes]] = [[T.no_notes()] for _ in roles]
    forces, at = [T.no_chords()], 0
    for section in arrangement:
        found, force = made.get(section.name, made[main])
        length, size = letters.get(section.name, letters[main]) * bar, section.bars * bar
        for place, notes in enumerate(found):
            if section.name == "intro":
                notes = T.no_notes() if place == 0 and len(found) > 1 else _looped(notes, length, size)
            elif section.name == "outro":
                notes = _closed(_looped(notes, length, size, from_end=True), size, bar, full["key"])
            parts[place].append(T.later(notes, at))
        looped = _looped_chords(force, length, size, from_end=section.name == "outro")
        if section.name == "outro":
            looped = np.concatenate([looped[looped[:, 0] < size - bar], [_tonic(full["key"], size - bar)]])
        forces.append(T.later(looped, at))
        at += size
    joined = [Part(keywords, T.tidy(np.concatenate(rows), at)) for keywords, rows in zip(roles, parts, strict=True)]
    return joined, T.tidy_chords(np.concatenate(forces), at), at // bar


def _fitting(composer: Composer, streams: Sequence[tuple[str | None, np.ndarray]], bars: int) -> context.Context:
    """A context of as many of the parts as leave room for the stream: the first ones, which lead."""
    kept = list(streams)
    while kept:
        made = context.beside(kept)
        if len(made.tokens) + bars * 48 <= composer.net.config.context:
            return made
        kept.pop()
    return context.NONE


def _starts(length: int, size: int, from_end: bool) -> range:
    """Where copies of `length` begin that fill `size`: from its beginning, or so that the last ends with it."""
    return range(size - -(-size // length) * length, size, length) if from_end else range(0, size, length)


def _looped(notes: T.Notes, length: int, size: int, from_end: bool = False) -> T.Notes:
    """`size` twelfths of notes that last `length`: their beginning, or their end, again where they are too short."""
    rows = np.concatenate([T.later(notes, start) for start in _starts(length, size, from_end)])
    rows = rows[(rows[:, 0] >= 0) & (rows[:, 0] < size)]
    rows[:, 1] = np.minimum(rows[:, 1], size - rows[:, 0])
    return rows


def _looped_chords(chords: T.Changes, length: int, size: int, from_end: bool = False) -> T.Changes:
    """The chords of the same."""
    return T.tidy_chords(np.concatenate([T.later(chords, at) for at in _starts(length, size, from_end)]), size)


def _tonic(key: str, at: int) -> list[int]:
    root, mode = key.split()
    place = T.ROOTS.index(root)
    return [at, place * len(T.QUALITIES) + T.QUALITIES.index("maj" if mode == "major" else "min"), place]


def _closed(notes: T.Notes, size: int, bar: int, key: str) -> T.Notes:
    """The last bar becomes one held sound: each part's nearest tones of the tonic chord."""
    start = size - bar
    before = notes[notes[:, 0] < start].copy()
    before[:, 1] = np.minimum(before[:, 1], start - before[:, 0])
    last = notes[notes[:, 0] >= start]
    if not len(notes):
        return notes
    near = last if len(last) else notes[-1:]
    tones = harmony.pitch_classes(_tonic(key, 0)[1])
    lowest = near[:, 2].min()
    wanted = near[near[:, 0] == near[0, 0]] if len(last) else near
    pitches = sorted(
        {min(range(int(p) - 6, int(p) + 7), key=lambda q: (q % 12 not in tones, abs(q - int(p)))) for p in wanted[:, 2]}
    )
    level = int(np.median(near[:, 3]))
    rows = [(start, min(bar, T.LONGEST), pitch, level) for pitch in pitches if pitch >= lowest - 6]
    return np.concatenate([before, np.array(rows, np.int64).reshape(-1, 4)])
