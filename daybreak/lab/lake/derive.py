"""What functions make of items (tokens, spectrograms), kept by item and by the function's version.

The version is a hash over the function's own code, every module of its package that the code imports, and the versions
of the packages from elsewhere: a change of any of them makes a new entry, so that the cache is never stale. Results
are kept as raw arrays. It knows nothing about what is computed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from daybreak.errors import UserError
from daybreak.lab.database import connect
from daybreak.lab.lake.item import Broken, Item
from daybreak.lab.lake.version import version_of

if TYPE_CHECKING:
    from daybreak.lab.lake.store import Lake

Function = Callable[[Item, Callable[[str], bytes]], Mapping[str, np.ndarray]]
"""(item, read) -> arrays by name, where read(part) gives the bytes of a part. Defined at a module's top."""

SCHEMA = "CREATE TABLE derived (item TEXT, version TEXT, data BLOB NOT NULL, PRIMARY KEY (version, item))"
SELECT = "SELECT data FROM derived WHERE version = ? AND item = ?"
TASK = 16
"""Items that a worker takes at once."""


@dataclass
class Derived:
    """What a `derive` did so far."""

    computed: int = 0
    cached: int = 0
    """Were there already."""
    broken: list[Broken] = field(default_factory=list)
    """Items for which the function raised, by id."""

    @property
    def seen(self) -> int:
        """How many items came."""
        return self.computed + self.cached + len(self.broken)


def derived(lake: Lake, function: Function, item: Item) -> dict[str, np.ndarray]:
    """One item's arrays, from the cache or computed and cached."""
    version = version_of(function)
    cache = _cache(lake)
    row = cache.execute(SELECT, (version, item.id)).fetchone()
    if row is None:
        row = (_compute(lake, function, item),)
        cache.execute("INSERT OR IGNORE INTO derived VALUES (?, ?, ?)", (item.id, version, row[0]))
    return unpack(row[0])


def derive(
    lake: Lake,
    function: Function,
    items: Iterable[Item],
    *,
    workers: int = 0,
    progress: Callable[[Derived], None] | None = None,
) -> Derived:
    """Fill the cache for many items. The results are the same for any number of workers.

    Args:
        lake: where the items are.
        function: a module-level function.
        items: taken as they are needed; memory does not grow with their number.
        workers: spawned processes; 0 computes here.
        progress: called as results are stored.

    An item for which the function raises is set aside with the reason; so is one at which a worker dies.
    """
    version = version_of(function)
    cache = _cache(lake)
    done = Derived()

    def missing() -> Iterator[list[Item]]:
        source = iter(items)
        while chunk := list(islice(source, TASK)):
            marks = ",".join("?" * len(chunk))
            there = {
                row[0]
                for row in cache.execute(
                    f"SELECT item FROM derived WHERE version = ? AND item IN ({marks})",
                    (version, *(item.id for item in chunk)),
                )
            }
            done.cached += len(there)
            if wanted := [item for item in chunk if item.id not in there]:
                yield wanted
            elif progress:
                progress(done)

    if workers:
        results = _parallel(lake, function, missing(), workers, version)
    else:
        results = (_task(lake, function, task, version) for task in missing())
    for rows in results:
        good = [(id, version, data) for id, data, _ in rows if data is not None]
        cache.execute("BEGIN IMMEDIATE")
        cache.executemany("INSERT OR IGNORE INTO derived VALUES (?, ?, ?)", good)
        cache.execute("COMMIT")
        done.computed += len(good)
        done.broken += [Broken(id, reason) for id, data, reason in rows if data is None]
        if progress:
            progress(done)
    return done


Row = tuple[str, bytes | None, str]
"""An item's id, its packed arrays, and where there are none, the reason."""


def _parallel(
    lake: Lake, function: Function, tasks: Iterable[list[Item]], workers: int, version: str
) -> Iterator[list[Row]]:
    """Tasks through spawned workers, a bounded number at a time, results in the order of the tasks."""
    source = iter(tasks)
    waiting: deque[tuple[list[Item], Future[list[Row]]]] = deque()
    pool = _pool(workers)
    try:
        while True:
            for task in islice(source, 3 * workers - len(waiting)):
                waiting.append((task, pool.submit(_task, lake, function, task, version)))
            if not waiting:
                return
            task, future = waiting.popleft()
            try:
                yield future.result()
            except BrokenProcessPool:
                # A worker died, perhaps at another task: go through this one item by item, then give out the rest.
                pool.shutdown(wait=False, cancel_futures=True)
                yield _one_by_one(lake, function, task, version)
                pool = _pool(workers)
                waiting = deque((task, pool.submit(_task, lake, function, task, version)) for task, _ in waiting)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _one_by_one(lake: Lake, function: Function, items: list[Item], version: str) -> list[Row]:
    """Items given singly to a worker, which is replaced where it dies."""
    rows: list[Row] = []
    pool = _pool(1)
    try:
        for item in items:
            try:
                rows += pool.submit(_task, lake, function, [item], version).result()
            except BrokenProcessPool:
                rows.append((item.id, None, "the process that computed it died"))
                pool.shutdown(wait=False)
                pool = _pool(1)
    finally:
        pool.shutdown(wait=False)
    return rows


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _task(lake: Lake, function: Function, items: list[Item], version: str) -> list[Row]:
    if version_of(function) != version:
        raise UserError(f"the code of {function.__qualname__} changed since this command started; start it again")
    rows: list[Row] = []
    for item in items:
        try:
            rows.append((item.id, _compute(lake, function, item), ""))
        except Exception as error:  # a function of a system may fail in any way
            rows.append((item.id, None, f"{type(error).__name__}: {error}"))
    return rows


def _compute(lake: Lake, function: Function, item: Item) -> bytes:
    return pack(function(item, lambda part: lake.read(item, part)))


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as bytes: a line of JSON (name, type, shape), then their data. The same arrays give the same bytes."""
    heads, bodies = [], []
    for name in arrays:
        array = np.asarray(arrays[name])
        if array.dtype.hasobject or array.dtype.names:
            raise TypeError(f"array {name!r} is of type {array.dtype}, which is not plain numbers")
        heads.append([name, array.dtype.str, list(array.shape)])
        bodies.append(array.tobytes())
    return b"\n".join([json.dumps(heads, separators=(",", ":")).encode(), b"".join(bodies)])


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """Read what `pack` wrote. The arrays may be written to."""
    end = data.index(b"\n")
    body, at, arrays = bytearray(memoryview(data)[end + 1 :]), 0, {}
    for name, kind, shape in json.loads(data[:end]):
        dtype = np.dtype(kind)
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(body, dtype, count, at).reshape(shape)
        at += count * dtype.itemsize
    return arrays


_opened: dict[tuple[int, str], sqlite3.Connection] = {}
_opening = threading.Lock()


def _cache(lake: Lake) -> sqlite3.Connection:
    """This process's connection to the cache that stands beside the lake."""
    key = (os.getpid(), str(lake.lab.root))
    found = _opened.get(key)
    if found is None:
        with _opening:
            found = _opened.get(key)
            if found is None:
                found = _opened[key] = connect(lake.lab.root / "derived.sqlite", SCHEMA, 1)
                # What is lost here is computed again.
                found.execute("PRAGMA synchronous = NORMAL")
                found.execute(f"PRAGMA mmap_size = {2**40}")
    return found


def forget(lake: Lake, ids: Iterable[str]) -> int:
    """Delete what was derived from items, of every version. Returns how many entries."""
    cache = _cache(lake)
    return sum(cache.execute("DELETE FROM derived WHERE item = ?", (id,)).rowcount for id in ids)
