"""Whether an export gives the answers that the model gives, how fast and in how much memory.

The model's own module on one thread is the measure. Integers and flags must be equal; floats may differ by 1e-4
in fp32, absolutely or of the largest value of the output.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from daybreak.lab.model import torch_threads
from daybreak.lab.program import Inputs, Program
from daybreak.lab.ship.export.session import Answer, Session
from daybreak.lab.ship.export.trace import lengths

BOUND = 1e-4
"""The largest difference in fp32."""
REPEATS = 3
"""Runs of each input; the fastest counts, the others are the machine's."""
LONG = 0.1
"""Seconds of a run from which one is enough: the machine's noise is small beside it."""


@dataclass(frozen=True)
class Output:
    """One output compared over all inputs."""

    name: str
    worst: float
    """The largest difference."""
    scale: float
    """The largest magnitude in the model's own answers."""
    unequal: int = 0
    """Of integers and flags: how many differ."""
    wrong: str = ""
    """What cannot be compared: a shape, a NaN."""

    def holds(self, bound: float) -> bool:
        """Whether it is close enough."""
        return not self.wrong and not self.unequal and self.worst <= bound * max(1.0, self.scale)

    def words(self) -> str:
        """What differs."""
        if self.wrong:
            return f"{self.name} {self.wrong}"
        if self.unequal:
            return f"{self.name} differs in {self.unequal} whole numbers"
        return f"{self.name} differs by {self.worst:.2g} (its largest value is {self.scale:.3g})"


@dataclass(frozen=True)
class Eager:
    """What the model's own module answers, and how fast."""

    outputs: tuple[tuple[Tensor, ...], ...]
    took: tuple[float, ...]
    """Seconds for each input."""


def eager(program: Program, real: Sequence[Inputs]) -> Eager:
    """Run the module itself on every real input, on one thread."""
    module = program.module.eval()
    outputs, took = [], []
    with torch_threads(1), torch.inference_mode():
        for given in real:
            times: list[float] = []
            while len(times) < REPEATS and sum(times) < LONG:
                begun = time.perf_counter()
                out = module(*given.values())
                times.append(time.perf_counter() - begun)
            outputs.append((out,) if isinstance(out, Tensor) else tuple(out))
            took.append(min(times))
    return Eager(tuple(outputs), tuple(took))


def measure(
    session: Session, name: str, program: Program, real: Sequence[Inputs], own: Eager, repeats: int = REPEATS
) -> dict[str, Any]:
    """Parity and latency of one program: what its manifest says."""
    session.call(name, list(real[0].values()))  # the first call loads and plans
    answers = [_called(session, name, list(given.values()), repeats) for given in real]
    outputs = [
        compared(output, [want[n] for want in own.outputs], [got.outputs[n] for got in answers])
        for n, output in enumerate(program.outputs)
    ]
    took = [min(answer.took) for answer in answers]
    return {
        "measured_on": len(real),
        "shortest": lengths(program, real[0]),
        "longest": lengths(program, real[-1]),
        "parity": [asdict(output) for output in outputs],
        "latency_ms": 1e3 * median(took),
        "latency_longest_ms": 1e3 * took[-1],
        "eager_ms": 1e3 * median(own.took),
        "eager_longest_ms": 1e3 * own.took[-1],
    }


def _called(session: Session, name: str, inputs: Sequence[Tensor], repeats: int) -> Answer:
    """One input, as often as `eager` runs it."""
    once = session.call(name, inputs)
    if repeats == 1 or once.took[0] >= LONG:
        return once
    return Answer(once.outputs, once.took + session.call(name, inputs, repeats - 1).took)


def compared(name: str, wanted: Sequence[Tensor], got: Sequence[Tensor]) -> Output:
    """One output of all inputs."""
    worst = scale = 0.0
    unequal = 0
    for want, have in zip(wanted, got, strict=True):
        if want.shape != have.shape:
            return Output(name, float("inf"), scale, 0, f"has shape {tuple(have.shape)}, not {tuple(want.shape)}")
        if not want.numel():
            continue
        if not want.is_floating_point():
            unequal += int((want.long() != have.long()).sum())
            continue
        if not have.isfinite().all() and want.isfinite().all():
            return Output(name, float("inf"), scale, 0, "is not finite")
        worst = max(worst, float((want.double() - have.double()).abs().max()))
        scale = max(scale, float(want.abs().max()))
    return Output(name, worst, scale, unequal)


def failures(programs: Mapping[str, Mapping[str, Any]], bound: float) -> list[str]:
    """What differs, by program and output."""
    found = []
    for name, told in programs.items():
        for output in (Output(**one) for one in told["parity"]):
            if not output.holds(bound):
                found.append(f"{name}: {output.words()}")
    return found
