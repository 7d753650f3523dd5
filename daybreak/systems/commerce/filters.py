"""What every request to a catalogue may ask of its items: how many, with which tags, at which price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from daybreak.errors import UserError
from daybreak.lab.model import Request

if TYPE_CHECKING:
    from daybreak.systems.commerce.catalogue import Catalogue, Where

GUESS = "?"
"""The end of a category that is a guess."""


class Filtered(Request):
    """How many hits, and which items count."""

    k: int = Field(10, ge=1, le=1000)
    """Most hits."""
    where: tuple[str, ...] = ()
    """Filters by tags of the catalogue, as colour=red or colour=unknown; values of one group are alternatives."""
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
    """Any of these categories of the catalogue; "unknown": items without one."""
    guesses: bool = False
    """Let an item count by a category that is a guess, as "dress?": likelier than not, but less sure than promised."""

    def among(self, catalogue: Catalogue) -> tuple[Where, list[str]]:
        """The filters as this catalogue takes them, with guesses where they count, and what to say of those left out.

        Raises `UserError` for a category that only guesses have, where they do not count.
        """
        codes, numbers = catalogue.view().category
        living = codes[catalogue.view().live]
        wanted, notes = list(self.category), []
        for word in self.category:
            guess = f"{word}{GUESS}"
            count = int((living == numbers[guess]).sum()) if guess in numbers else 0
            if self.guesses:
                wanted += [guess] if count else []
                if count and word not in numbers:
                    wanted.remove(word)
            elif count and word in numbers:
                notes.append(f"{count} more {'is' if count == 1 else 'are'} {word} by a guess; guesses lets them count")
            elif count:
                raise UserError(f"no item is surely {word}; {count} by a guess, which guesses lets count")
        return self.conditions(wanted), notes
