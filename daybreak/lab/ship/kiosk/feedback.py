"""What visitors agree to give comes home: an item of the lake with consent, licence, provenance and an end.

Items stand under "SYSTEM-feedback", so that no snapshot of SYSTEM has them unasked. Nothing is kept without consent. It
knows the lake; it draws nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from daybreak.errors import UserError
from daybreak.lab.codec import plain
from daybreak.lab.home import Lab
from daybreak.lab.lake import Draft, Lake
from daybreak.lab.system import systems
from daybreak.media import Media

SUFFIX = "-feedback"
LONGEST = 2000
"""Letters of a note."""


@dataclass(frozen=True)
class Feedback:
    """What one visitor says about one answer."""

    system: str
    version: str
    """Which version answered: "music@3"."""
    action: str
    request: Any
    answer: Any
    thumb: str
    """"up", "down" or ""."""
    note: str = ""
    corrected: Mapping[str, bytes] = field(default_factory=dict)
    """What should have come out: "text", or a file by its name."""
    visitor: str = "nobody"
    """A number of the visit, not of the person: it keeps what one visitor gave in one split."""


def keep(lab: Lab, given: Feedback, consent: str, *, days: int, licence: str) -> date:
    """Add feedback to the lake, and tell until when it stays.

    `consent` is the sentence that the visitor agreed to. Raises `UserError` without it, and for feedback that says
    nothing.
    """
    if not consent.strip():
        raise UserError("without consent nothing is kept")
    if not (given.thumb or given.note.strip() or given.corrected):
        raise UserError("there is nothing to keep yet: a thumb, a note or a correction")
    if len(given.note) > LONGEST:
        raise UserError(f"a note has at most {LONGEST} letters, not {len(given.note)}")
    now = datetime.now(UTC)
    end = (now + timedelta(days=days)).date()
    parts: dict[str, bytes] = {}
    about = {
        "request": _apart(given.request, "request", parts),
        "answer": _apart(given.answer, "answer", parts),
        "thumb": given.thumb,
        "note": given.note,
        "corrected": sorted(given.corrected),
        "time": now.isoformat(timespec="seconds"),
    }
    parts |= {f"corrected.{name}": data for name, data in given.corrected.items()}
    data = json.dumps(plain(about), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    labels = {"version": given.version, "action": given.action, "thumb": given.thumb, "expires": end.isoformat()}
    draft = Draft(f"{given.action}-{now:%Y%m%dT%H%M%S}", f"visit-{given.visitor}", {"data": data, **parts}, labels)
    lake = Lake.open(lab)
    try:
        done = lake.add(given.system + SUFFIX, [draft], licence=licence, source="kiosk", consent=consent)
    finally:
        lake.close()
    if done.broken:
        raise UserError(done.broken[0].reason)
    return end


def expire(lab: Lab, today: date) -> int:
    """Remove the feedback whose time is over. How many items went."""
    lake, gone = Lake.open(lab), 0
    try:
        for name in systems():
            for item in list(lake.items(name + SUFFIX)):
                end = str(item.labels.get("expires", ""))
                if end and end < today.isoformat():
                    lake.remove(item.id, who="kiosk", why=f"consent ended on {end}")
                    gone += 1
    finally:
        lake.close()
    return gone


def _apart(value: Any, way: str, parts: dict[str, bytes]) -> Any:
    """The value as plain JSON; its media go into `parts`, under the way to them."""
    if isinstance(value, Media):
        parts[way] = value.to_bytes()
        return {"part": way, "mime": value.mime}
    if isinstance(value, BaseModel):
        return {key: _apart(getattr(value, key), f"{way}.{key}", parts) for key in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): _apart(item, f"{way}.{key}", parts) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_apart(item, f"{way}.{n}", parts) for n, item in enumerate(value)]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
