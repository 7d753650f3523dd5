"""Checkpoints: everything that a resumed run needs, written whole or not at all, through the codec.

A checkpoint holds nets, optimisers, moving averages, the recipe's own state, the random generators and the length of
the metrics. This file knows nothing about the loop.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daybreak.errors import UserError
from daybreak.lab import codec
from daybreak.lab.home import sync_folder
from daybreak.lab.recipe import Recipe, Stored
from daybreak.lab.run import Run, best, read


def gather(recipe: Recipe[Any]) -> dict[str, Any]:
    """The recipe's state as a tree."""
    return {
        "nets": {name: dict(net.state_dict()) for name, net in recipe.nets().items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in recipe.optimisers.items()},
        "averages": recipe._averages,
        "state": {name: part.state_dict() for name, part in recipe.state().items() if not isinstance(part, Stored)},
        "random": random_state(),
    }


def restore(recipe: Recipe[Any], tree: dict[str, Any]) -> None:
    """Give a new recipe the state that `gather` took."""
    for name, net in recipe.nets().items():
        net.load_state_dict(tree["nets"][name])
    for name, optimiser in recipe.optimisers.items():
        optimiser.load_state_dict(tree["optimisers"][name])
    for name, averages in tree["averages"].items():
        for mine, saved in zip(recipe._averages[name], averages, strict=True):
            mine.copy_(saved)
    for name, part in recipe.state().items():
        if isinstance(part, Stored):
            part.read(tree["folder"] / name)
        else:
            part.load_state_dict(tree["state"][name])
    set_random_state(tree["random"])


def random_state() -> dict[str, Any]:
    """The states of Python's, numpy's and torch's generators; of the last two only where they are loaded."""
    state: dict[str, Any] = {"python": random.getstate()}
    if numpy := sys.modules.get("numpy"):
        state["numpy"] = numpy.random.get_state()
    if torch := sys.modules.get("torch"):
        state["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Set the generators."""
    random.setstate(state["python"])
    if "numpy" in state:
        sys.modules["numpy"].random.set_state(state["numpy"])
    if "torch" in state:
        sys.modules["torch"].set_rng_state(state["torch"])
    if "cuda" in state:
        sys.modules["torch"].cuda.set_rng_state_all(state["cuda"])


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators, of the last two where they are loaded."""
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


@contextmanager
def undisturbed(recipe: Recipe[Any]) -> Iterator[None]:
    """Inside, nets are in evaluation mode, averaged, without gradients; afterwards all is as it was, generators too."""
    state = random_state()
    modules = [m for net in recipe.nets().values() for m in net.modules()]
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        if torch := sys.modules.get("torch"):
            with torch.no_grad(), recipe.averaged():
                yield
        else:
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        set_random_state(state)


def write(run: Run, step: int, tree: dict[str, Any], recipe: Recipe[Any]) -> Path:
    """Write the checkpoint of a step, durably; then drop all but the last two and the best.

    Parts of the recipe's state that keep files of their own write them into folders beside the tree.

    Raises OSError when the disk is full; the checkpoints that were there stay.
    """
    folder = run.path / "checkpoints"
    path = folder / f"step-{step:08d}"
    if path.exists():
        return path
    making = folder / f".{secrets.token_hex(4)}.part"
    making.mkdir()
    try:
        codec.save(making / "state", tree)
        last = next(reversed(run.checkpoints()), None)
        for name, part in recipe.state().items():
            if isinstance(part, Stored):
                (making / name).mkdir()
                part.write(making / name, last and last / name)
                sync_folder(making / name)
        sync_folder(making)
        making.rename(path)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    saved = run.checkpoints()
    steps = [int(p.name.removeprefix("step-")) for p in saved]
    reached = {s: v for s, v in run.evaluated().items() if s in steps}
    keep = {*steps[-2:], best(reached, run.info.goal.get("better", "lower"))}
    for old, old_step in zip(saved, steps, strict=True):
        if old_step not in keep:
            shutil.rmtree(old)
    return path


def read_latest(run: Run) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; None where there is none."""
    for stale in (run.path / "checkpoints").glob(".*.part"):
        shutil.rmtree(stale, ignore_errors=True)
    for path in reversed(run.checkpoints()):
        try:
            tree: dict[str, Any] = codec.load(path / "state")
        except UserError as error:
            run.event("unreadable", checkpoint=path.name, reason=str(error))
            continue
        tree["folder"] = path
        return tree
    return None


def cut(run: Run, step: int, metrics_bytes: int) -> None:
    """Set aside the lines beyond a checkpoint: metrics past its length, scores of later steps. Nothing is deleted.

    Scores of the step itself stay: an evaluation that was stopped goes on from them.
    """
    aside: dict[str, bytes] = {}
    path = run.path / "metrics.jsonl"
    if path.exists():
        with open(path, "rb+") as file:
            file.seek(metrics_bytes)
            aside["metrics"] = file.read()
            file.truncate(metrics_bytes)
    path = run.path / "scores.jsonl"
    if path.exists():
        whole = list(read(path))
        kept = [line for line in whole if line["step"] <= step]
        data = path.read_bytes()
        lines = data.splitlines(keepends=True)
        good = b"".join(line for line, value in zip(lines, whole, strict=False) if value["step"] <= step)
        if len(kept) != len(whole) or good != data:
            aside["scores"] = b"".join(
                line for n, line in enumerate(lines) if n >= len(whole) or whole[n]["step"] > step
            )
            beside = path.with_name(".scores.part")
            beside.write_bytes(good)
            beside.replace(path)
    for name, data in aside.items():
        if data:
            (run.path / "aside").mkdir(exist_ok=True)
            count = len(list((run.path / "aside").iterdir()))
            with open(run.path / "aside" / f"{name}-{count:04d}.jsonl", "wb") as file:
                file.write(data)
                os.fsync(file.fileno())
