"""The table of `daybreak music evaluate`: its means and intervals, its rows on clips whose truth is known, and the
command from a folder of songs to JSON."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from daybreak.errors import UserError
from daybreak.lab.home import Lab
from daybreak.lab.lake import Lake
from daybreak.systems.music import classify, rules, scorecard
from daybreak.systems.music import tokens as T
from daybreak.systems.music.copies import Copies
from daybreak.systems.music.data import ingest
from daybreak.systems.music.evaluate import _spread, evaluate, note_nll
from daybreak.systems.music.model import Music, MusicConfig
from daybreak.systems.music.net import NetConfig
from daybreak.systems.music.scorecard import Clip, Values, adherence, copies, diversity, taught

ASKED = {
    "bpm": 90, "key": "C major", "metre": "4/4", "bars": 4, "role": "main_melody", "pitch_range": "mid",
    "density": "sparse", "rhythm": "standard", "min_velocity": 60, "max_velocity": 80,
}  # fmt: skip


def clip(n=0, group="song", pitch=64, velocity=70, **asked):
    notes = np.array([(24 * k, 12, pitch + k % 3, velocity) for k in range(8)])
    chords = np.array([[0, 0, 0]])
    return Clip(f"{group}#{n}", group, {**ASKED, **asked}, notes, chords)


def test_an_estimate_is_the_plain_mean_with_an_interval_over_songs():
    values = Values()
    draw = np.random.default_rng(0)
    for song in range(40):
        values.add(f"song {song}", draw.random(int(draw.integers(1, 5))) < 0.7)
    found = values.estimate()
    assert found.value == pytest.approx(sum(values.values) / len(values.values))
    assert 0 < found.low < found.value < found.high < 1
    assert (found.count, found.groups) == (len(values.values), 40)
    by_clip = math.sqrt(found.value * (1 - found.value) / found.count)
    assert 2 < (found.high - found.low) / by_clip < 8


def test_a_share_of_all_or_none_is_no_certainty_and_few_songs_have_no_interval():
    certain = Values([1.0] * 60, [str(n) for n in range(60)]).estimate()
    assert certain.value == certain.high == 1
    assert certain.low == pytest.approx(60 / (60 + 1.96**2), abs=1e-6)  # Wilson's lower end for 60 of 60
    few = Values([0.0, 1.0], ["a", "b"]).estimate()
    assert (few.low, few.high) == (0, 1)
    assert Values().estimate() is None
    assert Values([math.nan, 2.0], ["a", "b"]).estimate(share=False).count == 1


def test_rows_say_where_clips_keep_and_where_they_break_what_was_asked():
    real = [clip(group=f"song {n}") for n in range(6)]
    high = [clip(group=f"song {n}", pitch=90, velocity=100 if n else 70) for n in range(6)]
    rows = {row.measure: row for row in adherence(high, real)}
    assert [rows[name].real.value for name in ("CP", "CV note", "CV clip", "density")] == [1, 1, 1, 1]
    assert rows["CP"].composed.value == 0
    assert rows["CV clip"].composed.value == rows["CV note"].composed.value == pytest.approx(1 / 6)
    assert rows["CV note"].composed.count == 48
    # 64, 65, 66 in turn: two of eight notes are F sharp over C, a quarter long and on the grid.
    assert rows["CH strict"].real.value == pytest.approx(6 / 8)
    assert rows["CH as published"].real.value == 1


def test_copies_and_diversity_are_those_of_their_own_definitions():
    row, notes = T.row(metre="4/4", bars=4), np.array([(6 * k, 6, 60 + k * k % 17, 70) for k in range(20)])
    stream = T.encode(notes, T.no_chords(), 4, 4)
    index = Copies.of([{"tokens": stream, "offsets": np.array([0, len(stream)]), "keywords": row[None]}])
    copied = Clip("a#0", "a", ASKED, notes + np.array([0, 0, 5, 0]), T.no_chords())
    rows = copies(index, [copied, clip()], [clip()])
    assert rows[0].composed.value == 0.5
    assert rows[0].real.value == 0
    assert rows[1].measure == "near-copies, main_melody"
    assert copies(None, [copied], [clip()])[0].composed is None
    same = diversity([[clip(0), clip(1)]], [clip(group="a"), clip(group="b", pitch=65)])
    assert same.composed.value == pytest.approx(0)
    assert same.real.value > 0


def test_a_classifier_taught_by_clips_of_the_right_kind_knows_real_ones_and_by_the_wrong_kind_does_not():
    draw = np.random.default_rng(0)

    def kind(role, count, start):
        low, length = (40, 24) if role == "bass" else (70, 6)
        return [
            Clip(f"{role}#{start + n}", f"song {start + n}", {**ASKED, "role": role, "pitch_range": role},
                 np.stack([np.arange(8) * 24, np.full(8, length), draw.integers(low, low + 12, 8), np.full(8, 70)], 1),
                 T.no_chords())
            for n in range(count)
        ]  # fmt: skip

    real, held_out = kind("bass", 8, 0) + kind("pad", 8, 0), kind("bass", 8, 50) + kind("pad", 8, 50)
    right = taught(kind("bass", 8, 90) + kind("pad", 8, 90), real, held_out + real)
    assert [row.measure for row in right] == ["CAS role", "CAS pitch range"]
    assert right[0].composed.value == right[0].real.value == 1
    assert right[0].composed.count == 16  # the clips that were composed for are not tested on
    swapped = [
        Clip(one.item, one.group, {**one.asked, "role": "pad" if one.asked["role"] == "bass" else "bass"}, one.notes,
             one.chords)
        for one in real
    ]  # fmt: skip
    assert taught(swapped, real, held_out)[0].composed.value == 0
    assert classify.features(real[0].notes, 4, 4).shape == (47,)


def test_clips_are_spread_over_songs_and_roles():
    held = [
        (clip(n, f"song {song}", role=role), None, None)
        for song in range(4)
        for n, role in enumerate(("main_melody", "accompaniment") * 3)
    ]
    items = [type("Item", (), {"group": f"song {song}"})() for song in range(4)]
    first = [one for one, _, _ in _spread(items, held, 4)]
    assert len({one.group for one in first}) == 4
    assert sorted(one.asked["role"] for one in first) == ["accompaniment"] * 2 + ["main_melody"] * 2
    every = _spread(items, held, 99)
    assert len({one.item for one, _, _ in every}) == len(held)


def test_note_nll_is_the_plain_mean_over_note_tokens():
    torch.manual_seed(0)
    table = torch.randn(T.STREAM, T.STREAM, dtype=torch.float64)
    stream = np.array([T.BAR, T.CHORD + 3, T.POSITION, T.PITCH + 60, T.VELOCITY + 9, T.DURATION + 5, T.EOS])
    found = note_nll(lambda keywords, tokens: table[tokens], np.array([1, 2]), stream)
    plain = []
    for before, after in itertools.pairwise(stream):
        if after < T.CHORD:
            scores = [math.exp(value) for value in table[before].tolist()]
            plain.append(-math.log(scores[after] / sum(scores)))
    assert found == pytest.approx(sum(plain) / len(plain))


def test_from_a_folder_of_songs_to_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scorecard, "SAMPLES", 3)
    songs = tmp_path / "songs"
    songs.mkdir()
    for n, draft in enumerate(rules.songs(24)):
        (songs / f"{n}.mid").write_bytes(draft.parts["mid"])
    monkeypatch.setenv("DAYBREAK_LAB", str(tmp_path / "lab"))
    lab = Lab.open()
    lake = Lake.open(lab)
    lake.add("music", ingest(songs), source="test", licence="MIT")
    snapshot = lake.snapshot("music")
    lake.close()
    net = NetConfig(layers=1, width=32, heads=2, inner=64, context=256, numbered=True)
    folder = str(Music(MusicConfig(net=net)).save(tmp_path / "model"))
    with pytest.raises(UserError, match="does not say on which snapshot it was trained; name one by --snapshot"):
        evaluate(model=folder)
    evaluate(model=folder, snapshot=snapshot.id, split="test", n=2, best_of=1, json=True)
    told = json.loads(capsys.readouterr().out)
    rows = {row["measure"]: row for row in told["rows"]}
    assert told["clips"] == 2
    for name in ("valid", "bars", "bpm", "metre", "chords", "order", "CV clip"):
        assert rows[name]["composed"]["value"] == 1, rows[name]
    assert rows["order KL"]["composed"]["value"] < 1e-6
    assert rows["near-copies"]["composed"] is None
    assert {row["system"] for row in told["published"]} >= {"Text2midi", "MuseCoco"}
    (reading,) = [json.loads(line) for line in (lab.registry / "readings.jsonl").read_text().splitlines()]
    assert reading["snapshot"] == snapshot.id
    assert reading["values"]["valid"] == 1


def test_without_a_lab_or_its_songs_the_command_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("DAYBREAK_LAB", str(tmp_path / "lab"))
    net = NetConfig(layers=1, width=32, heads=2, inner=64, context=256)
    folder = Music(MusicConfig(net=net)).save(tmp_path / "model")
    with pytest.raises(UserError, match=r"no lab here.*daybreak lake add music PATH.*--snapshot music"):
        evaluate(model=str(folder))
    Lab.open()
    (folder / "record.json").write_text(json.dumps({"snapshot": "a417220a58541362"}))
    with pytest.raises(UserError, match="trained on snapshot a417220a58541362, which is not in this lab; make one"):
        evaluate(model=str(folder))
    with pytest.raises(UserError, match="n is 1 or more, not 0"):
        evaluate(n=0)
