"""From a finished run to a version: gates read on test items, each reading recorded, then lineage and a copy.

A reading is recorded before its outcome is told, also when a gate fails: who reads a test set often enough fits it.
This file knows runs, recipes and snapshots; it knows no system by name.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daybreak.errors import UserError
from daybreak.lab.codec import number, plain
from daybreak.lab.config import portable
from daybreak.lab.home import Lab
from daybreak.lab.registry.place import usual_name
from daybreak.lab.registry.store import Version, append, checked_name, keep, now, versions, writing
from daybreak.lab.run import Run, read
from daybreak.lab.system import system

if TYPE_CHECKING:
    from daybreak.lab.lake import Item
    from daybreak.lab.recipe import Gate, Recipe, Score


def add(
    lab: Lab, run: Run, name: str | None = None, by: str = "", progress: Callable[[int, int], None] | None = None
) -> Version:
    """Register a finished run: read its gates on the test items, refuse or copy it into the registry.

    Args:
        lab: the lab's folder.
        run: a finished run.
        name: the model's name; by default the system's, or SYSTEM-MODEL for one that is not its default model.
        by: who asks; it stands in the record and with the reading of the test set.
        progress: called with items done and all items.

    Returns:
        The new version, or the one that this run already has under the name: the test set is then not read again.

    Raises:
        UserError: the run is not finished or made no model, there are no test items, or a gate fails (all that fail are
            named, with value and bound).
    """
    from daybreak.lab.train import recipe_class

    state = run.state()
    if state.word != "finished":
        raise UserError(f"{run.title} cannot be registered, only a finished run can be; this one: {state.text}")
    final = run.path / "final"
    if not (final / "config.json").exists():
        raise UserError(f"{run.title} cannot be registered: its recipe {run.info.recipe} makes no model")
    name = checked_name(name or _default_name(final))
    for version in versions(lab, name):
        if version.record["run"] == run.id and version.record["created_run"] == run.info.created:
            return version
    cls = recipe_class(run)
    reading = _read_gates(lab, run, cls, by, progress)
    record = {
        "version": 1,
        "model": name,
        "run": run.id,
        "title": run.title,
        "recipe": run.info.recipe,
        "preset": run.info.preset,
        "config": portable(cls.Config, run.info.config),
        "snapshot": run.info.snapshot,
        "code": dict(run.info.code),
        "created": now(),
        "created_run": run.info.created,
        "by": by,
        "result": run.result() or {},
        "test": reading,
        "weights": _digest(final),
        "lineage": lineage(lab, run),
    }
    return keep(lab, run, name, record)


def readings(lab: Lab, test_set: str = "") -> list[dict[str, Any]]:
    """Readings of test sets, oldest first: readings.jsonl; of one test set where it is named."""
    lines = read(lab.registry / "readings.jsonl")
    return [line for line in lines if not test_set or line["test_set"] == test_set]


def lineage(lab: Lab, run: Run) -> dict[str, Any]:
    """Where a run comes from: the runs it was derived from, its items, its code and libraries."""
    parents = []
    at = run
    while at.info.parent and at.info.parent not in parents:
        parents.append(at.info.parent)
        try:
            at = Run.find(lab, at.info.parent)
        except UserError:  # the parent was deleted: its name is all that is known
            break
    items: dict[str, Any] = {}
    if data := run.snapshot(lab):
        counts: dict[str, Counter[str]] = {field: Counter() for field in ("licence", "source", "consent")}
        for split in data.counts:
            for item in data.split(split):
                for field, counter in counts.items():
                    counter[getattr(item, field) or "not said"] += 1
        items = {
            "snapshot": data.id,
            "counts": dict(data.counts),
            "licences": dict(counts["licence"]),
            "sources": dict(counts["source"]),
            "consents": dict(counts["consent"]),
        }
    code = {key: run.info.code[key] for key in ("commit", "dirty", "diff") if key in run.info.code}
    return {"parents": parents, "items": items, "code": code, "versions": dict(run.info.versions)}


def show(version: Version, lab: Lab) -> dict[str, Any]:
    """What a person asks about a version, in the order they ask."""
    record = version.record
    test = record["test"]
    return {
        "model": version.title,
        "aliases": list(version.aliases),
        "run": record["title"],
        "recipe": record["recipe"],
        "registered": record["created"],
        "by": record["by"],
        "gates": [_gate_line(gate) for gate in test.get("gates", ())],
        "test items": test.get("items", 0),
        "readings of this test set": len(readings(lab, test["test_set"])) if test.get("test_set") else 0,
        "items": record["lineage"]["items"],
        "derived from": record["lineage"]["parents"],
        "code": record["lineage"]["code"],
        "config": record["config"],
        "folder": str(version.path),
    }


def _read_gates(
    lab: Lab, run: Run, cls: type[Recipe[Any]], by: str, progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    """Evaluate a run's gates on its test items and record the reading. Raises `UserError` when a gate fails."""
    from daybreak.lab.evaluate import scores
    from daybreak.lab.train import restored

    recipe = restored(lab, run)
    items = recipe.items("test")
    if not len(items):
        if cls.gates:
            raise UserError(f"{run.title} cannot be registered: its snapshot has no test items to read its gates on")
        return {"items": 0, "gates": []}
    found: list[Score] = []
    seen = set()
    for score in scores(recipe, items):
        found.append(score)
        seen.add(score.item.split("#")[0])
        if progress:
            progress(len(seen), len(items))
    gates = [_gate(gate, found) for gate in cls.gates]
    reading = record_reading(
        lab, run.id, run.info.snapshot, items, goal={"name": cls.goal.name, "value": cls.goal.aggregate(found)},
        gates=gates, passed=all(gate["passed"] for gate in gates), by=by,
    )  # fmt: skip
    failed = [_gate_line(gate) for gate in gates if not gate["passed"]]
    if failed:
        raise UserError(
            f"{run.title} is not registered: {'; '.join(failed)} "
            f"({len(items)} test items, reading {reading['reading']} of this test set)"
        )
    return reading


def record_reading(lab: Lab, run: str, snapshot: str, items: Sequence[Item], **told: Any) -> dict[str, Any]:
    """Write that test items were read: of which snapshot, the how manieth time, and what was told. The line written."""
    tests = test_set(items)
    with writing(lab):
        reading: dict[str, Any] = {
            "time": now(), "run": run, "snapshot": snapshot, "test_set": tests,
            "reading": len(readings(lab, tests)) + 1, "items": len(items), **told,
        }  # fmt: skip
        append(lab.registry / "readings.jsonl", plain(reading))
    return reading


def _gate(gate: Gate, found: Sequence[Score]) -> dict[str, Any]:
    value = gate.metric.aggregate(found)
    return {
        "name": gate.metric.name,
        "unit": gate.metric.unit,
        "better": gate.metric.better,
        "bound": gate.bound,
        "value": value,
        "passed": gate.passes(value),
    }


def _gate_line(gate: Mapping[str, Any]) -> str:
    unit = f" {gate['unit']}" if gate["unit"] else ""
    most = "at most" if gate["better"] == "lower" else "at least"
    return f"{gate['name']} is {number(gate['value']):.6g}{unit}, the gate asks for {most} {number(gate['bound']):.6g}"


def test_set(items: Sequence[Item]) -> str:
    """An id of the items by content: two snapshots with the same test items have one test set."""
    digest = hashlib.sha256()
    for line in sorted(f"{item.id} {getattr(item, 'digest', '')}" for item in items):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:16]


def _digest(final: Path) -> str:
    with open(final / "weights.safetensors", "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _default_name(final: Path) -> str:
    about = json.loads((final / "config.json").read_text())
    system(about["system"])  # says it where the system is not installed
    return usual_name(about["system"], about["model"])
