"""Which items a run has right that another had wrong, and the other way round: newly fixed, newly broken.

What is right is the recipe's to say: a bound on one of an item's own values (`Recipe.right`). It knows scores and
bounds; it knows nothing about what an item is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from daybreak.lab.morning.story import Story
from daybreak.lab.recipe import Gate, Metric
from daybreak.lab.run import ScoreRow

NAMED = 24
"""Items of each kind that are named; all are counted."""


def bounds(story: Story) -> tuple[Gate, ...]:
    """When an item of a run is right; none where its recipe does not say."""
    return tuple(Gate(Metric(str(name), better), float(bound)) for name, better, bound in story.judged.right)


def crossed(story: Story, other: Story | None) -> list[dict[str, Any]]:
    """What became of the items that both runs were scored on, a row a bound; none where the recipe names no bound.

    Two finished runs are held beside each other as they ended, others at the last step at which both were evaluated.
    """
    right = bounds(story)
    if not right or other is None or other is story or not story.evaluated or not other.evaluated:
        return []
    step, other_step = max(story.evaluated), max(other.evaluated)
    if not story.state.word == other.state.word == "finished":
        common = set(story.evaluated) & set(other.evaluated)
        if not common:
            return []
        step = other_step = max(common)
    before = {row.item: row for row in other.run.scores(other_step)}
    now = story.run.scores(step)
    return [_row(gate, now, before) for gate in right]


def _row(gate: Gate, now: Iterable[ScoreRow], before: Mapping[str, ScoreRow]) -> dict[str, Any]:
    words: dict[str, list[dict[str, str]]] = {"broken": [], "fixed": []}
    of = 0
    for row in now:
        if row.item in before and gate.metric.name in row.values and gate.metric.name in before[row.item].values:
            of += 1
            if word := turned(gate, row, before[row.item]):
                words[word].append({"item": row.item, "group": row.group})
    counts = {word: len(items) for word, items in words.items()}
    return {"name": gate.metric.name, "of": of, **counts, "items": {w: found[:NAMED] for w, found in words.items()}}


def turned(gate: Gate, row: ScoreRow, before: ScoreRow) -> str:
    """ "broken", "fixed", or nothing where the item stands on the side of the bound where it stood."""
    name = gate.metric.name
    if name not in row.values or name not in before.values:
        return ""
    is_right, was_right = gate.passes(row.values[name]), gate.passes(before.values[name])
    return "" if is_right == was_right else "fixed" if is_right else "broken"


def marks(right: Sequence[Gate], row: ScoreRow, before: ScoreRow | None) -> dict[str, list[str]]:
    """The bounds that one item crossed: "broken" and "fixed", by the names of the values."""
    found: dict[str, list[str]] = {"broken": [], "fixed": []}
    if before is None or before is row:
        return found
    for gate in right:
        if word := turned(gate, row, before):
            found[word].append(gate.metric.name)
    return found
