"""Who holds what: POSIX record locks, which the kernel releases at death and children do not inherit.

A lock file names the host, the boot and the process of its last holder, so that a copied folder does not read as
running. A process opens a lock file once: POSIX drops all of a process's locks on a file when it closes any handle to
it. Readers ask with F_GETLK and never lock. This file knows nothing about runs or nights.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daybreak.errors import UserError

_held: dict[str, int] = {}
"""Paths locked by this process, with their handles."""

# struct flock: Linux puts the type first, BSD and macOS the start.
_LAYOUT = "qqihh" if sys.platform == "darwin" or "bsd" in sys.platform else "hhqqi4x"


@dataclass(frozen=True)
class Holder:
    """Who holds a lock now, or held it last."""

    host: str
    boot: str
    pid: int
    since: float
    """Seconds since the epoch."""
    live: bool
    """The lock is held now, on this machine."""

    @property
    def here(self) -> bool:
        """Whether it was taken on this machine."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        clock = time.strftime("%H:%M", time.localtime(self.since))
        return f"process {self.pid} on {self.host} since {clock}"


def boot_id() -> str:
    """An id of this machine's boot; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def holder(path: Path) -> Holder | None:
    """The present or last holder of a lock file; None where it was never locked."""
    if (mine := _held.get(str(path.absolute()))) is not None:
        # Through the handle that is open: closing another one would drop the lock.
        return Holder(
            socket.gethostname(), boot_id(), os.getpid(), float(json.loads(os.pread(mine, 4096, 0))["since"]), True
        )
    try:
        # The file holds one whole line or, for an instant, the last holder's.
        about = json.loads(path.read_text())
        who = (str(about["host"]), str(about["boot"]), int(about["pid"]), float(about["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        who = ("", "", 0, 0.0)
    owner = _owner(path)
    if owner:
        return Holder(socket.gethostname(), boot_id(), owner, who[3] if who[2] == owner else time.time(), True)
    return Holder(*who, False) if who[2] else None


@contextmanager
def hold(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file. Raises `UserError` "WHAT is held by ..." when another process, or this one, has it."""
    key = str(path.absolute())
    if key in _held:
        raise UserError(f"{what} is held by this process already")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"{what} cannot be locked: {error.strerror}: {path}") from error
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise UserError(f"{what} is held by {holder(path) or 'another process'}") from error
    _held[key] = handle
    try:
        line = {"host": socket.gethostname(), "boot": boot_id(), "pid": os.getpid(), "since": time.time()}
        body = json.dumps(line).encode()
        os.pwrite(handle, body.ljust(256), 0)
        yield
    finally:
        del _held[key]
        os.close(handle)


def _owner(path: Path) -> int:
    """The process that holds the lock now; 0 for none."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return 0
    try:
        first = fcntl.F_RDLCK  # a read lock conflicts with the holder's write lock, and needs no write access
        ask = (0, 0, 0, first, os.SEEK_SET) if _LAYOUT == "qqihh" else (first, os.SEEK_SET, 0, 0, 0)
        reply = struct.unpack(_LAYOUT, fcntl.fcntl(handle, fcntl.F_GETLK, struct.pack(_LAYOUT, *ask)))
    finally:
        os.close(handle)
    kind, pid = (reply[3], reply[2]) if _LAYOUT == "qqihh" else (reply[0], reply[4])
    return 0 if kind == fcntl.F_UNLCK else pid or -1
