"""Deciding does a thing once, whatever is interrupted."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from nights import usual

from daybreak.errors import UserError
from daybreak.lab.morning import data_of, decide, proposals, write_morning
from daybreak.lab.night.queue import Tonight


@pytest.fixture
def night(tmp_path):
    return usual(tmp_path / "lab")


def jobs(night):
    with Tonight(night.lab) as queue:
        return list(queue.jobs())


def proposal(page, part):
    return next(p for p in data_of(page)["proposals"] if part in p["text"])


def test_ids_are_made_from_content_and_never_alike(night):
    first = data_of(write_morning(night.lab, now=night.now))["proposals"]
    again = data_of(write_morning(night.lab, now=night.now))["proposals"]
    assert [p["id"] for p in first] == [p["id"] for p in again]
    assert len({p["id"] for p in first}) == len(first) > 2
    assert all(p["digest"].startswith(p["id"]) and len(p["id"]) >= 3 for p in first)
    many = [{"digest": f"{n:064x}"} for n in range(40)]
    proposals._name(many)
    assert len({p["id"] for p in many}) == 40


def test_deciding_queues_the_experiment_and_strikes_it_out(night):
    page = write_morning(night.lab, now=night.now)
    wanted = proposal(page, "rerun music:small#42")
    told = decide(night.lab, [wanted["id"]], by="jun")
    assert [(t["state"], t["result"]) for t in told] == [("done", "queued as job 1")]
    (job,) = jobs(night)
    assert job.parent == "42-music-small"
    assert job.config["lr"] == 3e-4
    assert proposal(page, "rerun music:small#42")["state"] == "done"
    assert '<li class="done">' in page.read_text()
    lines = [json.loads(line) for line in (page.parent / "decisions.jsonl").read_text().splitlines()]
    assert [(line["state"], line["by"]) for line in lines] == [("begun", "jun"), ("done", "jun")]


def test_deciding_twice_does_nothing_twice(night):
    page = write_morning(night.lab, now=night.now)
    name = proposal(page, "rerun music:small#42")["id"]
    decide(night.lab, [name, name])
    write_morning(night.lab, now=night.now)
    write_morning(night.lab, now=night.now + 86400)
    told = decide(night.lab, [name.upper()])
    assert told[0]["state"] == "done before"
    assert len(jobs(night)) == 1


def test_a_decision_that_was_cut_off_after_its_work_is_not_done_again(night, monkeypatch):
    page = write_morning(night.lab, now=night.now)
    name = proposal(page, "three seeds")["id"]
    record = proposals._record

    def dies(lab, day, held, state, result, by):
        if state == "done":
            raise KeyboardInterrupt
        record(lab, day, held, state, result, by)

    with monkeypatch.context() as patch:
        patch.setattr(proposals, "_record", dies)
        with pytest.raises(KeyboardInterrupt):
            decide(night.lab, [name])
    assert len(jobs(night)) == 3
    assert decide(night.lab, [name])[0]["result"] == "queued as job 1, job 2, job 3"
    assert len(jobs(night)) == 3


def test_two_who_decide_at_once_do_it_once(night):
    page = write_morning(night.lab, now=night.now)
    name = proposal(page, "rerun music:small#42")["id"]
    code = "import sys; from daybreak.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "decide", name]
    environment = {**os.environ, "DAYBREAK_LAB": str(night.lab.root), "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted("done before" in process.communicate()[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said == [False, True]
    assert len(jobs(night)) == 1


def test_an_id_that_no_page_knows_is_one_line(night):
    write_morning(night.lab, now=night.now)
    with pytest.raises(UserError, match="no morning proposed 'zzz'"):
        decide(night.lab, ["zzz"])
    assert jobs(night) == []


def test_a_mistake_of_the_command_behind_is_told_and_can_be_tried_again(night):
    page = write_morning(night.lab, now=night.now)
    name = proposal(page, "register")["id"]
    for _ in range(2):
        with pytest.raises(UserError, match="cannot be registered"):
            decide(night.lab, [name])
    assert proposal(page, "register")["state"] == "open"


def test_a_queued_child_of_a_run_that_diverged_is_proposed_to_be_dropped(night):
    from daybreak.lab.night.add import add

    add(night.lab, ["music:small", "--from", "42", "--batch", "8"])
    page = write_morning(night.lab, now=night.now)
    drop = proposal(page, "drop job 1")
    assert decide(night.lab, [drop["id"]])[0]["result"] == "took job 1 out of the queue"
    assert jobs(night) == []


# Posting.
