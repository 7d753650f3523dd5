"""How often the detectors and the intervals are right, written into docs/watch.md by this script.

Recall a fault and false alarms on healthy runs, on three sources of curves: `laws`, on which the limits were chosen;
`dynamics`, written from other principles, which the targets are held against; `trainings`, small real ones. Then how
often the intervals of `daybreak.lab.compare` cover the truth, beside the methods that were not taken.

    python benchmarks/watch_curves.py [--quick] [--json]

--quick runs a twentieth and writes nothing. The exit code is 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.curves import FAULTS, Case, dynamics, laws, trainings  # noqa: E402
from daybreak.lab.compare import Goal, Scores, draws, paired, seeds, t_quantile  # noqa: E402
from daybreak.lab.watch import watch  # noqa: E402

PAGE = ROOT / "docs" / "watch.md"
BEGIN, END = "<!-- written by benchmarks/watch_curves.py -->", "<!-- end -->"
SOURCES: dict[str, Any] = {"laws": laws, "dynamics": dynamics, "trainings": trainings}
REPORTED = "dynamics"
COUNTS = {"laws": (300, 100), "dynamics": (500, 200), "trainings": (30, 12)}
"""Healthy runs, and runs a fault."""
TARGETS = {
    "healthy": 0.02, "non-finite": 1.0, "divergence": 0.95, "not learning": 0.95, "spikes": 1.0, "over-fitting": 0.85,
    "plateau": 0.85, "data stall": 1.0, "slower": 1.0, "slowing": 1.0,
}  # fmt: skip
SEED = 20_261_125
"""First used after the limits were last changed; change it with them."""
GOAL = Goal("score", "lower")


def tally(cases: Iterable[Case]) -> tuple[int, Counter[str], float]:
    """Runs, how many had each finding ("any": one or more), and CPU seconds of watching."""
    found: Counter[str] = Counter()
    runs, spent = 0, 0.0
    for case in cases:
        before = time.process_time()
        said = {finding.kind for finding in watch(case.record, case.previous, case.best)}
        spent += time.process_time() - before
        runs += 1
        found.update(said | ({"any"} if said else set()))
    return runs, found, spent


def detect(share: float) -> tuple[list[dict[str, Any]], float]:
    """A row a fault: runs and rate on each source. And the CPU milliseconds a run."""
    rows, runs_all, spent_all = [], 0, 0.0
    for fault in ("healthy", *FAULTS):
        row: dict[str, Any] = {"fault": fault, "target": TARGETS.get(fault)}
        for name, module in SOURCES.items():
            if name == "trainings" and fault in trainings.NOT_MADE:
                continue
            count = max(5, round(COUNTS[name][fault != "healthy"] * share))
            runs, found, spent = tally(module.cases(fault, count, SEED))
            row[name] = {"runs": runs, "rate": found["any" if fault == "healthy" else fault] / runs}
            row[name]["found"] = dict(found)
            runs_all, spent_all = runs_all + runs, spent_all + spent
        print(json.dumps(row), file=sys.stderr)
        rows.append(row)
    return rows, 1000 * spent_all / runs_all


def holds(row: dict[str, Any]) -> bool | None:
    """Whether the target is reached on the source that is reported; None without a target."""
    if row["target"] is None:
        return None
    rate = row[REPORTED]["rate"]
    return bool(rate <= row["target"] if row["fault"] == "healthy" else rate >= row["target"])


def coverage(repeats: int) -> list[dict[str, Any]]:
    """How often 95 % and 99.5 % intervals over groups cover the truth, for three ways to make them."""
    rows = []
    for groups in (8, 20, 50):
        for kind in ("normal", "skewed", "heavy"):
            rng = np.random.default_rng((groups, len(kind)))
            inside: Counter[tuple[str, float]] = Counter()
            for repeat in range(repeats):
                sums, counts, scores = _differences(rng, groups, kind)
                zero = Scores(scores.items, scores.groups, np.zeros(len(scores)))
                for level in (0.95, 0.995):
                    found = paired(scores, zero, GOAL, level=level, resamples=2000, seed=repeat)
                    inside["studentised", level] += found.low <= 0 <= found.high
                    for name, (low, high) in _others(sums, counts, level, repeat).items():
                        inside[name, level] += low <= 0 <= high
            for level in (0.95, 0.995):
                row: dict[str, Any] = {"groups": groups, "differences": kind, "level": level}
                rows.append(row | {n: inside[n, level] / repeats for n in ("studentised", "percentile", "BCa")})
    return rows


def _differences(rng: np.random.Generator, groups: int, kind: str) -> tuple[np.ndarray, np.ndarray, Scores]:
    sizes = rng.integers(1, 5, groups)
    shared = {
        "normal": rng.normal(0, 1, groups),
        "skewed": rng.exponential(1, groups) - 1,
        "heavy": rng.standard_t(3, groups),
    }[kind]
    values = np.repeat(shared, sizes) + rng.normal(0, 0.5, sizes.sum())
    place = np.repeat(np.arange(groups), sizes)
    names = tuple(f"g{n:03d}" for n in place)
    scores = Scores(tuple(map(str, range(len(values)))), names, values)
    return np.bincount(place, values), sizes.astype(float), scores


def _others(sums: np.ndarray, counts: np.ndarray, level: float, seed: int) -> dict[str, tuple[float, float]]:
    """Percentile and BCa intervals (Efron 1987) of the same mean."""
    means = np.sort(np.concatenate([(w @ sums) / (w @ counts) for w in draws(len(sums), 2000, seed)]))
    observed = sums.sum() / counts.sum()
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    spread = left_out.mean() - left_out
    lean = (spread**3).sum() / (6 * ((spread**2).sum()) ** 1.5)
    shift = _normal_quantile(min(max((means < observed).mean(), 1e-4), 1 - 1e-4))
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = _normal_quantile(tail)
        ends.append(_normal(shift + (shift + z) / (1 - lean * (shift + z))))
    low, high = (1 - level) / 2, (1 + level) / 2
    found = np.quantile(means, [low, high, min(ends), max(ends)])
    return {"percentile": (found[0], found[1]), "BCa": (found[2], found[3])}


def _normal(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def _normal_quantile(probability: float) -> float:
    return t_quantile(probability, 1e9)


def seeds_coverage(repeats: int) -> list[dict[str, Any]]:
    """How often a 95 % interval over seeds covers the truth: ours, Welch's alone, a bootstrap of seeds and groups."""
    rows = []
    for each in (3, 5):
        for what, between, among in (
            ("seeds differ most", 0.3, 0.05),
            ("both", 0.15, 0.15),
            ("items differ most", 0.03, 0.3),
        ):
            rng = np.random.default_rng((each, len(what)))
            inside: Counter[str] = Counter()
            for repeat in range(repeats):
                gains = rng.normal(0, among * math.sqrt(30), 30)  # what the change does to each group: 0 on average
                sides = [
                    (gains if side == 0 else 0) + rng.normal(0, between, (each, 1)) + rng.normal(0, 0.2, (each, 30))
                    for side in (0, 1)
                ]
                names = tuple(map(str, range(30)))
                ours, theirs = ([Scores(names, names, row) for row in side] for side in sides)
                found = seeds(ours, theirs, GOAL)
                inside["ours"] += found.low <= 0 <= found.high
                means = [side.mean(1) for side in sides]
                parts = [m.var(ddof=1) / each for m in means]
                freedom = sum(parts) ** 2 / sum(p**2 / (each - 1) for p in parts)
                reach = t_quantile(0.975, freedom) * math.sqrt(sum(parts))
                inside["Welch"] += abs(means[0].mean() - means[1].mean()) <= reach
                drawn = next(iter(draws(30, 400, repeat))) / 30
                picks = [rng.integers(0, each, (400, each)) for _ in sides]
                resampled = [
                    (drawn[:, None, :] * side[pick]).sum(2).mean(1) for side, pick in zip(sides, picks, strict=True)
                ]
                low, high = np.quantile(resampled[0] - resampled[1], [0.025, 0.975])
                inside["bootstrap"] += low <= 0 <= high
            rows.append(
                {"seeds": each, "what": what} | {n: inside[n] / repeats for n in ("ours", "Welch", "bootstrap")}
            )
    return rows


def page(rows: list[dict[str, Any]], cost: float, intervals: list[dict[str, Any]], over: list[dict[str, Any]]) -> str:
    """The generated part of docs/watch.md."""

    def cell(row: dict[str, Any], name: str) -> str:
        return f"{row[name]['rate']:.3f} of {row[name]['runs']}" if name in row else "not made"

    lines = [
        "| fault | target | formulas (tuned on) | simulated training (reported) | real trainings | on simulated |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        healthy = row["fault"] == "healthy"
        target = "" if row["target"] is None else f"{'<=' if healthy else '>='} {row['target']:.2f}"
        verdict = {True: "holds", False: "falls short", None: ""}[holds(row)]
        name = "healthy: any finding" if healthy else row["fault"]
        cells = [name, target, *(cell(row, source) for source in SOURCES), verdict]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Watching took {cost:.1f} ms of CPU a run.", "", "What else was said, in share of runs:", ""]
    for row in rows:
        for source in SOURCES:
            said = {k: v for k, v in row.get(source, {}).get("found", {}).items() if k not in ("any", row["fault"])}
            if said:
                share = ", ".join(f"{k} {v / row[source]['runs']:.3f}" for k, v in sorted(said.items()))
                lines.append(f"- {row['fault']}, {source}: {share}")
    lines += ["", "Coverage of the interval over items:", ""]
    lines += table(intervals, "groups", "differences", "level", "studentised", "percentile", "BCa")
    lines += ["", "Coverage of the 95 % interval over seeds, on 30 groups of items:", ""]
    lines += table(over, "seeds", "what", "ours", "Welch", "bootstrap")
    return "\n".join(lines)


def table(rows: list[dict[str, Any]], *columns: str) -> list[str]:
    """Rows as Markdown, shares with three digits."""

    def cell(name: str, value: Any) -> str:
        return f"{value:.3f}" if isinstance(value, float) and name != "level" else str(value)

    head = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return head + [f"| {' | '.join(cell(name, row[name]) for name in columns)} |" for row in rows]


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the runs; writes nothing")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    chosen = parser.parse_args()
    rows, cost = detect(0.05 if chosen.quick else 1.0)
    repeats = 50 if chosen.quick else 500
    intervals, over = coverage(repeats), seeds_coverage(repeats)
    text = page(rows, cost, intervals, over)
    if chosen.json:
        print(json.dumps({"detectors": rows, "ms": cost, "intervals": intervals, "seeds": over}, indent=1))
    else:
        print(text)
    if not chosen.quick:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    return int(any(holds(row) is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
