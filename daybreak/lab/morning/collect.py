"""Everything that a morning says, as one plain dict: data.json. The page and the log are made from it alone.

It asks the other files of this room and puts their answers together. It writes nothing and draws nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Any

from daybreak.errors import UserError
from daybreak.lab.codec import plain
from daybreak.lab.compare import words
from daybreak.lab.home import Lab
from daybreak.lab.morning import figures, hours, judge, proposals, verdict
from daybreak.lab.morning.crossed import crossed
from daybreak.lab.morning.judge import Group
from daybreak.lab.morning.learning import learning
from daybreak.lab.morning.listen import listen
from daybreak.lab.morning.plots import thin
from daybreak.lab.morning.story import FAILED, Story, clock, gates_of
from daybreak.lab.morning.trend import trend
from daybreak.lab.morning.tried import pages
from daybreak.lab.run import Run
from daybreak.lab.ship.standing.told import morning as standing

VERSION = 1
LONGEST = 7 * 86400.0
"""A cut further back than this says nothing: the morning then covers the last day."""


def night_of(lab: Lab, day: date | None, now: float) -> tuple[date, float, float]:
    """The date of a morning and the stretch that it covers, in epoch seconds: since the previous morning's cut.

    Without a previous cut it is the 24 hours before. A night of the past ends at its own cut, or at noon where it had
    none. Raises `UserError` for a date in the future.
    """
    today = datetime.fromtimestamp(now).date()
    day = day or today
    if day > today:
        raise UserError(f"the night of {day} is not over: today is {today}")
    stop = now
    if day < today:
        own = _cut(lab, day)
        stop = own if own is not None else datetime(day.year, day.month, day.day, 12).timestamp()
    earlier = sorted(p.name for p in lab.daily.iterdir() if p.is_dir() and p.name < day.isoformat())
    cuts = [cut for name in reversed(earlier[-8:]) if (cut := _cut(lab, name)) is not None]
    start = cuts[0] if cuts and 0 < stop - cuts[0] <= LONGEST else stop - 86400.0
    return day, start, stop


def _cut(lab: Lab, day: date | str) -> float | None:
    """The moment up to which that date's page reached; None where there is none."""
    try:
        return float(json.loads((lab.daily / str(day) / "data.json").read_text())["to"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def collect(lab: Lab, day: date | None, now: float, budget: int) -> dict[str, Any]:
    """The data of a morning.

    Args:
        lab: the lab's folder.
        day: the local date on which the night ended; today by default.
        now: epoch seconds.
        budget: characters that embedded sounds and pictures may take.
    """
    day, start, stop = night_of(lab, day, now)
    runs, broken = _runs(lab)
    every = {run.id: Story(run, stop) for run in runs}
    active = [s for s in every.values() if s.active(start, stop)]
    earlier = [s for s in every.values() if s.ended is not None and s.ended <= start]
    gates = {recipe: gates_of(s.run) for recipe, s in {s.run.info.recipe: s for s in active}.items()}
    found = judge.groups(active, earlier, every)
    rows = [_row(lab, s, group, every, earlier, gates, start, stop) for group in found for s in _order(group)]
    tables, media = listen(found, budget)
    data: dict[str, Any] = {
        "version": VERSION,
        "date": day.isoformat(),
        "day": figures.day(day),
        "from": start,
        "to": stop,
        "from_text": _moment(start),
        "to_text": _moment(stop),
        "kind": "empty" if not active else "usual" if any(g.earlier for g in found) else "first",
        "cost_s": sum(s.cost(start, stop) for s in active),
        "groups": [_group(group) for group in found],
        "runs": rows,
        "curves": _curves(found),
        "listen": tables,
        "pages": pages(lab, day, {row["id"] for row in rows}),
        "lost": hours.lost(active, start, stop),
        "standing": standing(lab, start, stop),
        "tonight": hours.tonight(lab, list(every.values()), stop),
        "trend": trend([s for s in every.values() if s.ended is None or s.ended <= stop], day),
        "notes": [
            {"run": s.run.id, "title": s.title, **note, "when": _moment(note["time"])}
            for s in every.values()
            for note in s.notes()
            if start < note["time"] <= stop
        ],
        "alone": [_alone(row) for row in rows if row["alone"]],
        "broken": broken,
        "media": media,
    }
    for told in (*data["standing"]["retrainings"], *data["standing"]["decide"]):
        told["run_title"] = every[told["run"]].title if told["run"] in every else ""
    data["headline"] = verdict.headline(data)
    data["verdict"] = verdict.sentences(data)
    data["proposals"] = proposals.propose(lab, data)
    simple: dict[str, Any] = json.loads(json.dumps(plain(data), allow_nan=False))
    return simple


def _runs(lab: Lab) -> tuple[list[Run], list[str]]:
    """Every run, and the folders that could not be read, with the reason: one bad folder costs no morning."""
    found, broken = [], []
    for path in lab.runs.iterdir():
        if path.name.partition("-")[0].isdigit():
            try:
                found.append(Run(path))
            except (UserError, TypeError) as error:
                broken.append(f"{path.name}: {error}")
    return sorted(found, key=lambda run: run.number), sorted(broken)


def _order(group: Group) -> list[Story]:
    """The leader first, then by score, then what has none, by number."""
    ranked = group.ranked()
    leader = group.leader()
    first = [leader] if leader in ranked else []
    rest = [s for s in group.stories if s not in ranked]
    return [*first, *(s for s in ranked if s is not leader), *rest]


def _row(
    lab: Lab,
    story: Story,
    group: Group,
    every: Mapping[str, Story],
    earlier: Sequence[Story],
    gates: Mapping[str, Any],
    start: float,
    stop: float,
) -> dict[str, Any]:
    info = story.run.info
    previous = _previous(story, earlier)
    best = group.reference if group.earlier else None
    findings = story.findings(lab, previous, best, gates.get(info.recipe, ()))
    parent = every.get(info.parent or "")
    against = group.against.get(story.run.id)
    own = group.parents.get(story.run.id)
    notes = story.notes()
    others = {note["by"] for note in notes} - {info.owner, ""}
    word = "diverged" if story.state.word == "failed" and _kinds(findings) & {"divergence"} else story.state.word
    leading = story is group.leader() and against is not None and against.verdict == "better"
    score = judge.reached(story)
    return {
        "id": story.run.id,
        "number": story.run.number,
        "title": story.title,
        "name": info.name,
        "recipe": info.recipe,
        "preset": info.preset,
        "owner": info.owner,
        "second": info.second,
        "alone": not others and info.second in ("", info.owner),
        "state": word,
        "state_text": story.state.text,
        "failed": word in FAILED or bool(_kinds(findings) & {"divergence", "non-finite"}),
        "step": story.state.step,
        "steps": story.record.planned,
        "started": _moment(story.started) if story.started else "",
        "ended": _moment(story.ended) if story.ended else "",
        "cost_s": story.cost(),
        "tonight_s": story.cost(start, stop),
        "energy_j": story.joules(),
        "parent": {"id": info.parent, "title": parent.title if parent else info.parent} if info.parent else None,
        "difference": [[k, *(figures.setting(value, 4) for value in pair)] for k, pair in info.difference.items()],
        "config": [[name, figures.setting(value)] for name, value in _flat(info.config)],
        "goal": dict(info.goal),
        "score": score,
        "score_step": max(story.evaluated) if story.evaluated else None,
        "against": judge.as_data(story, against, group) if against else None,
        "crossed": crossed(story, group.reference),
        "against_parent": judge.as_data(story, own, group) if own and own.other is not group.reference else None,
        "is_reference": story is group.reference,
        "leading": leading,
        "tone": _tone(word, against.verdict if against else ""),
        "findings": [_finding(lab, story, finding, number) for number, finding in enumerate(findings, 1)],
        "log": story.log(),
        "traceback": story.traceback(),
        "notes": [{**note, "when": _moment(note["time"])} for note in notes],
    }  # fmt: skip


def _finding(lab: Lab, story: Story, finding: Any, number: int) -> dict[str, Any]:
    """A finding as plain values; a moment at which a run ran away names the items of its batch."""
    found = {**asdict(finding), "label": str(number), "id": f"finding-{story.run.number}-{number}", "items": []}
    found["next"] = list(finding.next) if finding.next else None
    found["at"] = float(story.record.on_clock(finding.step)) if finding.step is not None else None
    if finding.kind in ("divergence", "non-finite", "spikes") and finding.step:
        found["items"] = [str(item) for item in story.batch(lab, finding.step - 1)]
    return found


def _group(group: Group) -> dict[str, Any]:
    reference = group.reference
    interval = [found.interval for found in group.against.values()]
    values = [value for s in group.stories if (value := judge.reached(s)) is not None]
    return {
        "recipe": group.recipe,
        "task": group.task,
        "goal": {"name": group.goal.name, "better": group.goal.better, "unit": group.goal.unit},
        "runs": [s.run.id for s in _order(group)],
        "clock": group.stories[0].record.clock,
        "published": [list(one) for one in group.stories[0].judged.references],
        "earlier": group.earlier,
        "places": figures.decimals(values, [i.half for i in interval]),
        "items": max((i.items for i in interval), default=0),
        "reference": {
            "id": reference.run.id, "title": reference.title, "number": reference.run.number,
            "value": judge.reached(reference), "state": reference.state.word,
            "when": _moment(reference.ended) if reference.ended else "",
        } if reference else None,
        "seeds": [
            {
                "runs": [s.title for s in ours], "base": [s.title for s in theirs],
                "words": words(interval), "verdict": interval.verdict,
            }
            for ours, theirs, interval in group.seeds
        ],
    }  # fmt: skip


def _curves(groups: Sequence[Group]) -> dict[str, dict[str, Any]]:
    """The curves of the night's runs and of what they are held against, thinned to what a picture can show."""
    wanted: dict[str, Story] = {}
    for group in groups:
        for story in [*group.stories, *([group.reference] if group.reference else [])]:
            wanted[story.run.id] = story
        for found in group.parents.values():
            wanted[found.other.run.id] = found.other
    learned = {name: learning(story.record) for name, story in wanted.items()}
    return {
        name: {
            "title": story.title,
            "number": story.run.number,
            "learning": asdict(own) if (own := learned[name]) else None,
            "loss": thin(story.record.on_clock(story.record.loss.steps), story.record.loss.values),
            "goal": thin(story.record.on_clock(story.record.reached.steps), story.record.reached.values),
        }
        for name, story in wanted.items()
    }


def _previous(story: Story, earlier: Sequence[Story]) -> Story | None:
    """The latest earlier run of the same recipe, preset and machine: what its speed is held against."""
    info = story.run.info
    alike = [
        s for s in earlier
        if (s.run.info.recipe, s.run.info.preset, s.run.info.hardware, s.run.info.threads)
        == (info.recipe, info.preset, info.hardware, info.threads) and s.state.word == "finished"
    ]  # fmt: skip
    return max(alike, key=lambda s: s.ended or 0.0, default=None)


def _alone(row: Mapping[str, Any]) -> dict[str, Any]:
    why = "no second, and no note of a colleague" if row["owner"] else "no owner, no second, and no note"
    return {"run": row["id"], "title": row["title"], "owner": row["owner"], "why": why}


def _kinds(findings: Sequence[Any]) -> set[str]:
    return {finding.kind for finding in findings}


def _tone(word: str, found: str) -> str:
    return "worse" if word in FAILED else found or "undecided"


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return found


def _moment(at: float) -> str:
    """A moment for a person, in local time: "Sun 22 Nov, 02:13"."""
    held = time.localtime(at)
    day = datetime(*held[:3]).date()
    return f"{figures.DAYS[day.weekday()][:3]} {day.day} {figures.MONTHS[day.month - 1][:3]}, {clock(at)}"
