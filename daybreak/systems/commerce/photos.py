"""Photos as tensors: squares of bytes, where the garment is in them, and their tags as targets.

It knows items and pixels; it knows nothing about nets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8

from daybreak.errors import UserError
from daybreak.lab.batches import Batch, Order
from daybreak.media.image import decode, letterbox, picture
from daybreak.systems.commerce.data import photos
from daybreak.systems.commerce.tags import Vocabulary, usual_tags

if TYPE_CHECKING:
    from daybreak.lab.lake import Item, Snapshot

KEPT = 16_384
"""Photos that are held decoded: 49 KB each at 128 pixels."""
WEAK = 0.5
"""How much a tag counts that a program gave."""


class Targets(NamedTuple):
    """What is known of one photo."""

    tags: Float32[np.ndarray, " tags"]
    """1 where it has the tag."""
    weight: Float32[np.ndarray, " tags"]
    """How sure that is: 1, or WEAK; 0 where nothing is known, which is not the same as an absent tag."""


def targets(vocabulary: Vocabulary, labels: Mapping[str, Any]) -> Targets:
    """A photo's targets. A group without a value is unknown, not absent."""
    tags = np.zeros(len(vocabulary.flat), np.float32)
    weight = np.zeros(len(vocabulary.flat), np.float32)
    weak = set(labels.get("weak", ()))
    for group, values in usual_tags(labels).items():
        if group not in vocabulary.groups:
            continue
        weight[vocabulary.span(group)] = WEAK if group in weak else 1.0
        for value in values:
            tags[vocabulary.columns[group, value]] = 1.0
    return Targets(tags, weight)


def square(data: bytes, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """A file's whole picture in a square."""
    return letterbox(picture(data, 2 * side), side)


def garment(pixels: UInt8[np.ndarray, "side side 3"]) -> UInt8[np.ndarray, "side side"]:
    """Where the garment probably is, 0 to 255: what differs from the ground that the picture's border shows.

    The border's colours are four clusters; a pixel's distance to the nearest of them, in units of the border's own
    spread, becomes a share. A teacher for the network's map, not a truth: a bed's pattern fools it.
    """
    whole, side = len(pixels), 48  # small: a map needs no detail, and this runs on every photo
    lab = _lab(letterbox(pixels, side))
    band = max(2, side // 16)
    edge = np.ones((side, side), bool)
    edge[band:-band, band:-band] = False
    ground = lab[edge]
    centres = ground[np.linspace(0, len(ground) - 1, 4).astype(int)]
    for _ in range(6):
        near = ((ground[:, None] - centres) ** 2).sum(-1).argmin(1)
        centres = np.stack([ground[near == n].mean(0) if (near == n).any() else centres[n] for n in range(4)])
    spread = np.sqrt(((ground[:, None] - centres) ** 2).sum(-1).min(1)).mean()
    far = np.sqrt(((lab[:, :, None] - centres) ** 2).sum(-1).min(-1))
    share = 1 / (1 + np.exp(-(far - max(12.0, 2.5 * spread)) / 4))
    smooth = (255 * _smooth(share).clip(0, 1)).astype(np.uint8)
    return letterbox(np.repeat(smooth[..., None], 3, -1), whole)[..., 0]


def _lab(pixels: UInt8[np.ndarray, "*shape 3"]) -> Float32[np.ndarray, "*shape 3"]:
    """CIE Lab of sRGB, white D65."""
    x = pixels.astype(np.float32) / 255
    x = np.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32)
    xyz = x @ matrix.T / np.array([0.95047, 1.0, 1.08883], np.float32)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def _smooth(x: np.ndarray) -> np.ndarray:
    """A mean over squares of 3 x 3, twice; the border goes on outside."""
    for _ in range(2):
        wide = np.pad(x, 1, mode="edge")
        x = np.mean([wide[i : i + len(x), j : j + x.shape[1]] for i in range(3) for j in range(3)], 0)
    return x


def embed_ready(files: Sequence[bytes], side: int) -> UInt8[torch.Tensor, "batch 3 side side"]:
    """Files as the network takes them."""
    return torch.from_numpy(np.stack([square(data, side) for data in files])).permute(0, 3, 1, 2)


class Photos:
    """The training batches: squares with the garment's map as a fourth plane, and targets. Pure in (seed, step)."""

    def __init__(self, data: Snapshot, vocabulary: Vocabulary, batch: int, seed: int, side: int) -> None:
        self.data, self.vocabulary, self.batch, self.seed, self.side = data, vocabulary, batch, seed, side
        self._start()

    def _start(self) -> None:
        self._items: list[Item] | None = None
        self._order: Order | None = None
        self._held: dict[int, np.ndarray] = {}
        self._extent: dict[int, np.ndarray] = {}
        self._known: dict[int, Targets] = {}

    def items(self, step: int) -> tuple[str, ...]:
        items, order = self._opened()
        return tuple(items[n].id for n in order(step))

    def __call__(self, step: int) -> Batch:
        items, order = self._opened()
        places = order(step)
        known = [self._targets(int(n)) for n in places]
        tensors = {
            "pixels": torch.from_numpy(np.stack([self._square(int(n)) for n in places])),
            "extent": torch.from_numpy(np.stack([self._extent[int(n)] for n in places])),
            "tags": torch.from_numpy(np.stack([one.tags for one in known])),
            "weight": torch.from_numpy(np.stack([one.weight for one in known])),
        }
        return Batch(tuple(items[n].id for n in places), tensors)

    def _opened(self) -> tuple[list[Item], Order]:
        if self._items is None or self._order is None:
            split = self.data.split("train")
            self._items = [split[n] for n in photos(split)]
            if not self._items:
                raise UserError("the snapshot has no photo to train on; daybreak lake add commerce PATH brings some")
            self._order = Order(len(self._items), self.batch, self.seed)
        return self._items, self._order

    def counts(self) -> Float[np.ndarray, " tags"]:
        """How many training photos have each tag."""
        items, _ = self._opened()
        return np.asarray(np.sum([self._targets(n).tags for n in range(len(items))], 0, dtype=np.float64))

    def _targets(self, place: int) -> Targets:
        if place not in self._known:
            assert self._items is not None
            self._known[place] = targets(self.vocabulary, self._items[place].labels)
        return self._known[place]

    def _square(self, place: int) -> UInt8[np.ndarray, "4 side side"]:
        if place in self._held:
            return self._held[place]
        assert self._items is not None
        whole = decode(self.data.read(self._items[place]), 2 * self.side)
        high, wide = whole.shape[:2]
        self._extent[place] = np.array([wide, high], np.float32) / max(wide, high)
        pixels = letterbox(whole, self.side)
        made = np.concatenate([pixels, garment(pixels)[..., None]], -1).transpose(2, 0, 1).copy()
        if len(self._held) < KEPT:
            self._held[place] = made
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()
