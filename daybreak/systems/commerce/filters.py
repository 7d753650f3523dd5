"""What every request to a catalogue may ask of its items: how many, with which tags, at which price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from daybreak.errors import UserError
from daybreak.lab.model import Request

if TYPE_CHECKING:
    from daybreak.systems.commerce.catalogue import Where


class Filtered(Request):
    """How many hits, and which items count."""

    k: int = Field(10, ge=1, le=1000)
    """Most hits."""
    where: tuple[str, ...] = ()
    """Filters by tags of the catalogue, as colour=red; values of one group are alternatives."""
    lowest: float | None = None
    """Least price."""
    highest: float | None = None
    """Highest price."""

    @property
    def filters(self) -> bool:
        """Whether not every item counts."""
        return bool(self.where) or self.lowest is not None or self.highest is not None

    def conditions(self, category: Sequence[str] = ()) -> Where:
        """The filters as a catalogue takes them. Raises `UserError` for one that is not GROUP=VALUE."""
        from daybreak.systems.commerce.catalogue import Where

        tags: dict[str, list[str]] = {}
        for word in self.where:
            group, sign, value = (part.strip() for part in word.partition("="))
            if not sign or not group or not value:
                raise UserError(f"--where {word!r} is not GROUP=VALUE, as colour=red")
            tags.setdefault(group, []).append(value)
        price = None if self.lowest is None and self.highest is None else (self.lowest, self.highest)
        tagged = {group: tuple(values) for group, values in tags.items()}
        return Where(category=tuple(category), tags=tagged, price=price)


class Asked(Filtered):
    """Filters, the items' categories among them."""

    category: tuple[str, ...] = ()
    """Any of these categories of the catalogue."""
