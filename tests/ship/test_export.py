"""Export's promises: the same answers or nothing, real inputs, nothing half, and a clear word where it cannot be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from daybreak_toys.mlp import Mlp, MlpModel, Net
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from daybreak.cli import main
from daybreak.errors import UserError
from daybreak.lab import registry
from daybreak.lab.derive import new_run, plan
from daybreak.lab.lake import Snapshot
from daybreak.lab.model import Model
from daybreak.lab.program import Axis, Program
from daybreak.lab.recipe import Gate
from daybreak.lab.registry import Place
from daybreak.lab.ship import export as room
from daybreak.lab.ship.export import environment, publish
from daybreak.lab.ship.export.parity import compared
from daybreak.lab.ship.export.session import Lacking, Session, convert
from daybreak.lab.ship.export.trace import fixed, real, trace
from daybreak.lab.ship.export.workers import common
from daybreak.lab.train import train


def saved(folder: Path) -> Place:
    torch.manual_seed(0)
    return Place(MlpModel(Net()).save(folder / "toy"), "toy")


def exporter(place: Place, folder: Path, lab=None) -> room.Exporter:
    return room.Exporter(lab, place, folder, say=lambda line: None)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A third party's model as ONNX: its place and the export."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("export")
    place = saved(folder)
    (made,) = exporter(place, folder / "out").run(["onnx"])
    return place, made


def test_a_third_partys_model_is_exported_and_answers_as_python_does(exported):
    import onnxruntime

    place, made = exported
    x = torch.randn(7, 16)
    with torch.inference_mode():
        want = Model.load(place.path).net(x).numpy()
    (got,) = onnxruntime.InferenceSession(made.path / "predict.onnx").run(["y"], {"x": x.numpy()})
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_the_manifest_says_parity_on_real_inputs_latency_memory_and_how_it_was_made(exported):
    _, made = exported
    told = json.loads((made.path / "manifest.json").read_text())
    program = told["programs"]["predict"]
    assert program["measured_on"] >= 32
    assert (program["shortest"], program["longest"]) == ({"batch": 1}, {"batch": 9})
    assert program["parity"][0]["worst"] <= 1e-4
    assert min(program["latency_ms"], program["eager_ms"], told["memory"], told["eager_memory"]) > 0
    assert told["bytes"] == sum(p.stat().st_size for p in made.path.iterdir() if p.name != "manifest.json")
    assert program["inputs"]["x"] == {"dtype": "float32", "shape": [{"axis": "batch", "low": 1, "high": 64}, 16]}
    assert told["made"]["versions"]["onnxruntime"]
    assert "commit" in told["code"]
    assert str(Path.cwd()) not in (made.path / "predict.onnx").read_bytes().decode(errors="ignore")


class Differing(nn.Module):
    """A net whose graph is not what it computes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x) + (1e-3 if torch.compiler.is_exporting() else 0.0)


def test_without_parity_nothing_is_kept_and_what_differs_is_said(tmp_path, monkeypatch, capsys):
    place = saved(tmp_path)
    usual = MlpModel.programs

    def programs(self):
        one = usual(self)["predict"]
        return {"predict": Program(Differing(one.module), one.example, one.outputs, one.inputs, one.dynamic)}

    monkeypatch.setattr(MlpModel, "programs", programs)
    with pytest.raises(SystemExit) as stop:
        main(["export", str(place.path), "--to", "onnx", "--out", str(tmp_path / "out")])
    assert stop.value.code == 1
    assert "predict: y differs by 0.001" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("onnx*"))


@pytest.mark.slow
def test_int8_is_scored_by_the_files_themselves_and_kept_inside_the_gate_alone(lab, monkeypatch):
    pytest.importorskip("onnxruntime")
    run = new_run(lab, plan(lab, "toy:mlp", ["--steps", "5", "--net.width", "512"]), threads=1)
    train(lab, run, progress=False)
    version = registry.add(lab, run)
    place = Place(version.path, version.title)
    one = exporter(place, version.path / "exports", lab)
    (made,) = one.run(["onnx"], ["int8"])
    room.finish(one)
    goal = made.manifest["goal"]
    assert (goal["name"], goal["gate"]) == ("squared error", 2.0)
    assert goal["value"] != goal["eager"]
    assert abs(goal["value"] - goal["eager"]) < 0.1
    last = registry.readings(lab)[-1]
    assert (last["export"], last["goal"]["value"]) == ("onnx int8", goal["value"])
    card = (version.path / "card.md").read_text()
    assert "| onnx | int8 |" in card
    room.finish(one)
    assert (version.path / "card.md").read_text() == card

    monkeypatch.setattr(Mlp, "gates", (Gate(Mlp.goal, 1e-9),))
    before = made.path.stat().st_ino
    with pytest.raises(room.Differs, match="the gate asks for 1e-09"):
        exporter(place, version.path / "exports", lab).run(["onnx"], ["int8"])
    assert made.path.stat().st_ino == before


KILLED = """
import sys, time
from pathlib import Path
from daybreak.lab.ship.export import publish
with publish.making(Path(sys.argv[1]), "onnx") as place:
    (place / "model.onnx").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_an_export_that_is_killed_leaves_what_was_whole_and_nothing_that_looks_so(tmp_path):
    with publish.making(tmp_path, "onnx") as place:
        (place / "manifest.json").write_text("{}")
        publish.commit(place, tmp_path, "onnx")
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["onnx"]
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["manifest.json"]
    assert publish.manifests(tmp_path) == [{}]
    with publish.making(tmp_path, "onnx"):
        assert len(list(tmp_path.glob(".*.part"))) == 1  # its own: the dead one's is swept
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--to", "onxx"], "unknown target 'onxx'; did you mean onnx?"),
        (["--to", "litert", "--precision", "int8"], "litert has no int8; it has fp32"),
        (["--setup", "executorhc"], "did you mean executorch?"),
    ],
)
def test_a_wrong_word_is_answered_by_the_nearest(tmp_path, capsys, flags, said):
    place = saved(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["export", str(place.path), *flags])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_an_unknown_model_version_or_alias_is_answered_by_the_nearest(lab, capsys):
    for name, said in (("toyy", "did you mean toy"), ("toy@production", "no registered model 'toy'")):
        with pytest.raises(SystemExit):
            main(["export", name, "--to", "onnx"])
        assert said in capsys.readouterr().err


def test_a_model_without_programs_says_so(tmp_path, monkeypatch):
    place = saved(tmp_path)
    monkeypatch.setattr(MlpModel, "programs", Model.programs)
    with pytest.raises(UserError, match="MlpModel has nothing to export: it defines no `programs`"):
        exporter(place, tmp_path / "out")


def test_an_environment_that_cannot_be_made_says_what_failed_and_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv(environment.CACHE, str(tmp_path))

    def create(place, with_pip):
        (place / "bin").mkdir(parents=True)
        (place / "bin" / "python").write_text("#!/bin/sh\necho 'ERROR: No matching distribution' >&2; exit 1\n")
        (place / "bin" / "python").chmod(0o755)

    monkeypatch.setattr(environment.venv, "create", create)
    wanted = environment.target("executorch")
    for _ in range(2):  # what failed is not taken for whole
        with pytest.raises(UserError, match=r"executorch cannot be made: pip: .*No matching.*leave executorch out"):
            environment.python(wanted, lambda line: None)
    assert not environment.folder(wanted).exists()


@pytest.mark.parametrize(
    ("full", "line"),
    [
        (True, r"cannot be made in .*No space left"),
        (False, r"cannot be made: torch: ModuleNotFoundError: No module named 'torch'; go on without it: leave litert"),
    ],
    ids=["disk", "torch"],
)
def test_an_environment_that_is_not_whole_is_not_used(tmp_path, monkeypatch, full, line):
    monkeypatch.setenv(environment.CACHE, str(tmp_path))

    def create(place, with_pip):
        if full:
            raise OSError("No space left on device")
        (place / "bin").mkdir(parents=True)
        (place / "bin" / "python").write_text(
            '#!/bin/sh\ncase "$*" in *pip*) exit 0; esac\n'
            "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1\n"
        )
        (place / "bin" / "python").chmod(0o755)

    monkeypatch.setattr(environment.venv, "create", create)
    wanted = environment.target("litert")
    with pytest.raises(UserError, match=line):
        environment.python(wanted, lambda line: None)
    assert not (environment.folder(wanted) / "whole").exists()


class Odd(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


@pytest.mark.parametrize("operator", ["aten::special_bessel_j0.out", "prims.bessel_j0"])
def test_an_operator_that_a_target_lacks_is_named_with_its_module_and_what_to_do(tmp_path, operator):
    traced = torch.export.export(nn.Sequential(nn.ReLU(), nn.Sequential(Odd())), (torch.zeros(2),), strict=False)
    where = common.whereabouts(operator, {"predict": traced})
    assert where == "program predict, module 1.0 (Odd)"
    assert common.whereabouts("aten.nothing", {"predict": traced}) == "program predict"
    told = json.dumps({"lacking": {"operator": operator, "where": where}})
    (tmp_path / "python").write_text(f"#!/bin/sh\necho '{told}'\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(Lacking) as error:
        convert("onnx", tmp_path / "python", {})
    assert str(error.value) == (
        f"onnx lacks the operator {operator} (in program predict, module 1.0 (Odd)): write that part of the module "
        "with other operators, or leave onnx out of --to"
    )


def test_every_target_has_a_converter_and_pins():
    for name, wanted in environment.TARGETS.items():
        assert room.TARGETS[name] is wanted
        pins = (environment.PINS / f"{name}.txt").read_text().split()
        assert pins
        assert all("==" in pin for pin in pins)
        assert (Path(room.__file__).parent / "workers" / f"to_{name}.py").is_file()


def program_of(lengths, **more) -> Program:
    def inputs(data, split):
        yield from ({"x": torch.zeros(1, length)} for length in lengths)

    axes = {"x": {1: Axis("time", 2, 50)}}
    return Program(nn.Identity(), {"x": torch.zeros(1, 3)}, ("y",), inputs, axes, **more)


def test_real_inputs_hold_the_shortest_and_the_longest(lab):
    lengths = np.random.default_rng(0).permutation(np.arange(3, 48)).tolist()
    found = [one["x"].shape[1] for one in real("p", program_of(lengths), Snapshot.none(lab, "toy"), ("test",))]
    assert len(found) == 32
    assert (found[0], found[-1], found) == (3, 47, sorted(found))


@pytest.mark.parametrize(
    ("lengths", "said"),
    [([3] * 31, "has 31 real inputs of test items, and 32 are needed"), ([51] * 32, "has a time of 2 to 50")],
)
def test_too_few_or_too_long_real_inputs_are_refused(lab, lengths, said):
    with pytest.raises(UserError, match=said):
        real("p", program_of(lengths), Snapshot.none(lab, "toy"), ("test",))


def test_where_a_target_has_no_varying_axes_they_are_one_long_or_it_says_which_cannot_be(lab):
    one = program_of(range(3, 40))
    with pytest.raises(UserError, match=r"litert has no axes .* x of program 'p' has one \(time, 2 to 50\)"):
        fixed("p", one, "litert")
    one = replace(one, dynamic={"x": {1: Axis("time", 1, 50)}})
    assert fixed("p", replace(one, static=program_of([5])), "litert").example["x"].shape == (1, 3)
    static = fixed("p", one, "litert")
    assert (static.example["x"].shape, static.dynamic) == ((1, 1), {})
    found = real("p", static, Snapshot.none(lab, "toy"), ("test",))
    assert {tuple(inputs["x"].shape) for inputs in found} == {(1, 1)}


def test_what_cannot_be_traced_is_named(tmp_path):
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    program = Program(Branching(), {"x": torch.zeros(2)}, ("y",), lambda data, split: iter(()))
    with pytest.raises(UserError, match=r"program 'odd' cannot be traced by torch.export: "):
        trace("odd", program, tmp_path)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20), st.integers(0, 19), st.floats(1e-3, 10))
def test_the_largest_difference_is_found_wherever_it_is(values, place, gap):
    want = torch.tensor(values)
    have = want.clone()
    have[place % len(values)] += gap
    found = compared("y", [want], [have])
    assert found.worst == pytest.approx(float((have - want).abs().max()))
    assert compared("y", [want], [want]).worst == 0


@pytest.mark.parametrize(
    ("want", "have", "said"),
    [
        (torch.zeros(2), torch.zeros(3), "has shape (3,), not (2,)"),
        (torch.zeros(2), torch.tensor([0.0, float("nan")]), "is not finite"),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), "differs in 1 whole numbers"),
    ],
)
def test_shapes_nans_and_whole_numbers_are_no_small_difference(want, have, said):
    found = compared("y", [want], [have])
    assert not found.holds(1e9)
    assert said in found.words()


def test_a_converter_that_dies_says_its_last_words(tmp_path):
    traced = saved(tmp_path)
    with (
        Session("eager", Path(sys.executable), traced.path) as session,
        pytest.raises(UserError, match=r"eager cannot run"),
    ):
        session.call("nothing", [torch.zeros(1)])
    with Session("eager", Path("/bin/false"), traced.path) as session:
        time.sleep(0.2)
        with pytest.raises(UserError, match=r"eager died .* it said nothing"):
            session.call("nothing", [torch.zeros(1)])
