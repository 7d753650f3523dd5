"""What happens to a draft: hashed, then new, a duplicate, relabelled or set aside.

It decides about a batch against what the tables hold; it writes nothing.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from daybreak.lab.lake.item import Broken, Draft, as_split, canonical, clean, content, identity, split_of

INSIDE = 64 * 1024
"""Bytes up to which a blob stands inside SQLite."""


@dataclass
class Added:
    """What an `add` did so far."""

    added: int = 0
    """New content."""
    changed: int = 0
    """Known content with other labels: a new item, the earlier one stays for the snapshots that hold it."""
    duplicates: int = 0
    """Known content; not stored again."""
    broken: list[Broken] = field(default_factory=list)
    """What was set aside, with the reason."""

    @property
    def seen(self) -> int:
        """How many drafts came."""
        return self.added + self.changed + self.duplicates + len(self.broken)


class Ready:
    """A draft with its digests: all that can be computed outside a transaction."""

    __slots__ = ("blobs", "bytes", "digest", "draft", "group", "labels", "name", "parts", "split")

    def __init__(self, system: str, draft: Draft) -> None:
        if not isinstance(draft, Draft):
            raise AssertionError(f"an ingestion yields Draft or Broken, not {type(draft).__name__}")
        self.draft, self.name, self.group = draft, clean(draft.name), clean(draft.group)
        if not draft.parts:
            raise ValueError("has no parts")
        if not draft.group:
            raise ValueError("has no group")
        self.labels = clean(canonical(dict(draft.labels))) if draft.labels else "{}"
        self.blobs = {}
        self.parts = {}
        self.bytes = 0
        for part, data in draft.parts.items():
            if not isinstance(data, bytes):
                raise TypeError(f"part {part!r} is {type(data).__name__}, not bytes")
            digest = hashlib.sha256(data).digest()
            self.blobs[digest] = data
            self.parts[clean(part)] = digest.hex()
            self.bytes += len(data)
        self.digest = bytes.fromhex(content(self.parts))
        self.split = as_split(draft.split) if draft.split else None

    def large(self) -> Iterator[tuple[str, bytes]]:
        """The blobs that become files, with their digests."""
        for digest, data in self.blobs.items():
            if len(data) > INSIDE:
                yield digest.hex(), data


def place(
    db: sqlite3.Connection,
    system: str,
    batch: list[Ready],
    about: tuple[str, str, str],
    restore: bool,
    done: Added,
) -> tuple[list[Any], list[Any], list[Any], set[str]]:
    """Decide about each draft of a batch: new, duplicate, with other labels, or set aside."""
    now = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    digests = list({ready.digest for ready in batch})
    marks = ",".join("?" * len(digests))
    known = {
        row[0]: row[1:]
        for row in db.execute(
            f"SELECT digest, id, grp, labels FROM items WHERE digest IN ({marks}) AND system = ? AND current",
            (*digests, system),
        )
    }
    gone = {
        row[0]: row[1:]
        for row in db.execute(
            f"SELECT digest, at, who, why FROM removed WHERE digest IN ({marks}) AND system = ?", (*digests, system)
        )
    }
    names = list({ready.group for ready in batch})
    marks = ",".join("?" * len(names))
    splits = dict(
        db.execute(f"SELECT name, split FROM groups WHERE system = ? AND name IN ({marks})", (system, *names))
    )
    rows: dict[str, Any] = {}
    blobs, groups, late = [], [], set()
    for ready in batch:
        if (tomb := gone.get(ready.digest)) and not restore:
            reason = (
                f"was removed on {tomb[0][:10]} by {tomb[1]}: {tomb[2] or 'no reason given'}; --restore adds it again"
            )
            done.broken.append(Broken(ready.name, reason))
            continue
        split = splits.get(ready.group)
        if split is not None and ready.split is not None and ready.split != split:
            reason = f"names the split {ready.split}, but its group {ready.group!r} is {split}"
            done.broken.append(Broken(ready.name, reason))
            continue
        before = known.get(ready.digest)
        if before is not None and (before[1] != ready.group or before[2] == ready.labels):
            done.duplicates += 1
            continue
        if split is None:
            split = splits[ready.group] = ready.split or split_of(system, ready.group)
            groups.append((system, ready.group, split))
        id = identity(system, ready.digest.hex(), ready.labels, ready.group, split)
        if before is None:
            done.added += 1
            blobs += [(d, len(data), data if len(data) <= INSIDE else None) for d, data in ready.blobs.items()]
        else:
            done.changed += 1
            late.add(before[0])
        late.discard(id)
        known[ready.digest] = (id, ready.group, ready.labels)
        parts = _ordered(ready.parts)
        rows[id] = (id, system, ready.name, ready.group, split, ready.digest, parts, ready.labels, *about, now)
    return list(rows.values()), blobs, groups, late


def _ordered(parts: Mapping[str, str]) -> str:
    """The parts' JSON; their order is kept, since the first is the item itself."""
    if len(parts) == 1 and (single := parts.get("data")):
        return f'{{"data":"{single}"}}'
    return json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
