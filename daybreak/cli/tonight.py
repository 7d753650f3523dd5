"""`daybreak tonight` and `daybreak night`: the queue, and working through it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from daybreak.cli import show
from daybreak.errors import UserError


def add(*rest: str) -> None:
    """Queue an experiment: SYSTEM[:PRESET] [--from RUN] [--CONFIG.FIELD value] ...

    Args:
        rest: what to train, the queue's own flags, and the recipe's config flags; a value may be log(A,B),
            uniform(A,B), int(A,B) or one(A,B,...).
    """
    words = list(rest)
    if "--help" in words or "-h" in words:
        return _help(words)
    as_json = "--json" in words
    from daybreak.lab.home import Lab
    from daybreak.lab.night.add import add as queue

    lab = Lab.open()
    jobs = queue(lab, [word for word in words if word != "--json"])
    _table(lab, jobs, as_json)


def ls(*, all: bool = False, json: bool = False) -> None:
    """What is queued, in its order.

    Args:
        all: also what is over.
        json: print JSON.
    """
    from daybreak.lab.home import Lab
    from daybreak.lab.night.queue import OPEN, Tonight

    lab = Lab.open()
    with Tonight(lab) as tonight:
        jobs = list(tonight.jobs()) if all else list(tonight.jobs(*OPEN, "quarantined", "refused"))
    _table(lab, jobs, json, "nothing is queued; `daybreak tonight add music:small` queues a run")


def rm(job: int, /, *rest: str) -> None:
    """Take jobs out of the queue; their runs stay.

    Args:
        job: its number.
        rest: more of them.
    """
    from daybreak.lab.home import Lab
    from daybreak.lab.night.queue import Tonight

    numbers = [job]
    for word in rest:
        if not word.isdigit():
            raise UserError(f"tonight rm: {word!r} is not a job's number; `daybreak tonight ls` shows them")
        numbers.append(int(word))
    with Tonight(Lab.open()) as tonight:
        for number in numbers:
            held = tonight.remove(number)
            show.say(f"job {number} {held.title} is out of the queue{f'; {held.run} stays' if held.run else ''}")


def edit(job: int, /, *rest: str) -> None:
    """Change a waiting job: --priority, --after, --wants, --not-before, --name, --owner, --second, config flags.

    Args:
        job: its number.
        rest: flags as `tonight add` takes them; --after none and --not-before none take them away.
    """
    from daybreak.lab.home import Lab
    from daybreak.lab.night.add import edit as change

    lab = Lab.open()
    _table(lab, [change(lab, job, [word for word in rest if word != "--json"])], "--json" in rest)


def up(job: int, /) -> None:
    """Put a job first; one that was quarantined or refused gets a new chance.

    Args:
        job: its number.
    """
    from daybreak.lab.home import Lab
    from daybreak.lab.night.queue import Tonight

    with Tonight(Lab.open()) as tonight:
        held = tonight.up(job)
    show.say(f"job {job} {held.title} goes first (priority {held.priority})")


COMMANDS: dict[str, Callable[..., None]] = {"add": add, "ls": ls, "rm": rm, "edit": edit, "up": up}


def night(*, workers: int = 1, until: str = "", for_: str = "", forever: bool = False) -> None:
    """Work through the queue until it is empty, a time, or for ever.

    Args:
        workers: runs at once; the cores are shared among them.
        until: when to stop: 09:30 (the next one) or 2026-11-23T09:30. Runs are scored before it.
        for_: how long instead (--for): 90s, 3m, 8h.
        forever: go on until stopped; the page is cut each morning at ten.
    """
    from daybreak.lab.home import Lab
    from daybreak.lab.night.clock import end_of_night
    from daybreak.lab.night.supervisor import Night

    moment = end_of_night(until, for_, time.time())
    if forever and moment is not None:
        raise UserError("night: --forever has no end; leave out --until and --for")
    report = _Live() if sys.stderr.isatty() else _Plain()
    lab = Lab.open()
    made = Night(lab, workers=workers, until=moment, forever=forever, report=report)
    many = "1 worker" if workers == 1 else f"{workers} workers"
    report.say(f"night on {lab.root} with {many}, {_ending(moment, forever, made.deadline.left)}")
    with report:
        ended = made.run()
    if not ended and not made.begun:
        return show.say("the night is over: no job could start; `daybreak tonight ls` tells what waits for what")
    shown = ", ".join(f"{count} {word}" for word, count in sorted(ended.items())) or "no job ended"
    show.say(f"the night is over: {shown}; `daybreak morning` tells what was learned")


class _Plain:
    """Lines on stderr."""

    every = 30.0

    def __init__(self) -> None:
        self._next = time.monotonic() + self.every

    def __enter__(self) -> _Plain:
        return self

    def __exit__(self, *_: object) -> None: ...

    def say(self, text: str) -> None:
        # The night goes on when its terminal is gone.
        try:
            show.say(f"{time.strftime('%H:%M:%S')} {text}")
        except OSError:
            return

    def show(self, rows: Sequence[Mapping[str, Any]], waiting: int, left: float) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.every
        for row in rows:
            self.say(f"job {row['job']} {row['run']} {_progress(row)}")


class _Live(_Plain):
    """A table that is redrawn in place."""

    def __enter__(self) -> _Live:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, rows: Sequence[Mapping[str, Any]], waiting: int, left: float) -> None:
        from rich.table import Table
        from rich.text import Text

        from daybreak.lab.night.clock import span

        rest = "" if left == float("inf") else f", {span(left)} left"
        drawn = Table(box=None, pad_edge=False, header_style="bold", caption=f"{waiting} waiting{rest}")
        for heading in ("job", "run", "name", "step", "loss", "left"):
            drawn.add_column(heading, justify="right" if heading in ("job", "step", "loss", "left") else "left")
        for row in rows:
            loss = "-" if row["loss"] is None else f"{row['loss']:.4g}"
            eta = "-" if row["eta"] is None else span(row["eta"])
            cells = (row["job"], row["run"], row["name"], f"{row['step']}/{row['steps']}", loss, eta)
            drawn.add_row(*(Text(show.clean(str(value))) for value in cells))
        try:
            self._live.update(drawn, refresh=True)
        except OSError:
            return


def _progress(row: Mapping[str, Any]) -> str:
    from daybreak.lab.night.clock import span

    loss = "" if row["loss"] is None else f", loss {row['loss']:.4g}"
    eta = "" if row["eta"] is None else f", {span(row['eta'])} left"
    return f"step {row['step']} of {row['steps']}{loss}{eta}"


def _table(lab: Any, jobs: Sequence[Any], as_json: bool, empty: str = "") -> None:
    from daybreak.lab.night.add import listed

    rows = listed(lab, jobs)
    columns = ("job", "what", "changes", "state", "run", "priority", "why", "owner")
    show.table(rows, columns, json=as_json, empty=empty)


def _help(words: Sequence[str]) -> None:
    from daybreak.lab.config import describe, leaves, lookup
    from daybreak.lab.night.add import Order

    print("daybreak tonight add SYSTEM[:PRESET] [--from RUN] [flags]: queue an experiment\n")
    spec = words[0] if not words[0].startswith("-") else ""
    models: list[Any] = [Order, *([lookup(spec).cls.Config] if spec else [])]
    for model in models:
        for flag, info in leaves(model).items():
            name = "from" if model is Order and flag == "parent" else flag.replace("_", "-")
            print(f"  --{name:<20} {describe(info)}: {info.description or ''}")
    if not spec:
        print("\nName a system to see its config's flags too, as in: daybreak tonight add music --help")


def _ending(until: float | None, forever: bool, left: float) -> str:
    """When a night ends, in words."""
    from daybreak.lab.night.clock import span, words

    if forever:
        return "until it is stopped"
    return "until the queue is empty" if until is None else f"until {words(until)} ({span(left)})"
