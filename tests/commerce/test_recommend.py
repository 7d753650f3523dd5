import math
import os
from pathlib import Path

import numpy as np
import pytest
from commerce_sets import Held
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.lab.evaluate import scores
from daybreak.lab.lake import Broken, Draft
from daybreak.lab.model import Model
from daybreak.systems.commerce import data as commerce
from daybreak.systems.commerce.catalogue import Catalogue, Row
from daybreak.systems.commerce.outfits.drawn import drawn
from daybreak.systems.commerce.recommend import data
from daybreak.systems.commerce.recommend.data import Log, Taken
from daybreak.systems.commerce.recommend.metrics import cosine, rank, values
from daybreak.systems.commerce.recommend.model import ForWhom, Recommender
from daybreak.systems.commerce.recommend.net import Lifts, count, numbered
from daybreak.systems.commerce.recommend.recipe import Recommend, RecommendConfig

HEAD = "person,item,event,time\n"


def write(path: Path, text: str) -> Path:
    path.write_text(HEAD + text)
    return path


def shoppers(number=240, seed=0):
    """Who takes a tent takes a lamp next; who takes a pan takes a lid next; bread is taken by everybody, first."""
    rng = np.random.default_rng(seed)
    for n in range(number):
        first, second = (("tent", "lamp"), ("pan", "lid"))[int(rng.integers(2))]
        took = ["bread", first, second] if rng.random() < 0.9 else ["bread", second, "salt"]
        yield data.draft(f"p{n}", [Taken(item, item != "bread") for item in took])


@pytest.fixture(scope="module")
def held():
    return Held(shoppers())


@pytest.fixture(scope="module")
def made(held):
    recipe = Recommend(RecommendConfig(), held)
    recipe.step(None, 0)
    return recipe


@pytest.fixture
def model(made):
    return made.model()


# The log.


def test_a_log_becomes_one_item_a_person_in_the_order_of_time(tmp_path):
    write(
        tmp_path / "log.csv",
        "ann,hat,view,2026-05-02\nbob,tie,purchase,5\nann,bag,purchase,2026-05-01T10:00:00\nann,hat,purchase,2026-05-03\n",
    )
    drafts = list(commerce.ingest(tmp_path))
    held = Held(Draft(d.name, d.group, d.parts, d.labels, "train") for d in drafts)
    assert [d.labels for d in drafts] == [{"kind": "basket"}] * 2
    assert len({d.group for d in drafts}) == 2
    ann, bob = data.histories(held, "train", "baskets")
    assert ann == (Taken("bag", True), Taken("hat", True))  # viewed, then bought: one thing, bought
    assert bob == (Taken("tie", True),)


def test_bad_rows_are_set_aside_with_their_number(tmp_path):
    file = write(tmp_path / "log.csv", "a,x,veiw,1\na,x,view,soon\na,,view,1\na,x,view,nan\na,y,view,3\n")
    found = list(commerce.ingest(file))
    broken = {one.name: one.reason for one in found if isinstance(one, Broken)}
    assert "did you mean view" in broken["log.csv:2"]
    assert "ISO 8601" in broken["log.csv:3"]
    assert "no item" in broken["log.csv:4"]
    assert "not finite" in broken["log.csv:5"]
    assert [one.name for one in found if isinstance(one, Draft)] == ["a"]
    with pytest.raises(UserError, match=r"log\.csv:2.*4 such rows"):
        Log.open(file)


def test_a_log_without_a_column_is_refused_by_its_name(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("person,items,event,time\n")
    with pytest.raises(UserError, match=r"no column 'item' .*did you mean items"):
        list(commerce.ingest(file))


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(), st.sampled_from("abc"), st.booleans()), max_size=12))
@settings(max_examples=80, deadline=None)
def test_a_history_has_each_thing_once_however_the_rows_come(events):
    one = data.history(events)
    assert one == data.history(reversed(events))
    assert len({taken.item for taken in one}) == len(one)
    assert {taken.item for taken in one if taken.bought} == {item for _, _, item, bought in events if bought}


# Counts and scores.

HISTORIES = [tuple(Taken(item, item.isupper()) for item in word) for word in ("ABc", "AB", "BA", "cA", "ABc")]
ITEMS = {"A": 0, "B": 1, "c": 2}


def test_pairs_are_counted_in_their_order_and_views_count_less():
    net = count(HISTORIES, ITEMS, 0.5, 20, True)
    dense = np.zeros((3, 3))
    for a in range(3):
        at = net.row(a)
        dense[a, net.items[at].numpy()] = net.weight[at].numpy()
    assert dense.tolist() == [[0, 3, 1], [1, 0, 1], [0.5, 0, 0]]
    assert net.together(0, 1) == (4, 4)
    assert net.together(0, 2) == net.together(2, 0) == (3, 0)
    assert net.popular.tolist() == [5, 4, 3]


def test_without_order_a_pair_is_told_once():
    net = count(HISTORIES, ITEMS, 0.5, 20, False)
    assert net.together(0, 1) == net.together(1, 0) == (4, 4)
    turned = count([one[::-1] for one in HISTORIES], ITEMS, 0.5, 20, False)
    assert np.allclose(net.lift(0, 1.0), turned.lift(0, 1.0))


def test_pairs_farther_than_the_window_are_not_counted():
    assert count([HISTORIES[0]], ITEMS, 1.0, 1, True).together(0, 2) == (0, 0)


def test_a_score_is_the_prior_and_what_each_thing_adds():
    """By the formula of the file's beginning, from dense counts."""
    net = count(HISTORIES, ITEMS, 0.5, 20, True)
    n = np.array([[0, 3, 1], [1, 0, 1], [0.5, 0, 0]])
    e = np.outer(n.sum(1), n.sum(0)) / n.sum()
    lift = np.log((n + 0.25) / (e + 0.25))
    assert np.allclose([net.lift(i, 0.25) for i in range(3)], lift, atol=1e-6)
    found, parts = net.score({0: 1.0, 2: 0.5}, 0.25, 0.6)
    assert np.allclose(found, net.prior() + 0.6 * lift[0] + 0.3 * lift[2], atol=1e-6)
    assert np.allclose(found - net.prior(), sum(parts.values()))
    assert math.isclose(np.exp(net.prior()).sum(), 1)


def test_a_long_history_counts_no_more_than_a_full_one():
    net = count(HISTORIES, ITEMS, 0.5, 20, True)
    short, long = net.score({0: 8.0}, 0.25, 0.6)[0], net.score({0: 80.0}, 0.25, 0.6)[0]
    assert np.allclose(short, long)


def test_item_neighbours_are_cosines():
    found = cosine(HISTORIES, ITEMS)
    assert math.isclose(found[0, 1], 4 / math.sqrt(5 * 4))
    assert found.diagonal().tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("seen", "target", "place"), [([], 1, 0), ([], 0, 1.5), ([1], 0, 0.5), ([2], 0, 1), ([], None, math.inf)]
)
def test_a_rank_is_among_what_was_not_seen_and_ties_share(seen, target, place):
    assert rank(np.array([2.0, 5.0, 2.0, 1.0]), seen, target) == place


def test_ndcg_of_one_relevant_item():
    assert values(0)["NDCG@10"] == 1
    assert values(9)["NDCG@10"] == pytest.approx(1 / math.log2(11))
    assert values(10)["NDCG@10"] == values(math.inf)["MRR"] == 0


# The recipe.


def test_what_came_next_is_recommended_next(made):
    found = list(scores(made, made.items("validation")))
    mean = {name: np.mean([score.values[name] for score in found]) for name in found[0].values}
    assert mean["NDCG@10"] > 0.8
    assert mean["over popularity"] > 0.1
    assert mean["over neighbours"] > 0
    assert len({score.group for score in found}) == len(found)


def test_the_held_out_thing_is_not_looked_at(held, made):
    """A score depends on the rest alone: with another last thing, the same ranking is read at another place."""
    item = made.items("validation")[0]
    *rest, last = made._read(item)
    took = numbered(rest, made.numbers, 0.3)
    whole, _ = made.net.score(took, 0.25, 0.6)
    (score,) = scores(made, [item])
    assert score.values["MRR"] == 1 / (rank(whole, list(took), made.numbers[last.item]) + 1)


def test_outfits_serve_as_baskets_of_categories():
    recipe = Recommend(RecommendConfig(source="outfits"), Held(drawn(300)))
    recipe.step(None, 0)
    found = recipe.model().recommend(ForWhom(basket=("Gowns", "Pumps"), k=2))
    assert found.hits[0].item == "Clutches"
    assert "in one outfit with" in found.hits[0].why


@pytest.mark.parametrize(("source", "words"), [("baskets", "--source outfits"), ("outfits", "lake add")])
def test_a_snapshot_without_histories_says_so(source, words):
    with pytest.raises(UserError, match=words):
        Recommend(RecommendConfig(source=source), Held([]))


def test_an_item_that_one_person_took_is_left_out(held, made):
    odd = Recommend(
        RecommendConfig(), Held([*shoppers(), data.draft("odd", [Taken("tuba", True), Taken("bread", True)])])
    )
    assert "tuba" not in odd.numbers
    assert odd.names == made.names


# The model.


def test_a_hit_says_what_it_was_bought_together_with_and_how_often(model, held):
    (hit, *_) = model.recommend(ForWhom(basket=("tent",))).hits
    assert hit.item == "lamp"
    people = data.histories(held, "train", "baskets")
    both = sum({"tent", "lamp"} <= {taken.item for taken in one} for one in people)
    assert hit.why == f"bought together with tent {both} times"
    assert hit.reasons[0].bought == hit.reasons[0].times == both


def test_a_person_of_the_log_is_recommended_to(model, tmp_path):
    model.log = Log.open(write(tmp_path / "log.csv", "ann,pan,purchase,1\n"))
    found = model.recommend(ForWhom(person="ann", k=1))
    assert found.hits[0].item == "lid"
    with pytest.raises(UserError, match="did you mean ann"):
        model.recommend(ForWhom(person="anne"))


def test_who_is_not_known_gets_what_is_popular_and_is_told(model):
    found = model.recommend(ForWhom(k=2))
    assert "popular" in found.hits[0].why
    assert "most often" in found.notes[0]
    part = model.recommend(ForWhom(basket=("tent", "tuba")))
    assert part.hits[0].item == "lamp"
    assert "tuba" in part.notes[0]


def test_what_is_in_the_basket_is_not_recommended(model):
    found = model.recommend(ForWhom(basket=("tent", "lamp"), k=50))
    assert not {"tent", "lamp"} & {hit.item for hit in found.hits}
    assert "not 50" in found.notes[-1]


def test_filters_go_by_the_catalogue(model, tmp_path):
    catalogue = Catalogue.create(tmp_path / "c", "toy", {"product": 2})
    rows = [Row("lamp", category="light", price=30.0, title="a lamp"), Row("lid", category="kitchen", price=8.0)]
    with catalogue.writing() as writer:
        writer.add(rows, {"product": np.eye(2, dtype=np.float32)})
    model.catalogue = catalogue
    found = model.recommend(ForWhom(basket=("tent",)))
    assert [(hit.item, hit.title, hit.price) for hit in found.hits] == [("lamp", "a lamp", 30.0), ("lid", "", 8.0)]
    assert [hit.item for hit in model.recommend(ForWhom(basket=("tent",), highest=10.0)).hits] == ["lid"]
    assert [hit.item for hit in model.recommend(ForWhom(basket=("tent",), category=("light",))).hits] == ["lamp"]
    none = model.recommend(ForWhom(basket=("tent",), lowest=1e6))
    assert not none.hits
    assert any("price" in note for note in none.notes)
    with pytest.raises(UserError, match="kitchen"):
        model.recommend(ForWhom(basket=("tent",), category=("kitchn",)))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (ForWhom(basket=("tnet",)), "did you mean tent"),
        (ForWhom(person="ann"), "--log FILE"),
        (ForWhom(basket=("tent",), highest=3.0), "--catalogue FOLDER"),
    ],
)
def test_a_request_that_cannot_be_met_is_told_in_one_line(model, request_, words):
    with pytest.raises(UserError, match=words) as told:
        model.recommend(request_)
    assert "\n" not in str(told.value)


def test_a_saved_recommender_answers_the_same(model, tmp_path):
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    assert isinstance(again, Recommender)
    assert isinstance(again.net, Lifts)
    assert again.recommend(ForWhom(basket=("tent",))) == model.recommend(ForWhom(basket=("tent",)))


@pytest.mark.skipif("DAYBREAK_DATA" not in os.environ, reason="needs DAYBREAK_DATA")
def test_real_outfits_as_baskets_are_ranked_better_than_by_neighbours():
    drafts = list(commerce.ingest(Path(os.environ["DAYBREAK_DATA"]) / "commerce" / "polyvore"))
    recipe = Recommend(RecommendConfig(source="outfits"), Held(drafts[:4000]))
    recipe.step(None, 0)
    found = list(scores(recipe, recipe.items("validation")))
    assert np.mean([score.values["over neighbours"] for score in found]) > 0.02
