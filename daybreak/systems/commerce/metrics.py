"""The field's metrics by their definition, and the alterations under which a picture must be found again.

It knows numbers and pictures; it knows nothing about nets or runs.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from daybreak.media.image import decode

Pixels = UInt8[np.ndarray, "height width 3"]


def precision_at(relevant: Bool[np.ndarray, " ranks"], k: int) -> float:
    """P@k: the share of the first k results that are relevant; of fewer than k, of those that are there."""
    return float(relevant[:k].mean())


def average_precision(relevant: Bool[np.ndarray, " ranks"]) -> float:
    """AP of one ranking of the whole gallery: the mean of P@r over the ranks r of the relevant; NaN without any."""
    ranks = np.flatnonzero(relevant) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).mean()) if len(ranks) else float("nan")


def ranked_ap(scores: Float[np.ndarray, " items"], truth: Bool[np.ndarray, " items"]) -> float:
    """AP of items sorted by score, high first; ties share the mean of their order's precision (by a stable sort of the
    worst case: the false ones first), so that a constant score gains nothing."""
    order = np.lexsort((truth, -scores))
    return average_precision(truth[order])


def macro_f1(truth: Sequence[int], said: Sequence[int], classes: Sequence[int]) -> float:
    """The mean over classes of 2 TP / (2 TP + FP + FN); a class that neither occurs nor is said counts as nothing."""
    t, s = np.asarray(truth), np.asarray(said)
    found = []
    for c in classes:
        hit, wrong = int(((t == c) & (s == c)).sum()), int(((t == c) ^ (s == c)).sum())
        if hit or wrong:
            found.append(2 * hit / (2 * hit + wrong))
    return float(np.mean(found)) if found else float("nan")


def calibration_error(
    probability: Float[np.ndarray, " items"], truth: Bool[np.ndarray, " items"], bins: int = 15
) -> float:
    """ECE [Guo et al., 2017]: over equal bins of probability, the mean gap of confidence and frequency, by count."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    total = 0.0
    for n in range(bins):
        inside = place == n
        if inside.any():
            total += inside.mean() * abs(float(probability[inside].mean()) - float(truth[inside].mean()))
    return total


# Alterations. Each takes and gives pixels; `rng` draws what is drawn.


def crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """70 % of each side, anywhere."""
    h, w = (round(0.7 * n) for n in pixels.shape[:2])
    top, left = rng.integers(pixels.shape[0] - h + 1), rng.integers(pixels.shape[1] - w + 1)
    return pixels[top : top + h, left : left + w]


def flip(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Left for right."""
    return pixels[:, ::-1]


def jpeg15(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A JPEG of quality 15."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=15)
    return decode(file.getvalue())


def recolour(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Another hue (a quarter to three quarters of the circle away), another saturation, another brightness."""
    from PIL import Image

    hsv = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("HSV")).astype(np.float64)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(64, 192)) % 256
    hsv[..., 1] *= rng.uniform(0.6, 1.4)
    hsv[..., 2] *= rng.uniform(0.8, 1.2)
    return np.asarray(Image.fromarray(hsv.clip(0, 255).astype(np.uint8), "HSV").convert("RGB"))


def screenshot(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Pasted into a phone's page at 55 % to 80 % of its width: bars, lines of text, tiles."""
    from PIL import Image

    width, height = 360, 480
    light = rng.random() < 0.7
    page = np.full((height, width, 3), 250 if light else 28, np.uint8)
    ink = 60 if light else 200
    page[:36] = rng.integers(0, 256, 3)
    page[-44:] = 235 if light else 50
    for _ in range(int(rng.integers(3, 9))):
        top = int(rng.integers(44, height - 60))
        page[top : top + int(rng.integers(3, 8)), 16 : 16 + int(rng.integers(60, 320))] = ink
    share = rng.uniform(0.55, 0.8)
    h, w = pixels.shape[:2]
    scale = min(share * width / w, 0.75 * height / h)
    small = np.asarray(
        Image.fromarray(np.ascontiguousarray(pixels)).resize((max(1, round(w * scale)), max(1, round(h * scale))))
    )
    top = int(rng.integers(40, height - 48 - small.shape[0] + 1)) if small.shape[0] < height - 88 else 40
    left = int(rng.integers(0, width - small.shape[1] + 1))
    page[top : top + small.shape[0], left : left + small.shape[1]] = small[: height - top]
    return page


def turned(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Turned by 10 to 20 degrees, white beside it, and blurred by a Gaussian of 1 % of the shorter side."""
    from PIL import Image, ImageFilter

    angle = rng.uniform(10, 20) * (1 if rng.random() < 0.5 else -1)
    image = Image.fromarray(np.ascontiguousarray(pixels)).rotate(
        angle, Image.Resampling.BILINEAR, fillcolor=(255, 255, 255)
    )
    return np.asarray(image.filter(ImageFilter.GaussianBlur(0.01 * min(pixels.shape[:2]))))


ALTERATIONS: Mapping[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "crop": crop, "flip": flip, "jpeg": jpeg15, "recolour": recolour, "screenshot": screenshot, "turned": turned,
}  # fmt: skip
"""What a picture is found through: R@1 of the altered picture among the originals."""


def altered(pixels: Pixels, kind: str, item: str) -> Pixels:
    """A picture's alteration: the same for the same item, in every run."""
    seed = int.from_bytes(hashlib.blake2b(f"{kind}:{item}".encode(), digest_size=8).digest())
    return ALTERATIONS[kind](pixels, np.random.default_rng(seed))
