"""The shop: what users call. It tags photos, finds similar images and products, searches by words, and finds copies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from daybreak.errors import UserError
from daybreak.lab.model import Model, Request, Response, action
from daybreak.media.image import Image, letterbox
from daybreak.systems.commerce.calibrate import Calibration, probabilities, said
from daybreak.systems.commerce.catalogue import Catalogue
from daybreak.systems.commerce.catalogue.rows import Hits
from daybreak.systems.commerce.catalogue.store import fewer
from daybreak.systems.commerce.filters import GUESS, Asked
from daybreak.systems.commerce.net import COLOUR_WEIGHT, SPACES, NetConfig, Seen, ShopNet, folded
from daybreak.systems.commerce.tags import Vocabulary

if TYPE_CHECKING:
    from daybreak.lab.program import Page, Program, Run
    from daybreak.systems.commerce.catalogue import Catalogue, Hits

LIKELY = 0.5
"""Probability from which an item's kind is told as a guess, where it is not sure."""
LEAST = 0.1
"""Probability that each wanted tag must have for an item to be an answer to words."""


class ShopConfig(BaseModel):
    """What rebuilds a shop."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    net: NetConfig
    vocabulary: Vocabulary
    """The groups of tags that it was taught."""
    calibration: Calibration = Calibration()
    """Temperatures and thresholds from held-out photos."""


class TagPhoto(Request):
    """A photo to tag."""

    image: Image
    """The photo."""


class Tags(Response):
    """What is sure enough to say of a photo."""

    tags: dict[str, tuple[str, ...]]
    """Group -> values; a group that is not sure is empty: unknown."""
    probability: dict[str, float]
    """Of each tag that is said, by "group.value"."""
    likely: dict[str, str]
    """The likeliest value of each group, sure or not."""
    box: tuple[float, float, float, float]
    """The main garment: left, top, right, bottom, as shares of the photo's sides."""
    promised: float
    """The precision that the thresholds were chosen for."""


class SimilarImage(Asked):
    """A picture to find again, whatever was done to it."""

    image: Image
    """The picture."""


class SimilarProduct(Asked):
    """Items of the same kind as a picture's, or as an item of the catalogue."""

    image: Image | None = None
    """A picture of the item."""
    item: str = ""
    """Or the id of an item of the catalogue."""
    colour_weight: float = Field(COLOUR_WEIGHT, ge=0, le=10)
    """How much the colours count beside the kind; 0: not at all."""


class Search(Asked):
    """Items by words, in English or Korean: "red dress under 50", "빨간 원피스"."""

    text: str = Field(min_length=1, max_length=500)
    """The words."""


class Found(BaseModel):
    """An item that was found."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    id: str
    score: float
    """For pictures a weighted sum of cosines, for words how sure the tags are; higher is better."""
    parts: dict[str, float]
    """What each part adds to the score."""
    shared: tuple[str, ...]
    """Tags that the query has too, as "colour.red"."""
    category: str
    """What the shop said it is, or the network where it is sure; "dress?" where it guesses, empty where it cannot."""
    tags: dict[str, tuple[str, ...]]
    title: str
    price: float | None
    box: tuple[float, float, float, float] | None
    """The main garment: left, top, right, bottom, as shares of the photo's sides."""


class Findings(Response):
    """What was found."""

    hits: tuple[Found, ...]
    """Best first."""
    read: dict[str, tuple[str, ...]]
    """The query's own tags: those that are sure, or what the words were taken for."""
    kind: str
    """What the query is: sure, or a guess as "dress?"; empty: unknown, or not said."""
    unknown: dict[str, str]
    """Words of the query that no tag has, with the nearest ones."""
    notes: tuple[str, ...]
    """What should be known of the answer: how words were read, why there are fewer hits."""
    plan: str
    """How the search was run."""


class Duplicates(Request):
    """Which photos of the catalogue are the same."""

    most: int = Field(100, ge=1, le=100_000)
    """Most groups."""


class Copies(Response):
    """Groups of items whose photos are the same but for small changes."""

    groups: tuple[tuple[str, ...], ...]
    """Ids, the largest group first."""
    total: int
    """How many groups there are."""


class Shop(Model):
    """A network that was trained on photos of garments."""

    Config = ShopConfig
    resources: ClassVar[Mapping[str, str]] = {"catalogue": "daybreak.systems.commerce.catalogue:Catalogue"}
    catalogue: Catalogue | None
    family: ClassVar[str] = "shop"
    """The first word of its fingerprint."""
    about: ClassVar[str] = (
        "Finds garments that look alike, tags them, and says where they are in a photo. It was made for catalogues. It "
        "reads clothing, not people: nothing about a wearer may be concluded from it. It is no judge of what is "
        "original and what is copied, and no ground for refusing a seller without a person who looks."
    )

    def __init__(self, config: ShopConfig, net: ShopNet | None = None) -> None:
        super().__init__(config)
        self.net = (
            net if net is not None else ShopNet(config.net, len(config.vocabulary.flat), config.vocabulary.colours)
        )
        self._folded: ShopNet | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Whose vectors these are: a hash over the weights and the vocabulary."""
        whole = hashlib.sha256(self.config.model_dump_json(exclude={"calibration"}).encode())
        for name, tensor in sorted(self.net.state_dict().items()):
            whole.update(name.encode())
            whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return f"{self.family}-{whole.hexdigest()[:16]}"

    @property
    def spaces(self) -> dict[str, int]:
        """The vectors that a catalogue keeps of an item: the network's, and its tags as one."""
        return {**SPACES, "tags": len(self.config.vocabulary.flat)}

    @property
    def side(self) -> int:
        """Pixels a side of the squares that the network sees."""
        return int(self.config.net.side)

    @property
    def kind(self) -> str:
        """The group that says what kind an item is: the first exclusive one."""
        return str(next(name for name, group in self.config.vocabulary.groups.items() if group.exclusive))

    def programs(self) -> dict[str, Program]:
        """A photo's square in, everything that the network says of it out, tags as calibrated probabilities."""
        from daybreak.systems.commerce.programs import programs

        return programs(self)

    def through(self, run: Mapping[str, Run]) -> None:
        from daybreak.systems.commerce.programs import through

        through(self, run)

    def page(self) -> Page:
        """A photo is tagged in it."""
        from daybreak.systems.commerce.programs import page

        return page(self)

    def describe(self) -> dict[str, Any]:
        groups = self.config.vocabulary.groups
        never = [name for name, least in self.config.calibration.thresholds.items() if least > 1]
        return {"tags": {name: list(group.values) for name, group in groups.items()}, "never said": never}

    @action
    def tag(self, request: TagPhoto) -> Tags:
        """Tag a photo, or say that it is not sure."""
        seen = self.see([request.image])
        probability = self.probabilities(seen)[0]
        vocabulary = self.config.vocabulary
        found = self.said(probability)
        likely = {}
        for group in vocabulary.groups:
            span = vocabulary.span(group)
            likely[group] = vocabulary.flat[span.start + int(probability[span].argmax())][1]
        return Tags(
            tags={group: tuple(values) for group, values in found.items()},
            probability={f"{group}.{value}": p for group, values in found.items() for value, p in values.items()},
            likely=likely,
            box=box_of(seen.box[0].tolist(), request.image.pixels.shape[1], request.image.pixels.shape[0]),
            promised=self.config.calibration.precision,
        )

    @action
    def similar_image(self, request: SimilarImage) -> Findings:
        """Find the same picture again: cropped, recoloured, in a screenshot."""
        catalogue = self._open()
        seen = self.see([request.image])
        where, notes = request.among(catalogue)
        hits = catalogue.search({"instance": seen.instance[0].numpy()}, where=where, k=request.k)
        return self._found(hits, *self._read(seen), notes)

    @action
    def similar_product(self, request: SimilarProduct) -> Findings:
        """Find items of the same kind and colour."""
        catalogue = self._open()
        if (request.image is None) == (not request.item):
            raise UserError("give a picture (--image) or the id of an item (--item), one of them")
        if request.image is None:
            vectors, row = catalogue.vectors(request.item), catalogue.get(request.item)
            own, kind = dict(row.tags), row.category
            query = {name: vectors[name] for name in ("product", "colour")}
        else:
            seen = self.see([request.image])
            query = {"product": seen.product[0].numpy(), "colour": seen.colour[0].numpy()}
            own, kind = self._read(seen)
        weights = {"product": 1.0, "colour": request.colour_weight}
        if not request.colour_weight:
            del query["colour"], weights["colour"]
        exclude = [request.item] if request.item else []
        where, notes = request.among(catalogue)
        return self._found(catalogue.search(query, weights, where, request.k, exclude), own, kind, notes)

    @action
    def search(self, request: Search) -> Findings:
        """Find items by words. A word that no tag has is named, never passed over."""
        catalogue, vocabulary = self._open(), self.config.vocabulary
        wanted = vocabulary.parse(request.text)
        if wanted.lowest is not None or wanted.highest is not None:
            low = [p for p in (wanted.lowest, request.lowest) if p is not None]
            high = [p for p in (wanted.highest, request.highest) if p is not None]
            request = request.model_copy(update={"lowest": max(low, default=None), "highest": min(high, default=None)})
        if not wanted.tags:
            told = "; ".join(f"{word!r}: {near}" for word, near in wanted.unknown.items())
            raise UserError(f"no word of {request.text!r} is a tag of this shop{'; ' + told if told else ''}")
        query = np.zeros((1, len(vocabulary.flat)))
        for group, values in wanted.tags.items():
            for value in values:
                query[0, vocabulary.columns[group, value]] = 1 / len(values)
        vector = self.tag_vectors(query, only=tuple(wanted.tags))[0]
        where, notes = request.among(catalogue)
        notes += [f"{word!r} was read as {near!r}" for word, near in wanted.read_as.items()]
        hits = catalogue.search({"tags": vector}, where=where, k=3 * request.k)
        kept = self._sure_of(catalogue, hits, wanted.tags)
        if len(kept) < min(request.k, len(hits)):
            notes.append(f"items are left out of which a wanted tag is less than {LEAST:.0%} sure")
            kept.note = ""
        elif hits:
            kept.note = fewer(len(kept), request.k, where)
        del kept[request.k :]
        kind = ", ".join(wanted.tags.get(self.kind, ()))
        return self._found(kept, wanted.tags, kind, notes, wanted.unknown)

    @action
    def duplicates(self, request: Duplicates) -> Copies:
        """Find the photos that are in the catalogue more than once."""
        from daybreak.systems.commerce.catalogue.dedupe import duplicates

        groups = duplicates(self._open())
        return Copies(groups=tuple(tuple(group) for group in groups[: request.most]), total=len(groups))

    def _open(self) -> Catalogue:
        if self.catalogue is None:
            raise UserError("no catalogue is open; --catalogue FOLDER opens one, and `commerce add` makes one")
        self.catalogue.check_model(self.fingerprint)
        return self.catalogue

    def _read(self, seen: Seen) -> tuple[dict[str, tuple[str, ...]], str]:
        """The sure tags of a query's picture, and its kind."""
        probability = self.probabilities(seen)[0]
        sure = {group: tuple(values) for group, values in self.said(probability).items() if values}
        return sure, self.category(probability, sure)

    def _sure_of(self, catalogue: Catalogue, hits: Hits, tags: Mapping[str, Sequence[str]]) -> Hits:
        """The hits that have each wanted tag, or may well have it. One that was removed meanwhile is none."""
        view = catalogue.view()
        at = view.find([hit.row.id for hit in hits])
        share = view.vectors(at[at >= 0], "tags").astype(np.float64) ** 2 * len(self.config.vocabulary.groups)
        columns = self.config.vocabulary.columns
        sure = np.zeros(len(hits), bool)
        sure[at >= 0] = np.all(
            [share[:, [columns[group, value] for value in values]].sum(1) >= LEAST for group, values in tags.items()], 0
        )
        kept = [hit for hit, fine in zip(hits, sure.tolist(), strict=True) if fine]
        return Hits(kept, plan=hits.plan, note=hits.note, trail=hits.trail)

    def _found(
        self,
        hits: Hits,
        own: Mapping[str, Sequence[str]],
        kind: str,
        notes: Sequence[str] = (),
        unknown: Mapping[str, str] | None = None,
    ) -> Findings:
        mine = {(group, value) for group, values in own.items() for value in values}
        found = []
        for hit in hits:
            row = hit.row
            theirs = [(group, value) for group, values in row.tags.items() for value in values]
            found.append(
                Found(
                    id=row.id,
                    score=round(hit.score, 6),
                    parts={k: round(v, 6) for k, v in hit.parts.items()},
                    shared=tuple(f"{group}.{value}" for group, value in theirs if (group, value) in mine),
                    category=row.category,
                    tags=dict(row.tags),
                    title=row.title,
                    price=row.price,
                    box=row.box,
                )
            )
        told = (*notes, *([hits.note] if hits.note else []))
        read = {group: tuple(values) for group, values in own.items()}
        return Findings(
            hits=tuple(found), read=read, kind=kind, unknown=dict(unknown or {}), notes=told, plan=str(hits.plan)
        )

    def see(self, images: Sequence[Image]) -> Seen:
        """What the network says of photos, in one pass."""
        return self.see_squares(np.stack([letterbox(image.pixels, self.side) for image in images]))

    @torch.inference_mode()
    def see_squares(self, squares: np.ndarray) -> Seen:
        """The same of squares of the network's side, "batch side side 3"."""
        if self._folded is None:
            self._folded = folded(self.net)
        return Seen(*self._folded(torch.from_numpy(squares).permute(0, 3, 1, 2)))

    def probabilities(self, seen: Seen) -> np.ndarray:
        """Calibrated probabilities of all tags, "batch tags"."""
        return probabilities(seen.tags.numpy(), self.config.vocabulary, self.config.calibration)

    def said(self, probability: np.ndarray) -> dict[str, dict[str, float]]:
        """The tags that are sure enough, by group, with their probability."""
        return said(probability, self.config.vocabulary, self.config.calibration)

    def category(self, probability: np.ndarray, tags: Mapping[str, Sequence[str]]) -> str:
        """An item's kind by its tags; the likeliest with a question mark where they have none; empty: unknown."""
        if known := tags.get(self.kind):
            return str(known[0])
        span = self.config.vocabulary.span(self.kind)
        best = int(probability[span].argmax())
        value = str(self.config.vocabulary.flat[span.start + best][1])
        return f"{value}{GUESS}" if probability[span][best] >= LIKELY else ""

    def with_tags(self, probability: np.ndarray, known: Mapping[str, Sequence[str]]) -> np.ndarray:
        """Probabilities in which what a shop says itself is certain."""
        out = probability.copy()
        for group, values in known.items():
            out[self.config.vocabulary.span(group)] = 0
            for value in values:
                out[self.config.vocabulary.columns[group, value]] = 1
        return out

    def tag_vectors(self, probability: np.ndarray, only: Sequence[str] = ()) -> np.ndarray:
        """Tags as unit vectors: each group's shares under the root, so that a product of two is, group by group, how
        far their shares agree [Bhattacharyya, 1943]. `only` leaves the other groups out."""
        vocabulary = self.config.vocabulary
        out = np.zeros(probability.shape, np.float32)
        groups = only or tuple(vocabulary.groups)
        for group in groups:
            part = probability[:, vocabulary.span(group)]
            out[:, vocabulary.span(group)] = np.sqrt(part / np.maximum(part.sum(1, keepdims=True), 1e-9))
        return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9))


def box_of(box: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    """The network's box of a letterboxed square as left, top, right, bottom of the photo itself."""
    longest = max(width, height)
    cx, cy, w, h = box
    out = []
    for centre, size, length in ((cx, w, width), (cy, h, height)):
        share = length / longest
        for edge in (centre - size / 2, centre + size / 2):
            out.append(min(1.0, max(0.0, (edge - 0.5) / share + 0.5)))
    return (round(out[0], 4), round(out[2], 4), round(out[1], 4), round(out[3], 4))
