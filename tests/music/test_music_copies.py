"""Near-copies: what a run is, by a plain definition; what the filter promises; that it travels with the weights."""

import itertools

import numpy as np
import pytest
from music_songs import Songs

from daybreak.errors import UserError
from daybreak.lab.model import Model
from daybreak.systems.music import tokens as T
from daybreak.systems.music.check import Check
from daybreak.systems.music.copies import BITS, RUN, Copies, runs, song_runs
from daybreak.systems.music.data import clips
from daybreak.systems.music.model import Music, MusicConfig, to_midi
from daybreak.systems.music.net import NetConfig

NET = NetConfig(layers=1, width=32, heads=2, inner=64, context=256)


@pytest.fixture(scope="module")
def songs():
    data = Songs(train=6, validation=2)
    return {name: [data.derived(clips, item) for item in data.split(name)] for name in ("train", "validation")}


def parts(song):
    for n, row in enumerate(song["keywords"]):
        stream = song["tokens"][song["offsets"][n] : song["offsets"][n + 1]]
        yield T.decode(stream, T.METRES[str(T.value(row, "metre"))].beats)[0]


def plainly(notes):
    """The runs of a part by their definition, as tuples."""
    ordered = sorted({(int(onset), int(pitch)) for onset, _, pitch, _ in notes})
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(ordered)]
    return [tuple(steps[n : n + RUN - 1]) for n in range(len(steps) - RUN + 2)]


def melody(count, seed=0):
    draw = np.random.default_rng(seed)
    onsets = np.cumsum(draw.integers(1, 24, count))
    rows = [onsets, np.full(count, 3), draw.integers(40, 90, count), np.full(count, 64)]
    return np.stack(rows, 1)


def moved(notes, time, pitch):
    return notes + np.array([time, 0, pitch, 0])


def test_runs_are_equal_exactly_where_the_plain_definition_says_so(songs):
    numbers, plain = {}, {}
    for song in songs["train"]:
        for notes in parts(song):
            for number, steps in zip(runs(notes).tolist(), plainly(notes), strict=True):
                assert numbers.setdefault(steps, number) == number
                assert plain.setdefault(number, steps) == steps
    assert len(plain) > 500


def test_a_songs_runs_read_off_its_tokens_are_those_of_its_clips_one_by_one(songs):
    for song in songs["train"]:
        assert song_runs(song).tolist() == np.concatenate([runs(notes) for notes in parts(song)]).tolist()


def test_transposing_and_moving_in_time_change_no_run_and_anything_else_does():
    notes = melody(RUN)
    (own,) = runs(notes)
    assert runs(moved(notes, 480, 7)).tolist() == [own]
    assert runs(notes[::-1]).tolist() == [own]
    assert runs(np.concatenate([notes, notes[:3]])).tolist() == [own]  # a note that stands twice
    for place in range(RUN):
        for change in ((1, 0, 0, 0), (0, 0, 1, 0)):
            other = notes.copy()
            other[place] += change
            assert len(runs(other)) == 0 or runs(other).tolist() != [own], (place, change)
    assert len(runs(melody(RUN - 1))) == 0
    assert len(runs(T.no_notes())) == 0


def test_every_training_run_is_found_and_others_hardly_ever(songs):
    index = Copies.of(songs["train"])
    held = {steps for song in songs["train"] for notes in parts(song) for steps in plainly(notes)}
    assert len(index.bits) == -(-len(held) * BITS // 8)
    for song in songs["train"]:
        assert index.holds(song_runs(song)).all()
    strangers = np.random.default_rng(0).integers(0, 2**63, 1_000_000).astype(np.uint64)
    assert index.holds(strangers).sum() <= 30  # 1e-5 of them are expected: 10
    for song in songs["validation"]:
        for notes in parts(song):
            truly = [steps in held for steps in plainly(notes)]
            assert index.holds(runs(notes)).tolist() == truly


def test_where_a_copy_stands_is_said_and_runs_that_overlap_are_one():
    theirs = melody(40)
    song = {
        "tokens": T.encode(T.tidy(theirs, 4800), T.no_chords(), 100, 4),
        "keywords": T.row(metre="4/4", bars=8)[None],
    }
    song["offsets"] = np.array([0, len(song["tokens"])])
    index = Copies.of([song])
    copied = moved(theirs[5:25], 1000, 3)
    ours = np.concatenate([melody(20, 1), copied, moved(melody(20, 2), 3000, 0)])
    found = index.find(ours)
    assert (found.runs, found.shared) == (45, 5)
    assert found.spans == ((int(copied[0, 0]), int(copied[-1, 0])),)
    assert index.find(melody(60, 3)).spans == ()
    assert index.find(T.no_notes()).runs == 0


def test_the_index_travels_with_the_weights_and_old_weights_load_without(songs, tmp_path):
    index = Copies.of(songs["train"])
    music = Music(MusicConfig(net=NET, copies=len(index.bits)), copies=index)
    again = Model.load(music.save(tmp_path / "with"))
    assert isinstance(again, Music)
    assert np.array_equal(again.copies.bits.numpy(), index.bits.numpy())
    assert again.copies.bits.dtype == index.bits.dtype
    without = Model.load(Music(MusicConfig(net=NET)).save(tmp_path / "without"))
    assert not hasattr(without, "copies")
    other = Music(MusicConfig(net=NET, copies=17))  # built on other songs, then given these weights
    other.read_weights(tmp_path / "with" / "weights.safetensors")
    assert np.array_equal(other.copies.bits.numpy(), index.bits.numpy())
    with pytest.raises(UserError, match="missing"):
        other.read_weights(tmp_path / "without" / "weights.safetensors")
    with pytest.raises(ValueError, match="index of 17 bytes"):
        Music(MusicConfig(net=NET, copies=17), net=music.net)


def test_check_finds_a_training_clip_and_says_its_bars(songs):
    index = Copies.of(songs["train"])
    music = Music(MusicConfig(net=NET, copies=len(index.bits)), copies=index)
    row, notes = songs["train"][0]["keywords"][0], next(parts(songs["train"][0]))
    midi = to_midi(notes, T.no_chords(), {"bars": 8, "metre": str(T.value(row, "metre")), "bpm": 100})
    found = music.check(Check(midi=midi))
    assert not found.ours
    assert found.runs == found.shared == len(notes) - RUN + 1
    assert found.copies[0].track == found.copies[0].first == 1
    assert found.copies[-1].last <= 8
    assert all(line.asked is None for line in found.lines)
    assert "not one of ours" in found.remarks[0]
