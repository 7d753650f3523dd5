"""Four shards give the hits of one catalogue, to the last bit, and its messages."""

from __future__ import annotations

import numpy as np
import pytest
from catalogues import SPACES, filled, row, unit, vectors

from daybreak.errors import UserError
from daybreak.systems.commerce.catalogue import Catalogue, Shards, Where

COUNT = 300


def pair(tmp_path, **options):
    """One catalogue and four shards with the same items; item 290 to 299 have the vectors of 0 to 9."""
    one, every = filled(tmp_path / "one", COUNT)
    with one.writing() as writer:
        writer.add([row(i, digest="aa") for i in range(290, 300)], {s: x[:10] for s, x in every.items()})
    paths = [tmp_path / f"shard{i}" for i in range(4)]
    Shards.create(paths, "shopnet-1", SPACES)
    shards = Shards.open(paths, **options)
    for part in np.array_split(np.arange(290), 3):
        shards.add([row(int(i)) for i in part], {s: x[part] for s, x in every.items()})
    shards.add([row(i, digest="aa") for i in range(290, 300)], {s: x[:10] for s, x in every.items()})
    return one, shards, every


def same(one, shards, **more):
    queries = {space: unit(6, width, 3) for space, width in SPACES.items()}
    queries["product"][0] = one.vectors("i290")["product"] if one.has("i290") else queries["product"][0]
    a = one.search_batch(queries, {"colour": 0.3}, **more)
    b = shards.search_batch(queries, {"colour": 0.3}, **more)
    for x, y in zip(a, b, strict=True):
        assert [(h.row, h.score, h.parts) for h in x] == [(h.row, h.score, h.parts) for h in y]
        assert x.note == y.note
        assert (x.plan.rows, x.plan.of) == (y.plan.rows, y.plan.of)


WHERES = [
    None,
    Where(category="dress"),
    Where(ids=("i3", "i77", "i290")),
    Where(price=(3, 40), tags={"colour": "red"}),
    Where(category="dress", price=(4, 5)),
]


def test_four_shards_give_exactly_the_hits_of_one(tmp_path):
    one, shards, every = pair(tmp_path)
    assert len(shards) == len(one) == COUNT
    for where in WHERES:
        same(one, shards, where=where, k=10)
    same(one, shards, k=1000)
    same(one, shards, k=5, exclude=[["i1", "i2"]] * 6)
    gone = [f"i{i}" for i in range(0, COUNT, 7)]
    with one.writing() as writer:
        writer.remove(gone)
    assert shards.remove([*gone, "nobody"]) == len(gone)
    same(one, shards, k=20)
    one.compact()
    shards.compact()
    same(one, shards, k=20)
    hit = shards.search({"product": every["product"][1]}, k=1)[0]
    assert hit.row.id == "i1"


def test_a_name_that_one_shard_alone_knows_is_known_and_one_that_none_knows_is_told(tmp_path):
    one, shards, every = pair(tmp_path)
    rare = [row(1000, category="kimono", tags={"cut": ("wide",)})]
    for place in (one, None):
        if place is None:
            shards.add(rare, vectors(1, 50))
        else:
            with place.writing() as writer:
                writer.add(rare, vectors(1, 50))
    same(one, shards, where=Where(category=("kimono", "hat"), tags={"colour": ("red", "blue")}), k=400)
    same(one, shards, where=Where(tags={"cut": "wide"}), k=3)
    for where, words in [
        (Where(category="kimonos"), "did you mean kimono?"), (Where(tags={"cut": "wid"}), "did you mean wide?"),
    ]:  # fmt: skip
        for place in (one, shards):
            with pytest.raises(UserError, match=words.replace("?", r"\?")):
                place.search({"product": every["product"][0]}, where=where)


def test_shards_of_two_models_are_refused(tmp_path):
    Catalogue.create(tmp_path / "a", "m1", SPACES)
    Catalogue.create(tmp_path / "b", "m2", SPACES)
    with pytest.raises(UserError, match=r"is of the model m1, shard .* of m2"):
        Shards.open([tmp_path / "a", tmp_path / "b"])
    shards = Shards.open([tmp_path / "a"])
    with pytest.raises(UserError, match="of the model m1, these are of m2"):
        shards.add([row(1)], vectors(1), model="m2")
    with pytest.raises(UserError, match="at least one shard"):
        Shards.open([])


@pytest.mark.slow
def test_four_ray_actors_give_exactly_the_hits_of_one(tmp_path):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        one, shards, every = pair(tmp_path, ray=True)
        for where in WHERES:
            same(one, shards, where=where, k=10)
        with pytest.raises(UserError, match="did you mean dress"):
            shards.search({"product": every["product"][0]}, where=Where(category="dres"))
        with pytest.raises(UserError, match="of the model shopnet-1, these are of other"):
            shards.search({"product": every["product"][0]}, model="other")
    finally:
        ray.shutdown()
