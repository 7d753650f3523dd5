"""A sealed segment: some rows with their vectors and columns, written once and never changed.

A folder of `rows.jsonl` (a JSON line a row), one `SPACE.npy` a vector space (float32, mapped, not read),
`columns.npz` (what filters and look-ups need) and `segment.json` (vocabularies and a checksum of every file).
It knows nothing about manifests, dead rows or searches.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Int64, UInt64

from daybreak.errors import UserError
from daybreak.systems.commerce.catalogue.manifest import sync
from daybreak.systems.commerce.catalogue.rows import Row

BLOCK = 8192
"""Rows copied or hashed at a time."""


def keys_of(ids: Iterable[str]) -> UInt64[np.ndarray, " n"]:
    """64-bit hashes of ids. Two ids may share one: who looks up compares the id too."""
    raw = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(raw, np.uint64)


def write(
    folder: Path,
    rows: Sequence[Row],
    vectors: Mapping[str, Iterable[Float[np.ndarray, "b d"]]],
    spaces: Mapping[str, int],
) -> None:
    """Write a segment, fsynced to its last name. Not there for anyone until a manifest names it.

    Args:
        folder: does not exist yet; its parent does.
        rows: at least one.
        vectors: space -> its vectors in blocks, in the order of the rows.
        spaces: space -> dimensions.
    """
    folder.mkdir()
    sums: dict[str, str] = {}
    lines = [row.line() for row in rows]
    with _Summed(folder / "rows.jsonl", sums) as file:
        for line in lines:
            file.write(line)
    for space, width in spaces.items():
        with _Summed(folder / f"{space}.npy", sums) as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), width)}
            np.lib.format.write_array_header_1_0(file, header)
            written = 0
            for block in vectors[space]:
                file.write(np.ascontiguousarray(block, "<f4").tobytes())
                written += len(block)
            assert written == len(rows), f"{written} vectors for {len(rows)} rows"
    columns, vocabulary = _columns(rows, lines)
    with _Summed(folder / "columns.npz", sums) as file:
        np.savez(file, allow_pickle=False, **columns)
    with _Summed(folder / "segment.json", {}) as file:
        file.write(json.dumps({"rows": len(rows), **vocabulary, "sums": sums}, ensure_ascii=False).encode())
    sync(folder)
    sync(folder.parent)


def write_mask(path: Path, dead: Bool[np.ndarray, " n"]) -> None:
    """Write which rows of a segment are dead, durably."""
    with path.open("wb") as file:
        np.save(file, np.packbits(dead, bitorder="little"))
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)


class Segment:
    """A sealed segment, opened for reading. Its files are mapped at once, so that it outlives their names."""

    def __init__(self, folder: Path, spaces: Mapping[str, int]) -> None:
        """Raises FileNotFoundError where it is gone, `UserError` where it is damaged."""
        self.folder = folder
        try:
            about = json.loads((folder / "segment.json").read_bytes())
            self.rows: int = about["rows"]
            self.vocabulary: dict[str, list[Any]] = {name: about[name] for name in ("category", "group", "tags")}
            self.sums: dict[str, str] = about["sums"]
            # Copy-on-write: never written, and no library warns of an array that it cannot write.
            self.vectors: dict[str, Float32[np.ndarray, "n d"]] = {
                space: np.load(folder / f"{space}.npy", mmap_mode="c").view(np.ndarray) for space in spaces
            }
            self._resident: dict[str, Float32[np.ndarray, "n d"]] = {}
            self._read: dict[str, int] = {}
            with (folder / "rows.jsonl").open("rb") as file:
                self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            with np.load(folder / "columns.npz", allow_pickle=False) as stored:
                self._columns: dict[str, Any] = {name: stored[name] for name in stored.files}
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"segment {folder} is damaged ({error}); restore a snapshot or a copy") from error
        for space, width in spaces.items():
            if self.vectors[space].shape != (self.rows, width):
                raise UserError(f"segment {folder} is damaged: {space} is {self.vectors[space].shape}")

    def stored(self, space: str, rows: int, resident: bool) -> Float32[np.ndarray, "n d"]:
        """The vectors of a space, to read so many of their rows.

        Mapped files have small pages, in which scattered rows cost twice as much. Where `resident`, a copy is made
        when as many rows were read as there are: one question to a catalogue reads what it needs and no more.
        """
        if space in self._resident:
            return self._resident[space]
        self._read[space] = self._read.get(space, 0) + rows
        if resident and self._read[space] > self.rows:
            self._resident[space] = np.array(self.vectors[space])
        return self.vectors[space]

    def line(self, at: int) -> bytes:
        """The JSON line of a row."""
        starts = self._columns["starts"]
        return self._lines[int(starts[at]) : int(starts[at + 1])]

    def row(self, at: int) -> Row:
        """A row."""
        return Row.of_line(self.line(at))

    def find(self, keys: UInt64[np.ndarray, " q"]) -> tuple[Int64[np.ndarray, " f"], Int64[np.ndarray, " f"]]:
        """Pairs (which key, which row) of all rows whose id has one of these hashes."""
        mine, order = self._columns["keys"], self._columns["order"]
        low, high = np.searchsorted(mine, keys, "left"), np.searchsorted(mine, keys, "right")
        counts = high - low
        which = np.repeat(np.arange(len(keys)), counts)
        within = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        return which, order[low[which] + within].astype(np.int64)

    @property
    def category(self) -> Int32[np.ndarray, " n"]:
        """For each row its category, as a place in `vocabulary`."""
        column: Int32[np.ndarray, " n"] = self._columns["category"]
        return column

    @property
    def group(self) -> Int32[np.ndarray, " n"]:
        """For each row its group, as a place in `vocabulary`."""
        column: Int32[np.ndarray, " n"] = self._columns["group"]
        return column

    @property
    def price(self) -> Float[np.ndarray, " n"]:
        """For each row its price; NaN for none."""
        column: Float[np.ndarray, " n"] = self._columns["price"]
        return column

    @property
    def dhash(self) -> UInt64[np.ndarray, "n 4"]:
        """For each row its difference hash; zeros where it has none."""
        column: UInt64[np.ndarray, "n 4"] = self._columns["dhash"]
        return column

    @property
    def has_dhash(self) -> Bool[np.ndarray, " n"]:
        """Which rows have a difference hash."""
        column: Bool[np.ndarray, " n"] = self._columns["has_dhash"]
        return column

    @property
    def tagged(self) -> tuple[Int32[np.ndarray, " t"], Int32[np.ndarray, " t"]]:
        """Pairs (row, tag as a place in `vocabulary`), by row."""
        return self._columns["tag_row"], self._columns["tag"]

    @cached_property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def damage(self) -> list[str]:
        """What is wrong with it, one line a fault: every file against its checksum, every row against its columns."""
        wrong = []
        for name, wanted in self.sums.items():
            try:
                found = _sum(self.folder / name)
            except OSError as error:
                wrong.append(f"{self.folder.name}/{name}: {error.strerror}")
                continue
            if found != wanted:
                wrong.append(f"{self.folder.name}/{name}: its content is not what was written")
        if wrong:
            return wrong
        ids = [self.row(at).id for at in range(self.rows)]
        if not np.array_equal(keys_of(ids)[self._columns["order"]], self._columns["keys"]):
            wrong.append(f"{self.folder.name}: its ids are not those of its index")
        for space, stored in self.vectors.items():
            for start in range(0, self.rows, BLOCK):
                norms = np.linalg.norm(stored[start : start + BLOCK], axis=1)
                if not np.all(np.abs(norms - 1) < 1e-2):
                    at = start + int(np.argmax(~(np.abs(norms - 1) < 1e-2)))
                    wrong.append(f"{self.folder.name}: item {ids[at]}: its {space} vector is not of length 1")
        return wrong


def _columns(rows: Sequence[Row], lines: Sequence[bytes]) -> tuple[dict[str, np.ndarray], dict[str, list[Any]]]:
    """The columns of a segment, and the vocabularies that they point into."""
    keys = keys_of(row.id for row in rows)
    order = np.argsort(keys, kind="stable")
    category, categories = _coded(row.category for row in rows)
    group, groups = _coded(row.group for row in rows)
    pairs = [
        (at, (name, value)) for at, row in enumerate(rows) for name, values in row.tags.items() for value in values
    ]
    tag, tags = _coded(pair for _, pair in pairs)
    columns = {
        "keys": keys[order],
        "order": order.astype(np.int32),
        "starts": np.concatenate([[0], np.cumsum([len(line) for line in lines])]).astype(np.int64),
        "category": category,
        "group": group,
        "price": np.array([np.nan if row.price is None else row.price for row in rows], np.float64),
        "dhash": np.frombuffer(bytes.fromhex("".join(row.dhash or "0" * 64 for row in rows)), np.uint64).reshape(-1, 4),
        "has_dhash": np.array([bool(row.dhash) for row in rows]),
        "tag_row": np.array([at for at, _ in pairs], np.int32),
        "tag": tag,
    }
    return columns, {"category": categories, "group": groups, "tags": tags}


def _coded(values: Iterable[Any]) -> tuple[Int32[np.ndarray, " n"], list[Any]]:
    """Values as places in a list of the different ones."""
    places: dict[Any, int] = {}
    codes = [places.setdefault(value, len(places)) for value in values]
    return np.array(codes, np.int32), list(places)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


class _Summed:
    """A file that is written once, fsynced at the end, with its checksum put into `sums`."""

    def __init__(self, path: Path, sums: dict[str, str]) -> None:
        self.path, self.sums = path, sums
        self._sum = hashlib.blake2b(digest_size=16)

    def write(self, data: bytes) -> int:
        self._sum.update(data)
        return self._file.write(data)

    def __enter__(self) -> Any:
        self._file = self.path.open("wb")
        return self if self.path.suffix != ".npz" else self._file

    def __exit__(self, kind: object, *_: object) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if kind is None:
            # A zip is written back and forth, so its sum is taken from what lies there.
            self.sums[self.path.name] = _sum(self.path) if self.path.suffix == ".npz" else self._sum.hexdigest()
