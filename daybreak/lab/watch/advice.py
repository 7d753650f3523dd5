"""The next experiment: what to queue after a finding, as arguments after `daybreak`. It knows config fields by name.

Nothing is proposed that the run's config has no field for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daybreak.lab.watch.record import Record


def add(record: Record, *flags: str) -> tuple[str, ...]:
    """Queue a run derived from this one, with these flags changed."""
    return ("tonight", "add", record.spec, "--from", str(record.number), *flags)


def lower_rate(record: Record, step: int) -> tuple[str, ...] | None:
    """The parent's learning rate where the run raised it; else a third, or the last healthy one in a warm-up."""
    rate = record.config.get("lr")
    if not isinstance(rate, (int, float)):
        return None
    changed = record.difference.get("lr")
    if changed and isinstance(changed[0], (int, float)) and changed[0] < rate:
        return add(record, "--lr", f"{changed[0]:.3g}")
    healthy = record.lr.upto(step - 1)
    # In a warm-up the rate at which it was still healthy is known; below a tenth of the peak it says little.
    third = rate / 3
    return add(record, "--lr", f"{min(third, healthy) if healthy > rate / 10 else third:.2g}")


def search_rate(record: Record) -> tuple[str, ...] | None:
    """A small sweep around a learning rate of which nobody knows whether it is too high or too low."""
    rate = record.config.get("lr")
    if not isinstance(rate, (int, float)):
        return None
    return add(record, "--lr", f"log({rate / 30:.2g},{rate * 30:.2g})", "--trials", "6")


def clip(record: Record) -> tuple[str, ...] | None:
    """Clip gradients at norm 1 where they are not; else halve the bound."""
    bound = record.config.get("clip")
    if not isinstance(bound, (int, float)):
        return None
    return add(record, "--clip", f"{bound / 2:.2g}" if bound else "1")


def stop_earlier(record: Record, step: int, dropout: bool = True) -> tuple[str, ...] | None:
    """As many steps as were of use; against over-fitting more dropout too, where the config has one below 0.3."""
    flags: list[str] = []
    if dropout and (name := _field(record.config, "dropout")):
        path, rate = name
        if rate < 0.3:
            return add(record, f"--{path}", f"{min(0.4, rate + 0.1):.2g}", "--steps", str(step))
    if "steps" in record.config and step > 0:
        flags = ["--steps", str(step)]
    return add(record, *flags) if flags else None


def loaders(record: Record) -> tuple[str, ...] | None:
    """Twice the background processes that prepare batches, two where there was none."""
    number = record.config.get("loaders")
    return add(record, "--loaders", str(max(2, 2 * number))) if isinstance(number, int) else None


def _field(config: Mapping[str, Any], leaf: str, prefix: str = "") -> tuple[str, float] | None:
    """The dotted name and value of the first number field called `leaf`."""
    for name, value in config.items():
        if name == leaf and isinstance(value, (int, float)):
            return f"{prefix}{name}", float(value)
        if isinstance(value, Mapping) and (found := _field(value, leaf, f"{prefix}{name}.")):
            return found
    return None
