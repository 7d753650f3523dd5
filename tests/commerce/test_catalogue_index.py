"""The planner takes the cheaper way and tells it; an index names the same hits, also on a catalogue that changes."""

from __future__ import annotations

import numpy as np
import pytest
from catalogues import row, unit

from daybreak.errors import UserError
from daybreak.systems.commerce.catalogue import Catalogue, Where, planner
from daybreak.systems.commerce.catalogue import index as indexes

faiss = pytest.importorskip("faiss")

SPACES = {"product": 32, "colour": 8}
COUNT = 6000


def clustered(count: int, width: int, seed: int) -> np.ndarray:
    """Overlapping clusters, as embeddings have."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(width).standard_normal((60, width))
    x = centres[random.integers(60, size=count)] + random.standard_normal((count, width))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def large(tmp_path):
    catalogue = Catalogue.create(tmp_path / "c", "m", SPACES, auto_index=False)
    every = {space: clustered(COUNT, width, width + 1) for space, width in SPACES.items()}
    with catalogue.writing() as writer:
        writer.add([row(i) for i in range(COUNT)], every)
    return catalogue, every


@pytest.fixture
def always(monkeypatch):
    """The index costs nothing, so that it is always taken where it can be."""
    monkeypatch.setattr(indexes.Index, "cost", lambda self, candidates: 0.0)


QUERIES = {space: clustered(20, width, 5) for space, width in SPACES.items()}


def agree(catalogue, where=None, k=10, **more) -> float:
    """The share of the exact hits that the index finds too."""
    found = catalogue.search_batch(QUERIES, {"colour": 0.5}, where, k, **more)
    exact = catalogue.search_batch(QUERIES, {"colour": 0.5}, where, k, exact=True, **more)
    assert {hits.plan.kind for hits in found} == {"index"}
    assert {hits.plan.kind for hits in exact} == {"exact"}
    live = {r.id for r in catalogue.rows()}
    for hits in found:
        assert len(hits) == k
        assert len({hit.row.id for hit in hits} & live) == k
    shared = [len({h.row.id: h.score for h in a}.items() & {h.row.id: h.score for h in b}.items()) / k
              for a, b in zip(found, exact, strict=True)]  # fmt: skip
    return float(np.mean(shared))


@pytest.mark.parametrize("cells", [0, 16])
def test_the_index_and_an_exact_rerank_find_what_the_scan_finds(large, always, cells):
    catalogue, _ = large
    built = catalogue.planner.build(catalogue.view(), ("product", "colour"), cells)
    assert built.recall >= 0.999
    assert built.bytes_a_row == 10 + (8 if cells else 0)
    assert agree(catalogue) >= 0.99
    assert agree(catalogue, k=50) >= 0.99
    assert agree(catalogue, Where(category="dress")) >= 0.99
    assert agree(catalogue, exclude=[[f"i{i}", "i5"] for i in range(20)]) >= 0.99


def test_an_index_follows_adding_removing_and_compacting(large, always):
    catalogue, _ = large
    spaces = ("product", "colour")
    catalogue.prepare("colour", "product")
    first = catalogue.planner.index(catalogue.view(), spaces)[0]
    assert agree(catalogue) >= 0.99
    with catalogue.writing() as writer:
        writer.remove([f"i{i}" for i in range(0, COUNT, 10)])
    assert agree(catalogue) >= 0.99
    fresh = {space: x.copy() for space, x in QUERIES.items()}
    with catalogue.writing() as writer:
        writer.add([row(COUNT + i) for i in range(20)], fresh)
    assert [hits[0].row.id for hits in catalogue.search_batch(QUERIES, k=1)] == [f"i{COUNT + i}" for i in range(20)]
    assert agree(catalogue) >= 0.99
    assert catalogue.planner.index(catalogue.view(), spaces) == (first, COUNT + 20)
    # The small segment is joined with what is new: the index still knows the large one, the rest is scanned.
    with catalogue.writing() as writer:
        view = catalogue.view()
        writer.add([row(COUNT + 20 + i) for i in range(20)], {s: clustered(20, w, 8) for s, w in SPACES.items()})
        writer._join(catalogue.view(), [1, 2])
    assert view.end == COUNT + 20
    assert catalogue.planner.index(catalogue.view(), spaces) == (first, COUNT)
    assert [hits[0].row.id for hits in catalogue.search_batch(QUERIES, k=1)] == [f"i{COUNT + i}" for i in range(20)]
    assert agree(catalogue) >= 0.99
    catalogue.compact()
    assert catalogue.planner.index(catalogue.view(), spaces) is None, "its positions are others' now"
    assert catalogue.search_batch(QUERIES, k=1)[0].plan.kind == "exact"


def test_few_survivors_are_scanned_and_the_plan_says_why(large):
    catalogue, every = large
    catalogue.prepare("product")
    hits = catalogue.search({"product": every["product"][3]}, where=Where(price=(0, 50)))
    assert (hits.plan.kind, hits.plan.rows, hits.plan.of) == ("exact", 51, COUNT)
    assert "51 of 6,000 rows pass the filter; exact" in str(hits.plan)
    assert hits.plan.index_ms is not None
    assert "an exact scan was asked for" in str(catalogue.search({"product": every["product"][3]}, exact=True).plan)


def test_an_index_is_built_when_scans_have_cost_as_much(large, monkeypatch):
    catalogue, every = large
    monkeypatch.setattr(planner, "INDEX_FROM", 1000)
    catalogue.planner.auto = True
    monkeypatch.setattr(planner, "BUILD_US", 1e9)
    assert "scans have cost" in str(catalogue.search({"product": every["product"][3]}).plan)
    assert catalogue.planner.index(catalogue.view(), ("product",)) is None
    monkeypatch.setattr(planner, "BUILD_US", 0.0)
    catalogue.search({"product": every["product"][3]})
    assert catalogue.planner.index(catalogue.view(), ("product",)) is not None


def test_without_faiss_the_exact_scan_still_works(large, monkeypatch):
    catalogue, every = large
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    monkeypatch.setattr(planner, "INDEX_FROM", 1000)
    catalogue.planner.auto = True
    hits = catalogue.search({"product": every["product"][3]}, k=1)
    assert hits[0].row.id == "i3"
    assert "no index without faiss" in hits.plan.why
    with pytest.raises(UserError, match="needs faiss"):
        catalogue.prepare("product")


def test_crowds_of_equal_vectors_and_odd_widths_are_no_trouble(tmp_path, always):
    catalogue = Catalogue.create(tmp_path / "c", "m", {"a": 7}, auto_index=False)
    with catalogue.writing() as writer:
        writer.add([row(i) for i in range(3000)], {"a": np.repeat(unit(30, 7), 100, 0)})
    catalogue.prepare("a")
    hits = catalogue.search({"a": unit(30, 7)[4]}, k=10, exact=True)
    assert [hit.row.id for hit in hits] == [f"i{i}" for i in range(400, 410)]
    found = catalogue.search({"a": unit(30, 7)[4]}, k=10)
    assert [hit.score for hit in found] == [hit.score for hit in hits]
