"""A model's actions as commands: `daybreak music compose --bpm 80 -o out/`, derived from the action's types alone.

Fields of the request are flags. Media of the response are written to files, the rest is JSON on stdout with paths in
the media's place. Which weights answer is said on stderr. This file knows types; it knows no system.
"""

from __future__ import annotations

import json
import shutil
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from daybreak.cli.show import aligned, cell, clean, say, to_json
from daybreak.errors import UserError, nearest
from daybreak.lab.codec import plain
from daybreak.lab.config import build, describe, leaves, split_flags
from daybreak.lab.home import Lab
from daybreak.lab.limits import unknown
from daybreak.lab.model import Action, Model
from daybreak.lab.registry import locate, usual_name
from daybreak.lab.system import System, resolve, system
from daybreak.media import Media

OWN = {
    "model": FieldInfo(
        annotation=str, description="Which weights: a registered model, a run, or a folder.", default=""
    ),
    "out": FieldInfo(annotation=Path, description="Folder for the files of the answer (also -o).", default=Path("out")),
}


def run_action(name: str, argv: Sequence[str]) -> None:
    """Run `daybreak NAME ARGV...`: an action of one of the system's models, or one of its commands."""
    found = system(name)
    words = list(argv)
    if not words or words[0] in ("--help", "-h"):
        print("\n".join(overview(found)))
        return
    word, *rest = words
    if word in found.commands:
        from daybreak.cli.front import call

        call(_import(found, found.commands[word]), rest, f"{name} {word}")
        return
    there = actions(found)
    if word not in there:
        raise UserError(f"{name}: unknown action {word!r}; {nearest(word, [*there, *found.commands])}")
    model, cls, action = there[word]
    where = f"{name} {word}"
    if "--help" in rest or "-h" in rest:
        print("\n".join(help_page(where, cls, action, _limits(cls, usual_name(name, model), rest))))
        return
    flags = _flags(cls, action)
    given, left = split_flags(rest, flags, where)
    if left:
        raise UserError(f"{where}: unexpected {left[0]!r}; values are given by flags, as --{next(iter(flags))}")
    own = {flag: given.pop(flag)[-1] for flag in [*OWN, *cls.resources] if flag in given}
    request = build(action.request, given, None, where)
    place = locate(Lab.existing(), own.get("model") or usual_name(name, model))
    if place.note:
        say(place.note)
    loaded = cls.load(place.path).open(**{name: own[name] for name in cls.resources if name in own})
    _check_limits(request, loaded.describe(), where)
    say(f"{where}: {place.title}")
    out = Path(own.get("out", "out"))
    answer = getattr(loaded, action.method)(request)
    if action.streams:
        for count, event in enumerate(answer, 1):
            line = Written(out, f"{count}-").answer(event)
            print(json.dumps(plain(line), ensure_ascii=False, allow_nan=False), flush=True)
        return
    written = Written(out)
    print(to_json(written.answer(answer)))
    if written.paths:
        say(f"{len(written.paths)} files in {out}/")


def actions(found: System) -> dict[str, tuple[str, type[Model], Action]]:
    """The system's actions by the word that calls them: their name, or MODEL.NAME where an earlier model has it."""
    there: dict[str, tuple[str, type[Model], Action]] = {}
    for model, target in found.models.items():
        cls: type[Model] = _import(found, target)
        for name, action in cls.actions().items():
            there[f"{model}.{name}" if name in there else name] = (model, cls, action)
    return there


def overview(found: System) -> list[str]:
    """What `daybreak SYSTEM` prints: its actions, commands and recipes."""
    rows: list[tuple[str, list[list[str]]]] = [
        ("actions", [[word, action.line] for word, (_, _, action) in actions(found).items()]),
        ("commands", [[word, _line(_import(found, target))] for word, target in found.commands.items()]),
        ("recipes", [[f"{found.name}:{word}", _recipe_line(_import(found, t))] for word, t in found.recipes.items()]),
    ]
    lines = [f"{found.name}: {found.line}", ""]
    for title, cells in rows:
        if cells:
            lines += [title, *(f"  {line}" for line in aligned(cells, [False, False])), ""]
    lines.append(f"daybreak {found.name} ACTION --help tells more; daybreak train RECIPE trains.")
    return lines


def help_page(where: str, cls: type[Model], action: Action, limits: Mapping[str, Any]) -> list[str]:
    """What `daybreak SYSTEM ACTION --help` prints: flags with type, range, text, and the limits of the weights."""
    flags = _flags(cls, action)
    indent = max(len(flag) for flag in flags) + 6
    width = max(40, shutil.get_terminal_size((100, 24)).columns - indent - 2)
    lines = [f"daybreak {where}: {action.line}", ""]
    for flag, info in flags.items():
        words = [f"{describe(info)}.", info.description or "", f"({_default(action, flag, info)})"]
        if flag in limits:
            words.insert(2, f"These weights: {cell(limits[flag])}.")
        first, *others = textwrap.wrap(" ".join(filter(None, words)), width)
        lines.append(f"  --{flag.replace('_', '-')}".ljust(indent) + first)
        lines += [" " * indent + line for line in others]
    more = {key: value for key, value in limits.items() if key not in flags}
    if more:
        lines += ["", "these weights", *(f"  {clean(key)}: {cell(value)}" for key, value in more.items())]
    return lines


class Written:
    """Turns an answer into plain values, writing its media into a folder.

    A file is named by the way to its field, joined with dashes. A list counts from one, under its name without a final
    s. The last field's name is left out where no other media beside it has the same suffix and the way is not empty:
    `clips[0].midi` and `clips[0].sound` are `clip-1.mid` and `clip-1.wav`, a lone `sound` is `sound.wav`.
    """

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self.folder, self.prefix = folder, prefix
        self.paths: list[Path] = []

    def answer(self, value: Any, way: tuple[str, ...] = ()) -> Any:
        """The value with the paths of written files in place of its media."""
        if isinstance(value, Media):
            return self._write(value, way or ("answer",))
        if isinstance(value, BaseModel):
            return self._fields({name: getattr(value, name) for name in type(value).model_fields}, way)
        if isinstance(value, Mapping):
            return self._fields({str(key): item for key, item in value.items()}, way)
        if isinstance(value, (list, tuple)):
            *before, last = way or ("answer",)
            name = last[:-1] if last.endswith("s") and len(last) > 1 else last
            return [self.answer(item, (*before, f"{name}-{count}")) for count, item in enumerate(value, 1)]
        if hasattr(value, "tolist"):  # numpy and torch
            return value.tolist()
        return value

    def _fields(self, fields: Mapping[str, Any], way: tuple[str, ...]) -> dict[str, Any]:
        suffixes = Counter(item.suffix for item in fields.values() if isinstance(item, Media))
        found = {}
        for name, item in fields.items():
            short = way and isinstance(item, Media) and suffixes[item.suffix] == 1
            found[name] = self.answer(item, way if short else (*way, name))
        return found

    def _write(self, media: Media, way: tuple[str, ...]) -> str:
        safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in "-".join(way))[:100]
        path = self.folder / f"{self.prefix}{safe}{media.suffix}"
        while path in self.paths:  # two names that are one when made safe
            path = path.with_name(f"{path.stem}_{path.suffix}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            media.save(path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}; --out names another folder") from error
        self.paths.append(path)
        return str(path)


def _flags(cls: type[Model], action: Action) -> dict[str, FieldInfo]:
    """The flags of an action: its request's fields, its model's resources, and our own two."""
    flags = leaves(action.request)
    resources = {
        name: FieldInfo(annotation=Path, description=f"The {name} to open, by its folder.", default=Path())
        for name in cls.resources
    }
    own = {**resources, **OWN}
    if taken := [flag for flag in own if flag in flags]:
        raise TypeError(f"{action.request.__name__}.{taken[0]}: the command line needs this name, choose another")
    return {**flags, **own}


def _default(action: Action, flag: str, info: FieldInfo) -> str:
    """The default of a flag, that of a nested model's field from the value its owner gives it."""
    top, *way = flag.split(".")
    owner = action.request.model_fields.get(top, info) if way else info
    if owner.is_required():
        if info.is_required():
            return "required"
        value, way = info.get_default(call_default_factory=True), []
    else:
        value = owner.get_default(call_default_factory=True)
    for step in way:
        value = getattr(value, step, None)
    return "optional" if value is None or value in ("", (), [], {}) else f"default {cell(value)}"


def _limits(cls: type[Model], usual: str, argv: Sequence[str]) -> dict[str, Any]:
    """The limits of the weights that would answer; empty where there are none yet."""
    named = argv[argv.index("--model") + 1 :][:1] if "--model" in argv else []
    try:
        return cls.load(locate(Lab.existing(), named[0] if named else usual).path).describe()
    except UserError:
        if named:
            raise
        return {}


def _check_limits(request: BaseModel, limits: Mapping[str, Any], where: str) -> None:
    """Refuse a word that these weights do not know: where `describe()` lists words under a field's name."""
    if found := unknown(request, limits):
        flag, word, known = found
        raise UserError(f"{where}: --{flag.replace('_', '-')}: these weights know no {word!r}; {nearest(word, known)}")


def _import(found: System, target: str) -> Any:
    try:
        return resolve(target)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == target.partition(".")[0]:
            raise  # its own module: the system's mistake
        raise UserError(
            f"system {found.name} needs the package {error.name}; try pip install 'daybreak[{found.name}]'"
        ) from error


def _line(function: Any) -> str:
    return (getattr(function, "__doc__", None) or "").strip().partition("\n")[0]


def _recipe_line(cls: Any) -> str:
    presets = f" (presets: {', '.join(cls.presets)})" if cls.presets else ""
    return f"{_line(cls)}{presets}"
