"""A program: a part of a model that leaves the lab, as tensors in and tensors out.

A Model gives its programs; `daybreak export` converts them and the page runs them. What belongs to an answer goes
with it: normalisers, post-processing, caches and carried state. This file knows tensors and snapshots, no format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from daybreak.lab.lake import Snapshot, Split

Inputs = Mapping[str, "Tensor"]
"""A program's inputs by name."""
Run = Callable[..., tuple["Tensor", ...]]
"""Runs a program: its inputs in order -> its outputs in order."""


@dataclass(frozen=True)
class Axis:
    """An axis whose length is not fixed. Axes of one name have one length."""

    name: str
    low: int
    high: int
    """The bounds, both included."""


@dataclass(frozen=True)
class Program:
    """One graph of a model."""

    module: nn.Module
    """Its `forward` takes the inputs by position and answers a tensor or a tuple of tensors. It has no state."""
    example: Inputs
    """Inputs to trace with, in the order and under the names of `forward`'s parameters. Where a length is not fixed,
    one of at least 2 that no other axis has."""
    outputs: tuple[str, ...]
    """The outputs' names."""
    inputs: Callable[[Snapshot, Split], Iterator[Inputs]]
    """Real inputs: what the items of a split become. Parity is measured on held-out ones, int8 is calibrated on those
    of "train". A system without items makes its own (an agent plays)."""
    dynamic: Mapping[str, Mapping[int, Axis]] = field(default_factory=dict)
    """Input -> its axes whose length is not fixed."""
    carried: Mapping[str, str] = field(default_factory=dict)
    """Input -> output that it is in the next call: streaming state, a cache."""
    about: str = ""
    """One line for who calls it outside of Python."""
    static: Program | None = None
    """The same where no length may vary (LiteRT). Without it each axis of `dynamic` is fixed at 1."""


@dataclass(frozen=True)
class Page:
    """What a model's page shows, in place of a form of tensors."""

    script: Path
    """JavaScript that calls `daybreak.page(async (root, model) => ...)`: it fills the element `root` and calls the
    programs by `model.run(program, inputs)`. It fetches nothing."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """JSON for the script, as `model.data`."""
