"""The one file that says what a catalogue is: which sealed segments, which rows of them are dead, of which model.

It is written beside, fsynced and renamed, so that it is the old one or the new one at every instant. A snapshot is a
copy of it: segments never change, and those that a snapshot names stay.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from daybreak.errors import UserError, nearest

VERSION = 1
MANIFEST = "catalogue.json"
SNAPSHOTS = "snapshots"
SEGMENTS = "segments"
BESIDE = "next"
"""Where vectors of another model grow until they are swapped in."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Part(BaseModel):
    """A segment as the manifest sees it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    rows: int
    dead: int = 0
    """How many of its rows were removed or replaced."""
    mask: str = ""
    """The file, in the segment's folder, that says which; empty where none is dead."""


class Manifest(BaseModel):
    """What a catalogue is at one instant."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: int = VERSION
    model: str
    """Fingerprint of the weights that made the vectors."""
    spaces: dict[str, int]
    """Name of each vector space -> its dimensions."""
    generation: int = 0
    """Counts commits."""
    next: int = 0
    """The number that the next segment or mask gets. It never goes back, so that a name is used once."""
    parts: tuple[Part, ...] = ()

    @property
    def live(self) -> int:
        """Rows that can be found."""
        return sum(part.rows - part.dead for part in self.parts)

    def files(self) -> set[str]:
        """The segments and masks that it needs, as paths under the segments' folder."""
        return {part.name for part in self.parts} | {f"{part.name}/{part.mask}" for part in self.parts if part.mask}


def read(path: Path) -> Manifest:
    """Read a manifest or a snapshot's. Raises `UserError` where it is not one, or of a newer daybreak."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise UserError(f"{path.parent} is not a catalogue (it has no {path.name}); create one first") from None
    except OSError as error:
        raise UserError(f"the catalogue {path.parent} cannot be read: {error.strerror}") from error
    try:
        found = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{path} is damaged ({error.errors()[0]['msg']}); restore a snapshot") from error
    if found.version > VERSION:
        raise UserError(f"{path} is of a newer daybreak (version {found.version}, this one knows {VERSION})")
    return found


def write(path: Path, manifest: Manifest) -> None:
    """Put a manifest in place, durably. What it names is on the disk already."""
    beside = path.with_name(path.name + ".part")
    with beside.open("w") as file:
        file.write(manifest.model_dump_json(indent=1))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def snapshots(folder: Path) -> dict[str, Manifest]:
    """Name -> manifest of each snapshot of a catalogue's folder, by name."""
    return {path.stem: read(path) for path in sorted((folder / SNAPSHOTS).glob("*.json"))}


def snapshot_path(folder: Path, name: str, *, there: bool) -> Path:
    """The file of a snapshot. Raises `UserError` for a name that cannot be one, or that is (not) there."""
    if not NAME.fullmatch(name):
        raise UserError(f"a snapshot's name is letters, digits, '.', '_' and '-', not {name!r}")
    path = folder / SNAPSHOTS / f"{name}.json"
    if there and not path.exists():
        names = [found.stem for found in (folder / SNAPSHOTS).glob("*.json")]
        raise UserError(f"there is no snapshot {name}; {nearest(name, names)}")
    if not there and path.exists():
        raise UserError(f"there is a snapshot {name} already; drop it first or choose another name")
    return path
