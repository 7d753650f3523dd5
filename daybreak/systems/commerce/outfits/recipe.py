"""How the outfit network trains: each piece in turn is hidden, and is to be found by the others.

It knows items and the network; runs, nights and the update are the lab's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from daybreak.errors import UserError
from daybreak.lab.batches import Batch, Order
from daybreak.lab.recipe import Config, Gate, Metric, Recipe, Score
from daybreak.systems.commerce.outfits import data as files
from daybreak.systems.commerce.outfits.metrics import Case, below, cases, filled
from daybreak.systems.commerce.outfits.net import (
    FIRST,
    PAD,
    UNKNOWN,
    NetConfig,
    OutfitNet,
    Query,
    Sets,
    encode,
    without_each,
)
from daybreak.systems.commerce.outfits.pieces import Names, Outfit, Piece, vocabulary
from daybreak.systems.commerce.outfits.show import blank

if TYPE_CHECKING:
    from daybreak.lab.lake import Item, Snapshot, Split
    from daybreak.lab.model import Model
    from daybreak.media import Media

TOGETHER = 256
"""Sets that pass the network at once in an evaluation."""
LANDMARKS = 101
"""Quantiles of scores that a model keeps, to say how usual a score is."""
DRAWS = 4
"""Sets of each kind that are none, for each held-out outfit."""

AUC_RANDOM, AUC_ONE = "AUC random", "AUC one replaced"
FITB, FITB_SAME = "FITB", "FITB same category"
GOAL = Metric("compatibility", "higher", "mean of AUC random, AUC one replaced and FITB")


class OutfitsConfig(Config):
    """What a run of `commerce:outfits` may change."""

    steps: int = Field(690, ge=0)
    """Updates to make. The schedule's horizon."""
    batch: int = Field(64, ge=1)
    """Outfits in one update; each of their pieces is hidden once."""
    lr: float = Field(3e-3, gt=0)
    """Peak learning rate."""
    warmup: int = Field(50, ge=0)
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "cosine"
    """Shape of the learning rate after the warm-up."""
    clip: float = Field(2.0, ge=0)
    """Largest gradient norm; 0 leaves gradients alone."""
    ema: float = Field(0.99, ge=0, lt=1)
    """Decay of the moving average of the weights that is evaluated and shipped; 0 keeps none."""
    net: NetConfig = NetConfig()
    """The network."""
    decay: float = Field(0.1, ge=0)
    """Weight decay of the matrices."""
    smoothing: float = Field(4.0, gt=0)
    """Pairs that are added to what was counted and to what was expected, so that rare ones say little."""
    least: int = Field(1, ge=1)
    """Outfits in which a category must occur to be taught; a rarer one is unknown."""
    hide: float = Field(0.15, ge=0, lt=1)
    """Share of the other pieces that are hidden too."""
    forget: float = Field(0.03, ge=0, lt=1)
    """Share of the other pieces whose category is made unknown, so that the network knows what that is."""
    drop_title: float = Field(0.3, ge=0, lt=1)
    """Share of titles that are left out: most pieces have none."""
    drop_product: float = Field(0.3, ge=0, lt=1)
    """Share of product embeddings that are left out."""
    details: float = Field(1.0, ge=0)
    """Weight of the loss of titles and pictures beside that of categories."""


class Pieces:
    """The training batches: outfits as tensors. Pure in (seed, step); held in memory, some 100 bytes a piece."""

    def __init__(self, config: OutfitsConfig, data: Snapshot) -> None:
        self.config, self.data = config, data
        self._start()

    def _start(self) -> None:
        self._outfits: list[Outfit] | None = None
        self._order: Order | None = None
        self._names: Names | None = None
        self._ids: list[str] = []

    def _opened(self) -> tuple[list[Outfit], Order, Names]:
        if self._outfits is None or self._order is None or self._names is None:
            split = self.data.split("train")
            found = files.places(split)
            if not found:
                raise UserError("the snapshot has no outfit to train on; daybreak lake add commerce PATH brings some")
            self._ids = [item.id for item in split.take(found)]
            self._outfits = files.outfits(self.data, "train")
            self._order = Order(len(self._outfits), self.config.batch, self.config.seed)
            self._names = Names(vocabulary(self._outfits, self.config.least))
        return self._outfits, self._order, self._names

    def outfits(self) -> list[Outfit]:
        """The training outfits."""
        return self._opened()[0]

    def names(self) -> Names:
        """The categories that are taught."""
        return self._opened()[2]

    def items(self, step: int) -> tuple[str, ...]:
        _, order, _ = self._opened()
        return tuple(self._ids[n] for n in order(step))

    def __call__(self, step: int) -> Batch:
        outfits, order, names = self._opened()
        sets = encode([outfits[n].pieces for n in order(step)], names, self.config.net)
        return Batch(self.items(step), sets._asdict())

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "data": self.data}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.config, self.data = state["config"], state["data"]
        self._start()


class Outfits(Recipe[OutfitsConfig]):
    """Sets of categories and titles -> what completes a set, and how well it holds together.

    The loss is the cross-entropy of the hidden piece's category, given the others; where the piece has a title or a
    picture, also of the piece itself among all such pieces of the batch (InfoNCE [Oord et al., 2018]): both are learned
    as ratios to chance, which is what scores and blanks ask for. The goal is the mean of the two AUCs and FITB: one
    alone can be won at another's cost (a mean over pieces wins against random sets and loses where one is wrong).
    """

    Config = OutfitsConfig
    presets: ClassVar[Mapping[str, OutfitsConfig]] = {
        "small": OutfitsConfig(),
        "tiny": OutfitsConfig(
            steps=200, batch=32, lr=5e-3, warmup=20, drop_title=0.1,
            net=NetConfig(width=32, heads=2, buckets=512, dropout=0.1),
        ),
    }  # fmt: skip
    """`small`: a minute of one CPU on 15,000 outfits. `tiny`: a newcomer's first run, on drawn outfits."""
    goal = GOAL
    gates = (
        Gate(Metric(AUC_RANDOM, "higher"), 0.85),
        Gate(Metric(AUC_ONE, "higher"), 0.68),
        Gate(Metric(FITB, "higher"), 0.56),
    )
    threads = 1

    @staticmethod
    def batches(config: OutfitsConfig, data: Snapshot) -> Pieces:
        return Pieces(config, data)

    def __init__(self, config: OutfitsConfig, data: Snapshot, device: torch.device | str = "cpu") -> None:
        super().__init__(config, data, device)
        train = self.batches(config, data)
        self.names = train.names()
        self.net = OutfitNet(config.net, len(self.names))
        self.net.count(train.outfits(), self.names, config.smoothing)
        self.net.to(device)
        matrices = [p for p in self.net.parameters() if p.ndim >= 2]
        others = [p for p in self.net.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": config.decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser("net", groups, betas=(0.9, 0.98))
        self._scored: dict[str, dict[str, dict[str, float]]] = {}

    def step(self, batch: Batch, step: int) -> dict[str, Tensor | float]:
        """One update. `hidden`: pieces that were to be found."""
        whole = Sets(batch["category"], batch["words"], batch["product"])
        rest, own = without_each(whole), Sets(*(part.flatten(0, 1) for part in whole))
        there = own.category != PAD
        rest, own = Sets(*(part[there] for part in rest)), Sets(*(part[there] for part in own))
        draw = torch.Generator().manual_seed((self.config.seed * 1_000_003 + step) % 2**63)
        query = self.net(self._hidden(rest, draw))
        taught = own.category >= FIRST
        logits = (query.kinds + self.net.prior)[:, FIRST:]
        kinds = F.cross_entropy(logits[taught], own.category[taught] - FIRST)
        losses = {"kinds": kinds, "details": self._details(query, own)}
        loss = kinds + self.config.details * losses["details"]
        self.update("net", loss)
        return {"loss": loss.detach(), **{k: v.detach() for k, v in losses.items()}, "hidden": float(len(taught))}

    def _hidden(self, rest: Sets, draw: torch.Generator) -> Sets:
        """What the network sees of the others: pieces, categories, titles and pictures are left out at random."""

        def share(p: float) -> Tensor:
            return (torch.rand(rest.category.shape, generator=draw) < p).to(rest.category.device)

        gone, unknown = share(self.config.hide), share(self.config.forget)
        category = rest.category.masked_fill(unknown & (rest.category != PAD), UNKNOWN).masked_fill(gone, PAD)
        no_title = (gone | share(self.config.drop_title))[..., None]
        no_product = (gone | share(self.config.drop_product))[..., None]
        return Sets(category, rest.words.masked_fill(no_title, 0), rest.product.masked_fill(no_product, 0.0))

    def _details(self, query: Query, own: Sets) -> Tensor:
        """InfoNCE over the batch's pieces that have a title or a picture; a mean over all pieces, so that it weighs as
        much as there is of these."""
        rich = (own.words > 0).any(-1) | (own.product != 0).any(-1)
        if int(rich.sum()) < 2:
            return torch.zeros((), device=query.wish.device)
        some = Sets(*(part[rich] for part in own))
        features = self.net.features(Sets(*(part[:, None] for part in some)))[:, 0]
        mine = Query(query.kinds[rich], query.wish[rich])
        logits = mine.kinds[:, some.category] + self.net.taste(mine, features)
        found = F.cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction="sum")
        return torch.as_tensor(found / len(rich))

    def items(self, split: Split) -> Sequence[Item]:
        """The outfits."""
        items = self.data.split(split)
        return items.take(files.places(items))

    def evaluate(self, items: Sequence[Item]) -> Iterator[Score]:
        """What each held-out outfit scores. Sets that are none are made of its whole split, whatever is asked about."""
        if not items:
            return
        self.net.eval()
        split = items[0].split
        asked = cases(files.outfits(self.data, split), DRAWS)
        by_name = {case.outfit.name: (case, value) for case, value in zip(asked, self.judge(asked), strict=True)}
        for n, item in enumerate(items):
            case, values = by_name[item.name]
            sample: Mapping[str, Media] = {}
            natural: Mapping[str, Media] = {}
            if n < self.config.samples:
                first = case.blanks[0]
                natural = {"outfit": blank(case.outfit, first.place)}
                sample = {"outfit": blank(case.outfit, first.place, self._likeliest(first.rest))}
            yield Score(item.id, item.group, values, sample, natural)

    def judge(self, asked: Sequence[Case]) -> list[dict[str, float]]:
        """The values of cases of one split, by the definitions in `metrics`."""
        real = self.scores([case.outfit for case in asked])
        wrong = {
            AUC_RANDOM: np.sort(self.scores([one for case in asked for one in case.random])),
            AUC_ONE: np.sort(self.scores([one for case in asked for one in case.replaced])),
        }
        blanks = [one for case in asked for one in case.blanks]
        credit = {
            FITB: iter(self.fill([(one.rest, one.candidates) for one in blanks])),
            FITB_SAME: iter(self.fill([(one.rest, one.same) for one in blanks if one.same])),
        }
        out = []
        for case, score in zip(asked, real, strict=True):
            values = {name: below(float(score), others) for name, others in wrong.items()}
            values[FITB] = float(np.mean([next(credit[FITB]) for _ in case.blanks]))
            if same := [next(credit[FITB_SAME]) for one in case.blanks if one.same]:
                values[FITB_SAME] = float(np.mean(same))
            values[GOAL.name] = (values[AUC_RANDOM] + values[AUC_ONE] + values[FITB]) / 3
            values["score"] = float(score)
            out.append(values)
        return out

    @torch.inference_mode()
    def scores(self, outfits: Sequence[Outfit]) -> np.ndarray:
        """The network's score of each outfit."""
        found = [np.zeros(0)]
        for first in range(0, len(outfits), TOGETHER):
            sets = encode([one.pieces for one in outfits[first : first + TOGETHER]], self.names, self.config.net)
            found.append(self.net.score(_on(sets, self.device)).double().cpu().numpy())
        return np.concatenate(found)

    @torch.inference_mode()
    def fill(self, asked: Sequence[tuple[Sequence[Piece], Sequence[Piece]]]) -> list[float]:
        """What each blank counts: the other pieces, and candidates of which the first is the right one."""
        found: list[float] = []
        for first in range(0, len(asked), TOGETHER):
            part = asked[first : first + TOGETHER]
            query = self.net(_on(encode([rest for rest, _ in part], self.names, self.config.net), self.device))
            offered = encode([candidates for _, candidates in part], self.names, self.config.net)
            fits = self.net.fit(query, _on(offered, self.device)).double().cpu().numpy()
            found += [filled(row.tolist()) for row in fits.round(6)]  # equal but for rounding is equal
        return found

    @torch.inference_mode()
    def _likeliest(self, rest: Sequence[Piece]) -> list[str]:
        """The five categories that fit a blank best."""
        kinds = self.net(_on(encode([rest], self.names, self.config.net), self.device)).kinds[0, FIRST:]
        return [self.names.names[int(n)] for n in kinds.topk(min(5, len(kinds))).indices]

    def model(self) -> Model:
        from daybreak.systems.commerce.outfits.model import Stylist, StylistConfig

        self.net.eval()
        held_out = files.outfits(self.data, "validation")
        landmarks: dict[str, list[float]] = {}
        if held_out:
            random = [one for case in cases(held_out, DRAWS) for one in case.random]
            for name, some in (("real", held_out), ("random", random)):
                found = np.quantile(self.scores(some), np.linspace(0, 1, LANDMARKS))
                landmarks[name] = [round(float(value), 4) for value in found]
        config = StylistConfig(net=self.config.net, categories=list(self.names.names), landmarks=landmarks)
        return Stylist(config, net=self.net)


def _on(sets: Sets, device: torch.device | str) -> Sets:
    return Sets(*(part.to(device) for part in sets))
