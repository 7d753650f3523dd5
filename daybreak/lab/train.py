"""The one training loop: it steps, logs, evaluates, saves and stops in time.

It resumes a run to the same bits. It knows recipes, runs and checkpoints; it knows nothing about queues or nights.
`python -m daybreak.lab.train LAB RUN` trains one run in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from daybreak.errors import UserError
from daybreak.lab import checkpoint
from daybreak.lab.batches import Batch, prefetched
from daybreak.lab.codec import plain
from daybreak.lab.config import check
from daybreak.lab.evaluate import evaluate, means, spread
from daybreak.lab.home import Lab, sync_folder, write_json
from daybreak.lab.recipe import Recipe, schedule
from daybreak.lab.run import Lines, Run
from daybreak.lab.surroundings import keep_memory
from daybreak.lab.system import resolve, system

LOG_EVERY = 10
"""Steps whose values are fetched from the device at once."""
WINDOW = 10.0
"""Seconds between lines of system.jsonl."""
HOPELESS = 3
"""Updates in a row with a loss that is not finite after which a run has diverged."""
EXIT = {"finished": 0, "pruned": 0, "diverged": 0, "failed": 1, "refused": 2, "deadline": 75, "stopped": 75}


def recipe_class(run: Run) -> type[Recipe[Any]]:
    """The class that a run's recipe names."""
    name, _, recipe = run.info.recipe.partition(":")
    found = system(name)
    if recipe not in found.recipes:
        raise UserError(f"{run.title}: system {name} has no recipe {recipe!r} any more")
    cls: type[Recipe[Any]] = resolve(found.recipes[recipe])
    return cls


def make(lab: Lab, run: Run, device: str = "") -> Recipe[Any]:
    """A new recipe for a run, seeded, on the best device."""
    cls = recipe_class(run)
    config = check(cls.Config, run.info.config, f"{run.title}: run.json")
    torch = sys.modules.get("torch")
    if torch is not None:
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_num_threads(run.info.threads)
        torch.use_deterministic_algorithms(config.deterministic)
    checkpoint.seed_everything(config.seed)
    recipe = cls(config, run.snapshot(lab), device or "cpu")
    if torch is None and "torch" in sys.modules:
        raise UserError(f"{run.info.recipe}: import torch at the top of the recipe's module, so that it can be seeded")
    return recipe


def restored(lab: Lab, run: Run) -> Recipe[Any]:
    """A run's recipe with the weights of its newest checkpoint, ready to evaluate."""
    recipe = make(lab, run)
    tree = checkpoint.read_latest(run)
    if tree is None:
        raise UserError(f"{run.title} has no checkpoint yet")
    checkpoint.restore(recipe, tree)
    return recipe


def train(lab: Lab, run: Run, *, deadline: float | None = None, progress: bool = True) -> str:
    """Train a run to its budget, or until a deadline (seconds since the epoch); resume where it was.

    Returns the word of its state. Raises `UserError` for a mistake in what it was given, which is kept as its
    event too; an error of the recipe's own is recorded and returned as "failed".
    """
    with run.own():
        if run.state().word == "finished" or (run.path / "final").is_dir():
            return "finished"
        try:
            keep_memory()
            return _Session(lab, run, deadline, progress).train()
        except UserError as error:
            run.event("refused", reason=str(error))
            raise
        except Exception as error:  # a recipe may raise anything: the morning tells what
            reason = f"{type(error).__name__}: {error}"
            run.event("failed", error=reason.splitlines()[0][:500], traceback=traceback.format_exc())
            print(traceback.format_exc(), file=sys.stderr)
            return "failed"


class _Session:
    """One process's share of a run's life."""

    def __init__(self, lab: Lab, run: Run, deadline: float | None, progress: bool) -> None:
        self.run, self.progress = run, progress
        # The wall clock may jump: it is read once.
        self.deadline = None if deadline is None else time.monotonic() + deadline - time.time()
        self.recipe = make(lab, run)
        self.config = self.recipe.config
        self.batches = type(self.recipe).batches(self.config, self.recipe.data)
        self.recipe.data.check()
        self.items = spread(self.recipe.items("validation"), self.config.evaluate_items)
        self.step, self.clock, self.seconds = 0, 0.0, 0.0
        self.pending: list[tuple[int, Mapping[str, Any]]] = []
        self.hopeless = 0
        self.evaluate_s, self.save_s, self.saved_at = 0.0, 0.0, time.monotonic()
        self.asked_to_stop = False
        self.spent = {"train_s": 0.0, "wait_s": 0.0, "evaluate_s": 0.0, "save_s": 0.0}
        self.step_times: list[float] = []
        self.window_at, self.window_step = time.monotonic(), 0

    def train(self) -> str:
        """The whole session, from opening to the word of its end."""
        tree = checkpoint.read_latest(self.run)
        if tree is not None:
            checkpoint.restore(self.recipe, tree)
            self.recipe._step, self.recipe._clock = tree["step"], tree["clock"]
            self.step, self.clock, self.seconds = tree["step"], tree["clock"], tree["seconds"]
            self.hopeless = tree["hopeless"]
        checkpoint.cut(self.run, self.step, tree["metrics_bytes"] if tree else 0)
        self.window_step = self.step
        going_on = bool(self.run.events())
        self.run.event(
            "resumed" if going_on else "started", step=self.step, pid=os.getpid(), threads=self.run.info.threads
        )
        self._tell_how_it_is_judged()
        self.metrics = Lines(self.run.path / "metrics.jsonl")
        self.system = Lines(self.run.path / "system.jsonl")
        with self._signals(), self._bar() as bar:
            try:
                word = self._loop(bar)
            finally:
                self._window()
                self.metrics.close()
                self.system.close()
        if word not in ("finished", "diverged"):
            self.run.event(word, step=self.step)
        return word

    def _tell_how_it_is_judged(self) -> None:
        """Write down what the recipe says of itself, so that a morning needs no recipe."""
        recipe, progress = self.recipe, self.recipe.progress
        judged = {
            "progress": {"name": progress.name, "better": progress.better, "unit": progress.unit},
            "task": recipe.task(),
            "right": [[gate.metric.name, gate.metric.better, gate.bound] for gate in recipe.right],
            "references": recipe.references(),
        }
        write_json(self.run.path / "judged.json", plain(judged))

    def _loop(self, bar: Any) -> str:
        if word := self._evaluate_if_due():
            return word
        last = self.config.steps
        stream = (
            prefetched(self.batches, self.step, last, self.config.loaders)
            if self.batches is not None
            else iter(lambda: Batch((), {}), None)
        )
        while not self._spent():
            before = time.perf_counter()
            batch = next(stream)
            fetched = time.perf_counter()
            self._update(batch)
            done = time.perf_counter()
            self.spent["wait_s"] += fetched - before
            self.spent["train_s"] += done - fetched
            self.step_times.append(done - fetched)
            self.seconds += done - before
            if self.step % LOG_EVERY == 0 and not self._flush():
                return "diverged"
            if word := self._between(bar):
                return word
        if not self._flush():
            return "diverged"
        if word := self._evaluate(final=True):
            return word
        self._save()
        self._finish()
        return "finished"

    def _spent(self) -> bool:
        config = self.config
        return (
            self.step >= config.steps
            or (config.budget is not None and self.clock >= config.budget)
            or (config.minutes is not None and self.seconds >= 60 * config.minutes)
        )

    def _update(self, batch: Batch) -> None:
        """One step: forward and update, in as many parts as the config says."""
        recipe, parts = self.recipe, self.config.accumulate
        recipe._step, recipe._parts = self.step, parts
        recipe._clock = before = self.clock
        logs = []
        with self._precision():
            for part in range(parts):
                recipe._part = part
                piece = batch.part(part, parts)
                logs.append(recipe.step(piece.to(recipe.device) if recipe.device != "cpu" else piece, self.step))
        values = logs[0] if parts == 1 else {k: sum(log[k] for log in logs) / parts for k in logs[0]}
        if recipe.clock != "steps":
            self.clock += float(sum(log[recipe.clock] for log in logs))
            values = {**values, recipe.clock: self.clock}
        if recipe.optimisers:
            values = {**values, "lr": self.config.lr * schedule(self.config, self.step, before)}
        if recipe.norms:
            values = {**values, **{f"norm/{name}": norm for name, norm in recipe.norms.items()}}
        self.step += 1
        if recipe.clock == "steps":
            self.clock = float(self.step)
        self.pending.append((self.step, values))

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.precision == "fp32":
            return contextlib.nullcontext()
        import torch

        return torch.autocast(torch.device(self.recipe.device).type, dtype=torch.bfloat16)

    def _flush(self) -> bool:
        """Log what is pending. False when the run has diverged."""
        for step, values in self.pending:
            plain_values = {name: float(value) for name, value in values.items()}
            self.metrics.append({"step": step, **plain_values})
            loss = plain_values.get("loss", 0.0)
            self.hopeless = self.hopeless + 1 if loss != loss or abs(loss) == float("inf") else 0
            if self.hopeless >= HOPELESS:
                self.pending.clear()
                self.run.event("diverged", step=step, reason=f"the loss was not finite from step {step - HOPELESS + 1}")
                return False
        self.pending.clear()
        return True

    def _between(self, bar: Any) -> str | None:
        """What happens between two steps. A word ends the session."""
        bar(self)
        now = time.monotonic()
        if self.asked_to_stop:
            if not self._flush():
                return "diverged"
            self._save()
            return "stopped"
        if self.deadline is not None and now + self._reserve() >= self.deadline:
            if not self._flush():
                return "diverged"
            if not self._evaluated(self.step):
                self._evaluate(final=True)
            self._save()
            return "deadline"
        if word := self._evaluate_if_due():
            return word
        if now - self.saved_at >= max(self.config.checkpoint, 20 * self.save_s):
            if not self._flush():
                return "diverged"
            self._save()
        if now - self.window_at >= WINDOW:
            self._window()
        return None

    def _reserve(self) -> float:
        """Seconds before a deadline that scoring and saving will take."""
        return 1.2 * self.evaluate_s + 2 * self.save_s + 2 * (self.step_times[-1] if self.step_times else 0.0)

    def _evaluated(self, step: int) -> bool:
        return step in self.run.evaluated()

    def _evaluate_if_due(self) -> str | None:
        every = self.config.evaluate
        due = self.step == 0 or (every and self.step % every == 0)
        if not due or self.step >= self.config.steps:
            return None
        return self._evaluate()

    def _evaluate(self, final: bool = False) -> str | None:
        """Score the validation items at this step. A word ends the session.

        The checkpoint comes first: what is stopped in the middle goes on from it.
        """
        if not self.items or self._evaluated(self.step):
            return None
        if not self._flush():
            return "diverged"
        if self.step:
            self._save()
        before = time.monotonic()
        found = evaluate(self.run, self.recipe, self.items, self.step, lambda: self.asked_to_stop)
        took = time.monotonic() - before
        self.spent["evaluate_s"] += took
        if found is None:
            return "stopped"
        self.evaluate_s = max(took, self.evaluate_s)
        self.metrics.append({"step": self.step, **means(self.recipe, found)})
        self.run.event("evaluated", step=self.step, seconds=round(took, 3), items=len(found))
        if (self.run.path / "prune").exists() and not final:
            return "pruned"
        return None

    def _save(self) -> None:
        before = time.monotonic()
        tree = {
            "step": self.step, "clock": self.clock, "seconds": self.seconds, "hopeless": self.hopeless,
            "metrics_bytes": self.metrics.size(), **checkpoint.gather(self.recipe),
        }  # fmt: skip
        try:
            checkpoint.write(self.run, self.step, tree, self.recipe)
        except OSError as error:
            raise UserError(
                f"{self.run.title}: cannot save a checkpoint: {error.strerror or error}; the last one stays"
            ) from error
        self.save_s = time.monotonic() - before
        self.saved_at = time.monotonic()
        self.spent["save_s"] += self.save_s

    def _finish(self) -> None:
        """Make final/: the model and what it reached. Its appearance is the completion."""
        making = self.run.path / ".final.part"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        if type(self.recipe).model is not Recipe.model:
            with checkpoint.undisturbed(self.recipe):
                self.recipe.model().save(making)
        goal = self.recipe.goal.name if hasattr(self.recipe, "goal") else ""
        values = {k: v for k, v in _last_evaluation(self.run).items() if k.startswith("validation/")}
        reached = values.get(f"validation/{goal}")
        result = {"step": self.step, "clock": self.clock, "goal": {"name": goal, "value": reached}, "values": values}
        (making / "result.json").write_text(json.dumps(plain(result), indent=1) + "\n")
        for path in making.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        sync_folder(making)
        self.run.event("finished", step=self.step)
        making.rename(self.run.path / "final")
        sync_folder(self.run.path)

    def _window(self) -> None:
        """Write where the time since the last window went."""
        now = time.monotonic()
        steps = self.step - self.window_step
        if not steps and not any(self.spent.values()):
            return
        disk = os.statvfs(self.run.path)
        line = {
            "time": time.time(), "step": self.step, "steps": steps,
            **{name: round(value, 4) for name, value in self.spent.items()},
            "step_ms": round(1000 * statistics.median(self.step_times), 4) if self.step_times else None,
            "clock": self.clock, "rss_mb": round(resident(), 1), "disk_mb": disk.f_bavail * disk.f_frsize // 2**20,
        }  # fmt: skip
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            line["gpu_mb"] = torch.cuda.max_memory_allocated() // 2**20
        self.system.append(line)
        self.window_at, self.window_step = now, self.step
        self.spent = dict.fromkeys(self.spent, 0.0)
        self.step_times.clear()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C stop at the next step, with a checkpoint; a second one leaves at once."""

        def stop(signum: int, frame: FrameType | None) -> None:
            if self.asked_to_stop:
                os._exit(128 + signum)
            self.asked_to_stop = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def _bar(self) -> Iterator[Any]:
        """A progress bar where a person looks on."""
        if not self.progress or not sys.stderr.isatty():
            yield lambda session: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(self.run.title, total=self.config.steps, completed=self.step)

            def show(session: _Session) -> None:
                if session.step % LOG_EVERY == 0:
                    bar.update(task, completed=session.step)

            yield show


def resident() -> float:
    """Memory of this process in MiB: now, or its peak where the system tells no more."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _last_evaluation(run: Run) -> dict[str, float]:
    goal = f"validation/{run.info.goal.get('name', '')}"
    return next((line for line in reversed(run.metrics()) if goal in line), {})


def main(argv: list[str]) -> int:
    """LAB RUN [--deadline EPOCH]: train one run; the exit code says how it ended (see EXIT)."""
    try:
        lab = Lab.open(argv[0])
        deadline = float(argv[argv.index("--deadline") + 1]) if "--deadline" in argv else None
        return EXIT[train(lab, Run(lab.runs / Path(argv[1]).name), deadline=deadline, progress=False)]
    except UserError as error:
        print(f"daybreak: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
