"""Values that are no numbers: a broken training, or a figure that the items at hand do not define."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from daybreak.lab.watch import advice
from daybreak.lab.watch.finding import Finding
from daybreak.lab.watch.record import Record, Series


def non_finite(record: Record) -> Finding | None:
    """Any value of the training or an evaluation that is NaN or infinite.

    Where some figures of an evaluation are NaN and others of the same step are not, nor anything of the training, the
    weights are sound: what is NaN may not be defined on the items at hand (an AP without a positive). That is an
    "undefined", of less weight.
    """
    trained = _not_finite(record.train.items())
    judged = _not_finite((f"validation/{name}", series) for name, series in record.validation.items())
    found = sorted(trained + judged)
    if not found:
        return None
    step, name, count, total = found[0]
    sound = {s for series in record.validation.values() for s in series.steps[np.isfinite(series.values)].tolist()}
    partly = not trained and not any(
        np.isinf(series.values).any() or set(series.steps[np.isnan(series.values)].tolist()) - sound
        for series in record.validation.values()
    )
    others = [other for _, other, _, _ in found[1:5]]
    text = f"{name} is not finite from step {step:,}, in {count:,} of {total:,} values"
    text += f"; so {'is' if len(found) == 2 else 'are'} {', '.join(others)}" if others else ""
    text += "; the rest of the evaluation is: it may not be defined on so few items" if partly else ""
    evidence = {"first": step, "values": {n: {"step": s, "count": c, "of": t} for s, n, c, t in found}}
    if partly:
        return Finding("undefined", record.run, step, text, "warn", evidence)
    return Finding("non-finite", record.run, step, text, "alarm", evidence, advice.lower_rate(record, step))


def _not_finite(group: Iterable[tuple[str, Series]]) -> list[tuple[int, str, int, int]]:
    """First step, name, count and length of every curve with values that are not finite."""
    found = []
    for name, series in group:
        bad = ~np.isfinite(series.values)
        if bad.any():
            found.append((int(series.steps[bad][0]), name, int(bad.sum()), len(bad)))
    return found
