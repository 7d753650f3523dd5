"""A shop's photos into its catalogue: read, look, keep. Small pictures of the items stay beside the rows.

It knows lists, the network and the catalogue; it knows nothing about how either of them works.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from daybreak.errors import UserError
from daybreak.lab.model import torch_threads
from daybreak.media.image import Image, jpeg, letterbox, picture
from daybreak.systems.commerce.catalogue import Catalogue, Reembedding, Row
from daybreak.systems.commerce.catalogue.dedupe import dhash
from daybreak.systems.commerce.data import table
from daybreak.systems.commerce.data.folder import SUFFIXES
from daybreak.systems.commerce.model import Shop, box_of
from daybreak.systems.commerce.net import Seen
from daybreak.systems.commerce.tags import Vocabulary

TOGETHER = 256
"""Photos that are read, looked at and committed at once: what a kill can lose."""
HELD = 64 * 2**20
"""Bytes of photos after which a group is closed, however few they are."""
AT_ONCE = 32
"""Photos that pass the network at once: what it holds of more does not stay in a processor's cache."""
THUMBS = "thumbs"
SIDE = 128
"""Pixels of a small picture's longer side."""


@dataclass
class Taken:
    """What an addition did."""

    added: int = 0
    unchanged: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)
    """Items that could not be read, and why."""


@dataclass(frozen=True)
class Entry:
    """One line of a shop's list."""

    id: str
    data: bytes
    fields: Mapping[str, Any]
    """What the list says: title, price, category, group, tags."""


def entries(path: Path, vocabulary: Vocabulary) -> Iterator[Entry | tuple[str, str]]:
    """What a list, a folder of pictures or one picture holds; for what cannot be read, its name and the reason."""
    listing = None if path.suffix.lower() in SUFFIXES else table.find(path)
    if listing is None:
        yield from _pictures(path, vocabulary)
        return
    root = listing.parent.resolve()
    for number, row in enumerate(table.rows(listing, table.PHOTO), 1):
        if not isinstance(row, dict):
            yield row.name, row.reason
            continue
        image = str(row.get("image", row.get("file", "")))
        name = str(row.get("id", image or number))
        try:
            tags, weak = table.tags_of(row, vocabulary)
            fields: dict[str, Any] = {"image": image, "tags": {k: v for k, v in tags.items() if k not in weak}}
            fields |= {key: str(row[key]) for key in ("title", "category") if key in row}
            if "price" in row:
                fields["price"] = table.price_of(row["price"])
            group = next((str(row[key]) for key in table.GROUPS if key in row), "")
            if not image:
                raise UserError("the row names no image (a column image or file)")
            yield Entry(name, table.read_image(root, image), {**fields, "group": group})
        except UserError as error:
            yield name, str(error)


def _pictures(path: Path, vocabulary: Vocabulary) -> Iterator[Entry | tuple[str, str]]:
    """A picture, or a folder's; the name of the folder that holds one is its tag where the vocabulary knows it."""
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"{path} holds no items.csv, items.jsonl and no pictures ({', '.join(SUFFIXES)})")
    for file in files:
        name = file.relative_to(path if path.is_dir() else path.parent).as_posix()
        if file.stat().st_size > Image.largest:
            yield name, f"{file.stat().st_size / 2**20:.0f} MiB; at most {Image.largest >> 20} MiB can be read"
            continue
        tags = vocabulary.parse(file.parent.name).tags if path not in (file, file.parent) else {}
        try:
            yield Entry(name, file.read_bytes(), {"image": name, "tags": {k: v[:1] for k, v in tags.items()}})
        except OSError as error:
            yield name, str(error.strerror or error)


def add(shop: Shop, catalogue: Catalogue, found: Iterator[Entry | tuple[str, str]], told: Any = None) -> Taken:
    """Bring entries into a catalogue, a group of photos at a time, each of them durable when the next begins.

    An item that is there with the same photo and fields is left; another photo or other fields replace it. What the
    list does not say of an item's tags is what the network is sure of.
    """
    taken = Taken()
    with catalogue.writing(shop.fingerprint) as writer:
        for group in _groups(found, taken):
            view = catalogue.view()
            places = view.find([entry.id for entry in group])
            fresh = [
                entry
                for entry, at in zip(group, places.tolist(), strict=True)
                if at < 0 or not _same(view.row(at), entry)
            ]
            taken.unchanged += len(group) - len(fresh)
            looked = look(shop, fresh)
            taken.broken += looked.broken
            for row, small in zip(looked.rows, looked.small, strict=True):
                keep_thumb(catalogue.path, row.digest, small)
            if looked.rows:
                result = writer.add(looked.rows, looked.vectors)
                taken.added += result.new + result.changed
                taken.unchanged += result.same
            if told is not None:
                told(taken)
    return taken


def _groups(found: Iterator[Entry | tuple[str, str]], taken: Taken) -> Iterator[list[Entry]]:
    """Entries in groups. What could not be read, and an id for the second time, is set aside."""
    group: list[Entry] = []
    seen: set[str] = set()
    held = 0
    for entry in found:
        if isinstance(entry, tuple):
            taken.broken.append(entry)
            continue
        if entry.id in seen:
            taken.broken.append((entry.id, table.TWICE))
            continue
        seen.add(entry.id)
        group.append(entry)
        held += len(entry.data)
        if len(group) == TOGETHER or held >= HELD:
            yield group
            group, held = [], 0
    if group:
        yield group


def _same(row: Row, entry: Entry) -> bool:
    """Whether a row has the list's photo and says what the list says; tags of the network's own are nothing said."""
    if row.digest != digest_of(entry.data):
        return False
    given = {**entry.fields}
    tags = given.pop("tags", {})
    return all(getattr(row, name) == value for name, value in given.items() if value != "" or name != "group") and all(
        row.tags.get(group) == values for group, values in tags.items()
    )


def digest_of(data: bytes) -> str:
    """Of a photo's bytes."""
    return hashlib.sha256(data).hexdigest()


class Prepared(NamedTuple):
    """What is made of a photo's file before the network sees it: all of it from one decoding."""

    square: UInt8[np.ndarray, "side side 3"]
    size: tuple[int, int]
    """Width and height of what was decoded: their ratio counts."""
    hash: str
    small: bytes


def prepare(data: bytes, side: int) -> Prepared | UserError:
    """A photo's square for a network of that side, its hash, and its small picture's file; or why it cannot be read."""
    try:
        shown = picture(data, max(2 * side, SIDE))
    except UserError as error:
        return error
    square = letterbox(shown, side)
    gray = square.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return Prepared(square, shown.size, dhash(gray), jpeg(shown, SIDE))


class Looked(NamedTuple):
    """What a group of entries became."""

    rows: list[Row]
    vectors: dict[str, np.ndarray]
    small: list[bytes]
    """The small pictures' files, in the order of the rows."""
    broken: list[tuple[str, str]]
    """Items whose photo cannot be read, and why."""


def look(shop: Shop, group: Sequence[Entry]) -> Looked:
    """Rows and vectors of entries, and those whose photo cannot be read.

    As many photos are decoded, and then as many parts of the group seen, at once as torch has threads. Each part is on
    one of them: threads that share the network's small operators mostly wait for one another.
    """
    side = shop.side
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # Pillow and torch let other threads run
        found = list(pool.map(lambda entry: prepare(entry.data, side), group))
        broken = [(e.id, str(one)) for e, one in zip(group, found, strict=True) if isinstance(one, UserError)]
        good = [(e, one) for e, one in zip(group, found, strict=True) if not isinstance(one, UserError)]
        if not good:
            return Looked([], {}, [], broken)
        parts = [good[n : n + AT_ONCE] for n in range(0, len(good), AT_ONCE)]

        def see(part: list[tuple[Entry, Prepared]]) -> Seen:
            with torch_threads(1):
                return shop.see_squares(np.stack([one.square for _, one in part]))

        every = list(pool.map(see, parts))
    seen = Seen(*(torch.cat(column) for column in zip(*every, strict=True)))
    probability = shop.probabilities(seen)
    rows = []
    for n, (entry, one) in enumerate(good):
        known = {group: values for group, values in entry.fields.get("tags", {}).items() if values}
        sure = {group: tuple(values) for group, values in shop.said(probability[n]).items() if values}
        tags = {**sure, **known}
        category = str(entry.fields.get("category", "")) or shop.category(probability[n], tags)
        fields = {**entry.fields, "tags": tags, "category": category}
        box = box_of(seen.box[n].tolist(), *one.size)
        rows.append(Row(id=entry.id, digest=digest_of(entry.data), dhash=one.hash, box=box, **fields))
        probability[n] = shop.with_tags(probability[n], known)
    vectors = {name: getattr(seen, name).numpy() for name in ("instance", "product", "colour")}
    return Looked(rows, {**vectors, "tags": shop.tag_vectors(probability)}, [one.small for _, one in good], broken)


def keep_thumb(folder: Path, digest: str, small: bytes) -> None:
    """A small picture beside the rows, by its photo's digest; whole or not at all."""
    path = thumb_path(folder, digest)
    if os.path.exists(path):  # once a photo: plain calls take half of pathlib's time
        return
    if not os.path.isdir(path.parent):  # asking costs less than trying to make it
        path.parent.mkdir(parents=True, exist_ok=True)
    beside = f"{path}.{os.getpid()}"
    with open(beside, "wb") as file:
        file.write(small)
    os.replace(beside, path)


def thumb_path(folder: Path, digest: str) -> Path:
    """Where an item's small picture is."""
    return folder / THUMBS / digest[:2] / f"{digest}.jpg"


def thumb(folder: Path, row: Row) -> Image | None:
    """An item's small picture, where there is one."""
    path = thumb_path(folder, row.digest)
    return Image.open(path) if row.digest and path.exists() else None


def tidy(catalogue: Catalogue) -> int:
    """Delete the small pictures that no item and no snapshot has; how many."""
    kept = {row.digest for row in catalogue.rows()}
    if catalogue.snapshots():
        return 0  # an item that is gone now may come back with one
    gone = 0
    for path in (catalogue.path / THUMBS).glob("*/*.jpg"):
        if path.stem not in kept:
            path.unlink()
            gone += 1
    return gone


def reembed(shop: Shop, catalogue: Catalogue, photos: Path, told: Any = None) -> int:
    """New vectors of another model for all rows, beside the old ones; then the swap. Goes on where it was stopped.

    `photos` is the folder that the rows' image paths start from.
    """
    job = Reembedding(catalogue, shop.fingerprint, shop.spaces)
    done = 0
    for rows in job.missing(TOGETHER):
        group = [
            Entry(row.id, table.read_image(photos.resolve(), row.image), {"image": row.image, "tags": row.tags})
            for row in rows
        ]
        looked = look(shop, group)
        for name, reason in looked.broken:
            raise UserError(f"{name}: {reason}; remove it from the catalogue, then go on")
        job.add(rows, looked.vectors)
        done += len(rows)
        if told is not None:
            told(done)
    job.swap()
    return done
