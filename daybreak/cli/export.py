"""`daybreak export`: a model for other platforms. Thin: `lab.ship.export` does the work."""

from __future__ import annotations

import getpass
from pathlib import Path

from daybreak.cli.show import say, table
from daybreak.errors import UserError


def export(
    model: str = "",
    /,
    *,
    to: str = "onnx",
    precision: str = "fp32",
    out: Path | None = None,
    items: int = 0,
    setup: str = "",
    json: bool = False,
) -> None:
    """Convert a model for other platforms, with proof that it answers the same.

    Args:
        model: MODEL, MODEL@VERSION, MODEL@ALIAS, a run, or the folder of a saved model.
        to: targets, by commas: onnx, executorch, litert, coreml, page.
        precision: of the files, by commas: fp32, fp16, int8; the last two are scored on test items.
        out: where they go; by default into the registered version, else out/export/NAME.
        items: test items that a reduced precision is scored on; 0 is all of them.
        setup: make these targets' environments now, and export nothing.
        json: print JSON.
    """
    from daybreak.lab.home import Lab
    from daybreak.lab.registry import locate
    from daybreak.lab.ship import export as room

    if setup:
        from daybreak.lab.ship.export.environment import python

        for wanted in [room.target(name) for name in _split(setup)]:
            say(f"{wanted.name}: {python(wanted, say)}")
        return
    if not model:
        raise UserError("export: MODEL is missing: a registered model, a run, or the folder of a saved model")
    wanted_targets = _split(to)
    for name in wanted_targets:
        if name != "page":
            room.target(name)
    lab = Lab.existing()
    place = locate(lab, model)
    if place.note:
        say(place.note)
    exporter = room.Exporter(lab, place, room.exports_of(lab, place, out), items=items, by=_user(), say=say)
    try:
        made = exporter.run([name for name in wanted_targets if name != "page"], _split(precision))
        if "page" in wanted_targets:
            from daybreak.lab.ship.page import make

            made.append(make(exporter))
    except room.Differs as error:
        say(f"daybreak: {error}")
        raise SystemExit(1) from None
    rows = room.finish(exporter)
    table(rows, json=json)
    for one in made:
        say(str(one.path))


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return ""
