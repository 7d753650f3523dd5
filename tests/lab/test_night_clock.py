"""Times as people write them."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.lab.night.clock import Clock, Deadline, end_of_night, next_time, parse_duration, parse_moment, span

NOW = datetime(2026, 11, 22, 18, 0).timestamp()


class FakeClock(Clock):
    def __init__(self) -> None:
        self.jump, self.passed = 0.0, 0.0

    def wall(self) -> float:
        return NOW + self.jump + self.passed

    def steady(self) -> float:
        return 50.0 + self.passed


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("3m", 180), ("1h30m", 5400), ("2 d", 172800), ("0.5h", 1800)]
)
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "m", "-3m", "3m later", "3x", "0s", "9999d", "3m,"])
def test_what_is_no_duration_is_refused_in_one_line(text):
    with pytest.raises(UserError) as caught:
        parse_duration(text)
    assert "\n" not in str(caught.value)


def test_a_time_of_day_is_the_next_one():
    assert datetime.fromtimestamp(parse_moment("09:30", NOW)) == datetime(2026, 11, 23, 9, 30)
    assert datetime.fromtimestamp(parse_moment("18:01", NOW)) == datetime(2026, 11, 22, 18, 1)
    assert datetime.fromtimestamp(parse_moment("18:00", NOW)) == datetime(2026, 11, 23, 18, 0)
    assert datetime.fromtimestamp(parse_moment("2026-11-24 07:00", NOW)) == datetime(2026, 11, 24, 7, 0)


@pytest.mark.parametrize("text", ["9.30", "24:00", "09:61", "tomorrow", "", "2026-13-01T00:00"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UserError):
        parse_moment(text, NOW)


def test_until_in_the_past_is_refused_and_says_what_time_it_is():
    with pytest.raises(UserError, match=r"in the past: it is Sun 22 Nov 18:00 now"):
        end_of_night("2026-11-22T17:59", "", NOW)
    with pytest.raises(UserError, match="give one"):
        end_of_night("09:30", "3m", NOW)
    assert end_of_night("", "", NOW) is None
    assert end_of_night("", "3m", NOW) == NOW + 180


@given(st.integers(0, 23), st.integers(0, 59), st.floats(0, 4e9))
def test_the_next_time_comes_within_two_days_and_shows_on_the_clock(hour, minute, now):
    moment = next_time(hour, minute, now)
    assert 0 < moment - now <= 49 * 3600


def test_summer_time_does_not_move_a_time_of_day(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        eve = datetime(2026, 10, 24, 22, 0).timestamp()
        assert next_time(9, 30, eve) - eve == 12.5 * 3600  # the night has an hour more
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_jump_of_the_wall_clock_does_not_move_a_deadline():
    clock = FakeClock()
    deadline = Deadline(clock, NOW + 100)
    clock.passed = 40
    assert deadline.left == 60
    clock.jump = 7200
    assert deadline.left == 60
    assert deadline.epoch == clock.wall() + 60
    clock.jump = -86400
    clock.passed = 101
    assert deadline.left == -1
    assert Deadline(clock, None).left == float("inf")


def test_spans_are_short():
    assert [span(s) for s in (12, 200, 26000, -3)] == ["12 s", "3 m 20 s", "7 h 13 m", "0 s"]
