import itertools
import json
import math
import pickle

import numpy as np
import pytest
import torch
from commerce_sets import Held

from daybreak.errors import UserError
from daybreak.lab.evaluate import scores
from daybreak.lab.model import Model
from daybreak.systems.commerce.catalogue import Catalogue, Row
from daybreak.systems.commerce.outfits import data
from daybreak.systems.commerce.outfits.drawn import drawn
from daybreak.systems.commerce.outfits.metrics import below, cases, filled
from daybreak.systems.commerce.outfits.model import Match, Stylist, StylistConfig, Worn
from daybreak.systems.commerce.outfits.net import (
    FIRST,
    UNKNOWN,
    NetConfig,
    OutfitNet,
    Sets,
    counts,
    encode,
    evidence,
    soft_minimum,
    without_each,
)  # fmt: skip
from daybreak.systems.commerce.outfits.pieces import Names, Outfit, Piece, vocabulary
from daybreak.systems.commerce.outfits.recipe import Outfits, OutfitsConfig

NET = NetConfig(width=16, heads=2, buckets=64)
TINY = Outfits.presets["tiny"].model_copy(update={"samples": 1})


@pytest.fixture(scope="module")
def held():
    return Held(drawn(700))


@pytest.fixture(scope="module")
def taught(held):
    """The tiny recipe, trained on drawn outfits."""
    torch.manual_seed(0)
    recipe = Outfits(TINY, held)
    batches = Outfits.batches(TINY, held)
    for step in range(TINY.steps):
        recipe._step = step
        recipe.step(batches(step), step)
    return recipe


@pytest.fixture(scope="module")
def stylist(taught):
    with taught.averaged():
        model = taught.model()
        kept = {k: v.clone() for k, v in model.net.state_dict().items()}
    own = Stylist(model.config)
    own.net.load_state_dict(kept)
    own.net.eval()
    return own


def mean(found, name):
    values = [score.values[name] for score in found if name in score.values]
    return sum(values) / len(values)


# Metrics.


def test_the_auc_of_outfits_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    real, wrong = rng.integers(0, 6, 40).astype(float), rng.integers(0, 5, 70).astype(float)
    by_pairs = [1.0 if r > w else 0.5 if r == w else 0.0 for r, w in itertools.product(real, wrong)]
    assert math.isclose(np.mean([below(r, np.sort(wrong)) for r in real]), np.mean(by_pairs))


@pytest.mark.parametrize(
    ("candidates", "credit"), [([3, 1, 2, 0], 1), ([1, 3, 2, 0], 0), ([2, 2, 1, 0], 1 / 2), ([1, 1, 1, 1], 1 / 4)]
)
def test_a_blank_counts_a_share_where_candidates_score_the_same(candidates, credit):
    assert filled(candidates) == credit


def test_neither_length_nor_its_own_pieces_tell_a_false_set(held):
    outfits = data.outfits(held, "validation")
    owner = {piece.id: outfit.name for outfit in outfits for piece in outfit.pieces}
    for case in cases(outfits, 3):
        size, own = len(case.outfit.pieces), set(case.outfit.pieces)
        assert len(case.random) == len(case.replaced) == len(case.blanks) == 3
        for one in case.random:
            assert len(one.pieces) == size == len(set(one.pieces))
            assert not own & set(one.pieces)
        for one in case.replaced:
            (new,) = set(one.pieces) - own
            assert len(one.pieces) == size
            assert owner[new.id] != case.outfit.name
        for blank in case.blanks:
            hidden, *others = blank.candidates
            assert hidden == case.outfit.pieces[blank.place]
            assert hidden not in blank.rest
            assert len(blank.rest) == size - 1
            assert all(owner[piece.id] != case.outfit.name for piece in others)
            assert {piece.category for piece in blank.same} <= {hidden.category}


def test_what_is_asked_depends_on_the_split_alone(held):
    outfits = data.outfits(held, "validation")
    again = {case.outfit.name: case for case in cases(outfits)}
    assert all(again[case.outfit.name] == case for case in cases(outfits))
    assert any(a.random != b.random for a, b in zip(cases(outfits), cases(outfits, seed=1), strict=True))


def test_a_score_of_nothing_is_chance():
    """Sets of one law, real or not, cannot be told apart."""
    rng = np.random.default_rng(3)
    outfits = [Outfit(str(n), tuple(Piece(f"{n}_{m}", str(rng.integers(5))) for m in range(4))) for n in range(300)]
    draw = np.random.default_rng(4)
    asked = cases(outfits, 2)
    wrong = np.sort(draw.random(600))
    assert abs(np.mean([below(draw.random(), wrong) for _ in asked]) - 0.5) < 0.06
    popular = [filled([0.0 if p.category == "1" else 1.0 for p in b.same]) for c in asked for b in c.blanks if b.same]
    assert set(popular) == {0.25}  # of one category, a category tells nothing


def test_too_few_outfits_to_judge_by_are_told():
    with pytest.raises(UserError, match="only 2 pieces"):
        cases([Outfit("a", (Piece("1", "x"), Piece("2", "y"))), Outfit("b", (Piece("3", "x"), Piece("4", "y")))])


# The network.


def test_the_evidence_of_pairs_is_their_count_over_chance():
    outfits = [
        Outfit(str(n), tuple(Piece(f"{n}{c}", c) for c in word)) for n, word in enumerate(["ab", "ab", "ac", "bb"])
    ]
    names = Names(["a", "b", "c"])
    together = counts(outfits, names)[FIRST:, FIRST:]
    assert together.tolist() == [[0, 2, 1], [2, 2, 0], [1, 0, 0]]
    found = evidence(together, 0.5)
    a, b = 3, 4  # how often each stands in a pair
    assert math.isclose(found[0, 1], math.log((2 + 0.5) / (a * b / 8 + 0.5)))
    assert found[2, 2] < 0
    assert np.array_equal(found, found.T)


def test_pairs_come_from_training_outfits_only(held):
    recipe = Outfits(TINY, held)
    train = data.outfits(held, "train")
    want = counts(train, Names(vocabulary(train)))
    assert np.array_equal(recipe.net.together.numpy(), want)


def fresh(names, seed=0):
    torch.manual_seed(seed)
    net = OutfitNet(NET, len(names))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    net.pairs[FIRST:, FIRST:].normal_()
    net.words[1:] = 1
    return net.eval()


PIECES = [Piece("1", "a", "red x"), Piece("2", "b"), Piece("3", "c", "blue"), Piece("4", "a")]


def test_the_order_of_pieces_and_padding_make_no_difference():
    names = Names(["a", "b", "c"])
    net = fresh(names)
    plain = net.score(encode([PIECES], names, NET))
    for order in itertools.permutations(PIECES):
        assert torch.allclose(net.score(encode([order, [*PIECES, *PIECES]], names, NET))[:1], plain, atol=1e-5)


def test_a_piece_is_judged_by_the_others_alone():
    names = Names(["a", "b", "c"])
    net = fresh(names)
    sets = encode([PIECES], names, NET)
    rest = without_each(sets)
    for n in range(4):
        others = [piece for m, piece in enumerate(PIECES) if m != n]
        assert rest.category[n].tolist() == encode([others], names, NET).category[0].tolist()
        query = net(encode([others], names, NET))
        alone = net.fit(query, encode([[PIECES[n]]], names, NET))[0, 0]
        assert torch.allclose(net.pieces(sets)[0, n], alone, atol=1e-5)


def test_what_fits_is_a_ratio_of_probabilities():
    names = Names(["a", "b", "c"])
    net = fresh(names)
    net.prior.copy_(torch.tensor([0.0, 0.0, 0.5, 0.3, 0.2]).log())
    kinds = net(encode([PIECES], names, NET)).kinds[0]
    assert torch.isclose((kinds + net.prior)[FIRST:].exp().sum(), torch.tensor(1.0))
    assert kinds[:FIRST].tolist() == [0, 0]


def test_a_word_that_was_never_taught_says_nothing():
    names = Names(["a", "b"])
    net = OutfitNet(NET, 2).eval()
    with_, without = [Piece("1", "a", "zebra"), Piece("2", "b")], [Piece("1", "a"), Piece("2", "b")]
    assert torch.equal(net.score(encode([with_], names, NET)), net.score(encode([without], names, NET)))


def test_a_product_embedding_is_read_where_there_is_one():
    names, config = Names(["a", "b"]), NET.model_copy(update={"product": 3})
    torch.manual_seed(0)
    net = OutfitNet(config, 2).eval()
    seen = [Piece("1", "a", "", (1.0, 0.0, 0.0)), Piece("2", "b")]
    sets = encode([seen, [piece._replace(product=()) for piece in seen]], names, config)
    features = net.features(sets)
    assert features[0, 0].abs().sum() > 0
    assert features[1].abs().sum() == 0


def test_the_soft_minimum_lies_between_worst_and_mean():
    values, inside = torch.tensor([[1.0, -2.0, 0.5, 9.0]]), torch.tensor([[True, True, True, False]])
    assert torch.isclose(soft_minimum(values, inside, 1e-3)[0], torch.tensor(-2.0), atol=0.01)
    assert torch.isclose(soft_minimum(values, inside, 1e4)[0], values[0, :3].mean(), atol=0.01)
    once, twice = soft_minimum(values, inside, 2.0), soft_minimum(values.repeat(1, 2), inside.repeat(1, 2), 2.0)
    assert torch.isclose(once, twice)


# The recipe.


def test_a_batch_is_pure_and_names_its_items(held):
    batches = Outfits.batches(TINY, held)
    first = batches(3)
    batches(40)
    for again in (batches(3), pickle.loads(pickle.dumps(batches))(3)):
        assert again.items == first.items == batches.items(3)
        assert all(torch.equal(again[name], first[name]) for name in first.tensors)
    assert set(first.items) <= {item.id for item in held.split("train")}


def test_it_finds_the_rules_of_drawn_outfits_and_beats_pairs_where_titles_tell(taught, held):
    pairs = Outfits(TINY.model_copy(update={"ema": 0.0}), held)
    torch.nn.init.zeros_(pairs.net.offer.weight)  # a category alone, as before anything is learned of titles
    before = list(scores(pairs, pairs.items("validation")))
    with taught.averaged():
        after = list(scores(taught, taught.items("validation")))
    assert mean(after, "AUC random") > 0.9
    assert mean(after, "FITB") > 0.6
    assert mean(after, "FITB same category") > mean(before, "FITB same category") + 0.3
    assert mean(before, "FITB same category") == pytest.approx(0.25)  # a category cannot tell


def test_a_score_is_per_outfit_and_the_goal_is_the_mean_of_three(taught, held):
    found = list(scores(taught, taught.items("validation")))
    assert len({score.group for score in found}) == len(found) == len(taught.items("validation"))
    for score in found:
        parts = [score.values[name] for name in ("AUC random", "AUC one replaced", "FITB")]
        assert score.values["compatibility"] == pytest.approx(np.mean(parts))
    assert found[0].sample["outfit"].html().startswith("<svg")
    assert not found[1].sample


def test_scores_of_a_part_are_those_of_the_whole(taught):
    items = taught.items("validation")
    whole = {score.item: score.values for score in scores(taught, items)}
    assert all(score.values == whole[score.item] for score in scores(taught, items[5:9], 5))


def test_a_snapshot_without_outfits_says_so():
    with pytest.raises(UserError, match="no outfit to train on"):
        Outfits(TINY, Held([]))


def test_a_rare_category_is_unknown(held):
    names = Outfits.batches(OutfitsConfig(least=100), held).names()
    assert 0 < len(names) < len(Outfits.batches(OutfitsConfig(), held).names())
    assert encode([[Piece("1", "never seen")]], names, NET).category[0, 0] == UNKNOWN


# The model.


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    catalogue = Catalogue.create(tmp_path_factory.mktemp("shop") / "c", "toy", {"product": 4})
    rows = [
        Row("s1", category="Sneakers", title="white sneakers", price=50.0, tags={"colour": ("white",)}),
        Row("s2", category="sneaker", title="red sneakers", price=80.0, tags={"colour": ("red",)}),
        Row("p1", category="Pumps", title="black pumps", price=90.0, tags={"colour": ("black",)}),
        Row("t1", category="T-Shirts", title="white t-shirts", price=20.0, tags={"colour": ("white",)}),
        Row("x1", category="Spaceships", title="large", price=9e6),
        *(Row(f"h{n}", category="Hats", title="", price=10.0) for n in range(5)),
    ]
    vectors = np.eye(4, dtype=np.float32)[np.arange(len(rows)) % 4]
    with catalogue.writing() as writer:
        writer.add(rows, {"product": vectors})
    return catalogue


@pytest.fixture
def opened(stylist, shop):
    stylist.catalogue = shop
    yield stylist
    stylist.catalogue = None


def test_match_completes_an_outfit_from_the_catalogue_and_says_why(opened):
    found = opened.match(Match(items=("t1",), wear=("shorts",), k=3))
    assert found.hits[0].category in ("Sneakers", "sneaker", "Hats")
    assert "t1" not in [hit.id for hit in found.hits]
    why = found.hits[0].why
    assert [one.lift for one in why] == sorted((one.lift for one in why), reverse=True)
    assert why[0].lift > 1
    assert any("Spaceships (1)" in note for note in found.notes)


def test_match_keeps_to_what_is_wanted_and_to_the_filters(opened):
    wanted = opened.match(Match(wear=("t-shirt",), want=("sneakers",)))
    assert {hit.id for hit in wanted.hits} == {"s1", "s2"}
    filtered = opened.match(Match(wear=("t-shirt",), want=("sneakers",), where=("colour=red",), lowest=60))
    assert [hit.id for hit in filtered.hits] == ["s2"]
    cheap = opened.match(Match(wear=("t-shirt",), highest=60))
    assert cheap.hits
    assert all(hit.price <= 60 for hit in cheap.hits)


def test_match_gives_few_of_one_category_and_says_how_many_it_cannot_tell_apart(opened):
    found = opened.match(Match(wear=("t-shirt", "leggings"), each=2, k=50))
    hats = [hit for hit in found.hits if hit.category == "Hats"]
    assert [hit.id for hit in hats] == ["h0", "h1"]
    assert hats[0].alike == 4
    assert any("not 50" in note for note in found.notes)


def test_a_filter_that_nothing_passes_says_which_one(opened):
    found = opened.match(Match(wear=("t-shirt",), lowest=1e9))
    assert not found.hits
    assert any("price" in note for note in found.notes)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Match(), "1 to 24 pieces"),
        (Match(wear=("t-shrit",)), "did you mean T-Shirts"),
        (Match(wear=("t-shirt",), want=("sneekers",)), "did you mean Sneakers"),
        (Match(items=("s9",)), "s9"),
        (Match(wear=("t-shirt",), where=("colour",)), "GROUP=VALUE"),
        (Match(wear=("t-shirt",), where=("colour=reed",)), "red"),
        (Match(wear=("t-shirt",), lowest=9, highest=3), "above the highest"),
        (Match(items=("t1", "t1")), "twice"),
        (Match(wear=(": red",)), "names no category"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_met_is_told_in_one_line(opened, request_, words):
    with pytest.raises(UserError, match=words) as told:
        opened.match(request_)
    assert "\n" not in str(told.value)


def test_without_a_catalogue_it_answers_with_categories(stylist):
    found = stylist.match(Match(wear=("t-shirt", "shorts")))
    assert not found.hits
    assert found.wishes[0].score >= found.wishes[-1].score
    assert "no catalogue" in found.notes[0]
    with pytest.raises(UserError, match="--catalogue FOLDER"):
        stylist.match(Match(wear=("t-shirt",), lowest=3))
    with pytest.raises(UserError, match="--catalogue FOLDER"):
        stylist.match(Match(items=("t1",)))


def test_score_outfit_names_the_piece_that_does_not_fit(stylist):
    good = stylist.score_outfit(
        Worn(wear=("t-shirt: red t-shirts", "shorts: black shorts", "sneakers: white sneakers"))
    )
    bad = stylist.score_outfit(Worn(wear=("t-shirt: red t-shirts", "shorts: black shorts", "gown: white gowns")))
    assert good.score > bad.score
    assert good.above_real > bad.above_real
    assert good.above_random > 0.5
    assert bad.pieces[0].category == "Gowns"
    assert bad.pairs[0].times == 0
    with pytest.raises(UserError, match="2 to 24 pieces"):
        stylist.score_outfit(Worn(wear=("hat",)))


def test_a_saved_stylist_answers_the_same(stylist, tmp_path):
    stylist.save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    request = Match(wear=("t-shirt", "shorts"))
    assert isinstance(again, Stylist)
    assert again.match(request) == stylist.match(request)
    assert StylistConfig.model_validate(json.loads(stylist.config.model_dump_json())) == stylist.config


def test_unknown_pieces_leave_no_trace_in_the_sets_that_are_hidden(held, taught):
    batch = Outfits.batches(TINY, held)(0)
    whole = Sets(batch["category"], batch["words"], batch["product"])
    draw = torch.Generator().manual_seed(0)
    seen = taught._hidden(whole, draw)
    assert ((seen.category == 0) | (seen.category == UNKNOWN) | (seen.category == whole.category)).all()
    assert (seen.words[seen.category == 0] == 0).all()
