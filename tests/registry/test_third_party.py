"""A third party's package: built, installed beside daybreak, and a full member of the house by its entry point."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "thirdparty"


PROGRAM = """
import contextlib, io, json, sys
from daybreak.cli import main
answers = []
for words in json.loads(sys.argv[1]):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as stop:
            code = stop.code
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""
"""Command lines one after another in one process, so that torch is imported once."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder into which the package's wheel was built and installed."""
    folder = tmp_path_factory.mktemp("thirdparty")
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "-w", folder, folder / "source"], check=True)
    (wheel,) = folder.glob("daybreak_sines-*.whl")
    subprocess.run([*pip, "install", *offline, "--target", folder / "site", wheel], check=True)
    return folder / "site"


def test_it_is_listed_ingested_trained_reported_registered_and_used(site, tmp_path):
    lab = tmp_path / "lab"
    files = tmp_path / "files"
    files.mkdir()
    (files / "bad.json").write_text("{")
    about = {"recorder": "me", "hertz": 5.0, "samples": [math.sin(math.tau * 5 * t / 64) for t in range(64)]}
    (files / "good.json").write_text(json.dumps(about))
    wave = ",".join(f"{math.sin(math.tau * 7 * t / 64):.6f}" for t in range(64))
    commands = [
        ["systems", "--json"],
        ["lake", "add", "sines", "--licence", "CC0-1.0", "--source", "made"],
        ["lake", "add", "sines", str(files), "--licence", "CC0-1.0", "--json"],
        ["train", "sines", "--steps", "150", "--name", "<img onerror=alert(1)>"],
        ["train", "sines", "--widht", "8"],
        ["morning"],
        ["registry", "add", "1"],
        ["registry", "show", "sines", "--json"],
        ["sines", "measure", f"--samples={wave}"],
        ["sines"],
    ]
    env = {**os.environ, "PYTHONPATH": str(site), "DAYBREAK_LAB": str(lab), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [code for code, _, _ in answers] == [0, 0, 0, 0, 2, 0, 0, 0, 0, 0], answers
    systems, _, broken, _, mistake, _, _, show, measured, overview = answers

    assert {row["system"]: row["recipes"] for row in json.loads(systems[1])}["sines"] == "frequency"
    assert "bad.json" in broken[1] + broken[2]
    assert "did you mean --width" in mistake[2]
    (page,) = (lab / "daily").glob("*/index.html")
    assert "sines:frequency#1" in (page.parent / "data.json").read_text()
    assert "sines:frequency" in (page.parent / "log.md").read_text()
    assert "sines:frequency" in page.read_text()
    assert "<img onerror" not in page.read_text()
    assert json.loads(show[1])["items"]["licences"] == {"CC0-1.0": 241}
    assert json.loads(measured[1])["hertz"] == pytest.approx(7, abs=2.5)
    assert "measure  Measure the frequency of a recording." in overview[1]


SHIPPED = """
import json, sys
import httpx
from serving import running
from daybreak.lab.home import Lab
from daybreak.lab.registry import locate
from daybreak.lab.model import Model
from daybreak.lab.ship.kiosk import shown
from daybreak.lab.ship.kiosk.fields import plan, request_of
wave = json.loads(sys.argv[1])
lab = Lab.existing()
with running(lab, "sines") as server:
    served = server.post("sines/measure", {"samples": wave}).json()
    schema = httpx.get(server.url + "/openapi.json").json()
model = Model.load(locate(lab, "sines").path)
measure = model.actions()["measure"]
(field,) = plan(measure.request, model.describe())
request = request_of(measure, [field], [", ".join(map(str, wave))], {}, lab.root)
print(json.dumps({
    "served": served, "routes": list(schema["paths"]), "field": [field.name, field.kind, field.required],
    "answer": shown.html(model.measure(request)), "measured": model.measure(request).hertz,
}))
"""


@pytest.mark.slow
def test_it_is_exported_served_and_shown_in_the_kiosk(site, tmp_path):
    """Without a line in daybreak: files that answer the same in fp32 and int8, a page, a route, a form."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    pytest.importorskip("fastapi")
    tests = EXAMPLE.parent.parent / "tests"
    path = os.pathsep.join(map(str, (site, tests / "ship", tests / "toys")))
    env = {**os.environ, "PYTHONPATH": path, "DAYBREAK_LAB": str(tmp_path / "lab"), "OMP_NUM_THREADS": "1"}
    commands = [
        ["lake", "add", "sines", "--licence", "CC0-1.0", "--source", "made"],
        ["train", "sines", "--steps", "150"],
        ["registry", "add", "1"],
        ["export", "sines", "--to", "onnx", "--precision", "fp32,int8", "--json"],
        *([["export", "sines", "--to", "page", "--json"]] if shutil.which("npm") else []),
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [code for code, _, _ in answers] == [0] * len(commands), answers
    exports = tmp_path / "lab" / "registry" / "sines" / "1" / "exports"
    for name in ("onnx", "onnx-int8", *(["page"] if shutil.which("npm") else [])):
        assert (exports / name / "manifest.json").is_file()
    told = json.loads((exports / "onnx" / "manifest.json").read_text())
    assert told["programs"]["measure"]["measured_on"] == 32
    assert told["programs"]["measure"]["parity"][0]["worst"] <= 1e-4 * told["programs"]["measure"]["parity"][0]["scale"]
    goal = json.loads((exports / "onnx-int8" / "manifest.json").read_text())["goal"]
    assert goal["value"] <= goal["gate"] == 2.0
    assert "| onnx | int8 |" in (exports.parent / "card.md").read_text()
    wave = [math.sin(math.tau * 7 * t / 64) for t in range(64)]
    done = subprocess.run(
        [sys.executable, "-c", SHIPPED, json.dumps(wave)], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout.splitlines()[-1])
    assert shown["served"]["hertz"] == pytest.approx(shown["measured"])
    assert "/v1/sines/measure" in shown["routes"]
    assert shown["field"] == ["samples", "text", True]
    assert f"{shown['measured']:.4g}" in shown["answer"]


def test_no_file_of_the_lab_knows_the_package():
    root = EXAMPLE.parent.parent / "daybreak"
    assert not [path for path in root.rglob("*.py") if re.search(r"\bsines\b", path.read_text())]
