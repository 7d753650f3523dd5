"""What an outfit is made of: pieces with a category and perhaps a title, and the names by which categories are known.

It knows words; it knows nothing about files, nets or catalogues.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from daybreak.errors import UserError, nearest

ALIASES = {
    "blazer": "Blazers", "blouse": "Blouses", "body": "Camisoles", "dress": "Dresses", "hat": "Hats",
    "hoodie": "Hoodies", "longsleeve": "Tops", "outwear": "Outerwear", "pants": "Pants", "polo": "Men's Polos",
    "shirt": "Blouses", "shoes": "Shoes", "shorts": "Shorts", "skirt": "Skirts", "t_shirt": "T-Shirts",
    "top": "Tops", "undershirt": "Tank Tops", "coat": "Coats", "bag": "Bags", "sneaker": "Sneakers",
}  # fmt: skip
"""Other shops' words -> the name that stands for them where the model has it."""


class Piece(NamedTuple):
    """One thing of an outfit."""

    id: str
    category: str
    title: str = ""
    product: tuple[float, ...] = ()
    """The product embedding of its photo, where there is one."""


@dataclass(frozen=True)
class Outfit:
    """Things that were put together. Their order says nothing."""

    name: str
    pieces: tuple[Piece, ...]


class Names:
    """The categories that a model was taught: their names, found however a shop spells them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._places: dict[str, int] = {}
        for n, name in enumerate(self.names):
            self._places.setdefault(_exact(name), n)
        self._stems: dict[str, int] = {}
        for n, name in enumerate(self.names):
            self._stems.setdefault(_stem(name), n)

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: str) -> int | None:
        """Where a category stands: by its name, without case, hyphens and plural, or by a usual other word for it."""
        exact = _exact(name)
        if exact in self._places:
            return self._places[exact]
        if _stem(name) in self._stems:
            return self._stems[_stem(name)]
        alias = ALIASES.get(exact.replace(" ", "_"), ALIASES.get(_stem(name), ""))
        return self._places.get(_exact(alias)) if alias else None

    def __getitem__(self, name: str) -> int:
        """The same. Raises `UserError` with the nearest names."""
        found = self.find(name)
        if found is None:
            raise UserError(f"unknown category {name!r}; {nearest(_exact(name).title(), self.names)}")
        return found


def _exact(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name.casefold()).strip()


def _stem(name: str) -> str:
    """A category's name without its plural: "Ankle Booties" and "ankle bootie" are one."""
    words = _exact(name).split()
    if not words:
        return ""
    last = words[-1]
    for end, put in (("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("ies", "ie"), ("s", "")):
        if last.endswith(end) and len(last) > len(end) + 1 and not last.endswith("ss"):
            last = last.removesuffix(end) + put
            break
    return " ".join([*words[:-1], last])


def words(title: str) -> list[str]:
    """A title's words, lower case, each once."""
    return list(dict.fromkeys(re.findall(r"\w+", title.casefold())))


def buckets(title: str, count: int) -> list[int]:
    """A title's words as numbers from 1 to `count`, by their hash: no list of words is kept."""
    hashes = (hashlib.blake2b(word.encode(), digest_size=8).digest() for word in words(title))
    return sorted({int.from_bytes(one) % count + 1 for one in hashes})


def vocabulary(outfits: Iterable[Outfit], least: int = 1) -> list[str]:
    """The categories of outfits, sorted, that occur in at least `least` of them."""
    counts: dict[str, int] = {}
    for outfit in outfits:
        for category in {piece.category for piece in outfit.pieces}:
            counts[category] = counts.get(category, 0) + 1
    return sorted(name for name, count in counts.items() if count >= least)
