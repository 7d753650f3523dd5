"""Composing on: what stood stays, what is new stands where it was asked for."""

import contextlib
import io

import mido
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from daybreak.errors import UserError
from daybreak.media.midi import Midi
from daybreak.systems.music import context
from daybreak.systems.music import tokens as T
from daybreak.systems.music.model import Music, MusicConfig
from daybreak.systems.music.net import NetConfig
from daybreak.systems.music.pieces import FEWEST, MOST, Accompany, Combine, Continue, Infill, sections
from daybreak.systems.music.request import Compose
from daybreak.systems.music.rules import compose as song
from daybreak.systems.music.rules import write

NET = NetConfig(layers=1, width=32, heads=2, inner=64, context=1024, numbered=True)
BAR = 1920


@pytest.fixture(scope="module")
def music():
    torch.manual_seed(0)
    return Music(MusicConfig(net=NET))


@pytest.fixture(scope="module")
def clip(music):
    return music.compose(Compose(bars=8, chords="C G Am F", role="main_melody", best_of=1, seed=3)).clips[0].midi


def rows(midi: Midi, track: int = 0):
    notes = midi.score().tracks[track].notes
    return [(n.time, n.duration, n.pitch, n.velocity) for n in notes]


def test_what_is_continued_stays_and_the_new_bars_follow(music, clip):
    longer = music.continue_(Continue(midi=clip, bars=6, best_of=1, chords="C F G")).clips[0]
    new = rows(longer.midi)
    assert [row for row in new if row[0] < 8 * BAR] == rows(clip)
    assert any(row[0] >= 12 * BAR for row in new)
    assert all(row[0] < 14 * BAR for row in new)
    assert next(line.got for line in longer.report if line.name == "bars") == "14"
    markers = [(m.time // BAR, m.text) for m in longer.midi.score().markers]
    assert markers[-4:] == [(8, "C"), (10, "F"), (12, "G"), (14, "end")]


def test_infilling_changes_the_bars_asked_for_alone(music, clip):
    filled = music.infill(Infill(midi=clip, first=3, last=5, best_of=1, seed=1)).clips[0]
    inside = range(2 * BAR, 5 * BAR)
    before, after = rows(clip), rows(filled.midi)
    assert [(r[0], r[2], r[3]) for r in after if r[0] not in inside] == [
        (r[0], r[2], r[3]) for r in before if r[0] not in inside
    ]
    assert [r for r in after if r[0] in inside] != [r for r in before if r[0] in inside]
    assert [m.text for m in filled.midi.score().markers] == [m.text for m in clip.score().markers]


def test_an_accompaniment_stands_beside_what_it_was_composed_for(music, clip):
    piece = music.accompany(Accompany(midi=clip, roles="accompaniment, bass", best_of=1)).pieces[0]
    assert [track.name for track in piece.midi.score().tracks] == ["main_melody", "accompaniment", "bass"]
    assert rows(piece.midi) == rows(clip)
    assert [m.text for m in piece.midi.score().markers] == [m.text for m in clip.score().markers]
    assert [part.role for part in piece.parts] == ["accompaniment", "bass"]
    over = music.accompany(Accompany(chords="Am G F E", roles="bass", bpm=90, key="A minor", best_of=1)).pieces[0]
    assert [m.text for m in over.midi.score().markers] == ["Am", "G", "F", "E", "end"]


def test_a_piece_follows_its_arrangement_and_equal_letters_are_equal_music(music):
    made = music.combine(Combine(arrangement="intro 2, A 4, B 4, A 4, outro 2", best_of=1, key="A minor", seed=2))
    piece = made.pieces[0]
    assert made.arrangement == "intro 2, A 4, B 4, A 4, outro 2"
    score = piece.midi.score()
    assert score.markers[-1].time == 16 * BAR
    assert [track.name for track in score.tracks] == ["main_melody", "accompaniment", "bass"]
    melody = rows(piece.midi)
    assert min(row[0] for row in melody) >= 2 * BAR
    starts = [sorted((r[0] - at * BAR, r[2]) for r in melody if at <= r[0] // BAR < at + 4) for at in (2, 6, 10)]
    assert starts[0] == starts[2] != starts[1]
    last = [row for n in range(3) for row in rows(piece.midi, n) if row[0] + row[1] > 15 * BAR]
    assert {row[2] % 12 for row in last} <= {9, 0, 4}
    assert score.markers[-2].text == "Am"
    heard = mido.MidiFile(file=io.BytesIO(piece.midi.to_bytes()), charset="utf-8")
    assert len(heard.tracks) >= 3


def test_the_same_seed_gives_the_same_piece(music):
    request = Combine(bars=16, best_of=1, seed=5)
    assert music.combine(request).pieces[0].midi == music.combine(request).pieces[0].midi


@given(st.integers(FEWEST, MOST))
def test_the_usual_arrangement_has_the_bars_that_were_asked_for(bars):
    assert sum(section.bars for section in sections("", bars)) == bars


@given(st.text(max_size=60))
def test_an_arrangement_is_read_or_refused_by_name(text):
    with contextlib.suppress(UserError):
        assert FEWEST <= sum(section.bars for section in sections(text)) <= MOST


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda clip: Combine(arrangement="intro 4, C minor"), "'C minor' at column 10 is no section"),
        (lambda clip: Combine(arrangement="A 8"), "its sections have 8 bars; a piece has 16 to 64"),
        (lambda clip: Combine(arrangement="A 8, A 4, B 8"), "section A has 4 and 8 bars"),
        (lambda clip: Combine(arrangement="A 8, B 8", bars=32), "its sections have 16 bars, and bars is 32"),
        (lambda clip: Combine(arrangement="intro 8, outro 8"), "no section with a letter"),
        (lambda clip: Combine(roles="main_melody, basso"), "did you mean bass"),
        (lambda clip: Infill(midi=clip, first=6, last=5), "first 6 is behind last 5"),
        (lambda clip: Accompany(roles="bass"), "needs music"),
        (lambda clip: Accompany(midi=clip, bpm=90), "bpm is the file's"),
    ],
)
def test_a_wrong_request_is_named_with_what_would_work(clip, make, words):
    with pytest.raises(ValidationError, match=words):
        make(clip)


def test_what_the_file_does_not_have_is_refused(music, clip):
    with pytest.raises(UserError, match="the clip has 8 bars"):
        music.infill(Infill(midi=clip, first=8, last=9))
    with pytest.raises(UserError, match="at most 7 bars are filled in at once"):
        music.infill(Infill(midi=clip, first=1, last=8))
    whole = write(*song(1))
    with pytest.raises(UserError, match=r"3 tracks with notes; name one by --track: 1 \(main_melody\)"):
        music.continue_(Continue(midi=whole))
    with pytest.raises(UserError, match="no track 4"):
        music.continue_(Continue(midi=whole, track=4))
    plain = Music(MusicConfig(net=NET.model_copy(update={"numbered": False})))
    with pytest.raises(UserError, match="were not taught to infill"):
        plain.infill(Infill(midi=clip, first=1, last=2))


def test_a_context_numbers_its_bars_and_the_stream_goes_on_where_it_stands():
    notes = np.array([(n * 12, 12, 60 + n, 62) for n in range(16)])
    stream = T.encode(T.tidy(notes, 192), T.no_chords(), 4, 4)
    beside = context.without("bass", stream, 1, 3)
    before, middle, after = context.divided(stream, 1, 3)
    assert np.array_equal(np.concatenate([before, middle, after, [T.EOS]]), stream)
    assert beside.first == 1
    assert sorted(set(beside.marks[:, 0].tolist())) == [0, 1, 3, 4]
    assert set(beside.marks[:, 1].tolist()) == {context.OWN}
    assert context.marks(middle, beside.first)[:, 0].tolist() == sorted([2] * 17 + [3] * 17)
    assert len(beside.tokens) == len(beside.marks) == len(before) + len(after) + 4
