"""Which run is better than which: groups of comparable runs, the best so far, intervals, seeds, words for them.

Runs compare when they have the same recipe, goal and task (an agent's environment) and were scored on the same
validation items. It knows stories and
`lab.compare`; it knows nothing about pages.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from daybreak.errors import UserError
from daybreak.lab import compare
from daybreak.lab.compare import Goal, Interval, Scores
from daybreak.lab.morning.story import Story

USABLE = ("finished", "deadline", "stopped", "running", "pruned", "crashed", "elsewhere")
"""States whose last scores say something about the run."""


@dataclass(frozen=True)
class Against:
    """One run compared with another, at the steps named."""

    other: Story
    interval: Interval
    step: int
    other_step: int
    value: float
    other_value: float
    corrected: float
    """The interval's p value after Holm's correction over the comparisons of the group."""
    at_end: bool
    """Both had finished, and were compared as they ended."""

    @property
    def verdict(self) -> str:
        """ "better", "worse" or "undecided": by the interval, and by the corrected p value for a good one."""
        if self.interval.verdict == "better" and self.corrected > 1 - self.interval.level:
            return "undecided"
        return self.interval.verdict


@dataclass
class Group:
    """The night's runs of one recipe, goal and task, and what they are held against."""

    recipe: str
    task: str
    goal: Goal
    stories: list[Story]
    reference: Story | None = None
    """The best so far; on a first morning, the first run of the night that has scores."""
    earlier: bool = False
    """The reference is from an earlier night."""
    against: dict[str, Against] = field(default_factory=dict)
    """By run id, each against the reference."""
    parents: dict[str, Against] = field(default_factory=dict)
    """By run id, each against its parent."""
    seeds: list[tuple[list[Story], list[Story], Interval]] = field(default_factory=list)
    """Configs with three or more seeds, against the reference's."""

    def ranked(self) -> list[Story]:
        """The night's runs that can be judged, the best score first."""
        sign = 1 if self.goal.better == "lower" else -1
        usable = [s for s in self.stories if reached(s) is not None]
        return sorted(usable, key=lambda s: (sign * (reached(s) or 0.0), s.run.number))

    def leader(self) -> Story | None:
        """The run to speak about first: the best of those shown to be better, else the best score."""
        ranked = self.ranked()
        shown = [s for s in ranked if s.run.id in self.against and self.against[s.run.id].verdict == "better"]
        return next(iter(shown or [s for s in ranked if s is not self.reference] or ranked), None)


def reached(story: Story) -> float | None:
    """The goal at the last evaluation, where the run is one whose scores count and the value is finite."""
    if story.state.word not in USABLE or not story.evaluated:
        return None
    value = story.evaluated[max(story.evaluated)]
    return value if math.isfinite(value) else None


def alike(story: Story) -> tuple[str, str, str]:
    """What runs that are held against one another have in common: recipe, goal, task."""
    info = story.run.info
    return info.recipe, str(info.goal.get("name", "")), story.judged.task


def groups(stories: Sequence[Story], earlier: Sequence[Story], every: Mapping[str, Story]) -> list[Group]:
    """The night's runs in groups, the busiest first, each judged."""
    found: dict[tuple[str, str, str], Group] = {}
    for story in stories:
        key = alike(story)
        if key not in found:
            found[key] = Group(story.run.info.recipe, story.judged.task, story.record.goal, [])
        found[key].stories.append(story)
    for key, group in found.items():
        _judge(group, [s for s in earlier if alike(s) == key], every)
    return sorted(found.values(), key=lambda group: -len(group.stories))


def _judge(group: Group, earlier: Sequence[Story], every: Mapping[str, Story]) -> None:
    group.reference = _best_so_far(group, earlier)
    group.earlier = group.reference is not None
    if group.reference is None:
        scored = [s for s in group.stories if reached(s) is not None]
        group.reference = min(scored, key=lambda s: s.run.number, default=None)
    pairs = []
    for story in group.stories:
        if group.reference is not None and story is not group.reference and reached(story) is not None:
            pairs.append((story, group.reference))
        parent = every.get(story.run.info.parent or "")
        if (
            parent is not None
            and alike(parent) == alike(story)
            and reached(story) is not None
            and reached(parent) is not None
        ):
            pairs.append((story, parent))
    unique = {(a.run.id, b.run.id): (a, b) for a, b in pairs}
    versus = [(a, b, between(a, b, group.goal)) for a, b in unique.values()]
    whole = [(a, found) for a, b, found in versus if b is group.reference and found is not None]
    corrected = compare.holm([found.interval.p for _, found in whole])
    for (story, made), p in zip(whole, corrected, strict=True):
        group.against[story.run.id] = replace(made, corrected=p)
    for story, other, found in versus:
        if found is not None and other.run.id == story.run.info.parent:
            group.parents[story.run.id] = found
    group.seeds = _seeds(group, earlier)


def between(a: Story, b: Story, goal: Goal) -> Against | None:
    """Compare two runs: each at its end where both finished, else at the last step at which both were evaluated.

    None where they were never evaluated at one step, or have no item in common.
    """
    one, two = a.record.scores, b.record.scores
    if not one or not two:
        return None
    at_end = a.state.word == b.state.word == "finished"
    if at_end:
        step, other = max(one), max(two)
    else:
        common = set(one) & set(two)
        if not common:
            return None
        step = other = max(common)
    try:
        interval = compare.paired(one[step], two[other], goal)
    except UserError:
        return None
    values = a.evaluated.get(step, math.nan), b.evaluated.get(other, math.nan)
    return Against(b, interval, step, other, *values, interval.p, at_end)


def _best_so_far(group: Group, earlier: Iterable[Story]) -> Story | None:
    """The best finished earlier run that was scored on the items of the night's runs; unfinished ones come second."""
    items = Counter(frozenset(_last(s).items) for s in group.stories if s.record.scores)
    sign = 1 if group.goal.better == "lower" else -1
    fit = [s for s in earlier if reached(s) is not None]
    fit.sort(key=lambda s: (s.state.word != "finished", sign * (reached(s) or 0.0)))
    if not items:
        return fit[0] if fit else None
    wanted = items.most_common(1)[0][0]
    return next((s for s in fit if s.record.scores and frozenset(_last(s).items) == wanted), None)


def _last(story: Story) -> Scores:
    return story.record.scores[max(story.record.scores)]


def _family(story: Story) -> str:
    return repr(sorted((k, repr(v)) for k, v in story.run.info.config.items() if k != "seed"))


def _seeds(group: Group, earlier: Sequence[Story]) -> list[tuple[list[Story], list[Story], Interval]]:
    """Configs that ran with three seeds or more, each against the reference's config where that did too."""
    if group.reference is None:
        return []
    families: dict[str, list[Story]] = {}
    for story in [*group.stories, *earlier]:
        if story.state.word == "finished" and reached(story) is not None:
            families.setdefault(_family(story), []).append(story)
    base = families.get(_family(group.reference), [])
    tonight = {story.run.id for story in group.stories}
    found = []
    for name, members in families.items():
        new = any(story.run.id in tonight for story in members)
        if name == _family(group.reference) or not new or min(len(members), len(base)) < compare.FEWEST_SEEDS:
            continue
        try:
            sides = [[_last(s) for s in side if s.record.scores] for side in (members, base)]
            found.append((members, base, compare.seeds(sides[0], sides[1], group.goal)))
        except UserError:  # too few of them have scores in common
            continue
    return found


def as_data(story: Story, found: Against, group: Group) -> dict[str, Any]:
    """A comparison as plain values."""
    interval, count = found.interval, len(group.against)
    return {
        "run": found.other.run.id, "title": found.other.title, "number": found.other.run.number,
        "step": found.step, "other_step": found.other_step,
        "value": found.value, "other_value": found.other_value,
        "difference": interval.difference, "low": interval.low, "high": interval.high, "p": interval.p,
        "corrected": found.corrected, "of": count, "items": interval.items, "groups": interval.groups,
        "verdict": found.verdict, "at_end": found.at_end,
        "words": compare.words(interval, subject=story.title, corrected=found.corrected, of=count),
    }  # fmt: skip
