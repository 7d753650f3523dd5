"""Logging: what a call costs the training process, and what a `kill -9` loses of what was acknowledged.

Peers: MLflow on SQLite, W&B offline, Trackio, Lightning's CSVLogger. A call is acknowledged when it has returned.
"""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bench_system
from rows import Bar, Part, PartError, Row, in_turn, main, medians, once, say, scratch

NAMES = ("loss", "accuracy", "norm", "lr", "tokens")
PEERS = {"mlflow": "MLflow SQLite", "mlflow_async": "MLflow SQLite, async", "wandb": "W&B offline",
         "trackio": "Trackio", "csv": "CSVLogger"}  # fmt: skip
CALLS = {"ours": 2000, "mlflow": 100, "mlflow_async": 100, "wandb": 500, "trackio": 500, "csv": 500}
Log = Callable[[int, dict[str, float]], None]


def values(step: int) -> dict[str, float]:
    """Five metrics of a step."""
    return {name: 1.0 / (step + n + 1) for n, name in enumerate(NAMES)}


# One logger each: opened in a folder, it gives the call to make.


def open_ours(folder: Path) -> Log:
    """A run of daybreak's, owned as its trainer owns it."""
    from daybreak.lab.home import Lab
    from daybreak.lab.recipe import Config
    from daybreak.lab.run import Run

    run = Run.create(Lab.open(folder), recipe="bench:mlp", config=Config())
    run.own().__enter__()
    run.event("started", step=0)
    return run.log()


def open_mlflow(folder: Path, synchronous: bool = True) -> Log:
    """MLflow with its SQLite store; five metrics go in one call."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.set_experiment("bench")
    mlflow.start_run()
    return lambda step, metrics: mlflow.log_metrics(metrics, step=step, synchronous=synchronous) and None


def open_mlflow_async(folder: Path) -> Log:
    """MLflow's asynchronous logging."""
    return open_mlflow(folder, synchronous=False)


def open_wandb(folder: Path) -> Log:
    """W&B offline: its service process writes, without a server."""
    import wandb

    run = wandb.init(project="bench", dir=folder, mode="offline")
    return lambda step, metrics: run.log(metrics, step=step)


def open_trackio(folder: Path) -> Log:
    """Trackio, local."""
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio

    trackio.init(project="bench", name="run", embed=False)
    return lambda step, metrics: trackio.log(metrics, step=step)


def open_csv(folder: Path) -> Log:
    """Lightning's CSVLogger, which saves as its Trainer has it save: every 100 logged steps."""
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(folder, name="bench", flush_logs_every_n_steps=100)

    def log(step: int, metrics: dict[str, float]) -> None:
        logger.log_metrics(metrics, step)
        if (step + 1) % logger._flush_logs_every_n_steps == 0:
            logger.save()

    return log


OPEN: dict[str, Callable[[Path], Log]] = {
    "ours": open_ours, "mlflow": open_mlflow, "mlflow_async": open_mlflow_async, "wandb": open_wandb,
    "trackio": open_trackio, "csv": open_csv,
}  # fmt: skip


def cost(name: str, folder: str) -> Iterator[float]:
    """CPU microseconds a call, all threads of the calling process; its first round is a warm-up."""
    log, step = OPEN[name](Path(folder)), 0
    for count in [20, *[CALLS[name]] * 10_000]:
        before = time.process_time()
        for _ in range(count):
            log(step, values(step))
            step += 1
        if count > 20:
            yield 1e6 * (time.process_time() - before) / count


def until_killed(name: str, folder: str) -> Iterator[None]:
    """Steps of 5 ms, each logged and then acknowledged in a file that the page cache keeps."""
    log = OPEN[name](Path(folder))
    handle = os.open(Path(folder) / "acknowledged", os.O_WRONLY | os.O_CREAT)
    step = 0
    while True:
        time.sleep(0.005)
        log(step, values(step))
        step += 1
        os.pwrite(handle, step.to_bytes(8, "little"), 0)
    yield


def train_until_killed(folder: str) -> Iterator[None]:
    """A real training with two background workers."""
    from daybreak.lab.home import Lab
    from daybreak.lab.run import Run
    from daybreak.lab.train import train

    lab = Lab.open(folder)
    train(lab, Run.all(lab)[0], progress=False)
    yield


# What is there after the kill: the steps that can be read back.


def read_ours(folder: Path) -> int:
    """Whole lines of the run."""
    from daybreak.lab.home import Lab
    from daybreak.lab.run import Run

    return len({line["step"] for line in Run.all(Lab.open(folder))[0].metrics() if set(NAMES) <= set(line)})


def _rows(path: Path, query: str) -> int:
    with sqlite3.connect(path) as db:
        return int(db.execute(query).fetchone()[0])


def read_mlflow(folder: Path) -> int:
    """Steps with all five metrics in its database."""
    return _rows(
        folder / "mlflow.db",
        f"SELECT count(*) FROM (SELECT step FROM metrics GROUP BY step HAVING count(*) = {len(NAMES)})",
    )


def read_trackio(folder: Path) -> int:
    """Steps in its database."""
    files = [path for path in folder.rglob("*.db") if path.stat().st_size]
    return _rows(files[0], "SELECT count(DISTINCT step) FROM metrics") if files else 0


def read_csv(folder: Path) -> int:
    """Rows of its file."""
    found = list(folder.rglob("metrics.csv"))
    return len({row["step"] for row in csv.DictReader(found[0].open())}) if found else 0


def read_wandb(folder: Path) -> int:
    """What its own reader finds in the run's file."""
    return int(once("wandb_reader", str(folder)))


def wandb_reader(folder: str) -> Iterator[int]:
    """Steps in a .wandb file: records of W&B's own protobuf in LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    steps: set[int] = set()
    for path in Path(folder).rglob("*.wandb"):
        for data in leveldb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            for item in record.history.item:
                if "_step" in (item.key, *item.nested_key):
                    steps.add(int(json.loads(item.value_json)))
    yield len(steps)


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """Whole records of a log: blocks of 32 KiB; a part has a checksum, a length, a kind (whole, first, middle, last).

    Format: https://github.com/google/leveldb/blob/main/doc/log_format.md, here after a file header of 7 bytes.
    """
    at, parts = 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        body = data[at + 7 : at + 7 + length]
        at += 7 + length
        if not 1 <= kind <= 4 or len(body) < length:
            return
        parts = body if kind in (1, 2) else parts + body
        if kind in (1, 4):
            yield parts


READ: dict[str, Callable[[Path], int]] = {
    "ours": read_ours, "mlflow": read_mlflow, "mlflow_async": read_mlflow, "wandb": read_wandb,
    "trackio": read_trackio, "csv": read_csv,
}  # fmt: skip


def killed(name: str, folder: Path, seconds: float) -> tuple[int, int, float]:
    """Acknowledged, lost, and seconds until the run reads as crashed (ours only)."""
    folder.mkdir()
    acknowledged = folder / "acknowledged"
    with Part("until_killed", name, str(folder)) as part:
        part.begin()
        _wait(lambda: acknowledged.exists() and acknowledged.stat().st_size > 0, part)
        time.sleep(seconds)
        part.kill()
        crashed = _until_crashed(folder) if name == "ours" else 0.0
        # A peer's own service process lives on: it gets the time to write what it has.
        time.sleep(0 if name == "ours" else 3)
        count = int.from_bytes(acknowledged.read_bytes(), "little")
    return count, count - min(count, READ[name](folder)), crashed


def killed_with_workers(folder: Path) -> tuple[float, int]:
    """Seconds until a run reads as crashed whose trainer alone was killed, and how many workers lived then."""
    from bench_mlp import MlpConfig

    from daybreak.lab.home import Lab
    from daybreak.lab.run import Run

    run = Run.create(Lab.open(folder), recipe="bench:mlp", config=MlpConfig(steps=10**7, loaders=2), threads=1)
    with Part("train_until_killed", str(folder)) as part:
        part.begin()
        metrics = run.path / "metrics.jsonl"
        _wait(lambda: metrics.exists() and metrics.stat().st_size > 2000, part)
        workers = [
            pid
            for pid in Path(f"/proc/{part.process.pid}/task/{part.process.pid}/children").read_text().split()
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        part.kill()
        seconds = _until_crashed(folder)
        alive = sum(1 for pid in workers if _lives(pid))
    return seconds, alive


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _until_crashed(folder: Path) -> float:
    from daybreak.lab.home import Lab
    from daybreak.lab.run import Run

    began = time.monotonic()
    lab = Lab.open(folder)
    while Run.all(lab)[0].state().word != "crashed":
        if time.monotonic() - began > 60:
            return float("inf")
        time.sleep(0.005)
    return time.monotonic() - began


def _wait(ready: Callable[[], bool], part: Part, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if part.process.poll() is not None or time.monotonic() > end:
            raise PartError(part.last_words())
        time.sleep(0.01)


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    with scratch() as folder:
        bench_system.install(folder)
        yield from costs(folder, quick)
        yield from losses(folder, quick)


def costs(folder: Path, quick: bool) -> Iterator[Row]:
    """CPU a call."""
    names = ["ours", "mlflow", "wandb", *([] if quick else ["mlflow_async", "trackio", "csv"])]
    say("five metrics a call: " + ", ".join(names))
    parts = {}
    for name in names:
        (folder / f"cost-{name}").mkdir()
        parts[name] = (name, str(folder / f"cost-{name}"))
    found = medians(in_turn(parts, 3 if quick else 7, part="cost"))
    bars = {"mlflow": Bar("ratio", "<=", 1 / 300, "1/300"), "wandb": Bar("ratio", "<=", 1 / 10, "1/10")}
    for peer, title in PEERS.items():
        note = "the caller's process alone; the peer's service or thread of its own is not all counted"
        yield Row("log five metrics, CPU a call", "us", found["ours"], bars.get(peer), title, found.get(peer),
                  note if peer == "wandb" else "")  # fmt: skip


def losses(folder: Path, quick: bool) -> Iterator[Row]:
    """What a kill loses."""
    seconds = 3.0 if quick else 12.0
    found: dict[str, Any] = {}
    for name in ["ours", *([] if quick else PEERS)]:
        say(f"kill -9 after {seconds:.0f} s of logging: {name}")
        try:
            found[name] = killed(name, folder / f"kill-{name}", seconds)
        except PartError as error:
            if name == "ours":
                raise
            say(f"{name} was not run: {error}")
    count, lost, crashed = found["ours"]
    yield Row("acknowledged metrics lost at kill -9", "calls", lost, Bar("ours", "=", 0), note=f"of {count}")
    for peer, title in PEERS.items():
        theirs = found.get(peer)
        bar = Bar("ours", "=", 0) if theirs else None
        yield Row("acknowledged metrics lost at kill -9", "calls", lost, bar, title, theirs and theirs[1],
                  f"peer: of {theirs[0]}" if theirs else "")  # fmt: skip
    yield Row("after kill -9 the run reads as crashed, wall", "s", crashed, Bar("ours", "<=", 1.0))
    say("kill -9 of the trainer alone")
    seconds, alive = killed_with_workers(folder / "workers")
    yield Row(
        "the same, only the trainer killed", "s", seconds if alive else None, Bar("ours", "<=", 1.0),
        note=f"{alive} of its 2 loader workers lived when it was read",
    )  # fmt: skip


if __name__ == "__main__":
    main(
        measure,
        {"cost": cost, "until_killed": until_killed, "train_until_killed": train_until_killed,
         "wandb_reader": wandb_reader},
        ["mlflow", "wandb", "trackio", "lightning"],
    )  # fmt: skip
