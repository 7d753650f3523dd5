"""Weights that ship: a version copied to a folder of its own, with a card whose every figure has its command.

The figures are measured on the copy, after it was made smaller. This file knows versions, recipes and cards; it knows
no system.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daybreak.errors import UserError
from daybreak.lab.codec import number, plain
from daybreak.lab.config import check, portable
from daybreak.lab.home import Lab, write_json, write_whole
from daybreak.lab.registry.gates import record_reading
from daybreak.lab.registry.place import locate
from daybreak.lab.registry.store import Version
from daybreak.lab.run import Run
from daybreak.lab.system import resolve, system

LARGEST = 25 * 10**6
"""Bytes that a system's shipped weights may have."""


def packed(lab: Lab, text: str) -> Path:
    """The folder of a version or of shipped weights that says how it was made. Raises `UserError`."""
    path = locate(lab, text).path
    if not (path / "record.json").is_file():
        raise UserError(f"{text!r} is not a registered version or packed weights: {path} has no record.json")
    return path


def pack(lab: Lab, version: Version, to: Path, half: bool, by: str) -> Path:
    """Write config, weights, record and card into `to`. Raises `UserError` when the weights are too large."""
    import safetensors.torch
    import torch

    weights = safetensors.torch.load_file(version.path / "weights.safetensors")
    if half:
        weights = {name: w.half() if w.dtype == torch.float32 else w for name, w in weights.items()}
    data = safetensors.torch.save(weights)
    if len(data) > LARGEST:
        raise UserError(
            f"{version.title} has {len(data) / 1e6:.1f} MB of weights; at most 25 ship (--half halves them)"
        )
    to.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(version.path / "config.json", to / "config.json")
    write_whole(to / "weights.safetensors", data)
    name, _, recipe = version.record["recipe"].partition(":")
    cls = resolve(system(name).recipes[recipe])
    record = {**version.record, "config": portable(cls.Config, version.record["config"])}
    write_json(to / "record.json", plain(record))
    found = measure(lab, to, str(record["snapshot"]), by)
    size = sum(weight.numel() for weight in weights.values())
    kind = "16-bit" if half else "32-bit"
    about = {"weights": f"{size:,} parameters as {kind} floats, {len(data) / 1e6:.1f} MB"}
    write_whole(to / "card.md", card(lab, record, found, about, to).encode())
    return to


def measure(lab: Lab, folder: Path, snapshot: str, by: str) -> dict[str, Any]:
    """Score a packed model on test items, as its recipe scores them. The reading is recorded."""
    from daybreak.lab.checkpoint import seed_everything
    from daybreak.lab.evaluate import figures, scores
    from daybreak.lab.lake import Lake, Snapshot

    record = json.loads((folder / "record.json").read_text())
    name, _, recipe_name = record["recipe"].partition(":")
    cls = resolve(system(name).recipes[recipe_name])
    if snapshot:
        data = Snapshot.open(lab, snapshot)
    elif system(name).ingest:
        lake = Lake.open(lab)
        data = lake.snapshot(name)
        lake.close()
    else:
        data = Snapshot.none(lab, name)
    config = check(cls.Config, cls.shipped(record["config"]), f"{folder}/record.json")
    seed_everything(config.seed)
    recipe = cls(config, data, "cpu")
    recipe.model().read_weights(folder / "weights.safetensors")
    items = recipe.items("test")
    if not len(items):
        raise UserError(f"snapshot {data.id} has no test items")
    found = list(scores(recipe, items))
    values = figures(cls, found)
    goal = {"name": cls.goal.name, "value": values[cls.goal.name]}
    return record_reading(lab, record["run"], data.id, items, scores=len(found), goal=goal, values=values, by=by)


def card(lab: Lab, record: Mapping[str, Any], found: Mapping[str, Any], about: Mapping[str, str], folder: Path) -> str:
    """The model card, in Markdown."""
    name, _, _ = record["recipe"].partition(":")
    told = json.loads((folder / "config.json").read_text())
    prose = resolve(system(name).models[told["model"]]).about.strip()
    lineage, result = record["lineage"], record["result"]
    items = lineage["items"]
    run = Run.find(lab, record["run"])
    hours = sum(w["train_s"] + w["wait_s"] for w in run.windows()) / 3600
    clock = f", {number(result['clock']):,.0f} {run.info.clock}" if run.info.clock != "steps" else ""
    # A system's usual weights go by its name; others by their folder in the project.
    place = folder.name if folder.name == name else "/".join(folder.parts[-3:])
    code = lineage["code"]
    state = " with local changes" if code.get("dirty") else ""
    lines = [
        f"# {name}: model card",
        "",
        prose,
        "",
        "## How it was made",
        "",
        f"- Recipe `{record['recipe']}`, preset `{record['preset'] or 'none'}`, seed {record['config']['seed']}, "
        f"{result['step']:,} updates{clock}, {hours:.2f} h on {run.info.threads} thread(s) of "
        f"{run.info.hardware.get('cpu')}.",
        _items(items),
        f"- Code: commit `{code.get('commit', '')[:12]}`{state}; torch {lineage['versions'].get('torch')}.",
        f"- Weights: {about['weights']}.",
        f"- Config: `{json.dumps(record['config'], sort_keys=True)}`",
        "",
        "## Figures",
        "",
        f"On {found['items']} test items ({found['scores']} scores), measured on these weights by "
        f"`daybreak registry measure {place}`:",
        "",
        "| metric | value |",
        "| --- | --- |",
        *(f"| {metric} | {number(value):.4f} |" for metric, value in found["values"].items()),
        "",
    ]
    return "\n".join(lines)


def _items(items: Mapping[str, Any]) -> str:
    """The line of the card that tells what it was trained on."""
    if "counts" not in items:
        return "- Items: none; the recipe makes its own data."
    counts = ", ".join(f"{count} {split}" for split, count in items["counts"].items())
    licences, sources = _words(items["licences"]), _words(items["sources"])
    return f"- Items: {counts} (snapshot `{items['snapshot']}`); licence {licences}; source {sources}."


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items())
