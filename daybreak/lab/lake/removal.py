"""Taking an item out of the lake: who saw it, deleting its bytes, and the record that stays.

It knows that runs name a snapshot in run.json and registered models in record.json; it knows nothing else about them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from daybreak.errors import UserError
from daybreak.lab.home import Lab
from daybreak.lab.lake.item import Item, Split
from daybreak.lab.lake.snapshot import Snapshot
from daybreak.lab.lake.store import FIELDS, as_item

if TYPE_CHECKING:
    from daybreak.lab.lake.store import Lake


@dataclass(frozen=True)
class Saw:
    """A snapshot, run or registered model that an item went into."""

    kind: Literal["snapshot", "run", "model"]
    name: str
    split: Split
    """The split in which the item stood: of "test", a run has seen nothing."""
    item: str


@dataclass(frozen=True)
class Removed:
    """What a removal deleted, and what had seen it."""

    items: tuple[Item, ...]
    """The item, and the items of the same content with other labels."""
    blobs: int
    saw: tuple[Saw, ...]


def versions(lake: Lake, id: str) -> list[Item]:
    """The item and all items of its system that have the same content: the same bytes under other labels."""
    item = lake.get(id)
    rows = lake.db.execute(
        f"SELECT {FIELDS} FROM items WHERE digest = ? AND system = ? ORDER BY rowid",
        (bytes.fromhex(item.digest), item.system),
    )
    return [as_item(row) for row in rows]


def saw(lab: Lab, ids: Iterable[str]) -> list[Saw]:
    """Every snapshot, run and registered model that holds one of the items. What cannot be read is passed over."""
    wanted, found = list(ids), []
    holds: dict[str, list[tuple[str, Split]]] = {}
    for snapshot in Snapshot.all(lab):
        places = [(id, split) for id in wanted if (split := snapshot.where(id))]
        holds[snapshot.id] = places
        found += [Saw("snapshot", snapshot.id, split, id) for id, split in places]
    of_run: dict[str, str] = {}
    for file in sorted(lab.runs.glob("*/run.json")):
        of_run[file.parent.name] = name = str(_read(file).get("snapshot", ""))
        found += [Saw("run", file.parent.name, split, id) for id, split in holds.get(name, [])]
    for file in sorted(lab.registry.glob("*/*/record.json")):
        record = _read(file)
        name = str(record.get("snapshot") or of_run.get(str(record.get("run", "")), ""))
        model = f"{file.parent.parent.name}/{file.parent.name}"
        found += [Saw("model", model, split, id) for id, split in holds.get(name, [])]
    return found


def remove(lake: Lake, id: str, *, who: str, why: str) -> Removed:
    """Delete an item: its rows, its bytes where no other item has them, and what was derived from it.

    All items of the same content go, since they are the same bytes under other labels. A record of who, when and why
    stays, so that adding the same folder again does not bring it back.
    """
    from daybreak.lab.lake.derive import forget

    if not who:
        raise UserError("a removal needs to say who removes")
    items = versions(lake, id)
    seen = saw(lake.lab, [item.id for item in items])
    now = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    digests = {digest for item in items for digest in item.parts.values()}
    lake.db.execute("PRAGMA secure_delete = ON")
    with lake.transaction() as db:
        for item in items:
            db.execute(
                "INSERT OR REPLACE INTO removed VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (item.id, item.system, item.name, item.group, bytes.fromhex(item.digest), now, who, why),
            )
            db.execute("DELETE FROM items WHERE id = ?", (item.id,))
        unused = [
            digest
            for digest in digests
            if not db.execute("SELECT 1 FROM items WHERE instr(parts, ?) LIMIT 1", (digest,)).fetchone()
        ]
        db.executemany("DELETE FROM blobs WHERE digest = ?", [(bytes.fromhex(digest),) for digest in unused])
    # A second transaction: a file goes only after its row is durably gone, and never while an `add` writes it anew.
    with lake.transaction() as db:
        for digest in unused:
            if not db.execute("SELECT 1 FROM blobs WHERE digest = ?", (bytes.fromhex(digest),)).fetchone():
                lake.object(digest).unlink(missing_ok=True)
    lake.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    forget(lake, [item.id for item in items])
    return Removed(tuple(items), len(unused), tuple(seen))


def removed(lake: Lake, system: str = "") -> Iterator[dict[str, Any]]:
    """The records of removals, oldest first."""
    names = ("id", "system", "name", "group", "at", "who", "why")
    for row in lake.db.execute("SELECT id, system, name, grp, at, who, why FROM removed ORDER BY at, id").fetchall():
        if not system or row[1] == system:
            yield dict(zip(names, row, strict=True))


def _read(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
