"""Derivation: computed once, never stale, the same for any number of workers."""

import importlib
import os
import sqlite3
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import daybreak.lab.lake.version as version_module
from daybreak.errors import UserError
from daybreak.lab.lake import Draft, Lake
from daybreak.lab.lake.derive import pack, unpack
from daybreak.lab.lake.version import version_of

CALLS = []


def letters(item, read):
    CALLS.append(item.id)
    data = np.frombuffer(read("data"), np.uint8)
    return {"codes": data, "mean": np.float32(data.mean()), "empty": np.zeros((0, 3), "i2")}


def picky(item, read):
    if read("data") == b"7":
        raise ValueError("seven is unlucky")
    return {"x": np.arange(3)}


def deadly(item, read):
    if read("data") == b"7":
        os._exit(9)
    return {"x": np.arange(3)}


@pytest.fixture
def lake(lab):
    lake = Lake.open(lab)
    lake.add("toy", [Draft(f"n{i}", f"g{i}", {"data": b"%d" % i}) for i in range(40)], licence="CC0-1.0")
    CALLS.clear()
    return lake


def held(lake):
    with sqlite3.connect(lake.lab.root / "derived.sqlite") as db:
        return sorted(db.execute("SELECT item, version, data FROM derived"))


def test_a_miss_is_computed_and_kept_and_a_hit_is_not_computed(lake):
    snapshot = lake.snapshot("toy")
    item = snapshot.split("train")[0]
    first = snapshot.derived(letters, item)
    second = snapshot.derived(letters, item)
    assert [item.id] == CALLS
    assert first["codes"].tobytes() == second["codes"].tobytes() == snapshot.read(item)
    assert second["mean"].dtype == np.float32
    assert second["empty"].shape == (0, 3)
    second["codes"][:] = 0
    assert snapshot.derived(letters, item)["codes"].tobytes() == snapshot.read(item)


def test_any_number_of_workers_gives_the_same_bytes(lake, tmp_path):
    done = lake.derive(letters, lake.items())
    assert (done.computed, done.cached, done.broken) == (40, 0, [])
    again = lake.derive(letters, lake.items())
    assert (again.computed, again.cached) == (0, 40)
    other = Lake.open(tmp_path / "other")
    other.add("toy", [Draft(i.name, i.group, {"data": lake.read(i)}) for i in lake.items()], licence="CC0-1.0")
    seen = []
    assert other.derive(letters, other.items(), workers=2, progress=lambda d: seen.append(d.seen)).computed == 40
    assert held(lake) == held(other)
    assert seen == sorted(seen)
    assert seen[-1] == 40


@pytest.mark.parametrize("workers", [0, 1])
def test_an_item_for_which_the_function_raises_is_reported_and_the_others_go_on(lake, workers):
    done = lake.derive(picky, lake.items(), workers=workers)
    bad = next(item for item in lake.items() if item.name == "n7")
    assert done.computed == 39
    assert [(one.name, one.reason) for one in done.broken] == [(bad.id, "ValueError: seven is unlucky")]


def test_an_item_at_which_a_worker_dies_is_reported_and_the_others_go_on(lake):
    items = [item for item in lake.items() if item.name in ("n6", "n7", "n8")]
    done = lake.derive(deadly, items, workers=1)
    assert done.computed == 2
    assert [one.reason for one in done.broken] == ["the process that computed it died"]


def test_what_was_derived_goes_with_the_item(lake):
    lake.derive(letters, lake.items())
    item = next(lake.items())
    lake.remove(item.id, who="ada", why="")
    assert item.id not in {row[0] for row in held(lake)}
    assert len(held(lake)) == 39


def test_a_function_without_a_name_in_a_module_is_refused(lake):
    with pytest.raises(UserError, match="not a function at the top of a module"):
        lake.derive(lambda item, read: {}, lake.items())


# Versions.

PACKAGE = {
    "__init__.py": "",
    "a.py": """
        from typing import TYPE_CHECKING
        import numpy
        from . import b
        if TYPE_CHECKING:
            from pack_v.typed import T
        def f(item, read):
            from pack_v.deep.late import g
            return g()
        def other(item, read):
            return {}
        """,
    "b.py": "import pack_v.c",
    "c.py": "X = 1",
    "typed.py": "T = 1",
    "unrelated.py": "Y = 1",
    "deep/__init__.py": "def load():\n    import pack_v.unrelated",
    "deep/late.py": "def g(): return {}",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    for name, text in PACKAGE.items():
        file = tmp_path / "pack_v" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(version_module, "STARTED", time.time() + 3600)
    yield tmp_path / "pack_v"
    for name in [name for name in sys.modules if name.partition(".")[0] == "pack_v"]:
        del sys.modules[name]


def version(name="f"):
    version_of.cache_clear()
    importlib.invalidate_caches()
    return version_of(getattr(importlib.import_module("pack_v.a"), name))


@pytest.mark.parametrize("name", ["a.py", "b.py", "c.py", "deep/late.py", "deep/__init__.py", "__init__.py"])
def test_a_change_of_any_code_that_the_function_uses_changes_its_version(package, name):
    before = version()
    assert version() == before
    (package / name).write_text((package / name).read_text() + "\n# changed\n")
    assert version() != before


@pytest.mark.parametrize("name", ["typed.py", "unrelated.py"])
def test_a_change_of_code_that_it_does_not_use_leaves_its_version(package, name):
    before = version()
    (package / name).write_text("Z = 2")
    assert version() == before


def test_a_new_version_of_a_package_from_elsewhere_changes_the_version(package, monkeypatch):
    before = version()
    assert version("other") != before
    monkeypatch.setattr(version_module, "_distribution", lambda name: f"{name} 99")
    assert version() != before


def test_code_edited_while_the_process_runs_never_shares_a_version_with_what_is_on_the_disk(package, monkeypatch):
    before = version()
    monkeypatch.setattr(version_module, "STARTED", time.time() - 3600)
    edited = version()
    assert edited != before
    monkeypatch.setattr(version_module, "STARTED", time.time() - 7200)
    assert version() != edited


def test_a_script_derives_with_workers_and_a_change_of_it_derives_anew(lab, tmp_path):
    script = tmp_path / "script.py"
    text = textwrap.dedent("""
        import sys, numpy as np
        from daybreak.lab.lake import Draft, Lake
        def f(item, read):
            return {"x": np.full(2, 1)}
        if __name__ == "__main__":
            lake = Lake.open(sys.argv[1])
            lake.add("toy", [Draft("n", "g", {"data": b"1"})], licence="CC0-1.0")
            done = lake.derive(f, lake.items(), workers=1)
            snapshot = lake.snapshot("toy")
            item = next(lake.items())
            print(done.computed, done.cached, snapshot.derived(f, item)["x"][0])
        """)
    said = []
    for body in (text, text.replace("full(2, 1)", "full(2, 5)")):
        script.write_text(body)
        os.utime(script, (0, 0))
        call = [sys.executable, str(script), str(lab.root)]
        said.append(subprocess.run(call, capture_output=True, text=True, check=True).stdout.split())
    assert said == [["1", "0", "1"], ["1", "0", "5"]]


# The bytes.

kinds = st.sampled_from(["u1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "?", ">f4", "U3"])


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=5), arrays.arrays(kinds, arrays.array_shapes(min_dims=0, min_side=0))))
def test_arrays_come_back_bit_for_bit(value):
    found = unpack(pack(value))
    assert list(found) == list(value)
    for name, array in value.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
        assert found[name].flags.writeable


@pytest.mark.parametrize("bad", [np.array([object()]), np.zeros(2, [("a", "i4")])])
def test_arrays_of_objects_are_refused(bad):
    with pytest.raises(TypeError, match="not plain numbers"):
        pack({"x": bad})
