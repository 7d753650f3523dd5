"""A hundred thousand photos with altered copies among them, for the near-duplicates of commerce_search.

The photos of the shared data, and collages of four of them, as squares of 96 pixels; each copy is one of these changed
in one way. (Blends of two photos would not do: where one is pale, the blend is a copy of the other.)
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

SIDE = 96
CHUNK = 2000


def jpeg(image: Any) -> Any:
    """Saved as JPEG at quality 30."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=30)
    return Image.open(data).convert("RGB")


def cut(share: float) -> Callable[[Any], Any]:
    """The outer share of each side cut off, and enlarged again."""
    edge = share * SIDE / 2
    return lambda image: image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (edge, edge, SIDE - edge, SIDE - edge))


def logo(image: Any) -> Any:
    """A red label in the corner."""
    copy = image.copy()
    ImageDraw.Draw(copy).rectangle((3, 3, 22, 12), fill=(255, 0, 0))
    return copy


CHANGES: dict[str, Callable[[Any], Any]] = {
    "JPEG 30": jpeg,
    "half size": lambda image: image.resize((SIDE // 2, SIDE // 2)).resize((SIDE, SIDE), Image.Resampling.BILINEAR),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "less colour": lambda image: ImageEnhance.Color(image).enhance(0.4),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "cut 2 %": cut(0.02),
    "cut 5 %": cut(0.05),
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(0.75)),
    "turned 2 degrees": lambda image: image.rotate(2, Image.Resampling.BILINEAR, fillcolor=(255, 255, 255)),
    "a label": logo,
}


def photos(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """The photos (n, 96, 96, 3), and which are of the train split."""
    folder = data / "commerce"
    with (folder / "clothing" / "items.csv").open(newline="") as file:
        items = list(csv.DictReader(file))
    pixels = np.empty((len(items), SIDE, SIDE, 3), np.uint8)
    for i, item in enumerate(items):
        with Image.open(folder / item["file"]) as image:
            pixels[i] = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX))
    return pixels, np.array([item["split"] == "train" for item in items])


def every(pixels: np.ndarray, count: int, copies: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(pixels, owner) in chunks: photos, then collages up to `count`, then copies. A copy's owner is its original."""
    random = np.random.default_rng(0)
    small = pixels.reshape(-1, SIDE // 2, 2, SIDE // 2, 2, 3).mean((2, 4), dtype=np.float32).astype(np.uint8)
    four = random.integers(len(pixels), size=(max(count - len(pixels), 0), 4))

    def of(i: np.ndarray) -> np.ndarray:
        whole = pixels[np.minimum(i, len(pixels) - 1)].copy()
        made = np.flatnonzero(i >= len(pixels))
        a, b, c, d = (small[four[i[made] - len(pixels), corner]] for corner in range(4))
        whole[made] = np.concatenate([np.concatenate([a, b], 2), np.concatenate([c, d], 2)], 1)
        return whole

    for start in range(0, count, CHUNK):
        i = np.arange(start, min(start + CHUNK, count))
        yield of(i), i
    owners = random.choice(count, copies, replace=False)
    changes = list(CHANGES.values())
    for start in range(0, copies, CHUNK):
        i = owners[start : start + CHUNK]
        changed = [changes[(start + n) % len(changes)](Image.fromarray(x)) for n, x in enumerate(of(i))]
        yield np.stack([np.asarray(x) for x in changed]), i
