"""The page: one HTML file made from a morning's data and from nothing else.

It draws the curves and hands everything to the template, which escapes every text. The file fetches nothing: styles,
script, sounds and pictures are inside, and its Content-Security-Policy forbids the rest, by hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from daybreak.lab.codec import number
from daybreak.lab.morning import figures, plots
from daybreak.lab.morning.hours import PARTS
from daybreak.lab.morning.plots import Line, Mark
from daybreak.lab.morning.verdict import difference

HERE = Path(__file__).parent
CROWD, NAMED = 12, 4
"""Above so many curves in one picture only so many of the best, and those that failed, are named."""
SIGNS = {"better": "\u25b2", "worse": "\u25bc", "undecided": "\u25c6"}
"""A tone is never told by colour alone."""


def render(data: Mapping[str, Any]) -> str:
    """The page's HTML."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": figures.duration, "figure": _figure, "signed": _signed, "count": figures.count,
        "difference": _difference, "setting": figures.setting, "named": figures.named, "hash": _hash, "minus": _minus,
    }  # fmt: skip
    groups = {run: group for group in data["groups"] for run in group["runs"]}
    return environment.get_template("page.html.j2").render(
        data=data,
        signs=SIGNS,
        groups=groups,
        rows={row["id"]: row for row in data["runs"]},
        group_charts=[(_group_chart(data, group, 1000), _group_chart(data, group, 430)) for group in data["groups"]],
        captions=[_caption(data, group) for group in data["groups"]],
        charts={row["id"]: _run_charts(data, row, groups[row["id"]]) for row in data["runs"]},
        sparks={row["id"]: _spark(data, row) for row in data["runs"]},
        bars=[(worker, _bar(worker)) for worker in data["lost"]["workers"]],
        parts=PARTS,
        failed=_failed(data["trend"]),
        bests=[(row, _best(data["trend"]["weeks"], row)) for row in data["trend"]["best"]],
    )


def _learnt(data: Mapping[str, Any], run: str) -> tuple[list[Any], list[Any]]:
    """A run's curve of the goal, and the interval around it: as training met it where that was logged, else as
    evaluations found it."""
    curves = data["curves"][run]
    return (curves["learning"]["points"], curves["learning"]["band"]) if curves["learning"] else (curves["goal"], [])


def _caption(data: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    """What the curves of a group are, where they are those of training."""
    found = [data["curves"][run]["learning"] for run in group["runs"] if data["curves"][run]["learning"]]
    if not found:
        return ""
    seeds = max(one["seeds"] for one in found)
    shaded = "; the interquartile mean over seeds, with its 95 % bootstrap interval shaded" if seeds >= 3 else ""
    published = "; dashed: published" if group["published"] else ""
    return f"{group['goal']['name']} while training{shaded}{published}"


def _group_chart(data: Mapping[str, Any], group: Mapping[str, Any], width: int) -> Markup:
    """The goal of every run of a group on the same axes; what it is held against, and what was published, in grey."""
    lines = [Line(name, [tuple(point) for point in points], "grey") for name, points in group["published"]]
    reference = group["reference"]
    if reference and reference["id"] in data["curves"]:
        name = f"#{reference['number']} best so far" if group["earlier"] else f"#{reference['number']} first"
        points, band = _learnt(data, reference["id"])
        lines.append(Line(name, points, "grey", band=band))
    told = {*group["runs"][:NAMED], *(row["id"] for row in data["runs"] if row["failed"])}
    few = len(group["runs"]) <= CROWD
    for row in data["runs"]:
        if row["id"] in group["runs"] and not (reference and row["id"] == reference["id"]):
            named = few or row["id"] in told
            marks = [_mark(f) for f in row["findings"] if f["weight"] == "alarm" and f["step"] is not None]
            points, band = _learnt(data, row["id"])
            name, tone = (f"#{row['number']}", row["tone"]) if named else ("", f"{row['tone']} faint")
            lines.append(Line(name, points, tone, marks if points and named else (), band if named else ()))
    label = f"{group['goal']['name']} over {_axis(group)}, of {len(group['runs'])} runs of {figures.named(group)}"
    return plots.chart([line for line in lines if line.points], label=label, x=_axis(group), width=width, height=260)


def _run_charts(data: Mapping[str, Any], row: Mapping[str, Any], group: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    """A run's loss, its goal as training met it and as evaluations found it; its parent in grey, findings marked."""
    parent = row["parent"]["id"] if row["parent"] else None
    other = parent if parent in data["curves"] else group["reference"]["id"] if group["reference"] else None
    found = []
    goal = group["goal"]["name"] or "goal"
    for kind, title in (("learning", f"{goal} while training"), ("loss", "training loss"), ("goal", goal)):
        own, band = _points(data["curves"][row["id"]], kind)
        lines = []
        if other is not None and other != row["id"] and other in data["curves"]:
            held = data["curves"][other]
            role = "parent" if other == parent else "best so far"
            lines.append(Line(f"#{held['number']} {role}", _points(held, kind)[0], "grey"))
        marks = [_mark(f) for f in row["findings"] if f["step"] is not None]
        lines.append(Line(f"#{row['number']}", own, row["tone"], marks, band))
        label = f"{title} of {row['title']} over {_axis(group)}"
        drawn = plots.chart(lines, label=label, x=_axis(group)) if own else Markup("")
        if drawn:
            found.append((title, drawn))
    return found


def _points(curves: Mapping[str, Any], kind: str) -> tuple[list[Any], list[Any]]:
    """A curve of a run and the interval around it."""
    held = curves[kind]
    return (held["points"], held["band"]) if isinstance(held, Mapping) else (held or [], [])


def _axis(group: Mapping[str, Any]) -> str:
    """The clock in words: "env steps"."""
    return str(group["clock"]).replace("_", " ")


def _mark(finding: Mapping[str, Any]) -> Mark:
    tone = {"alarm": "worse", "good": "better"}.get(finding["weight"], "undecided")
    return Mark(float(finding["at"]), finding["label"], finding["id"], tone)


def _spark(data: Mapping[str, Any], row: Mapping[str, Any]) -> Markup:
    curves = data["curves"][row["id"]]
    few = len(curves["goal"]) < 4 or row["failed"]
    if few and curves["learning"]:
        return plots.spark(curves["learning"]["points"], row["tone"])
    return plots.spark(curves["loss"] if few else curves["goal"], row["tone"])


def _bar(worker: Mapping[str, Any]) -> Markup:
    parts = [(name, float(worker["parts"][name])) for name in PARTS]
    total = sum(value for _, value in parts)
    words = ", ".join(f"{name} {figures.duration(value)}" for name, value in parts if value >= 0.5)
    return plots.stack(parts, total, f"{worker['name']}: {words}")


def _failed(trend: Mapping[str, Any]) -> Markup:
    """A column a week: failed runs by cause."""
    heights = [[(cause, counts[i]) for cause, counts in trend["failed"].items()] for i in range(len(trend["weeks"]))]
    told = "; ".join(
        f"week of {week}: {', '.join(f'{n} {cause}' for cause, n in column if n) or 'none'}"
        for week, column in zip(trend["weeks"], heights, strict=True)
    )
    return plots.columns([_week(week) for week in trend["weeks"]], heights, f"failed runs a week: {told}")


def _best(weeks: Sequence[str], row: Mapping[str, Any]) -> Markup:
    """The best score of each week, as a curve over weeks."""
    points = [(float(i), None if value is None else number(value)) for i, value in enumerate(row["values"])]
    label = f"best {row['goal'].get('name', 'score')} of {figures.named(row)} a week"
    return plots.weekly([_week(week) for week in weeks], points, label)


def _week(iso: str) -> str:
    _, month, day = iso.split("-")
    return f"{int(day)} {figures.MONTHS[int(month) - 1][:3]}"


def _figure(value: Any, places: int) -> str:
    return figures.figure(None if value is None else number(value), places)


def _signed(value: Any, places: int) -> str:
    return figures.signed(number(value), places)


def _difference(against: Mapping[str, Any], places: int) -> str:
    held = {**against, **{k: number(against[k]) for k in ("difference", "low", "high")}}
    return difference(held, places)


def _minus(text: str) -> str:
    return text.replace(" -", f" {figures.MINUS}")


def _hash(text: str) -> str:
    """What a Content-Security-Policy calls an inline style or script that it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
