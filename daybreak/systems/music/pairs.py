"""Pairs of clips for the same keywords, to listen to: a song's own beside a composed one, or two composed ones.

Which songs or requests, and which clip stands on which side, is drawn from a seed. It knows items, keywords and
networks; it knows nothing about pages or votes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from daybreak.errors import UserError
from daybreak.lab.lake import Item, Snapshot, Split
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data import clips, only_songs
from daybreak.systems.music.data.votes import REAL, Made, Pair
from daybreak.systems.music.decode import Rules, Sampling, sample
from daybreak.systems.music.model import Music, of_stream
from daybreak.systems.music.recipe import stream_of
from daybreak.systems.music.rules import BY_RULE

if TYPE_CHECKING:
    from daybreak.systems.music.net import Decoder


def rules_of(row: np.ndarray, bars: int, chords: T.Changes | None = None) -> Rules:
    """What a clip of these keywords must obey. `chords`: those that were given; None leaves them to the network."""
    low, high = (T.value(row, name) for name in ("min_velocity", "max_velocity"))
    window = 0 if low is None else int(low), 31 if high is None else int(high)
    harmony = T.value(row, "chords") != "without" if chords is None else bool(len(chords))
    return Rules(bars, beats(row), window, chords if harmony else None, harmony)


def beats(row: np.ndarray) -> int:
    """Beats in a bar of these keywords' metre."""
    return T.METRES[str(T.value(row, "metre") or "4/4")].beats


def real(model: Music, title: str, data: Snapshot, split: Split, count: int, seed: int) -> Iterator[Pair]:
    """Clips of a split's songs beside clips composed for their keywords and chords, a song at a time in a drawn order.

    Songs composed by rule stand only where there are no others. Raises `UserError` where there are fewer clips.
    """
    songs = only_songs(data.split(split))
    songs = [song for song in songs if song.labels.get("composed") != BY_RULE] or songs
    for n, (song, index) in enumerate(_drawn_clips(songs, data, split, count, seed)):
        made = data.derived(clips, song)
        row, stream = made["keywords"][index], stream_of(made, index)
        _, chords, bars = T.decode(stream, beats(row))
        own = Made(REAL, f"{song.name}#{index}", stream, of_stream(row, stream).to_bytes())
        new = _composed([(model.net, model.name, title)], row, rules_of(row, bars, chords), (seed, n))
        yield _pair(row, True, song.group, song.licence, [own, *new], (seed, n))


def generated(models: Sequence[tuple[Music, str]], count: int, seed: int) -> Iterator[Pair]:
    """Two clips for each request: of two models, or two of one. Requests are drawn from the first model's templates;
    the group is the request, so that all votes about it stand in one split."""
    rows = np.unique(np.array(models[0][0].config.templates, np.int16), axis=0)
    if not len(rows):
        raise UserError(f"{models[0][1]} keeps no keywords of training clips, from which requests could be drawn")
    if count > len(rows):
        raise UserError(f"{models[0][1]} keeps {len(rows)} rows of keywords: --count is at most that, not {count}")
    makers = [(model.net, model.name, title) for model, title in models]
    draw = np.random.default_rng((seed, 0))
    for n, place in enumerate(draw.permutation(len(rows))[:count]):
        row = rows[place]
        bars = min(int(T.value(row, "bars") or 8), *(model.most_bars for model, _ in models))
        name = hashlib.blake2b(row.tobytes(), digest_size=6).hexdigest()
        both = _composed(makers, row, rules_of(row, bars), (seed, n), 2 // len(makers))
        yield _pair(row, False, f"request {name}", "", both, (seed, n))


def _composed(
    makers: Sequence[tuple[Decoder, str, str]], row: np.ndarray, rules: Rules, place: tuple[int, int], each: int = 1
) -> list[Made]:
    found = []
    for number, (net, name, title) in enumerate(makers):
        seed = int(np.random.default_rng((*place, 1 + number)).integers(2**31))
        for stream in sample(net, [row] * each, rules, seed, Sampling()):
            found.append(Made(name, title, stream, of_stream(row, stream).to_bytes()))
    return found


def _pair(row: np.ndarray, given: bool, group: str, licence: str, both: Sequence[Made], place: tuple[int, int]) -> Pair:
    first = int(np.random.default_rng((*place, 0)).integers(2))
    a, b = both[first], both[1 - first]
    # The files decide the id, and nobody can read the side off it.
    id = hashlib.blake2b(a.midi + b"\0" + b.midi + repr(place).encode(), digest_size=5).hexdigest()
    return Pair(id, row, given, group, licence, {"a": a, "b": b})


def _drawn_clips(
    songs: Sequence[Item], data: Snapshot, split: Split, count: int, seed: int
) -> Iterator[tuple[Item, int]]:
    """A clip of each song in turn, then another one of each, without repetition."""
    order = np.random.default_rng((seed, 0)).permutation(len(songs))
    turns: dict[int, list[int]] = {}
    found = 0
    while found < count:
        before = found
        for n in order.tolist():
            if n not in turns:
                there = len(data.derived(clips, songs[n])["keywords"])
                turns[n] = np.random.default_rng((seed, 1, n)).permutation(there).tolist()
            if turns[n] and found < count:
                found += 1
                yield songs[n], turns[n].pop()
        if found == before:
            raise UserError(f"the {split} songs have {found} clips, --count asks for {count}")
