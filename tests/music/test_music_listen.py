"""The listening page's promises: blind, offline, and its votes come home once."""

import contextlib
import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.cli.front import call
from daybreak.errors import UserError
from daybreak.lab.lake import Lake
from daybreak.media.audio import Audio
from daybreak.media.midi import Midi
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data import clips, only_songs
from daybreak.systems.music.data.votes import REAL, Made, streams
from daybreak.systems.music.decode import decoder
from daybreak.systems.music.listen import listen, page
from daybreak.systems.music.listen.keys import Key, folder
from daybreak.systems.music.listen.votes import read
from daybreak.systems.music.model import Music, MusicConfig, of_stream
from daybreak.systems.music.net import NetConfig
from daybreak.systems.music.pairs import _pair
from daybreak.systems.music.recipe import Compose, ComposeConfig
from daybreak.systems.music.rules import songs
from daybreak.systems.music.shares import wilson

sys.path.insert(0, str(Path(__file__).parents[1] / "lab"))
from browser import CHROMIUM, browser

NET = NetConfig(layers=1, width=32, heads=2, inner=64, context=128)


def saved(path, seed=0):
    torch.manual_seed(seed)
    rows = [
        T.row(bpm=bpm, key="C minor", metre="4/4", bars=4, role=role, min_velocity=12, max_velocity=20, chords="with")
        for bpm in (80, 90, 100)
        for role in ("main_melody", "bass")
    ]
    config = MusicConfig(net=NET, templates=[row.tolist() for row in rows])
    return str(Music(config, net=decoder(NET).eval()).save(path))


@pytest.fixture(autouse=True)
def short_sounds(monkeypatch):
    """The first tenth of a second of each clip's first note: playing whole ones takes most of a page's time."""
    whole = page.sound_of

    def first(midi, rate):
        score = midi.score()
        for track in score.tracks:
            track.notes = track.notes[:1]
            track.notes[0].time = 0
        sound = whole(Midi.of(score), rate)
        return Audio(sound.samples[: rate // 10], rate)

    monkeypatch.setattr(page, "sound_of", first)


@pytest.fixture
def model(tmp_path):
    return saved(tmp_path / "model")


@pytest.fixture(scope="module")
def twelve():
    return list(songs(12))


@pytest.fixture
def songs_in(lab, twelve):
    lake = Lake.open(lab)
    lake.add("music", twelve, licence="CC0-1.0")
    return lake


def made(lab):
    """The key and the page that the lab holds."""
    (path,) = (lab.root / "listening").glob("*/key.json")
    return Key.open(path), (path.parent / "index.html").read_text()


def votes_file(path, key, choices, **more):
    votes = {id: {"choice": choice, "at": "2026-11-25T08:00:00.000Z"} for id, choice in choices.items()}
    path.write_text(json.dumps({"format": 1, "key": key.key, "by": "Ada", "votes": votes, **more}))
    return path


def side_of(pair, maker):
    return next(side for side, clip in pair.clips.items() if clip.maker == maker)


def items(lake):
    return list(lake.items("music", where={"kind": "vote"}))


def test_the_page_is_blind_offline_and_the_same_for_the_same_seed(lab, songs_in, model, tmp_path):
    for n in (1, 2):
        listen(count=2, model=model, split="train", seed=3, out=tmp_path / str(n))
    text = (tmp_path / "1" / "index.html").read_text()
    assert text == (tmp_path / "2" / "index.html").read_text()
    key = Key.open(tmp_path / "1" / "key.json")
    assert text.count("data:audio/mpeg;base64,") == text.count("data:image/svg+xml;base64,") == 4
    assert "http" not in re.sub(r"http-equiv", "", text)
    bare = re.sub(r"data:[\w/+]+;base64,[\w+/=]+", "", text)
    assert key.key in bare
    for pair in key.pairs.values():
        assert pair.id in bare
        assert {clip.maker for clip in pair.clips.values()} == {REAL, *key.models}
        for clip in pair.clips.values():
            assert clip.title not in bare
            assert clip.maker == REAL or clip.maker not in bare
    assert "real" not in bare.lower()
    listen(count=2, model=model, split="train", seed=4, out=tmp_path / "3")
    assert Key.open(tmp_path / "3" / "key.json").key != key.key


def test_both_clips_of_a_pair_obey_the_same_keywords_and_chords(lab, songs_in, model):
    listen(count=3, model=model, split="train", rolls=False)
    key, text = made(lab)
    assert "data:image/svg" not in text
    assert len({pair.group for pair in key.pairs.values()}) == 3
    for pair in key.pairs.values():
        beats = T.METRES[str(T.value(pair.row, "metre"))].beats
        a, b = (T.decode(pair.clips[side].stream, beats) for side in ("a", "b"))
        assert a[2] == b[2]
        assert np.array_equal(a[1], b[1])
        for clip in pair.clips.values():
            assert clip.midi == of_stream(pair.row, clip.stream).to_bytes()


def test_the_sides_are_drawn_evenly():
    both = [Made(REAL, "", np.zeros(1, np.int16), b"1"), Made("net", "", np.zeros(1, np.int16), b"2")]
    sides = Counter(side_of(_pair(T.row(), True, "g", "", both, (0, n)), REAL) for n in range(400))
    assert 150 < sides["a"] < 250


def test_votes_come_home_once_with_all_that_a_learner_needs(lab, songs_in, model, tmp_path, capsys):
    listen(count=3, model=model, split="train")
    key, _ = made(lab)
    pairs = list(key.pairs.values())
    (id,) = key.models
    choices = {pairs[0].id: side_of(pairs[0], id), pairs[1].id: side_of(pairs[1], REAL), pairs[2].id: "none"}
    capsys.readouterr()
    file = votes_file(tmp_path / "votes.json", key, choices)
    listen(votes=file)
    said = capsys.readouterr().out
    low, high = wilson(1, 2)
    assert "3 votes by Ada" in said
    assert "3 new" in said
    assert f"in 1 of 2 decided pairs: 50% ({low:.0%} to {high:.0%} at 95 %); 1 without a preference" in said
    listen(votes=file)
    assert "3 known" in capsys.readouterr().out
    found = items(songs_in)
    assert len(found) == 3
    for item in found:
        pair = key.pairs[item.labels["pair"]]
        assert item.labels["winner"] == choices[pair.id]
        assert {item.labels["a"], item.labels["b"]} == {REAL, id}
        assert (item.labels["by"], item.labels["at"], item.group) == ("Ada", "2026-11-25T08:00:00.000Z", pair.group)
        assert item.split == "train"
        assert item.licence == "CC0-1.0"
        row, both, given = streams(item, lambda part, item=item: songs_in.read(item, part))
        assert np.array_equal(row, pair.row)
        assert given
        for side in ("a", "b"):
            assert np.array_equal(both[side], pair.clips[side].stream)
            assert songs_in.read(item, f"{side}.mid") == pair.clips[side].midi
    # A listener who changes their mind relabels the vote; another listener's vote is one more.
    listen(votes=votes_file(file, key, {pairs[2].id: "a"}))
    assert "1 changed" in capsys.readouterr().out
    assert len(items(songs_in)) == 3
    listen(votes=file, by="Grace")
    assert len(items(songs_in)) == 4
    songs_in.snapshot("music").check()


def test_votes_are_no_songs(lab, songs_in, model, tmp_path):
    listen(pairs="generated", count=3, model=model)
    key, _ = made(lab)
    before = songs_in.snapshot("music")
    listen(votes=votes_file(tmp_path / "votes.json", key, dict.fromkeys(key.pairs, "a")))
    after = songs_in.snapshot("music")
    assert len(after) == len(before) + 3
    vote = items(songs_in)[0]
    assert len(after.derived(clips, vote)["keywords"]) == 0
    config = ComposeConfig(batch=4, net=NET, seed=1)
    for step in (0, 20):
        assert Compose.batches(config, after).items(step) == Compose.batches(config, before).items(step)
    recipe = Compose(config, after)
    for split in ("train", "validation", "test"):
        assert [item.id for item in recipe.items(split)] == [item.id for item in before.split(split)]
    assert recipe._templates() == Compose(config, before)._templates()
    assert only_songs(before.split("train"))[0].id == before.split("train")[0].id


def test_two_models_or_two_clips_of_one_can_stand_against_each_other(lab, model, tmp_path, capsys):
    other = saved(tmp_path / "other", seed=1)
    listen(pairs="generated", count=2, model=model, against=other, out=tmp_path / "page")
    key = Key.open(tmp_path / "page" / "key.json")
    first, second = key.models
    assert all({clip.maker for clip in pair.clips.values()} == {first, second} for pair in key.pairs.values())
    choices = {id: side_of(pair, second) for id, pair in key.pairs.items()}
    capsys.readouterr()
    # Beside the votes stands the key.
    listen(votes=votes_file(tmp_path / "page" / "votes.json", key, choices))
    assert f"{model} was preferred to {other} in 0 of 2 decided pairs" in capsys.readouterr().out
    listen(pairs="generated", count=2, model=model, out=tmp_path / "own")
    key = Key.open(tmp_path / "own" / "key.json")
    for pair in key.pairs.values():
        assert {clip.maker for clip in pair.clips.values()} == {first}
        assert not np.array_equal(pair.clips["a"].stream, pair.clips["b"].stream)
    listen(votes=votes_file(tmp_path / "own" / "votes.json", key, dict.fromkeys(key.pairs, "b")))
    assert "2 of 2 pairs decided; both clips of each are" in capsys.readouterr().out
    with pytest.raises(UserError, match="are the same weights"):
        listen(pairs="generated", model=model, against=model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a votes file"),
        ("[" * 100_000, "is not JSON"),
        ('{"format": 2, "key": "0123456789ab", "votes": {}}', "format: Input should be 1"),
        ('{"format": 1, "key": "../../../etc", "votes": {}}', "key: String should match"),
        ('{"format": 1, "key": "0123456789ab", "votes": {"x": {"choice": "c", "at": ""}}}', "votes.x.choice: Input"),
        (
            '{"format": 1, "key": "0123456789ab", "votes": {"x": {"choice": "a", "at": "now"}}}',
            "votes.x.at: Value error",
        ),
        (
            '{"format": 1, "key": "0123456789ab", "votes": {"x": {"choice": "a", "at": "2026-11-25T08:00:00"}}}',
            "names no time zone",
        ),
        ('{"format": 1, "key": "0123456789ab", "by": "\\u001b[31m", "votes": {}}', "control characters"),
        ('{"format": 1, "key": "0123456789ab", "votes": {}}', "whose key is neither"),
    ],
)
def test_a_votes_file_with_a_mistake_is_refused_in_one_line(lab, tmp_path, text, message):
    path = tmp_path / "votes.json"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        listen(votes=path)
    assert "\n" not in str(raised.value)
    assert not list(Lake.open(lab).items("music"))


def test_votes_of_another_page_or_about_unknown_pairs_add_nothing(lab, model, tmp_path):
    for n in (1, 2):
        listen(pairs="generated", count=2, model=model, seed=n, out=tmp_path / str(n))
    keys = [Key.open(tmp_path / str(n) / "key.json") for n in (1, 2)]
    votes = votes_file(tmp_path / "votes.json", keys[0], dict.fromkeys(keys[0].pairs, "a"))
    with pytest.raises(UserError, match=f"about page {keys[0].key}, and .* is the key of page {keys[1].key}"):
        listen(votes=votes, key=tmp_path / "2" / "key.json")
    known = next(iter(keys[0].pairs))
    votes_file(votes, keys[0], {known: "a", f"{known[:-1]}z": "b"})
    with pytest.raises(UserError, match=f"has no pair '{known[:-1]}z'; did you mean {known}"):
        listen(votes=votes, key=tmp_path / "1" / "key.json")
    with pytest.raises(UserError, match="holds no vote"):
        listen(votes=votes_file(votes, keys[0], {}), key=tmp_path / "1" / "key.json")
    with pytest.raises(UserError, match=r"is not the key of a listening page"):
        listen(votes=votes, key=votes)
    with pytest.raises(UserError, match="cannot read"):
        listen(votes=tmp_path / "gone.json")
    assert not list(Lake.open(lab).items("music"))


def test_what_cannot_be_made_is_said(lab, model):
    with pytest.raises(UserError, match="the lake has no items of 'music'"):
        listen(model=model)
    with pytest.raises(UserError, match="keeps 6 rows of keywords: --count is at most that, not 7"):
        listen(model=model, pairs="generated", count=7)
    with pytest.raises(UserError, match="--count is 1 to 100, not 0"):
        listen(count=0)
    with pytest.raises(UserError, match="--against needs --pairs generated"):
        listen(against="music")
    with pytest.raises(UserError, match="real"):
        call(listen, ["--pairs", "reel"], "music listen")
    Lake.open(lab).add("music", songs(1), licence="CC0-1.0")
    (song,) = Lake.open(lab).items("music")
    with pytest.raises(UserError, match=r"the \w+ songs have \d+ clips, --count asks for 100"):
        listen(model=model, split=song.split, count=100, rolls=False)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=80) | st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["format", "key", "votes", "by", "x"]), inner, max_size=4
    ),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_reading_arbitrary_bytes_raises_nothing_but_its_own_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("votes") / "votes.json"
    path.write_bytes(data)
    with contextlib.suppress(UserError):
        read(path)


def test_wilson_has_known_values():
    # Newcombe (1998), table I: 81 of 263 and 15 of 148.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.skipif(not CHROMIUM, reason="no chromium")
def test_a_browser_votes_by_keys_and_gives_a_file_that_comes_home(lab, model, tmp_path):
    listen(pairs="generated", count=3, model=model)
    key, _ = made(lab)
    seen = "[...document.images].filter((one) => one.getClientRects().length).length"
    with browser(tmp_path / "profile") as tab:
        tab.open(folder(lab, key.key) / "index.html")
        assert tab.ask(seen) == 0
        for keys in ("1", "l", "2", "l", "0"):
            tab.press(keys)
        assert tab.ask(seen) == 6
        tab.ask("by.value = 'Ada'; by.dispatchEvent(new Event('input'))")
        href = tab.ask("decodeURIComponent(document.getElementById('save').href.split(',').slice(1).join(','))")
        assert href == tab.ask("document.getElementById('text').value")
        assert tab.ask("document.getElementById('count').textContent") == "3"
        assert tab.complaints() == []
        assert len(tab.fetched()) == 1
        for width in (390, 1280):
            tab.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
            assert tab.ask("document.documentElement.scrollWidth") <= width
    votes = tmp_path / "votes.json"
    votes.write_text(href)
    listen(votes=votes)
    winners = {item.labels["pair"]: item.labels["winner"] for item in items(Lake.open(lab))}
    assert winners == dict(zip(key.pairs, ("a", "b", "none"), strict=True))
