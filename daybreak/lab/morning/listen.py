"""What there is to hear and see: the same held-out items, a column a run, natural first.

It knows samples in run folders and how many bytes a page may take. It decides what is embedded; the others are linked.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

from daybreak.lab.morning.crossed import bounds, marks
from daybreak.lab.morning.judge import Group
from daybreak.lab.morning.story import Story
from daybreak.lab.run import ScoreRow

KINDS = {
    ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".wav": "audio/wav", ".ogg": "audio/ogg", ".svg": "image/svg+xml",
    ".webp": "image/webp", ".png": "image/png", ".jpg": "image/jpeg",
}  # fmt: skip
SAFE = re.compile(r"samples/[0-9A-Za-z_-]{1,80}(\.[a-z0-9]{2,5})")
"""What a sample's path may be: anything else in a run's files is not followed."""
COLUMNS = 6
"""Runs beside each other: the best so far, the leader's parent, the night's top four."""
ITEMS = 24
"""Items of a table at most; a config says how many have samples."""
LARGEST = 1_000_000
"""Bytes of one sample above which it is linked, not embedded."""


def listen(groups: Sequence[Group], budget: int) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The tables to hear and see, one a group, and the files in them as data URIs, by their path in the lab.

    Args:
        groups: the night's runs.
        budget: characters of data URIs that the page can take. Items are embedded whole, row by row, until it is full.
    """
    tables = [table for group in groups if (table := _table(group))["items"]]
    media: dict[str, str] = {}
    room = budget
    paths = {story.run.id: story.run.path for group in groups for story in _columns(group)}
    rows = [item for place in range(ITEMS) for table in tables for item in table["items"][place : place + 1]]
    for row in rows:
        files: dict[str, str] = {}
        for cell in [row["natural"], *row["cells"]]:
            for name in cell["files"].values() if cell else ():
                if name in media or name in files:
                    continue
                run, _, rest = name.partition("/")
                kind = KINDS.get(SAFE.fullmatch(rest)[1], "")  # type: ignore[index]  # only safe ones were taken
                try:
                    path = paths[run] / rest
                    if not kind or path.stat().st_size > LARGEST:
                        continue
                    files[name] = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
                except OSError:
                    continue
        size = sum(map(len, files.values()))
        if size > room:
            break
        room -= size
        media |= files
    return tables, media


def _columns(group: Group) -> list[Story]:
    """The runs to put beside each other, the best so far first."""
    leader = group.leader()
    wanted = [group.reference] if group.reference else []
    if leader is not None:
        wanted += [found.other for found in [group.parents.get(leader.run.id)] if found is not None]
    wanted += group.ranked()[:4]
    held = {story.run.id: story for story in wanted if story is not None}
    return list(held.values())[:COLUMNS]


def _table(group: Group) -> dict[str, Any]:
    columns = [(story, _shown(story)) for story in _columns(group)]
    columns = [(story, rows) for story, rows in columns if rows]
    order = list(dict.fromkeys(item for _, rows in columns for item in rows))
    # Items that every column has come first.
    order.sort(key=lambda item: -sum(item in rows for _, rows in columns))
    items = []
    held = next((rows for story, rows in columns if story is group.reference), {})
    for item in order[:ITEMS]:
        found = [(story, rows.get(item)) for story, rows in columns]
        natural = next(((story, row) for story, row in found if row is not None and row.natural), None)
        items.append(
            {
                "item": item,
                "group": next((row.group for _, row in found if row is not None), ""),
                "natural": {"files": _files(natural[0], natural[1].natural), "value": None} if natural else None,
                "cells": [
                    {
                        "files": _files(story, row.sample),
                        "value": row.values.get(group.goal.name),
                        **marks(bounds(story), row, held.get(item)),
                    }
                    if row
                    else None
                    for story, row in found
                ],
            }
        )
    return {
        "recipe": group.recipe,
        "task": group.task,
        "goal": {"name": group.goal.name, "better": group.goal.better, "unit": group.goal.unit},
        "columns": [
            {
                "run": story.run.id, "title": story.title, "number": story.run.number, "name": story.run.info.name,
                "step": max(story.record.scores),
                "what": "best so far" if story is group.reference and group.earlier else "",
            }
            for story, _ in columns
        ],
        "items": items,
    }  # fmt: skip


def _shown(story: Story) -> dict[str, ScoreRow]:
    """The samples of a run's last whole evaluation, by item."""
    if not story.record.scores:
        return {}
    rows = story.run.scores(max(story.record.scores))
    return {row.item: row for row in rows if row.sample}


def _files(story: Story, sample: Any) -> dict[str, str]:
    """Kind of sample -> path below the folder of runs. Paths that are not a sample's are left out."""
    return {
        str(name): f"{story.run.id}/{path}"
        for name, path in sample.items()
        if isinstance(path, str) and SAFE.fullmatch(path)
    }
