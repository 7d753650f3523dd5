"""A folder for each class: `dress/0001.jpg`, `shoes/a.webp`. The folder is named by a value of the first group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from daybreak.errors import UserError, nearest
from daybreak.lab.lake import Broken, Draft
from daybreak.media.image import Image
from daybreak.systems.commerce.tags import Vocabulary

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl")
"""Files that are taken for photos. What of them cannot be read is set aside with its reason, not passed over."""


def ingest(path: Path, vocabulary: Vocabulary) -> Iterator[Draft | Broken]:
    """A draft for each picture under `path`. Photos of one folder and name stem's beginning are no group: each photo is
    its own, unless folders are nested (`dress/sender-12/a.jpg`: the inner folder is the group)."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"{path} holds no items.csv, items.jsonl and no pictures ({', '.join(SUFFIXES)})")
    group = next((name for name, found in vocabulary.groups.items() if found.exclusive), "")
    for file in files:
        inner = file.relative_to(path).parts[:-1] if path.is_dir() else ()
        name = "/".join((*inner, file.name))
        try:
            if file.stat().st_size > Image.largest:
                raise UserError(f"{file.stat().st_size / 2**20:.0f} MiB; at most {Image.largest >> 20} MiB can be read")
            data = file.read_bytes()
            Image.from_bytes(data)
            tags = {}
            if inner and group:
                read = vocabulary.parse(inner[0]).tags.get(group)
                if not read:
                    near = nearest(inner[0], vocabulary.groups[group].values)
                    raise UserError(f"the folder {inner[0]!r} is no {group}; {near}")
                tags = {group: read[:1]}
            yield Draft(name, "/".join(inner[1:]) or name, {"data": data}, {"kind": "photo", "tags": tags})
        except (UserError, OSError) as error:
            yield Broken(name, str(error))
