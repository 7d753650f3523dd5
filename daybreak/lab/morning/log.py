"""The same morning in Markdown: log.md, for a terminal, a mail or a repository. Made from the data and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from daybreak.lab.codec import number
from daybreak.lab.morning.figures import duration, figure, named
from daybreak.lab.morning.hours import PARTS
from daybreak.lab.morning.verdict import difference


def log(data: Mapping[str, Any]) -> str:
    """The Markdown text."""
    parts = [f"# {data['day']}", f"{data['headline']} ({data['from_text']} to {data['to_text']})", "## Verdict"]
    parts += [text(sentence["text"]) for sentence in data["verdict"]]
    parts.append("## Decide")
    parts.append(
        "\n".join(
            f"- `{p['command']}` {text(p['text'])}{' (decided)' if p['state'] == 'done' else ''}. {text(p['why'])}"
            for p in data["proposals"]
        )
        or "Nothing to decide."
    )
    parts.append("## Runs")
    rows = {row["id"]: row for row in data["runs"]}
    for group in data["groups"]:
        parts += _group(group, rows)
    if not data["groups"]:
        parts.append("None.")
    parts += [text(line) for line in data["broken"]]
    if data.get("pages"):
        parts.append("## Try")
        parts.append("\n".join(f"- [{text(one['title'])}]({one['href']})" for one in data["pages"]))
    parts.append("## Lost time")
    spent = [f"{name} {duration(data['lost']['totals'][name])}" for name in PARTS if data["lost"]["totals"].get(name)]
    parts.append(", ".join(spent) or "No hours were spent.")
    parts.append("## Tonight")
    parts.append(_tonight(data["tonight"]))
    if standing := data.get("standing", {}):
        lines = [
            f"- {text(one['run_title'] or 'retraining ' + str(one['id']))} {one['state']} for {text(one['title'])}: "
            f"{text(one['said'] or one['why'])}"
            for one in standing["retrainings"]
        ]
        lines += [
            f"- order {o['order']}, {text(o['model'])} when {o['when']}: {text(o['said'])}" for o in standing["orders"]
        ]
        if lines:
            parts += ["## Standing", "\n".join(lines)]
    parts.append("## Trend")
    parts.append(_trend(data["trend"]))
    parts.append("## Notes")
    for note in data["notes"]:
        quoted = "\n".join(f"> {text(line)}" for line in note["text"].splitlines())
        parts.append(f"{quoted}\n>\n> {text(note['by'] or 'somebody')} on {text(note['title'])}, {note['when']}")
    parts += [f"Known to one person only: {text(one['title'])}, {text(one['owner'])}." for one in data["alone"]]
    if not data["notes"] and not data["alone"]:
        parts.append("None.")
    return "\n\n".join(parts) + "\n"


def _group(group: Mapping[str, Any], rows: Mapping[str, Any]) -> list[str]:
    goal, reference = group["goal"], group["reference"]
    title = f"### {text(named(group))}: {text(goal['name'])} ({goal['better']} is better)"
    held = f"against #{reference['number']}" if reference else "against"
    lines = [["run", "changed", text(goal["name"]) or "goal", held, "state", "cost"], ["---"] * 6]
    findings = []
    for name in group["runs"]:
        row = rows[name]
        changed = ", ".join(f"{key} {old} \u2192 {new}" for key, old, new in row["difference"])
        found = row["against"]
        versus = f"{_difference(found, group['places'])} {found['verdict']}" if found else "-"
        score = None if row["score"] is None else number(row["score"])
        state = f"{row['state']} at step {row['step']:,}"
        cells = [row["title"], changed or "-", figure(score, group["places"]), versus, state, duration(row["cost_s"])]
        lines.append([text(cell) for cell in cells])
        for one in row["crossed"]:
            told = f"{one['broken']} newly broken, {one['fixed']} newly fixed of {one['of']} items"
            findings.append(f"- {text(row['title'])} {text(held)}, {text(one['name'])}: {told}.")
        for finding in row["findings"]:
            then = f" Next: `daybreak {' '.join(finding['next'])}`" if finding["next"] else ""
            batch = f"Items of the batch: {', '.join(finding['items'][:12])}."
            items = f" {text(batch)}" if finding["items"] else ""
            findings.append(f"- {text(row['title'])}: {text(finding['text'])}.{items}{then}")
    found = [title, _table(lines)]
    return [*found, "\n".join(findings)] if findings else found


def _tonight(tonight: Mapping[str, Any]) -> str:
    if not tonight["jobs"]:
        return "The queue is empty."
    words = {True: "fits", False: "does not fit", None: "of unknown length"}
    lines = [f"Until {tonight['until_text']}:"]
    for job in tonight["jobs"]:
        change = f" ({job['change']})" if job["change"] else ""
        takes = "" if job["needs_s"] is None else f", {duration(job['needs_s'])}"
        lines.append(f"- job {job['id']}: {text(job['title'])}{text(change)}{takes}, {words[job['fits']]}")
    return "\n".join(lines)


def _trend(trend: Mapping[str, Any]) -> str:
    if not trend["weeks"]:
        return "None yet."
    lines = [["week of", *trend["weeks"]], ["---"] * (len(trend["weeks"]) + 1)]
    lines.append(["runs", *map(str, trend["runs"])])
    lines += [[f"failed: {cause}", *map(str, counts)] for cause, counts in trend["failed"].items()]
    for row in trend["best"]:
        values = [figure(None if v is None else number(v), 4) for v in row["values"]]
        lines.append([text(f"best {row['goal'].get('name', '')}, {named(row)}"), *values])
    return _table(lines)


def _difference(found: Mapping[str, Any], places: int) -> str:
    return difference({**found, **{k: number(found[k]) for k in ("difference", "low", "high")}}, places)


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(value: str) -> str:
    """Text from data, on one line, with everything that Markdown or HTML would act on escaped."""
    line = " ".join(str(value).split())
    escaped = re.sub(r"([\\`*_\[\]<>|&~!])", r"\\\1", line)
    return re.sub(r"^#", r"\\#", escaped)  # a heading only at the start of a line
