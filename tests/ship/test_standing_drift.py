"""Promises about what is counted of a request, and about drifts: none of its contents, nothing lost, no false hurry."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import numpy as np
import pytest
from daybreak_toys.serving import Letter, Say, Server, Size, Style
from hypothesis import given
from hypothesis import strategies as st

from daybreak.lab import registry
from daybreak.lab.compare import f_tail, t_cdf
from daybreak.lab.lake import Draft, Lake
from daybreak.lab.model import Request
from daybreak.lab.ship.standing import drift, reference
from daybreak.lab.ship.standing.check import check, give
from daybreak.lab.ship.standing.orders import Standing
from daybreak.lab.ship.standing.served import KEPT, Counts, Recorder, folder_of, forget, served
from daybreak.lab.ship.standing.traits import bin_of, middle, traits
from daybreak.media.audio import Audio
from daybreak.media.midi import Midi
from daybreak.media.video import Video

DAY = 86400.0
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp()


class Asked(Request):
    size: float = 1.0
    kind: Literal["plain", "twice"] = "plain"


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


# Traits.


def test_traits_come_from_the_types_and_hold_nothing_that_was_written():
    secret = "Kim Minji, 010-1234-5678"
    asked = Say(word=secret, kind="twice", letter=Letter("dear diary"), style=Style(loud=True), tags=("a", "b"))
    found = traits(asked, {"word": ["yes", "no"]})
    assert found == {
        "word length": 24.0, "word letters": pytest.approx(8 / 24), "word digits": pytest.approx(11 / 24),
        "word spaces": pytest.approx(2 / 24), "word latin": 1.0, "kind": "twice", "letter given": "yes",
        "letter.bytes": 10.0, "style.loud": "yes", "tags size": 2.0,
    }  # fmt: skip
    assert "Minji" not in repr(found)
    assert "diary" not in repr(found)
    assert traits(Say(word="yes"), {"word": ["yes", "no"]})["word"] == "yes"


def test_every_media_type_tells_numbers_alone():
    rng = np.random.default_rng(0)
    sounds = [Audio(rng.normal(0, 0.1, 8000).astype("f4").clip(-1, 1), 8000), Audio(np.zeros(0, "f4"), 8000)]
    films = [Video(rng.integers(0, 255, (n, 8, 8, 3), dtype=np.uint8)) for n in (1, 4)]
    midi = pytest.importorskip("symusic")
    score = midi.Score(480)
    track = midi.Track()
    track.notes.append(midi.Note(0, 480, 60, 90))
    score.tracks.append(track)
    for media in (*sounds, *films, Midi.of(score)):
        found = media.traits()
        assert all(type(value) is float and math.isfinite(value) for value in found.values())
        assert media.traits() == found
    assert Midi.of(score).traits() == {
        "tracks": 1, "notes": 1, "quarters": 1, "tempo": 120, "pitch": 60, "length": 1, "velocity": 90,
    }  # fmt: skip
    assert sounds[0].traits()["level"] == pytest.approx(-20, abs=0.5)


def test_a_picture_tells_its_light_and_its_sides():
    pytest.importorskip("PIL")
    from daybreak.media.image import Image

    pixels = np.zeros((60, 120, 3), np.uint8)
    pixels[:, :, 0] = 255
    found = Image(pixels).traits()
    assert (found["width"], found["height"], found["aspect"]) == (120, 60, 2)
    assert (found["red"], found["blue"], found["contrast"]) == (1, 0, 0)
    assert found["light"] == pytest.approx(1 / 3)


@given(st.floats(allow_nan=False, width=64), st.floats(allow_nan=False, width=64))
def test_bins_keep_the_order_of_numbers(a, b):
    if a <= b:
        assert bin_of(a) <= bin_of(b)


@given(st.floats(1e-9, 1e9))
def test_a_bin_is_at_most_three_percent_wide(value):
    assert middle(bin_of(value)) == pytest.approx(value, rel=0.017)
    assert middle(-bin_of(value)) == -middle(bin_of(value)) == middle(bin_of(-value)) * 1


# What is kept.


def test_a_loop_of_alike_requests_is_one_visit(lab):
    clock = Clock()
    recorder = Recorder(lab, clock)
    for n in range(1000):
        recorder.note("a", "toy@1", "act", Asked(size=8.0))
        clock.now += 0.5
        if n % 100 == 0:
            recorder.note("b", "toy@1", "act", Asked(size=2.0, kind="twice"))
    recorder.flush(all=True)
    (actions,) = served(lab, "toy@1").values()
    counts = actions["act"]
    assert (counts.visits, counts.requests) == (2, 1010)
    assert counts.bins["size"] == {bin_of(8.0): 1, bin_of(2.0): 1}
    assert counts.bins["kind"] == {"plain": 1, "twice": 1}


def test_what_is_no_registered_version_is_not_counted(lab):
    recorder = Recorder(lab, Clock())
    for title in ("toy", "toy (shipped weights)", "/some/folder", "../x@1", "toy@production"):
        recorder.note("a", title, "act", Asked())
    recorder.flush(all=True)
    assert not (lab.root / "served").exists()


def test_several_services_count_beside_each_other_and_one_goes_on_after_midnight(lab):
    clock = Clock(datetime(2026, 11, 2, 23, 58, tzinfo=UTC).timestamp())
    one, two = Recorder(lab, clock), Recorder(lab, clock)
    for recorder in (one, two):
        recorder.note("a", "toy@1", "act", Asked())
    one.flush(all=True)
    one.note("b", "toy@1", "act", Asked())
    clock.now += 900  # past midnight: the visits of before belong to the day on which they began
    one.note("c", "toy@1", "act", Asked())
    for recorder in (one, two):
        recorder.flush()
        recorder.flush(all=True)
    found = {day.day: actions["act"].visits for day, actions in served(lab, "toy@1").items()}
    assert found == {2: 3, 3: 1}


def test_files_hold_no_client_and_old_ones_go(lab):
    clock = Clock()
    recorder = Recorder(lab, clock)
    recorder.note("192.0.2.77", "toy@1", "act", Asked())
    recorder.flush(all=True)
    (path,) = folder_of(lab, "toy@1").iterdir()
    assert "192.0.2" not in path.read_text()
    day = date(2026, 11, 2)
    forget(lab, "toy@1", day + timedelta(days=KEPT))
    assert path.exists()
    forget(lab, "toy@1", day + timedelta(days=KEPT + 1))
    assert not path.exists()


def test_a_file_that_cannot_be_read_is_named_and_the_others_count(lab):
    recorder = Recorder(lab, Clock())
    recorder.note("a", "toy@1", "act", Asked())
    recorder.flush(all=True)
    (folder_of(lab, "toy@1") / "2026-11-02.00000000.json").write_text("{")
    broken: list[str] = []
    assert len(served(lab, "toy@1", broken=broken)) == 1
    assert broken == ["2026-11-02.00000000.json"]


numbers = st.dictionaries(st.integers(-50, 50) | st.sampled_from(["yes", "no"]), st.floats(0, 100), max_size=4)


@given(st.floats(0, 1e6), st.integers(0, 10**6), st.dictionaries(st.text(max_size=5), numbers, max_size=3))
def test_counts_come_back_from_json_as_they_went(visits, requests, bins):
    counts = Counts(visits, requests, bins)
    back = Counts.of(json.loads(json.dumps(counts.plain())))
    assert (back.visits, back.requests, set(back.bins)) == (visits, requests, set(bins))
    for name, held in bins.items():
        assert back.bins[name] == pytest.approx(held, abs=1e-6)


def test_a_service_counts_what_a_registered_version_is_asked_and_never_its_words(lab):
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    from serving import running, version

    version(lab, 1)
    registry.promote(lab, "toy-server@1")
    recorder = Recorder(lab)
    with running(lab, "toy-server@production", recorder=recorder) as service:
        for x in (3, 4):
            assert service.post("toy-server@production/scale", {"x": x}).status_code == 200
        assert service.post("toy-server@production/count", {"to": 2}).status_code == 200
        assert service.post("toy-server@production/scale", {"x": "no"}).status_code == 422
        assert service.post("toy-server@production/wait", {"fault": "refuse"}).status_code == 409
        end = time.monotonic() + 10
        while len(recorder._visits) < 3 and time.monotonic() < end:
            time.sleep(0.01)
    (actions,) = served(lab, "toy-server@1").values()
    assert {name: counts.requests for name, counts in actions.items()} == {"scale": 2, "count": 1, "wait": 1}
    assert actions["scale"].bins["x"] == {bin_of(3.0): 0.5, bin_of(4.0): 0.5}


# The test.


def week(rng, visits, *, shift=0.0, scale=1.0, share=0.3, clients=0, days=7):
    found = []
    style = np.random.default_rng(clients).normal(0, 2, max(1, clients))
    for _ in range(days):
        counts = Counts(visits=visits // days)
        for _ in range(visits // days):
            own = style[rng.integers(clients)] if clients else 0.0
            counts.note({"size": 50 + 5 * (scale * rng.normal() + shift + own),
                         "kind": "twice" if rng.random() < share else "plain"})  # fmt: skip
        found.append({"act": counts})
    return found


@pytest.mark.parametrize("change", [{"shift": 1.0}, {"shift": -1.0}, {"scale": 2.5}, {"share": 0.7}])
def test_a_drift_is_found_and_told_in_its_own_unit(change):
    rng = np.random.default_rng(3)
    first, *_ = drift.test(week(rng, 350, **change), {"first weeks": week(rng, 350)})
    assert first.drifted
    assert first.trait == ("kind" if "share" in change else "size")
    told = drift.sentence(first, 2)
    words = {"shift": "higher" if change.get("shift") == 1.0 else "lower", "scale": "more spread", "share": "'"}
    assert words[next(iter(change))] in told
    assert "after Holm over 2" in told


def test_quiet_weeks_are_quiet_also_when_few_clients_have_their_own_ways():
    rng = np.random.default_rng(4)
    for clients in (0, 8):
        found = [drift.test(week(rng, 140, clients=clients), {"w": week(rng, 140, clients=clients)}) for _ in range(20)]
        assert not any(shift.drifted for shifts in found for shift in shifts)


def test_days_that_differ_among_themselves_make_it_less_sure():
    rng = np.random.default_rng(5)
    restless = [day for n in range(7) for day in week(rng, 50, days=1, shift=(-1) ** n + 0.6)]
    calm = week(rng, 350, shift=0.6)
    reference = {"w": week(rng, 350)}
    least = {name: min(s.p for s in drift.test(days, reference)) for name, days in (("r", restless), ("c", calm))}
    assert least["r"] > least["c"]


def test_a_real_difference_that_is_tiny_is_no_reason_to_train():
    rng = np.random.default_rng(6)
    first, *_ = drift.test(week(rng, 21000, shift=0.15), {"w": week(rng, 21000)})
    assert first.p < drift.LEVEL
    assert not first.drifted


def test_a_category_that_was_never_there_is_found():
    before = [{"act": Counts(30, 30, {"kind": {"a": 20, "b": 10}})} for _ in range(7)]
    after = [{"act": Counts(30, 30, {"kind": {"a": 16, "b": 8, "c": 6}})} for _ in range(7)]
    (found,) = drift.test(after, {"w": before})
    assert found.drifted
    assert found.words.startswith("'c' 0% -> 20%") or found.words.startswith("'a'")


def test_too_little_is_not_judged():
    rng = np.random.default_rng(7)
    assert drift.test(week(rng, 49), {"w": week(rng, 490)}) == []
    assert drift.test([], {"w": week(rng, 490)}) == []
    assert drift.test(week(rng, 490), {"w": []}) == []


@pytest.mark.parametrize(("t", "freedom"), [(0.5, 3), (2.0, 12), (4.3, 48)])
def test_f_with_one_degree_above_is_the_square_of_t(t, freedom):
    assert f_tail(t * t, 1, freedom) == pytest.approx(2 * (1 - t_cdf(t, freedom)))


# From the service's counts to the queue.


@pytest.fixture
def in_service(lab):
    """A toy server in production, made by a run whose items a letter can read, and an order that waits for a drift."""
    from daybreak.lab.run import Run

    lake = Lake.open(lab)
    rng = np.random.default_rng(0)
    drafts = [Draft(f"n{n}", f"g{n}", {"data": b"%06d" % n + b"a" * int(rng.poisson(60))}) for n in range(300)]
    lake.add("toy", drafts, licence="CC0")
    snapshot = lake.snapshot("toy").id
    lake.close()
    run = Run.create(lab, recipe="toy:mlp", config=_config(), snapshot=snapshot, threads=1)
    folder = Server(Size()).save(lab.registry / "toy-server" / "1")
    record = {"number": 1, "run": run.id, "recipe": "toy:mlp", "preset": "", "created_run": run.info.created}
    (folder / "record.json").write_text(json.dumps(record))
    registry.promote(lab, "toy-server@1")
    give(lab, "toy:mlp", "drift")
    return lab


def _config():
    from daybreak_toys.mlp import MlpConfig

    return MlpConfig()


def ask(lab, first, days, *, length=66, kind="plain", visits=40, seed=0):
    """Letters that the service is sent, as a service counts them."""
    rng = np.random.default_rng([seed, first])
    clock = Clock()
    recorder = Recorder(lab, clock)
    for day in range(first, first + days):
        for n in range(visits):
            clock.now = NOON + day * DAY + n
            letter = Letter("b" * int(rng.poisson(length)))
            recorder.note(f"c{n}", "toy-server@1", "say", Say(letter=letter, kind=kind))
        recorder.flush(all=True)


def look(lab, day):
    (row,) = check(lab, NOON + day * DAY)
    return row


def test_requests_like_the_snapshot_are_no_drift_and_others_queue_one_retraining(in_service):
    ask(in_service, 0, 7)
    row = look(in_service, 7)
    assert "no drift shown" in row["said"]
    assert not row["due"]
    ask(in_service, 7, 7, length=100)
    row = look(in_service, 14)
    assert row["due"]
    assert "say: letter.bytes higher" in row["said"]
    assert "against the snapshot" in row["said"]
    assert row["job"] == 1
    assert "waits for its retraining" in look(in_service, 15)["said"]


def test_the_same_drift_is_not_queued_again_and_a_further_one_is(in_service):
    from daybreak.lab.night.queue import Tonight

    ask(in_service, 0, 7, length=100)
    assert look(in_service, 7)["job"] == 1
    with Tonight(in_service) as queue:
        queue.end(queue.claim(queue.get(1)), "quarantined")
    for day in (7, 14):
        ask(in_service, 7, day - 7, length=100)
        row = look(in_service, day)
        assert not row["due"]
        assert "nothing moved since" in row["said"]
    ask(in_service, 14, 7, length=180)
    assert look(in_service, 21)["job"] == 2


def test_what_no_item_stands_for_is_held_against_the_first_week_of_service(in_service):
    ask(in_service, 0, 14)
    assert not look(in_service, 14)["due"]
    ask(in_service, 14, 7, kind="twice")
    row = look(in_service, 21)
    assert "say: kind" in row["said"]
    assert "against the first weeks" in row["said"]
    with Standing(in_service) as standing:
        (order,) = standing.orders()
    assert [shift["trait"] for shift in order.found] == ["kind"]


def test_a_model_that_is_not_served_or_hardly_is_told_so(in_service):
    assert "nothing is recorded of toy-server@1: daybreak serve toy-server records" in look(in_service, 7)["said"]
    ask(in_service, 5, 2, visits=3)
    assert "6 visits on 2 of the last 7 whole days; a test needs 50 on 3" in look(in_service, 7)["said"]


def test_the_snapshot_is_counted_once(in_service, monkeypatch):
    ask(in_service, 0, 7)
    look(in_service, 7)
    monkeypatch.setattr(reference, "_counted", lambda *asked: pytest.fail("counted again"))
    look(in_service, 7)


def test_a_few_requests_by_hand_are_no_first_weeks(in_service):
    ask(in_service, 0, 1, visits=2)
    ask(in_service, 20, 14)
    assert reference.first_weeks(in_service, "toy-server@1", date(2026, 11, 2) + timedelta(days=33)) == []
    found = reference.first_weeks(in_service, "toy-server@1", date(2026, 11, 2) + timedelta(days=34))
    assert [day for day, _ in found] == [date(2026, 11, 22) + timedelta(days=n) for n in range(14)]
