"""Export: a model's programs, converted for a target, with proof that the answers are the same.

`export` takes any Model that gives programs. Nothing is written where parity does not hold, and nothing half.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from daybreak.errors import UserError
from daybreak.lab import surroundings
from daybreak.lab.codec import plain
from daybreak.lab.home import Lab, write_json
from daybreak.lab.lake import Snapshot
from daybreak.lab.model import Model
from daybreak.lab.program import Inputs
from daybreak.lab.recipe import Score
from daybreak.lab.registry.place import Place
from daybreak.lab.registry.store import now
from daybreak.lab.ship.export import publish
from daybreak.lab.ship.export.environment import TARGETS, Target, python, target
from daybreak.lab.ship.export.goal import Judge
from daybreak.lab.ship.export.parity import BOUND, Eager, eager, failures, measure
from daybreak.lab.ship.export.session import Session, convert
from daybreak.lab.ship.export.trace import Traced, fixed, held_out, programs_of, real, trace
from daybreak.lab.system import target_of

__all__ = ["TARGETS", "Differs", "Export", "Exporter", "exports_of", "finish", "target"]

CALIBRATION = 32
"""Real training inputs on which int8 is calibrated."""


class Differs(Exception):
    """An export that does not answer as the model does, or whose goal is behind the gate: it was not kept."""


@dataclass(frozen=True)
class Export:
    """One export on disk."""

    path: Path
    manifest: dict[str, Any]


@dataclass(frozen=True)
class Ready:
    """Programs traced, with their real inputs and the model's own answers."""

    work: Path
    traced: dict[str, Traced]
    inputs: dict[str, list[Inputs]]
    own: dict[str, Eager]
    memory: int
    """Bytes that torch took to run them."""


class Exporter:
    """A model on its way out: traced once, then converted for as many targets as wanted."""

    def __init__(
        self, lab: Lab | None, place: Place, folder: Path, *, items: int = 0, by: str = "",
        say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        """
        Args:
            lab: the lab's folder; None works without one.
            place: where the model is.
            folder: where exports go, one folder for each target and precision.
            items: test items that a reduced precision is scored on; 0 is all of them.
            by: who asks, for the reading of the test set.
            say: told what goes on.
        """
        self.lab, self.place, self.folder, self.items, self.by, self.say = lab, place, folder, items, by, say
        self.model = Model.load(place.path)
        self.programs = programs_of(self.model)
        self.system, self.name = self.model._name()
        self.made: set[str] = set()
        """Folders that this exporter has written."""
        self._scratch = TemporaryDirectory(prefix="daybreak-export-")
        self._kept: dict[bool, Ready] = {}
        """What was traced, with axes that vary and without."""
        self._own: list[Score] | None = None
        """The model's own scores of the test items."""

    def run(self, targets: Sequence[str], precisions: Sequence[str] = ("fp32",)) -> list[Export]:
        """Export to every target in every precision. Raises `Differs` where one does not hold; those before it stay."""
        wanted = [(target(name), precision) for name in targets for precision in precisions]
        for one, precision in wanted:
            if precision not in one.precisions:
                raise UserError(f"{one.name} has no {precision}; it has {', '.join(one.precisions)}")
        pythons = {one.name: python(one, self.say) for one, _ in wanted}
        made = []
        with self._data() as (data, source):
            for one, precision in wanted:
                self.say(f"{self.place.title} -> {one.name} {precision}")
                if one.dynamic not in self._kept:
                    self._kept[one.dynamic] = self._ready(one, Path(self._scratch.name), data)
                at = self._kept[one.dynamic]
                if precision == "int8":
                    _calibrate(at, data)
                with publish.making(self.folder, _folder(one.name, precision)) as into:
                    manifest = self._one(one, precision, pythons[one.name], at, into, data)
                    manifest.update(eager_memory=at.memory, items=source)
                    write_json(into / publish.MANIFEST, plain(manifest))
                    path = publish.commit(into, self.folder, _folder(one.name, precision))
                self.made.add(path.name)
                made.append(Export(path, manifest))
        return made

    def _one(
        self, one: Target, precision: str, interpreter: Path, at: Ready, into: Path, data: Snapshot
    ) -> dict[str, Any]:
        job = {
            "folder": str(into),
            "precision": precision,
            "programs": {
                name: {
                    "pt2": str(t.path), "calibration": str(at.work / f"{name}.npz"), "inputs": list(t.program.example),
                    "outputs": list(t.program.outputs),
                }
                for name, t in at.traced.items()
            },
        }  # fmt: skip
        made = convert(one.name, interpreter, job)
        code, hardware = surroundings.code(target_of(type(self.model))), surroundings.hardware()
        manifest: dict[str, Any] = {
            "format": 1, "model": self.place.title, "system": self.system, "class": target_of(type(self.model)),
            "target": one.name, "precision": precision, "created": now(), "bytes": publish.size(into), "made": made,
            "code": {key: code[key] for key in ("commit", "dirty") if key in code},
            "hardware": {key: hardware[key] for key in ("cpu", "cores") if key in hardware},
            "programs": {name: t.about() for name, t in at.traced.items()},
        }  # fmt: skip
        if not one.runs:
            self.say(f"{one.name} cannot run here: its parity is not measured")
            return {**manifest, "parity": "not measured: the target does not run on this machine"}
        with Session(one.name, interpreter, into) as session:
            for name, t in at.traced.items():
                told = measure(session, name, t.program, at.inputs[name], at.own[name])
                manifest["programs"][name].update(told)
            manifest["memory"] = session.memory()
            if precision == "fp32":
                if wrong := failures(manifest["programs"], BOUND):
                    raise Differs(
                        f"{self.place.title} is not exported to {one.name}: its answers differ by more than {BOUND:g}: "
                        + "; ".join(wrong)
                    )
                return {**manifest, "parity": f"within {BOUND:g}"}
            manifest["goal"] = self._goal(session, one, precision, data)
        return manifest

    def _goal(self, session: Session, one: Target, precision: str, data: Snapshot) -> dict[str, Any]:
        judge = Judge(self.place.path, data, most=self.items)
        if self._own is None:
            self._own = judge.score(None, ())
        found = judge.score(session, list(self.programs))
        goal, gate = judge.cls.goal, judge.gate
        value = goal.aggregate(found)
        if self.lab is not None:
            judge.record_reading(self.lab, value, f"{one.name} {precision}", self.by)
        if wrong := judge.wrong(found, self._own):
            raise Differs(f"{self.place.title} is not exported to {one.name} in {precision}: {wrong}")
        return {
            "name": goal.name, "unit": goal.unit, "value": value, "eager": goal.aggregate(self._own),
            "items": self.items or "all", "gate": None if gate is None else gate.bound,
        }  # fmt: skip

    def _data(self) -> Any:
        import json

        record = self.place.path / "record.json"
        snapshot = str(json.loads(record.read_text())["snapshot"]) if record.is_file() else ""
        return held_out(self.lab, self.system, snapshot)

    def _ready(self, one: Target, scratch: Path, data: Snapshot) -> Ready:
        """Trace the programs and run the model itself, once for all targets of one kind."""
        work = scratch / ("dynamic" if one.dynamic else "fixed")
        work.mkdir()
        programs = self.programs
        if not one.dynamic:
            programs = {name: fixed(name, program, one.name) for name, program in programs.items()}
        traced = {name: trace(name, program, work) for name, program in programs.items()}
        inputs = {name: real(name, program, data, ("test", "validation")) for name, program in programs.items()}
        own = {name: eager(program, inputs[name]) for name, program in programs.items()}
        with Session("eager", Path(sys.executable), work) as session:
            told = {
                name: measure(session, name, program, inputs[name], own[name], repeats=1)
                for name, program in programs.items()
            }
            memory = session.memory()
        if wrong := failures(told, BOUND):
            raise Differs(f"{self.place.title} is not exported: what was traced differs: {'; '.join(wrong)}")
        return Ready(work, traced, inputs, own, memory)


def _calibrate(at: Ready, data: Snapshot) -> None:
    """Write the inputs on which int8 is calibrated beside the traced programs."""
    for name, t in at.traced.items():
        found = real(name, t.program, data, ("train",), CALIBRATION)
        held = {f"{n}/{key}": x.numpy() for n, one in enumerate(found) for key, x in one.items()}
        np.savez(at.work / f"{name}.npz", **held)  # type: ignore[arg-type]


def exports_of(lab: Lab | None, place: Place, out: Path | None) -> Path:
    """Where a model's exports go: into its version, where it is registered; else `out`, or out/export/NAME."""
    if out is not None:
        return out
    if lab is not None and lab.registry in place.path.parents:
        return place.path / "exports"
    return Path("out") / "export" / place.path.resolve().name


def finish(exporter: Exporter) -> list[dict[str, Any]]:
    """Put the table of all exports of this model on its card, where the card is ours to write. The table's rows."""
    told = publish.manifests(exporter.folder)
    if exporter.folder == exporter.place.path / "exports":
        publish.on_card(exporter.place.path / "card.md", told)
    return publish.table(told)


def _folder(name: str, precision: str) -> str:
    return name if precision == "fp32" else f"{name}-{precision}"
