"""The stylist: what users call. It completes an outfit from a catalogue, and says how well one holds together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from daybreak.errors import UserError
from daybreak.lab.model import Model, Request, Response, action
from daybreak.systems.commerce.filters import Filtered
from daybreak.systems.commerce.outfits.data import LARGEST
from daybreak.systems.commerce.outfits.net import FIRST, NetConfig, OutfitNet, Query, encode
from daybreak.systems.commerce.outfits.pieces import Names, Piece
from daybreak.systems.commerce.outfits.shelf import Shelf, item, shelf, worn

if TYPE_CHECKING:
    from daybreak.systems.commerce.catalogue import Catalogue

WISHES = 8
"""Categories that an answer suggests."""
SAID = 40
"""Above this many categories, a help page does not list them."""


class StylistConfig(BaseModel):
    """What rebuilds a stylist."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    net: NetConfig
    categories: list[str]
    """The categories that it was taught, in the order of the network's columns."""
    landmarks: dict[str, list[float]] = {}
    """Quantiles of the scores of held-out outfits ("real") and of sets drawn at random ("random")."""


class Worn(Request):
    """An outfit, by a catalogue's items and by words."""

    items: tuple[str, ...] = ()
    """Ids of items of the catalogue."""
    wear: tuple[str, ...] = ()
    """Pieces by words: "Pumps", or "Pumps: red leather pumps"."""


class Match(Filtered, Worn):
    """An outfit to complete."""

    want: tuple[str, ...] = ()
    """Categories to complete it with; any without it."""
    each: int = Field(3, ge=1, le=1000)
    """Most hits of one category, so that the first ones are not all shoes."""


class Why(BaseModel):
    """Two categories, and how often they stand in one outfit."""

    category: str
    beside: str
    lift: float
    """How many times more often than by chance, in training outfits; under 1: less often. Rare pairs are drawn to 1."""
    times: int
    """In how many pairs of pieces of training outfits."""


class Hit(BaseModel):
    """An item of the catalogue that completes the outfit."""

    id: str
    title: str
    category: str
    price: float | None
    score: float
    """Log of how much more often such a piece stands beside these than anywhere, in nats; 0 is by chance."""
    why: tuple[Why, ...]
    """Its category beside each of the outfit's, the strongest first."""
    alike: int
    """Other items of the catalogue that score the same: between them the stylist cannot tell."""


class Wish(BaseModel):
    """A category that would complete the outfit."""

    category: str
    score: float
    """As a hit's."""
    why: tuple[Why, ...]


class Matched(Response):
    """What completes an outfit."""

    hits: tuple[Hit, ...]
    """Items of the catalogue, best first; empty where none is open."""
    wishes: tuple[Wish, ...]
    """The best categories that were taught, or those that were wanted."""
    notes: tuple[str, ...]
    """What was left out, and why."""


class Fit(BaseModel):
    """One piece of an outfit."""

    piece: str
    """Its id, or the words for it."""
    category: str
    score: float
    """How well it fits the others: log-ratio to chance, in nats."""


class Scored(Response):
    """How well an outfit holds together."""

    score: float
    """The soft minimum of its pieces' scores, in nats: 0 is by chance."""
    above_real: float | None
    """Share of held-out real outfits that score lower."""
    above_random: float | None
    """Share of sets drawn at random that score lower."""
    pieces: tuple[Fit, ...]
    """The one that fits least first."""
    pairs: tuple[Why, ...]
    """All pairs, the rarest first."""
    notes: tuple[str, ...]


class Stylist(Model):
    """A network that was trained on outfits that people put together."""

    Config = StylistConfig
    resources: ClassVar[Mapping[str, str]] = {"catalogue": "daybreak.systems.commerce.catalogue:Catalogue"}
    about: ClassVar[str] = (
        "Completes an outfit, and says how well one holds together. It learned from sets that people put together, and "
        "nearly all that it was told of a piece is its category: it knows that pumps go with a clutch, not that these "
        "pumps go with that clutch. What a category cannot tell, nothing can learn from such data. Among items of one "
        "category it ranks by titles, where it was taught with titles, and otherwise not at all; a hit says how many "
        "others score the same. It repeats the taste of those whose outfits it saw, of their time and place, and is no "
        "judge of how a person is dressed."
    )
    catalogue: Catalogue | None

    def __init__(self, config: StylistConfig, net: OutfitNet | None = None) -> None:
        super().__init__(config)
        self.names = Names(config.categories)
        self.net = net if net is not None else OutfitNet(config.net, len(self.names))

    def describe(self) -> dict[str, Any]:
        names = self.config.categories
        if len(names) <= SAID:
            return {"categories": list(names)}
        return {"categories": f"{len(names)}, from {names[0]} to {names[-1]}; a wrong one is told the nearest"}

    @action
    def match(self, request: Match) -> Matched:
        """Complete an outfit from the catalogue, or say which categories would."""
        pieces, notes = self._pieces(request, 1)
        wanted = {self.names[name] for name in request.want}
        if self.catalogue is None and request.filters:
            raise UserError("filters choose among a catalogue's items and none is open; --catalogue FOLDER opens one")
        query = self._query(pieces)
        kinds = query.kinds[0, FIRST:].double().numpy()
        order = sorted(wanted or range(len(self.names)), key=lambda n: (-kinds[n], n))
        wishes = [
            Wish(category=self.names.names[n], score=round(float(kinds[n]), 4), why=self._why(n, pieces))
            for n in order[:WISHES]
        ]
        hits: list[Hit] = []
        if self.catalogue is None:
            notes.append("no catalogue is open: categories only; --catalogue FOLDER opens one")
        else:
            found = shelf(
                self.catalogue, request.conditions(), self.names, wanted, set(request.items), self.config.net.product
            )
            notes += found.notes
            hits = self._hits(found, request, query, pieces)
            if len(hits) < request.k:
                notes.append(
                    f"{len(hits)} hits, not {request.k}: there are no more, at most {request.each} of a category"
                )
        return Matched(hits=tuple(hits), wishes=tuple(wishes), notes=tuple(notes))

    @action
    def score_outfit(self, request: Worn) -> Scored:
        """Say how well an outfit holds together, and which piece fits least."""
        pieces, notes = self._pieces(request, 2)
        sets = encode([pieces], self.names, self.config.net)
        with torch.inference_mode():
            fits = self.net.pieces(sets)[0].double().tolist()
            score = float(self.net.score(sets)[0])
        ranked = sorted(zip(fits, pieces, strict=True), key=lambda pair: pair[0])
        pairs = []
        for one, other in itertools.combinations(pieces, 2):
            a, b = self.names.find(one.category), self.names.find(other.category)
            if a is not None and b is not None:
                pairs.append(self._pair(a, b))
        return Scored(
            score=round(score, 4),
            above_real=self._above("real", score),
            above_random=self._above("random", score),
            pieces=tuple(Fit(piece=p.id, category=p.category, score=round(fit, 4)) for fit, p in ranked),
            pairs=tuple(sorted(pairs, key=lambda why: why.lift)),
            notes=tuple(notes),
        )

    def _pieces(self, request: Worn, least: int) -> tuple[list[Piece], list[str]]:
        """The request's pieces, and what must be said of them."""
        pieces, notes = [], []
        if request.items and self.catalogue is None:
            raise UserError("--items are ids of a catalogue and none is open; --catalogue FOLDER opens one")
        for id in request.items:
            assert self.catalogue is not None
            found = item(self.catalogue, id, self.config.net.product)
            pieces.append(found)
            if self.names.find(found.category) is None:
                notes.append(f"the category {found.category!r} of {id} was not taught: the outfit is judged without it")
        for text in request.wear:
            one = worn(text)
            pieces.append(one._replace(category=self.names.names[self.names[one.category]]))
        if not least <= len(pieces) <= LARGEST:
            raise UserError(f"an outfit here has {least} to {LARGEST} pieces (--items, --wear), not {len(pieces)}")
        if len(set(request.items)) < len(request.items):
            raise UserError("--items names an item twice")
        return pieces, notes

    @torch.inference_mode()
    def _query(self, pieces: Sequence[Piece]) -> Query:
        return self.net(encode([pieces], self.names, self.config.net))  # type: ignore[no-any-return]

    @torch.inference_mode()
    def _hits(self, found: Shelf, request: Match, query: Query, pieces: Sequence[Piece]) -> list[Hit]:
        """The best items of the shelf; equal scores by id."""
        if not found.rows:
            return []
        offered = encode([found.pieces], self.names, self.config.net)
        scores = np.round(self.net.fit(query, offered)[0].double().numpy(), 6)
        values, counts = np.unique(scores, return_counts=True)
        alike = dict(zip(values.tolist(), counts.tolist(), strict=True))
        taken: dict[int, int] = {}
        hits: list[Hit] = []
        for n in sorted(range(len(found.rows)), key=lambda n: (-scores[n], found.rows[n].id)):
            row, place = found.rows[n], found.places[n]
            if taken.get(place, 0) < request.each:
                taken[place] = taken.get(place, 0) + 1
                hits.append(
                    Hit(
                        id=row.id, title=row.title, category=row.category, price=row.price,
                        score=round(float(scores[n]), 4), why=self._why(place, pieces),
                        alike=alike[float(scores[n])] - 1,
                    )
                )  # fmt: skip
            if len(hits) == request.k:
                break
        return hits

    def _why(self, place: int, pieces: Sequence[Piece]) -> tuple[Why, ...]:
        found = {self.names.find(one.category) for one in pieces} - {None}
        return tuple(sorted((self._pair(place, n) for n in found if n is not None), key=lambda why: -why.lift))

    def _pair(self, a: int, b: int) -> Why:
        return Why(
            category=self.names.names[a], beside=self.names.names[b],
            lift=round(float(self.net.pairs[a + FIRST, b + FIRST].exp()), 2),
            times=int(self.net.together[a + FIRST, b + FIRST]) // (2 if a == b else 1),
        )  # fmt: skip

    def _above(self, name: str, score: float) -> float | None:
        marks = self.config.landmarks.get(name)
        return round(float(np.interp(score, marks, np.linspace(0, 1, len(marks)))), 3) if marks else None
