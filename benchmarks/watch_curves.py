"""How often the detectors are right: recall a fault and false alarms on healthy runs, on three sources of curves."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable

from benchmarks.curves import FAULTS, Case
from daybreak.lab.watch import watch


def kinds(case: Case) -> list[str]:
    """What is found in a case."""
    return [f.kind for f in watch(case.record, case.previous, case.best)]


def tally(cases: Iterable[Case]) -> tuple[int, Counter[str]]:
    """Runs, and how many of them had each finding; "any" counts runs with one finding or more."""
    found: Counter[str] = Counter()
    runs = 0
    for case in cases:
        said = set(kinds(case))
        runs += 1
        found.update(said | ({"any"} if said else set()))
    return runs, found


if __name__ == "__main__":
    import importlib

    module = importlib.import_module(f"benchmarks.curves.{sys.argv[1]}")
    n = int(sys.argv[2])
    base = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    for fault in ("healthy", *FAULTS):
        runs, found = tally(module.cases(fault, n * (2 if fault == "healthy" else 1), base))
        print(f"{fault:14s} {runs} {found.get(fault, found.get('any', 0) if fault == 'healthy' else 0) / runs:.3f}  {dict(found)}", flush=True)
