"""Detectors of where time and memory went. Each is a pure function of a record's windows; it knows no loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from daybreak.lab.compare import Floats
from daybreak.lab.watch import advice
from daybreak.lab.watch.curve import line
from daybreak.lab.watch.finding import LIMITS, Finding, Limits
from daybreak.lab.watch.record import Record

HARMLESS = {
    "seed", "steps", "budget", "minutes", "lr", "warmup", "schedule", "floor", "evaluate", "evaluate_items", "samples",
    "checkpoint", "clip", "ema", "dropout", "weight_decay",
}  # fmt: skip
"""Config fields that do not change what a step costs (by their last name)."""
LIVE = ("running", "deadline", "stopped", "crashed", "elsewhere")


def data_stall(record: Record, limits: Limits = LIMITS) -> Finding | None:
    """Training waited for batches. The first window is left out: loaders start in it."""
    windows = [w for w in record.windows[1:] if w.steps and w.train_s + w.wait_s > 0]
    if len(windows) < 3:
        return None
    shares = np.array([w.wait_s / (w.train_s + w.wait_s) for w in windows])
    bad = shares > limits.stall_window
    typical = float(np.median(shares))
    if not (typical > limits.stall or bad.sum() >= 2):
        return None
    lost = sum(w.wait_s for w in windows)
    whole = sum(w.train_s + w.wait_s for w in windows)
    first = next(w.step for w, share in zip(windows, shares, strict=True) if share > limits.stall)
    return Finding(
        "data stall",
        record.run,
        first,
        f"waited for data {_time(lost)} of {_time(whole)} ({100 * lost / whole:.0f} %)"
        + (f", {int(bad.sum())} windows more than half of their time" if bad.sum() >= 2 else ""),
        "warn",
        {"median_share": typical, "lost_s": lost, "of_s": whole, "windows": int(bad.sum())},
        advice.loaders(record),
    )


def slower(record: Record, previous: Record, limits: Limits = LIMITS) -> Finding | None:
    """Steps took longer than in an earlier run of the same recipe on the same hardware, with steps of the same size."""
    if record.recipe != previous.recipe or record.threads != previous.threads:
        return None
    if dict(record.hardware) != dict(previous.hardware) or _costs(record.config) != _costs(previous.config):
        return None
    now, then = _step_times(record), _step_times(previous)
    if len(now) < 3 or len(then) < 3:
        return None
    ratio = float(np.median(now) / np.median(then))
    error = math.hypot(_log_error(now), _log_error(then))
    if not (ratio > limits.slower and math.log(ratio) > limits.slow_z * error):
        return None
    return Finding(
        "slower",
        record.run,
        None,
        f"a step took {np.median(now):.3g} ms, in {previous.run} {np.median(then):.3g} ms ({ratio:.2f} times as long) "
        "with the same recipe on the same hardware",
        "warn",
        {
            "step_ms": float(np.median(now)),
            "earlier_ms": float(np.median(then)),
            "ratio": ratio,
            "against": previous.run,
        },
    )


def slowing(record: Record, limits: Limits = LIMITS) -> Finding | None:
    """Steps took longer at the end of the run than near its beginning."""
    times = _step_times(record)
    if len(times) < 10:
        return None
    part = max(3, len(times) // 10)
    skipped = max(1, len(times) // 10)
    early, late = times[skipped : skipped + part], times[-part:]
    ratio = float(np.median(late) / np.median(early))
    error = math.hypot(_log_error(early), _log_error(late))
    if not (ratio > limits.slowing and math.log(ratio) > limits.slow_z * error):
        return None
    above = np.flatnonzero(times <= np.median(early) * math.sqrt(limits.slowing))
    steps = [w.step for w in record.windows if w.step_ms == w.step_ms]
    step = steps[min(int(above[-1]) + 1 if len(above) else 0, len(steps) - 1)]
    return Finding(
        "slowing",
        record.run,
        step,
        f"a step took {np.median(early):.3g} ms early on and {np.median(late):.3g} ms at the end "
        f"({ratio:.2f} times as long)",
        "warn",
        {"early_ms": float(np.median(early)), "late_ms": float(np.median(late)), "ratio": ratio},
    )


def memory(record: Record) -> Finding | None:
    """Memory grows so that it reaches the limit before the planned end."""
    return _reaches(record, "memory", record.column(lambda w: w.rss_mb), record.memory_mb, 1)


def disk(record: Record) -> Finding | None:
    """Free disk space shrinks so that it is gone before the planned end."""
    return _reaches(record, "disk", -record.column(lambda w: w.disk_mb), 0.0, -1)


def _reaches(record: Record, what: Any, values: Floats, limit: float, sign: int) -> Finding | None:
    steps = np.array([w.step for w in record.windows], float)
    keep = np.isfinite(values)
    values, steps = values[keep], steps[keep]
    if len(values) < 8 or record.state not in LIVE or not math.isfinite(limit):
        return None
    half = len(values) // 2  # the first half holds what is loaded once
    values, steps = values[half:], steps[half:]
    if steps[-1] <= steps[0]:
        return None
    fitted = line(values, steps)
    rate = fitted.change / (steps[-1] - steps[0])
    left = record.planned - steps[-1]
    if fitted.z < 4 or rate <= 0 or left <= 0:
        return None
    until = max(0.0, (limit - float(values[-1])) / rate)
    if until >= left:
        return None
    step = int(steps[-1] + until)
    now = sign * float(values[-1])
    text = (
        f"memory grows by {1000 * rate:.3g} MB every 1,000 steps and is at {now:,.0f} MB: it reaches the limit of "
        f"{limit:,.0f} MB near step {step:,}, before the planned {record.planned:,}"
        if what == "memory"
        else f"free disk space shrinks by {1000 * rate:.3g} MB every 1,000 steps and is at {now:,.0f} MB: "
        f"it is gone near step {step:,}, before the planned {record.planned:,}"
    )
    return Finding(
        what,
        record.run,
        int(steps[-1]),
        text,
        "alarm",
        {"mb_per_step": rate, "now_mb": now, "limit_mb": limit, "reaches": step, "planned": record.planned},
    )


def _step_times(record: Record) -> Floats:
    times = record.column(lambda w: w.step_ms)
    return times[np.isfinite(times) & (times > 0)]


def _log_error(times: Floats) -> float:
    """Standard error of the logarithm of a median, robust."""
    logs = np.log(times)
    spread = 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
    return 1.25 * spread / math.sqrt(len(logs))


def _costs(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What of a config a step's cost may depend on."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found.update(_costs(value, f"{prefix}{name}."))
        elif name not in HARMLESS:
            found[f"{prefix}{name}"] = value
    return found


def _time(seconds: float) -> str:
    """Seconds for a person: "41 s", "12 min", "3 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
