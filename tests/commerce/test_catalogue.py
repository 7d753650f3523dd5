"""The catalogue finds what is there, under any filter, says what it did, and refuses what does not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from catalogues import SPACES, filled, row, unit, vectors

from daybreak.errors import UserError
from daybreak.systems.commerce.catalogue import Catalogue, Row, Where


def ids(hits):
    return [hit.row.id for hit in hits]


def brute(every, query, weights, passing, k):
    score = sum(weights[s] * (every[s].astype(np.float64) @ query[s]) for s in query)
    order = sorted((i for i in range(len(score)) if passing(i)), key=lambda i: (-score[i], f"i{i}"))[:k]
    return [f"i{i}" for i in order]


@pytest.mark.parametrize(
    ("where", "passing"),
    [
        (None, lambda i: True),
        (Where(category="dress"), lambda i: i % 3 == 0),
        (Where(category=("dress", "hat")), lambda i: i % 3 != 1),
        (Where(tags={"colour": "red"}), lambda i: i % 2 == 0),
        (Where(tags={"colour": ("red", "blue")}), lambda i: True),
        (Where(price=(10, 20)), lambda i: 10 <= i <= 20),
        (Where(price=(None, 20)), lambda i: i <= 20),
        (Where(group=("sender1", "sender2")), lambda i: i % 5 in (1, 2)),
        (Where(ids=("i3", "i50")), lambda i: i in (3, 50)),
        (Where(category="shoe", tags={"colour": "blue"}, price=(5, None)), lambda i: i % 3 == 1 and i % 2 and i >= 5),
    ],
)
def test_a_search_gives_exactly_the_best_that_pass_the_filter(tmp_path, where, passing):
    catalogue, every = filled(tmp_path / "c")
    query = {"product": unit(1, 16, 99)[0], "colour": unit(1, 8, 98)[0]}
    weights = {"product": 1.0, "colour": 0.4}
    hits = catalogue.search(query, weights, where, k=7)
    assert ids(hits) == brute(every, query, weights, passing, 7)
    for hit in hits:
        assert hit.score == pytest.approx(sum(hit.parts.values()))
        assert set(hit.parts) == {"product", "colour"}
    # A batch gives what single searches give, to the last bit.
    batch = catalogue.search_batch({s: np.stack([q, -q]) for s, q in query.items()}, weights, where, k=7)
    assert [(h.row, h.score) for h in batch[0]] == [(h.row, h.score) for h in hits]
    assert ids(batch[1]) == brute(every, {s: -q for s, q in query.items()}, weights, passing, 7)


def test_what_is_not_known_of_an_item_is_a_filter_too(tmp_path):
    catalogue = Catalogue.create(tmp_path / "c", "m", {"product": 16})
    known = [
        {"category": "dress", "tags": {"colour": ("red",)}},
        {"category": "dress"},
        {"tags": {"colour": ("blue",)}},
    ]
    with catalogue.writing() as writer:
        writer.add([Row(id=f"i{n}", **fields) for n, fields in enumerate(known)], {"product": unit(3, 16, 1)})
    found = [
        {hit.row.id for hit in catalogue.search({"product": unit(1, 16, 2)[0]}, where=where)}
        for where in (
            Where(category="unknown"), Where(tags={"colour": "unknown"}), Where(tags={"colour": ("unknown", "red")})
        )
    ]  # fmt: skip
    assert found == [{"i2"}, {"i1"}, {"i0", "i1"}]


def test_the_weight_of_colour_is_chosen_at_query_time(tmp_path):
    catalogue, every = filled(tmp_path / "c")
    query = {"product": every["product"][4], "colour": every["colour"][9]}
    assert ids(catalogue.search(query, {"colour": 0.0}, k=1)) == ["i4"]
    assert ids(catalogue.search(query, {"product": 0.0}, k=1)) == ["i9"]


def test_equal_scores_come_by_id_and_an_excluded_item_does_not_come(tmp_path):
    catalogue = Catalogue.create(tmp_path / "c", "m", {"a": 4})
    with catalogue.writing() as writer:
        writer.add([Row(id=name) for name in "dbca"], {"a": np.repeat(unit(1, 4), 4, 0)})
    query = {"a": unit(1, 4)[0]}
    assert ids(catalogue.search(query, k=3)) == ["a", "b", "c"]
    assert ids(catalogue.search(query, k=2, exclude=["a", "c"])) == ["b", "d"]


def test_fewer_than_k_are_given_and_said(tmp_path):
    catalogue, every = filled(tmp_path / "c")
    hits = catalogue.search({"product": every["product"][0]}, k=1000)
    assert (len(hits), hits.note) == (60, "60 of the 1000 asked for: no more items are there")
    hits = catalogue.search({"product": every["product"][0]}, where=Where(price=(0, 3)), k=9)
    assert (len(hits), hits.note) == (4, "4 of the 9 asked for: no more items pass the filter")
    assert catalogue.search({"product": every["product"][0]}, k=5).note == ""


def test_an_empty_catalogue_has_no_hits_and_says_so(tmp_path):
    catalogue = Catalogue.create(tmp_path / "c", "m", SPACES)
    hits = catalogue.search({"product": unit(1, 16)[0]})
    assert (hits, hits.note, len(catalogue)) == ([], "the catalogue is empty", 0)
    assert catalogue.verify() == []


def test_a_filter_that_nothing_passes_says_which_condition_emptied_it(tmp_path):
    catalogue, every = filled(tmp_path / "c")
    where = Where(category="dress", tags={"colour": "red"}, price=(0, 6), group="sender3")
    hits = catalogue.search({"product": every["product"][0]}, where=where)
    assert hits == []
    assert hits.note == (
        "nothing passes the filter: 60 items, category dress leaves 20, colour red leaves 10, "
        "price from 0 to 6 leaves 2, group sender3 leaves 0 (12 have it, none of those left)"
    )


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (Where(category="dres"), "no item has the category 'dres'; did you mean dress?"),
        (Where(tags={"color": "red"}), "no item has the tag group 'color'; did you mean colour?"),
        (Where(tags={"colour": "redd"}), "no item has the colour tag 'redd'; did you mean red?"),
        (Where(group="sendr1"), "no item has the group 'sendr1'; did you mean sender1"),
        (Where(ids="i600"), "no item has the id 'i600'; did you mean i60"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(tmp_path, where, words):
    catalogue, every = filled(tmp_path / "c", 61)
    with pytest.raises(UserError) as told:
        catalogue.search({"product": every["product"][0]}, where=where)
    assert words in str(told.value)


def test_where_reads_one_flat_mapping():
    flat = {"category": "dress", "colour": ["red"], "price": [None, 50]}
    assert Where.of(flat) == Where(category=("dress",), tags={"colour": ("red",)}, price=(None, 50))
    assert Where().empty
    assert not Where(ids="x").empty


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c, q: c.search({"product": q}, k=0), "at least 1, not 0"),
        (lambda c, q: c.search({"product": q}, k=2.5), "at least 1, not 2.5"),
        (lambda c, q: c.search({"produkt": q}), "did you mean product?"),
        (lambda c, q: c.search({"product": q[:5]}), "has 16 numbers"),
        (lambda c, q: c.search({"product": q * np.nan}), "not finite"),
        (lambda c, q: c.search({}), "needs a vector"),
        (lambda c, q: c.search({"product": q}, {"product": 0}), "needs a vector with a weight"),
        (lambda c, q: c.search({"product": q}, {"colour": 1}), "a weight for colour but no vector"),
        (lambda c, q: c.search({"product": q}, {"product": math.inf}), "finite number"),
        (lambda c, q: c.search({"product": q}, model="shopnet-9"), "of the model shopnet-1, these are of shopnet-9"),
        (lambda c, q: c.prepare("produkt"), "did you mean product?"),
        (lambda c, q: c.get("i600"), "did you mean i60"),
        (lambda c, q: Where(price=(5, 1)), "the lowest price 5 is above the highest 1"),
        (lambda c, q: Where(price=("a", 1)), "bounds are numbers"),
        (lambda c, q: Catalogue.open(c.path, "shopnet-9"), "of the model shopnet-1, these are of shopnet-9"),
        (lambda c, q: Catalogue.open(c.path / "no"), "is not a catalogue"),
        (lambda c, q: Catalogue.create(c.path, "m", SPACES), "there already and not empty"),
        (lambda c, q: Catalogue.create(c.path / "x", "m", {"rows": 3}), "plain name"),
        (lambda c, q: Catalogue.create(c.path / "x", "", SPACES), "needs the fingerprint"),
    ],
)
def test_a_call_that_does_not_fit_says_what_would(tmp_path, call, words):
    catalogue, every = filled(tmp_path / "c", 61)
    with pytest.raises(UserError) as told:
        call(catalogue, every["product"][0])
    assert words in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("rows", "change", "words"),
    [
        ([row(1), row(1)], {}, "item i1 is twice"),
        ([row(1), row(2)], {"product": unit(2, 16) * 2}, "item i1: its product vector has length 2"),
        ([row(1), row(2)], {"product": unit(2, 16) * [[1], [np.nan]]}, "item i2: its product vector has length nan"),
        ([row(1), row(2)], {"product": unit(3, 16)}, "shape (2, 16), not (3, 16)"),
        ([row(1), row(2)], {"produkt": unit(2, 16)}, "did you mean product?"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_as_a_whole(tmp_path, rows, change, words):
    catalogue = Catalogue.create(tmp_path / "c", "m", SPACES)
    with catalogue.writing() as writer, pytest.raises(UserError) as told:
        writer.add(rows, vectors(2) | change)
    assert words in str(told.value)
    with catalogue.writing() as writer, pytest.raises(UserError, match="need vectors in colour too"):
        writer.add([row(1)], {s: x for s, x in vectors(1).items() if s != "colour"})
    with catalogue.writing() as writer, pytest.raises(UserError, match="of the model m, these are of other"):
        writer.add([row(1)], vectors(1), model="other")
    assert len(catalogue) == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"id": ""}, "printable characters"),
        ({"id": "a\nb"}, "printable characters"),
        ({"id": "a", "digest": "XYZ"}, "item a: its digest is a hex number"),
        ({"id": "a", "price": math.nan}, "item a: its price is a finite number"),
        ({"id": "a", "price": "12"}, "its price is a finite number, not '12'"),
        ({"id": "a", "box": (0, 0, 1)}, "its box has four numbers"),
        ({"id": "a", "tags": {"colour": "red"}}, "its tags maps a group to a tuple of values"),
        ({"id": "a", "image": "../b.jpg"}, "inside the shop's folder"),
        ({"id": "a", "image": "/etc/passwd"}, "inside the shop's folder"),
        ({"id": "a", "dhash": "ff"}, "its dhash has 64 hex digits"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_its_field(fields, words):
    with pytest.raises(UserError) as told:
        Row(**fields)
    assert words in str(told.value)


def test_add_is_idempotent_by_id_and_digest(tmp_path):
    catalogue, every = filled(tmp_path / "c", 20)
    generation = catalogue.manifest.generation
    part = {space: x[:10] for space, x in every.items()}
    with catalogue.writing() as writer:
        done = writer.add([row(i) for i in range(10)], part)
        assert (done.new, done.changed, done.same) == (0, 0, 10)
        assert catalogue.manifest.generation == generation, "nothing was written"
        done = writer.add([row(i, price=1.5) if i < 3 else row(i) for i in range(10)], part)
        assert (done.new, done.changed, done.same) == (0, 3, 7)
        other = {space: x[::-1] for space, x in part.items()}
        done = writer.add([row(i, digest="ab") for i in range(10)], other)
        assert (done.new, done.changed, done.same) == (0, 10, 0)
    assert len(catalogue) == 20
    assert catalogue.has("i0", "ab")
    assert not catalogue.has("i0", f"{0:032x}")
    assert ids(catalogue.search({"product": every["product"][0]}, k=1)) == ["i9"]


def test_update_changes_fields_and_keeps_the_vectors(tmp_path):
    catalogue, every = filled(tmp_path / "c")
    with catalogue.writing() as writer:
        writer.update("i7", price=0.5, tags={"colour": ("green",)})
        assert ids(catalogue.search({"product": every["product"][7]}, where=Where(tags={"colour": "green"}))) == ["i7"]
        for fields, words in [
            ({"prise": 1}, "did you mean price?"), ({"digest": "aa"}, "add the item again"), ({"price": "1"}, "finite"),
        ]:  # fmt: skip
            with pytest.raises(UserError, match=words):
                writer.update("i7", **fields)
        with pytest.raises(UserError, match="no item 'j7'"):
            writer.update("j7", price=1)
    assert catalogue.get("i7").price == 0.5
    assert np.array_equal(catalogue.vectors("i7")["product"], every["product"][7])
    assert len(catalogue) == 60


def test_what_was_removed_never_comes_back_and_compact_gives_its_disk_back(tmp_path):
    catalogue, every = filled(tmp_path / "c", 400)
    gone = [f"i{i}" for i in range(0, 400, 2)]
    size = catalogue.size()
    with catalogue.writing() as writer:
        assert writer.remove(gone) == 200
        with pytest.raises(UserError, match="no item 'i0'"):
            writer.remove(["i0"])
        assert writer.remove(["i0", "i1"], missing_ok=True) == 1
    for _ in range(2):
        hits = catalogue.search({"product": every["product"][0]}, k=400)
        assert set(ids(hits)) == {f"i{i}" for i in range(3, 400, 2)}
        assert ids(hits)[:20] == brute(
            every, {"product": every["product"][0]}, {"product": 1}, lambda i: i % 2 and i > 1, 20
        )
        catalogue.compact()
    assert catalogue.size() < 0.55 * size
    assert catalogue.verify() == []
    assert Catalogue.open(catalogue.path).view().end == 199


def test_snapshots_are_shared_until_dropped_and_restored_whole(tmp_path):
    catalogue, every = filled(tmp_path / "c")
    catalogue.snapshot("monday")
    with catalogue.writing() as writer:
        writer.remove([f"i{i}" for i in range(50)])
        writer.add([row(100)], vectors(1, seed=7))
        writer.compact()
        writer.snapshot("tuesday")
    assert list(catalogue.snapshots()) == ["monday", "tuesday"]
    with pytest.raises(UserError, match="did you mean monday"):
        catalogue.restore("mondy")
    with pytest.raises(UserError, match="already"):
        catalogue.snapshot("monday")
    with pytest.raises(UserError, match="a snapshot's name is"):
        catalogue.snapshot("../monday")
    catalogue.restore("monday")
    assert len(catalogue) == 60
    assert not catalogue.has("i100")
    assert ids(catalogue.search({"product": every["product"][3]}, k=1)) == ["i3"]
    catalogue.restore("tuesday")
    assert len(catalogue) == 11
    size = catalogue.size()
    catalogue.drop("monday")
    assert catalogue.size() < size
    assert catalogue.verify() == []
    assert len(catalogue) == 11
