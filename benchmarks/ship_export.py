"""Exports of the shipped weights: parity, latency and memory beside eager torch, int8, and the page in a browser.

Real inputs come from the lab that DAYBREAK_LAB names, where it has the items; it may name several, and of each model
the one that has its snapshot is taken. A quick run takes one agent, ONNX and the page.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rows import Bar, Row, main, say, scratch
from torch import nn

from daybreak.errors import UserError
from daybreak.lab.home import Lab
from daybreak.lab.registry import locate
from daybreak.lab.ship.export import TARGETS, Differs, Exporter
from daybreak.lab.ship.export.trace import held_out
from daybreak.lab.ship.page import make

ROOT = Path(__file__).parent.parent
PARITY = Bar("ours", "<=", 1e-4)
ASKED = 4
"""Real inputs of each program that are run in the page."""
LONG = ("rl/pong",)
"""Agents that play too long to be judged here: int8 is judged by all test episodes, of Pong a hundred whole games."""


def shipped(quick: bool) -> list[Path]:
    """Folders of shipped weights; a quick run takes the smallest."""
    found = sorted(path.parent for path in (ROOT / "weights").rglob("config.json"))
    found.sort(key=lambda path: (path / "weights.safetensors").stat().st_size)
    return found[:1] if quick else found


def exported(exporter: Exporter, name: str, quick: bool) -> Iterator[Row]:
    """A model to every target in fp32, and to those in int8 whose quantiser takes what it is made of."""
    sizes: dict[str, float] = {}
    for target, told in TARGETS.items():
        if quick and target != "onnx":
            continue
        say(f"{name} -> {target}")
        try:
            (made,) = exporter.run([target])
        except (UserError, Differs) as error:
            yield Row(f"{name}, {target}: parity", "difference", None, PARITY, note=str(error))
            continue
        sizes[target] = made.manifest["bytes"] / 1e6
        if not told.runs:
            yield Row(f"{name}, {target}: converts, cannot run here", "MB", sizes[target])
            continue
        for program, found in made.manifest["programs"].items():
            what, outputs = f"{name}.{program}, {target}", found["parity"]
            worst = max(one["worst"] / max(1.0, one["scale"]) + one["unequal"] for one in outputs)
            count = f"{found['measured_on']} held-out inputs, {made.manifest['items']}"
            yield Row(f"{what}: parity", "difference", worst, PARITY, note=count)
            bar = Bar("ratio", "<=", 1.0) if target == "onnx" else None
            yield Row(f"{what}: latency", "ms wall", found["latency_ms"], bar, "eager torch", found["eager_ms"])
        memory, eager = made.manifest["memory"] / 1e6, made.manifest["eager_memory"] / 1e6
        yield Row(f"{name}, {target}: memory over the runtime's import", "MB", memory, None, "eager torch", eager)
    if quick:
        return
    if name in LONG:
        yield Row(f"{name}, int8", "MB", None, note="not made here: a hundred whole games would judge it")
        return
    yield from eight(exporter, name, "onnx", sizes.get("onnx"))
    # ExecuTorch's quantiser takes convolutions and linear layers, and knows none in an agent's stacked nets.
    if any(isinstance(part, nn.Conv2d) for net in exporter.model.nets().values() for part in net.modules()):
        yield from eight(exporter, name, "executorch", sizes.get("executorch"))


def eight(exporter: Exporter, name: str, target: str, whole: float | None) -> Iterator[Row]:
    """A model in int8: its goal and its size; `whole` is that of fp32 in MB."""
    say(f"{name} -> {target} int8")
    what, bar = f"{name}, {target} int8", Bar("ratio", "<=", 1 / 3, "1/3")
    try:
        (made,) = exporter.run([target], ["int8"])
    except (UserError, Differs) as error:
        yield Row(f"{what}: size", "MB", None, bar, "fp32", whole, str(error))
        return
    goal = made.manifest["goal"]
    gate = "no gate; not surely worse" if goal["gate"] is None else f"gate {goal['gate']:g}"
    note = f"{goal['items']} test items, {made.manifest['items']}; {gate}"
    yield Row(f"{what}: {goal['name']}", goal["unit"], goal["value"], None, "eager fp32", goal["eager"], note)
    yield Row(f"{what}: size", "MB", made.manifest["bytes"] / 1e6, bar, "fp32", whole)
    for program, found in made.manifest["programs"].items():
        latency = found["latency_ms"]
        yield Row(
            f"{name}.{program}, {target} int8: latency", "ms wall", latency, None, "eager torch", found["eager_ms"]
        )


def paged(exporter: Exporter, name: str, lab: Lab | None) -> Iterator[Row]:
    """A model's page in headless Chromium."""
    sys.path.insert(0, str(ROOT / "tests" / "lab"))
    from browser import CHROMIUM, browser

    say(f"{name} -> page")
    made = make(exporter)
    over = made.manifest["over_weights"] / 1e6
    weights = made.manifest["weights_gzipped"] / 1e6
    yield Row(
        f"{name}, page: MB over the gzipped weights", "MB", over, Bar("ours", "<=", 6.0), note=f"{weights:.2f} MB"
    )
    if CHROMIUM is None:
        yield Row(f"{name}, page: ready", "s", None, Bar("ours", "<=", 2.0), note="no Chromium")
        return
    ready, asked, worst, complaints = [], [], 0.0, 0
    for turn in range(3):
        with scratch() as profile, browser(Path(profile)) as tab:
            tab.open(made.path / "index.html")
            ready.append(float(tab.ask("daybreak.ready.then(() => document.body.dataset.ready)")) / 1e3)
            if not turn:
                worst = asked_in(tab, exporter, lab)
            asked += [url for url in tab.fetched() if not url.startswith(("file:", "blob:"))]
            complaints += len(tab.complaints())
    yield Row(f"{name}, page: ready, best of 3", "s wall", min(ready), Bar("ours", "<=", 2.0), note="headless Chromium")
    yield Row(f"{name}, page: requests", "", len(asked), Bar("ours", "=", 0), note=f"{complaints} complaints")
    yield Row(f"{name}, page: parity with Python", "difference", worst, PARITY, note=f"{ASKED} inputs a program")


def asked_in(tab: Any, exporter: Exporter, lab: Lab | None) -> float:
    """The largest difference between the page's answers and the model's own."""
    import torch

    worst = 0.0
    with held_out(lab, exporter.system, "") as (data, _):
        for name, program in exporter.programs.items():
            for given in islice(program.inputs(data, "test"), ASKED):
                with torch.inference_mode():
                    out = program.module(*given.values())
                want = (out,) if isinstance(out, torch.Tensor) else out
                told = {k: {"data": x.flatten().tolist(), "shape": list(x.shape)} for k, x in given.items()}
                got = tab.ask(
                    f"daybreak.run({json.dumps(name)}, {json.dumps(told)})"
                    ".then(out => Object.values(out).map(x => Array.from(x.data, Number)))"
                )
                for mine, theirs in zip(want, got, strict=True):
                    gap = (mine.double().flatten() - torch.tensor(theirs, dtype=torch.float64)).abs().max()
                    worst = max(worst, float(gap) / max(1.0, float(mine.double().abs().max())))
    return worst if math.isfinite(worst) else math.inf


def lab_of(folder: Path) -> Lab | None:
    """The lab that has the snapshot of a model's run, else the first of those that DAYBREAK_LAB names."""
    labs = [Lab.open(path) for path in os.environ.get("DAYBREAK_LAB", "").split(os.pathsep) if path]
    snapshot = json.loads((folder / "record.json").read_text()).get("snapshot", "")
    return next((lab for lab in labs if snapshot and (lab.snapshots / snapshot).is_dir()), labs[0] if labs else None)


def measure(quick: bool) -> Iterator[Row]:
    """Rows for each of the shipped weights."""
    for folder in shipped(quick):
        lab = lab_of(folder)
        with scratch() as out:
            name = str(folder.relative_to(ROOT / "weights"))
            try:
                exporter = Exporter(lab, locate(lab, str(folder)), Path(out), items=12, by="benchmark", say=say)
            except UserError as error:
                yield Row(f"{name}: programs", "", 0, note=str(error))
                continue
            yield from exported(exporter, name, quick)
            yield from paged(exporter, name, lab)


if __name__ == "__main__":
    main(measure, {}, ["torch", "onnx", "onnxruntime"])
