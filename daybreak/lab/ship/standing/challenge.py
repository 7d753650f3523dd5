"""Challenger against champion: the same validation items, an interval, and what follows from it by rule.

The champion falls only to an interval. Challengers of one champion are corrected for being many (Holm). The test set is
read only of a challenger that won, by the registry, which records it. It knows runs and the registry; it knows nothing
about what made the challenger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daybreak.errors import UserError
from daybreak.lab import compare, registry
from daybreak.lab.compare import Goal, Interval, Scores
from daybreak.lab.home import Lab
from daybreak.lab.recipe import Score
from daybreak.lab.registry import PRODUCTION, Version
from daybreak.lab.run import Run, ScoreRow

LEVEL = 0.05


def champion(lab: Lab, model: str, recipe: str) -> tuple[Version, Run]:
    """The version in production and the run behind it. Raises `UserError` saying what to do where there is none."""
    there = registry.versions(lab, model)
    version = next((one for one in there if PRODUCTION in one.aliases), None)
    if version is None:
        which = f"{model}@{there[-1].number}" if there else "MODEL@VERSION"
        none = f"no version of {model} is in production" if there else f"there is no registered model {model!r}"
        raise UserError(f"{none}; daybreak registry promote {which} puts one there")
    if version.record["recipe"] != recipe:
        raise UserError(f"{version.title}, in production, was made by {version.record['recipe']}, not by {recipe}")
    gone = f"{version.title} is in production, but its run {version.record['run']} is not in this lab any more"
    try:
        run = Run.find(lab, version.record["run"])
    except UserError:
        run = None
    if run is None or run.info.created != version.record.get("created_run"):
        raise UserError(f"{gone}; a retraining derives from it: promote a version whose run is here")
    return version, run


def against(lab: Lab, challenger: Run, holder: Run) -> tuple[Interval, str]:
    """The interval of challenger minus champion on the challenger's validation items, and a word where it is on fewer.

    The champion is scored anew on items that it was never scored on: those are why there is a challenger. Raises
    `UserError` where nothing can be compared.
    """
    told: Any = challenger.info.goal
    goal = Goal(**told)
    if holder.info.goal.get("name") != goal.name:
        raise UserError(f"the champion was judged by {holder.info.goal.get('name')!r}, the challenger by {goal.name!r}")
    ours: Sequence[ScoreRow] = _last(challenger)
    theirs: Sequence[ScoreRow | Score] = _last(holder)
    if not ours:
        raise UserError(f"{challenger.title} was not scored on validation items")
    note = ""
    if not {row.item for row in ours} <= {row.item for row in theirs}:
        try:
            theirs = rescored(lab, challenger, holder)
        except UserError as error:
            note = f"on the items of both alone: {error}"
    found = compare.paired(Scores.of(ours, goal.name), Scores.of(theirs, goal.name), goal)
    return found, note


def rescored(lab: Lab, challenger: Run, holder: Run) -> Sequence[Score]:
    """The champion's weights on the challenger's validation items. Raises `UserError` where they do not fit."""
    from daybreak.lab.checkpoint import seed_everything
    from daybreak.lab.config import check
    from daybreak.lab.evaluate import scores, shared, spread
    from daybreak.lab.train import recipe_class

    cls = recipe_class(holder)
    config: Any = check(cls.Config, cls.shipped(holder.info.config), f"{holder.title}: run.json")
    seed_everything(config.seed)
    recipe = cls(config, challenger.snapshot(lab), "cpu")
    recipe.model().read_weights(holder.path / "final" / "weights.safetensors")
    many = int(challenger.info.config.get("evaluate_items") or 0)
    return shared(cls, list(scores(recipe, spread(recipe.items("validation"), many))))


def verdict(interval: Interval, earlier: Sequence[float], title: str, note: str = "") -> tuple[bool, str]:
    """Whether the challenger takes over by rule, and the words. `earlier` are the p values of the same champion's other
    challengers."""
    of = len(earlier) + 1
    corrected = compare.holm([*earlier, interval.p])[-1]
    words = compare.words(interval, subject=title, corrected=corrected, of=of)
    won = interval.verdict == "better" and corrected <= LEVEL
    return won, f"{words}; {note}" if note else words


def take_over(lab: Lab, run: Run, model: str, by: str) -> Version:
    """Register the challenger, which reads its gates on the test items, and point production at it. Twice does nothing
    twice. Raises `UserError` where a gate fails."""
    version = registry.add(lab, run, name=model, by=by)
    return registry.promote(lab, version.title, by=by)


def _last(run: Run) -> list[ScoreRow]:
    """The scores of a run's last whole evaluation."""
    steps = run.evaluated()
    return run.scores(max(steps)) if steps else []
