"""Exports on disk: a folder that appears whole or not at all, and the table that the card shows of them.

It knows folders and manifests; it knows no target.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from json import loads
from pathlib import Path
from typing import Any

from daybreak.lab.codec import number
from daybreak.lab.home import sync_folder, write_whole

MANIFEST = "manifest.json"
HEADING = "## Exports"


@contextmanager
def making(folder: Path, name: str) -> Iterator[Path]:
    """A folder to write into, beside where `commit` puts it. It is gone where that was not reached."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        for stale in folder.glob(".*.part"):  # of an export that died; the lock says that no other is at work
            shutil.rmtree(stale, ignore_errors=True)
        place = folder / f".{name}.{secrets.token_hex(4)}.part"
        place.mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def commit(place: Path, folder: Path, name: str) -> Path:
    """Put a whole folder where it belongs. One that was there gives way only to a whole one."""
    for path in place.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    sync_folder(place)
    old = folder / f".{name}.{secrets.token_hex(4)}.part"
    if (folder / name).exists():
        (folder / name).rename(old)
    place.rename(folder / name)
    sync_folder(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder / name


def manifests(folder: Path) -> list[dict[str, Any]]:
    """The manifests of the exports in a folder, by name."""
    return [loads(path.read_text()) for path in sorted(folder.glob(f"[!.]*/{MANIFEST}"))]


def table(told: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Size, latency and goal by target and precision: a row for each export."""
    return [
        {
            "target": one["target"],
            "precision": one["precision"],
            "MB": round(one["bytes"] / 1e6, 3),
            "program": name,
            "ms": _rounded(program.get("latency_ms")),
            "eager ms": _rounded(program.get("eager_ms")),
            "largest difference": _worst(program),
            "goal": _goal(one.get("goal")),
        }
        for one in told
        for name, program in one["programs"].items()
    ]


def on_card(card: Path, told: Sequence[Mapping[str, Any]]) -> None:
    """Put the table at the end of a card, in the place of the one before."""
    text = card.read_text() if card.is_file() else ""
    before = text.split(f"\n{HEADING}\n")[0].rstrip()
    rows = table(told)
    names = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"| {' | '.join(names)} |", f"| {' | '.join('---' for _ in names)} |"]
    lines += [f"| {' | '.join(str(row.get(name, '')) for name in names)} |" for row in rows]
    note = (
        "Latency is the median over real held-out inputs on one thread, beside the model's own module in torch, "
        "on the machine of each manifest."
    )
    write_whole(card, f"{before}\n\n{HEADING}\n\n{note}\n\n".encode() + "\n".join(lines).encode() + b"\n")


def size(folder: Path) -> int:
    """Bytes of the files of an export, without its manifest."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)


def _worst(program: Mapping[str, Any]) -> Any:
    found = [number(one["worst"]) for one in program.get("parity", ())]
    return f"{max(found):.1e}" if found else "not run here"


def _goal(goal: Mapping[str, Any] | None) -> str:
    if not goal:
        return ""
    gate = "no gate" if goal["gate"] is None else f"gate {number(goal['gate']):.4g}"
    return f"{goal['name']} {number(goal['value']):.4g} (eager {number(goal['eager']):.4g}, {gate})"


def _rounded(value: Any) -> Any:
    return "" if value is None else float(f"{number(value):.4g}")
