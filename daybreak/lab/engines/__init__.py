"""Where runs go: the one protocol through which a night starts, stops and watches workers.

An engine takes a run's folder and gives a handle on the process that trains it. It knows machines and processes; it
knows nothing about queues, priorities or retries. `local.py` is the engine of one machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from daybreak.errors import UserError, nearest
from daybreak.lab.home import Lab
from daybreak.lab.run import Run

UNITS = {"": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


@dataclass(frozen=True)
class Wants:
    """What a job wants of a machine."""

    cpu: int = 0
    """Cores; 0 takes the worker's share."""
    memory: int = 0
    """MiB; 0 promises nothing."""
    gpu: int | None = None
    """Accelerators for itself alone; None takes one where the machine has any, 0 hides them."""

    @classmethod
    def parse(cls, text: str) -> Wants:
        """Read "cpu=2,memory=4G,gpu=1". Raises `UserError` naming the part that cannot be read."""
        found: dict[str, int] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if name not in ("cpu", "memory", "gpu"):
                raise UserError(f"wants: unknown name {name!r}; {nearest(name, ('cpu', 'memory', 'gpu'))}")
            form = r"(\d+(?:\.\d+)?)\s*([MGT]?)i?B?" if name == "memory" else r"(\d+)()"
            match = re.fullmatch(form, value, re.IGNORECASE)
            if not equals or not match:
                raise UserError(f"wants: {part!r} is not {name}={'2G' if name == 'memory' else 'a whole number'}")
            found[name] = round(float(match[1]) * UNITS[match[2].upper()])
        return cls(**found)

    def __str__(self) -> str:
        memory = f"{self.memory / 1024:g}G" if self.memory % 512 == 0 else f"{self.memory}M"
        parts = [f"cpu={self.cpu}"] if self.cpu else []
        parts += [f"memory={memory}"] if self.memory else []
        parts += [f"gpu={self.gpu}"] if self.gpu is not None else []
        return ",".join(parts)


@dataclass(frozen=True)
class Machine:
    """What an engine can give."""

    cores: int
    memory: int
    """MiB."""
    gpus: tuple[str, ...] = ()

    def lacks(self, wants: Wants) -> str:
        """Why a job can never run here, in words; empty where it can."""
        for name, wanted, has in (("cpu", wants.cpu, self.cores), ("gpu", wants.gpu or 0, len(self.gpus))):
            if wanted > has:
                return f"it wants {name}={wanted}; this machine has {has}"
        if wants.memory > self.memory:
            return f"it wants memory={wants.memory / 1024:.1f}G; this machine has {self.memory / 1024:.1f}G"
        return ""


class Handle(Protocol):
    """A worker that was started, or that was found running."""

    pid: int

    def poll(self) -> int | None:
        """Its exit code, minus the signal where one ended it; None while it runs. An unknown code is 1."""
        ...

    def terminate(self) -> None:
        """Ask it to save and stop."""
        ...

    def abort(self) -> None:
        """End it, and have it say in its log where it was."""
        ...

    def kill(self) -> None:
        """End it and its children at once."""
        ...


class Engine(Protocol):
    """A place where runs train."""

    machine: Machine

    def start(
        self, lab: Lab, run: Run, *, deadline: float | None, threads: int, gpus: tuple[str, ...] | None
    ) -> Handle:
        """Train a run in a process of its own; its output goes to the run's log.txt.

        `deadline` is in seconds since the epoch; `gpus` None leaves the accelerators as they are.
        """
        ...

    def adopt(self, run: Run) -> Handle | None:
        """A handle on the worker that already trains the run; None where there is none on this machine."""
        ...
