"""`daybreak runs`: looking at runs, leaving notes, copying and removing them."""

from __future__ import annotations

import json as json_module
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daybreak.cli.show import say, table
from daybreak.errors import UserError
from daybreak.lab.codec import plain
from daybreak.lab.home import Lab
from daybreak.lab.run import Run, read_last


def ls(*, system: str = "", state: str = "", json: bool = False) -> None:
    """List runs, the newest last.

    Args:
        system: only this system's.
        state: only runs in this state.
        json: print JSON.
    """
    rows = []
    for run in Run.all(Lab.open()):
        now = run.state()
        if (system and run.info.recipe.split(":")[0] != system) or (state and now.word != state):
            continue
        reached = list(run.evaluated().values())
        changed = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in run.info.difference.items())
        rows.append(
            {
                "run": run.title, "name": run.info.name, "state": now.word, "step": now.step,
                run.info.goal.get("name", "goal"): reached[-1] if reached else None, "changed": changed,
                "owner": run.info.owner,
            }
        )  # fmt: skip
    columns = list(dict.fromkeys(key for row in rows for key in row)) or ["run"]
    table(rows, columns, json=json)


def show(run: str, /, *, json: bool = False) -> None:
    """Show what a run is, where it stands and what it reached.

    Args:
        run: an id, a number, or a title such as music:small#41.
        json: print JSON.
    """
    found = Run.find(Lab.open(), run)
    state = found.state()
    about = {
        "run": found.title,
        "folder": str(found.path),
        "state": state.text,
        "info": vars(found.info),
        "evaluated": found.evaluated(),
        "notes": [event for event in found.events() if event["event"] == "note"],
        "result": found.result(),
    }
    print(json_module.dumps(plain(about), indent=None if json else 1, default=str))


def compare(a: str, b: str, /, *, step: int = 0, json: bool = False) -> None:
    """Say whether run B is better than run A, on the same items at equal steps.

    Args:
        a: the run to compare against.
        b: the run that may be better.
        step: the step to compare at; else the last that both evaluated.
        json: print JSON.
    """
    from daybreak.lab.compare import paired, words

    lab = Lab.open()
    first, second = Run.find(lab, a), Run.find(lab, b)
    common = sorted(set(first.evaluated()) & set(second.evaluated()))
    if not common:
        raise UserError(f"{first.title} and {second.title} were never evaluated at the same step")
    at = step or common[-1]
    if at not in common:
        raise UserError(f"step {at} was not evaluated by both; there is: {', '.join(map(str, common[-8:]))}")
    from daybreak.lab.train import recipe_class

    goal = recipe_class(first).goal
    interval = paired(second.scores(at), first.scores(at), goal)
    said = words(interval)
    if json:
        print(json_module.dumps(plain({"step": at, "words": said, **vars(interval)}), default=str))
    else:
        print(f"{second.title} against {first.title} at step {at}: {said}")


def note(run: str, text: str, /, *, by: str = "") -> None:
    """Leave a note on a run for your colleagues.

    Args:
        run: the run.
        text: what you know.
        by: your name; else the account's.
    """
    import getpass

    Run.find(Lab.open(), run).event("note", by=by or getpass.getuser(), text=text)


def copy(run: str, to: Path, /) -> None:
    """Copy a run's folder elsewhere; it reads as what it was.

    Args:
        run: the run.
        to: a folder that is not there yet.
    """
    found = Run.find(Lab.open(), run)
    if to.exists():
        raise UserError(f"{to} exists; name a folder that is not there yet")
    shutil.copytree(found.path, to, ignore=shutil.ignore_patterns("*.part"))
    say(f"copied to {to}")


def rm(run: str, /, *, yes: bool = False) -> None:
    """Delete a run's folder.

    Args:
        run: the run.
        yes: really do it.
    """
    found = Run.find(Lab.open(), run)
    if not yes:
        raise UserError(f"{found.title} ({found.state().text}) would be deleted for ever; --yes does it")
    found.remove()
    say(f"deleted {found.title}")


def follow(run: str, /, *, every: float = 1.0) -> None:
    """Watch a run in the terminal until it ends.

    Args:
        run: the run.
        every: seconds between looks.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    found = Run.find(Lab.open(), run)

    def look() -> tuple[str, Text]:
        state = found.state()
        last: dict[str, Any] = read_last(found.path / "metrics.jsonl") or {}
        losses = [line["loss"] for line in found.metrics()[-2000:] if "loss" in line]
        lines = [f"{found.title}  {state.text}", _spark(losses)]
        lines += [f"  {key:<28} {value}" for key, value in last.items()]
        lines += [
            f"  {step:>10}  {found.info.goal.get('name')} {value:.5g}" for step, value in found.evaluated().items()
        ]
        return state.word, Text("\n".join(lines))

    word, text = look()
    with Live(text, console=Console(stderr=True), auto_refresh=False) as live:
        while word in ("running", "new"):
            time.sleep(every)
            word, text = look()
            live.update(text, refresh=True)


def _spark(values: list[float], width: int = 60) -> str:
    """A curve in one line of block characters."""
    finite = [value for value in values if value == value and abs(value) != float("inf")]
    if not finite:
        return ""
    size = max(1, len(finite) // width)
    means = [sum(finite[n : n + size]) / len(finite[n : n + size]) for n in range(0, len(finite), size)]
    low, high = min(means), max(means)
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * (m - low) / ((high - low) or 1)))] for m in means)


COMMANDS: dict[str, Callable[..., None]] = {
    "ls": ls, "show": show, "compare": compare, "note": note, "copy": copy, "rm": rm, "follow": follow,
}  # fmt: skip
