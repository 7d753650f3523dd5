"""`daybreak registry`: models that passed their gates. Thin: `lab.registry` does the work."""

from __future__ import annotations

import getpass
from pathlib import Path

from daybreak.cli.show import bar, record, say, table


def add(run: str, /, *, name: str = "", by: str = "", json: bool = False) -> None:
    """Register a finished run, if it passes its gates on the test items.

    Args:
        run: the run: its id, its number or "music:small#41".
        name: the model's name; by default the system's.
        by: who asks, for the record; by default the user's name.
        json: print JSON.
    """
    from daybreak.lab import registry
    from daybreak.lab.home import Lab
    from daybreak.lab.run import Run

    lab = Lab.open()
    found = Run.find(lab, run)
    with bar(f"gates of {found.title}") as progress:
        version = registry.add(lab, found, name or None, by or _user(), progress)
    record(registry.show(version, lab), json=json)
    say(f"{found.title} is registered as {version.title}; to use it: daybreak registry promote {version.title}")


def ls(model: str = "", /, *, json: bool = False) -> None:
    """List the registered models and their versions.

    Args:
        model: only this one.
        json: print JSON.
    """
    from daybreak.lab import registry
    from daybreak.lab.home import Lab

    lab = Lab.open()
    names = [registry.find(lab, model).model] if model else registry.models(lab)
    rows = []
    for name in names:
        for version in registry.versions(lab, name):
            test = version.record["test"]
            goal = test.get("goal") or {}
            rows.append(
                {
                    "model": version.title,
                    "aliases": list(version.aliases),
                    "run": version.record["title"],
                    "goal": goal.get("name"),
                    "value": goal.get("value"),
                    "test items": test.get("items", 0),
                    "registered": version.record["created"],
                    "by": version.record["by"],
                }
            )
    table(rows, json=json, empty="no model is registered yet: daybreak registry add RUN")


def show(model: str, /, *, json: bool = False) -> None:
    """Show a version: its gates, and where it comes from.

    Args:
        model: MODEL, MODEL@VERSION or MODEL@ALIAS.
        json: print JSON.
    """
    from daybreak.lab import registry
    from daybreak.lab.home import Lab

    lab = Lab.open()
    record(registry.show(registry.find(lab, model), lab), json=json)


def promote(model: str, /, *, as_: str = "production", by: str = "") -> None:
    """Point an alias at a version.

    Args:
        model: MODEL@VERSION.
        as_: the alias.
        by: who decides, for the history; by default the user's name.
    """
    from daybreak.lab import registry
    from daybreak.lab.home import Lab

    version = registry.promote(Lab.open(), model, as_, by or _user())
    say(f"{version.model}@{as_} is {version.title}")


def rollback(model: str, /, *, as_: str = "production", by: str = "") -> None:
    """Point an alias at the version it pointed at before.

    Args:
        model: MODEL.
        as_: the alias.
        by: who decides, for the history; by default the user's name.
    """
    from daybreak.lab import registry
    from daybreak.lab.home import Lab

    version = registry.rollback(Lab.open(), model, as_, by or _user())
    say(f"{version.model}@{as_} is {version.title} again")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return ""


def measure(model: str, /, *, snapshot: str = "", json: bool = False) -> None:
    """Score a registered or shipped model on test items; the reading is recorded.

    Args:
        model: MODEL, MODEL@VERSION or the folder of packed weights.
        snapshot: whose test items; else all current items of the system.
        json: print JSON.
    """
    from daybreak.lab.home import Lab
    from daybreak.lab.registry import pack as packing

    lab = Lab.open()
    record(packing.measure(lab, packing.packed(lab, model), snapshot, _user()), json=json)


def pack(model: str, to: Path, /, *, half: bool = False) -> None:
    """Copy a version to where weights ship, with a card whose figures are measured on the copy.

    Args:
        model: MODEL@VERSION or MODEL@ALIAS.
        to: the folder to write, such as weights/music.
        half: 16-bit floats, half the size.
    """
    from daybreak.lab import registry
    from daybreak.lab.home import Lab
    from daybreak.lab.registry import pack as packing

    lab = Lab.open()
    made = packing.pack(lab, registry.find(lab, model), to, half, _user())
    say(f"packed into {made}")


COMMANDS = {
    "add": add, "ls": ls, "show": show, "promote": promote, "rollback": rollback, "measure": measure, "pack": pack,
}  # fmt: skip
