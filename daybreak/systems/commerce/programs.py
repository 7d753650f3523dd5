"""The shop's program: a photo's square in; embeddings, calibrated tags and the garment's box out. And its page, in
which a photo is tagged.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from daybreak.lab.lake import Snapshot, Split
from daybreak.lab.program import Axis, Inputs, Page, Program, Run
from daybreak.media.image import LARGEST_SIDE, MOST_PIXELS, Image
from daybreak.systems.commerce.data import photos
from daybreak.systems.commerce.data.drawn import drawings
from daybreak.systems.commerce.net import COLOUR_WEIGHT, Seen, ShopNet, folded
from daybreak.systems.commerce.photos import embed_ready

if TYPE_CHECKING:
    from daybreak.systems.commerce.model import Shop

SIZES = (1, 2, 4, 8)
"""Photos in a call, in turn, where parity is measured: a photo and those after it."""
EXAMPLES = 12
"""Drawn garments in the page."""


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
        places = photos(items)
        for first in range(len(places)):
            files = [data.read(items[n]) for n in places[first : first + SIZES[first % len(SIZES)]]]
            yield {"pixels": embed_ready(files, side).float() / 255}

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


def through(shop: Shop, run: Mapping[str, Run]) -> None:
    """Let the network answer by `run`. Logits are the program's probabilities taken back: an exclusive group's but for
    a constant, which its softmax does not see."""
    vocabulary, warm = shop.config.vocabulary, shop.config.calibration.temperatures

    def forward(pixels: Tensor) -> Seen:
        x = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        instance, product, colour, tags, box = run["look"](x)
        logits = []
        for name, group in vocabulary.groups.items():
            p = tags[:, vocabulary.span(name)].clamp(1e-7, 1 - 1e-7)
            logits.append(warm.get(name, 1.0) * (p.log() if group.exclusive else p.logit()))
        return Seen(instance, product, colour, torch.cat(logits, -1), box, x.new_zeros(len(x), 1, 1, 1))

    shop.net.forward = forward  # type: ignore[method-assign]


def page(shop: Shop) -> Page:
    """The page that tags a photo, with the thresholds, the tags' words, and a few drawings to compare it with."""
    vocabulary, least = shop.config.vocabulary, shop.config.calibration.thresholds
    groups = [
        {
            "name": name,
            "exclusive": group.exclusive,
            "values": [
                {
                    "name": value, "en": value.replace("_", " "), "ko": korean(words),
                    "least": least.get(f"{name}.{value}", 0.5),
                }
                for value, words in group.values.items()
            ],
        }
        for name, group in vocabulary.groups.items()
    ]  # fmt: skip
    data = {
        "side": shop.config.net.side, "groups": groups, "promised": shop.config.calibration.precision,
        "colour_weight": COLOUR_WEIGHT, "examples": examples(shop), "most_pixels": MOST_PIXELS,
        "most_side": LARGEST_SIDE, "most_bytes": Image.largest,
    }  # fmt: skip
    return Page(Path(__file__).parent / "page.js", data)


def korean(words: Sequence[str]) -> str:
    """The Korean word by which a tag is shown: a colour's noun, which ends in 색, else the first; "" without one."""
    found = [word for word in words if any("가" <= letter <= "힣" for letter in word)]
    return next((word for word in found if word.endswith("색")), found[0] if found else "")


def examples(shop: Shop) -> list[dict[str, Any]]:
    """Drawn garments, kind after kind: tags, a small picture, and the network's vectors of that picture."""
    chosen = list(drawings(EXAMPLES))
    pictures = [Image.from_bytes(Image.from_bytes(draft.parts["data"]).thumbnail(96).to_bytes()) for draft in chosen]
    seen = shop.see(pictures)
    return [
        {
            "tags": dict(draft.labels["tags"]), "mime": Image.mime,
            "picture": base64.b64encode(picture.to_bytes()).decode(),
            "product": _short(product), "colour": _short(colour),
        }
        for draft, picture, product, colour in zip(chosen, pictures, seen.product, seen.colour, strict=True)
    ]  # fmt: skip


def _short(vector: Tensor) -> list[float]:
    return [round(x, 6) for x in vector.tolist()]
