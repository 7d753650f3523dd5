"""Resuming: a run that was killed (`kill -9`) and went on ends in the same bits as one that was not.

Ours is killed at random instants of its whole life, evaluations and saving included. Lightning and the HF Trainer are
killed at a random step and resumed from their last checkpoint, each as its documentation says.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bench_system
from rows import Bar, Part, PartError, Row, main, say, scratch

STEPS = 3000
TRIALS = 20


def forked(work: Callable[[], object], log: Path, kill_after: float | None = None) -> tuple[int, float]:
    """Do the work in a forked process, killed after some seconds. Returns its wait status and how long it lived."""
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            work()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return status, time.monotonic() - began


# Ours.


def fingerprint(run: Path) -> dict[str, str]:
    """Hashes of what must be equal: the last checkpoint's tensors (weights, moments, generators), lines, samples."""
    last = max((run / "checkpoints").glob("step-*"))
    files = {"weights": last / "state.safetensors", "metrics": run / "metrics.jsonl", "scores": run / "scores.jsonl"}
    files |= {f"samples/{path.name}": path for path in (run / "samples").iterdir() if not path.name.startswith(".")}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def ours(folder: str, seed: int) -> Iterator[dict[str, Any]]:
    """First the run that nobody kills; then, a round each, a run that is killed once."""
    import bench_mlp

    from daybreak.lab.home import Lab
    from daybreak.lab.lake import Draft, Lake
    from daybreak.lab.run import Run
    from daybreak.lab.train import train

    lab = Lab.open(folder)
    draw = random.Random(seed)
    drafts = [Draft(f"item-{n}", f"group-{n}", {"data": draw.randbytes(64)}) for n in range(300)]
    lake = Lake.open(lab)
    lake.add("bench", drafts, licence="CC0-1.0")
    snapshot = lake.snapshot("bench")
    lake.close()
    config = bench_mlp.MlpConfig(steps=STEPS, dropout=0.1, evaluate=500, checkpoint=0, schedule="cosine", ema=0.9)

    def new() -> Any:
        return Run.create(lab, recipe="bench:mlp", config=config, snapshot=snapshot.id, threads=1)

    def work(run: Any) -> Callable[[], object]:
        return lambda: train(lab, run, progress=False)

    bench_mlp.Mlp(config, None)  # what torch loads late is loaded before the forks, as in a process that trains
    log = Path(folder) / "log"
    whole = new()
    status, life = forked(work(whole), log)
    assert status == 0, log.read_text()[-2000:]
    expected = fingerprint(whole.path)
    yield {"seconds": life, "steps": STEPS}
    while True:
        run = new()
        instant = draw.uniform(0.0, life)
        status, _ = forked(work(run), log, instant)
        if status != signal.SIGKILL:
            run.remove()
            continue  # it had finished before
        state = run.state()
        status, _ = forked(work(run), log)
        assert status == 0, log.read_text()[-2000:]
        found = fingerprint(run.path)
        different = sorted(n for n in {*found, *expected} if found.get(n) != expected.get(n))
        aside = run.path / "aside"
        yield {
            "instant": instant, "word": state.word, "step": state.step, "different": different,
            "aside": len(list(aside.iterdir())) if aside.is_dir() else 0,
            "went_on": run.events()[-1]["event"] == "finished" and run.state().word == "finished",
        }  # fmt: skip


# Peers: 300 steps of the same net, shuffled, with dropout, a checkpoint each 50 steps, killed at a random step.

PEER_STEPS, PEER_SAVE = 300, 50


def _table() -> Any:
    import torch
    from bench_mlp import Rows

    rows = Rows(0, 32)
    return torch.utils.data.TensorDataset(rows.x[:2000], rows.y[:2000])


def _trials(run: Callable[[Path, int | None], None], folder: str, seed: int) -> Iterator[dict[str, Any]]:
    """Compare weights of an uninterrupted run with those of runs killed at a step; `run` writes weights.bin."""
    draw = random.Random(seed)
    log = Path(folder) / "log"
    whole = Path(folder) / "whole"
    whole.mkdir()
    status, _ = forked(lambda: run(whole, None), log)
    assert status == 0, log.read_text()[-3000:]
    expected = (whole / "weights.bin").read_bytes()
    for trial in range(1_000):
        path = Path(folder) / f"trial-{trial}"
        path.mkdir()
        step = draw.randrange(PEER_SAVE + 1, PEER_STEPS)
        status, _ = forked(lambda path=path, step=step: run(path, step), log)
        assert status == signal.SIGKILL, log.read_text()[-3000:]
        status, _ = forked(lambda path=path: run(path, None), log)
        assert status == 0, log.read_text()[-3000:]
        yield {"step": step, "same": (path / "weights.bin").read_bytes() == expected}


def _weights(model: Any) -> bytes:
    return b"".join(value.detach().numpy().tobytes() for value in model.state_dict().values())


def lightning(folder: str, seed: int) -> Iterator[dict[str, Any]]:
    """Lightning: `ckpt_path="last"`, its way to resume."""
    import lightning as L
    import torch
    from bench_mlp import net
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Module(L.LightningModule):
        def __init__(self, kill_at: int | None) -> None:
            super().__init__()
            self.net, self.kill_at = net(0.1), kill_at

        def training_step(self, batch: Any, step: int) -> Any:
            if self.global_step == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    def run(path: Path, kill_at: int | None) -> None:
        torch.set_num_threads(1)
        L.seed_everything(0, verbose=False)
        module = Module(kill_at)
        saver = ModelCheckpoint(path, every_n_train_steps=PEER_SAVE, save_last=True)
        trainer = L.Trainer(
            max_steps=PEER_STEPS, accelerator="cpu", logger=False, callbacks=[saver], enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=path,
        )  # fmt: skip
        loader = torch.utils.data.DataLoader(_table(), batch_size=32, shuffle=True)
        trainer.fit(module, loader, ckpt_path="last" if (path / "last.ckpt").exists() else None)
        (path / "weights.bin").write_bytes(_weights(module.net))

    yield from _trials(run, folder, seed)


def transformers(folder: str, seed: int) -> Iterator[dict[str, Any]]:
    """The HF Trainer: `resume_from_checkpoint=True`."""
    import torch
    from bench_mlp import net
    from transformers import Trainer, TrainingArguments

    class Model(torch.nn.Module):
        def __init__(self, kill_at: int | None) -> None:
            super().__init__()
            self.net, self.kill_at, self.trainer = net(0.1), kill_at, []

        def forward(self, x: Any, labels: Any) -> Any:
            if self.trainer and self.trainer[0].state.global_step == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            out = self.net(x)
            return {"loss": torch.nn.functional.mse_loss(out, labels), "logits": out}

    def run(path: Path, kill_at: int | None) -> None:
        torch.set_num_threads(1)
        rows = [{"x": x, "labels": y} for x, y in _table()]
        arguments = TrainingArguments(
            str(path / "out"), max_steps=PEER_STEPS, per_device_train_batch_size=32, save_steps=PEER_SAVE, seed=0,
            report_to=[], use_cpu=True, disable_tqdm=True, save_total_limit=2, learning_rate=1e-3,
        )  # fmt: skip
        torch.manual_seed(0)
        model = Model(kill_at)
        trainer = Trainer(model, arguments, train_dataset=rows)
        model.trainer = [trainer]
        trainer.train(resume_from_checkpoint=any((path / "out").glob("checkpoint-*")))
        (path / "weights.bin").write_bytes(_weights(model.net))

    yield from _trials(run, folder, seed)


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    with scratch() as folder:
        bench_system.install(folder)
        (folder / "ours").mkdir()
        kills = 4 if quick else TRIALS
        with Part("ours", str(folder / "ours"), 3) as part:
            whole = part()
            say(f"an uninterrupted run of {whole['steps']} steps took {whole['seconds']:.1f} s; killing {kills} others")
            trials = [part() for _ in range(kills)]
        for trial in trials:
            ended = f"differs in {', '.join(trial['different'])}" if trial["different"] else "the same bits"
            say(f"killed after {trial['instant']:.2f} s at step {trial['step']} ({trial['word']}): {ended}")
        peers: dict[str, list[dict[str, Any]]] = {}
        for name in () if quick else ("lightning", "transformers"):
            say(f"killed and resumed: {name}")
            (folder / name).mkdir()
            try:
                with Part(name, str(folder / name), 3) as part:
                    peers[name] = [part() for _ in range(5)]
            except PartError as error:
                say(f"{name} was not run: {error}")
    whole_number = None if quick else len(trials)
    same = sum(not trial["different"] and trial["went_on"] for trial in trials)
    where = f"killed at steps {', '.join(str(t['step']) for t in trials)} of {STEPS}"
    yield Row(
        f"runs of {TRIALS} killed at random instants whose every weight, metric line, score and sample is the same",
        "runs", same if whole_number else None, Bar("ours", "=", TRIALS),
        note=where if not quick else f"{same} of {kills} the same; {where}",
    )  # fmt: skip
    for name, title in (("lightning", "Lightning"), ("transformers", "HF Trainer")):
        found = peers.get(name)
        share = same / kills
        yield Row(
            "share of killed and resumed runs with the same final weights", "", share, None, title,
            sum(trial["same"] for trial in found) / len(found) if found else None,
            note=f"peer: {sum(t['same'] for t in found)} of {len(found)}" if found else "",
        )  # fmt: skip


if __name__ == "__main__":
    main(
        measure,
        {"ours": ours, "lightning": lightning, "transformers": transformers},
        ["lightning", "transformers", "accelerate"],
    )
