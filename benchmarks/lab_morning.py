"""The morning page of a night of 60 runs, with their plots and sounds: CPU to make it, and its size.

The runs are real: trained, evaluated four times, each time with six sounds of 8 s and their piano rolls. One of them
diverges. The page is made by the command that people use.
"""

from __future__ import annotations

import os
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bench_system
from rows import Bar, Part, Row, main, say, scratch

RUNS, STEPS = 60, 1200
DAYBREAK = str(Path(sys.executable).with_name("daybreak"))


def runs(folder: str, count: int) -> Iterator[int]:
    """Train runs, two at a time, each in a forked process. A round each gives how many are done."""
    import bench_clips
    from bench_mlp import MlpConfig

    from daybreak.lab.home import Lab
    from daybreak.lab.lake import Draft, Lake
    from daybreak.lab.run import Run
    from daybreak.lab.train import train

    lab = Lab.open(folder)
    lake = Lake.open(lab)
    draw = random.Random(2)
    drafts = [Draft(f"item-{n}", f"group-{n}", {"data": draw.randbytes(64)}) for n in range(400)]
    lake.add("bench", drafts, licence="CC0-1.0")
    snapshot = lake.snapshot("bench")
    lake.close()
    for n in range(bench_clips.SONGS):
        bench_clips.song(n)
    bench_clips.Clips(MlpConfig(), snapshot)  # what torch loads late is loaded before the forks
    lake.close()
    goal = {"name": "error", "better": "lower", "unit": ""}
    parent: Any = None
    living: list[int] = []
    for n in range(count):
        lr = 1e9 if n == 7 else 10 ** (-4 + 2.5 * (n % 20) / 20)
        config = MlpConfig(steps=STEPS, evaluate=STEPS // 3, lr=lr, seed=n // 20, dropout=0.1 * (n % 3))
        run = Run.create(
            lab, recipe="bench:clips", config=config, snapshot=snapshot.id, threads=1, goal=goal, parent=parent,
            owner="someone", name=f"learning rate {lr:.2g}",
        )  # fmt: skip
        parent = parent or run
        pid = os.fork()
        if pid == 0:
            try:
                train(lab, run, progress=False)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)
        living.append(pid)
        if len(living) == 2:
            os.waitpid(living.pop(0), 0)
        yield n + 1
    for pid in living:
        os.waitpid(pid, 0)
    words = [run.state().word for run in Run.all(lab)]
    assert words.count("finished") >= count - 1, words
    yield count


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    count = 8 if quick else RUNS
    with scratch() as folder:
        bench_system.install(folder)
        lab = folder / "lab"
        say(f"training {count} runs to make a page of")
        with Part("runs", str(lab), count) as part:
            for _ in range(count + 1):
                part()
        environment = {**os.environ, "DAYBREAK_LAB": str(lab)}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        said = subprocess.run([DAYBREAK, "morning"], check=True, env=environment, capture_output=True, text=True)
        wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        page = Path(said.stdout.split()[-1])
        text = page.read_text()
        size = page.stat().st_size / 1e6
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    embedded = len(re.findall(r"data:audio/mpeg", text)), len(re.findall("<svg", text))
    note = f"{count} runs, {embedded[0]} sounds and {embedded[1]} drawings in the page, {wall:.1f} s wall"
    bars = Bar("ours", "<=", 5.0), Bar("ours", "<=", 5.0)
    what = f"the morning page of {RUNS} runs with plots and sounds"
    yield Row(f"{what}, CPU", "s", None if quick else cpu, bars[0], note=f"{cpu:.2f} s: {note}" if quick else note)
    yield Row(f"{what}, size", "MB", None if quick else size, bars[1], note=f"{size:.2f} MB" if quick else "")


if __name__ == "__main__":
    main(measure, {"runs": runs})
