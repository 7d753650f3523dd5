"""How the commands print: tables, records and words.

What a program needs goes to stdout, what a person needs to stderr. A table is drawn on a terminal, aligned plain text
in a pipe, and JSON when asked. Text from data may be hostile, so that control characters never reach a terminal. This
file knows nothing about what it prints.
"""

from __future__ import annotations

import json as jsonlib
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from daybreak.lab.codec import plain


def say(text: str) -> None:
    """A message for a person, on stderr. Newlines stay; other control characters are shown, not sent."""
    print("\n".join(clean(line) for line in str(text).split("\n")), file=sys.stderr, flush=True)


def table(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str] | Mapping[str, str] | None = None,
    *,
    json: bool = False,
    empty: str = "",
) -> None:
    """Print rows to stdout.

    Args:
        rows: one mapping a row.
        columns: the keys to show, in order; a mapping gives each its heading. None shows the keys of the first row.
        json: print a JSON list instead, with every key of every row.
        empty: what to say (on stderr) where there are no rows.
    """
    rows = list(rows)
    if json:
        print(to_json(rows))
        return
    if not rows:
        if empty:
            say(empty)
        return
    headings = dict(columns) if isinstance(columns, Mapping) else {key: key for key in columns or rows[0]}
    cells = [[cell(row.get(key)) for key in headings] for row in rows]
    right = [_numeric(row.get(key) for row in rows) for key in headings]
    if sys.stdout.isatty():
        _draw(list(headings.values()), cells, right)
    else:
        for line in aligned([list(headings.values()), *cells], right):
            print(line)


def record(fields: Mapping[str, Any], *, json: bool = False) -> None:
    """Print one thing to stdout: a line a field, nested fields indented; as a JSON object when asked."""
    if json:
        print(to_json(fields))
        return
    for line in _record(fields, ""):
        print(line)


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr where it is a terminal: call with what is done and all there is."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(escape(clean(what)), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def to_json(value: Any) -> str:
    """JSON as every command prints it: numbers that are not finite, paths and times as strings."""
    return jsonlib.dumps(plain(_simple(value)), indent=1, ensure_ascii=False, allow_nan=False)


def cell(value: Any) -> str:
    """A value in a few characters, on one line: "-" for nothing, four significant digits for a float."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="minutes")
    if isinstance(value, Mapping):
        return ", ".join(f"{clean(str(key))} {cell(item)}" for key, item in value.items()) or "-"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(cell(item) for item in value) or "-"
    return clean(str(value))


def clean(text: str) -> str:
    """The text with control, direction-changing and undecodable characters shown as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def width(text: str) -> int:
    """Columns that the text takes on a terminal: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def aligned(lines: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Columns of text, two spaces apart; `right` says which are aligned to the right."""
    widths = [max(width(line[i]) for line in lines) for i in range(len(right))]
    found = []
    for line in lines:
        parts = []
        for text, most, to_right in zip(line, widths, right, strict=True):
            space = " " * (most - width(text))
            parts.append(space + text if to_right else text + space)
        found.append("  ".join(parts).rstrip())
    return found


def _numeric(values: Iterable[Any]) -> bool:
    kinds = [isinstance(v, (int, float)) and not isinstance(v, bool) for v in values if v is not None]
    return bool(kinds) and all(kinds)


def _draw(headings: list[str], cells: list[list[str]], right: list[bool]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading, to_right in zip(headings, right, strict=True):
        drawn.add_column(Text(heading), justify="right" if to_right else "left", overflow="fold")
    for line in cells:
        drawn.add_row(*(Text(text) for text in line))
    Console(no_color="NO_COLOR" in os.environ).print(drawn)


def _record(fields: Mapping[str, Any], indent: str) -> list[str]:
    names = {key: clean(str(key)) for key in fields}
    most = max((width(name) for name in names.values()), default=0)
    lines = []
    for key, value in fields.items():
        name = names[key]
        many = isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value)
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}{name}", *_record(value, indent + "  ")]
        elif many:
            lines += [f"{indent}{name}", *(f"{indent}  {cell(item)}" for item in value)]
        else:
            lines.append(f"{indent}{name}{' ' * (most - width(name))}  {cell(value)}")
    return lines


def _simple(value: Any) -> Any:
    """What JSON can hold: paths, times and other values as their text."""
    if isinstance(value, Mapping):
        return {str(key): _simple(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_simple(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
