"""A training step: what the trainer adds to the bare loop, ours and Lightning's and Accelerate's.

A 16-32-1 MLP, 32 rows a batch, one thread. Ours logs every step and writes checkpoints meanwhile. The clock is read
inside the step (see bench_mlp), so that start and end are not counted and all between two steps is.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bench_system
from rows import Bar, Row, in_turn, main, medians, say, scratch

FIRST = 300
"""Steps before the clock starts."""
EVERY = 1.0
"""Seconds between checkpoints, for those that write any."""


def bare(steps: int, folder: str) -> Iterator[float]:
    """The loop that everybody would write, without logging or saving."""
    import torch
    from bench_mlp import Rows, clock, net

    rows = Rows(0, 32)
    while True:
        torch.manual_seed(0)
        model = net()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        clock.between(FIRST, FIRST + steps)
        for step in range(FIRST + steps + 1):
            clock.tick(step)
            batch = rows(step)
            loss = torch.nn.functional.mse_loss(model(batch["x"]), batch["y"])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        yield clock.seconds


def ours(steps: int, folder: str) -> Iterator[dict[str, float]]:
    """`train` on a run, as the night runs it."""
    from bench_mlp import MlpConfig, clock

    from daybreak.lab.home import Lab
    from daybreak.lab.run import Run
    from daybreak.lab.train import train

    lab = Lab.open(folder)
    while True:
        config = MlpConfig(steps=FIRST + steps + 1, checkpoint=EVERY)
        run = Run.create(lab, recipe="bench:mlp", config=config, threads=1)
        clock.between(FIRST, FIRST + steps)
        saved = _count_saves()
        train(lab, run, progress=False)
        assert sum("loss" in line for line in run.metrics()) == config.steps
        yield {"seconds": clock.seconds, "checkpoints": len(saved)}


def _count_saves() -> list[int]:
    """The steps at which checkpoints are written from now on."""
    from daybreak.lab import checkpoint

    steps: list[int] = []
    write = getattr(checkpoint.write, "inner", checkpoint.write)

    def counted(run: Any, step: int, tree: Any) -> Path:
        steps.append(step)
        return write(run, step, tree)

    counted.inner = write  # type: ignore[attr-defined]
    checkpoint.write = counted
    return steps


def accelerate(steps: int, folder: str) -> Iterator[float]:
    """Accelerate's loop, as its quick tour has it; no tracker, its state saved as often as ours."""
    import torch
    from accelerate import Accelerator
    from bench_mlp import Rows, clock, net

    accelerator = Accelerator(cpu=True)
    for turn in itertools.count():
        torch.manual_seed(0)
        model = net()
        model, optimiser, loader = accelerator.prepare(
            model, torch.optim.AdamW(model.parameters(), lr=1e-3), _loader(Rows(0, 32), FIRST + steps + 1)
        )
        clock.between(FIRST, FIRST + steps)
        saved = time.monotonic()
        for step, (x, y) in enumerate(loader):
            clock.tick(step)
            optimiser.zero_grad()
            accelerator.backward(torch.nn.functional.mse_loss(model(x), y))
            optimiser.step()
            if time.monotonic() - saved > EVERY:
                accelerator.save_state(f"{folder}/accelerate-{turn}", safe_serialization=True)
                saved = time.monotonic()
        accelerator.free_memory()
        yield clock.seconds


def lightning(steps: int, folder: str) -> Iterator[float]:
    """Lightning's Trainer doing the same work: every step logged to its CSVLogger, checkpoints as often as ours."""
    yield from _lightning(steps, folder, same_work=True)


def lightning_least(steps: int, folder: str) -> Iterator[float]:
    """Lightning's Trainer with all that can be switched off switched off."""
    yield from _lightning(steps, folder, same_work=False)


def _lightning(steps: int, folder: str, same_work: bool) -> Iterator[float]:
    import logging
    from datetime import timedelta

    import lightning as L
    import torch
    from bench_mlp import Rows, clock, net
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def training_step(self, batch: Any, step: int) -> Any:
            clock.tick(step)
            loss = torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])
            if same_work:
                self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    for turn in itertools.count():
        L.seed_everything(0, verbose=False)
        where = f"{folder}/{'same' if same_work else 'least'}-{turn}"
        callbacks = [ModelCheckpoint(where, train_time_interval=timedelta(seconds=EVERY))] if same_work else []
        trainer = L.Trainer(
            max_steps=FIRST + steps + 1, accelerator="cpu", logger=CSVLogger(where) if same_work else False,
            log_every_n_steps=1, enable_checkpointing=same_work, callbacks=callbacks, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=where,
        )  # fmt: skip
        clock.between(FIRST, FIRST + steps)
        trainer.fit(Module(), _loader(Rows(0, 32), FIRST + steps + 1))
        yield clock.seconds


def _loader(rows: Any, steps: int) -> Any:
    """The same batches as a torch DataLoader without workers."""
    from torch.utils.data import DataLoader, Dataset

    class Batches(Dataset[Any]):
        def __len__(self) -> int:
            return steps

        def __getitem__(self, step: int) -> Any:
            batch = rows(step)
            return batch["x"], batch["y"]

    return DataLoader(Batches(), batch_size=None, shuffle=False)


PEERS = {
    "accelerate": "Accelerate, no tracker",
    "lightning_least": "Lightning, no logging, no checkpoints",
    "lightning": "Lightning, CSVLogger, checkpoints",
}


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    steps, rounds = (3000, 3) if quick else (6000, 7)
    names = ["bare", "ours", *([] if quick else PEERS)]
    with scratch() as folder:
        bench_system.install(folder)
        say(f"{rounds} rounds of {steps} steps, in turn: {', '.join(names)}")
        found = in_turn({name: (steps, str(folder)) for name in names}, rounds)
    saves = [turn["checkpoints"] for turn in found["ours"]]
    found["ours"] = [turn["seconds"] for turn in found["ours"]]
    added = {
        name: [1e6 * (mine - base) for mine, base in zip(times, found["bare"], strict=True)]
        for name, times in found.items()
    }
    over = medians(added)
    step = 1e6 * medians(found)["bare"]
    yield Row(
        "a step's overhead over the bare loop, CPU", "us", over["ours"], Bar("ours", "<=", 60),
        note=f"bare {step:.0f} us; every step logged, {min(saves)} to {max(saves)} checkpoints a round",
    )  # fmt: skip
    for peer, title in PEERS.items():
        bar = Bar("ours", "<=", 60) if peer in over else None
        yield Row("a step's overhead over the bare loop, CPU", "us", over["ours"], bar, title, over.get(peer))


if __name__ == "__main__":
    main(
        measure,
        {"bare": bare, "ours": ours, "accelerate": accelerate, "lightning": lightning,
         "lightning_least": lightning_least},
        ["lightning", "accelerate"],
    )  # fmt: skip
