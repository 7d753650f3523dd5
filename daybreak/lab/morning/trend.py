"""The weeks behind a morning: failed runs by cause, the best score by recipe and task. It draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from daybreak.lab.morning.judge import alike, reached
from daybreak.lab.morning.story import FAILED, Story

WEEKS = 8


def trend(stories: Sequence[Story], day: date) -> dict[str, Any]:
    """Eight weeks, Monday to Sunday, the last one being `day`'s. Weeks before the lab's first run are left out."""
    monday = day - timedelta(days=day.weekday())
    mondays = [monday - timedelta(weeks=back) for back in range(WEEKS - 1, -1, -1)]
    place = {start: index for index, start in enumerate(mondays)}
    failed: dict[str, list[int]] = {}
    best: dict[tuple[str, str, str], dict[str, Any]] = {}
    first = len(mondays) - 1
    total = [0] * len(mondays)
    for story in stories:
        if story.ended is None:
            continue
        ended = datetime.fromtimestamp(story.ended).date()
        week = place.get(ended - timedelta(days=ended.weekday()))
        if week is None:
            continue
        first = min(first, week)
        total[week] += 1
        if story.state.word in FAILED:
            failed.setdefault(story.state.word, [0] * len(mondays))[week] += 1
        value = reached(story)
        if value is None:
            continue
        goal = story.run.info.goal
        key = alike(story)
        empty = {"recipe": key[0], "task": key[2], "goal": dict(goal), "values": [None] * len(mondays)}
        row = best.setdefault(key, empty)
        before = row["values"][week]
        better = before is None or (value < before if goal.get("better") != "higher" else value > before)
        row["values"][week] = value if better else before
    return {
        "weeks": [start.isoformat() for start in mondays[first:]],
        "runs": total[first:],
        "failed": {cause: counts[first:] for cause, counts in sorted(failed.items())},
        "best": [{**row, "values": row["values"][first:]} for _, row in sorted(best.items())],
    }
