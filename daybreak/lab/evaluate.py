"""Evaluation: items to scores, score by score, so that one that was stopped goes on where it was.

Every score is drawn from a seed of its own, so that nothing depends on where an evaluation was stopped. This file
knows recipes and run folders; it knows nothing about the loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daybreak.lab.checkpoint import seed_everything, undisturbed
from daybreak.lab.codec import plain
from daybreak.lab.compare import SHARE, shares
from daybreak.lab.recipe import Recipe, Score
from daybreak.lab.run import Lines, Run
from daybreak.media import Media

if TYPE_CHECKING:
    from daybreak.lab.lake import Item


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` items, evenly over the sequence; all of them for 0."""
    count = len(items)
    if not most or most >= count:
        return list(items)
    return [items[(2 * n + 1) * count // (2 * most)] for n in range(most)]


def scores(recipe: Recipe[Any], items: Sequence[Item], done: int = 0) -> Iterator[Score]:
    """The recipe's scores of the items; `done` scores came before. Leaves the recipe as it was."""
    with undisturbed(recipe):
        source = iter(recipe.evaluate(items))
        ordinal = done
        while True:
            seed_everything(recipe.config.seed * 1_000_003 + ordinal)
            score = next(source, None)
            if score is None:
                return
            yield score
            ordinal += 1


def evaluate(
    run: Run, recipe: Recipe[Any], items: Sequence[Item], step: int, stop: Callable[[], bool], split: str = "validation"
) -> list[Score] | None:
    """Score the items at a step into scores.jsonl. None when `stop` said so first; what was scored stays.

    Scores that the file holds already are not made again; the item at which it was stopped is.
    """
    rows = run.scores(step, split)
    found = [Score(row.item, row.group, row.values) for row in rows]
    seen = {row.item for row in rows}
    last = rows[-1].item.split("#")[0] if rows else None
    start = next((n for n, item in enumerate(items) if item.id == last), 0)
    before = sum(1 for row in rows if row.item.split("#")[0] != last)
    lines = Lines(run.path / "scores.jsonl")
    try:
        for score in scores(recipe, items[start:], before):
            if score.item not in seen:
                lines.append(plain(_row(run, score, step, split)))
                found.append(score)
            if stop():
                return None
        if told := _shares(type(recipe), found):
            for score, share in zip(found, told, strict=True):
                lines.append(plain(_row(run, Score(score.item, score.group, share), step, split)))
    finally:
        lines.close()
    return found


def shared(cls: type[Recipe[Any]], found: Sequence[Score]) -> list[Score]:
    """The scores, each with its share in the goal where that is no value of an item: what intervals are made of."""
    told = _shares(cls, found) or [{}] * len(found)
    return [replace(score, values={**score.values, **share}) for score, share in zip(found, told, strict=True)]


def _shares(cls: type[Recipe[Any]], found: Sequence[Score]) -> list[dict[str, float]]:
    """Nothing where the goal is a value of the items."""
    if any(cls.goal.name in score.values for score in found):
        return []
    return [{SHARE + cls.goal.name: share} for share in shares(found, cls.goal.aggregate)]


def means(recipe: Recipe[Any], found: Sequence[Score]) -> dict[str, float]:
    """What an evaluation adds to the metrics."""
    return {f"validation/{name}": value for name, value in figures(type(recipe), found).items()}


def figures(cls: type[Recipe[Any]], found: Sequence[Score]) -> dict[str, float]:
    """What scores come to: the mean of every value that all of them have, the recipe's reports, and its goal."""
    if not found:
        return {}
    names = [n for n in found[0].values if not n.startswith("_") and all(n in score.values for score in found)]
    out = {name: sum(score.values[name] for score in found) / len(found) for name in names}
    return out | {metric.name: metric.aggregate(found) for metric in (*cls.reports, cls.goal)}


def _row(run: Run, score: Score, step: int, split: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "step": step, "split": split, "item": score.item, "group": score.group, "values": dict(score.values),
    }  # fmt: skip
    for name, media in (("sample", score.sample), ("natural", score.natural)):
        if media:
            row[name] = _keep(run, media)
    return row


def _keep(run: Run, media: Mapping[str, Media]) -> dict[str, str]:
    """Write samples under the hash of their bytes: the same natural item is stored once."""
    kept = {}
    for name, value in media.items():
        data = value.to_bytes()
        path = f"samples/{hashlib.sha256(data).hexdigest()[:20]}{value.suffix}"
        if not (run.path / path).exists():
            value.save(run.path / path)
        kept[name] = path
    return kept
