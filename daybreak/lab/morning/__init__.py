"""The morning: what a team reads at ten. Words first, then numbers, then pictures.

`write_morning` gathers a night into one plain dict, writes it as data.json, and makes the page and the log from it
alone. `decide` carries out what the page proposed; `post` sends it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daybreak.errors import UserError
from daybreak.lab.morning import proposals

if TYPE_CHECKING:
    from daybreak.lab.home import Lab

__all__ = ["data_of", "decide", "parse_date", "write_morning"]

LARGEST = 5_000_000
"""Bytes of a page."""
MEDIA = 3_800_000
"""Characters of embedded sounds and pictures to begin with; curves and words take the rest."""


def write_morning(lab: Lab, date: date | None = None, now: float | None = None) -> Path:
    """Write the morning of a date: index.html, log.md and data.json in daily/<date>/. Returns the page's path.

    Args:
        lab: the lab's folder.
        date: the local date on which the night ended; today by default.
        now: epoch seconds; the present by default.

    Raises:
        UserError: a date in the future, or a folder that cannot be written.
    """
    from daybreak.lab.morning.collect import collect
    from daybreak.lab.morning.page import render

    budget = MEDIA
    moment = time.time() if now is None else now
    while True:
        data = collect(lab, date, moment, budget)
        page = render(data)
        over = len(page.encode()) - LARGEST
        if over <= 0 or budget == 0:
            return _write(lab, data, page)
        budget = max(0, budget - over - 50_000)


def decide(lab: Lab, ids: Sequence[str], by: str = "") -> list[dict[str, Any]]:
    """Carry out proposals by the ids on a page, and strike them out there. Twice does nothing twice.

    Returns:
        A line each: id, text, state ("done" or "done before"), result.

    Raises:
        UserError: an id that no page knows, or what the command behind it says; those before it are done.
    """
    from daybreak.lab.morning.page import render

    try:
        return proposals.decide(lab, ids, by)
    finally:
        done = proposals.decisions(lab)
        for page in sorted(lab.daily.glob("*/index.html")):
            try:
                data = data_of(page)
            except (OSError, ValueError):  # an old page that lost its data stays as it is
                continue
            stale = [
                p for p in data.get("proposals", ())
                if p["state"] == "open" and done.get(p["digest"], {}).get("state") == "done"
            ]  # fmt: skip
            for proposal in stale:
                proposal["state"] = "done"
            if stale:
                _write(lab, data, render(data))


def _write(lab: Lab, data: dict[str, Any], page: str) -> Path:
    """Write the three files of a morning."""
    from daybreak.lab.home import write_whole
    from daybreak.lab.morning.log import log

    folder = lab.daily / data["date"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "data.json", (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())
        write_whole(folder / "log.md", log(data).encode())
        write_whole(folder / "index.html", page.encode())
    except OSError as error:
        raise UserError(f"cannot write the morning to {folder}: {error.strerror or error}") from error
    return Path(folder / "index.html")


def parse_date(text: str) -> date | None:
    """A date as people write it; None for no text. Raises `UserError`."""
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UserError(f"{text!r} is not a date; 2026-11-22 is") from None


def data_of(page: Path) -> dict[str, Any]:
    """The data that a page was made from."""
    found: dict[str, Any] = json.loads((page.parent / "data.json").read_text())
    return found
