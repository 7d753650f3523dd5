"""What a version's requests are held against: the items of its snapshot, and its own first two weeks of service.

An item stands for a request where a media field's type can read it; the other fields of a request have no item behind
them, so that they are held against what was asked then. Both are counted once and kept beside what
is served. It knows items, types and counts; it knows nothing about tests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from daybreak.lab.evaluate import spread
from daybreak.lab.home import Lab, write_json
from daybreak.lab.model import Model, media_of
from daybreak.lab.registry import Version
from daybreak.lab.run import Run
from daybreak.lab.ship.standing.drift import FEWEST_VISITS
from daybreak.lab.ship.standing.served import VERSION, Actions, Counts, folder_of, served
from daybreak.lab.ship.standing.traits import Traits, of_media
from daybreak.lab.system import resolve, system
from daybreak.media import Media

WEEK = 7
FIRST = 14
"""Days of service that later weeks are held against."""
ITEMS = 1000
"""Training items that stand for the snapshot, spread evenly over it."""
TRIED = 8
"""Items of which one must be readable as a media type, for the type to be held against the snapshot at all."""


def model_class(version: Version) -> type[Model]:
    """The class of a registered version, without its weights."""
    about = json.loads((version.path / "config.json").read_text())
    found: type[Model] = resolve(system(about["system"]).models[about["model"]])
    return found


def of_snapshot(lab: Lab, version: Version, run: Run) -> Actions:
    """What the requests of each action would be if they were the items that the version learnt from.

    Items of one group weigh one together. Empty where no item can be read as any media field.
    """
    path = folder_of(lab, version.title) / "snapshot.json"
    if (kept := _read(path)) and kept.get("snapshot") == run.info.snapshot:
        return _actions(kept["actions"])
    fields = {name: media_of(action.request) for name, action in model_class(version).actions().items()}
    counted = {kind: _counted(lab, run, kind) for kind in {kind for held in fields.values() for kind in held.values()}}
    found: Actions = {}
    for action, held in fields.items():
        for field, kind in held.items():
            counts = counted[kind]
            if not counts.visits:
                continue
            into = found.setdefault(action, Counts(counts.visits, counts.requests))
            into.bins |= {f"{field}.{name.partition('.')[2]}": bins for name, bins in counts.bins.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: counts.plain() for name, counts in found.items()}
    write_json(path, {"version": VERSION, "snapshot": run.info.snapshot, "actions": plain})
    return found


def _counted(lab: Lab, run: Run, kind: type[Media]) -> Counts:
    """The snapshot's training items as media of one type."""
    data = run.snapshot(lab)
    groups: dict[str, list[Traits]] = {}
    for number, item in enumerate(spread(data.split("train"), ITEMS) if len(data) else ()):
        if number == TRIED and not groups:
            break
        try:
            media = kind.from_bytes(data.read(item, next(iter(item.parts))))
            groups.setdefault(item.group, []).append(of_media("item", media))
        except Exception:  # not of this type, or gone: a third party's reader may fail in any way
            continue
    counts = Counts()
    for held in groups.values():
        for found in held:
            counts.note(found, 1 / len(held))
        counts.requests += len(held)
        counts.visits += 1
    return counts


def first_weeks(lab: Lab, title: str, today: date) -> list[tuple[date, Actions]]:
    """What was asked of a version in its first two weeks with enough visits, day by day; empty until they are over.

    A few requests by hand before a service begins are no part of it.
    """
    path = folder_of(lab, title) / "first-weeks.json"
    if kept := _read(path):
        return [(date.fromisoformat(day), _actions(actions)) for day, actions in kept["days"].items()]
    days = served(lab, title)
    found: list[tuple[date, Actions]] = []
    for start in days:
        end = start + timedelta(days=FIRST)
        found = [(day, actions) for day, actions in days.items() if start <= day < end]
        if end > today:
            return []
        if sum(counts.visits for _, actions in found for counts in actions.values()) >= FEWEST_VISITS:
            break
    else:
        return []
    plain = {day.isoformat(): {name: c.plain() for name, c in actions.items()} for day, actions in found}
    write_json(path, {"version": VERSION, "days": plain})
    return found


def whole_week(lab: Lab, title: str, until: date, broken: list[str] | None = None) -> Sequence[Actions]:
    """What was asked in the seven days that end with `until`, day by day."""
    return list(served(lab, title, until - timedelta(days=WEEK - 1), until, broken).values())


def _actions(plain: dict[str, Any]) -> Actions:
    return {name: Counts.of(counts) for name, counts in plain.items()}


def _read(path: Any) -> dict[str, Any]:
    """A file that was kept; empty where there is none, or where it can be made anew."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("version") == VERSION else {}
