"""Room on the machine: which jobs fit beside those that run, and which accelerators are theirs.

It knows numbers of cores, MiB and accelerators. It knows nothing about the queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from daybreak.lab.engines import Machine, Wants


@dataclass(frozen=True)
class Share:
    """What a running job holds."""

    cpu: int = 0
    memory: int = 0
    gpus: tuple[str, ...] | None = None
    """None leaves them as they are: the machine has none."""


def share(machine: Machine, wants: Wants, taken: Sequence[Share]) -> Share | None:
    """The share for a job beside those that are taken; None where it must wait.

    Cores are counted for jobs that named them; the others have their worker's share of the cores.
    """
    if wants.cpu and wants.cpu + sum(held.cpu for held in taken) > machine.cores:
        return None
    if wants.memory and wants.memory + sum(held.memory for held in taken) > machine.memory:
        return None
    if not machine.gpus:
        return Share(wants.cpu, wants.memory)
    busy = {name for held in taken for name in held.gpus or ()}
    free = tuple(name for name in machine.gpus if name not in busy)
    count = 1 if wants.gpu is None else wants.gpu
    return Share(wants.cpu, wants.memory, free[:count]) if len(free) >= count else None
