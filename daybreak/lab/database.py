"""Opening an SQLite database so that what it acknowledges survives, or saying why it cannot.

It knows journals, versions and file systems. It knows nothing about what is stored. Every database of the lab is opened
here: write-ahead log, every commit fsynced, and one line for a person where a folder cannot carry that.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daybreak.errors import UserError

NETWORK = frozenset(
    [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "fuse.ceph",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "pvfs2",
        "smb3",
        "smbfs",
    ]
)
"""File systems, as /proc/mounts names them, that do not share memory between machines as a write-ahead log needs."""


def connect(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Open the database, and make its tables where there are none. In autocommit; rows are tuples.

    Args:
        path: the database's file. Its folder is there.
        schema: statements that make the tables of `version`.
        version: what this code knows; kept in the file as `user_version`.

    Raises:
        UserError: a newer version, a read-only or full folder, a network file system, or not a database.
    """
    if kind := network(path.parent):
        raise UserError(
            f"{path.parent} is on a network file system ({kind}), where SQLite's write-ahead log loses data; "
            "put the lab on a local disk (DAYBREAK_LAB names it) and copy it from there"
        )
    try:
        connection = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise refused(path, error) from error
    try:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > version:
            raise UserError(
                f"{path} was made by a newer daybreak (version {found}, this one knows {version}); upgrade daybreak"
            )
        if found == 0:
            connection.execute("PRAGMA page_size = 16384")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 2000")
        if found == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {version}; COMMIT;")
        return connection
    except sqlite3.Error as error:
        connection.close()
        raise refused(path, error) from error
    except UserError:
        connection.close()
        raise


def refused(path: Path, error: sqlite3.Error) -> UserError:
    """What a person can do about an error of SQLite's."""
    text = str(error)
    if "readonly" in text or "unable to open" in text or not os.access(path.parent, os.W_OK):
        return UserError(
            f"{path.parent} is read-only, and SQLite writes a journal beside {path.name} even to read it; "
            "copy the lab to a folder that you may write, or name another in DAYBREAK_LAB"
        )
    if "not a database" in text or "malformed" in text:
        return UserError(f"{path} is not an SQLite database, or is damaged ({text}); restore it from a copy")
    if "full" in text:
        return UserError(f"the disk of {path.parent} is full; nothing was changed: make room and try again")
    if "locked" in text:
        return UserError(f"{path} is held by another process for more than a minute; try again when it is done")
    return UserError(f"cannot use {path}: {text}")


@contextmanager
def change(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """A transaction that holds the write lock from its beginning. Raises `UserError` where SQLite refuses."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise refused(path, error) from error


def network(folder: Path, mounts: str | None = None) -> str | None:
    """The kind of network file system on which a folder lies; None on a local one or where it cannot be known.

    Args:
        folder: an existing folder.
        mounts: what /proc/mounts says; read from there when not given.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(errors="surrogateescape")
        except OSError:
            return None
    parts = folder.resolve().parts
    best, kind = 0, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = Path(fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")).parts
        # The deepest mount holds the folder; of two on the same place the later one does.
        if len(place) >= best and parts[: len(place)] == place:
            best, kind = len(place), fields[2]
    return kind if kind in NETWORK else None
