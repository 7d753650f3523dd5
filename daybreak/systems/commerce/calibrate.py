"""From logits to tags that may be relied on: a temperature for each group, and for each tag the threshold at which its
precision on held-out photos is what was promised. Below it the answer is "unknown".

It knows numbers and the vocabulary; it knows nothing about pictures.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict

from daybreak.systems.commerce.tags import Vocabulary

PRECISION = 0.9
"""What a tag that is said promises."""
NEVER = 2.0
"""The threshold of a tag that held-out photos never bore out: it is not said."""
SURE = 1.0
"""How many deviations below the precision that held-out photos show the promise must lie: 84 % sure for each tag.
Thresholds that just reach it on some senders' photos miss it on others'."""


class Calibration(BaseModel):
    """What makes logits into tags."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    temperatures: dict[str, float] = {}
    """By group; 1 where none was fitted."""
    thresholds: dict[str, float] = {}
    """By "group.value": the least probability at which the tag is said."""
    precision: float = PRECISION
    """What the thresholds promise."""


def probabilities(
    logits: Float[np.ndarray, "items tags"], vocabulary: Vocabulary, calibration: Calibration
) -> Float[np.ndarray, "items tags"]:
    """A probability for each tag: over an exclusive group's values they sum to one."""
    out = np.empty(logits.shape, np.float64)
    for group, known in vocabulary.groups.items():
        span = vocabulary.span(group)
        x = logits[:, span].astype(np.float64) / calibration.temperatures.get(group, 1.0)
        if known.exclusive:
            x = np.exp(x - x.max(1, keepdims=True))
            out[:, span] = x / x.sum(1, keepdims=True)
        else:
            out[:, span] = 1 / (1 + np.exp(-x))
    return out


def fit(
    logits: Float[np.ndarray, "items tags"],
    tags: Float[np.ndarray, "items tags"],
    known: Bool[np.ndarray, "items tags"],
    vocabulary: Vocabulary,
) -> Calibration:
    """Temperatures by the least NLL of held-out photos [Guo et al., 2017], then a threshold a tag.

    The threshold is the lowest at which the tags said above it are, surely enough, right with the promised precision;
    where there is none, the tag is never said.
    """
    temperatures = {}
    grid = np.exp(np.linspace(np.log(0.25), np.log(6), 60))
    for group in vocabulary.groups:
        span = vocabulary.span(group)
        rows = known[:, span].any(1)
        if rows.sum() < 10:
            continue
        exclusive = vocabulary.groups[group].exclusive
        losses = []
        for t in grid:
            warm = Calibration(temperatures={group: float(t)})
            losses.append(_nll(probabilities(logits[rows], vocabulary, warm)[:, span], tags[rows][:, span], exclusive))
        temperatures[group] = round(float(grid[int(np.argmin(losses))]), 4)
    found = probabilities(logits, vocabulary, Calibration(temperatures=temperatures))
    thresholds = {}
    for n, (group, value) in enumerate(vocabulary.flat):
        rows = known[:, n]
        thresholds[f"{group}.{value}"] = threshold(found[rows, n], tags[rows, n] > 0.5, PRECISION)
    return Calibration(temperatures=temperatures, thresholds=thresholds)


def threshold(probability: Float[np.ndarray, " items"], truth: Bool[np.ndarray, " items"], precision: float) -> float:
    """The lowest probability from which on the lower end of the precision's interval [Wilson, 1927] is that precision;
    NEVER without one. Nine items that are all right are the fewest for 0.9."""
    order = np.argsort(-probability, kind="stable")
    count = np.arange(1, len(order) + 1)
    shown = np.cumsum(truth[order]) / count
    spread = np.sqrt(shown * (1 - shown) / count + (SURE / (2 * count)) ** 2)
    lower = (shown + SURE**2 / (2 * count) - SURE * spread) / (1 + SURE**2 / count)
    # Items of one probability stand or fall together.
    last = np.append(np.diff(probability[order]) != 0, True) if len(order) else np.zeros(0, bool)
    fine = np.flatnonzero(last & (lower >= precision))
    return float(np.ceil(probability[order[fine[-1]]] * 1e6 - 1) / 1e6) if len(fine) else NEVER


def _nll(p: Float[np.ndarray, "items values"], tags: Float[np.ndarray, "items values"], exclusive: bool) -> float:
    p = p.clip(1e-7, 1 - 1e-7)
    if exclusive:
        return float(-(tags * np.log(p)).sum(1).mean())
    return float(-(tags * np.log(p) + (1 - tags) * np.log(1 - p)).mean())


def said(
    probability: Float[np.ndarray, " tags"], vocabulary: Vocabulary, calibration: Calibration
) -> dict[str, dict[str, float]]:
    """The tags that are sure enough, by group, with their probability; a group without one is unknown and empty."""
    out: dict[str, dict[str, float]] = {group: {} for group in vocabulary.groups}
    least = np.array([calibration.thresholds.get(name, 0.5) for name in vocabulary.names])
    for n in np.flatnonzero(probability >= least):
        group, value = vocabulary.flat[n]
        out[group][value] = round(float(probability[n]), 4)
    for group, known in vocabulary.groups.items():
        ranked = sorted(out[group].items(), key=lambda pair: -pair[1])
        out[group] = dict(ranked[:1] if known.exclusive else ranked)
    return out
