"""A third party's package: built, installed beside daybreak, and a full member of the house by its entry point."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "thirdparty"


@pytest.fixture(scope="module")
def daybreak(tmp_path_factory):
    """The command line of a Python that has the package's wheel installed; it returns stdout, then stderr."""
    folder = tmp_path_factory.mktemp("thirdparty")
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "-w", folder, folder / "source"], check=True)
    (wheel,) = folder.glob("daybreak_sines-*.whl")
    subprocess.run([*pip, "install", *offline, "--target", folder / "site", wheel], check=True)
    env = {
        **os.environ,
        "PYTHONPATH": str(folder / "site"),
        "DAYBREAK_LAB": str(folder / "lab"),
        "OMP_NUM_THREADS": "1",
    }

    def run(*words: str, code: int = 0) -> tuple[str, str]:
        program = "from daybreak.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program, *words], env=env, cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        return done.stdout, done.stderr

    run.lab = folder / "lab"
    return run


def test_it_is_listed_ingested_trained_registered_used_and_reported(daybreak, tmp_path):
    systems = {row["system"]: row for row in json.loads(daybreak("systems", "--json")[0])}
    assert systems["sines"]["recipes"] == "frequency"

    (tmp_path / "bad.json").write_text("{")
    about = {"recorder": "me", "hertz": 5.0, "samples": [math.sin(math.tau * 5 * t / 64) for t in range(64)]}
    (tmp_path / "good.json").write_text(json.dumps(about))
    daybreak("lake", "add", "sines", "--licence", "CC0-1.0", "--source", "made")
    out, err = daybreak("lake", "add", "sines", str(tmp_path), "--licence", "CC0-1.0", "--json")
    assert "bad.json" in out + err

    daybreak("train", "sines", "--steps", "150", "--name", "<img onerror=alert(1)>")
    _, err = daybreak("train", "sines", "--widht", "8", code=2)
    assert "did you mean --width" in err

    daybreak("morning")
    (page,) = (daybreak.lab / "daily").glob("*/index.html")
    log = (page.parent / "log.md").read_text()
    assert "sines:frequency#1" in log
    assert "error" in log
    assert "<img onerror" not in page.read_text()

    daybreak("registry", "add", "1")
    record = json.loads(daybreak("registry", "show", "sines", "--json")[0])
    assert record["items"]["licences"] == {"CC0-1.0": 241}

    wave = ",".join(str(round(math.sin(math.tau * 7 * t / 64), 6)) for t in range(64))
    answer = json.loads(daybreak("sines", "measure", f"--samples={wave}")[0])
    assert answer["hertz"] == pytest.approx(7, abs=2.5)


def test_no_file_of_the_lab_knows_the_package():
    root = EXAMPLE.parent.parent / "daybreak"
    assert not [path for path in root.rglob("*.py") if "sines" in path.read_text()]
