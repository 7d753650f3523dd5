"""How a recommender is made: one step that counts. And how it is judged, beside popularity and item neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from pydantic import Field

from daybreak.errors import UserError
from daybreak.lab.batches import Batch
from daybreak.lab.recipe import Config, Gate, Metric, Recipe, Score
from daybreak.systems.commerce.recommend.data import History, Source, histories, places, read
from daybreak.systems.commerce.recommend.metrics import AT, cosine, rank, values
from daybreak.systems.commerce.recommend.net import Lifts, count, numbered

if TYPE_CHECKING:
    from daybreak.lab.lake import Item, Snapshot, Split
    from daybreak.lab.model import Model

GOAL = Metric(f"NDCG@{AT}", "higher")
DENSE = 4000
"""Items up to which item neighbours are computed beside it: their matrix is items squared."""


class RecommendConfig(Config):
    """What a run of `commerce:recommend` may change."""

    steps: int = Field(1, ge=0, le=1)
    """One: the counts are made in closed form."""
    source: Source = "baskets"
    """What to learn from: persons of a log, or outfits as baskets of categories."""
    least: int = Field(2, ge=1)
    """Persons who must have taken an item; a rarer one is neither recommended nor counted."""
    views: float = Field(0.3, ge=0, le=1)
    """How much a view counts beside a purchase."""
    window: int = Field(20, ge=1)
    """Things of a history behind which a pair is no longer counted."""
    ordered: bool = True
    """Count what came after what; without it, what stands together in any order."""
    smoothing: float = Field(0.25, gt=0)
    """Pairs that are added to what was counted and to what was expected."""
    gain: float = Field(0.6, gt=0)
    """How much each thing of a history says: they repeat one another."""


class Recommend(Recipe[RecommendConfig]):
    """Histories -> what is taken next. The goal is NDCG@10 of the last new thing of held-out persons' histories."""

    Config = RecommendConfig
    presets: ClassVar = {"log": RecommendConfig(), "sets": RecommendConfig(source="outfits")}
    """`log`: persons. `sets`: outfits as baskets, where there is no log."""
    goal = GOAL
    gates = (Gate(Metric("over popularity", "higher"), 0.0),)
    threads = 1

    def __init__(self, config: RecommendConfig, data: Snapshot, device: torch.device | str = "cpu") -> None:
        super().__init__(config, data, device)
        self._train = histories(data, "train", config.source)
        persons: dict[str, int] = {}
        for one in self._train:
            for taken in one:
                persons[taken.item] = persons.get(taken.item, 0) + 1
        self.names = sorted(item for item, number in persons.items() if number >= config.least)
        if not self.names:
            have = "outfit" if config.source == "outfits" else "history of a person"
            other = (
                "--source outfits takes outfits as baskets" if config.source == "baskets" else "see daybreak lake add"
            )
            raise UserError(f"the snapshot has no {have} with an item that {config.least} have taken; {other}")
        self.numbers = {item: n for n, item in enumerate(self.names)}
        made = count(self._train, self.numbers, config.views, config.window, config.ordered)
        self.net = Lifts(len(self.names), len(made.items))
        self._made = made
        self._cosine: np.ndarray | None = None

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Take the counts."""
        self.net.load_state_dict(self._made.state_dict())
        return {"items": float(len(self.names)), "pairs": float(len(self.net.items))}

    def items(self, split: Split) -> Sequence[Item]:
        """The histories of two things or more: of one, nothing can be hidden."""
        items = self.data.split(split)
        found = items.take(places(items, self.config.source))
        return [item for item in found if len(self._read(item)) > 1]

    def _read(self, item: Item) -> History:
        return read(item, self.data.read(item), self.config.source)

    def evaluate(self, items: Sequence[Item]) -> Iterator[Score]:
        """A score for each held-out history. "over neighbours": NDCG@10 above that of item neighbours."""
        if self._cosine is None and len(self.names) <= DENSE:
            self._cosine = cosine(self._train, self.numbers)
        popular = self.net.popular.double().numpy()
        for item in items:
            *rest, last = self._read(item)
            took = numbered(rest, self.numbers, self.config.views)
            seen, target = list(took), self.numbers.get(last.item)
            scores, _ = self.net.score(took, self.config.smoothing, self.config.gain)
            found = values(rank(scores, seen, target))
            found |= {f"popularity {k}": v for k, v in values(rank(popular, seen, target)).items()}
            if self._cosine is not None:
                beside = self._cosine[seen].sum(0)
                found |= {f"neighbours {k}": v for k, v in values(rank(beside, seen, target)).items()}
                found["over neighbours"] = found[GOAL.name] - found[f"neighbours {GOAL.name}"]
            found["over popularity"] = found[GOAL.name] - found[f"popularity {GOAL.name}"]
            yield Score(item.id, item.group, found)

    def model(self) -> Model:
        from daybreak.systems.commerce.recommend.model import Recommender, RecommenderConfig

        config = RecommenderConfig(
            items=self.names, pairs=len(self.net.items), views=self.config.views, smoothing=self.config.smoothing,
            gain=self.config.gain, persons=len(self._train), categories=self.config.source == "outfits",
        )  # fmt: skip
        return Recommender(config, net=self.net)
