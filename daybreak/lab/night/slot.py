"""A worker at work, when a night gives up on one, and where a night tells people about them.

Plain values: they are acted on in `supervisor.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from daybreak.lab.engines import Handle
from daybreak.lab.night.pulse import Pulse
from daybreak.lab.night.queue import Job
from daybreak.lab.night.room import Share
from daybreak.lab.run import Run


@dataclass(frozen=True)
class Policy:
    """When a night gives up on a job. Seconds, unless said otherwise."""

    barren: int = 3
    """Failures without a new checkpoint."""
    failures: int = 10
    """Failures in all."""
    silence: float = 600.0
    """Without a step, at least."""
    factor: float = 20.0
    """And this many median steps."""
    grace: float = 60.0
    """After the deadline, until a worker is asked to stop; and from there until it is killed."""
    pause: float = 1.0
    """Before a failed job is tried again; doubles each time."""
    poll: float = 0.05
    """Between two looks at the workers."""
    beat: float = 0.5
    """Between two looks at their files."""
    orders: float = 3600.0
    """Between two looks at standing orders; also when a run has finished."""
    floor: int = 200 * 2**20
    """Bytes that must be free on the lab's disk."""
    copies: int = 4
    """And this many of the run's last checkpoint."""


class Report(Protocol):
    """Where a night tells people how it goes."""

    def say(self, text: str) -> None:
        """Something happened."""
        ...

    def show(self, rows: Sequence[Mapping[str, Any]], waiting: int, left: float) -> None:
        """How the workers are doing; called about once a second. `left` is in seconds, infinite without a deadline."""
        ...


class Quiet:
    """Tells nobody."""

    def say(self, text: str) -> None: ...

    def show(self, rows: Sequence[Mapping[str, Any]], waiting: int, left: float) -> None: ...


@dataclass
class Slot:
    """A worker at work."""

    job: Job
    run: Run
    handle: Handle
    pulse: Pulse
    share: Share
    checkpoint: int
    """Step of the newest checkpoint when the try began."""
    adopted: bool = False
    hung: str = ""
    asked: bool = False
    """It was told to stop, so that its end is no failure."""
    kill_at: float = field(default=float("inf"))
