"""Outfits and recommendations: a network beside the counts of pairs, and counts of what came next beside neighbours.

Trained on the training outfits of Polyvore's structure and judged on its test outfits, which nothing was tuned to; a
quick run judges on validation outfits. DAYBREAK_DATA names the folder of the data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rows import Bar, PartError, Row, main, once, say

SEEDS = 3
BRIEF = {"AUC random": 0.832, "AUC one replaced": 0.654, "FITB": 0.535}
"""Counts of pairs as they were measured before this work: other negatives, and no smoothing."""
RESAMPLES = 2000


class Held:
    """The real outfits as a snapshot in memory."""

    def __init__(self) -> None:
        from daybreak.lab.lake import Broken, Item
        from daybreak.systems.commerce.outfits import data

        folder = os.environ.get("DAYBREAK_DATA", "")
        file = data.find(Path(folder) / "commerce" / "polyvore") if folder else None
        if file is None:
            raise SystemExit("DAYBREAK_DATA names no folder with commerce/polyvore/outfits.csv")
        self.splits: dict[str, _Items] = {name: _Items() for name in ("train", "validation", "test")}
        self.bytes: dict[str, bytes] = {}
        for n, draft in enumerate(data.ingest(file)):
            assert not isinstance(draft, Broken)
            assert draft.split
            item = Item(f"{n:016x}", "commerce", draft.name, draft.group, draft.split, "", {"data": ""},
                        draft.labels, "", "", "", "")  # fmt: skip
            self.splits[draft.split].append(item)
            self.bytes[item.id] = draft.parts["data"]

    def split(self, name: str) -> _Items:
        return self.splits[name]

    def read(self, item: Any, part: str = "data") -> bytes:
        return self.bytes[item.id]


class _Items(list[Any]):
    def take(self, indices: Sequence[int]) -> list[Any]:
        return [self[n] for n in indices]


def pairs(split: str) -> Iterator[dict[str, Any]]:
    """Counts of pairs alone: the mean evidence of an outfit's pairs; a blank takes the candidate of the most."""
    from daybreak.systems.commerce.outfits import data
    from daybreak.systems.commerce.outfits.metrics import below, cases, filled
    from daybreak.systems.commerce.outfits.net import FIRST, counts, evidence
    from daybreak.systems.commerce.outfits.pieces import Names, vocabulary

    held = Held()
    train = data.outfits(held, "train")  # type: ignore[arg-type]
    names = Names(vocabulary(train))
    table = evidence(counts(train, names), 4.0)
    number = {name: n + FIRST for n, name in enumerate(names.names)}  # PAD, of no evidence, for one that is new

    def mean(pieces: Any) -> float:
        at = [number.get(piece.category, 0) for piece in pieces]
        inside = table[np.ix_(at, at)]
        return float((inside.sum() - np.trace(inside)) / (len(at) * (len(at) - 1)))

    asked = cases(data.outfits(held, split))  # type: ignore[arg-type]
    wrong = {
        "AUC random": np.sort([mean(one.pieces) for case in asked for one in case.random]),
        "AUC one replaced": np.sort([mean(one.pieces) for case in asked for one in case.replaced]),
    }
    found: dict[str, list[float]] = {name: [] for name in BRIEF}
    for case in asked:
        for name, others in wrong.items():
            found[name].append(below(mean(case.outfit.pieces), others))
        credit = []
        for blank in case.blanks:
            rest = [number.get(piece.category, 0) for piece in blank.rest]
            fits = [round(float(table[number.get(p.category, 0), rest].sum()), 6) for p in blank.candidates]
            credit.append(filled(fits))
        found["FITB"].append(float(np.mean(credit)))
    while True:
        yield found


def network(split: str, seed: int) -> Iterator[dict[str, Any]]:
    """The recipe's default, trained from nothing."""
    import time

    import torch

    from daybreak.systems.commerce.outfits.metrics import cases
    from daybreak.systems.commerce.outfits.recipe import Outfits, OutfitsConfig, files

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    held: Any = Held()
    config = OutfitsConfig(seed=seed)
    began = time.process_time()
    recipe, batches = Outfits(config, held), Outfits.batches(config, held)
    for step in range(config.steps):
        recipe._step = step
        recipe.step(batches(step), step)
    took = time.process_time() - began
    with recipe.averaged():
        recipe.net.eval()
        judged = recipe.judge(cases(files.outfits(held, split)))
    found: dict[str, Any] = {name: [one[name] for one in judged] for name in BRIEF}
    found["same"] = float(np.mean([one["FITB same category"] for one in judged if "FITB same category" in one]))
    while True:
        yield {**found, "seconds": took}


def baskets(split: str, ordered: bool) -> Iterator[dict[str, Any]]:
    """Leave-last-out with outfits as baskets of categories: ours, popularity, item neighbours, EASE [Steck, 2019]."""
    from daybreak.systems.commerce.recommend.metrics import rank, values
    from daybreak.systems.commerce.recommend.net import numbered
    from daybreak.systems.commerce.recommend.recipe import Recommend, RecommendConfig

    held: Any = Held()
    recipe = Recommend(RecommendConfig(source="outfits", ordered=ordered), held)
    recipe.step(None, 0)  # type: ignore[arg-type]
    items = recipe.items(split)  # type: ignore[arg-type]
    scores = [score.values for score in recipe.evaluate(items)]
    table = ease([{recipe.numbers[t.item] for t in one if t.item in recipe.numbers} for one in recipe._train],
                 len(recipe.names))  # fmt: skip
    linear = []
    for item in items:
        *rest, last = recipe._read(item)
        seen = list(numbered(rest, recipe.numbers, 1.0))
        linear.append(values(rank(table[seen].sum(0), seen, recipe.numbers.get(last.item)))["NDCG@10"])
    found = {
        "ours": [one["NDCG@10"] for one in scores],
        "hit": [one["hit@10"] for one in scores],
        "popularity": [one["popularity NDCG@10"] for one in scores],
        "neighbours": [one["neighbours NDCG@10"] for one in scores],
        "EASE": linear,
    }
    while True:
        yield found


def ease(baskets: Sequence[set[int]], items: int, penalty: float = 300.0) -> np.ndarray:
    """Closed form: B = I - P diag(1 / P), P the inverse of X'X + penalty. The penalty is the best of 20, 100, 300 and
    1000 on validation outfits."""
    together = np.zeros((items, items))
    for one in baskets:
        at = list(one)
        together[np.ix_(at, at)] += 1
    inverse = np.linalg.inv(together + penalty * np.eye(items))
    found = -inverse / np.diag(inverse)
    np.fill_diagonal(found, 0)
    return found


def low(ours: Sequence[float], other: Sequence[float]) -> float:
    """The lower end of the 95 % interval of the mean difference, by bootstrap over outfits."""
    difference = np.array(ours) - np.array(other)
    rng = np.random.default_rng(0)
    means = [difference[rng.integers(len(difference), size=len(difference))].mean() for _ in range(RESAMPLES)]
    return float(np.quantile(means, 0.025))


def measure(quick: bool) -> Iterator[Row]:
    """The rows: outfits, then recommendations."""
    split = "validation" if quick else "test"
    try:
        counted = once("pairs", split)
        runs = [once("network", split, seed) for seed in range(1 if quick else SEEDS)]
    except PartError as error:
        say(f"not run: {error}")
        counted, runs = None, []
    note = f"{split} outfits, {len(runs)} seed{'s' * (len(runs) != 1)}"
    bounds = {"AUC random": 0.85, "AUC one replaced": 0.68, "FITB": 0.56}
    for name, bound in bounds.items():
        if not runs or counted is None:
            yield Row(name, "", None, Bar("ours", ">=", bound), "pairs", None, "no data")
            continue
        each = [float(np.mean(run[name])) for run in runs]
        spread = f"; {min(each):.4f} to {max(each):.4f}" if len(each) > 1 else ""
        yield Row(f"outfits: {name}", "", float(np.mean(each)), Bar("ours", ">=", bound), "pairs",
                  float(np.mean(counted[name])), f"{note}{spread}; pairs as first measured: {BRIEF[name]}")  # fmt: skip
        together = np.mean([run[name] for run in runs], 0)
        yield Row(f"outfits: {name}, over pairs", "", low(together, counted[name]), Bar("ours", ">=", 0.0),
                  note="low end of the 95 % interval over outfits")  # fmt: skip
    if runs:
        yield Row("outfits: FITB, candidates of the same category", "", float(np.mean([r["same"] for r in runs])),
                  note="0.25 is chance: a category tells nothing here, and one piece in fifty has a title")  # fmt: skip
        yield Row("outfits: training", "CPU s", float(np.median([r["seconds"] for r in runs])), note="one core")
    for ordered in (True, False):
        what = "recommend: NDCG@10" + ("" if ordered else ", without order")
        try:
            found = once("baskets", split, ordered)
        except PartError as error:
            yield Row(what, "", None, Bar("ratio", ">=", 1.0), "item neighbours", None, str(error))
            continue
        about = "outfits as baskets of categories, the last listed left out" if ordered else "pairs in any order"
        for peer in ("neighbours", "popularity", "EASE"):
            yield Row(f"{what}, beside {peer}", "", float(np.mean(found["ours"])), Bar("ratio", ">=", 1.0), peer,
                      float(np.mean(found[peer])), f"{split}; {about}")  # fmt: skip
            yield Row(f"{what}, over {peer}", "", low(found["ours"], found[peer]), Bar("ours", ">=", 0.0),
                      note="low end of the 95 % interval over baskets")  # fmt: skip


if __name__ == "__main__":
    main(measure, {"pairs": pairs, "network": network, "baskets": baskets})
