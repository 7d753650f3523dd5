"""The contract of use: what users call.

A Model's `@action` methods take one typed request and return one typed response. From those types the Python call and
the command are derived (REST, the kiosk and export will enter through the same types). Nothing about them is written
twice. A model on disk is three files: config.json, weights.safetensors, card.md; nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import sys
import typing
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, overload

from pydantic import BaseModel, ConfigDict, ValidationError

from daybreak.errors import UserError, nearest
from daybreak.lab.system import resolve, systems, target_of
from daybreak.media import Media

if TYPE_CHECKING:
    from torch import nn

    from daybreak.lab.program import Page, Program, Run

FORMAT = 1


class Request(BaseModel):
    """What an action is asked. Fields have types, bounds and docstrings; media come as media values."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True)


class Response(BaseModel):
    """What an action answers. Media fields are written to files by the command line."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True)


F = TypeVar("F", bound=Callable[..., Any])


@overload
def action(method: F) -> F: ...


@overload
def action(*, batch: int = 1, threads: int = 1) -> Callable[[F], F]: ...


def action(method: F | None = None, *, batch: int = 1, threads: int = 1) -> F | Callable[[F], F]:
    """Mark a method of a Model as public: `def name(self, request: R) -> A`, or `-> Iterator[A]` for a stream.

    `@action(batch=16)` says that up to 16 requests may be answered together, by a method that stands beside it:
    `def name_many(self, requests: Sequence[R]) -> Sequence[A]`. Its answers are those of `name`, in order.

    `threads`: processor threads that torch takes for one answer; 0 leaves the process's own. One, for what a single
    request asks is mostly small: threads that share an operator of microseconds wait for one another by spinning, and
    where something else runs on the machine one of them is always late.
    """

    def mark(method: F) -> F:
        @functools.wraps(method)
        def answer(self: Any, request: Any) -> Any:
            with torch_threads(threads):
                made = method(self, request)
            return _stream(made, threads) if isinstance(made, Generator) else made

        answer.__daybreak_action__ = batch  # type: ignore[attr-defined]
        return typing.cast(F, answer)

    return mark if method is None else mark(method)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many processor threads for what this thread does with torch inside; 0, or where torch is not there: no change.

    torch keeps the number for each thread: what others do meanwhile has its own. A thread that is new to torch begins
    with the number that was set last, in whichever thread.
    """
    torch = sys.modules.get("torch")
    if not count or torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stream(made: Generator[Any, None, None], threads: int) -> Iterator[Any]:
    """A stream whose parts are made with so many threads; between them the caller's own count."""
    with contextlib.closing(made):
        while True:
            with torch_threads(threads):
                try:
                    part = next(made)
                except StopIteration:
                    return
            yield part


@dataclass(frozen=True)
class Action:
    """A public method, described by its types."""

    name: str
    """The method's, without the underscore that keeps it from being a word of the language (`continue_`)."""
    line: str
    request: type[BaseModel]
    response: type[Any]
    streams: bool
    """The response comes as an iterator of `response`."""
    method: str
    """The method's name."""
    batch: int = 1
    """Requests that may be answered together, by METHOD_many; 1 where each is answered alone."""


def media_of(request: type[BaseModel]) -> dict[str, type[Media]]:
    """The fields of a request, dotted, that hold one media value each."""
    from daybreak.lab.config import leaves

    found: dict[str, type[Media]] = {}
    for name, info in leaves(request).items():
        for kind in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, Media):
                found[name] = kind
    return found


class Model:
    """A trained model and what it can be asked. Derive, set `Config`, build nets in `__init__`.

    Weights are those of the attributes that are `nn.Module`s.
    """

    Config: ClassVar[type[BaseModel]]
    about: ClassVar[str] = ""
    """Markdown for a card: why the model exists, whom it could harm, what it is not good for."""
    resources: ClassVar[Mapping[str, str]] = {}
    """What it needs beside weights (a catalogue, registered words): attribute -> "module:Class", whose
    `open(path)` opens one. The attribute is None until the operator opens it; a request never does."""

    def __init__(self, config: Any) -> None:
        self.config = config
        for name in self.resources:
            setattr(self, name, None)

    def open(self, **paths: str | os.PathLike[str]) -> Self:
        """Open resources, by name. The model itself, for `Shop.load(path).open(catalogue="shop")`."""
        for name, path in paths.items():
            if name not in self.resources:
                known = nearest(name, self.resources) if self.resources else "it takes none"
                raise UserError(f"{type(self).__name__} takes no resource {name!r}; {known}")
            setattr(self, name, resolve(self.resources[name]).open(path))
        return self

    def describe(self) -> dict[str, Any]:
        """Limits that depend on the weights (genres, tags), merged into help and errors."""
        return {}

    def programs(self) -> dict[str, Program]:
        """What can leave the lab: graphs by name, for `daybreak export`. None where it is not written."""
        return {}

    def through(self, run: Mapping[str, Run]) -> None:
        """From now on, answer by these instead of the programs of the same names: so is an export scored."""
        raise UserError(f"{type(self).__name__} cannot answer through exported programs: it defines no `through`")

    def page(self) -> Page | None:
        """What `daybreak export --to page` shows of the programs; None shows a form of their tensors."""
        return None

    @classmethod
    def actions(cls) -> dict[str, Action]:
        """The actions by name, in the order of their definition."""
        found = {}
        for owner in reversed(cls.__mro__):
            for name, member in vars(owner).items():
                if getattr(member, "__daybreak_action__", 0):
                    described = _describe(cls, name)
                    found[described.name] = described
        return found

    def nets(self) -> dict[str, nn.Module]:
        """The model's nets by attribute name."""
        if "torch" not in sys.modules:  # whoever has a net has imported torch; a model without one is ready sooner
            return {}
        from torch import nn

        return {name: value for name, value in vars(self).items() if isinstance(value, nn.Module)}

    def save(self, path: str | os.PathLike[str], card: str = "") -> Path:
        """Write config.json, weights.safetensors and card.md into a folder, which is made."""
        import safetensors.torch

        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        weights = {}
        for net, module in self.nets().items():
            seen: dict[int, str] = {}  # tied weights are written once
            for name, tensor in module.state_dict().items():
                if tensor.data_ptr() in seen and tensor.numel():
                    continue
                seen[tensor.data_ptr()] = name
                weights[f"{net}.{name}"] = tensor.detach().cpu().contiguous()
        safetensors.torch.save_file(weights, path / "weights.safetensors")
        system, model = self._name()
        about = {"format": FORMAT, "system": system, "model": model, "config": self.config.model_dump(mode="json")}
        (path / "config.json").write_text(json.dumps(about, indent=1) + "\n")
        (path / "card.md").write_text(card)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Open a saved model. `Model.load` finds the class through the installed systems."""
        path = Path(path)
        try:
            about = json.loads((path / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is not a saved model: config.json: {error}") from error
        if about.get("format", 0) > FORMAT:
            raise UserError(
                f"{path} was written by a newer daybreak (format {about['format']}, this one reads {FORMAT})"
            )
        found = _class_of(about, path)
        if not issubclass(found, cls):
            raise UserError(f"{path} holds a {found.__name__}, not a {cls.__name__}")
        try:
            config = found.Config.model_validate(about["config"])
        except ValidationError as error:
            raise UserError(f"{path}/config.json does not fit {found.__name__}: {error.errors()[0]['msg']}") from error
        made = found(config)
        made.read_weights(path / "weights.safetensors")
        for module in made.nets().values():
            module.eval().requires_grad_(False)
        return made

    def read_weights(self, path: Path) -> None:
        """Fill the nets from a safetensors file. Raises `UserError` when it does not fit them."""
        import safetensors

        try:
            with safetensors.safe_open(path, framework="pt" if "torch" in sys.modules else "numpy") as file:
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"{path} cannot be read: {error}") from error
        for net, module in self.nets().items():
            mine = {k.removeprefix(f"{net}."): v for k, v in weights.items() if k.startswith(f"{net}.")}
            missing, unexpected = module.load_state_dict(mine, strict=False)
            tied = _tied(module)
            missing = [name for name in missing if tied.get(name) not in mine]
            if missing or unexpected:
                wrong = f"missing {missing[:3]}" if missing else f"unexpected {unexpected[:3]}"
                raise UserError(f"{path} does not fit {type(self).__name__}.{net}: {wrong}")

    def _name(self) -> tuple[str, str]:
        for system in systems().values():
            for model, target in system.models.items():
                if target == target_of(type(self)):
                    return system.name, model
        raise UserError(f"{target_of(type(self))} belongs to no installed system; name it in a System's models")


def _tied(module: nn.Module) -> dict[str, str]:
    """For each state entry that shares its storage with an earlier one, that one's name."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(tensor.data_ptr(), name)
        for name, tensor in module.state_dict().items()
        if tensor.numel()
    }


def _class_of(about: Mapping[str, Any], path: Path) -> type[Model]:
    from daybreak.lab.system import system

    found = system(str(about.get("system")))
    target = found.models.get(str(about.get("model")))
    if target is None:
        raise UserError(f"{path}: system {found.name} has no model {about.get('model')!r}")
    return typing.cast(type[Model], resolve(target))


def _describe(cls: type[Model], name: str) -> Action:
    method = getattr(cls, name)
    hints = typing.get_type_hints(method)
    parameters = [p for p in inspect.signature(method).parameters if p != "self"]
    if len(parameters) != 1 or "return" not in hints:
        raise TypeError(f"action {cls.__name__}.{name} must take one typed request and name its response's type")
    response = hints["return"]
    streams = typing.get_origin(response) in (Iterator, typing.get_origin(Iterator[int]))
    if streams:
        (response,) = typing.get_args(response)
    line = (inspect.getdoc(method) or "").split("\n")[0]
    batch = method.__daybreak_action__
    if batch > 1 and (streams or not hasattr(cls, f"{name}_many")):
        raise TypeError(f"action {cls.__name__}.{name} answers {batch} at a time: it needs {name}_many, and no stream")
    return Action(name.rstrip("_"), line, hints[parameters[0]], response, streams, name, batch)
