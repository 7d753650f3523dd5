"""The lake's store: items in SQLite, their bytes beside them, each content once.

It knows items, groups and blobs; it knows nothing about what the bytes mean or which system made them. Blobs of up to
64 KB stand inside SQLite, larger ones as files named by their digest. What `add` has returned is on the disk.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daybreak.errors import UserError, nearest
from daybreak.lab.database import connect, refused
from daybreak.lab.home import Lab, sync_folder, write_whole
from daybreak.lab.lake.incoming import Added, Ready, place
from daybreak.lab.lake.item import Broken, Draft, Item, as_split, clean

if TYPE_CHECKING:
    import numpy as np

    from daybreak.lab.lake.derive import Derived
    from daybreak.lab.lake.removal import Removed
    from daybreak.lab.lake.snapshot import Snapshot

VERSION = 1
BATCH, BATCH_BYTES = 1000, 16 * 2**20
"""Items and bytes of one transaction of `add`."""

MAPPED = 256 * 2**20
"""Bytes of the database that are read by memory map, a third faster. Bounded: a process that reads through a large lake
must not look as if it leaked."""

SCHEMA = """
CREATE TABLE blobs (digest BLOB PRIMARY KEY, size INTEGER NOT NULL, data BLOB);
CREATE TABLE items (
  id TEXT PRIMARY KEY, system TEXT NOT NULL, name TEXT NOT NULL, grp TEXT NOT NULL, split TEXT NOT NULL,
  digest BLOB NOT NULL, parts TEXT NOT NULL, labels TEXT NOT NULL, source TEXT NOT NULL, licence TEXT NOT NULL,
  consent TEXT NOT NULL, added TEXT NOT NULL, current INTEGER NOT NULL);
CREATE INDEX items_digest ON items (digest);
CREATE TABLE groups (system TEXT, name TEXT, split TEXT NOT NULL, PRIMARY KEY (system, name)) WITHOUT ROWID;
CREATE TABLE removed (
  id TEXT PRIMARY KEY, system TEXT NOT NULL, name TEXT NOT NULL, grp TEXT NOT NULL, digest BLOB NOT NULL,
  at TEXT NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL);
CREATE INDEX removed_digest ON removed (digest);
"""
FIELDS = "id, system, name, grp, split, digest, parts, labels, source, licence, consent, added"
BY_ID = f"SELECT {FIELDS} FROM items WHERE id = ?"
BLOB = "SELECT data FROM blobs WHERE digest = ?"


class Lake:
    """The items of a lab folder. Opens SQLite on first use in each process; may be pickled and shared by threads."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.path = lab.root / "lake.sqlite"
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._lock = threading.RLock()

    @classmethod
    def open(cls, lab: Lab | str | os.PathLike[str] | None = None) -> Lake:
        """The lake of a lab folder. Raises `UserError` when it cannot be used."""
        lake = cls(lab if isinstance(lab, Lab) else Lab.open(lab))
        _ = lake.db
        return lake

    @property
    def db(self) -> sqlite3.Connection:
        """This process's connection, in autocommit. A connection does not survive a fork."""
        if self._connection is None or self._pid != os.getpid():
            with self._lock:
                if self._connection is None or self._pid != os.getpid():
                    connection = connect(self.path, SCHEMA, VERSION)
                    connection.execute(f"PRAGMA mmap_size = {MAPPED}")
                    self._connection, self._pid = connection, os.getpid()
        return self._connection

    def close(self) -> None:
        """Close this process's connection. It opens again on use."""
        if self._connection is not None and self._pid == os.getpid():
            self._connection.close()
        self._connection = None

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.lab.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(Lab(state["root"]))  # type: ignore[misc]

    # Writing.

    def add(
        self,
        system: str,
        drafts: Iterable[Draft | Broken],
        *,
        licence: str,
        source: str = "",
        consent: str = "",
        restore: bool = False,
        progress: Callable[[Added], None] | None = None,
    ) -> Added:
        """Add what an ingestion yields, in constant memory, a few hundred items a transaction.

        Adding again adds nothing. An item that was removed is set aside unless `restore` is given. `progress` is called
        after each transaction. Where the ingestion itself raises, what came before stays added.

        Raises:
            UserError: no licence, or a lake that cannot be written.
        """
        if not licence.strip():
            raise UserError("items need a licence; name it with --licence (an SPDX name such as CC-BY-4.0, or Private)")
        about = (clean(source), clean(licence.strip()), clean(consent))
        done, batch, weight = Added(), [], 0
        # Digests fall anywhere in their index: while adding, 64 MiB of it are kept in memory.
        self.db.execute("PRAGMA cache_size = -65536")
        try:
            for draft in drafts:
                if isinstance(draft, Broken):
                    done.broken.append(draft)
                    continue
                try:
                    batch.append(Ready(system, draft))
                except (TypeError, ValueError, UserError) as error:
                    done.broken.append(Broken(clean(str(draft.name)), str(error)))
                    continue
                weight += batch[-1].bytes
                if len(batch) >= BATCH or weight >= BATCH_BYTES:
                    full, batch, weight = batch, [], 0
                    self._write(system, full, about, restore, done)
                    if progress:
                        progress(done)
        finally:
            if batch:
                self._write(system, batch, about, restore, done)
            self.db.execute("PRAGMA cache_size = -2000")
        if progress:
            progress(done)
        # Reading is faster from the database than from its log.
        self.db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return done

    def _write(self, system: str, batch: list[Ready], about: tuple[str, str, str], restore: bool, done: Added) -> None:
        """One transaction. Files of large blobs are durable before it commits; if it does not, nothing names them."""
        with self.transaction() as db:
            # Inside, so that a removal, which deletes files under the same lock, cannot come between.
            for ready in batch:
                for digest, data in ready.large():
                    self._write_object(self.object(digest), data)
            rows, blobs, groups, late = place(db, system, batch, about, restore, done)
            db.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", blobs)
            db.executemany("INSERT INTO groups VALUES (?, ?, ?)", groups)
            db.executemany(
                "INSERT INTO items VALUES (?,?,?,?,?,?,?,?,?,?,?,?,1) ON CONFLICT (id) DO UPDATE SET current = 1", rows
            )
            db.executemany("UPDATE items SET current = 0 WHERE id = ?", [(old,) for old in late])
            if restore:
                db.executemany(
                    "DELETE FROM removed WHERE digest = ? AND system = ?", [(row[5], system) for row in rows]
                )

    def _write_object(self, file: Path, data: bytes) -> None:
        if file.exists():
            return
        try:
            if not file.parent.exists():
                file.parent.mkdir(exist_ok=True)
                sync_folder(self.lab.objects)
            write_whole(file, data)
        except OSError as error:
            raise UserError(f"cannot write {file}: {error.strerror or error}") from error

    def transaction(self) -> _Transaction:
        """`with lake.transaction() as db`: all or nothing, one writer at a time, fsynced at the end."""
        return _Transaction(self)

    # Reading.

    def read(self, item: Item | str, part: str = "data") -> bytes:
        """The bytes of an item's part, or of a digest.

        Args:
            item: an item, its id, or a blob's digest (64 hex digits).
            part: the part's name, where `item` is no digest.

        Raises:
            UserError: no such item, part or blob.
        """
        if isinstance(item, str):
            if len(item) == 64:
                return self._blob(item)
            item = self.get(item)
        try:
            digest = item.parts[part]
        except KeyError:
            raise UserError(f"item {item.id} has no part {part!r}; {nearest(part, item.parts)}") from None
        return self._blob(digest)

    def _blob(self, digest: str) -> bytes:
        row = self.db.execute(BLOB, (bytes.fromhex(digest),)).fetchone()
        if row is None:
            raise UserError(f"no blob {digest} in {self.path}")
        data: bytes | None = row[0]
        if data is not None:
            return data
        file = self.object(digest)
        try:
            return file.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror or error}; see `daybreak lake verify`") from error

    def object(self, digest: str) -> Path:
        """Where a large blob stands."""
        return self.lab.objects / digest[:2] / digest

    def get(self, id: str) -> Item:
        """The item of that id, or of an id that begins so. Raises `UserError`."""
        row = self.db.execute(BY_ID, (id,)).fetchone()
        if row is not None:
            return as_item(row)
        if len(id) < 16:
            found = self.db.execute(
                f"SELECT {FIELDS} FROM items WHERE id >= ? AND id < ? LIMIT 2", (id, id + "g")
            ).fetchall()
            if len(found) == 1:
                return as_item(found[0])
            if found:
                raise UserError(f"more than one item begins with {id!r}; write more of the id")
        gone = self.db.execute("SELECT at, who, why FROM removed WHERE id = ?", (id,)).fetchone()
        if gone is not None:
            raise UserError(f"item {id} was removed on {gone[0][:10]} by {gone[1]}: {gone[2] or 'no reason given'}")
        raise UserError(f"no item {id!r}; `daybreak lake ls` shows them")

    def items(
        self,
        system: str = "",
        *,
        split: str = "",
        group: str = "",
        source: str = "",
        licence: str = "",
        where: Mapping[str, str] | None = None,
        current: bool = True,
    ) -> Iterator[Item]:
        """The items that fit, in the order in which they were added, in constant memory.

        `where` maps a label to its value as text; a label that is a list fits with any of its members. Items whose
        labels have been superseded come only with `current=False`.
        """
        clause, values = query(system, split, group, source, licence, where or {}, current)
        last = 0
        while True:
            rows = self.db.execute(
                f"SELECT {FIELDS}, rowid FROM items WHERE rowid > ? AND {clause} ORDER BY rowid LIMIT 500",
                (last, *values),
            ).fetchall()
            if not rows:
                return
            last = rows[-1][-1]
            for row in rows:
                yield as_item(row)

    def count(self, system: str = "") -> int:
        """How many current items there are."""
        clause, values = query(system=system)
        return int(self.db.execute(f"SELECT count(*) FROM items WHERE {clause}", values).fetchone()[0])

    # What the other files of this room do.

    def snapshot(
        self, system: str, *, where: Mapping[str, str] | None = None, source: str = "", licence: str = ""
    ) -> Snapshot:
        """Freeze the current items that fit. The same content gives the same snapshot."""
        from daybreak.lab.lake.snapshot import freeze

        return freeze(self, system, where=where or {}, source=source, licence=licence)

    def derive(
        self,
        function: Callable[[Item, Callable[[str], bytes]], Mapping[str, np.ndarray]],
        items: Iterable[Item],
        *,
        workers: int = 0,
        progress: Callable[[Derived], None] | None = None,
    ) -> Derived:
        """Fill the cache of a function over items; see `daybreak.lab.lake.derive`."""
        from daybreak.lab.lake.derive import derive

        return derive(self, function, items, workers=workers, progress=progress)

    def remove(self, id: str, *, who: str, why: str) -> Removed:
        """Delete an item and its bytes, and leave a record; see `daybreak.lab.lake.removal`."""
        from daybreak.lab.lake.removal import remove

        return remove(self, id, who=who, why=why)


class _Transaction:
    def __init__(self, lake: Lake) -> None:
        self.lake = lake

    def __enter__(self) -> sqlite3.Connection:
        self.lake._lock.acquire()
        try:
            self.lake.db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self.lake._lock.release()
            raise refused(self.lake.path, error) from error
        return self.lake.db

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if kind is None:
                self.lake.db.execute("COMMIT")
        except sqlite3.Error as failed:
            error = failed
        finally:
            if self.lake.db.in_transaction:
                self.lake.db.execute("ROLLBACK")
            self.lake._lock.release()
        if isinstance(error, sqlite3.OperationalError):
            raise refused(self.lake.path, error) from error
        if kind is None and error is not None:
            raise error


def as_item(row: tuple[Any, ...]) -> Item:
    """A row of `FIELDS` as an item."""
    return Item(
        row[0], row[1], row[2], row[3], row[4], row[5].hex(), json.loads(row[6]), json.loads(row[7]), *row[8:12]
    )


def query(
    system: str = "",
    split: str = "",
    group: str = "",
    source: str = "",
    licence: str = "",
    where: Mapping[str, str] | None = None,
    current: bool = True,
) -> tuple[str, list[Any]]:
    """A condition of SQL and its values."""
    clauses, values = ["1"], []
    if split:
        split = as_split(split)
    for column, value in (
        ("system", system),
        ("split", split),
        ("grp", group),
        ("source", source),
        ("licence", licence),
    ):
        if value:
            clauses.append(f"{column} = ?")
            values.append(value)
    if current:
        clauses.append("current")
    for label, value in (where or {}).items():
        if '"' in label or not label:
            raise UserError(f"a label cannot be called {label!r}")
        clauses.append(
            "EXISTS (SELECT 1 FROM json_each(items.labels, ?) AS one WHERE "
            "CASE WHEN one.type IN ('true', 'false', 'null') THEN one.type ELSE CAST(one.value AS TEXT) END = ?)"
        )
        values += [f'$."{label}"', value]
    return " AND ".join(clauses), values
