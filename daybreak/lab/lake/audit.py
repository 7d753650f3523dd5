"""Looking at what is stored: whether every byte is what it was, and what differs between two snapshots.

It reads; it changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from daybreak.lab.lake.item import SPLITS, Broken, Split
from daybreak.lab.lake.snapshot import Snapshot

if TYPE_CHECKING:
    from daybreak.lab.lake.store import Lake


@dataclass
class Verified:
    """What a `verify` read so far."""

    blobs: int = 0
    bytes: int = 0
    corrupt: list[Broken] = field(default_factory=list)
    """Blobs that are damaged or missing, by digest, with the items that need them."""
    unused: list[str] = field(default_factory=list)
    """Files under objects/ that no item has: a crash left them. They may be deleted."""


def verify(lake: Lake, *, progress: Callable[[Verified], None] | None = None) -> Verified:
    """Read every blob and compare its digest; look for what is missing and what is unused. Constant memory."""
    done = Verified()
    for (line,) in lake.db.execute("PRAGMA quick_check(1)").fetchall():
        if line != "ok":
            done.corrupt.append(Broken("lake.sqlite", line))
    last = 0
    while rows := lake.db.execute(
        "SELECT rowid, digest, size, data FROM blobs WHERE rowid > ? ORDER BY rowid LIMIT 100", (last,)
    ).fetchall():
        last = rows[-1][0]
        for _, digest, size, data in rows:
            done.blobs += 1
            done.bytes += size
            reason = _damage(lake, digest, size, data)
            if reason:
                done.corrupt.append(Broken(digest.hex(), f"{reason}; {_needed(lake, digest.hex())}"))
        if progress:
            progress(done)
    last = 0
    while rows := lake.db.execute(
        "SELECT rowid, id, parts FROM items WHERE rowid > ? ORDER BY rowid LIMIT 100", (last,)
    ).fetchall():
        last = rows[-1][0]
        for _, id, parts in rows:
            for part, digest in json.loads(parts).items():
                if not lake.db.execute("SELECT 1 FROM blobs WHERE digest = ?", (bytes.fromhex(digest),)).fetchone():
                    done.corrupt.append(Broken(digest, f"is missing; part {part!r} of item {id} needs it"))
    for folder in sorted(lake.lab.objects.iterdir()):
        for file in sorted(folder.iterdir()) if folder.is_dir() else []:
            if not _is_blob(lake, file.name):
                done.unused.append(f"objects/{folder.name}/{file.name}")
    return done


def _damage(lake: Lake, digest: bytes, size: int, data: bytes | None) -> str:
    hasher = hashlib.sha256(data or b"")
    found = len(data or b"")
    if data is None:
        try:
            with open(lake.object(digest.hex()), "rb") as file:
                while part := file.read(2**20):
                    hasher.update(part)
                    found += len(part)
        except OSError as error:
            return f"its file cannot be read ({error.strerror or error})"
    if found != size:
        return f"has {found} bytes and should have {size}"
    return "" if hasher.digest() == digest else f"its bytes now have the digest {hasher.hexdigest()[:16]}..."


def _needed(lake: Lake, digest: str) -> str:
    ids = [row[0] for row in lake.db.execute("SELECT id FROM items WHERE instr(parts, ?) LIMIT 4", (digest,))]
    if not ids:
        return "no item needs it"
    return f"needed by item {', '.join(ids[:3])}{' and others' if len(ids) > 3 else ''}"


def _is_blob(lake: Lake, name: str) -> bool:
    try:
        digest = bytes.fromhex(name)
    except ValueError:
        return False
    return lake.db.execute("SELECT 1 FROM blobs WHERE digest = ?", (digest,)).fetchone() is not None


@dataclass(frozen=True)
class Move:
    """The same content in both snapshots, as another item."""

    before: str
    after: str
    from_split: Split
    to_split: Split


@dataclass(frozen=True)
class Difference:
    """From one snapshot to another. Ids, sorted."""

    added: tuple[str, ...]
    gone: tuple[str, ...]
    moved: tuple[Move, ...]
    """In another split."""
    changed: tuple[Move, ...]
    """In the same split, with other labels or another group."""
    same: int


def difference(a: Snapshot, b: Snapshot) -> Difference:
    """What changes from `a` to `b`."""
    left, right = (np.concatenate(list(snapshot.records())) for snapshot in (a, b))
    left_ids, right_ids = left["id"].astype("u8"), right["id"].astype("u8")
    only_left, only_right = left[~np.isin(left_ids, right_ids)], right[~np.isin(right_ids, left_ids)]
    before = {row["digest"].tobytes(): row for row in only_left}
    added, moves = [], []
    for row in only_right:
        old = before.pop(row["digest"].tobytes(), None)
        if old is None:
            added.append(_id(row))
        else:
            moves.append(Move(_id(old), _id(row), SPLITS[int(old["split"])], SPLITS[int(row["split"])]))
    moves.sort(key=lambda move: move.after)
    return Difference(
        tuple(sorted(added)),
        tuple(sorted(_id(row) for row in before.values())),
        tuple(move for move in moves if move.from_split != move.to_split),
        tuple(move for move in moves if move.from_split == move.to_split),
        len(left) - len(only_left),
    )


def _id(row: np.void) -> str:
    return f"{int(row['id']):016x}"
