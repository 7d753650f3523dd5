"""What one run did in a night, read from its folder: when it was active, what it cost, what it reached, what it said.

It knows a run's files and the detectors. It knows nothing about other runs, pages or the queue.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from daybreak.errors import UserError
from daybreak.lab.home import Lab
from daybreak.lab.recipe import Gate
from daybreak.lab.run import Judged, Run, State, read_last
from daybreak.lab.watch import Finding, Record, watch

FAILED = ("diverged", "crashed", "failed", "quarantined", "refused", "elsewhere")
"""States in which something went wrong."""
SPENT = ("train_s", "wait_s", "evaluate_s", "save_s")


@dataclass(frozen=True)
class Segment:
    """One stretch in which a process had the run. Times in epoch seconds, parts in seconds."""

    start: float
    stop: float
    parts: dict[str, float]


class Story:
    """A run as the morning tells it. What is expensive to read is read when it is first asked for."""

    def __init__(self, run: Run, now: float) -> None:
        self.run = run
        self.now = now
        self.events = run.events()
        self.state: State = run.state()

    @property
    def title(self) -> str:
        """ "music:small#41"."""
        return self.run.title

    @cached_property
    def started(self) -> float | None:
        """When it first ran; None where it never did."""
        return next((float(e["time"]) for e in self.events if e["event"] in ("started", "resumed")), None)

    @cached_property
    def ended(self) -> float | None:
        """When it was last active; now, where it runs; None where it never began. A note is no activity."""
        if self.state.word == "running":
            return self.now
        times = [float(e["time"]) for e in self.events if e["event"] != "note"]
        if tail := read_last(self.run.path / "system.jsonl"):
            times.append(float(tail["time"]))
        return max(times, default=None)

    def active(self, start: float, stop: float) -> bool:
        """Whether it ran, or was refused, between two moments."""
        if self.ended is None:
            return False
        return self.ended > start and (self.started if self.started is not None else self.ended) < stop

    @cached_property
    def evaluated(self) -> dict[int, float]:
        """The goal's value by step."""
        return self.run.evaluated()

    @cached_property
    def judged(self) -> Judged:
        """How its recipe wants it to be judged."""
        return self.run.judged()

    @cached_property
    def record(self) -> Record:
        """The run as numbers."""
        return Record.of(self.run)

    @cached_property
    def windows(self) -> list[dict[str, Any]]:
        """Where the time went, window by window."""
        return self.run.windows()

    def cost(self, start: float = 0.0, stop: float = float("inf")) -> float:
        """Seconds worked between two moments: training, waiting, scoring, saving."""
        return sum(_spent(w) for w in self.windows if start < float(w["time"]) <= stop)

    def joules(self) -> float | None:
        """Energy, where the windows hold what a meter read; None where none did."""
        read = [float(w["energy_j"]) for w in self.windows if w.get("energy_j") is not None]
        return sum(read) if read else None

    @cached_property
    def segments(self) -> list[Segment]:
        """The stretches in which it ran, and what was lost of each: work after the checkpoint that was gone on from."""
        starts = [e for e in self.events if e["event"] in ("started", "resumed")]
        found = []
        for begin, after in zip(starts, [*starts[1:], None][: len(starts)], strict=True):
            start, limit = float(begin["time"]), float(after["time"]) if after else float("inf")
            own = [w for w in self.windows if start < float(w["time"]) <= limit]
            ends = [float(e["time"]) for e in self.events if start <= float(e["time"]) < limit and e["event"] != "note"]
            last = max([*ends, *(float(w["time"]) for w in own)])
            if after is None and self.state.word == "running":
                last = self.now
            kept = int(after["step"]) if after else self._kept()
            lost = sum(_spent(w) for w in own if kept is not None and int(w["step"]) > kept)
            good = [w for w in own if kept is None or int(w["step"]) <= kept]
            parts = {
                "training": sum(float(w.get("train_s", 0)) for w in good),
                "data wait": sum(float(w.get("wait_s", 0)) for w in good),
                "evaluation": sum(float(w.get("evaluate_s", 0)) + float(w.get("save_s", 0)) for w in good),
                "crashed": lost,
            }
            parts["starting"] = max(0.0, last - start - sum(parts.values()))
            found.append(Segment(start, last, parts))
        return found

    def _kept(self) -> int | None:
        """The step that a crashed run would go on from; None for a run that lost nothing."""
        if self.state.word not in ("crashed", "elsewhere"):
            return None
        steps = [int(path.name.removeprefix("step-")) for path in self.run.checkpoints()]
        return max(steps, default=0)

    def findings(self, lab: Lab, previous: Story | None, best: Story | None, gates: Iterable[Gate]) -> list[Finding]:
        """What the detectors say."""
        return watch(
            self.record,
            previous.record if previous else None,
            best.record if best else None,
            gates,
            items=lambda step: self.batch(lab, step),
        )

    def batch(self, lab: Lab, step: int) -> Sequence[str]:
        """The items of the batch with this index; empty where the data are gone or the recipe makes its own."""
        try:
            batches = self._batches(lab)
            return tuple(batches.items(step)) if batches is not None else ()
        except Exception:  # a third party's recipe, on data that may be gone: naming items is a courtesy
            return ()

    def _batches(self, lab: Lab) -> Any:
        from daybreak.lab.train import recipe_class

        if "batches" not in self.__dict__:
            cls = recipe_class(self.run)
            data = self.run.snapshot(lab)
            self.__dict__["batches"] = (
                cls.batches(cls.Config.model_validate(dict(self.run.info.config)), data) if data is not None else None
            )
        return self.__dict__["batches"]

    def log(self) -> list[dict[str, str]]:
        """Its events as lines for a person; evaluations in a row are one line."""
        lines = []
        scored: list[dict[str, Any]] = []
        for event in [*self.events, {"event": ""}]:
            word = str(event["event"])
            if word == "evaluated":
                scored.append(event)
                continue
            if word in ("note", "saved"):
                continue
            if scored:
                lines.append({"time": clock(float(scored[-1]["time"])), "text": _evaluated(scored)})
                scored = []
            if not word:
                break
            text = f"{word} at step {int(event['step']):,}" if event.get("step") is not None else word
            if reason := event.get("error") or event.get("reason"):
                text += f": {reason}"
            lines.append({"time": clock(float(event["time"])), "text": text})
        if self.state.word in ("crashed", "elsewhere", "running"):
            lines.append({"time": clock(self.ended or self.now), "text": self.state.text})
        # A run that was taken up again and again: its first lines and its last ones tell the story.
        return lines if len(lines) <= 24 else [*lines[:6], {"time": "", "text": "..."}, *lines[-16:]]

    def traceback(self) -> str:
        """The last traceback that it left; its end, where it is long."""
        found = next((str(e["traceback"]) for e in reversed(self.events) if e.get("traceback")), "")
        return found[-4000:]

    def notes(self) -> list[dict[str, Any]]:
        """What people wrote on it, oldest first."""
        return [
            {"time": float(e["time"]), "by": str(e.get("by", "")), "text": str(e.get("text", ""))}
            for e in self.events
            if e["event"] == "note"
        ]


def gates_of(run: Run) -> tuple[Gate, ...]:
    """The gates of a run's recipe; none where the recipe is not installed any more."""
    from daybreak.lab.train import recipe_class

    try:
        return tuple(recipe_class(run).gates)
    except UserError:
        return ()
    except Exception:  # a third party's import may fail in any way
        return ()


def clock(moment: float) -> str:
    """Local time of day, "02:13"."""
    return time.strftime("%H:%M", time.localtime(moment))


def _evaluated(events: Sequence[dict[str, Any]]) -> str:
    """ "evaluated 8 times, steps 250 to 2,000: 32 items in 20 s"."""
    steps = [int(event.get("step") or 0) for event in events]
    last = events[-1]
    took = f": {last['items']} items in {float(last['seconds']):.0f} s" if "seconds" in last and "items" in last else ""
    if len(events) == 1:
        return f"evaluated at step {steps[0]:,}{took}"
    return f"evaluated {len(events)} times, steps {steps[0]:,} to {steps[-1]:,}{took}"


def _spent(window: dict[str, Any]) -> float:
    return sum(float(window.get(name) or 0.0) for name in SPENT)
