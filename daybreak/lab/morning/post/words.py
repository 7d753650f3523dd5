"""What a message about a morning says, in as many words as a service takes. It knows the data; it sends nothing.

Nothing is cut silently: what does not fit is counted in a sentence, and the link stands under it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape
from typing import Any

from daybreak.lab.codec import number
from daybreak.lab.morning.figures import duration, figure
from daybreak.lab.morning.verdict import difference


@dataclass(frozen=True)
class Message:
    """A morning in a few words."""

    title: str
    paragraphs: tuple[str, ...]
    """The headline and the verdict."""
    decisions: tuple[tuple[str, str], ...]
    """What is open to decide: the command, and what it does."""
    link: str
    """An address that a browser opens, or a host and a path."""
    cut: str = ""
    """The sentence about what is left out."""

    @property
    def reachable(self) -> bool:
        """Whether the link is an address on the web."""
        return self.link.startswith(("https://", "http://"))

    def text(self, plain: Callable[[str], str] = str) -> str:
        """The words without the title. `plain` takes from data what the service would act on."""
        parts = [plain(paragraph) for paragraph in self.paragraphs]
        if self.decisions:
            parts.append("\n".join(f"{plain(command)}: {plain(what)}" for command, what in self.decisions))
        return "\n\n".join([*parts, *([self.cut] if self.cut else []), self.link])

    def fitted(self, size: Callable[[Message], int], most: int) -> Message:
        """The same message in at most `most`, as `size` counts: decisions go first, from the end, then sentences."""
        if size(self) <= most:
            return self
        for kept in range(len(self.decisions) - 1, -1, -1):
            held = replace(self, decisions=self.decisions[:kept], cut=self._cut(len(self.decisions) - kept, 0))
            if size(held) <= most:
                return held
        for kept in range(len(self.paragraphs) - 1, -1, -1):
            cut = self._cut(len(self.decisions), len(self.paragraphs) - kept)
            held = replace(self, paragraphs=self.paragraphs[:kept], decisions=(), cut=cut)
            if size(held) <= most:
                return held
        return replace(self, paragraphs=(), decisions=(), cut=self._cut(len(self.decisions), len(self.paragraphs)))

    def _cut(self, decisions: int, paragraphs: int) -> str:
        told = []
        if paragraphs:
            told.append(f"{paragraphs} of {len(self.paragraphs)} sentences")
        if decisions:
            told.append(f"{decisions} of {len(self.decisions)} things to decide")
        return f"Not shown here, for the length that this service takes: {' and '.join(told)}. The page has all of it."


def message(data: Mapping[str, Any], link: str) -> Message:
    """The message of a morning's data."""
    return Message(
        title=f"daybreak, {data['day']}",
        paragraphs=(data["headline"], *(sentence["text"] for sentence in data["verdict"])),
        decisions=tuple((p["command"], p["text"]) for p in data["proposals"] if p["state"] == "open"),
        link=link,
    )


def letter(data: Mapping[str, Any], told: Message, pictures: Mapping[str, str] | None = None, more: str = "") -> str:
    """The message as XHTML that mail programs, OneNote and Matrix show: no style sheet, no script, no SVG.

    Args:
        data: the morning's data, for the table of runs.
        told: the words.
        pictures: what a picture shows -> its address; they stand under the table.
        more: XHTML that comes last.
    """
    parts = [f"<p>{escape(paragraph)}</p>" for paragraph in told.paragraphs]
    if told.decisions:
        parts.append("<h2>Decide</h2>")
        items = (f"<li><b>{escape(command)}</b>: {escape(what)}</li>" for command, what in told.decisions)
        parts.append(f"<ul>{''.join(items)}</ul>")
    parts += [_runs(data, group) for group in data["groups"]]
    parts += [
        f'<p><img src="{escape(source)}" alt="{escape(what)}" width="900" /></p>'
        for what, source in (pictures or {}).items()
    ]
    if told.cut:
        parts.append(f"<p>{escape(told.cut)}</p>")
    link = escape(told.link)
    parts.append(f'<p>The page: <a href="{link}">{link}</a></p>' if told.reachable else f"<p>The page: {link}</p>")
    return "\n".join([*parts, more])


def _runs(data: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    """The runs of a group as a table."""
    goal, reference = group["goal"], group["reference"]
    held = f"against #{reference['number']}" if reference else "against"
    rows = [["run", "changed", goal["name"] or "goal", held, "state", "cost"]]
    for row in data["runs"]:
        if row["id"] in group["runs"]:
            found = row["against"]
            versus = "-"
            if found:
                numbers = {key: number(found[key]) for key in ("difference", "low", "high")}
                versus = f"{difference({**found, **numbers}, group['places'])} {found['verdict']}"
            score = None if row["score"] is None else number(row["score"])
            changed = ", ".join(f"{key} {old} → {new}" for key, old, new in row["difference"])
            rows.append(
                [row["title"], changed or "-", figure(score, group["places"]), versus, row["state"],
                 duration(row["cost_s"])]
            )  # fmt: skip
    lines = ["".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows]
    lines[0] = lines[0].replace("<td>", "<td><b>").replace("</td>", "</b></td>")
    table = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<h2>{escape(group["recipe"])}</h2>\n<table border="1" cellpadding="4">{table}</table>'


def made(data: Mapping[str, Any]) -> str:
    """When the morning was cut, as ISO 8601 with the local offset."""
    return datetime.fromtimestamp(float(data["to"])).astimezone().isoformat(timespec="seconds")


def discord(text: str) -> str:
    """Text that Discord shows as it is: its Markdown escaped, and nobody called by an @."""
    escaped = re.sub(r"([\\*_~`|>\[\]()#-])", r"\\\1", text)
    return escaped.replace("@", "@\u200b").replace("<", "\\<")
