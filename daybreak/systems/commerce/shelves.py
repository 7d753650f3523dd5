"""A shop's photos into its catalogue: read, look, keep. Small pictures of the items stay beside the rows.

It knows lists, the network and the catalogue; it knows nothing about how either of them works.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from daybreak.errors import UserError
from daybreak.media.image import Image, decode, letterbox
from daybreak.systems.commerce.catalogue import Catalogue, Reembedding, Row
from daybreak.systems.commerce.catalogue.dedupe import dhash
from daybreak.systems.commerce.data import table
from daybreak.systems.commerce.data.folder import SUFFIXES
from daybreak.systems.commerce.model import Shop, box_of
from daybreak.systems.commerce.tags import Vocabulary

TOGETHER = 64
"""Photos that are read, looked at and committed at once: what a kill can lose."""
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
    """What a list, or a folder of pictures, holds; for what cannot be read, its name and the reason."""
    listing = table.find(path)
    if listing is None:
        yield from _pictures(path, vocabulary)
        return
    root = listing.parent.resolve()
    for number, row in enumerate(table.rows(listing), 1):
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
    """A folder's pictures; the name of the folder that holds one is its tag where the vocabulary knows it."""
    if not path.is_dir():
        raise UserError(f"{path} is no folder of photos and no list of items")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"{path} holds no items.csv, items.jsonl and no pictures ({', '.join(SUFFIXES)})")
    for file in files:
        name = file.relative_to(path).as_posix()
        if file.stat().st_size > Image.largest:
            yield name, f"{file.stat().st_size / 2**20:.0f} MiB; at most {Image.largest >> 20} MiB can be read"
            continue
        tags = vocabulary.parse(file.parent.name).tags if file.parent != path else {}
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
        group: list[Entry] = []
        seen: set[str] = set()

        def flush() -> None:
            if not group:
                return
            rows, vectors, broken = look(shop, group)
            taken.broken += broken
            for row, entry in zip(rows, [e for e in group if e.id not in dict(broken)], strict=True):
                keep_thumb(catalogue.path, row.digest, entry.data)
            if rows:
                result = writer.add(rows, vectors)
                taken.added += result.new + result.changed
                taken.unchanged += result.same
            group.clear()
            if told is not None:
                told(taken)

        for entry in found:
            if isinstance(entry, tuple):
                taken.broken.append(entry)
            elif entry.id in seen:
                taken.broken.append((entry.id, "the id is twice in the list; the first one was taken"))
            elif catalogue.has(entry.id, digest_of(entry.data)) and _same(catalogue.get(entry.id), entry):
                taken.unchanged += 1
                seen.add(entry.id)
            else:
                seen.add(entry.id)
                group.append(entry)
                if len(group) == TOGETHER:
                    flush()
        flush()
    return taken


def _same(row: Row, entry: Entry) -> bool:
    """Whether a row says what the list says; tags of the network's own count as nothing said."""
    given = {**entry.fields}
    tags = given.pop("tags", {})
    return all(getattr(row, name) == value for name, value in given.items() if value != "" or name != "group") and all(
        row.tags.get(group) == values for group, values in tags.items()
    )


def digest_of(data: bytes) -> str:
    """Of a photo's bytes."""
    return hashlib.sha256(data).hexdigest()


def look(shop: Shop, group: Sequence[Entry]) -> tuple[list[Row], dict[str, np.ndarray], list[tuple[str, str]]]:
    """Rows and vectors of entries, and those whose photo cannot be read."""
    side = shop.config.net.side
    squares, sizes, good, broken = [], [], [], []
    for entry in group:
        try:
            pixels = decode(entry.data, 2 * side)
        except UserError as error:
            broken.append((entry.id, str(error)))
            continue
        squares.append(letterbox(pixels, side))
        sizes.append((pixels.shape[1], pixels.shape[0]))
        good.append(entry)
    if not good:
        return [], {}, broken
    seen = shop.see_squares(np.stack(squares))
    probability = shop.probabilities(seen)
    rows = []
    for n, entry in enumerate(good):
        known = {group: values for group, values in entry.fields.get("tags", {}).items() if values}
        sure = {group: tuple(values) for group, values in shop.said(probability[n]).items() if values}
        tags = {**sure, **known}
        category = str(entry.fields.get("category", "")) or next(iter(tags.get(shop.kind, ())), "")
        gray = squares[n].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        fields = {**entry.fields, "tags": tags, "category": category}
        rows.append(
            Row(
                id=entry.id,
                digest=digest_of(entry.data),
                dhash=dhash(gray),
                box=box_of(seen.box[n].tolist(), *sizes[n]),
                **fields,
            )
        )
        probability[n] = shop.with_tags(probability[n], known)
    vectors = {name: getattr(seen, name).numpy() for name in ("instance", "product", "colour")}
    return rows, {**vectors, "tags": shop.tag_vectors(probability)}, broken


def keep_thumb(folder: Path, digest: str, data: bytes) -> None:
    """A small picture beside the rows, by its photo's digest; whole or not at all."""
    path = thumb_path(folder, digest)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(Image(decode(data, SIDE)).thumbnail(SIDE).to_bytes())
    beside.replace(path)


def thumb_path(folder: Path, digest: str) -> Path:
    """Where an item's small picture is."""
    return folder / THUMBS / digest[:2] / f"{digest}.webp"


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
    for path in (catalogue.path / THUMBS).glob("*/*.webp"):
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
        _, vectors, broken = look(shop, group)
        if broken:
            raise UserError(f"{broken[0][0]}: {broken[0][1]}; remove it from the catalogue, then go on")
        job.add(rows, vectors)
        done += len(rows)
        if told is not None:
            told(done)
    job.swap()
    return done
