"""What was asked of a served version, day by day: counts in bins, on the disk, bounded, and never a word of it.

Requests of one client within ten minutes are one visit and weigh one together, however many they are: a thousand alike
requests of one loop are one piece of evidence. Who the client was is forgotten when its ten minutes are over. It knows
counts and folders; it knows nothing about services and tests.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from daybreak.lab.home import Lab, write_json
from daybreak.lab.ship.standing.traits import Traits, bin_of, traits

VERSION = 1
VISIT = 600.0
"""Seconds of a visit, and between two writes: what a killed service loses."""
MOST_VISITS = 10_000
"""Open at once; above it the oldest is closed early."""
MOST_WORDS = 200
"""Categories of one trait in a file; what comes after them counts as "other"."""
KEPT = 190
"""Days that a file stays."""
TITLE = re.compile(r"([a-z][a-z0-9_-]{0,63})@(\d+)")
"""What is recorded: registered versions alone."""
FILE = re.compile(r"(\d{4}-\d\d-\d\d)\.[0-9a-f]+\.json")

Bins = dict[int | str, float]
"""Weight by bin: a number's is its `bin_of`, a category's is its word."""


@dataclass
class Counts:
    """What one action was asked: visits, requests, and each trait's weights. The weights of a visit sum to one."""

    visits: float = 0.0
    requests: int = 0
    bins: dict[str, Bins] = field(default_factory=dict)

    def note(self, found: Traits, weight: float = 1.0) -> None:
        """Count one request, or one of many that weigh one together."""
        for name, value in found.items():
            bins = self.bins.setdefault(name, {})
            place = value if isinstance(value, str) else bin_of(value)
            if place not in bins and isinstance(place, str) and len(bins) >= MOST_WORDS:
                place = "other"
            bins[place] = bins.get(place, 0.0) + weight

    def add(self, other: Counts, weight: float = 1.0) -> None:
        """Add what another counted, each of its weights times `weight`."""
        self.visits += other.visits
        self.requests += other.requests
        for name, bins in other.bins.items():
            mine = self.bins.setdefault(name, {})
            for place, count in bins.items():
                mine[place] = mine.get(place, 0.0) + count * weight

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        bins = {
            name: [[place, round(count, 6)] for place, count in bins.items()]
            for name, bins in sorted(self.bins.items())
        }
        return {"visits": self.visits, "requests": self.requests, "bins": bins}

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Counts:
        """From `plain`."""
        bins = {name: {place: float(count) for place, count in pairs} for name, pairs in value["bins"].items()}
        return cls(float(value["visits"]), int(value["requests"]), bins)


Actions = dict[str, Counts]
"""By action."""


class Recorder:
    """Counts what a service is asked. Each process writes files of its own, whole, so that any number may serve."""

    def __init__(self, lab: Lab, clock: Callable[[], float] = time.time) -> None:
        self.lab, self.clock = lab, clock
        self._token = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._visits: dict[tuple[str, str, str], tuple[float, Counts]] = {}
        self._days: dict[tuple[str, str], Actions] = {}
        """By version and date, what this process has counted so far."""
        self._changed: set[tuple[str, str]] = set()

    def note(
        self, client: str, title: str, action: str, request: BaseModel, known: Mapping[str, Any] | None = None
    ) -> None:
        """Count a request. `title` is the version that answers: what is no registered version is not counted."""
        if not TITLE.fullmatch(title):
            return
        found = traits(request, known)
        now = self.clock()
        key = (client, title, action)
        with self._lock:
            held = self._visits.get(key)
            if held is not None and now - held[0] >= VISIT:
                self._close(key)
                held = None
            if held is None:
                if len(self._visits) >= MOST_VISITS:
                    self._close(next(iter(self._visits)))
                held = self._visits[key] = (now, Counts())
            held[1].requests += 1
            held[1].note(found)

    def flush(self, all: bool = False) -> None:
        """Close the visits whose time is over, or all of them, and write what was counted."""
        with self._lock:
            now = self.clock()
            for key in [key for key, (began, _) in self._visits.items() if all or not 0 <= now - began < VISIT]:
                self._close(key)
            changed = {key: {name: c.plain() for name, c in self._days[key].items()} for key in self._changed}
            self._changed.clear()
            # A day stays until its last visit is closed: the file is written whole.
            open_ = _day(now - 3 * VISIT).isoformat()
            self._days = {key: held for key, held in self._days.items() if key[1] >= open_ or key in changed}
        for (title, day), actions in changed.items():
            folder = folder_of(self.lab, title)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / f"{day}.{self._token}.json", {"version": VERSION, "actions": actions})

    def _close(self, key: tuple[str, str, str]) -> None:
        """A visit is over: it weighs one. The lock is held."""
        began, counts = self._visits.pop(key)
        _, title, action = key
        place = (title, _day(began).isoformat())
        counts.visits = 1.0
        held = self._days.setdefault(place, {}).setdefault(action, Counts())
        held.add(counts, 1 / counts.requests)
        self._changed.add(place)


def folder_of(lab: Lab, title: str) -> Path:
    """Where what was asked of "music@3" stands."""
    model, _, version = title.partition("@")
    return lab.root / "served" / model / version


def served(
    lab: Lab, title: str, first: date | None = None, last: date | None = None, broken: list[str] | None = None
) -> dict[date, Actions]:
    """What was asked of a version on each day between two dates, both included; days without requests are not there.

    A file that cannot be read (a disk's fault: they are written whole) counts for nothing, and its name goes into
    `broken`.
    """
    found: dict[date, Actions] = {}
    for path, day in _files(lab, title):
        if (first and day < first) or (last and day > last):
            continue
        try:
            about = json.loads(path.read_text())
            told = {name: Counts.of(one) for name, one in about["actions"].items()}
        except (OSError, ValueError, KeyError, TypeError):
            if broken is not None:
                broken.append(path.name)
            continue
        for action, counts in told.items():
            found.setdefault(day, {}).setdefault(action, Counts()).add(counts)
    return dict(sorted(found.items()))


def forget(lab: Lab, title: str, today: date) -> None:
    """Delete files of days that are long over."""
    for path, day in _files(lab, title):
        if day < today - timedelta(days=KEPT):
            path.unlink(missing_ok=True)


def _files(lab: Lab, title: str) -> Iterable[tuple[Path, date]]:
    folder = folder_of(lab, title)
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        if match := FILE.fullmatch(path.name):
            yield path, date.fromisoformat(match[1])


def today(now: float) -> date:
    """The date in UTC, by which days are counted, of a moment in epoch seconds."""
    return _day(now)


def _day(moment: float) -> date:
    return datetime.fromtimestamp(moment, UTC).date()
