"""The recommender: what users call. Items for a person or a basket, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from daybreak.errors import UserError, nearest
from daybreak.lab.model import Model, Response, action
from daybreak.systems.commerce.filters import Asked
from daybreak.systems.commerce.recommend.data import Log, Taken
from daybreak.systems.commerce.recommend.net import Lifts, numbered

if TYPE_CHECKING:
    from daybreak.systems.commerce.catalogue import Catalogue, Row

REASONS = 3
"""Things of a basket that a hit names at most."""


class RecommenderConfig(BaseModel):
    """What rebuilds a recommender."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    items: list[str]
    """What it can recommend."""
    pairs: int
    """Pairs that were counted."""
    views: float
    smoothing: float
    gain: float
    persons: int
    """Histories that were counted."""
    categories: bool = False
    """Its items are categories: outfits served as baskets."""


class ForWhom(Asked):
    """A person of the log, or a basket."""

    person: str = ""
    """A person of the log that is open."""
    basket: tuple[str, ...] = ()
    """Items, the newest last; behind a person's own where both are given."""


class Reason(BaseModel):
    """One thing of the history, and what it has to do with a hit."""

    item: str
    times: int
    """Histories that have both."""
    bought: int
    """Histories in which both were bought."""
    adds: float
    """What it adds to the hit's score, in nats."""


class Recommendation(BaseModel):
    """An item, and why."""

    item: str
    score: float
    """Log-probability up to a constant, in nats: higher is likelier."""
    why: str
    """The reason as a sentence."""
    reasons: tuple[Reason, ...]
    title: str = ""
    category: str = ""
    price: float | None = None


class Recommended(Response):
    """Items for a person or a basket, best first."""

    hits: tuple[Recommendation, ...]
    notes: tuple[str, ...]
    """What was not known, or left out, and why."""


class Recommender(Model):
    """Counts of what was taken after what."""

    Config = RecommenderConfig
    resources: ClassVar[Mapping[str, str]] = {
        "catalogue": "daybreak.systems.commerce.catalogue:Catalogue",
        "log": "daybreak.systems.commerce.recommend.data:Log",
    }
    about: ClassVar[str] = (
        "Recommends what others took after the same things. It repeats what was popular, and what was shown: what "
        "nobody was shown, nobody took. It knows nothing of a new item, and of a new person only the basket. Histories "
        "are personal data: a model holds counts of pairs, and a pair that one person alone took is one of them."
    )
    catalogue: Catalogue | None
    log: Log | None

    def __init__(self, config: RecommenderConfig, net: Lifts | None = None) -> None:
        super().__init__(config)
        self.net = net if net is not None else Lifts(len(config.items), config.pairs)
        self.numbers = {item: n for n, item in enumerate(config.items)}

    def describe(self) -> dict[str, Any]:
        what = "categories, of outfits as baskets" if self.config.categories else "items"
        return {"recommends": f"{len(self.config.items)} {what}, from {self.config.persons} histories"}

    @action
    def recommend(self, request: ForWhom) -> Recommended:
        """Recommend items for a person or a basket, each with its reason."""
        history, notes = self._history(request)
        took = numbered(history, self.numbers, self.config.views)
        if not took:
            notes.append("nothing is known of this person or basket: what is taken most often")
        scores, parts = self.net.score(took, self.config.smoothing, self.config.gain)
        rows = self._allowed(request, notes)
        hits: list[Recommendation] = []
        for n in sorted(range(len(scores)), key=lambda n: (-scores[n], n)):
            item = self.config.items[n]
            if n in took or (rows is not None and item not in rows):
                continue
            hits.append(self._hit(n, float(scores[n]), parts, None if rows is None else rows[item]))
            if len(hits) == request.k:
                break
        if len(hits) < request.k:
            notes.append(f"{len(hits)} hits, not {request.k}: no other item passes")
        return Recommended(hits=tuple(hits), notes=tuple(notes))

    def _history(self, request: ForWhom) -> tuple[list[Taken], list[str]]:
        """What the person took, then the basket; and what of it is not known."""
        history: list[Taken] = []
        if request.person:
            if self.log is None:
                raise UserError("--person is a person of a log and none is open; --log FILE opens one")
            history += self.log.history(request.person)
        for item in request.basket:
            if item not in self.numbers and request.basket == (item,) and not request.person:
                raise UserError(f"the item {item!r} is in none of the histories; {nearest(item, self.numbers)}")
            history.append(Taken(item, True))
        unknown = [one.item for one in history if one.item not in self.numbers]
        told = ", ".join(unknown[:6]) + (f" and {len(unknown) - 6} more" if len(unknown) > 6 else "")
        return history, [f"in none of the histories, or in too few: {told}"] if unknown else []

    def _allowed(self, request: ForWhom, notes: list[str]) -> dict[str, Row] | None:
        """The catalogue's rows that pass the filters, by id; None without a catalogue."""
        if self.catalogue is None:
            if request.category or request.filters:
                raise UserError(
                    "filters choose among a catalogue's items and none is open; --catalogue FOLDER opens one"
                )
            return None
        if self.config.categories:
            raise UserError(
                "this recommender was made of outfits: its items are categories, and no catalogue sells those"
            )
        from daybreak.systems.commerce.catalogue.rows import emptied

        where = request.conditions(request.category)
        view = self.catalogue.view()
        found = view.where(where)
        if not found.rows:
            notes.append(emptied(view.rows, found.trail))
        known = view.find(self.config.items)
        passing = known[known >= 0] if found.at is None else np.intersect1d(known, found.at)
        return {row.id: row for row in (view.row(int(at)) for at in passing)}

    def _hit(self, n: int, score: float, parts: Mapping[int, np.ndarray], row: Row | None) -> Recommendation:
        strongest = sorted(parts, key=lambda item: -parts[item][n])[:REASONS]
        reasons = []
        for item in strongest:
            times, bought = self.net.together(item, n)
            if times and parts[item][n] > 0:
                name = self.config.items[item]
                reasons.append(Reason(item=name, times=times, bought=bought, adds=round(float(parts[item][n]), 4)))
        return Recommendation(
            item=self.config.items[n], score=round(score, 4), why=self._words(n, reasons), reasons=tuple(reasons),
            title=row.title if row else "", category=row.category if row else "", price=row.price if row else None,
        )  # fmt: skip

    def _words(self, n: int, reasons: Sequence[Reason]) -> str:
        if not reasons:
            return f"popular: in {int(self.net.popular[n])} of {self.config.persons} histories"
        first = reasons[0]
        if self.config.categories:
            return f"in one outfit with {first.item} {first.times} times"
        if first.bought:
            return f"bought together with {first.item} {first.bought} times"
        return f"viewed by {first.times} who viewed {first.item}"
