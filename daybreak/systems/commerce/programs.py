"""The shop's program: a photo's square in; embeddings, calibrated tags and the garment's box out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from daybreak.lab.lake import Snapshot, Split
from daybreak.lab.program import Axis, Inputs, Program
from daybreak.systems.commerce.data import photos
from daybreak.systems.commerce.net import ShopNet, folded
from daybreak.systems.commerce.photos import embed_ready

if TYPE_CHECKING:
    from daybreak.systems.commerce.model import Shop

SIZES = (1, 2, 4, 8)
"""Photos in a call, in turn, where parity is measured."""


class Look(nn.Module):
    """The network with what follows it: temperatures, and each group's own way to probabilities."""

    def __init__(self, net: ShopNet, groups: list[tuple[slice, float, bool]]) -> None:
        super().__init__()
        self.net, self.groups = net, groups

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        seen = self.net(pixels)
        tags = []
        for span, temperature, exclusive in self.groups:
            logits = seen.tags[:, span] / temperature
            tags.append(torch.softmax(logits, -1) if exclusive else torch.sigmoid(logits))
        return seen.instance, seen.product, seen.colour, torch.cat(tags, -1), seen.box


def programs(shop: Shop) -> dict[str, Program]:
    """The one program of a shop."""
    vocabulary, side = shop.config.vocabulary, shop.config.net.side
    warm = shop.config.calibration.temperatures
    groups = [
        (vocabulary.span(name), warm.get(name, 1.0), group.exclusive) for name, group in vocabulary.groups.items()
    ]

    def inputs(data: Snapshot, split: Split) -> Iterator[Inputs]:
        items = data.split(split)
        places, first, turn = photos(items), 0, 0
        while first < len(places):
            count = SIZES[turn % len(SIZES)]
            files = [data.read(items[n]) for n in places[first : first + count]]
            yield {"pixels": embed_ready(files, side).float() / 255}
            first, turn = first + count, turn + 1

    return {
        "look": Program(
            module=Look(folded(shop.net), groups).eval(),
            example={"pixels": torch.rand(3, 3, side, side)},
            outputs=("instance", "product", "colour", "tags", "box"),
            inputs=inputs,
            dynamic={"pixels": {0: Axis("batch", 1, 256)}},
            about=f"pixels: RGB from 0 to 1, letterboxed to {side} x {side}; tags in the order of the vocabulary",
        )
    }
