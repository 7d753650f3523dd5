"""Snapshots: frozen, exact, lazy, and refused where they leak."""

import pickle
import random
import shutil

import numpy as np
import pytest

import daybreak.lab.lake.snapshot as module
from daybreak.errors import UserError
from daybreak.lab.lake import Draft, Lake, Snapshot, difference
from daybreak.lab.lake.snapshot import freeze


@pytest.fixture
def lake(lab, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 64)
    return Lake.open(lab)


def fill(lake, count=500, start=0, system="toy"):
    drafts = [
        Draft(f"n{i}", f"g{i // 3}", {"data": b"%d" % i}, {"genre": ("jazz", "pop")[i % 2]})
        for i in range(start, start + count)
    ]
    return lake.add(system, drafts, licence="CC0-1.0", source="half" if start else "")


def test_a_snapshot_holds_exactly_the_items_and_reads_them_back(lake):
    fill(lake)
    snapshot = lake.snapshot("toy")
    items = list(lake.items("toy"))
    assert len(snapshot) == 500 == sum(snapshot.counts.values())
    assert len(list(snapshot.path.glob("*.npy"))) == 8
    for split in ("train", "validation", "test"):
        wanted = sorted((item for item in items if item.split == split), key=lambda item: item.id)
        found = snapshot.split(split)
        assert len(found) == snapshot.counts[split] == len(wanted)
        assert list(found) == wanted == [found[i] for i in range(len(found))]
        assert found.ids(range(len(found))) == tuple(item.id for item in wanted)
        assert list(found[2:10:3]) == wanted[2:10:3]
        assert found[-1] == wanted[-1]
        assert list(reversed(found)) == wanted[::-1]
        order = random.Random(0).choices(range(len(found)), k=50)
        assert found.take(order) == [wanted[i] for i in order]
        assert found.read_many(order) == [snapshot.read(wanted[i]) for i in order]
        assert all(snapshot.where(item.id) == split for item in wanted)
        assert found.read(3) == snapshot.read(wanted[3]) == wanted[3].name[1:].encode()
        with pytest.raises(IndexError):
            found[len(found)]


def test_parts_of_an_item_with_several_are_read_by_name(lake):
    lake.add("toy", [Draft("n", "g", {"data": b"1", "beats": b"2"}, {}, "train")], licence="CC0-1.0")
    snapshot = lake.snapshot("toy")
    items = snapshot.split("train")
    assert (snapshot.read(items[0]), snapshot.read(items[0], "beats"), items.read(0)) == (b"1", b"2", b"1")
    assert items.read_many([0]) == [b"1"]


def test_the_same_content_gives_the_same_snapshot_in_any_order_of_adding(lake, tmp_path):
    fill(lake, 60)
    fill(lake, 60, 60)
    other = Lake.open(tmp_path / "other")
    fill(other, 60, 60)
    fill(other, 60)
    first = lake.snapshot("toy")
    assert first.id == other.snapshot("toy").id == lake.snapshot("toy").id
    fill(lake, 1, 1000)
    assert lake.snapshot("toy").id != first.id
    assert not list(lake.lab.snapshots.glob(".*"))


def test_a_snapshot_reopens_exactly_after_more_was_added(lake):
    fill(lake)
    snapshot = lake.snapshot("toy")
    before = list(snapshot.split("train"))
    fill(lake, 300, 500)
    again = pickle.loads(pickle.dumps(Snapshot.open(lake.lab, snapshot.id)))
    assert list(again.split("train")) == before
    assert again.counts == snapshot.counts
    again.check()


def test_items_that_are_gone_are_named_with_the_reason(lake):
    fill(lake, 90)
    snapshot = lake.snapshot("toy")
    item = snapshot.split("train")[4]
    snapshot.check()
    lake.remove(item.id, who="ada", why="consent withdrawn")
    again = Snapshot.open(lake.lab, snapshot.id)
    assert [one.id for one in again.gone()] == [item.id]
    with pytest.raises(UserError, match=f"1 of the 90 items .*{item.id} removed on .* by ada: consent withdrawn"):
        again.check()
    with pytest.raises(UserError, match="by ada"):
        again.split("train")[4]
    lake.snapshot("toy").check()


def test_snapshots_are_found_by_id_prefix_system_and_latest(lake):
    fill(lake, 30)
    one = lake.snapshot("toy")
    two = lake.snapshot("toy", where={"genre": "jazz"})
    fill(lake, 30, system="other")
    three = lake.snapshot("other")
    found = {text: Snapshot.open(lake.lab, text).id for text in (one.id, one.id[:6], "toy", "other", "latest")}
    assert found == {one.id: one.id, one.id[:6]: one.id, "toy": two.id, "other": three.id, "latest": three.id}
    # What was made again is the latest again.
    assert lake.snapshot("toy").id == one.id == Snapshot.open(lake.lab, "toy").id
    assert Snapshot.all(lake.lab)[-1].id == one.id
    with pytest.raises(UserError, match=r"no snapshot 'tyo'; did you mean toy\?"):
        Snapshot.open(lake.lab, "tyo")
    with pytest.raises(UserError, match="write more"):
        Snapshot.open(lake.lab, _common(one.id, lake))


def _common(id, lake):
    """A prefix that two snapshots share: a folder is copied under a name that begins alike."""
    other = lake.lab.snapshots / (id[:8] + "f" * 8)
    shutil.copytree(lake.lab.snapshots / id, other)
    about = other / "snapshot.json"
    about.write_text(about.read_text().replace(id, other.name))
    return id[:8]


def test_no_snapshot_yet_and_a_path_for_a_name_are_said_in_a_line(lake):
    with pytest.raises(UserError, match="no snapshot yet"):
        Snapshot.open(lake.lab, "latest")
    fill(lake, 9)
    lake.snapshot("toy")
    with pytest.raises(UserError, match="no snapshot"):
        Snapshot.open(lake.lab, "../snapshots")


def test_a_query_by_label_source_and_licence(lake):
    fill(lake, 30)
    fill(lake, 30, 100)
    jazz = lake.snapshot("toy", where={"genre": "jazz"}, source="half", licence="CC0-1.0")
    names = {item.name for split in ("train", "validation", "test") for item in jazz.split(split)}
    assert names == {f"n{i}" for i in range(100, 130, 2)}
    assert jazz.words() == "genre=jazz, source half, licence CC0-1.0"
    with pytest.raises(UserError, match="no item of toy fits genre=rock"):
        lake.snapshot("toy", where={"genre": "rock"})
    with pytest.raises(UserError, match=r"no items of 'toi'; did you mean toy\?"):
        lake.snapshot("toi")


def test_leakage_by_group_is_refused(lake):
    fill(lake)
    item = lake.snapshot("toy").split("test")[0]
    # Only a hand in the tables can do this: ingestion holds a group in one split.
    lake.db.execute("UPDATE items SET split = 'train' WHERE id = ?", (item.id,))
    leaking = freeze(lake, "toy", where={})
    with pytest.raises(
        UserError, match=rf"leaks: 2 evaluation items occur in its training items by group.*{item.group}"
    ):
        leaking.check()


@pytest.mark.parametrize("rest", [{}, {"beats": b"other"}])
def test_leakage_by_content_is_refused_also_when_only_its_annotation_differs(lake, rest):
    fill(lake, 60)
    other = {"data": b"same" if rest else b"unlike", **rest, "x": b""}
    drafts = [
        Draft("a", "a", {"data": b"same", "beats": b"1"}, {}, "train"),
        Draft("b", "b", other, {}, "validation"),
    ]
    lake.add("toy", drafts, licence="CC0-1.0")
    if not rest:
        a, b = (next(i for i in lake.items() if i.name == name) for name in "ab")
        lake.db.execute("UPDATE items SET digest = ? WHERE id = ?", (bytes.fromhex(a.digest), b.id))
    with pytest.raises(UserError, match=r"1 evaluation items occur in its training items by content.*\(b, group b\)"):
        lake.snapshot("toy").check()


def test_a_snapshot_of_training_items_alone_passes(lake):
    lake.add("toy", [Draft("a", "a", {"data": b"1"}, {}, "train")], licence="CC0-1.0")
    snapshot = lake.snapshot("toy")
    snapshot.check()
    assert list(snapshot.split("test")) == []


def test_a_damaged_or_newer_snapshot_is_refused_in_a_line(lake):
    fill(lake, 200)
    snapshot = lake.snapshot("toy")
    about = snapshot.path / "snapshot.json"
    text = about.read_text()
    about.write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(UserError, match="newer"):
        Snapshot.open(lake.lab, snapshot.id)
    about.write_text(text)
    (snapshot.path / "items-00001.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="cannot read"):
        Snapshot.open(lake.lab, snapshot.id).check()
    np.save(snapshot.path / "items-00001.npy", np.zeros(3))
    with pytest.raises(UserError, match="not a part"):
        Snapshot.open(lake.lab, snapshot.id).check()


def test_the_difference_of_two_snapshots(lake):
    fill(lake, 30)
    a = lake.snapshot("toy")
    items = list(lake.items())
    lake.remove(items[0].id, who="ada", why="")
    lake.add("toy", [Draft("n1", items[1].group, {"data": b"1"}, {"genre": "folk"})], licence="CC0-1.0")
    fill(lake, 1, 100)
    lake.db.execute("UPDATE items SET split = 'test', id = 'ffffffffffffffff' WHERE id = ?", (items[2].id,))
    b = lake.snapshot("toy")
    found = difference(a, b)
    names = {item.id: item.name for item in lake.items()}
    assert [names[id] for id in found.added] == ["n100"]
    assert found.gone == (items[0].id,)
    assert [(m.before, names[m.after]) for m in found.changed] == [(items[1].id, "n1")]
    assert [(m.before, m.after, m.to_split) for m in found.moved] == [(items[2].id, "f" * 16, "test")]
    assert found.same == 27
    assert difference(a, a).same == 30


def test_walking_through_a_snapshot_keeps_no_items(lake):
    import gc

    from daybreak.lab.lake import Item

    fill(lake, 1200)
    items = lake.snapshot("toy").split("train")
    most = 0
    for place, _ in enumerate(items):
        if place in (100, 900):
            gc.collect()
            most = max(most, sum(isinstance(one, Item) for one in gc.get_objects()))
    assert most <= 550
