"""Copies the rows that the README shows out of RESULTS.md, so that no figure is typed by hand."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
COLUMNS = ("what", "ours", "beside", "bar")
SECTION = re.compile(r"(<!-- results: [^>]*-->\n).*?(<!-- /results -->)", re.S)


def rows(text: str) -> list[dict[str, str]]:
    """Every row of every table of RESULTS.md, that promises something."""
    found, head = [], None
    for line in text.splitlines():
        if not line.startswith("|"):
            head = None
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if head is None:
            head = cells
        elif not set(line) <= set("|- "):
            found.append(dict(zip(head, cells, strict=True)))
    return [row for row in found if row["bar"]]


def merged(found: list[dict[str, str]]) -> list[list[str]]:
    """A line a figure: its peers side by side, its bars with whether they hold."""
    lines: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for row in found:
        peers, bars = lines.setdefault((row["what"], f"{row['ours']} {row['unit']}"), ([], []))
        peers += [row["peer"]] * bool(row["peer"])
        bar = f"{row['bar']}: {row['holds']}"
        bars += [bar] * (bar not in bars)
    return [[what, ours, "; ".join(peers), "; ".join(bars)] for (what, ours), (peers, bars) in lines.items()]


def main() -> None:
    """Write the README's table: what has a peer, and what falls short. With --check, fail where it is not what
    RESULTS.md says."""
    every = merged(rows((HERE / "RESULTS.md").read_text()))
    shown = [cells for cells in every if cells[2] or "falls short" in cells[3] or "not run" in cells[3]]
    lines = ["| " + " | ".join(cells) + " |" for cells in [list(COLUMNS), ["---"] * len(COLUMNS), *shown]]
    text = README.read_text()
    body = "\n".join(lines) + f"\n\nThe other {len(every) - len(shown)} figures have no peer, and hold.\n"
    made = SECTION.sub(lambda match: match[1] + body + match[2], text)
    if "--check" in sys.argv:
        sys.exit(made != text)
    README.write_text(made)


if __name__ == "__main__":
    main()
