"""How figures are written: numbers, durations, steps, days. No more digits than an interval supports.

It knows nothing about runs or pages. A minus sign is the minus sign (U+2212), so that columns of figures align.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

MINUS = "\u2212"
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def decimals(values: Iterable[float], halves: Iterable[float] = ()) -> int:
    """Decimal places for a column: two significant digits of its middling interval (of two the narrower: a run that
    diverged has a wide one), else four of its values.

    >>> decimals([1.7012], [0.0123])
    3
    >>> decimals([1.7012])
    3
    """
    widths = [half for half in halves if half > 0 and math.isfinite(half)]
    if widths:
        return min(6, max(0, 1 - math.floor(math.log10(sorted(widths)[(len(widths) - 1) // 2]))))
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    return min(6, max(0, 3 - math.floor(math.log10(max(sizes))))) if sizes else 2


def figure(value: float | None, places: int) -> str:
    """A number with fixed decimals; "-" for none; very large and very small ones in powers of ten.

    >>> figure(-0.0412, 3)
    '\u22120.041'
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "NaN" if value != value else "\u221e" if value > 0 else f"{MINUS}\u221e"
    if value and not 1e-6 <= abs(value) < 1e7:
        return f"{value:.1e}".replace("e-", f"e{MINUS}").replace("e+", "e").replace("-", MINUS)
    text = f"{value:,.{places}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float, places: int) -> str:
    """A difference: always with its sign.

    >>> signed(0.0412, 3)
    '+0.041'
    """
    text = figure(value, places)
    return text if text.startswith(MINUS) or not text.strip("0.,") else f"+{text}"


def count(value: int, one: str, many: str = "") -> str:
    """A count with its noun.

    >>> count(1, "run"), count(4, "run")
    ('1 run', '4 runs')
    """
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(9060), duration(95), duration(0.4)
    ('2 h 31 m', '1 m 35 s', '0 s')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} m {whole % 60} s" if whole % 60 else f"{whole // 60} m"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} m"
    return f"{minutes // 60} h {minutes % 60} m"


def day(value: date) -> str:
    """A date in full, in English on every machine.

    >>> day(date(2026, 11, 22))
    'Sunday, 22 November 2026'
    """
    return f"{DAYS[value.weekday()]}, {value.day} {MONTHS[value.month - 1]} {value.year}"


def setting(value: Any, digits: int = 12) -> str:
    """A config value, on one line.

    >>> setting(0.000642271, 4)
    '0.0006423'
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e")
    if isinstance(value, (list, tuple)):
        return ", ".join(setting(item, digits) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {setting(item, digits)}" for key, item in value.items())
    return str(value)


def named(group: Mapping[str, Any]) -> str:
    """A group's recipe, and its task where it has one.

    >>> named({"recipe": "rl:policy", "task": "CartPole-v1"})
    'rl:policy, CartPole-v1'
    """
    return f"{group['recipe']}, {group['task']}" if group["task"] else str(group["recipe"])


def listing(names: Iterable[str], most: int = 4) -> str:
    """Names as a list in a sentence.

    >>> listing(["a", "b", "c"])
    'a, b and c'
    """
    held = list(names)
    if len(held) > most:
        held = [*held[: most - 1], f"{len(held) - most + 1} more"]
    return held[0] if len(held) == 1 else f"{', '.join(held[:-1])} and {held[-1]}" if held else ""
