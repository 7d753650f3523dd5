"""Versions and aliases on disk: written whole or not at all, one writer at a time.

A version is a folder that appears whole: the saved model, the run's own papers, and record.json. An alias is a
one-line file that names a version; its history is kept. This file knows folders; it knows nothing about gates.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from daybreak.errors import UserError, nearest
from daybreak.lab.codec import plain
from daybreak.lab.home import Lab, sync_folder, write_json, write_whole
from daybreak.lab.run import Lines, Run, read

PRODUCTION = "production"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
PAPERS = ("run.json", "code.diff")
"""Files of the run that a version keeps, so that its lineage outlives the run's folder."""


@dataclass(frozen=True)
class Version:
    """One registered model."""

    model: str
    number: int
    path: Path
    record: Mapping[str, Any]
    """record.json: run, recipe, config, snapshot, code, gates with values, lineage."""
    aliases: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Short name for a person, and for `open_model`: "music@3"."""
        return f"{self.model}@{self.number}"

    @property
    def page(self) -> Path | None:
        """Its page of one file, where one was exported."""
        return page_of(self.path)


def page_of(folder: Path) -> Path | None:
    """The page that `daybreak export MODEL --to page` left in a model's folder; None where there is none."""
    path = folder / "exports" / "page" / "index.html"
    return path if path.is_file() else None


def versions(lab: Lab, model: str) -> list[Version]:
    """The versions of a model, oldest first; empty where there is none."""
    folder = lab.registry / model
    if not NAME.fullmatch(model) or not folder.is_dir():
        return []
    pointed = aliases(lab, model)
    found = []
    for path in folder.iterdir():
        if path.name.isdigit():
            record = json.loads((path / "record.json").read_text())
            here = tuple(alias for alias, at in pointed.items() if at == int(path.name))
            found.append(Version(model, int(path.name), path, record, here))
    return sorted(found, key=lambda version: version.number)


def models(lab: Lab) -> list[str]:
    """Names of the registered models."""
    return sorted(path.name for path in lab.registry.iterdir() if path.is_dir() and versions(lab, path.name))


def aliases(lab: Lab, model: str) -> dict[str, int]:
    """The model's aliases and the version each points at."""
    folder = lab.registry / model
    return {
        path.name: int(path.read_text())
        for path in sorted(folder.iterdir())
        if path.is_file() and NAME.fullmatch(path.name)
    }


def find(lab: Lab, text: str) -> Version:
    """The version that "music@3" or "music@production" names; "music" is its production, else its newest version.

    Raises `UserError` with the nearest name.
    """
    model, at, which = text.partition("@")
    there = versions(lab, model)
    if not there:
        raise UserError(f"there is no registered model {model!r}; {nearest(model, models(lab))}")
    if not at:
        which = PRODUCTION if any(PRODUCTION in version.aliases for version in there) else str(there[-1].number)
    for version in there:
        if which == str(version.number) or which in version.aliases:
            return version
    known = [*(str(version.number) for version in there), *aliases(lab, model)]
    raise UserError(f"{model} has no version or alias {which!r}; {nearest(which, known)}")


def promote(lab: Lab, text: str, alias: str = PRODUCTION, by: str = "") -> Version:
    """Point an alias at the version that "MODEL@VERSION" names. Twice does nothing twice."""
    model, at, _ = text.partition("@")
    version = find(lab, text)
    if not at:
        known = ", ".join(str(version.number) for version in versions(lab, model))
        raise UserError(f"name a version to promote, as in {version.title}; {model} has {known}")
    checked_name(alias, "an alias")
    with writing(lab):
        return _point(lab, version, alias, by, "promote")


def rollback(lab: Lab, model: str, alias: str = PRODUCTION, by: str = "") -> Version:
    """Point an alias at the version it pointed at before. Raises `UserError` where there was none."""
    with writing(lab):
        find(lab, model)
        before = [
            number for number in _pointed(lab, model, alias)[:-1] if (lab.registry / model / str(number)).is_dir()
        ]
        if not before:
            raise UserError(f"{model}@{alias} pointed at no other version before; promote one: {model}@VERSION")
        return _point(lab, find(lab, f"{model}@{before[-1]}"), alias, by, "rollback")


def history(lab: Lab, model: str) -> list[dict[str, Any]]:
    """What the model's aliases pointed at, oldest first: aliases.jsonl."""
    return list(read(lab.registry / model / "aliases.jsonl"))


def keep(lab: Lab, run: Run, name: str, record: dict[str, Any]) -> Version:
    """Copy a run's final/ into the registry under the next number: whole, or not at all."""
    folder = lab.registry / name
    with writing(lab):
        folder.mkdir(exist_ok=True)
        for stale in folder.glob(".*.part"):  # of an add that died; the lock says that no other is at work
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        version = max((there.number for there in versions(lab, name)), default=0) + 1
        making = folder / f".{version}.{secrets.token_hex(4)}.part"
        shutil.copytree(run.path / "final", making)
        for paper in PAPERS:
            if (run.path / paper).exists():
                shutil.copy2(run.path / paper, making / paper)
        write_json(making / "record.json", plain({**record, "number": version}))
        for path in making.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        sync_folder(making)
        making.rename(folder / str(version))
        sync_folder(folder)
        sync_folder(lab.registry)
    return find(lab, f"{name}@{version}")


@contextmanager
def writing(lab: Lab) -> Iterator[None]:
    """One writer at a time; the kernel lets go when the process dies."""
    import fcntl

    with open(lab.registry / ".lock", "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Append one JSON line, durably."""
    lines = Lines(path)
    try:
        lines.append(line)
    finally:
        lines.close()
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def checked_name(name: str, what: str = "a model's name") -> str:
    """The name, where it can be a folder's. Raises `UserError`."""
    if not NAME.fullmatch(name):
        raise UserError(f"{what} is lower-case letters, digits, - and _, and starts with a letter, not {name!r}")
    return name


def now() -> str:
    """Local time with its zone, to the second (ISO 8601)."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _point(lab: Lab, version: Version, alias: str, by: str, word: str) -> Version:
    """Write the history's line, then the alias: the alias is what counts, the history explains it."""
    folder = lab.registry / version.model
    before = aliases(lab, version.model).get(alias)
    if before != version.number:
        line = {"time": now(), "event": word, "alias": alias, "version": version.number, "from": before, "by": by}
        append(folder / "aliases.jsonl", line)
        write_whole(folder / alias, f"{version.number}\n".encode())
    return find(lab, version.title)


def _pointed(lab: Lab, model: str, alias: str) -> list[int]:
    """The versions that an alias went through and has not been rolled back from; the last one is where it points."""
    current = aliases(lab, model).get(alias)
    if current is None:
        raise UserError(f"{model} has no alias {alias!r}; {nearest(alias, aliases(lab, model))}")
    stack: list[int] = []
    for line in history(lab, model):
        if line["alias"] != alias:
            continue
        if line["event"] == "rollback":
            while stack and stack[-1] != line["version"]:
                stack.pop()
        elif not stack or stack[-1] != line["version"]:
            stack.append(line["version"])
    # A crash between the two writes leaves a line for a version that the alias never reached.
    while stack and stack[-1] != current:
        stack.pop()
    return stack or [current]
