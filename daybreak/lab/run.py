"""A run's folder: what it is, what it wrote, and its state, read off the disk and never stored beside it.

Files hold one JSON value a line. `log()` has returned means that the line survives the process's death. This file
knows nothing about training; it needs no torch.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from daybreak.errors import UserError, nearest
from daybreak.lab import lock
from daybreak.lab.codec import number, plain
from daybreak.lab.home import Lab, sync_folder, write_json

if TYPE_CHECKING:
    from daybreak.lab.lake import Snapshot

Word = Literal[
    "new", "running", "finished", "crashed", "elsewhere",
    "deadline", "stopped", "pruned", "diverged", "quarantined", "refused", "failed",
]  # fmt: skip
TERMINAL = ("deadline", "stopped", "pruned", "diverged", "quarantined", "refused", "failed")
"""Events after which a run no longer runs. `deadline` and `stopped` go on when it is trained again."""


@dataclass(frozen=True)
class State:
    """What the disk says about a run."""

    word: Word
    text: str
    """One line for a person."""
    step: int


@dataclass(frozen=True)
class RunInfo:
    """What is known before a run starts: run.json."""

    id: str
    number: int
    recipe: str
    """ "SYSTEM:RECIPE"."""
    preset: str = ""
    name: str = ""
    """Free text from a person."""
    config: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None
    difference: Mapping[str, Any] = field(default_factory=dict)
    """Config fields that differ from the parent's: dotted name -> [parent's, this run's]."""
    snapshot: str = ""
    owner: str = ""
    second: str = ""
    created: str = ""
    job: str = ""
    code: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    world: int = 1
    goal: Mapping[str, str] = field(default_factory=dict)
    clock: str = "steps"


@dataclass(frozen=True)
class Judged:
    """How a run's recipe wants it to be judged: judged.json, written when training begins."""

    progress: Mapping[str, str] = field(default_factory=lambda: {"name": "loss", "better": "lower", "unit": ""})
    """The value logged at updates that tells whether training gets on."""
    task: str = ""
    """What runs must have in common to be compared, beside recipe and goal."""
    right: Sequence[Sequence[Any]] = ()
    """When an item is right, by values of its own: [name, better, bound]."""
    references: Sequence[Sequence[Any]] = ()
    """Published curves to draw beside the run's goal: [name, [[clock, value], ...]]."""


@dataclass(frozen=True)
class ScoreRow:
    """One line of scores.jsonl."""

    step: int
    split: str
    item: str
    group: str
    values: Mapping[str, float]
    sample: Mapping[str, str]
    natural: Mapping[str, str]


class Lines:
    """An append-only file of JSON lines. One write a line: what was appended survives the process."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self._drop_unfinished()
        self._encode: Callable[[Any], str] = json.JSONEncoder(allow_nan=False, separators=(", ", ": ")).encode

    def append(self, line: Mapping[str, Any]) -> None:
        """Write one line. Raises OSError when the disk is full."""
        try:
            text = self._encode(line)
        except ValueError:
            text = self._encode(plain(line))
        data = (text + "\n").encode()
        written = os.write(self._handle, data)
        if written != len(data):
            raise OSError(28, f"wrote {written} of {len(data)} bytes: no space left on device")

    def _drop_unfinished(self) -> None:
        """Cut a last line that a crash left without its end: what is appended would be glued to it."""
        size = self.size()
        back = min(size, 4096)
        while back:
            tail = os.pread(self._handle, back, size - back)
            end = tail.rfind(b"\n") + 1
            if end or back == size:
                if end < back:
                    os.ftruncate(self._handle, size - back + end)
                return
            back = min(size, 16 * back)

    def size(self) -> int:
        """Bytes written so far."""
        return os.fstat(self._handle).st_size

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


class Log:
    """A run's metrics, to append to."""

    def __init__(self, run: Run) -> None:
        self._lines = Lines(run.path / "metrics.jsonl")

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Log one step's values. Deterministic values only; times belong to system.jsonl."""
        self._lines.append({"step": step, **values})

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()


class Run:
    """A run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            about = json.loads((path / "run.json").read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is not a run's folder: run.json: {error}") from error
        known = {f.name for f in fields(RunInfo)}
        self.info = RunInfo(**{key: value for key, value in about.items() if key in known})

    @classmethod
    def create(
        cls,
        lab: Lab,
        *,
        recipe: str,
        config: Any,
        preset: str = "",
        parent: Run | None = None,
        snapshot: str = "",
        name: str = "",
        owner: str = "",
        second: str = "",
        job: str = "",
        threads: int = 0,
        goal: Mapping[str, str] | None = None,
        clock: str = "steps",
    ) -> Run:
        """Make a run's folder, whole. `config` is the recipe's Config; `threads` 0: see `usual_threads`."""
        from daybreak.lab.config import difference
        from daybreak.lab.surroundings import code, hardware, usual_threads, versions

        number = _next_number(lab)
        kind = re.sub(r"[^a-z0-9]+", "-", f"{recipe.split(':')[0]}-{preset or recipe.split(':')[-1]}".lower())
        held = config.model_dump(mode="json")
        found = code(recipe)
        diff = found.pop("patch", "")
        about = {
            "version": 1,
            "id": f"{number}-{kind.strip('-')}",
            "number": number,
            "name": name,
            "recipe": recipe,
            "preset": preset,
            "config": held,
            "parent": parent.id if parent else None,
            "difference": difference(dict(parent.info.config), held) if parent else {},
            "snapshot": snapshot,
            "owner": owner,
            "second": second,
            "created": datetime.now().astimezone().isoformat(timespec="seconds"),
            "job": job,
            "code": found,
            "versions": versions(recipe),
            "hardware": hardware(),
            "threads": threads or usual_threads(),
            "world": 1,
            "goal": dict(goal or {}),
            "clock": clock,
        }
        making = lab.runs / f".{about['id']}"
        making.mkdir()
        for folder in ("samples", "checkpoints"):
            (making / folder).mkdir()
        if diff:
            (making / "code.diff").write_text(diff)
        write_json(making / "run.json", plain(about))
        making.rename(lab.runs / str(about["id"]))
        sync_folder(lab.runs)
        return cls(lab.runs / str(about["id"]))

    @classmethod
    def all(cls, lab: Lab) -> list[Run]:
        """Every run, by number."""
        found = [cls(path) for path in lab.runs.iterdir() if re.match(r"\d+-", path.name)]
        return sorted(found, key=lambda run: run.number)

    @classmethod
    def find(cls, lab: Lab, text: str) -> Run:
        """The run that an id, a number, or "music:small#41" names. Raises `UserError` with the nearest."""
        number = re.fullmatch(r"(?:.*#)?(\d+)", text.strip())
        for path in lab.runs.iterdir():
            if path.name == text or (number and path.name.startswith(f"{number[1]}-")):
                return cls(path)
        names = [path.name for path in lab.runs.iterdir() if not path.name.startswith(".")]
        raise UserError(f"there is no run {text!r}; {nearest(text, names)}")

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.info.id

    @property
    def number(self) -> int:
        """The number that the lab gave it."""
        return self.info.number

    @property
    def title(self) -> str:
        """Short name for a person: "music:small#41"."""
        system, _, recipe = self.info.recipe.partition(":")
        return f"{system}:{self.info.preset or recipe}#{self.number}"

    def state(self) -> State:
        """Read the state off the disk."""
        events = self.events()
        last = events[-1] if events else {}
        step = max((int(event.get("step") or 0) for event in events), default=0)
        if (self.path / "final").is_dir():
            result = self.result() or {}
            return State("finished", f"finished at step {result.get('step', step)}", int(result.get("step", step)))
        if tail := read_last(self.path / "metrics.jsonl"):
            step = max(step, int(tail["step"]))
        who = lock.holder(self.path / "lock")
        if who and who.live:
            return State("running", f"running: {who}", step)
        word = next((e["event"] for e in reversed(events) if e["event"] in (*TERMINAL, "started", "resumed")), "")
        if word in TERMINAL:
            last = next(e for e in reversed(events) if e["event"] == word)
            reason = last.get("reason") or last.get("error") or ""
            return State(
                cast(Word, word), f"{word} at step {last.get('step', step)}{f': {reason}' if reason else ''}", step
            )
        if not word:
            return State("new", "not started", 0)
        if who and not who.here:
            clock = time.strftime("%H:%M", time.localtime(who.since))
            return State("elsewhere", f"was running on {who.host} at {clock}", step)
        return State("crashed", f"crashed after step {step}", step)

    @contextmanager
    def own(self) -> Iterator[None]:
        """Hold the run. Raises `UserError` when another process does."""
        with lock.hold(self.path / "lock", self.title):
            yield

    def log(self) -> Log:
        """The run's metrics, to append to: `with run.log() as log: log(step, {"loss": 1.0})`."""
        return Log(self)

    def event(self, word: str, **values: Any) -> None:
        """Append an event, durably."""
        lines = Lines(self.path / "events.jsonl")
        try:
            lines.append({"time": time.time(), "event": word, **values})
            os.fsync(lines._handle)
        finally:
            lines.close()

    def metrics(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl, in order; numbers are floats again."""
        return [
            {k: number(v) if k != "step" else v for k, v in line.items()} for line in read(self.path / "metrics.jsonl")
        ]

    def windows(self) -> list[dict[str, Any]]:
        """Lines of system.jsonl: times and memory."""
        return list(read(self.path / "system.jsonl"))

    def events(self) -> list[dict[str, Any]]:
        """Lines of events.jsonl."""
        return list(read(self.path / "events.jsonl"))

    def scores(self, step: int | None = None, split: str = "validation") -> list[ScoreRow]:
        """Scores at a step; without one, all of them. What later lines say of an item is joined to its first."""
        found: dict[tuple[int, str], ScoreRow] = {}
        for line in read(self.path / "scores.jsonl"):
            if line["split"] != split or step not in (None, line["step"]):
                continue
            row = ScoreRow(
                line["step"], line["split"], line["item"], line["group"],
                {k: number(v) for k, v in line["values"].items()}, line.get("sample", {}), line.get("natural", {}),
            )  # fmt: skip
            held = found.setdefault((row.step, row.item), row)
            if held is not row:
                found[row.step, row.item] = replace(held, values={**held.values, **row.values})
        return list(found.values())

    def evaluated(self) -> dict[int, float]:
        """The goal's value at each step that was wholly evaluated."""
        key = f"validation/{self.info.goal.get('name', '')}"
        return {
            line["step"]: number(line[key]) for line in read(self.path / "metrics.jsonl", '"validation/') if key in line
        }

    def result(self) -> dict[str, Any] | None:
        """What a finished run reached."""
        try:
            found: dict[str, Any] = json.loads((self.path / "final" / "result.json").read_text())
        except OSError:
            return None
        return found

    def checkpoints(self) -> list[Path]:
        """Checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*"))

    def planned(self) -> int:
        """Updates that it will make: its steps, or fewer where its budget on the clock ends first at the rate so far.
        0 where nothing tells yet."""
        steps, budget = int(self.info.config.get("steps") or 0), self.info.config.get("budget")
        if not budget:
            return steps
        last = next((w for w in reversed(self.windows()) if w.get("clock")), None)
        return min(steps, math.ceil(float(budget) * int(last["step"]) / float(last["clock"]))) if last else 0

    def judged(self) -> Judged:
        """How its recipe wants it to be judged; by its loss, where it never began."""
        try:
            return Judged(**json.loads((self.path / "judged.json").read_text()))
        except FileNotFoundError:
            return Judged()

    def snapshot(self, lab: Lab) -> Snapshot:
        """The snapshot that it trains on; an empty one for a recipe that makes its own data."""
        from daybreak.lab.lake import Snapshot

        if not self.info.snapshot:
            return Snapshot.none(lab, self.info.recipe.partition(":")[0])
        return Snapshot.open(lab, self.info.snapshot)

    def remove(self) -> None:
        """Delete the folder. Raises `UserError` while it runs."""
        with self.own():
            gone = self.path.with_name(f".gone-{self.id}")
            self.path.rename(gone)
        shutil.rmtree(gone)


def read(path: Path, having: str = "") -> Iterator[dict[str, Any]]:
    """The whole lines of a file of JSON lines; a last line that was cut short by a crash is left out.

    With `having`, lines without that text are skipped unparsed.
    """
    needle = having.encode()
    try:
        with open(path, "rb") as file:
            # Many lines at once: parsing a list is twice as fast as parsing its elements one by one.
            while lines := file.readlines(2**18):
                whole = [line for line in lines if line.endswith(b"\n") and needle in line]
                yield from json.loads(b"[" + b",".join(whole) + b"]")
                if not lines[-1].endswith(b"\n"):
                    return  # the line is being written: its end would read as a line
    except FileNotFoundError:
        return


def read_last(path: Path) -> dict[str, Any] | None:
    """The last whole line of a file of JSON lines, without reading the rest."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            for back in (4096, 65536, size):
                file.seek(max(0, size - back))
                lines = file.read().split(b"\n")[:-1]
                if len(lines) > 1 or (lines and back >= size):
                    return dict(json.loads(lines[-1]))
    except (FileNotFoundError, ValueError):
        pass
    return None


def best(values: Mapping[int, float], better: str) -> int | None:
    """The step of the best finite value; the first among equals."""
    finite = {step: value for step, value in values.items() if math.isfinite(value)}
    if not finite:
        return None
    sign = 1 if better == "lower" else -1
    return min(finite, key=lambda step: (sign * finite[step], step))


def _next_number(lab: Lab) -> int:
    """A number that no run of this lab had before, also when processes ask at once."""
    import fcntl

    with open(lab.runs / ".number", "a+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        file.seek(0)
        number = int(file.read().strip() or 0) + 1
        taken = [int(m[1]) for p in lab.runs.iterdir() if (m := re.match(r"\.?(\d+)-", p.name))]
        number = max([number, *(n + 1 for n in taken)])
        file.truncate(0)
        file.write(str(number))
        file.flush()
        os.fsync(file.fileno())
    return number
