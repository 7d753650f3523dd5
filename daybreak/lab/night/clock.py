"""Times as people write them, and clocks that do not jump.

It knows "09:30", "3m" and the difference between the wall's clock and a steady one. It knows nothing about jobs.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

from daybreak.errors import UserError

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Clock:
    """The machine's clocks. Tests have their own."""

    def wall(self) -> float:
        """Seconds since the epoch; may jump."""
        return time.time()

    def steady(self) -> float:
        """Seconds that never jump, and go on while the machine sleeps where the system can tell: for deadlines."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()

    def awake(self) -> float:
        """Seconds that never jump and stand still while the machine sleeps: for silence."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class Deadline:
    """A moment that a jump of the wall's clock does not move."""

    def __init__(self, clock: Clock, epoch: float | None) -> None:
        self._clock = clock
        self._at = None if epoch is None else clock.steady() + epoch - clock.wall()

    @property
    def left(self) -> float:
        """Seconds until then, negative afterwards; infinite without a deadline."""
        return float("inf") if self._at is None else self._at - self._clock.steady()

    @property
    def epoch(self) -> float | None:
        """The moment by the wall's clock as it now stands."""
        return None if self._at is None else self._clock.wall() + self.left


def parse_duration(text: str) -> float:
    """Seconds in "90s", "3m", "1h30m" or "2d". Raises `UserError`."""
    whole = text.strip().lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", whole)
    if not parts or not re.fullmatch(r"(?:\d+(?:\.\d+)?\s*[smhd]\s*)+", whole):
        raise UserError(f"{text!r} is not a duration; 90s, 3m and 1h30m are")
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if not 0 < seconds <= 366 * 86400:
        raise UserError(f"{text!r} is not between a second and a year")
    return seconds


def parse_moment(text: str, now: float) -> float:
    """Seconds since the epoch of "09:30" (the next one, local time) or "2026-11-23 09:30". Raises `UserError`."""
    words = text.strip()
    if match := re.fullmatch(r"(\d{1,2}):(\d{2})", words):
        hour, minute = int(match[1]), int(match[2])
        if hour > 23 or minute > 59:
            raise UserError(f"{text!r} is not a time of day; 09:30 is")
        return next_time(hour, minute, now)
    try:
        return datetime.fromisoformat(words.replace(" ", "T", 1)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UserError(f"{text!r} is not a time; 09:30 and 2026-11-23T09:30 are") from None


def next_time(hour: int, minute: int, now: float) -> float:
    """The next moment after `now` at which local clocks show that time; seconds since the epoch."""
    # A naive local time is converted by the system's rules, so that a day of 23 or 25 hours comes out right.
    today = datetime.fromtimestamp(now).replace(hour=hour, minute=minute, second=0, microsecond=0)
    for days in range(3):
        if (moment := (today + timedelta(days=days)).timestamp()) > now:
            return moment
    raise AssertionError("no time of day is three days away")


def end_of_night(until: str, lasting: str, now: float) -> float | None:
    """When a night ends, from its flags; None where it ends with its queue. Raises `UserError`."""
    if until and lasting:
        raise UserError("night: --until and --for say the same thing; give one of them")
    if lasting:
        return now + parse_duration(lasting)
    if not until:
        return None
    moment = parse_moment(until, now)
    if moment <= now:
        raise UserError(f"night: --until {until} is in the past: it is {words(now)} now")
    return moment


def words(moment: float) -> str:
    """A moment for a person: "Thu 26 Nov 09:30"."""
    return datetime.fromtimestamp(moment).strftime("%a %d %b %H:%M")


def span(seconds: float) -> str:
    """A length of time for a person: "7 h 12 m", "3 m 20 s", "12 s"."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes:02d} m"
    return f"{minutes} m {rest:02d} s" if minutes else f"{rest} s"
