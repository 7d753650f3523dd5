"""Outfits that the project makes by rules: for a first run on a machine without data, never for claims.

The rules are known, so a test can ask whether a network finds them: an occasion says which kinds go together, and a
palette which colours; the colour stands in the title alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from daybreak.lab.lake import Draft
from daybreak.systems.commerce.outfits.data import draft
from daybreak.systems.commerce.outfits.pieces import Piece

OCCASIONS = {
    "sport": (("T-Shirts", "Tank Tops", "Hoodies"), ("Shorts", "Leggings"), ("Sneakers",), ("Backpacks", "Hats")),
    "office": (("Blouses", "Sweaters"), ("Pants", "Skirts"), ("Pumps", "Loafers"), ("Blazers", "Watches")),
    "summer": (("Dresses", "Tunics"), ("Sandals", "Flats"), ("Sunglasses", "Hats"), ("Tote Bags",)),
    "party": (("Gowns", "Cocktail Dresses"), ("Pumps",), ("Clutches",), ("Necklaces", "Earrings", "Rings")),
}
"""Occasion -> one of each of these; the last is left out at times."""
PALETTES = (
    ("black", "white", "red"), ("navy", "beige", "brown"), ("pink", "grey", "purple"), ("green", "yellow", "orange"),
)  # fmt: skip
"""Colours that go together."""
FILLERS = ("new", "classic", "soft", "slim", "summer", "basic")
COUNT = 1200


def drawn(count: int = COUNT, seed: int = 0) -> Iterator[Draft]:
    """Drafts of outfits by rule."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        kinds = list(OCCASIONS.values())[int(rng.integers(len(OCCASIONS)))]
        palette = PALETTES[int(rng.integers(len(PALETTES)))]
        chosen = [str(rng.choice(group)) for group in kinds[: len(kinds) - int(rng.random() < 0.3)]]
        pieces = [
            Piece(f"{n}_{place}", kind, f"{rng.choice(FILLERS)} {rng.choice(palette)} {kind.lower()}")
            for place, kind in enumerate(chosen)
        ]
        yield draft(f"drawn {n}", pieces, drawn=True)
