"""Tonight's queue: jobs in one SQLite file, every change of which is on the disk before it is acknowledged.

It knows jobs, their order and their history. A run's folder is the truth about the run; a row only mirrors it. This
file knows nothing about processes, and imports no recipe.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from daybreak.errors import UserError, nearest
from daybreak.lab.database import change, connect
from daybreak.lab.engines import Wants
from daybreak.lab.home import Lab

VERSION = 1
State = Literal["waiting", "running", "finished", "pruned", "diverged", "quarantined", "refused"]
OPEN = ("waiting", "running")
AGAIN = ("quarantined", "refused")
"""States out of which `up` brings a job back."""

SCHEMA = """
CREATE TABLE queue (token TEXT NOT NULL);
CREATE TABLE jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  recipe TEXT NOT NULL, preset TEXT NOT NULL, config TEXT NOT NULL, parent TEXT NOT NULL, snapshot TEXT NOT NULL,
  goal TEXT NOT NULL, clock TEXT NOT NULL, name TEXT NOT NULL, owner TEXT NOT NULL, second TEXT NOT NULL,
  priority INTEGER NOT NULL, after TEXT NOT NULL, wants TEXT NOT NULL, not_before REAL,
  sweep INTEGER REFERENCES sweeps(id), trial INTEGER NOT NULL, created REAL NOT NULL,
  state TEXT NOT NULL, reason TEXT NOT NULL, run TEXT NOT NULL, night TEXT NOT NULL,
  tries INTEGER NOT NULL, failures INTEGER NOT NULL, barren INTEGER NOT NULL, ended REAL,
  base TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX jobs_in_order ON jobs (state, priority DESC, id);
CREATE TABLE sweeps (id INTEGER PRIMARY KEY AUTOINCREMENT, space TEXT NOT NULL, seed INTEGER NOT NULL);
CREATE TABLE nights (
  id TEXT PRIMARY KEY, started REAL NOT NULL, until REAL, workers INTEGER NOT NULL, ended REAL
)
"""


@dataclass(frozen=True)
class Job:
    """One run to make, or that was made."""

    recipe: str
    """ "SYSTEM:RECIPE"."""
    config: Mapping[str, Any]
    preset: str = ""
    parent: str = ""
    """The run that it derives from."""
    snapshot: str = ""
    goal: Mapping[str, str] = field(default_factory=dict)
    clock: str = "steps"
    name: str = ""
    owner: str = ""
    second: str = ""
    priority: int = 0
    """Higher goes first."""
    after: tuple[int, ...] = ()
    """Jobs that must have finished."""
    wants: Wants = field(default_factory=Wants)
    not_before: float | None = None
    """Seconds since the epoch."""
    sweep: int | None = None
    trial: int = 0
    id: int = 0
    created: float = 0.0
    state: State = "waiting"
    reason: str = ""
    run: str = ""
    night: str = ""
    """The night that set it aside: it goes on in another."""
    tries: int = 0
    failures: int = 0
    barren: int = 0
    """Failures since the last new checkpoint."""
    ended: float | None = None
    base: Mapping[str, Any] = field(default_factory=dict)
    """The parent's or the preset's config, which its own is to be read against."""

    @property
    def title(self) -> str:
        """Short name for a person: "music:small"."""
        system, _, recipe = self.recipe.partition(":")
        return f"{system}:{self.preset or recipe}"


_COLUMNS = (
    "id", "recipe", "preset", "config", "parent", "snapshot", "goal", "clock", "name", "owner", "second", "priority",
    "after", "wants", "not_before", "sweep", "trial", "created", "state", "reason", "run", "night", "tries", "failures",
    "barren", "ended", "base",
)  # fmt: skip
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM jobs"


class Tonight:
    """The queue of a lab. Any number of processes may have it open."""

    def __init__(self, lab: Lab) -> None:
        self.path = lab.root / "tonight.sqlite"
        self._connection = connect(self.path, SCHEMA, VERSION)
        if "base" not in {row[1] for row in self._connection.execute("PRAGMA table_info(jobs)")}:
            with self._change():
                self._connection.execute("ALTER TABLE jobs ADD COLUMN base TEXT NOT NULL DEFAULT '{}'")
        self._connection.execute("CREATE TABLE IF NOT EXISTS once (key TEXT PRIMARY KEY, jobs TEXT NOT NULL)")
        row = self._connection.execute("SELECT token FROM queue").fetchone()
        if row is None:
            with self._change():
                if self._connection.execute("SELECT token FROM queue").fetchone() is None:
                    self._connection.execute("INSERT INTO queue VALUES (?)", (secrets.token_hex(4),))
            row = self._connection.execute("SELECT token FROM queue").fetchone()
        self._token = str(row[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Tonight:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def key(self, job: Job) -> str:
        """What a run records as its job: unlike any job of another queue that this lab had."""
        return f"{job.id}-{self._token}"

    def version(self) -> tuple[int, int]:
        """Changes whenever anybody has changed the queue."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0]), self._connection.total_changes

    # Reading.

    def jobs(self, *states: str) -> Iterator[Job]:
        """Jobs in the order in which they go: by priority, then first come. All of them, or those in some states."""
        where = f" WHERE state IN ({', '.join('?' * len(states))})" if states else ""
        for row in self._connection.execute(f"{_SELECT}{where} ORDER BY priority DESC, id", states):
            yield _job(row)

    def waiting(self, now: float, night: str) -> Iterator[Job]:
        """Jobs whose time has come and that this night has not set aside, in their order, one by one."""
        ask = f"{_SELECT} WHERE state = 'waiting' AND night != ? AND (not_before IS NULL OR not_before <= ?)"
        for row in self._connection.execute(f"{ask} ORDER BY priority DESC, id", (night, now)):
            yield _job(row)

    def later(self, now: float, night: str) -> float | None:
        """The next moment at which a waiting job's time comes; seconds since the epoch."""
        ask = "SELECT min(not_before) FROM jobs WHERE state = 'waiting' AND night != ? AND not_before > ?"
        found = self._connection.execute(ask, (night, now)).fetchone()[0]
        return None if found is None else float(found)

    def get(self, job: int) -> Job:
        """A job by its number. Raises `UserError` with the nearest ones."""
        row = self._connection.execute(f"{_SELECT} WHERE id = ?", (job,)).fetchone()
        if row is None:
            known = [str(r[0]) for r in self._connection.execute("SELECT id FROM jobs ORDER BY id DESC LIMIT 50")]
            raise UserError(f"there is no job {job}; {nearest(str(job), known)}")
        return _job(row)

    def blocked(self, job: Job) -> str:
        """Why a job's predecessors keep it waiting; empty where they do not."""
        for before in job.after:
            row = self._connection.execute("SELECT state FROM jobs WHERE id = ?", (before,)).fetchone()
            if row is not None and row[0] != "finished":
                return f"job {before} is {row[0]}" if row[0] not in OPEN else f"after job {before}"
        return ""

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        return dict(self._connection.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())

    def siblings(self, job: Job) -> list[Job]:
        """The other jobs of its sweep, by trial."""
        ask = f"{_SELECT} WHERE sweep = ? AND id != ? ORDER BY trial"
        return [_job(row) for row in self._connection.execute(ask, (job.sweep, job.id))]

    def space(self, job: Job) -> tuple[dict[str, Any], int]:
        """Its sweep's search space and seed."""
        space, seed = self._connection.execute("SELECT space, seed FROM sweeps WHERE id = ?", (job.sweep,)).fetchone()
        return json.loads(space), int(seed)

    def nights(self) -> list[dict[str, Any]]:
        """Nights, oldest first: id, started, until, workers, ended; times in seconds since the epoch."""
        rows = self._connection.execute("SELECT id, started, until, workers, ended FROM nights ORDER BY started")
        return [dict(zip(("id", "started", "until", "workers", "ended"), row, strict=True)) for row in rows]

    # Changing. Each is one transaction.

    def add(
        self, jobs: Sequence[Job], space: Mapping[str, Any] | None = None, seed: int = 0, once: str = ""
    ) -> list[Job]:
        """Queue jobs, all or none. With `space` they are the trials of one sweep.

        What was queued under the key `once` is not queued again: the jobs of then are returned, those that are left.
        """
        with self._change():
            row = self._connection.execute("SELECT jobs FROM once WHERE key = ?", (once,)).fetchone()
            if row is not None:
                known = {job.id: job for job in self.jobs()}
                return [known[number] for number in json.loads(row[0]) if number in known]
            sweep = None
            if space is not None:
                ask = "INSERT INTO sweeps (space, seed) VALUES (?, ?)"
                sweep = self._connection.execute(ask, (json.dumps(dict(space)), seed)).lastrowid
            added = []
            for trial, job in enumerate(jobs):
                if sweep is not None:
                    job = replace(job, sweep=sweep, trial=trial)
                for before in job.after:
                    self.get(before)
                row = _row(replace(job, created=time.time()))
                del row["id"]
                ask = f"INSERT INTO jobs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
                added.append(self._connection.execute(ask, tuple(row.values())).lastrowid or 0)
            if once:
                self._connection.execute("INSERT INTO once VALUES (?, ?)", (once, json.dumps(added)))
        return [self.get(job) for job in added]

    def change(self, job: Job, **values: Any) -> Job:
        """Set fields of a job that is not running. Raises `UserError` when it is."""
        with self._change():
            held = self.get(job.id)
            if held.state == "running":
                raise UserError(f"job {job.id} is running as {held.run}; stop the night first")
            for before in values.get("after", ()):
                if self._leads_to(self.get(before), job.id):
                    raise UserError(f"job {job.id} cannot wait for job {before}, which waits for it")
            self._set(replace(held, **values))
        return self.get(job.id)

    def remove(self, job: int) -> Job:
        """Take a job out of the queue; its run stays. Raises `UserError` where it runs or another waits for it."""
        with self._change():
            held = self.get(job)
            if held.state == "running":
                raise UserError(f"job {job} is running as {held.run}; stop the night first")
            needing = next((other for other in self.jobs("waiting") if job in other.after), None)
            if needing is not None and held.state != "finished":
                raise UserError(f"job {needing.id} waits for job {job}; remove or edit that one first")
            self._connection.execute("DELETE FROM jobs WHERE id = ?", (job,))
        return held

    def up(self, job: int) -> Job:
        """Put a job before all others; one that was quarantined or refused gets a new chance."""
        with self._change():
            held = self.get(job)
            if held.state not in ("waiting", *AGAIN):
                raise UserError(f"job {job} is {held.state}; only waiting, quarantined and refused jobs can go up")
            most = self._connection.execute(
                "SELECT max(priority) FROM jobs WHERE state IN ('waiting', 'running') AND id != ?", (job,)
            ).fetchone()[0]
            priority = max(held.priority, 0 if most is None else most + 1)
            if held.state in AGAIN:
                held = replace(held, failures=0, barren=0, reason="")
            self._set(replace(held, priority=priority, state="waiting", night="", ended=None))
        return self.get(job)

    def claim(self, job: Job) -> Job | None:
        """Take a waiting job to run it; None where somebody was faster."""
        with self._change():
            ask = "UPDATE jobs SET state = 'running', reason = '', tries = tries + 1 WHERE id = ? AND state = 'waiting'"
            if self._connection.execute(ask, (job.id,)).rowcount != 1:
                return None
        return self.get(job.id)

    def has_run(self, job: Job, run: str, config: Mapping[str, Any]) -> Job:
        """Record the run that was made for a job, with the config that it was made with."""
        with self._change():
            self._set(replace(self.get(job.id), run=run, config=config))
        return self.get(job.id)

    def end(self, job: Job, state: State, reason: str = "") -> None:
        """A job is over."""
        with self._change():
            self._set(replace(self.get(job.id), state=state, reason=reason, ended=time.time()))

    def back(self, job: Job, reason: str = "", *, night: str = "", failed: bool = False, barren: bool = False) -> Job:
        """A job waits again: set aside by a night, or after a failure, with or without a new checkpoint."""
        with self._change():
            held = self.get(job.id)
            if failed:
                held = replace(held, failures=held.failures + 1, barren=held.barren + 1 if barren else 0)
            self._set(replace(held, state="waiting", reason=reason, night=night))
        return self.get(job.id)

    def explain(self, job: Job, reason: str) -> None:
        """Say why a waiting job waits."""
        if reason != job.reason:
            with self._change():
                ask = "UPDATE jobs SET reason = ? WHERE id = ? AND state = 'waiting'"
                self._connection.execute(ask, (reason, job.id))

    def begin_night(self, until: float | None, workers: int) -> str:
        """Record that a night begins. Returns its id."""
        night = secrets.token_hex(4)
        with self._change():
            ask = "INSERT INTO nights VALUES (?, ?, ?, ?, NULL)"
            self._connection.execute(ask, (night, time.time(), until, workers))
        return night

    def end_night(self, night: str) -> None:
        """Record that it is over."""
        with self._change():
            self._connection.execute("UPDATE nights SET ended = ? WHERE id = ?", (time.time(), night))

    def _leads_to(self, job: Job, other: int) -> bool:
        """Whether `job` is `other` or waits for it."""
        seen, ahead = set(), [job.id]
        while ahead:
            if (here := ahead.pop()) == other:
                return True
            if here not in seen:
                seen.add(here)
                row = self._connection.execute("SELECT after FROM jobs WHERE id = ?", (here,)).fetchone()
                ahead += json.loads(row[0]) if row else []
        return False

    def _set(self, job: Job) -> None:
        row = _row(job)
        ask = f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in row)} WHERE id = ?"
        self._connection.execute(ask, (*row.values(), job.id))

    def _change(self) -> AbstractContextManager[None]:
        return change(self._connection, self.path)


def _job(row: Sequence[Any]) -> Job:
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in ("config", "goal", "base"):
        values[name] = json.loads(values[name])
    values["after"] = tuple(json.loads(values["after"]))
    values["wants"] = Wants.parse(values["wants"])
    return Job(**values)


def _row(job: Job) -> dict[str, Any]:
    values = {name: getattr(job, name) for name in _COLUMNS}
    for name in ("config", "goal", "base"):
        values[name] = json.dumps(dict(values[name]), allow_nan=False)
    values["after"] = json.dumps(list(job.after))
    values["wants"] = str(job.wants)
    return values
