"""The queue: what it acknowledges stays, and every mistake is found when a job is added."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.lab.engines import Machine, Wants
from daybreak.lab.night.add import add, edit, listed
from daybreak.lab.night.queue import Job, Tonight
from daybreak.lab.night.room import Share, share
from daybreak.lab.run import Run

MACHINE = Machine(cores=4, memory=8192)


def one(lab, *argv):
    (job,) = add(lab, argv, MACHINE)
    return job


def ids(jobs):
    return [job.id for job in jobs]


def test_a_job_knows_what_it_was_given(lab):
    first = one(lab, "toy:count")
    job = one(
        lab, "toy:count:short", "--level", "2", "--name", "<img onerror=x>", "--owner", "ada", "--second", "bo",
        "--priority", "3", "--after", "1", "--wants", "cpu=2,memory=2G,gpu=0", "--not-before", "2030-01-01T22:00",
    )  # fmt: skip
    with Tonight(lab) as tonight:
        held = tonight.get(job.id)
    assert held == job
    assert (held.recipe, held.preset, held.config["level"], held.config["steps"]) == ("toy:count", "short", 2.0, 3)
    assert (held.name, held.owner, held.second, held.priority) == ("<img onerror=x>", "ada", "bo", 3)
    assert (held.after, held.wants) == ((first.id,), Wants(2, 2048, 0))
    assert held.goal == {"name": "level", "better": "higher", "unit": "points"}


def test_from_a_run_the_config_is_the_parents(lab):
    from daybreak.lab.derive import new_run, plan

    run = new_run(lab, plan(lab, "toy:count", ["--steps", "7", "--level", "3"]))
    job = one(lab, "toy:count", "--from", str(run.number), "--level", "4")
    assert (job.parent, job.config["steps"], job.config["level"]) == (run.id, 7, 4.0)
    assert one(lab, "--from=1", "--level", "5").recipe == "toy:count"
    assert listed(lab, [job])[0]["changes"] == {"level": 4.0}
    (trial,) = add(lab, ["toy:count", "--level", "log(1,10)", "--trials", "1"])
    assert listed(lab, [trial])[0]["changes"] == {"level": "log(1,10)"}
    with pytest.raises(UserError, match="not of toy:mlp"):
        add(lab, ["toy:mlp", "--from", run.id])
    with pytest.raises(UserError, match="brings its own config"):
        add(lab, ["toy:count:short", "--from", run.id])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "name what to train"),
        (["tou"], "did you mean toy"),
        (["toy:cuont"], "did you mean count"),
        (["toy:count:shrot"], "did you mean short"),
        (["toy:count", "--stepps", "3"], "did you mean --steps"),
        (["toy:count", "--priorty", "3"], "did you mean --priority"),
        (["toy:count", "--steps", "-3"], "whole number >= 0"),
        (["toy:count", "--steps", "many"], "whole number"),
        (["toy:count", "--steps"], "wants a value"),
        (["toy:count", "extra"], "unexpected 'extra'"),
        (["toy:count", "--from", "99"], "there is no run '99'"),
        (["toy:count", "--after", "99"], "there is no job 99"),
        (["toy:count", "--after", "x"], "not a job's number"),
        (["toy:count", "--wants", "gpu=1"], "this machine has 0"),
        (["toy:count", "--wants", "cpu=9"], "this machine has 4"),
        (["toy:count", "--wants", "memory=9G"], "this machine has 8.0G"),
        (["toy:count", "--wants", "gpus=1"], "did you mean gpu"),
        (["toy:count", "--wants", "memory=much"], "memory=2G"),
        (["toy:count", "--not-before", "25:00"], "not a time of day"),
        (["toy:count", "--level", "log(1,10)"], "say how many to try"),
        (["toy:count", "--level", "log(10,1)", "--trials", "3"], "below the second"),
        (["toy:count", "--level", "log(0,1)", "--trials", "3"], "above 0"),
        (["toy:count", "--level", "log(1)", "--trials", "3"], "two numbers"),
        (["toy:count", "--steps", "int(-5,3)", "--trials", "3"], "whole number >= 0"),
        (["toy:count", "--fault", "uniform(raise,hang)", "--trials", "3"], "takes no number"),
        (["toy:count", "--fault", "one(raise,hag)"], "one of"),
        (["toy:count", "--level", "one(1,1)"], "twice"),
        (["toy:count", "--trials", "3"], "a flag to search over"),
        (["toy:count", "--level", "log(1,10)", "--trials", "3", "--seeds", "2"], "do not go together"),
        (["toy:count", "--snapshot", "latest"], "snapshot"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_at_once_in_one_line_and_nothing_is_queued(lab, argv, said):
    with pytest.raises(UserError, match=said) as caught:
        add(lab, argv, MACHINE)
    assert "\n" not in str(caught.value)
    with Tonight(lab) as tonight:
        assert list(tonight.jobs()) == []


def test_seeds_and_choices_make_every_combination(lab):
    jobs = add(lab, ["toy:count", "--seed", "5", "--seeds", "2", "--level", "one(1,2)", "--fault", "one(raise,hang)"])
    found = [(job.config["seed"], job.config["level"], job.config["fault"]) for job in jobs]
    assert sorted(found) == [(s, v, f) for s in (5, 6) for v in (1.0, 2.0) for f in ("hang", "raise")]


def test_jobs_go_by_priority_then_first_come(lab):
    for priority in (0, 5, 0, 5):
        one(lab, "toy:count", "--priority", str(priority))
    with Tonight(lab) as tonight:
        assert ids(tonight.waiting(0, "tonight")) == [2, 4, 1, 3]
        tonight.up(3)
        assert ids(tonight.waiting(0, "tonight")) == [3, 2, 4, 1]


def test_a_job_is_claimed_once(lab):
    job = one(lab, "toy:count")
    with Tonight(lab) as first, Tonight(lab) as second:
        assert first.claim(job) is not None
        assert second.claim(job) is None


def test_what_another_job_waits_for_cannot_be_removed_nor_wait_for_it(lab):
    one(lab, "toy:count")
    one(lab, "toy:count", "--after", "1")
    with Tonight(lab) as tonight:
        with pytest.raises(UserError, match="job 2 waits for job 1"):
            tonight.remove(1)
        assert tonight.blocked(tonight.get(2)) == "after job 1"
        with pytest.raises(UserError, match="which waits for it"):
            edit(lab, 1, ["--after", "2"])
        tonight.end(tonight.get(1), "quarantined")
        assert tonight.blocked(tonight.get(2)) == "job 1 is quarantined"
        tonight.remove(2)
        tonight.remove(1)
        with pytest.raises(UserError, match="there is no job 1"):
            tonight.get(1)


def test_a_waiting_job_can_be_changed_until_its_run_exists(lab):
    one(lab, "toy:count")
    assert edit(lab, 1, ["--level", "9", "--priority", "2"]).config["level"] == 9.0
    assert edit(lab, 1, ["--not-before", "2030-01-01T00:00"]).not_before is not None
    assert edit(lab, 1, ["--not-before", "none"]).not_before is None
    for argv, said in (
        (["--levle", "1"], "did you mean --level"),
        ([], "nothing to change"),
        (["--level", "x"], "number"),
    ):
        with pytest.raises(UserError, match=said):
            edit(lab, 1, argv)
    with Tonight(lab) as tonight:
        tonight.has_run(tonight.get(1), "1-toy-count", {})
        with pytest.raises(UserError, match="has begun as 1-toy-count"):
            edit(lab, 1, ["--level", "3"])
        tonight.claim(tonight.get(1))
        with pytest.raises(UserError, match="is running"):
            edit(lab, 1, ["--priority", "3"])
        with pytest.raises(UserError, match="is running"):
            tonight.remove(1)


def test_up_gives_a_quarantined_job_a_new_chance(lab):
    job = one(lab, "toy:count")
    with Tonight(lab) as tonight:
        tonight.back(job, failed=True, barren=True)
        tonight.end(job, "quarantined", "it raised")
        held = tonight.up(1)
        assert (held.state, held.failures, held.barren, held.reason) == ("waiting", 0, 0, "")
        tonight.end(job, "finished")
        with pytest.raises(UserError, match="is finished"):
            tonight.up(1)


def test_a_finished_run_is_finished_whatever_the_queue_says(lab):
    job = one(lab, "toy:count")
    run = Run.create(lab, recipe="toy:count", config=type("C", (), {"model_dump": lambda self, mode: {}})())
    (run.path / "final").mkdir()
    with Tonight(lab) as tonight:
        job = tonight.has_run(tonight.claim(job), run.id, {})
    assert listed(lab, [job])[0]["state"] == "finished"


def test_jobs_acknowledged_before_a_kill_are_all_there(lab):
    code = (
        "import sys; from daybreak.lab.home import Lab; from daybreak.lab.night.queue import Job, Tonight\n"
        "t = Tonight(Lab.open(sys.argv[1]))\n"
        "while True: print(t.add([Job('toy:count', {})])[0].id, flush=True)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, str(lab.root)], stdout=subprocess.PIPE, text=True)
    acknowledged = [int(worker.stdout.readline()) for _ in range(20)]
    os.kill(worker.pid, signal.SIGKILL)
    rest, _ = worker.communicate()
    acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    with Tonight(lab) as tonight:
        assert set(acknowledged) <= set(ids(tonight.jobs()))


def test_a_queue_of_a_newer_version_is_refused(lab):
    import sqlite3

    Tonight(lab).close()
    with sqlite3.connect(lab.root / "tonight.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="newer daybreak"):
        Tonight(lab)


@given(st.integers(0, 64), st.integers(0, 10**7), st.none() | st.integers(0, 8))
def test_wants_are_read_back_as_they_were_written(cpu, memory, gpu):
    wants = Wants(cpu, memory, gpu)
    assert Wants.parse(str(wants)) == wants


def test_jobs_share_a_machine_without_overlap():
    machine = Machine(8, 16384, ("0", "1"))
    first = share(machine, Wants(cpu=4, memory=8192), [])
    assert first == Share(4, 8192, ("0",))
    second = share(machine, Wants(), [first])
    assert second == Share(0, 0, ("1",))
    assert share(machine, Wants(), [first, second]) is None
    assert share(machine, Wants(gpu=0), [first, second]) == Share(0, 0, ())
    assert share(machine, Wants(cpu=5, gpu=0), [first]) is None
    assert share(machine, Wants(memory=9000, gpu=0), [first]) is None
    assert share(Machine(2, 4096), Wants(), [Share()] * 8) == Share()


def test_a_key_belongs_to_one_queue(lab, tmp_path):
    from daybreak.lab.home import Lab

    job = Job("toy:count", {}, id=1)
    with Tonight(lab) as tonight, Tonight(Lab.open(tmp_path / "other")) as other:
        assert tonight.key(job) != other.key(job)
    with Tonight(lab) as again:
        assert again.key(job) == tonight.key(job)


def test_a_queue_made_before_jobs_kept_their_base_is_opened(lab):
    one(lab, "toy:count")
    with Tonight(lab) as tonight:
        tonight._connection.execute("ALTER TABLE jobs DROP COLUMN base")
    with Tonight(lab) as tonight:
        assert tonight.get(1).base == {}
        assert listed(lab, list(tonight.jobs()))[0]["changes"] == {}
