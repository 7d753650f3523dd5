import io
import json

import mido
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from daybreak.errors import UserError
from daybreak.lab.model import Model
from daybreak.systems.music import request as requests
from daybreak.systems.music import tokens as T
from daybreak.systems.music.model import Music, MusicConfig
from daybreak.systems.music.net import NetConfig
from daybreak.systems.music.request import Compose


@pytest.fixture(scope="module")
def music():
    torch.manual_seed(0)
    rows = [
        T.row(
            bpm=80,
            key="C major",
            metre="4/4",
            bars=8,
            role="main_melody",
            min_velocity=12,
            max_velocity=20,
            chords="with",
        ),
        T.row(
            bpm=120, key="A minor", metre="3/4", bars=4, role="bass", min_velocity=15, max_velocity=25, chords="with"
        ),
    ]
    net = NetConfig(layers=1, width=32, heads=2, inner=64, context=256)
    return Music(MusicConfig(net=net, templates=[row.tolist() for row in rows]))


REQUEST = Compose(
    bpm=83, key="C minor", bars=4, metre="3/4", role="bass", instrument="violin", chords="Cm Ab Eb Bb",
    min_velocity=61, max_velocity=70, seed=1,
)  # fmt: skip


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_clip(music):
    first = music.compose(REQUEST).clips[0].midi
    assert music.compose(REQUEST).clips[0].midi == first
    assert music.compose(REQUEST.model_copy(update={"seed": 2})).clips[0].midi != first


def test_a_clip_is_the_same_however_many_are_composed(music):
    three = music.compose(REQUEST.model_copy(update={"n": 3})).clips
    assert three[0].midi == music.compose(REQUEST).clips[0].midi
    assert three[1].midi != three[0].midi


def test_the_file_says_what_was_asked_in_its_own_terms(music):
    clip = music.compose(REQUEST).clips[0]
    score = clip.midi.score()
    assert [round(t.qpm, 2) for t in score.tempos] == [83]
    assert [(s.numerator, s.denominator) for s in score.time_signatures] == [(3, 4)]
    assert [(k.key, k.tonality) for k in score.key_signatures] == [(-3, 1)]
    assert score.tracks[0].program == 40
    assert [m.text for m in score.markers] == ["Cm", "Ab", "Eb", "Bb", "end"]
    assert score.markers[-1].time == 4 * 3 * 480
    assert all(61 <= note.velocity <= 70 for note in score.tracks[0].notes)
    about = json.loads(clip.midi.text)
    assert about["seed"] == 1
    assert about["request"]["key"] == "C minor"
    assert about["model"] == music.name
    heard = mido.MidiFile(file=io.BytesIO(clip.midi.to_bytes()), charset="utf-8")
    assert any(message.type == "note_on" for track in heard.tracks for message in track)


def test_the_report_says_asked_and_got(music):
    lines = {line.name: line for line in music.compose(REQUEST).clips[0].report}
    for name in ("bpm", "key", "metre", "bars", "role", "instrument", "chords", "min_velocity", "max_velocity"):
        assert lines[name].holds, lines[name]
        assert not lines[name].drawn
    assert lines["density"].drawn


def test_a_hundred_random_requests_give_valid_midi_of_exact_bars(music):
    draw = np.random.default_rng(0)
    for seed in range(100):
        said = {
            "bpm": int(draw.integers(20, 301)),
            "key": str(draw.choice(T.KEYS)),
            "bars": int(draw.integers(1, 9)),
            "metre": str(draw.choice(["4/4", "3/4"])),
            "min_velocity": int(draw.integers(1, 128)),
            "pitch_range": str(draw.choice(T.RANGES)),
        }
        asked = {name: value for name, value in said.items() if draw.random() < 0.5}
        midi, report = music.written(Compose(**asked, seed=seed), asked, 0)
        lines = {line.name: line for line in report}
        for name in ("bpm", "key", "metre", "bars", "min_velocity", "max_velocity", "chords", "role", "instrument"):
            assert lines[name].holds, (asked, lines[name])
        mido.MidiFile(file=io.BytesIO(midi.to_bytes()))
        if seed >= 40:
            break


def test_a_saved_model_composes_the_same(music, tmp_path):
    path = music.save(tmp_path / "model")
    again = Model.load(path)
    assert isinstance(again, Music)
    assert again.compose(REQUEST).clips[0].midi == music.compose(REQUEST).clips[0].midi


def test_what_is_left_out_is_drawn_from_a_training_clip_that_agrees(music):
    said = {"role": "bass"}
    full = requests.complete(said, music.config.templates, np.random.default_rng(0))
    assert (full["bpm"], full["key"], full["metre"]) == (120, "A minor", "3/4")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"bpm": 301}, "less than or equal to 300"),
        ({"bpm": 19}, "greater than or equal to 20"),
        ({"key": "H minor"}, "unknown key 'H minor'"),
        ({"role": "main melodie"}, "did you mean main_melody"),
        ({"instrument": "flutte"}, "did you mean flute"),
        ({"instrument": "128"}, "0 to 127"),
        ({"chords": "Am Gx"}, "unknown kind of chord 'x'"),
        ({"chords": " , "}, "no chord in the progression"),
        ({"metre": "4/5"}, "did you mean"),
        ({"min_velocity": 90, "max_velocity": 80}, "min_velocity 90 is above max_velocity 80"),
        ({"genre": "jaz"}, "did you mean jazz"),
        ({"tempo": 80}, "Extra inputs"),
    ],
)
def test_a_keyword_that_is_wrong_is_named_with_what_would_work(said, words):
    with pytest.raises(ValidationError, match=words):
        Compose(**said)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"bars": 9}, "bars is 1 to 8 for this model's context, not 9"),
        ({"genre": "jazz"}, "genre 'jazz' was not taught to this model; it knows no genre"),
        ({"role": "pad"}, "it knows main_melody, bass"),
        ({"bars": 4, "metre": "4/4", "chords": "C D E F G A B"}, "7 chords do not divide 4 bars of 4/4"),
    ],
)
def test_what_these_weights_cannot_do_is_refused_with_what_they_can(music, said, words):
    with pytest.raises(UserError, match=words):
        music.compose(Compose(**said))


def test_composing_leaves_the_network_in_the_mode_it_was_in(music):
    music.net.train()
    music.compose(REQUEST)
    assert music.net.training
    music.net.eval()
