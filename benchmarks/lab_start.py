"""Starting: what a person waits for `daybreak --help`, and what `import daybreak` costs a program.

Wall time, the median of several starts in turn; CPU time of the same starts beside it, which a busy machine moves less.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rows import Bar, Row, main, say

STARTS = {
    "help": ("`daybreak --help`", [str(Path(sys.executable).with_name("daybreak")), "--help"], 0.5),
    "import": ("`import daybreak`", [sys.executable, "-c", "import daybreak"], 0.3),
    "python": ("an empty program", [sys.executable, "-c", "pass"], None),
}


def start(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of one start. Raises `CalledProcessError` when it fails."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "100"})
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    rounds = 7 if quick else 21
    say(f"{rounds} starts of each, in turn")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in STARTS}
    for turn in range(rounds + 1):
        for name, (_, command, _) in STARTS.items():
            taken = start(command)
            if turn:  # the first start fills the caches
                found[name].append(taken)
    for name, (title, _, bound) in STARTS.items():
        wall, cpu = (statistics.median(column) for column in zip(*found[name], strict=True))
        bar = Bar("ours", "<=", bound) if bound else None
        yield Row(f"{title}, wall", "s", wall, bar, note=f"CPU {cpu:.3f} s")


if __name__ == "__main__":
    main(measure, {})
