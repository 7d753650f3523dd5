"""What every test has: the toy system installed, and a lab of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

TOYS = Path(__file__).parent / "toys"
sys.path.insert(0, str(TOYS))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOYS), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def lab(tmp_path, monkeypatch):
    from daybreak.lab.home import Lab

    monkeypatch.setenv("DAYBREAK_LAB", str(tmp_path / "lab"))
    return Lab.open()


@pytest.fixture(scope="session")
def web_runtime():
    """The runtime of a page, from npm; the test is skipped where it cannot be had."""
    from daybreak.errors import UserError
    from daybreak.lab.ship.page import npm

    pytest.importorskip("onnxruntime")
    try:
        npm.runtime()
    except UserError as error:
        pytest.skip(str(error))
