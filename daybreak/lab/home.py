"""The lab's folder: where things are, and whether this daybreak may open it.

One folder, no server. Every other room gets its paths from here.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from daybreak.errors import UserError

VERSION = 1
VARIABLE = "DAYBREAK_LAB"


class Lab:
    """A lab folder. `Lab.open()` makes it when it is not there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = root / "runs"
        self.snapshots = root / "snapshots"
        self.objects = root / "objects"
        self.daily = root / "daily"
        self.registry = root / "registry"

    @classmethod
    def existing(cls) -> Lab | None:
        """The lab that `open()` would open, if it is there: using a model makes no folder."""
        path = Path(os.environ.get(VARIABLE) or "lab").absolute()
        return cls.open(path) if (path / "lab.json").exists() else None

    @classmethod
    def open(cls, root: str | os.PathLike[str] | None = None) -> Lab:
        """Open the folder named, else the one in DAYBREAK_LAB, else ./lab. Raises `UserError` when it cannot."""
        path = Path(root or os.environ.get(VARIABLE) or "lab").absolute()
        about = path / "lab.json"
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not about.exists():
                write_json(about, {"version": VERSION})
            version = int(json.loads(about.read_text())["version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"cannot open the lab folder {path}: {reason}; {VARIABLE} names another") from error
        if version > VERSION:
            raise UserError(
                f"{path} was made by a newer daybreak (version {version}, this one knows {VERSION}); upgrade daybreak"
            )
        lab = cls(path)
        for folder in (lab.runs, lab.snapshots, lab.objects, lab.daily, lab.registry):
            folder.mkdir(exist_ok=True)
        return lab


def sync_folder(path: Path) -> None:
    """Make a folder's own entries durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file whole or not at all, durably: beside, fsynced, renamed, folder fsynced. `mode` is before umask."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all. Numbers that are not finite must already be strings (see `codec.plain`)."""
    write_whole(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())
