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
