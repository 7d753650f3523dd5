"""What an item is: its parts, its identity, and the split of its group.

An item never changes: its id is a hash over what it is. It knows hashes; it knows nothing about where items are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from daybreak.errors import UserError, nearest
from daybreak.lab.codec import plain

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
RULE = "a group's split is drawn from its hash: train 85 %, validation 7.5 %, test 7.5 %; a draft may name another"


@dataclass(frozen=True)
class Draft:
    """What a system's ingestion yields for one thing it could read.

    The first of `parts` is the thing itself; others annotate it. `group` is what must not stand in two splits (song,
    speaker, sender, person). `split` is named only where a data set is published with one.
    """

    name: str
    group: str
    parts: Mapping[str, bytes]
    labels: Mapping[str, Any] = field(default_factory=dict)
    split: Split | None = None


@dataclass(frozen=True)
class Broken:
    """What ingestion yields for a file that it cannot use, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Item:
    """One item of the lake. Digests are sha256, in hex."""

    id: str
    """16 hex digits: a hash over system, digest, labels, group and split."""
    system: str
    name: str
    group: str
    split: Split
    digest: str
    """Of the content of all parts; of an item whose only part is "data", the digest of that part."""
    parts: Mapping[str, str]
    """Each part's digest."""
    labels: Mapping[str, Any]
    source: str
    licence: str
    consent: str
    added: str
    """When, in ISO 8601 with time zone."""


def content(parts: Mapping[str, str]) -> str:
    """The digest of all parts together. The order of the parts is no part of it."""
    if len(parts) == 1 and (single := parts.get("data")):
        return single
    return hashlib.sha256(canonical(dict(parts)).encode()).hexdigest()


def identity(system: str, digest: str, labels: str, group: str, split: Split) -> str:
    """The item's id. `labels` is their canonical JSON."""
    # Lengths before free text, so that no two items are written the same.
    whole = f"{len(system)}:{system} {digest} {split} {len(group)}:{group} {labels}"
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def canonical(value: Any) -> str:
    """The one JSON of a value. Raises TypeError or ValueError for what JSON cannot hold."""
    return _encode(plain(value))


def split_of(system: str, group: str) -> Split:
    """The split that a group's hash draws. Stable for ever: a group met again falls where it fell."""
    draw = int.from_bytes(hashlib.sha256(f"{system}\0{group}".encode()).digest()[:8], "big") / 2**64
    return "train" if draw < 0.85 else "validation" if draw < 0.925 else "test"


def as_split(name: str) -> Split:
    """The split of that name. Raises `UserError` with the nearest."""
    for split in SPLITS:
        if split == name:
            return split
    raise UserError(f"unknown split {name!r}; {nearest(name, SPLITS)}")


def clean(text: str) -> str:
    """Text that can be stored as UTF-8: bytes of a file's name that are none become the replacement character."""
    if text.isascii():
        return text
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if _escaped(text) else _replaced(text)


def _escaped(text: str) -> bool:
    return all(not 0xD800 <= ord(c) <= 0xDFFF or 0xDC80 <= ord(c) <= 0xDCFF for c in text)


def _replaced(text: str) -> str:
    return "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)
