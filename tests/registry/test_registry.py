"""The registry's promises: only what passes gets in, whole; every reading is recorded; an alias never lies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings

import pytest

import daybreak
from daybreak.cli import main
from daybreak.errors import UserError
from daybreak.lab import registry
from daybreak.lab.derive import new_run, plan
from daybreak.lab.recipe import Gate
from daybreak.lab.train import train


def finished(lab, *flags, spec="toy:mlp", parent=""):
    run = new_run(lab, plan(lab, spec, ["--steps", "5", *flags], parent=parent), threads=1)
    assert train(lab, run, progress=False) == "finished"
    return run


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def strict(monkeypatch):
    """A gate that nothing passes."""
    from daybreak_toys.mlp import Mlp

    monkeypatch.setattr(Mlp, "gates", (Gate(Mlp.goal, 2.0), Gate(Mlp.goal, 1e-12)))


def test_a_run_that_passes_becomes_version_one_with_its_lineage(lab):
    run = finished(lab)
    version = registry.add(lab, run, by="ana")
    assert version.title == "toy@1"
    kept = files(version.path)
    assert {name: kept[name] for name in files(run.path / "final")} == files(run.path / "final")
    assert kept["run.json"] == (run.path / "run.json").read_bytes()
    record = json.loads(kept["record.json"])
    assert (record["run"], record["by"], record["number"]) == (run.id, "ana", 1)
    (gate,) = record["test"]["gates"]
    assert gate["passed"]
    assert gate["value"] == record["test"]["goal"]["value"] <= gate["bound"] == 2.0
    assert record["test"]["items"] == 8
    assert record["lineage"]["versions"]["torch"]


def test_neither_a_version_nor_what_ships_names_a_path_of_this_machine(lab, tmp_path):
    from daybreak.lab.registry.pack import pack

    begun = tmp_path / "elsewhere" / "old-weights"
    version = registry.add(lab, finished(lab, "--start", str(begun)))
    assert version.record["config"]["start"] == "old-weights"
    folder = pack(lab, version, tmp_path / "packed", half=True, by="me")
    for name in ("record.json", "card.md", "config.json"):
        assert str(tmp_path) not in (folder / name).read_text()


def test_a_failing_gate_is_named_with_value_and_bound_and_the_reading_is_recorded(lab, strict):
    run = finished(lab)
    for reading in (1, 2):
        with pytest.raises(
            UserError, match=rf"squared error is [\d.e-]+, .* at most 1e-12 .*8 test items, reading {reading} "
        ):
            registry.add(lab, run, by="ana")
    lines = registry.readings(lab)
    assert [line["reading"] for line in lines] == [1, 2]
    assert [line["passed"] for line in lines] == [False, False]
    assert {line["by"] for line in lines} == {"ana"}
    assert registry.models(lab) == []


def test_the_gate_is_read_on_test_items_and_of_the_final_weights(lab):
    from daybreak_toys.mlp import points

    run = finished(lab)
    version = registry.add(lab, run)
    model = daybreak.load(str(version.path))
    x, y = points(2, 64)
    errors = [(model.net(x[n]) - y[n]).square().item() for n in range(20, 28)]
    assert version.record["test"]["goal"]["value"] == pytest.approx(sum(errors) / 8, rel=1e-5)


def test_the_same_run_twice_is_one_version_and_one_reading(lab):
    run = finished(lab)
    assert registry.add(lab, run) == registry.add(lab, run)
    assert len(registry.readings(lab)) == 1


def test_versions_count_up_and_readings_of_one_test_set_are_counted_over_runs(lab):
    a, b = finished(lab), finished(lab, "--seed", "1")
    assert [registry.add(lab, run).number for run in (a, b)] == [1, 2]
    assert [line["reading"] for line in registry.readings(lab)] == [1, 2]
    assert registry.add(lab, a, name="other").title == "other@1"


def test_a_run_that_is_not_finished_or_makes_no_model_is_refused(lab):
    new = new_run(lab, plan(lab, "toy:mlp", []), threads=1)
    with pytest.raises(UserError, match="only a finished run"):
        registry.add(lab, new)
    with pytest.raises(UserError, match="makes no model"):
        registry.add(lab, finished(lab, spec="toy:count"))


@pytest.mark.parametrize("name", ["../out", "A", "", "1", "a/b", "production.", "x" * 80, "é"])
def test_a_name_that_cannot_be_a_folder_is_refused_before_the_test_set_is_read(lab, name):
    run = finished(lab)
    if name:
        with pytest.raises(UserError, match="lower-case"):
            registry.add(lab, run, name=name)
        assert registry.readings(lab) == []
    assert registry.versions(lab, name) == []


def test_promote_and_rollback_walk_the_history_and_twice_does_nothing_twice(lab):
    for seed in "012":
        registry.add(lab, finished(lab, "--seed", seed))
    for number in (1, 2, 2, 3, 2):
        registry.promote(lab, f"toy@{number}", by="ana")
    assert (lab.registry / "toy" / "production").read_text() == "2\n"
    assert len(registry.history(lab, "toy")) == 4
    assert [registry.rollback(lab, "toy").number for _ in range(3)] == [3, 2, 1]
    with pytest.raises(UserError, match="no other version before"):
        registry.rollback(lab, "toy")
    assert registry.find(lab, "toy").number == 1
    assert registry.find(lab, "toy@production").aliases == ("production",)
    registry.promote(lab, "toy@3", "canary")
    assert registry.find(lab, "toy@canary").number == 3


def test_a_crash_between_history_and_alias_leaves_the_alias_right(lab):
    for seed in "012":
        registry.add(lab, finished(lab, "--seed", seed))
    registry.promote(lab, "toy@1")
    registry.promote(lab, "toy@2")
    line = {"event": "promote", "alias": "production", "version": 3, "from": 2}
    with open(lab.registry / "toy" / "aliases.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n" + '{"event": "promo')
    assert registry.find(lab, "toy").number == 2
    assert registry.rollback(lab, "toy").number == 1


def test_a_kill_while_adding_leaves_no_half_version(lab):
    run = finished(lab)
    program = (
        "import os, shutil, sys\n"
        "from daybreak.lab import registry\n"
        "from daybreak.lab.home import Lab\n"
        "from daybreak.lab.run import Run\n"
        "copy = shutil.copytree\n"
        "def half(a, b):\n"
        "    copy(a, b); os.kill(os.getpid(), 9)\n"
        "shutil.copytree = half\n"
        "lab = Lab.open()\n"
        "registry.add(lab, Run.find(lab, '1'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in (lab.registry / "toy").iterdir() if not path.name.startswith(".")] == []
    assert len(registry.readings(lab)) == 1
    assert registry.add(lab, run).number == 1
    assert not list((lab.registry / "toy").glob(".*.part"))


def test_mistakes_name_the_nearest(lab):
    registry.add(lab, finished(lab))
    for text, said in {
        "toi": "did you mean toy",
        "toy@4": "version or alias '4'; there is: 1",
        "toy@producton": "no version or alias",
        "../toy@1": "no registered model",
    }.items():
        with pytest.raises(UserError, match=said):
            registry.find(lab, text)
    with pytest.raises(UserError, match="name a version to promote, as in toy@1"):
        registry.promote(lab, "toy")
    with pytest.raises(UserError, match="an alias is lower-case"):
        registry.promote(lab, "toy@1", "9/../x")
    with pytest.raises(UserError, match="no alias 'production'"):
        registry.rollback(lab, "toy")


def test_a_bare_name_is_production_then_shipped_then_newest_then_a_run(lab, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="daybreak train toy"):
        registry.locate(lab, "toy")
    a = finished(lab)
    assert registry.locate(lab, "toy").note
    with pytest.warns(UserWarning, match="newest finished run"):
        daybreak.load("toy")
    registry.add(lab, a)
    registry.add(lab, finished(lab, "--seed", "1"))
    assert registry.locate(lab, "toy").title == "toy@2"
    monkeypatch.setattr("daybreak.lab.registry.place.shipped", lambda name, model: tmp_path)
    assert registry.locate(lab, "toy").path == tmp_path
    registry.promote(lab, "toy@1")
    assert registry.locate(lab, "toy").title == "toy@1"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert type(daybreak.load("toy")).__name__ == "MlpModel"


def test_a_model_is_named_by_run_version_alias_or_folder_and_using_it_makes_no_lab(lab, tmp_path, monkeypatch):
    run = finished(lab)
    registry.promote(lab, registry.add(lab, run).title)
    for text in ("toy", "toy@1", "toy@production", "1", run.id, run.title, str(run.path), str(run.path / "final")):
        assert type(daybreak.load(text)).__name__ == "MlpModel"
    with pytest.raises(UserError, match="not started"):
        daybreak.load(new_run(lab, plan(lab, "toy:mlp", []), threads=1).id)
    monkeypatch.setenv("DAYBREAK_LAB", str(tmp_path / "none"))
    for text, said in {"toy@1": "no lab here", "toy": "train one", "tox": "did you mean toy"}.items():
        with pytest.raises(UserError, match=said):
            daybreak.load(text)
    assert daybreak.load(str(run.path / "final"))
    assert not (tmp_path / "none").exists()


def test_the_lineage_names_every_parent_also_a_deleted_one(lab):
    a = finished(lab)
    b = finished(lab, "--lr", "1e-2", parent=a.id)
    c = finished(lab, "--lr", "1e-3", parent=b.id)
    assert registry.lineage(lab, c)["parents"] == [b.id, a.id]
    b.remove()
    assert registry.lineage(lab, c)["parents"] == [b.id]


def test_the_commands_print_tables_records_and_json(lab, capsys):
    run = finished(lab)
    main(["registry", "ls"])
    assert "no model is registered yet" in capsys.readouterr().err
    main(["registry", "add", run.id, "--by", "ana"])
    main(["registry", "promote", "toy@1"])
    main(["registry", "promote", "toy@1", "--as", "canary"])
    capsys.readouterr()
    main(["registry", "ls", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["aliases"] == ["canary", "production"]
    assert (row["model"], row["by"], row["test items"]) == ("toy@1", "ana", 8)
    main(["registry", "show", "toy"])
    assert "squared error is" in capsys.readouterr().out
    for argv in (["registry", "show", "nothing"], ["registry", "add", "77"], ["registry", "rollback", "toy"]):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
