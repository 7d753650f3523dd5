"""Environments of the converters: made on first use from pinned versions, whole or not at all.

A target's packages may contradict daybreak's own, so each has a virtual environment in the user's cache. It knows
pins and folders; it knows nothing about models.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from daybreak.errors import UserError, nearest
from daybreak.lab.ship.export.session import last_words

PINS = Path(__file__).parent / "pins"
CACHE = "DAYBREAK_CACHE"


@dataclass(frozen=True)
class Target:
    """Something that models are converted to."""

    name: str
    line: str
    own: tuple[str, ...] = ()
    """Modules with which daybreak's own environment will do (the extra `export`)."""
    runs: bool = True
    """Whether what it makes can run here; parity is measured only then."""
    precisions: tuple[str, ...] = ("fp32",)
    dynamic: bool = True
    """Whether it has axes whose length varies. Without, such an axis is fixed at 1."""


TARGETS = {
    target.name: target
    for target in (
        Target(
            "onnx", "ONNX Runtime: servers, desktops, browsers", ("onnx", "onnxruntime", "onnxscript"),
            precisions=("fp32", "fp16", "int8"),
        ),
        Target("executorch", "ExecuTorch with XNNPACK: phones and small machines", precisions=("fp32", "int8")),
        Target("litert", "LiteRT (TensorFlow Lite): Android", dynamic=False),
        Target("coreml", "Core ML: iOS and macOS", runs=sys.platform == "darwin", precisions=("fp32", "fp16")),
    )
}  # fmt: skip


def target(name: str) -> Target:
    """The target of that name. Raises `UserError` with the nearest."""
    if name not in TARGETS:
        raise UserError(f"unknown target {name!r}; {nearest(name, [*TARGETS, 'page'])}")
    return TARGETS[name]


def python(wanted: Target, say: Callable[[str], None]) -> Path:
    """The interpreter of a target's environment, which is made where it is not there yet."""
    if wanted.own and all(importlib.util.find_spec(name) for name in wanted.own):
        return Path(sys.executable)
    return _made(wanted, say)


def folder(wanted: Target) -> Path:
    """Where a target's environment is: named by its pins and by this Python."""
    cache = os.environ.get(CACHE) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daybreak"
    about = (PINS / f"{wanted.name}.txt").read_text() + sys.version + sys.prefix
    return Path(cache) / "converters" / f"{wanted.name}-{hashlib.sha256(about.encode()).hexdigest()[:10]}"


def _made(wanted: Target, say: Callable[[str], None]) -> Path:
    import fcntl

    place = folder(wanted)
    binary = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    without = f"go on without it: leave {wanted.name} out of --to"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place.parent / f".{place.name}.lock", "w") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            if (place / "whole").exists():
                return binary
            say(f"making the environment of {wanted.name} in {place}; this happens once and takes minutes")
            shutil.rmtree(place, ignore_errors=True)  # of a making that died; the lock says that no other is at work
            venv.create(place, with_pip=True)
            pins = PINS / f"{wanted.name}.txt"
            install: list[str | Path] = [binary, "-m", "pip", "install", "-q", "-r", pins]
            steps: list[tuple[str, list[str | Path]]] = [("pip", install), ("torch", [binary, "-c", "import torch"])]
            for what, command in steps:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    shutil.rmtree(place, ignore_errors=True)
                    raise UserError(
                        f"the environment of {wanted.name} cannot be made: {what}: {last_words(done.stderr)}; {without}"
                    )
            (place / "whole").touch()
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"the environment of {wanted.name} cannot be made in {place}: {error}; {without}") from error
    return binary
