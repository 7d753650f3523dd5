"""From a name to a model: registered versions, aliases, shipped weights, runs and folders.

Using a model makes no lab folder and trains nothing. This file knows where models are; it knows nothing about gates.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from daybreak.errors import UserError, nearest
from daybreak.lab.home import Lab
from daybreak.lab.registry.store import PRODUCTION, find, models, versions
from daybreak.lab.run import Run
from daybreak.lab.system import systems

if TYPE_CHECKING:
    from daybreak.lab.model import Model


@dataclass(frozen=True)
class Place:
    """Where a model is, before it is loaded."""

    path: Path
    title: str
    note: str = ""
    """What its user should know about the choice; empty where it was plain."""


def locate(lab: Lab | None, text: str) -> Place:
    """Where the model is that `text` names.

    "music@3" and "music@production" are registered versions; "music" alone is, in this order: its production, the
    weights that its system ships, its newest version, the newest finished run of the system. Else `text` is a run, or
    the folder of a saved model. Raises `UserError` saying what would work.
    """
    if "@" in text and not os.path.exists(text):
        if lab is None:
            raise UserError(f"there is no lab here, and so no registered model {text!r}")
        version = find(lab, text)
        return Place(version.path, version.title)
    usual = {usual_name(name, model): (name, model) for name, found in systems().items() for model in found.models}
    if text in usual:
        return _usual(lab, text, *usual[text])
    if lab is not None and versions(lab, text):
        version = find(lab, text)
        return Place(version.path, version.title)
    if text in systems():
        raise UserError(f"system {text} has no model to use")
    path = Path(text)
    for folder in (path, path / "final"):
        if (folder / "config.json").is_file():
            return Place(folder, text)
    if lab is not None and re.fullmatch(r"\d+|\d+-[\w-]+|.+#\d+", text):
        run = Run.find(lab, text)
        if not (run.path / "final" / "config.json").exists():
            raise UserError(f"{run.title} has no model to use: {run.state().text}")
        return Place(run.path / "final", run.title)
    known = [*usual, *(models(lab) if lab is not None else ())]
    raise UserError(f"{text!r} is no registered model, run or folder of a saved model; {nearest(text, known)}")


def open_model(lab: Lab | None, text: str) -> Model:
    """Load the model that `text` names (see `locate`)."""
    from daybreak.lab.model import Model

    return Model.load(locate(lab, text).path)


def usual_name(name: str, model: str) -> str:
    """What a system's model is called where nobody named it: SYSTEM, or SYSTEM-MODEL for all but its first."""
    return name if model == next(iter(systems()[name].models), "") else f"{name}-{model}"


def shipped(name: str, model: str) -> Path | None:
    """The weights that come with a system: `weights/NAME/` in its package, or beside it in a checkout."""
    spec = find_spec(systems()[name].models[model].partition(":")[0].partition(".")[0])
    if spec and spec.origin:
        package = Path(spec.origin).parent
        for root in (package, package.parent):
            folder = root / "weights" / usual_name(name, model)
            if (folder / "config.json").is_file():
                return folder
    return None


def _usual(lab: Lab | None, text: str, name: str, model: str) -> Place:
    """The model that is meant where a system's model is named and no version."""
    there = versions(lab, text) if lab is not None else []
    for version in there:
        if PRODUCTION in version.aliases:
            return Place(version.path, version.title)
    if folder := shipped(name, model):
        return Place(folder, f"{text} (shipped weights)")
    if there:
        return Place(there[-1].path, there[-1].title)
    for run in reversed(Run.all(lab) if lab is not None else []):
        about = run.path / "final" / "config.json"
        if (
            run.info.recipe.startswith(f"{name}:")
            and about.exists()
            and json.loads(about.read_text())["model"] == model
        ):
            note = f"no {text} is registered: using the newest finished run, {run.title}"
            return Place(run.path / "final", run.title, note)
    recipes = ", ".join(f"{name}:{recipe}" for recipe in systems()[name].recipes)
    raise UserError(f"there is no {text} to use yet; train one: daybreak train {name} (recipes: {recipes})")
