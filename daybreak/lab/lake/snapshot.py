"""A snapshot: which items a run sees, frozen, and read in constant memory however many there are.

The manifest is fixed-width records in sorted chunks of .npy, opened by memory map; the items themselves stay in the
lake. It knows splits and leakage; it knows nothing about what a run does with items.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from daybreak.errors import UserError, nearest
from daybreak.lab.home import Lab, sync_folder, write_json
from daybreak.lab.lake.item import RULE, SPLITS, Item, Split, as_split
from daybreak.lab.lake.store import BLOB, BY_ID, FIELDS, Lake, as_item, query

if TYPE_CHECKING:
    from daybreak.lab.lake.derive import Function

VERSION = 1
CHUNK = 2**17
"""Records in one file of the manifest."""
RECORD = np.dtype([("id", ">u8"), ("digest", "V32"), ("first", ">u8"), ("group", ">u8"), ("split", "u1")])
"""`digest` is of all parts, `first` of the first part; `first` and `group` are the leading 64 bits of a sha256."""


@dataclass(frozen=True)
class Gone:
    """An item of a snapshot that the lake no longer has."""

    id: str
    reason: str


class Snapshot:
    """A frozen selection of the items of one system. Small and picklable: it opens files on first use."""

    def __init__(self, lab: Lab, about: Mapping[str, Any]) -> None:
        self.lab = lab
        self.lake = Lake(lab)
        self.id: str = about["id"]
        self.system: str = about["system"]
        self.query: Mapping[str, Any] = about["query"]
        self.counts: dict[Split, int] = {split: int(about["counts"][split]) for split in SPLITS}
        self.rule: str = about["rule"]
        self.created: str = about["created"]
        self.made: str = about["made"]
        """When the same content was frozen last; what "latest" goes by."""
        self.path = lab.snapshots / self.id
        self._chunks: dict[int, np.ndarray] = {}
        self._views: dict[int, memoryview] = {}

    @classmethod
    def open(cls, lab: Lab | str | os.PathLike[str] | None, text: str) -> Snapshot:
        """A snapshot by id, by the beginning of its id, by its system's name, or "latest".

        A system's name and "latest" mean the one made last. Raises `UserError` with what there is.
        """
        lab = lab if isinstance(lab, Lab) else Lab.open(lab)
        if (lab.snapshots / text / "snapshot.json").is_file() and "/" not in text:
            return cls(lab, _about(lab.snapshots / text))
        known = [_about(path) for path in _folders(lab)]
        if not known:
            raise UserError("there is no snapshot yet; make one with `daybreak lake snapshot SYSTEM`")
        fitting = [about for about in known if text in ("latest", about["system"])]
        if fitting:
            return cls(lab, max(fitting, key=lambda about: (about["made"], about["id"])))
        begins = [about for about in known if text and about["id"].startswith(text)]
        if len(begins) == 1:
            return cls(lab, begins[0])
        if begins:
            raise UserError(f"{len(begins)} snapshots begin with {text!r}; write more of the id")
        names = {about["id"] for about in known} | {about["system"] for about in known} | {"latest"}
        raise UserError(f"no snapshot {text!r}; {nearest(text, names)}")

    @classmethod
    def none(cls, lab: Lab, system: str) -> Snapshot:
        """A snapshot of nothing: for a recipe that makes its own data."""
        about = {"id": "", "system": system, "query": {"where": {}, "source": "", "licence": ""}, "rule": RULE}
        return cls(lab, {**about, "counts": dict.fromkeys(SPLITS, 0), "created": "", "made": ""})

    @classmethod
    def all(cls, lab: Lab) -> list[Snapshot]:
        """Every snapshot of the lab, the last made last."""
        known = sorted((_about(path) for path in _folders(lab)), key=lambda about: (about["made"], about["id"]))
        return [cls(lab, about) for about in known]

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __repr__(self) -> str:
        return f"Snapshot({self.id}, {self.system}, {self.counts})"

    def words(self) -> str:
        """The query in words; "all" when nothing was asked."""
        asked = [f"{label}={value}" for label, value in self.query["where"].items()]
        asked += [f"{name} {self.query[name]}" for name in ("source", "licence") if self.query[name]]
        return ", ".join(asked) or "all"

    def split(self, name: str) -> Items:
        """The items of a split, sorted by id; each is read when it is asked for."""
        split = as_split(name)
        start = sum(self.counts[before] for before in SPLITS[: SPLITS.index(split)])
        return Items(self, range(start, start + self.counts[split]))

    def item(self, id: str) -> Item:
        """An item of this snapshot by its id. Raises `UserError`."""
        if self.where(id) is None:
            raise UserError(f"snapshot {self.id} has no item {id!r}")
        return self.lake.get(id)

    def where(self, id: str) -> Split | None:
        """The split in which an item stands; None where this snapshot does not hold it."""
        try:
            wanted = int(id, 16) if len(id) == 16 else -1
        except ValueError:
            wanted = -1
        start = 0
        for split in SPLITS:
            stop = start + self.counts[split]
            at = bisect_left(range(stop), wanted, start, key=lambda i: int(self._record(i)["id"]))
            if at < stop and int(self._record(at)["id"]) == wanted:
                return split
            start = stop
        return None

    def read(self, item: Item | str, part: str = "data") -> bytes:
        """The bytes of an item's part."""
        return self.lake.read(item, part)

    def derived(self, function: Function, item: Item) -> dict[str, np.ndarray]:
        """What a module-level function makes of an item: from the cache, else computed and cached.

        The arrays are the caller's own. A change of the function's code, or of code or packages that it uses, makes a
        new cache; see `daybreak.lab.lake.derive`.
        """
        from daybreak.lab.lake.derive import derived

        return derived(self.lake, function, item)

    def records(self) -> Iterator[np.ndarray]:
        """The manifest's chunks in order."""
        for chunk in range(-(-len(self) // CHUNK)):
            yield self._chunk(chunk)

    def gone(self) -> list[Gone]:
        """The items that the lake no longer has, with what is known about it."""
        rows = self.lake.db.execute("SELECT id FROM items")
        here = [bytes.fromhex("".join([row[0] for row in part])) for part in _parts(rows)]
        there = np.frombuffer(b"".join(here), ">u8").astype("u8")
        ids = np.concatenate([chunk["id"] for chunk in self.records()]).astype("u8")
        gone = [f"{int(id):016x}" for id in ids[~_among(ids, there)]]
        reasons = {
            row[0]: f"removed on {row[1][:10]} by {row[2]}: {row[3] or 'no reason given'}"
            for row in self.lake.db.execute("SELECT id, at, who, why FROM removed WHERE system = ?", (self.system,))
        }
        return [Gone(id, reasons.get(id, "not in this lake")) for id in gone]

    def check(self) -> None:
        """Refuse a snapshot on which training would not be honest or not be possible.

        Raises:
            UserError: items of validation or test that also stand in training, by content, by content of the first
                part or by group; or items that are gone.
        """
        if not len(self):
            return
        whole = list(self.records())
        split = np.concatenate([chunk["split"] for chunk in whole])
        train = split == 0
        for field, what in (("digest", "content"), ("first", "content"), ("group", "group")):
            # The leading 64 bits decide: two of 10^7 items agree by chance in one lake of 10^5.
            values = np.concatenate([_head(chunk[field]) for chunk in whole])
            shared = _among(values[~train], values[train])
            if shared.any():
                ids = np.concatenate([chunk["id"] for chunk in whole])[~train]
                raise UserError(self._leak(int(shared.sum()), f"{int(ids[shared][0]):016x}", what))
        if gone := self.gone():
            listed = "; ".join(f"{one.id} {one.reason}" for one in gone[:3])
            raise UserError(
                f"{len(gone)} of the {len(self)} items of snapshot {self.id} are gone ({listed}"
                f"{'; ...' if len(gone) > 3 else ''}); make a new one with `daybreak lake snapshot {self.system}`"
            )

    def _leak(self, count: int, id: str, what: str) -> str:
        row = self.lake.db.execute(BY_ID, (id,)).fetchone()
        name = f"{id} ({row[2]}, group {row[3]})" if row else id
        return (
            f"snapshot {self.id} leaks: {count} evaluation items occur in its training items by {what}, "
            f"the first is {name}; their group must stand in one split"
        )

    def _chunk(self, number: int) -> np.ndarray:
        chunk = self._chunks.get(number)
        if chunk is None:
            file = self.path / _file(number)
            try:
                chunk = np.load(file, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise UserError(f"cannot read {file}: {error}; the snapshot's folder is incomplete") from error
            if chunk.dtype != RECORD:
                raise UserError(f"{file} is not a part of a snapshot")
            self._chunks[number] = chunk
        return chunk

    def _record(self, place: int) -> Any:
        return self._chunk(place // CHUNK)[place % CHUNK]

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.lab.root, "id": self.id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        lab = Lab(state["root"])
        self.__init__(lab, _about(lab.snapshots / state["id"]))  # type: ignore[misc]


class Items(Sequence[Item]):
    """Items of a snapshot, or a slice of them. Holds no items: each access reads one."""

    def __init__(self, snapshot: Snapshot, places: range) -> None:
        self.snapshot, self.places = snapshot, places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Items: ...
    def __getitem__(self, index: int | slice) -> Item | Items:
        if isinstance(index, slice):
            return Items(self.snapshot, self.places[index])
        id = self.id(index)
        row = self.snapshot.lake.db.execute(BY_ID, (id,)).fetchone()
        return as_item(row) if row is not None else self.snapshot.lake.get(id)

    def id(self, index: int) -> str:
        """The id of one, without reading the item."""
        view, at = self._place(index)
        return view[at : at + 8].hex()

    def ids(self, indices: Sequence[int] | np.ndarray) -> tuple[str, ...]:
        """The ids of many, without reading the items."""
        return tuple(self.id(int(index)) for index in indices)

    def read(self, index: int) -> bytes:
        """The bytes of one item's part "data", without reading the item where that is its only part."""
        row = self.snapshot.lake.db.execute(BLOB, (self._digest(index),)).fetchone()
        return row[0] if row is not None and row[0] is not None else self.snapshot.read(self[index])

    def read_many(self, indices: Sequence[int] | np.ndarray) -> list[bytes]:
        """The same of many, in the order of `indices`, with a query for 500."""
        digests = [self._digest(int(index)) for index in indices]
        found: dict[bytes, bytes] = {}
        for start in range(0, len(digests), 500):
            some = digests[start : start + 500]
            select = f"SELECT digest, data FROM blobs WHERE digest IN ({','.join('?' * len(some))})"
            found.update(self.snapshot.lake.db.execute(select, some))
        return [found.get(d) or self.read(int(i)) for i, d in zip(indices, digests, strict=True)]

    def _digest(self, index: int) -> bytes:
        view, at = self._place(index)
        return bytes(view[at + 8 : at + 40])

    def _place(self, index: int) -> tuple[memoryview, int]:
        """The bytes of a chunk and where a record begins: ten times faster than a field of a record."""
        number, place = divmod(self.places[index], CHUNK)
        view = self.snapshot._views.get(number)
        if view is None:
            view = self.snapshot._views[number] = self.snapshot._chunk(number).view("u1").data
        return view, place * RECORD.itemsize

    def take(self, indices: Sequence[int] | np.ndarray) -> list[Item]:
        """Many at once, in the order of `indices`, with one query."""
        ids = self.ids(indices)
        rows: dict[str, Item] = {}
        for start in range(0, len(ids), 500):
            some = ids[start : start + 500]
            marks = ",".join("?" * len(some))
            select = f"SELECT {FIELDS} FROM items WHERE id IN ({marks})"
            rows.update((row[0], as_item(row)) for row in self.snapshot.lake.db.execute(select, some))
        return [rows[id] if id in rows else self.snapshot.lake.get(id) for id in ids]

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), 500):
            yield from self.take(range(start, min(start + 500, len(self))))

    def __reversed__(self) -> Iterator[Item]:
        yield from self[::-1]


def freeze(lake: Lake, system: str, *, where: Mapping[str, str], source: str = "", licence: str = "") -> Snapshot:
    """Write the current items that fit as a snapshot, in constant memory. Raises `UserError` when none fit."""
    clause, values = query(system, "", "", source, licence, where, True)
    order = "CASE split WHEN 'train' THEN 0 WHEN 'validation' THEN 1 ELSE 2 END"
    part = lake.lab.snapshots / f".{secrets.token_hex(4)}.part"
    part.mkdir()
    try:
        rows = lake.db.execute(
            f"SELECT id, digest, grp, {order} AS place, parts FROM items WHERE {clause} ORDER BY place, id", values
        )
        hasher = hashlib.sha256(f"daybreak snapshot {VERSION}\0{system}\0".encode())
        counts = [0, 0, 0]
        for number, chunk in enumerate(_parts(rows)):
            records = _records(chunk)
            hasher.update(records.tobytes())
            for place, count in enumerate(np.bincount(records["split"], minlength=3)):
                counts[place] += int(count)
            with open(part / _file(number), "wb") as file:
                np.save(file, records, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        if not sum(counts):
            raise UserError(_nothing(lake, system, where, source, licence))
        now = datetime.now(UTC).astimezone().isoformat()
        about = {
            "version": VERSION,
            "id": hasher.hexdigest()[:16],
            "system": system,
            "query": {"where": dict(where), "source": source, "licence": licence},
            "rule": RULE,
            "counts": dict(zip(SPLITS, counts, strict=True)),
            "created": now,
            "made": now,
        }
        folder = lake.lab.snapshots / str(about["id"])
        if (folder / "snapshot.json").is_file():
            # The same content again: what is new is only that it is now the last made.
            about = {**_about(folder), "made": now}
            write_json(folder / "snapshot.json", about)
        else:
            write_json(part / "snapshot.json", about)
            part.rename(folder)
            sync_folder(lake.lab.snapshots)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Snapshot(lake.lab, about)


def _records(rows: list[Any]) -> np.ndarray:
    records = np.zeros(len(rows), RECORD)
    records["id"] = np.frombuffer(bytes.fromhex("".join(row[0] for row in rows)), ">u8")
    records["digest"] = np.frombuffer(b"".join(row[1] for row in rows), "V32")
    firsts = (next(iter(json.loads(row[4]).values()))[:16] for row in rows)
    records["first"] = np.frombuffer(bytes.fromhex("".join(firsts)), ">u8")
    groups = b"".join(hashlib.sha256(row[2].encode()).digest()[:8] for row in rows)
    records["group"] = np.frombuffer(groups, ">u8")
    records["split"] = [row[3] for row in rows]
    return records


def _parts(rows: Any) -> Iterator[list[Any]]:
    while part := rows.fetchmany(CHUNK):
        yield part


def _head(values: np.ndarray) -> np.ndarray:
    """The leading 64 bits of each value."""
    if values.dtype == np.dtype("V32"):
        values = np.ascontiguousarray(values).view(">u8").reshape(-1, 4)[:, 0]
    return values.astype("u8")


def _among(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of `values` occur in `others`. Sorting is several times faster here than numpy's hashing."""
    if not len(others):
        return np.zeros(len(values), bool)
    others = np.sort(others)
    found: np.ndarray = others[np.minimum(np.searchsorted(others, values), len(others) - 1)] == values
    return found


def _file(number: int) -> str:
    return f"items-{number:05d}.npy"


def _folders(lab: Lab) -> list[Path]:
    return sorted(p.parent for p in lab.snapshots.glob("*/snapshot.json") if not p.parent.name.startswith("."))


def _about(folder: Path) -> dict[str, Any]:
    file = folder / "snapshot.json"
    try:
        about: dict[str, Any] = json.loads(file.read_bytes())
        version = int(about["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {file}: {error}") from error
    if version > VERSION:
        raise UserError(f"{file} was made by a newer daybreak (version {version}, this one knows {VERSION})")
    return about


def _nothing(lake: Lake, system: str, where: Mapping[str, str], source: str, licence: str) -> str:
    if not lake.count(system):
        held = [row[0] for row in lake.db.execute("SELECT DISTINCT system FROM items")]
        return f"the lake has no items of {system!r}; {nearest(system, held)}"
    asked = [f"{key}={value}" for key, value in where.items()]
    asked += [f"{key} {value!r}" for key, value in (("source", source), ("licence", licence)) if value]
    return f"no item of {system} fits {', '.join(asked)}; `daybreak lake ls {system}` shows them"
