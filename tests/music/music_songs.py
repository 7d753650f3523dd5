"""A snapshot in memory: enough of the lake's for a recipe."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from daybreak.lab.lake import Draft, Item
from daybreak.systems.music.rules import songs


def as_item(draft: Draft, split: str) -> Item:
    return Item(
        id=f"id-{draft.name.replace('/', '-')}",
        system="music",
        name=draft.name,
        group=draft.group,
        split=split,  # type: ignore[arg-type]
        digest="",
        parts=dict.fromkeys(draft.parts, ""),
        labels=draft.labels,
        source="",
        licence="",
        consent="",
        added="",
    )


class Songs:
    """Songs by rule, as a snapshot shows them."""

    def __init__(self, train: int = 8, validation: int = 2) -> None:
        drafts = list(songs(train + validation))
        self._parts: dict[str, Any] = {}
        self._splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
        for n, draft in enumerate(drafts):
            item = as_item(draft, "train" if n < train else "validation")
            self._splits[item.split].append(item)
            self._parts[item.id] = dict(draft.parts)
        self._made: dict[str, dict[str, np.ndarray]] = {}

    def split(self, name: str) -> Sequence[Item]:
        return self._splits[name]

    def read(self, item: Item, part: str = "data") -> bytes:
        return bytes(self._parts[item.id][part])

    def derived(self, function: Callable[..., Any], item: Item) -> dict[str, np.ndarray]:
        if item.id not in self._made:
            self._made[item.id] = function(item, lambda part: self.read(item, part))
        return self._made[item.id]
