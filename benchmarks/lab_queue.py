"""The queue: 500 jobs, 8 workers, a worker killed every few jobs; each job must finish exactly once.

Queued and worked through by the commands that people use. What happened is judged by the run folders and by a witness
outside the lab, to which every step of every process adds a line.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import bench_system
from bench_job import WITNESS, JobConfig
from rows import Bar, Row, main, say, scratch

JOBS, WORKERS, EVERY = 500, 8, 4
DAYBREAK = str(Path(sys.executable).with_name("daybreak"))


def workers_of(night: int) -> dict[int, str]:
    """The night's workers: process -> run."""
    found = {}
    for pid in Path(f"/proc/{night}/task/{night}/children").read_text().split():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if "daybreak.lab.train" in words:
            found[int(pid)] = words[words.index("daybreak.lab.train") + 2]
    return found


def kill_some(night: subprocess.Popen[bytes], lab: Path, jobs: int, draw: random.Random) -> dict[str, int]:
    """While the night works, kill a worker each time that EVERY more jobs have finished. Kills by run.

    None is killed more than twice without a new checkpoint: at the third time a night sets a job aside, as it should.
    """
    kills: dict[str, int] = defaultdict(int)
    due, shown = EVERY, 0
    while night.poll() is None:
        time.sleep(0.02)
        finished = sum((path / "final").is_dir() for path in (lab / "runs").iterdir())
        if finished >= shown + jobs // 5:
            shown = finished
            say(f"{finished} of {jobs} finished, {sum(kills.values())} workers killed")
        if finished < due:
            continue
        open_to_kill = [(pid, run) for pid, run in workers_of(night.pid).items() if kills[run] < 2]
        if not open_to_kill:
            continue
        pid, run = draw.choice(open_to_kill)
        time.sleep(draw.uniform(0, 0.5))
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        kills[run] += 1
        due = finished + EVERY
    return kills


def judge(lab: Path, witness: Path, jobs: int) -> tuple[int, list[str]]:
    """How many jobs finished exactly once, and what is wrong with the others."""
    lines: dict[int, list[tuple[int, int, float]]] = defaultdict(list)
    for line in witness.read_text().splitlines():
        words = line.split()
        lines[int(words[0])].append((int(words[1]), int(words[2]), float(words[3])))
    finals: dict[int, list[Path]] = defaultdict(list)
    for run in (lab / "runs").iterdir():
        if (run / "run.json").exists():
            seed = json.loads((run / "run.json").read_text())["config"]["seed"]
            finals[seed] += [run / "final"] if (run / "final").is_dir() else []
    wrong = []
    for seed in range(jobs):
        taken = lines[seed]
        spans: dict[int, list[float]] = defaultdict(list)
        for _, pid, moment in taken:
            spans[pid].append(moment)
        times = sorted((min(moments), max(moments)) for moments in spans.values())
        if len(finals[seed]) != 1:
            wrong.append(f"job {seed} has {len(finals[seed])} finished runs")
        elif {step for step, _, _ in taken} != set(range(JobConfig().steps)):
            wrong.append(f"job {seed} took the steps {sorted({step for step, _, _ in taken})}")
        elif any(later[0] < earlier[1] for earlier, later in pairwise(times)):
            wrong.append(f"job {seed} ran twice at once")
        elif max(moment for _, _, moment in taken) > finals[seed][0].stat().st_ctime:
            wrong.append(f"job {seed} went on after it had finished")
    return jobs - len(wrong), wrong


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    jobs = 40 if quick else JOBS
    with scratch() as folder:
        bench_system.install(folder)
        lab, witness = folder / "lab", folder / "witness"
        environment = {**os.environ, "DAYBREAK_LAB": str(lab), WITNESS: str(witness)}
        command = [DAYBREAK, "tonight", "add", "bench:job", "--seeds", str(jobs)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        say(f"{jobs} jobs are queued; {WORKERS} workers begin")
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        with open(folder / "night.log", "wb") as log:
            night = subprocess.Popen(
                [DAYBREAK, "night", "--workers", str(WORKERS)], env=environment, stdout=log, stderr=log
            )
            kills = kill_some(night, lab, jobs, random.Random(5))
        took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        once, wrong = judge(lab, witness, jobs)
        for line in wrong[:10]:
            say(line)
        if night.returncode or wrong:
            say((folder / "night.log").read_text()[-1500:])
    note = f"{sum(kills.values())} workers killed, {took:.0f} s"
    if quick:
        note = f"{once} of {jobs} exactly once; {note}"
    yield Row(
        f"jobs of {JOBS} that finished exactly once, {WORKERS} workers, one killed every {EVERY} jobs", "jobs",
        None if quick else once, Bar("ours", "=", JOBS), note=note,
    )  # fmt: skip
    yield Row("a job, all processes, killed tries included, CPU", "s", cpu / jobs)


if __name__ == "__main__":
    main(measure, {})
