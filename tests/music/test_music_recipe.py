import math
import pickle

import numpy as np
import pytest
import torch
from music_songs import Songs

from daybreak.errors import UserError
from daybreak.lab.evaluate import scores
from daybreak.systems.music import tokens as T
from daybreak.systems.music.data import clips
from daybreak.systems.music.decode import decoder
from daybreak.systems.music.net import NetConfig
from daybreak.systems.music.recipe import BLOCK, Clips, Compose, ComposeConfig

SMALL = NetConfig(layers=1, width=32, heads=2, inner=64, context=256)
CONFIG = ComposeConfig(batch=4, net=SMALL, samples=1, warmup=5, lr=1e-2, clips_per_song=2)


@pytest.fixture(scope="module")
def data():
    return Songs()


def same(a, b):
    return a.items == b.items and all(torch.equal(a[name], b[name]) for name in a.tensors)


def test_a_batch_is_pure_in_seed_and_step(data):
    batches = Compose.batches(CONFIG, data)
    first = batches(3)
    batches(40)
    assert same(batches(3), first)
    assert same(pickle.loads(pickle.dumps(batches))(3), first)
    other = Compose.batches(CONFIG.model_copy(update={"seed": 1}), data)(3)
    assert not same(other, first)


def test_the_items_of_a_step_are_named_without_building_the_batch(data):
    batches = Compose.batches(CONFIG, data)
    assert batches.items(7) == batches(7).items
    assert all(name.split("#")[0] in {item.id for item in data.split("train")} for name in batches.items(7))


def test_what_was_loaded_is_not_pickled():
    data = Songs(4, 0)
    batches = Clips(CONFIG, data)
    before = len(pickle.dumps(batches))
    batches._drawn(0)
    data._made.clear()
    assert len(pickle.dumps(batches)) - before < 200


def test_every_clip_of_a_song_comes_before_one_comes_again(data):
    batches = Compose.batches(CONFIG.model_copy(update={"transpose": False, "drop_keywords": 0.0}), data)
    song = data.split("train")[0]
    count = len(data.derived(clips, song)["keywords"])
    # The order inside a block is by length, so whole turns are counted over many blocks.
    seen = [name for step in range(BLOCK * 40) for name in batches.items(step) if name.startswith(f"{song.id}#")]
    counts = [seen.count(f"{song.id}#{n}") for n in range(count)]
    assert max(counts) - min(counts) <= 1


def test_batches_are_padded_little(data):
    batches = Compose.batches(CONFIG, data)
    filled = [float((batches(step)["tokens"] != T.PAD).float().mean()) for step in range(BLOCK * 2)]
    assert np.mean(filled) > 0.75


def test_training_clips_are_transposed(data):
    item = data.split("train")[0]
    made = data.derived(clips, item)
    originals = {made["tokens"][a:b].tobytes() for a, b in zip(made["offsets"], made["offsets"][1:], strict=False)}
    batches = Compose.batches(CONFIG, data)
    batches(0)
    drawn = [batches._clip(0, epoch).tokens.tobytes() for epoch in range(24)]
    assert any(stream not in originals for stream in drawn)


def test_the_keywords_order_makes_no_difference():
    torch.manual_seed(0)
    net = decoder(SMALL).eval()
    keywords = torch.from_numpy(T.row(bpm=80, key="C minor", metre="4/4", bars=8).astype(np.int64) + T.OFFSETS)[None]
    tokens = torch.randint(0, T.STREAM, (1, 50))
    plain = net(keywords, tokens)
    for _ in range(20):
        shuffled = keywords[:, torch.randperm(keywords.shape[1])]
        assert (net(shuffled, tokens) - plain).abs().max() < 1e-5


def test_a_token_sees_its_past_and_the_keywords_alone():
    torch.manual_seed(0)
    net = decoder(SMALL).eval()
    keywords = torch.from_numpy(T.row().astype(np.int64) + T.OFFSETS)[None]
    tokens = torch.randint(0, T.STREAM, (1, 50))
    changed = tokens.clone()
    changed[0, 30] = (changed[0, 30] + 1) % T.STREAM
    before, after = net(keywords, tokens), net(keywords, changed)
    assert torch.equal(before[:, :30], after[:, :30])
    assert not torch.allclose(before[:, 30:], after[:, 30:])
    other = net(torch.from_numpy(T.row(bpm=80).astype(np.int64) + T.OFFSETS)[None], tokens)
    assert not torch.allclose(other[:, 0], before[:, 0])


def test_the_cache_gives_what_the_whole_gives():
    torch.manual_seed(0)
    net = decoder(SMALL).eval()
    keywords = torch.from_numpy(T.row(bpm=80).astype(np.int64) + T.OFFSETS)[None].expand(2, -1)
    tokens = torch.randint(0, T.STREAM, (2, 40))
    whole, cache = net(keywords, tokens), net.cache(2)
    parts = [net.extend(cache, tokens[:, :7], 0, keywords), net.extend(cache, tokens[:, 7:9], 7)]
    parts += [net.extend(cache, tokens[:, n : n + 1], n) for n in range(9, 40)]
    places = [6, 8, *range(9, 40)]
    for place, part in zip(places, parts, strict=True):
        assert (part - whole[:, place]).abs().max() < 1e-5


def test_training_lowers_the_held_out_nll_and_an_evaluation_has_what_a_page_shows(data):
    torch.manual_seed(0)
    recipe = Compose(CONFIG, data)
    batches = Compose.batches(CONFIG, data)
    items = data.split("validation")
    before = list(scores(recipe, items))
    for step in range(30):
        recipe._step = step
        out = recipe.step(batches(step), step)
    after = list(scores(recipe, items))
    assert recipe.goal.aggregate(after) < recipe.goal.aggregate(before) - 1.5
    assert 6.0 < recipe.goal.aggregate(before) < math.log(T.STREAM) + 0.3
    assert out["tokens"] > 0
    assert [score.item for score in before] == [score.item for score in after]
    assert len({score.item for score in after}) == len(after) == 4
    shown = [score for score in after if score.sample]
    assert len(shown) == 1
    assert set(shown[0].sample) == set(shown[0].natural) == {"sound", "roll"}
    assert shown[0].natural["sound"] == next(s for s in before if s.sample).natural["sound"]
    assert shown[0].values["validity"] == 1.0


def test_an_evaluation_that_goes_on_in_its_midst_gives_the_same_scores(data):
    torch.manual_seed(0)
    recipe = Compose(CONFIG.model_copy(update={"samples": 2}), data)
    items = data.split("validation")
    whole = list(scores(recipe, items))
    rest = list(scores(recipe, items[1:], done=2))
    assert [(s.item, s.values) for s in whole[2:]] == [(s.item, s.values) for s in rest]
    assert whole[2:][-1].item == rest[-1].item
    assert [s.sample for s in whole[2:]] == [s.sample for s in rest]


def test_a_learning_rate_of_1_diverges(data):
    torch.manual_seed(0)
    config = CONFIG.model_copy(update={"lr": 1.0, "schedule": "constant", "warmup": 0})
    recipe, batches = Compose(config, data), Compose.batches(config, data)
    losses = []
    for step in range(12):
        recipe._step = step
        losses.append(float(recipe.step(batches(step), step)["loss"]))
    assert not max(losses[4:]) < 2 * losses[0]


def test_items_without_a_clip_are_named_as_the_reason():
    data = Songs(2, 0)
    for item in data.split("train"):
        made = data.derived(clips, item)
        data._made[item.id] = {**made, "keywords": made["keywords"][:0]}
    with pytest.raises(UserError, match="none of the training items has a clip"):
        Compose.batches(CONFIG, data)(0)


@pytest.mark.parametrize(
    ("preset", "low", "high"),
    [("tiny", 0.8, 1.0), ("small", 4.5, 5.5), ("seed", 11.5, 14.5), ("base", 36, 44), ("large", 280, 320)],
)
def test_presets_have_the_size_that_they_name(preset, low, high):
    with torch.device("meta"):
        net = decoder(Compose.presets[preset].net)
    assert low < sum(p.numel() for p in net.parameters()) / 1e6 < high


def test_a_snapshot_without_a_song_to_train_on_is_refused_with_what_would_help():
    with pytest.raises(UserError, match="no song to train on; daybreak lake add music"):
        Compose.batches(CONFIG, Songs(0, 1))(0)


def test_a_model_keeps_requests_of_every_role_that_its_songs_teach():
    songs = Songs()
    recipe = Compose(Compose.presets["tiny"], songs)

    def roles(rows):
        return {int(row[T.COLUMN["role"]]) for row in rows}

    taught = set().union(*(roles(clips_of["keywords"]) for clips_of in map(recipe_clips(songs), songs.split("train"))))
    assert roles(recipe._templates()) == taught


def recipe_clips(songs):
    return lambda item: songs.derived(clips, item)
