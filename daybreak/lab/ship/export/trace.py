"""From a Model's programs to one .pt2 each, and the real inputs on which an export must answer the same.

It knows torch.export and snapshots; it knows no target.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daybreak.errors import UserError
from daybreak.lab.home import Lab
from daybreak.lab.lake import Lake, Snapshot, Split
from daybreak.lab.model import Model
from daybreak.lab.program import Inputs, Program
from daybreak.lab.system import resolve, system

LEAST = 32
"""Real inputs on which parity is measured."""
SEEN = 128
"""Real inputs that are looked at for the shortest and the longest."""
EMBEDDED = 400
"""Items of a system's own that are taken where there is no other."""


@dataclass(frozen=True)
class Traced:
    """A program on disk."""

    name: str
    program: Program
    path: Path

    def about(self) -> dict[str, Any]:
        """What a caller in another language needs, as JSON."""
        given = self.program
        inputs = {}
        for name, x in given.example.items():
            axes = given.dynamic.get(name, {})
            shape = [_axis(axes[n]) if n in axes else size for n, size in enumerate(x.shape)]
            inputs[name] = {"dtype": str(x.dtype).removeprefix("torch."), "shape": shape}
        return {
            "about": given.about, "inputs": inputs, "outputs": list(given.outputs), "carried": dict(given.carried),
        }  # fmt: skip


class Positional(nn.Module):
    """A module whose inputs come by position and whose outputs are a tuple, whatever it takes and gives."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        out = self.module(*inputs)
        return (out,) if isinstance(out, Tensor) else tuple(out)


def programs_of(model: Model) -> dict[str, Program]:
    """The model's programs. Raises `UserError` where it has none."""
    found = model.programs()
    if not found:
        raise UserError(f"{type(model).__name__} has nothing to export: it defines no `programs` (docs/export.md)")
    return found


def trace(name: str, program: Program, folder: Path) -> Traced:
    """Trace a program with its dynamic axes and write NAME.pt2. Raises `UserError` saying what cannot be traced."""
    dims: dict[str, Any] = {}
    shapes: list[dict[int, Any]] = []
    for given in program.example:
        axes = program.dynamic.get(given, {})
        for axis in axes.values():
            dims.setdefault(axis.name, torch.export.Dim(axis.name, min=axis.low, max=axis.high))
        shapes.append({place: dims[axis.name] for place, axis in axes.items()})
    # Converters want weights in the plain order; the model's own, which is timed beside them, stays as it is.
    module = copy.deepcopy(program.module).eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.export.export(
                Positional(module), tuple(program.example.values()),
                dynamic_shapes=(tuple(shapes),), strict=False,
            )  # fmt: skip
            path = folder / f"{name}.pt2"
            torch.export.save(traced, path)
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"program {name!r} cannot be traced by torch.export: {reason}") from error
    return Traced(name, program, path)


def fixed(name: str, program: Program, what: str) -> Program:
    """The program for a target that has no axes whose length varies: its own static one, else each fixed at 1.

    Raises `UserError` where an axis cannot be 1 long, as a cache that grows.
    """
    if program.static is not None:
        return program.static

    def cut(given: Inputs) -> Inputs:
        out = dict(given)
        for key, axes in program.dynamic.items():
            for place in axes:
                out[key] = out[key].narrow(place, 0, 1).contiguous()
        return out

    for key, axes in program.dynamic.items():
        for axis in axes.values():
            if axis.low > 1:
                raise UserError(
                    f"{what} has no axes whose length varies, and {key} of program {name!r} has one ({axis.name}, "
                    f"{axis.low} to {axis.high}); give the program a `static` one, or leave {what} out of --to"
                )

    def inputs(data: Snapshot, split: Split) -> Iterator[Inputs]:
        return map(cut, program.inputs(data, split))

    return replace(program, example=cut(program.example), inputs=inputs, dynamic={})


@contextmanager
def held_out(lab: Lab | None, system_name: str, snapshot: str) -> Iterator[tuple[Snapshot, str]]:
    """The items that real inputs come from, and in words where they are from: the snapshot of the model's run, else the
    lab's current items of the system, else what the system brings itself, else none."""
    found = system(system_name)
    if lab is not None and snapshot and (lab.snapshots / snapshot).is_dir():
        yield Snapshot.open(lab, snapshot), f"snapshot {snapshot}"
        return
    if lab is not None and found.ingest:
        lake = Lake.open(lab)
        try:
            if any(True for _ in islice(lake.items(system_name), 1)):
                data = lake.snapshot(system_name)
                if min(data.counts.values()):
                    yield data, f"the lab's items (snapshot {data.id})"
                    return
        finally:
            lake.close()
    with tempfile.TemporaryDirectory(prefix="daybreak-") as place:
        own = Lab.open(place)
        if not found.embedded:
            yield Snapshot.none(own, system_name), "made by the model"
            return
        lake = Lake.open(own)
        drafts = islice(resolve(found.embedded)(), EMBEDDED)
        lake.add(system_name, drafts, licence="made by the system", source=system_name)
        data = lake.snapshot(system_name)
        try:
            yield data, f"the {len(data)} items that {system_name} brings"
        finally:
            lake.close()


def real(name: str, program: Program, data: Snapshot, splits: tuple[Split, ...], count: int = LEAST) -> list[Inputs]:
    """Real inputs of the splits: the shortest, the longest and, evenly between, the others. Raises `UserError` where
    there are fewer than `count`."""
    found: list[Inputs] = []
    for split in splits:
        found += islice(program.inputs(data, split), SEEN - len(found))
    if len(found) < count:
        raise UserError(
            f"program {name!r} has {len(found)} real inputs of {' and '.join(splits)} items, and {count} are needed; "
            "add items to the lake, or open the lab that has them (DAYBREAK_LAB)"
        )
    for given in found:
        _fits(name, program, given)
    found.sort(key=lambda inputs: _length(program, inputs))
    return [found[n * (len(found) - 1) // (count - 1)] for n in range(count)]


def _fits(name: str, program: Program, given: Mapping[str, Tensor]) -> None:
    if list(given) != list(program.example):
        raise UserError(f"program {name!r} takes {', '.join(program.example)}; a real input has {', '.join(given)}")
    for key, x in given.items():
        if x.dtype != program.example[key].dtype:
            raise UserError(f"program {name!r}: input {key} is {program.example[key].dtype}, a real one is {x.dtype}")
        for place, axis in program.dynamic.get(key, {}).items():
            if not axis.low <= x.shape[place] <= axis.high:
                raise UserError(
                    f"program {name!r}: {key} has a {axis.name} of {axis.low} to {axis.high}; a real input has "
                    f"{x.shape[place]}"
                )


def _length(program: Program, inputs: Inputs) -> int:
    """How long an input is: the product of its axes that vary."""
    total = 1
    for name, size in lengths(program, inputs).items():
        total *= size if name else 1
    return total


def lengths(program: Program, inputs: Inputs) -> dict[str, int]:
    """The varying axes' lengths by name."""
    return {
        axis.name: inputs[key].shape[place] for key, axes in program.dynamic.items() for place, axis in axes.items()
    }


def _axis(axis: Any) -> dict[str, Any]:
    return {"axis": axis.name, "low": axis.low, "high": axis.high}
