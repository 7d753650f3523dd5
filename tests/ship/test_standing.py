"""Standing orders' promises: what is due is queued once, whatever dies; the champion falls only to an interval."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybreak.cli import main
from daybreak.errors import UserError
from daybreak.lab import lock, registry
from daybreak.lab.derive import new_run, plan
from daybreak.lab.home import Lab
from daybreak.lab.lake import Draft, Lake, Snapshot
from daybreak.lab.morning import data_of, decide, write_morning
from daybreak.lab.night.queue import Tonight
from daybreak.lab.recipe import Gate, Score
from daybreak.lab.run import Run
from daybreak.lab.ship.standing import challenge
from daybreak.lab.ship.standing.check import check, give, keep, promote
from daybreak.lab.ship.standing.orders import Standing, When
from daybreak.lab.ship.standing.told import listed
from daybreak.lab.train import train

DAY = 86400.0


def enough_groups(patch):
    """The toy's validation with enough groups for an interval; its error is its learning rate, with an item's noise."""
    from daybreak_toys.mlp import Mlp, Point

    def items(self, split):
        return [Point(f"{split}-{n}", f"{split}-{n // 2}", n) for n in range(24)]

    def evaluate(self, items):
        for item in items:
            yield Score(item.id, item.group, {"squared error": self.config.lr + 1e-5 * (item.index % 5)})

    patch.setattr(Mlp, "items", items)
    patch.setattr(Mlp, "evaluate", evaluate)


@pytest.fixture(autouse=True)
def groups(monkeypatch):
    enough_groups(monkeypatch)


def put(lab, *numbers):
    """Items of the toy system in the lake."""
    lake = Lake.open(lab)
    lake.add("toy", [Draft(f"n{n}", f"g{n}", {"data": b"%d" % n}) for n in numbers], licence="CC0")
    lake.close()


def freeze(lab) -> str:
    lake = Lake.open(lab)
    try:
        return lake.snapshot("toy").id
    finally:
        lake.close()


def made(lab, *flags, snapshot=""):
    run = new_run(lab, plan(lab, "toy:mlp", ["--steps", "2", *flags]), snapshot=snapshot, threads=1)
    assert train(lab, run, progress=False) == "finished"
    return run


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A lab with ten items and a model in production."""
    lab = Lab.open(tmp_path_factory.mktemp("first") / "lab")
    put(lab, *range(10))
    with pytest.MonkeyPatch.context() as patch:
        enough_groups(patch)
        run = made(lab, "--lr", "0.01", snapshot=freeze(lab))
        registry.promote(lab, registry.add(lab, run).title)
    return lab


@pytest.fixture
def crowned(first, tmp_path, monkeypatch):
    """A copy of it."""
    root = shutil.copytree(first.root, tmp_path / "lab")
    monkeypatch.setenv("DAYBREAK_LAB", str(root))
    return Lab.open(root)


def jobs(lab):
    with Tonight(lab) as queue:
        return sorted(queue.jobs(), key=lambda job: job.id)


def work(lab, **change):
    """Do the newest job as a night does, with other config values where given."""
    with Tonight(lab) as queue:
        job = queue.claim(max(queue.jobs("waiting"), key=lambda job: job.id))
        config = {**job.config, **change}
        parent = Run.find(lab, job.parent)
        flags = [word for name in ("lr", "seed", "steps") for word in (f"--{name}", str(config[name]))]
        run = new_run(lab, plan(lab, "toy:mlp", flags, parent=parent.id), snapshot=job.snapshot, threads=1)
        queue.has_run(job, run.id, config)
        assert train(lab, run, progress=False) == "finished"
        queue.end(queue.get(job.id), "finished")
    return run


def said(lab, now=None):
    (row,) = check(lab, now)
    return row


def production(lab):
    return challenge.champion(lab, "toy", "toy:mlp")[0].title


# What can be asked for.


@pytest.mark.parametrize("text", ["new-items>=500", "drift", "weekly"])
def test_a_condition_reads_as_it_was_written(text):
    assert str(When.parse(text)) == text


@given(st.text(max_size=30))
def test_any_other_condition_is_one_line_with_what_would_work(text):
    try:
        assert str(When.parse(text)) == "".join(text.split())
    except UserError as error:
        assert "\n" not in str(error) and "--when" in str(error)  # noqa: PT017, PT018


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["toy", "--when", "new-items"], "does not say how many; quote it: --when 'new-items>=500'"),
        (["toy", "--when", "drifts"], "did you mean drift?"),
        (["toy", "--when", "new-items>=0"], "at least 1"),
        (["toy"], "when"),
        (["toys", "--when", "drift"], "did you mean toy?"),
        (["toy:count", "--when", "drift"], "no model of toy:count is registered"),
        (["toy", "--when", "drift", "--model", "toi"], "did you mean toy?"),
        (["toy:wide", "--when", "drift"], "not toy:wide; name toy:mlp"),
        (["toy", "--when", "drift", "--promote", "ruel"], "rule"),
    ],
)
def test_a_mistake_is_one_line_with_what_would_work(crowned, capsys, words, told):
    with pytest.raises(SystemExit) as left:
        main(["standing", "add", *words])
    line = capsys.readouterr().err
    assert left.value.code == 2
    assert told in line
    assert line.count("\n") == 1
    assert listed(crowned) == []


def test_a_model_that_is_not_in_production_is_told_how_to_get_there(lab):
    registry.add(lab, made(lab))
    with pytest.raises(UserError, match=r"daybreak registry promote toy@1 first"):
        give(lab, "toy", "drift")


def test_new_items_cannot_be_waited_for_where_none_are_learnt_from(lab):
    registry.promote(lab, registry.add(lab, made(lab)).title)
    with pytest.raises(UserError, match="learns from no items"):
        give(lab, "toy", "new-items>=5")


def test_orders_are_listed_and_taken_away(crowned, capsys):
    main(["standing", "add", "toy", "--when", "new-items>=5", "--owner", "ana"])
    with pytest.raises(UserError, match=r"order 1 .* stands already"):
        give(crowned, "toy", "new-items>=5")
    main(["standing", "list", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["when"], row["owner"], row["said"]) == ("new-items>=5", "ana", "not looked at yet")
    main(["standing", "rm", "1"])
    assert listed(crowned) == []
    with pytest.raises(UserError, match="removed before"), Standing(crowned) as standing:
        standing.remove(1)


# What is due.


def test_new_items_queue_a_retraining_of_the_production_run_on_a_fresh_snapshot_once(crowned):
    champion = Run.find(crowned, "1")
    give(crowned, "toy", "new-items>=5")
    put(crowned, *range(10, 14))
    assert said(crowned)["said"].startswith("4 of 5 new items")
    assert jobs(crowned) == []
    put(crowned, 14)
    assert said(crowned)["due"]
    (job,) = jobs(crowned)
    assert (job.parent, dict(job.config)) == (champion.id, dict(champion.info.config))
    assert len(Snapshot.open(crowned, job.snapshot)) == 15
    for _ in range(3):
        assert "waits for its retraining 1" in said(crowned)["said"]
    assert len(jobs(crowned)) == 1


def test_items_that_a_retraining_has_seen_are_not_new_again(crowned):
    give(crowned, "toy", "new-items>=5", promote="ask")
    put(crowned, *range(10, 16))
    said(crowned)
    work(crowned)
    assert said(crowned)["said"].startswith("0 of 5 new items")
    put(crowned, *range(20, 25))
    assert said(crowned)["job"] == 2


def test_other_items_than_the_snapshot_asked_for_do_not_count(lab):
    lake = Lake.open(lab)
    lake.add("toy", [Draft("a", "a", {"data": b"a"}, {"genre": "jazz"})], licence="CC0")
    run = made(lab, snapshot=lake.snapshot("toy", where={"genre": "jazz"}).id)
    registry.promote(lab, registry.add(lab, run).title)
    give(lab, "toy", "new-items>=1")
    put(lab, 1, 2)
    assert not said(lab)["due"]
    lake.add("toy", [Draft("b", "b", {"data": b"b"}, {"genre": "jazz"})], licence="CC0")
    lake.close()
    assert said(lab)["due"]
    assert len(Snapshot.open(lab, jobs(lab)[0].snapshot)) == 2


def test_weekly_is_a_week_after_the_last_one_and_another_seed_where_nothing_is_new(crowned):
    give(crowned, "toy", "weekly")
    now = datetime.fromisoformat(Run.find(crowned, "1").info.created).timestamp()
    assert not said(crowned, now + 6.9 * DAY)["due"]
    row = said(crowned, now + 7 * DAY)
    assert row["due"]
    assert "seed 1: else it would be the same run" in row["said"]
    assert jobs(crowned)[0].config["seed"] == 1
    work(crowned)
    assert not said(crowned, now + 8 * DAY)["due"]
    assert said(crowned, now + 14.1 * DAY)["due"]
    assert jobs(crowned)[1].config["seed"] == 2


def test_an_order_whose_production_is_gone_says_what_to_do_and_queues_nothing(crowned):
    give(crowned, "toy", "weekly")
    (crowned.registry / "toy" / "production").unlink()
    row = said(crowned, time.time() + 30 * DAY)
    assert row["said"] == ("no version of toy is in production; daybreak registry promote toy@1 puts one there")
    assert jobs(crowned) == []
    registry.promote(crowned, "toy@1")
    Run.find(crowned, "1").remove()
    assert "its run 1-toy-mlp is not in this lab any more" in said(crowned, time.time() + 30 * DAY)["said"]


def test_a_job_that_was_taken_out_is_not_queued_again_for_the_same_items(crowned):
    give(crowned, "toy", "new-items>=5")
    put(crowned, *range(10, 15))
    said(crowned)
    with Tonight(crowned) as queue:
        queue.remove(1)
    assert not said(crowned)["due"]
    assert listed(crowned)[0]["verdict"] == "its job was taken out of the queue"
    assert jobs(crowned) == []


# Nothing twice.

KILLED = """
import os, signal, sys
from daybreak.lab.home import Lab
from daybreak.lab.morning import data_of, decide, write_morning
from daybreak.lab.night.queue import Tonight
from daybreak.lab.ship.standing import check as room
from daybreak.lab.ship.standing.orders import Standing
def die(*a, **k): os.kill(os.getpid(), signal.SIGKILL)
where = sys.argv[2]
if where == "written":
    room.place = die
else:
    Standing.set = die
room.check(Lab.open(sys.argv[1]))
"""


@pytest.mark.parametrize("where", ["written", "queued"])
def test_a_check_that_is_killed_anywhere_queues_exactly_one(crowned, where):
    give(crowned, "toy", "new-items>=5")
    put(crowned, *range(10, 15))
    done = subprocess.run([sys.executable, "-c", KILLED, str(crowned.root), where], check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert len(jobs(crowned)) == (where == "queued")
    check(crowned)
    check(crowned)
    assert len(jobs(crowned)) == 1
    with Standing(crowned) as standing:
        assert [(r.job, r.state) for r in standing.retrainings()] == [(1, "queued")]


def test_two_checks_at_once_are_one(crowned):
    give(crowned, "toy", "weekly")
    with lock.hold(crowned.root / "standing.lock", "the test"), pytest.raises(UserError, match="is held by"):
        check(crowned)


# The champion and its challengers.


def challenged(lab, *, promote="rule", **change):
    """A finished challenger, judged."""
    give(lab, "toy", "new-items>=5", promote=promote)
    put(lab, *range(10, 15))
    check(lab)
    run = work(lab, **change)
    check(lab)
    return run


def test_a_challenger_that_the_interval_calls_better_takes_production_and_its_reading_is_recorded(crowned):
    before = len(registry.readings(crowned))
    run = challenged(crowned, lr=0.005)
    assert production(crowned) == "toy@2"
    assert registry.find(crowned, "toy@2").record["run"] == run.id
    assert registry.history(crowned, "toy")[-1]["by"] == "standing order 1"
    assert len(registry.readings(crowned)) == before + 1
    (row,) = listed(crowned)
    assert row["state"] == "promoted"
    assert "toy:mlp#2 is better on these items" in row["verdict"]


@pytest.mark.parametrize("rate", [0.01, 0.02])
def test_one_that_is_not_shown_to_be_better_waits_for_a_decision_and_reads_no_test_set(crowned, rate):
    before = len(registry.readings(crowned))
    challenged(crowned, lr=rate)
    assert production(crowned) == "toy@1"
    assert listed(crowned)[0]["state"] == "undecided"
    assert len(registry.readings(crowned)) == before


def test_an_order_that_asks_leaves_even_a_better_one_to_a_person(crowned):
    challenged(crowned, promote="ask", lr=0.005)
    assert production(crowned) == "toy@1"
    assert promote(crowned, 1, "ana") == "toy@2 is in production"
    assert promote(crowned, 1, "ana").endswith("in production already")
    assert listed(crowned)[0]["state"] == "promoted"
    with pytest.raises(UserError, match="registry rollback toy"):
        keep(crowned, 1)


def test_a_winner_that_fails_its_gate_is_refused_and_the_test_set_is_read_once(crowned, monkeypatch):
    from daybreak_toys.mlp import Mlp

    monkeypatch.setattr(Mlp, "gates", (Gate(Mlp.goal, 1e-9),))
    before = len(registry.readings(crowned))
    challenged(crowned, lr=0.005)
    for _ in range(2):
        check(crowned)
    assert production(crowned) == "toy@1"
    assert listed(crowned)[0]["state"] == "refused"
    assert "the gate asks for at most 1e-09" in listed(crowned)[0]["verdict"]
    assert len(registry.readings(crowned)) == before + 1


def test_the_champion_is_scored_anew_on_items_that_it_was_never_scored_on(crowned, monkeypatch):
    from daybreak_toys.mlp import Mlp, Point

    give(crowned, "toy", "new-items>=5")
    put(crowned, *range(10, 15))
    check(crowned)
    fresh = lambda self, split: [Point(f"{split}-fresh-{n}", f"{n}", n) for n in range(20)]  # noqa: E731
    monkeypatch.setattr(Mlp, "items", fresh)
    run = work(crowned, lr=0.005)
    interval, note = challenge.against(crowned, run, Run.find(crowned, "1"))
    assert (interval.items, interval.left_out, note) == (20, 0, "")
    assert interval.difference == pytest.approx(-0.005)


def test_one_of_many_challengers_needs_more_than_the_first(crowned):
    from daybreak.lab.compare import Interval

    found = Interval(-0.1, -0.2, -0.01, 0.03, 0.95, 40, 20, "lower")
    assert challenge.verdict(found, [], "toy#9") == (True, challenge.verdict(found, [], "toy#9")[1])
    won, words = challenge.verdict(found, [0.4, 0.7], "toy#9")
    assert not won
    assert "once corrected for 3 comparisons" in words


def test_a_challenger_whose_run_failed_is_told_and_the_order_goes_on(crowned):
    give(crowned, "toy", "new-items>=5")
    put(crowned, *range(10, 15))
    check(crowned)
    with Tonight(crowned) as queue:
        queue.end(queue.claim(queue.get(1)), "quarantined", "three failures")
    check(crowned)
    assert listed(crowned)[0]["verdict"] == "job 1 quarantined: three failures"
    put(crowned, *range(20, 25))
    assert said(crowned)["job"] == 2


# The night and the morning.


class Done:
    """A process that has ended."""

    returncode = 0

    def poll(self):
        return 0


def test_the_night_looks_at_its_start_and_again_when_a_run_has_finished(lab):
    from daybreak.lab.night.supervisor import Night

    looks = []

    def standing(lab):
        looks.append(1)
        if len(looks) == 1:  # a finished run's job: it ends as soon as the night takes it up
            run = made(lab)
            with Tonight(lab) as queue:
                job = queue.add([queue_job(run)])[0]
                queue.has_run(job, run.id, run.info.config)
        return Done()

    assert Night(lab, workers=1, standing=standing).run() == {"finished": 1}
    assert len(looks) == 2


def queue_job(run):
    from daybreak.lab.night.queue import Job

    return Job("toy:mlp", run.info.config)


def test_a_night_without_orders_starts_no_process_for_them(lab):
    from daybreak.lab.night.supervisor import check_standing

    assert check_standing(lab) is None


def test_the_morning_tells_orders_causes_and_verdicts_and_a_decision_is_carried_out_once(crowned):
    challenged(crowned, lr=0.01)
    page = write_morning(crowned)
    data = data_of(page)
    text = page.read_text()
    for told in ("toy:mlp#2 undecided", "5 of 5 new items", "no difference shown", "new-items&gt;=5"):
        assert told in text
    assert "## Standing" in (page.parent / "log.md").read_text()
    take = next(p for p in data["proposals"] if p["argv"] == ["standing", "promote", "1"])
    stay = next(p for p in data["proposals"] if p["argv"] == ["standing", "keep", "1"])
    assert "no difference shown" in take["why"]
    assert decide(crowned, [take["id"]], by="ana")[0]["result"] == "toy@2 is in production"
    assert decide(crowned, [take["id"]])[0]["state"] == "done before"
    with pytest.raises(UserError, match="registry rollback toy"):
        decide(crowned, [stay["id"]])
    assert production(crowned) == "toy@2"


def test_a_page_of_before_there_were_orders_can_be_made_again(lab):
    from daybreak.lab.morning.page import render

    data = data_of(write_morning(lab))
    del data["standing"]
    assert "Standing" not in render(data)
