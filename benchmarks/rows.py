"""One row a claim: what was measured, ours, the peer's, the bar, and whether it holds.

This file knows how a benchmark is called, how its parts run (each in a process of its own, in turn), how its rows are
printed and how its section of RESULTS.md is written. It knows nothing about what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Literal

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
TITLE = """# Results

Written by the scripts in this folder, each its own section, by a full run (`python benchmarks/lab_step.py`).
A quick run (`--quick`, `make bench`) prints its rows and writes nothing here. CPU time unless a row says wall.
"""


@dataclass(frozen=True)
class Bar:
    """What must hold: our own value, or ours divided by the peer's, against a bound."""

    of: Literal["ours", "ratio"]
    sense: Literal["<=", ">=", "="]
    bound: float
    words: str = ""
    """The bound as a person writes it ("1/300"); by default the number."""

    def holds(self, value: float) -> bool:
        """Whether the value reaches the bar. A NaN never does."""
        if self.sense == "=":
            return value == self.bound
        return value <= self.bound if self.sense == "<=" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.of} {self.sense} {self.words or show(self.bound)}"


@dataclass(frozen=True)
class Row:
    """One claim. A value that was not measured is None and its bar never holds."""

    what: str
    unit: str
    ours: float | None
    bar: Bar | None = None
    """None: the row is there to be read, nothing is promised."""
    peer_name: str = ""
    peer: float | None = None
    note: str = ""
    """Conditions, or why it was not run."""

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's; infinite where the peer's is 0 and ours is not."""
        if self.ours is None or self.peer is None:
            return None
        if self.peer == 0:
            return 1.0 if self.ours == 0 else math.inf
        return self.ours / self.peer

    @property
    def holds(self) -> bool | None:
        """True or False for a bar that was measured; None for one that was not, or where there is no bar."""
        value = self.ours if self.bar is None or self.bar.of == "ours" else self.ratio
        return None if self.bar is None or value is None else self.bar.holds(value)

    @property
    def verdict(self) -> str:
        """The last column: "holds", "falls short", "not run", or nothing where nothing is promised."""
        if self.holds is None:
            measured = self.ours is not None and (self.peer is not None or not self.peer_name)
            return "" if self.bar is None and measured else "not run"
        return "holds" if self.holds else "falls short"

    def cells(self) -> list[str]:
        """The row as text, in the order of HEAD."""
        return [
            self.what,
            show(self.ours),
            f"{self.peer_name} {show(self.peer)}" if self.peer_name else "",
            self.unit,
            show(self.ratio),
            str(self.bar or ""),
            self.verdict,
            self.note,
        ]

    def plain(self) -> dict[str, Any]:
        """The row for JSON."""
        ratio = self.ratio
        return {
            "what": self.what,
            "ours": self.ours,
            "peer": self.peer_name,
            "peer_value": self.peer,
            "unit": self.unit,
            "ratio": ratio if ratio is None or math.isfinite(ratio) else "Infinity",
            "bar": str(self.bar or ""),
            "holds": "not run" if self.verdict == "not run" else self.holds,
            "note": self.note,
        }


HEAD = ["what", "ours", "peer", "unit", "ours/peer", "bar", "holds", "note"]


def show(value: float | None) -> str:
    """Three significant digits, no exponent for what a person reads at once."""
    if value is None or not math.isfinite(value):  # a ratio to a peer's zero
        return "-"
    if value == int(value) and abs(value) < 1e4:
        return str(int(value))
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.2g}"


# Running parts.


class PartError(Exception):
    """A part's process ended without an answer: its peer is not installed, or it failed."""


class Part:
    """A process that measures on demand: a generator function of the script, run by `python SCRIPT --part NAME ARGS`.

    Each call has it measure one more round and returns the value that it yields. So that rounds of ours and of a
    peer's can alternate, while each imports what it needs once and cannot disturb the other.
    """

    def __init__(self, name: str, *args: Any, threads: int = 1, script: str | None = None) -> None:
        self.name = name
        answer, ours = os.pipe()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        environment = {**os.environ, **OFFLINE, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, script or sys.argv[0], "--part", name, str(ours), json.dumps(args)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=[ours],
            env=environment,
            start_new_session=True,
        )
        os.close(ours)
        self._answers = os.fdopen(answer, "r")

    def __call__(self) -> Any:
        """Measure one more round. Raises `PartError` with the last line that the process printed."""
        self.begin()
        line = self._answers.readline()
        if not line:
            self.process.wait()
            raise PartError(self.last_words())
        return json.loads(line)

    def begin(self) -> None:
        """Have it measure, and do not wait for it."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()

    def last_words(self) -> str:
        """The last line that the process printed."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"{self.name} ended with {self.process.returncode} and said nothing"

    def kill(self) -> None:
        """`kill -9` of this process, and of no other."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """End the process and what it started. A peer's service may outlive its caller."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._answers.close()
        self._log.close()

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


OFFLINE = {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "PYTHONWARNINGS": "ignore",
}
"""Peers run on this machine alone, and measure nothing but the work."""


def once(name: str, *args: Any, threads: int = 1) -> Any:
    """One round of one part, in a process of its own."""
    with Part(name, *args, threads=threads) as part:
        return part()


def in_turn(parts: Mapping[str, Sequence[Any]], rounds: int, threads: int = 1, part: str = "") -> dict[str, list[Any]]:
    """Rounds of several parts (name -> arguments), in turn: a busy moment of the machine meets all of them.

    The function is the one of that name, or `part` for all. A part that fails is left out, with its last words on
    stderr, except "ours", whose failure is an error.
    """
    with contextlib.ExitStack() as stack:
        running = {
            name: stack.enter_context(Part(part or name, *args, threads=threads)) for name, args in parts.items()
        }
        values: dict[str, list[Any]] = {name: [] for name in running}
        for _ in range(rounds):
            for name in list(running):
                try:
                    values[name].append(running[name]())
                except PartError as error:
                    if name == "ours":
                        raise
                    say(f"{name} was not run: {error}")
                    del running[name], values[name]
    return values


def medians(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median round of each part."""
    return {name: statistics.median(rounds) for name, rounds in values.items()}


def say(text: str) -> None:
    """A line for the person who waits."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="daybreak-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


# The script's own command line.

Measure = Callable[[bool], Iterable[Row]]


def main(measure: Measure, parts: Mapping[str, Callable[..., Iterator[Any]]], packages: Sequence[str] = ()) -> None:
    """What every script ends with. `measure(quick)` gives the rows; `packages` are the peers whose versions to name.

    Exit code 1 where a bar falls short, and in a full run also where a bar was not measured.
    """
    if sys.argv[1:2] == ["--part"]:
        return _answer(parts[sys.argv[2]], int(sys.argv[3]), json.loads(sys.argv[4]))
    parser = argparse.ArgumentParser(description=(sys.modules["__main__"].__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--quick", action="store_true", help="about a minute; what is left out is marked as not run")
    options = parser.parse_args()
    began, load = time.time(), os.getloadavg()[0]
    rows = list(measure(options.quick))
    took = time.time() - began
    print(json.dumps([row.plain() for row in rows], indent=1) if options.json else table(rows))
    say(f"took {took:.0f} s")
    if not options.quick:
        write_section(Path(sys.argv[0]).stem, rows, packages, took, load)
    short = [row for row in rows if row.holds is False]
    missing = [row for row in rows if row.bar and row.holds is None and not options.quick]
    sys.exit(1 if short or missing else 0)


def _answer(part: Callable[..., Iterator[Any]], handle: int, args: Sequence[Any]) -> None:
    """The child's side of a `Part`: a value a line, one for each line read."""
    with os.fdopen(handle, "w") as answers:
        rounds = part(*args)
        for _ in sys.stdin:
            print(json.dumps(next(rounds)), file=answers, flush=True)


def table(rows: Iterable[Row]) -> str:
    """The rows for a terminal."""
    cells = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEAD))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def write_section(script: str, rows: Iterable[Row], packages: Sequence[str], took: float, load: float) -> None:
    """Write this script's section of RESULTS.md, and leave the others as they are."""
    text = RESULTS.read_text() if RESULTS.exists() else TITLE
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    body = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows)]
    lines = "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in body)
    about = (
        f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}, commit {commit()}, {took:.0f} s, "
        f"load {load:.1f} at the start. {machine()}; {versions(packages)}."
    )
    sections[script] = f"\n{about}\n\n{lines}\n\n"
    whole = TITLE + "\n" + "".join(f"## {name}\n\n{sections[name].strip()}\n\n" for name in sorted(sections))
    beside = RESULTS.with_suffix(".part")
    beside.write_text(whole.rstrip() + "\n")
    beside.replace(RESULTS)


def commit() -> str:
    """The commit measured, and whether the tree had other changes than these results."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(HERE), *args], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = [x for x in git("status", "--porcelain", "--", "..").splitlines() if not x.endswith(RESULTS.name)]
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with local changes" if changed else "")


def machine() -> str:
    """Processor, cores, memory, system."""
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        name = found[1] if found else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def versions(packages: Sequence[str]) -> str:
    """Versions of Python, torch and the peers."""
    found = [f"Python {platform.python_version()}"]
    for package in ("torch", *packages):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return ", ".join(found)
