"""A kill at any instant, readers during every change, damage, two writers: the catalogue is the old one or the new."""

from __future__ import annotations

import os
import shutil
import signal
import threading

import numpy as np
import pytest
from catalogues import SPACES, filled, in_child, row, unit, vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.lab import lock
from daybreak.systems.commerce.catalogue import Catalogue, Reembedding, Row, writer


def test_what_was_acknowledged_survives_a_kill_from_outside(tmp_path):
    catalogue = Catalogue.create(tmp_path / "c", "m", SPACES)
    for seed in range(3):
        read, told = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                with Catalogue(tmp_path / "c").writing() as w:
                    for batch in range(1000):
                        first = 10_000 * seed + 5 * batch
                        w.add([row(first + i) for i in range(5)], vectors(5, first))
                        os.write(told, b"%d\n" % first)
            finally:
                os._exit(1)
        os.close(told)
        acknowledged = b""
        while acknowledged.count(b"\n") < 25:
            acknowledged += os.read(read, 4096)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while more := os.read(read, 4096):
            acknowledged += more
        os.close(read)
        firsts = [int(line) for line in acknowledged.split()]
        for first in firsts:
            assert all(catalogue.has(f"i{first + i}", f"{first + i:032x}") for i in range(5))
        mine = [r for r in catalogue.rows() if int(r.id[1:]) // 10_000 == seed]
        assert len(mine) in (5 * len(firsts), 5 * len(firsts) + 5), "a batch is there whole or not at all"
    assert catalogue.verify() == []
    assert len(catalogue.view().segments) < 40, "small batches were joined on the way"


def test_a_second_writer_is_refused_and_readers_are_not(tmp_path):
    catalogue, every = filled(tmp_path / "c", 20)
    with catalogue.writing():
        with pytest.raises(UserError, match="is held by this process already"), catalogue.writing():
            pass

        def other():
            lock._held.clear()  # what a process of its own would not know of
            found = Catalogue(catalogue.path)
            assert found.search({"product": every["product"][3]}, k=1)[0].row.id == "i3"
            with pytest.raises(UserError, match=f"is held by process {os.getppid()}"), found.writing():
                pass

        assert in_child(other) == 0
    with catalogue.writing():
        pass


def test_readers_see_whole_states_while_a_writer_changes_and_compacts(tmp_path):
    catalogue, every = filled(tmp_path / "c", 40)
    stop = threading.Event()
    wrong: list[str] = []
    seen: set[int] = set()

    def read(own: Catalogue):
        while not stop.is_set():
            hits = own.search({"product": every["product"][3]}, k=100)
            ids = [hit.row.id for hit in hits]
            extra = {int(i[1:]) for i in ids} - set(range(40))
            # The writer adds tens of ten rows, removes them, and compacts: there are ten or none.
            if ids[0] != "i3" or len(ids) != len(set(ids)) or len(extra) not in (0, 10) or len(ids) - len(extra) != 40:
                wrong.append(str(ids))
            seen.add(len(ids))

    def write():
        with Catalogue(tmp_path / "c").writing() as w:
            for turn in range(1, 25):
                fresh = [1000 * turn + i for i in range(10)]
                w.add([row(i) for i in fresh], vectors(10, turn))
                w.remove([f"i{i}" for i in fresh])
                w.compact()

    readers = [threading.Thread(target=read, args=(own,)) for own in (catalogue, catalogue, Catalogue(tmp_path / "c"))]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            write()
            code = 0
        finally:
            os._exit(code)
    for reader in readers:
        reader.start()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert seen == {40, 50}
    assert len(catalogue) == 40


def test_a_view_outlives_the_files_it_was_made_of(tmp_path):
    catalogue, every = filled(tmp_path / "c", 20)
    old = catalogue.view()
    with catalogue.writing() as w:
        w.remove(["i3"])
        w.compact()
    assert old.row(old.at("i3")).id == "i3"
    assert np.array_equal(old.vectors(np.array([old.at("i3")]), "product")[0], every["product"][3])
    assert not catalogue.has("i3")


@pytest.mark.parametrize("name", ["rows.jsonl", "product.npy", "columns.npz"])
def test_verify_finds_a_changed_byte(tmp_path, name):
    catalogue, _ = filled(tmp_path / "c", 20)
    path = next((tmp_path / "c" / "segments").iterdir()) / name
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    # A zip whose end is damaged cannot even be opened.
    assert any(name in line or "is damaged" in line for line in catalogue.verify())


def test_a_cut_or_missing_file_is_told(tmp_path):
    filled(tmp_path / "c", 20)
    folder = next((tmp_path / "c" / "segments").iterdir())
    (folder / "product.npy").write_bytes((folder / "product.npy").read_bytes()[:300])
    with pytest.raises(UserError, match=r"is damaged .* restore a snapshot"):
        Catalogue(tmp_path / "c")
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="lacks"):
        Catalogue(tmp_path / "c")
    (tmp_path / "c" / "catalogue.json").write_text('{"version": 1, "mod')
    with pytest.raises(UserError, match="is damaged"):
        Catalogue(tmp_path / "c")
    (tmp_path / "c" / "catalogue.json").write_text('{"version": 2, "model": "m", "spaces": {}}')
    with pytest.raises(UserError, match="of a newer daybreak"):
        Catalogue(tmp_path / "c")


def test_two_models_never_meet_and_a_new_one_is_swapped_in_whole(tmp_path):
    catalogue, every = filled(tmp_path / "c", 20)
    catalogue.snapshot("before")
    again = Reembedding(catalogue, "shopnet-2", {"product": 4})
    new = unit(30, 4, 5)
    for rows in again.missing(7):
        again.add(rows, {"product": np.stack([new[int(r.id[1:])] for r in rows])})
        break
    with pytest.raises(UserError, match="13 of 20 items have no vectors of shopnet-2 yet"):
        again.swap()
    assert catalogue.search({"product": every["product"][3]}, k=1, model="shopnet-1")[0].row.id == "i3"
    with catalogue.writing() as w:
        w.remove(["i0"])
        w.update("i1", price=9.25)
        w.add([row(21)], vectors(1, 3))
    again = Reembedding(catalogue, "shopnet-2", {"product": 4})
    for rows in again.missing(7):
        again.add(rows, {"product": np.stack([new[int(r.id[1:])] for r in rows])})
    with pytest.raises(UserError, match="is being embedded with shopnet-2, not shopnet-3"):
        Reembedding(catalogue, "shopnet-3", {"product": 4})
    again.swap()
    assert (catalogue.model, catalogue.spaces, len(catalogue)) == ("shopnet-2", {"product": 4}, 20)
    assert catalogue.search({"product": new[21]}, k=1)[0].row.id == "i21"
    assert catalogue.get("i1").price == 9.25
    assert not catalogue.has("i0")
    with pytest.raises(UserError, match="of the model shopnet-2, these are of shopnet-1"):
        catalogue.search({"product": new[1]}, model="shopnet-1")
    with pytest.raises(UserError, match="has the vectors of shopnet-2 already"):
        Reembedding(catalogue, "shopnet-2", {"product": 4})
    assert catalogue.verify() == []
    catalogue.restore("before")
    assert catalogue.search({"product": every["product"][3]}, k=1, model="shopnet-1")[0].row.id == "i3"


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 40), st.integers(1, 9), st.integers(0, 3)),
            st.tuples(st.just("remove"), st.sets(st.integers(0, 40), max_size=20)),
            st.tuples(st.just("price"), st.integers(0, 40), st.floats(0, 9)),
            st.tuples(st.just("compact")),
            st.tuples(st.just("snapshot")),
            st.tuples(st.just("restore")),
        ),
        max_size=25,
    )
)
def test_any_sequence_of_changes_leaves_what_a_dictionary_would_hold(tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("any") / "c"
    catalogue = Catalogue.create(path, "m", {"a": 4})
    held: dict[str, tuple[Row, np.ndarray]] = {}
    kept: list[dict] = []
    with pytest.MonkeyPatch.context() as patch, catalogue.writing() as w:
        patch.setattr(writer, "LARGEST", 16)
        patch.setattr(writer, "FANOUT", 2)
        for kind, *rest in changes:
            if kind == "add":
                first, count, seed = rest
                rows = [row(i, digest=f"{seed:02x}") for i in range(first, first + count)]
                found = np.stack([unit(1, 4, 1000 * seed + i)[0] for i in range(first, first + count)])
                w.add(rows, {"a": found})
                held |= {r.id: (r, x) for r, x in zip(rows, found, strict=True)}
            elif kind == "remove":
                names = [f"i{i}" for i in rest[0]]
                assert w.remove(names, missing_ok=True) == sum(name in held for name in names)
                held = {name: x for name, x in held.items() if name not in names}
            elif kind == "price" and f"i{rest[0]}" in held:
                w.update(f"i{rest[0]}", price=rest[1])
                old, x = held[f"i{rest[0]}"]
                held[old.id] = (row(rest[0], digest=old.digest, price=rest[1]), x)
            elif kind == "compact":
                w.compact()
            elif kind == "snapshot":
                w.snapshot(f"s{len(kept)}")
                kept.append(dict(held))
            elif kind == "restore" and kept:
                w.restore(f"s{len(kept) - 1}")
                held = dict(kept[-1])
    assert {r.id: r for r in Catalogue(path).rows()} == {name: r for name, (r, _) in held.items()}
    assert catalogue.verify() == []
    query = unit(1, 4, 77)[0]
    wanted = sorted(held, key=lambda n: (-float(held[n][1].astype(np.float64) @ query), n))[:5]
    assert [hit.row.id for hit in catalogue.search({"a": query}, k=5)] == wanted
