"""Garments drawn by rule, of known kind and colour, on plain and patterned grounds.

They make every command work on a machine without photos. They are drawings: nothing about photos is claimed from them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from daybreak.lab.lake import Draft

SIDE = 160
KINDS = ("t_shirt", "longsleeve", "dress", "skirt", "pants", "shorts", "hat", "shoes", "hoodie", "undershirt")
COLOURS = {
    "black": (24, 24, 26), "white": (243, 243, 240), "grey": (140, 140, 142), "red": (200, 30, 40),
    "pink": (240, 150, 180), "orange": (240, 130, 30), "yellow": (245, 215, 60), "green": (50, 140, 70),
    "teal": (30, 140, 140), "blue": (50, 100, 220), "navy": (25, 35, 90), "purple": (120, 60, 150),
    "brown": (110, 70, 40), "beige": (220, 200, 165),
}  # fmt: skip
COUNT = 600

Points = list[tuple[float, float]]


def shapes(kind: str, fit: float, long: float) -> list[Points]:
    """The outline of a kind in a square of side one: polygons. `fit` widens, `long` lengthens; both about 1."""
    w, t = 0.22 * fit, 0.18
    hem = min(0.92, t + 0.55 * long)
    if kind in ("t_shirt", "longsleeve", "hoodie", "undershirt"):
        body = [
            (0.5 - w, t),
            (0.5 - 0.09, t),
            (0.5, t + 0.06),
            (0.5 + 0.09, t),
            (0.5 + w, t),
            (0.5 + w, hem),
            (0.5 - w, hem),
        ]
        if kind == "undershirt":
            return [[(0.5 - 0.6 * w, t), (0.5 - 0.06, t + 0.14), (0.5 + 0.06, t + 0.14), (0.5 + 0.6 * w, t),
                     (0.5 + 0.7 * w, t + 0.18), (0.5 + w, hem), (0.5 - w, hem), (0.5 - 0.7 * w, t + 0.18)]]  # fmt: skip
        reach: float = 0.17 if kind == "t_shirt" else 0.47 * long
        arms = [
            [
                (0.5 + s * w, t),
                (0.5 + s * (w + 0.14), t + reach),
                (0.5 + s * (w + 0.03), t + reach + 0.04),
                (0.5 + s * w, t + 0.2),
            ]
            for s in (-1, 1)
        ]
        hood = [[(0.5 - 0.12, t + 0.02), (0.5 - 0.1, t - 0.1), (0.5 + 0.1, t - 0.1), (0.5 + 0.12, t + 0.02)]]
        return [body, *arms, *(hood if kind == "hoodie" else [])]
    if kind == "dress":
        return [
            [
                (0.5 - 0.1, 0.12),
                (0.5 + 0.1, 0.12),
                (0.5 + 0.11, 0.4),
                (0.5 + 1.3 * w, 0.92),
                (0.5 - 1.3 * w, 0.92),
                (0.5 - 0.11, 0.4),
            ]
        ]
    if kind == "skirt":
        return [
            [
                (0.5 - 0.13, 0.25),
                (0.5 + 0.13, 0.25),
                (0.5 + 1.2 * w, 0.25 + 0.5 * long),
                (0.5 - 1.2 * w, 0.25 + 0.5 * long),
            ]
        ]
    if kind in ("pants", "shorts"):
        foot = 0.92 if kind == "pants" else 0.2 + 0.32 * long
        return [
            [
                (0.5 - 0.16, 0.12),
                (0.5 + 0.16, 0.12),
                (0.5 + w, foot),
                (0.5 + 0.05, foot),
                (0.5, 0.34),
                (0.5 - 0.05, foot),
                (0.5 - w, foot),
            ]
        ]
    if kind == "hat":
        return [
            [(0.3, 0.55), (0.34, 0.36), (0.5, 0.28 / fit), (0.66, 0.36), (0.7, 0.55)],
            [(0.2, 0.55), (0.8, 0.55), (0.84, 0.61), (0.16, 0.61)],
        ]
    return [
        [(0.12 + d, 0.62), (0.2 + d, 0.46), (0.26 + d, 0.5), (0.42 + d, 0.6), (0.44 + d, 0.68), (0.12 + d, 0.68)]
        for d in (0.0, 0.42)
    ]  # shoes


def draw(kind: str, colours: tuple[str, ...], rng: np.random.Generator) -> Any:
    """A drawing as a Pillow image: one kind, one or two colours (the second as stripes)."""
    from PIL import Image, ImageDraw, ImageFilter

    ground = tuple(int(x) for x in rng.integers(120, 256, 3))
    big = 2 * SIDE
    picture = Image.new("RGB", (big, big), ground)
    pen = ImageDraw.Draw(picture)
    if rng.random() < 0.4:  # boards or cloth under it
        for left in range(0, big, int(rng.integers(20, 60))):
            darker = tuple(max(0, c - 18) for c in ground)
            pen.line([(left, 0), (left + int(rng.integers(-20, 20)), big)], fill=darker, width=3)
    layer = Image.new("L", (big, big), 0)
    mask = ImageDraw.Draw(layer)
    size, turn = rng.uniform(0.75, 1.05), np.deg2rad(rng.uniform(-14, 14))
    dx, dy = rng.uniform(-0.06, 0.06, 2)
    for points in shapes(kind, rng.uniform(0.85, 1.2), rng.uniform(0.85, 1.1)):
        moved = []
        for x, y in points:
            u, v = (x - 0.5) * size, (y - 0.5) * size
            across, down = u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)
            moved.append((big * (0.5 + dx + across), big * (0.5 + dy + down)))
        mask.polygon(moved, fill=255)
    cloth = Image.new("RGB", (big, big), _near(colours[0], rng))
    if len(colours) > 1:
        brush, step = ImageDraw.Draw(cloth), int(rng.integers(24, 44))
        for y in range(0, big, step):
            brush.rectangle([0, y, big, y + step // 2], fill=_near(colours[1], rng))
    shade = Image.fromarray((255 * rng.uniform(0.86, 1.0, (8, 8))).astype(np.uint8)).resize(
        (big, big), Image.Resampling.BICUBIC
    )
    cloth = Image.composite(cloth, Image.new("RGB", (big, big), 0), shade)
    picture.paste(cloth, (0, 0), layer)
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.7)))


def _near(colour: str, rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(np.clip(c + d, 0, 255)) for c, d in zip(COLOURS[colour], rng.integers(-10, 11, 3), strict=True))


def drawings(count: int = COUNT, seed: int = 0) -> Iterator[Draft]:
    """Drafts of drawings; a tenth have two colours. Thirty "senders" of one style each."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        kind = KINDS[n % len(KINDS)]
        names = list(COLOURS)
        colours = tuple(str(c) for c in rng.choice(names, 2 if rng.random() < 0.1 else 1, replace=False))
        file = io.BytesIO()
        draw(kind, colours, rng).save(file, "WEBP", quality=80)
        tags = {"label": (kind,), "colour": colours, "wearer": ("adult",)}
        labels = {
            "kind": "photo", "drawn": True, "tags": tags, "title": f"{' and '.join(colours)} {kind.replace('_', '-')}",
            "price": float(rng.integers(5, 200)),
        }  # fmt: skip
        yield Draft(f"drawing {n}", f"style {n // len(KINDS) % 30}", {"data": file.getvalue()}, labels)
