"""From types to flags: names, presets, files and flags become one frozen, validated value.

`--net.layers 8` sets a field of a nested model; `--shuffle` and `--no-shuffle` set a bool; a tuple takes commas. Every
mistake is one line with the nearest name or the range. This file knows pydantic models; it knows nothing about runs.
"""

from __future__ import annotations

import hashlib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from daybreak.errors import UserError, nearest
from daybreak.lab.system import System, resolve, system
from daybreak.media import Media

if TYPE_CHECKING:
    from daybreak.lab.recipe import Config, Recipe

M = TypeVar("M", bound=BaseModel)


class _OnThisMachine:
    """Marks a field whose text names a folder."""


Folder = Annotated[str, _OnThisMachine()]
"""A config's field that names a folder of saved weights; empty: none. A record tells its name and what is in it."""


@dataclass(frozen=True)
class Found:
    """What a name like "music:small" means."""

    system: System
    recipe: str
    """The recipe's name in its system."""
    preset: str
    cls: type[Recipe[Any]]
    config: Config

    @property
    def name(self) -> str:
        """ "SYSTEM:RECIPE", as runs record it."""
        return f"{self.system.name}:{self.recipe}"


def lookup(spec: str) -> Found:
    """What "music", "music:small", "music:compose" or "music:compose:small" names. Imports the recipe.

    A preset's own name may hold colons ("rl:ppo@ale:Pong"). Raises `UserError` with the nearest names.
    """
    name, *rest = spec.split(":")
    found = system(name)
    if not found.recipes:
        raise UserError(f"system {name} has no recipe to train")
    if "" in rest:
        raise UserError(f"{spec!r} is not SYSTEM, SYSTEM:PRESET, SYSTEM:RECIPE or SYSTEM:RECIPE:PRESET")
    if rest and rest[0] in found.recipes:
        recipe, preset = rest[0], ":".join(rest[1:])
        cls = resolve(found.recipes[recipe])
        config = cls.preset(preset) if preset else cls.Config()
        if config is None:
            raise UserError(f"{name}:{recipe} has no preset {preset!r}; {nearest(preset, cls.presets)}")
        return Found(found, recipe, preset, cls, config)
    classes = {recipe: resolve(target) for recipe, target in found.recipes.items()}
    if not rest:
        recipe = next(iter(classes))
        return Found(found, recipe, "", classes[recipe], classes[recipe].Config())
    preset = ":".join(rest)
    for recipe, cls in classes.items():
        if (config := cls.preset(preset)) is not None:
            return Found(found, recipe, preset, cls, config)
    if len(rest) == 2:
        raise UserError(f"system {name} has no recipe {rest[0]!r}; {nearest(rest[0], found.recipes)}")
    known = [*classes, *(preset for cls in classes.values() for preset in cls.presets)]
    raise UserError(f"system {name} has no recipe or preset {preset!r}; {nearest(preset, known)}")


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """The flags of a model: dotted names of its fields, nested models opened."""
    found: dict[str, FieldInfo] = {}
    for name, info in model.model_fields.items():
        inner = nested(info.annotation)
        found.update(leaves(inner, f"{prefix}{name}.") if inner else {f"{prefix}{name}": info})
    return found


def split_flags(
    argv: Sequence[str], flags: Mapping[str, FieldInfo], where: str, rest: bool = False
) -> tuple[dict[str, list[str]], list[str]]:
    """Cut a command line into flag -> texts, and what is left.

    Words that are not flags are left over. With `rest`, unknown flags are left over too, with their values; without
    it they raise `UserError` with the nearest name.
    """
    given: dict[str, list[str]] = {}
    left: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            left += words
            break
        if not word.startswith("--") and not (word == "-o" and "out" in flags):
            if word.startswith("-") and len(word) > 1 and not _is_number(word) and not rest:
                raise UserError(f"{where}: unknown flag {word}; flags are written with two dashes")
            left.append(word)
            continue
        name, equals, value = ("out", "", "") if word == "-o" else word[2:].partition("=")
        name = name.replace("-", "_")
        negated = name.removeprefix("no_")
        if name not in flags and negated in flags and _is(flags[negated].annotation, bool) and not equals:
            given[negated] = ["false"]
            continue
        if name not in flags:
            if not rest:
                names = [f"--{flag.replace('_', '-')}" for flag in flags]
                raise UserError(
                    f"{where}: unknown flag --{name.replace('_', '-')}; {nearest(word.split('=')[0], names)}"
                )
            left.append(word)
            if not equals and words and not words[0].startswith("--"):
                left.append(words.pop(0))
            continue
        if not equals and _is(flags[name].annotation, bool):
            value = words.pop(0) if words and words[0] in ("true", "false") else "true"
        elif not equals:
            if not words or (words[0].startswith("--") and len(words[0]) > 2):
                raise UserError(f"{where}: --{name.replace('_', '-')} wants a value: {describe(flags[name])}")
            value = words.pop(0)
        given.setdefault(name, []).append(value)
    return given, left


def parse_flags(
    model: type[M], argv: Sequence[str], base: M | None = None, where: str = "", rest: bool = False
) -> tuple[M, list[str]]:
    """A model's value from flags over `base` (else its defaults), and the words left over.

    Raises `UserError`, one line, naming `where`, the flag, what was given and what would work.
    """
    flags = leaves(model)
    given, left = split_flags(argv, flags, where, rest)
    return build(model, given, base, where), left


def build(model: type[M], given: Mapping[str, Sequence[str]], base: M | None = None, where: str = "") -> M:
    """A model's value from texts by dotted name, over `base`."""
    flags = leaves(model)
    values: dict[str, Any] = _shallow(base) if base is not None else {}
    for name, texts in given.items():
        if name not in flags:
            raise UserError(f"{where}: unknown name {name!r}; {nearest(name, flags)}")
        *path, leaf = name.split(".")
        holder = values
        for step in path:
            holder = holder.setdefault(step, {})
        holder[leaf] = _value(flags[name], texts, f"{where}: --{name.replace('_', '-')}")
    return check(model, values, where)


def check(model: type[M], values: Mapping[str, Any], where: str = "") -> M:
    """Validate; the first mistake is raised as one line."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(_line(model, error, where)) from None


def read_toml(model: type[M], path: Path, base: M) -> M:
    """A model's value from a TOML file over `base`. Raises `UserError` naming the file and the mistake."""
    import tomllib

    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    return check(model, _merge(base.model_dump(), values), str(path))


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Fields that differ, by dotted name: [old, new]."""
    flat_old, flat_new = flat(old), flat(new)
    return {
        name: [flat_old.get(name), flat_new.get(name)]
        for name in (*flat_new, *(n for n in flat_old if n not in flat_new))
        if flat_old.get(name) != flat_new.get(name)
    }


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return found


def portable(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """A config's values as they may leave the machine: a `Folder` is its name and the hash of its weights, no path."""
    found = dict(values)
    for name, info in model.model_fields.items():
        inner, value = nested(info.annotation), found.get(name)
        if inner is not None and isinstance(value, Mapping):
            found[name] = portable(inner, value)
        elif value and any(isinstance(mark, _OnThisMachine) for mark in info.metadata):
            found[name] = _named(str(value))
    return found


def _named(folder: str) -> str:
    """ "commerce, weights 1f2e3d4c5b6a7988"; what is no path of this machine stays as it is."""
    weights = Path(folder) / "weights.safetensors"
    if weights.is_file():
        with weights.open("rb") as file:
            return f"{Path(folder).resolve().name}, weights {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    return Path(folder).name if Path(folder).is_absolute() else folder


def describe(info: FieldInfo) -> str:
    """What a field takes, for a person: "a number >= 0", "one of constant, cosine"."""
    kind = _plain_type(info.annotation)
    if any(isinstance(mark, _OnThisMachine) for mark in info.metadata):
        return "a folder"
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(str(v) for v in typing.get_args(kind))}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
    if isinstance(kind, type) and issubclass(kind, Media):
        return f"a path to a {kind.suffix} file"
    words = names.get(kind) or ("values with commas between" if typing.get_origin(kind) in (tuple, list) else str(kind))
    bounds = []
    for bound in info.metadata:
        for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
            if (limit := getattr(bound, attribute, None)) is not None:
                bounds.append(f"{sign} {limit}")
    lengths = [{getattr(b, name) for b in info.metadata if hasattr(b, name)} for name in ("min_length", "max_length")]
    if lengths[0] and lengths[0] == lengths[1]:
        bounds.append(f"{lengths[0].pop()} long")
    else:
        bounds += [f"{w} {n.pop()} long" for w, n in zip(("at least", "at most"), lengths, strict=True) if n]
    return f"{words} {' and '.join(bounds)}".rstrip()


def nested(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, if it holds one."""
    kind = _plain_type(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _plain_type(annotation: Any) -> Any:
    """The type without Annotated and without None."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (Union, types.UnionType):
        some = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        return _plain_type(some[0]) if len(some) == 1 else annotation
    return annotation


def _is(annotation: Any, kind: type) -> bool:
    return _plain_type(annotation) is kind


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _value(info: FieldInfo, texts: Sequence[str], where: str) -> Any:
    """Text to what pydantic takes; numbers and ranges are left to pydantic."""
    kind = _plain_type(info.annotation)
    if typing.get_origin(kind) in (tuple, list, set, frozenset):
        inner = _plain_type(typing.get_args(kind)[0]) if typing.get_args(kind) else str
        if nested(inner) or _is_mapping(inner):
            return [_json(text, where) for text in texts]
        parts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
        return [_one(inner, part) for part in parts]
    if len(texts) > 1:
        raise UserError(f"{where} is given twice: {texts[0]!r} and {texts[1]!r}")
    if _is_mapping(kind):
        return _json(texts[0], where)
    optional = type(None) in typing.get_args(info.annotation)
    return None if optional and texts[0].lower() == "none" else _one(kind, texts[0])


def _is_mapping(kind: Any) -> bool:
    return (typing.get_origin(kind) or kind) in (dict, Mapping)


def _json(text: str, where: str) -> Any:
    """What has fields of its own comes as JSON."""
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{where} takes JSON, as '{{\"name\": 1}}': {error}") from error


def _one(kind: Any, text: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, Media):
        return kind.open(text)
    if kind is int:
        try:
            number = float(text)
        except ValueError:
            return text
        return int(number) if number.is_integer() and abs(number) < 2**53 and not text.lstrip("+-").isdigit() else text
    if typing.get_origin(kind) is Literal:
        return next((value for value in typing.get_args(kind) if str(value) == text), text)
    return text


def _line(model: type[BaseModel], error: ValidationError, where: str) -> str:
    """One line for a person from pydantic's list."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    name = next((".".join(path[:n]) for n in range(len(path), 0, -1) if ".".join(path[:n]) in leaves(model)), "")
    flag = f"--{(name or '.'.join(path)).replace('_', '-')}"
    at = f"{where}: " if where else ""
    if first["type"] == "extra_forbidden":
        return f"{at}unknown name {'.'.join(path)!r}; {nearest('.'.join(path), leaves(model))}"
    if first["type"] == "missing":
        return f"{at}{flag} is missing"
    if first["type"] in ("value_error", "assertion_error") or not name:
        said = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        return f"{at}{flag + ': ' if path else ''}{said}"
    given = first["input"]
    close = ""
    if first["type"] == "literal_error":
        choices = [str(v) for v in typing.get_args(_plain_type(leaves(model)[name].annotation))]
        close = f"; {nearest(str(given), choices)}" if "did you mean" in nearest(str(given), choices) else ""
    return f"{at}{flag} takes {describe(leaves(model)[name])}, not {_short(given)}{close}"


def _short(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shallow(model: BaseModel) -> dict[str, Any]:
    """A model's values with nested models as dicts and media as they are."""
    return {
        name: _shallow(value) if isinstance(value, BaseModel) else value
        for name, value in ((name, getattr(model, name)) for name in type(model).model_fields)
    }


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        held = merged.get(name)
        merged[name] = _merge(held, value) if isinstance(held, Mapping) and isinstance(value, Mapping) else value
    return merged
