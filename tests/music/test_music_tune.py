"""Tuning's promises: it learns a known taste, resumes to the same bits, and refuses another base."""

import dataclasses
import pickle
import shutil

import numpy as np
import pytest
import torch

from daybreak.errors import UserError
from daybreak.lab import checkpoint
from daybreak.lab.derive import new_run, plan
from daybreak.lab.evaluate import scores
from daybreak.lab.lake import Lake
from daybreak.lab.model import Model
from daybreak.lab.train import train
from daybreak.systems.music import context
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data.votes import Made, Pair, draft
from daybreak.systems.music.decode import decoder, sample
from daybreak.systems.music.model import Music, MusicConfig, of_stream
from daybreak.systems.music.net import NetConfig
from daybreak.systems.music.pairs import rules_of
from daybreak.systems.music.tune import Tune, TuneConfig, Voted, batch_of, decided, log_probabilities, voted

NET = NetConfig(layers=1, width=32, heads=2, inner=64, context=128, numbered=True)
VALUES = {"metre": "4/4", "bars": 2, "min_velocity": 10, "max_velocity": 25, "chords": "without"}
ROWS = [T.row(bpm=bpm, role=role, **VALUES) for bpm in range(40, 200, 10) for role in ("bass", "riff", "pad")]


def sparse(stream):
    """The taste: few notes, which no keyword of these rows asks for."""
    return -len(T.decode(stream, 4)[0])


def drafts(net, rows, given=False, name="net"):
    streams = sample(net, [row for row in rows for _ in range(2)], rules_of(rows[0], 2), 0)
    for n, row in enumerate(rows):
        a, b = streams[2 * n : 2 * n + 2]
        clips = {s: Made(name, "", x, of_stream(row, x).to_bytes()) for s, x in (("a", a), ("b", b))}
        choice = "none" if sparse(a) == sparse(b) else "a" if sparse(a) > sparse(b) else "b"
        yield draft(Pair(f"{n:010x}", row, given, f"request {n}", "", clips), "0" * 12, choice, "listener", "2026")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.manual_seed(0)
    config = MusicConfig(net=NET, templates=[row.tolist() for row in ROWS])
    return Music(config, net=decoder(NET).eval()).save(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def votes(base):
    return list(drafts(Music.load(base).net, ROWS))


@pytest.fixture
def voted_on(lab, votes):
    """The votes of a listener with a taste, in a lake."""
    lake = Lake.open(lab)
    lake.add("music", votes, licence="Private")
    return lake.snapshot("music")


def run_of(lab, base, data, *flags):
    flags = [f"--base={base}", "--checkpoint=0", *flags]
    return new_run(lab, plan(lab, "music:tune", flags), snapshot=data.id, threads=1)


def weights(run):
    return (run.path / "final" / "weights.safetensors").read_bytes()


def test_it_learns_a_taste_that_it_was_not_told(lab, base, voted_on):
    run = run_of(lab, base, voted_on, "--lr=0.01", "--steps=24", "--warmup=2", "--normalise", "--samples=1")
    assert train(lab, run, progress=False) == "finished"
    metrics = run.metrics()
    assert metrics[0]["validation/preferred"] == 0.5
    assert metrics[-2]["loss"] < 0.5 * np.log(2)
    assert run.result()["goal"] == {"name": "preferred", "value": run.result()["values"]["validation/preferred"]}
    assert run.result()["goal"]["value"] > 0.6
    tuned, before = Model.load(run.path / "final"), Music.load(base)
    assert tuned.config == before.config
    rows = [T.row(bpm=bpm, role="sub_melody", **VALUES) for bpm in range(40, 240, 5)]
    new, old = (sample(model.net, rows, rules_of(rows[0], 2), 1) for model in (tuned, before))
    assert np.mean([sparse(a) > sparse(b) for a, b in zip(new, old, strict=True)]) >= 0.7
    (shown,) = [row for row in run.scores(24) if row.sample]
    assert set(shown.sample) == set(shown.natural) == {"sound", "roll"}


def test_a_run_that_was_stopped_ends_with_the_same_bits(lab, base, voted_on):
    whole, cut = (run_of(lab, base, voted_on, "--steps=6", "--batch=4", "--samples=0") for _ in range(2))
    assert train(lab, whole, progress=False) == "finished"
    assert train(lab, cut, deadline=1.0, progress=False) == "deadline"
    assert 0 < cut.state().step < 6
    assert train(lab, cut, progress=False) == "finished"
    assert weights(cut) == weights(whole)
    assert cut.metrics() == whole.metrics()


def test_a_resumed_run_finds_its_base_again_and_refuses_another(lab, base, voted_on, tmp_path):
    usual = tmp_path / "usual"
    shutil.copytree(base, usual)
    recipe = Tune(TuneConfig(base=str(usual)), voted_on)
    tree = checkpoint.gather(recipe)
    assert set(tree["nets"]) == {"net"}  # the reference is not written into each checkpoint
    torch.manual_seed(1)
    other = Music(MusicConfig(net=NET), net=decoder(NET).eval()).save(tmp_path / "other")
    again = Tune(TuneConfig(base=str(other)), voted_on)
    checkpoint.restore(again, tree)
    assert again.base.path == usual
    assert torch.equal(again.base.model.net.embedding.weight, recipe.base.model.net.embedding.weight)
    shutil.copy(other / "weights.safetensors", usual / "weights.safetensors")
    with pytest.raises(UserError, match="has other weights than when this run began"):
        checkpoint.restore(Tune(TuneConfig(base=str(usual)), voted_on), tree)


def test_a_batch_is_pure_in_seed_and_step_and_survives_pickling(voted_on):
    batches = Tune.batches(TuneConfig(batch=4), voted_on)
    first = batches(3)
    batches(9)
    for other in (batches(3), pickle.loads(pickle.dumps(batches))(3)):
        assert other.items == first.items == batches.items(3)
        assert all(torch.equal(other.tensors[name], value) for name, value in first.tensors.items())
    assert Tune.batches(TuneConfig(batch=4, seed=1), voted_on).items(3) != first.items


def test_the_preferred_clip_stands_first_and_given_chords_are_not_learned(voted_on):
    items = decided(voted_on.split("train"))
    votes = [voted(item, voted_on) for item in items[:3]]
    for vote in votes:
        assert sparse(vote.streams[0]) > sparse(vote.streams[1])
    chord = np.array([T.BAR, T.CHORD, T.POSITION, T.PITCH + 60, T.VELOCITY + 12, T.DURATION, T.EOS], np.int16)
    kinds = [Voted(items[0], votes[0].row, (chord, chord), given) for given in (True, False)]
    learned = batch_of(kinds)["learned"]
    assert learned[0, 0, :7].tolist() == [True, False, True, True, True, True, True]
    assert learned[1, 0, :7].all()
    assert not learned[:, :, 7:].any()


def test_log_probabilities_are_the_networks_own_and_padding_changes_nothing(base, voted_on):
    net = Music.load(base).net
    votes = [voted(item, voted_on) for item in decided(voted_on.split("train"))[:4]]
    together = log_probabilities(net, batch_of(votes))
    for vote, row in zip(votes, together, strict=True):
        assert torch.allclose(log_probabilities(net, batch_of([vote]))[0], row, atol=1e-3)
    stream = torch.from_numpy(votes[0].streams[0].astype(np.int64))[None]
    keywords = torch.from_numpy(votes[0].row.astype(np.int64) + T.OFFSETS)[None]
    marks = torch.from_numpy(context.marks(votes[0].streams[0]))[None]
    logs = net(keywords, stream, marks).log_softmax(-1)[0, :-1].gather(1, stream[0, 1:, None]).sum()
    assert float(logs) == pytest.approx(float(together[0, 0]), abs=1e-3)


def test_before_the_first_update_the_reward_is_nothing(base, voted_on):
    for normalise in (False, True):
        recipe = Tune(TuneConfig(base=str(base), normalise=normalise, samples=0), voted_on)
        found = list(scores(recipe, recipe.items("train")[:3]))
        assert [score.values["margin"] for score in found] == [0.0] * 3
        assert [score.values["preferred"] for score in found] == [0.5] * 3
        assert [score.group for score in found] == [item.group for item in recipe.items("train")[:3]]


def test_what_cannot_be_learned_from_is_said(lab, base, votes, voted_on, tmp_path):
    empty = Lake.open(tmp_path / "empty")
    undecided = [dataclasses.replace(vote, labels={**vote.labels, "winner": "none"}) for vote in votes[:2]]
    empty.add("music", undecided, licence="Private")
    with pytest.raises(UserError, match="there is no vote to learn from in the training split"):
        Tune.batches(TuneConfig(), empty.snapshot("music"))(0)
    with pytest.raises(UserError, match="is no registered model, run or folder"):
        Tune(TuneConfig(base="musik2"), voted_on)
    short = NET.model_copy(update={"context": 64})
    small = Music(MusicConfig(net=short), net=decoder(short).eval()).save(tmp_path / "small")
    recipe = Tune(TuneConfig(base=str(small)), voted_on)
    longest = max(decided(voted_on.split("train")), key=lambda item: max(map(len, voted(item, voted_on).streams)))
    with pytest.raises(UserError, match=r"has a clip of \d+ tokens, and the context of .* holds 64"):
        recipe.step(batch_of([voted(longest, voted_on)]), 0)


def test_a_vote_of_another_vocabulary_is_refused(voted_on, monkeypatch):
    monkeypatch.setattr("daybreak.systems.music.data.votes.LAYOUT", [])
    item = decided(voted_on.split("train"))[0]
    with pytest.raises(UserError, match="was written with another vocabulary"):
        voted(item, voted_on)
