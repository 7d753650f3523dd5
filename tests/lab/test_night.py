"""The night, with real processes and real kills: every job is finished once, and what fails is set aside."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import pytest

from daybreak.errors import UserError
from daybreak.lab import lock
from daybreak.lab.engines import Machine
from daybreak.lab.engines.local import LocalEngine
from daybreak.lab.night.add import add
from daybreak.lab.night.clock import Clock
from daybreak.lab.night.pulse import Pulse
from daybreak.lab.night.queue import Tonight
from daybreak.lab.night.slot import Policy
from daybreak.lab.night.supervisor import Night
from daybreak.lab.run import Run

QUICK = Policy(pause=0.05, beat=0.1, grace=10.0)


class Heard:
    """Keeps what a night says, and can act on it."""

    def __init__(self, act=None):
        self.lines, self.act = [], act

    def say(self, text):
        self.lines.append(text)
        if self.act:
            self.act(text)

    def show(self, rows, waiting, left):
        self.rows = rows


def night(lab, workers=2, **options):
    options.setdefault("policy", QUICK)
    return Night(lab, workers=workers, **options)


def jobs(lab):
    with Tonight(lab) as tonight:
        return {job.id: job for job in tonight.jobs()}


def words(run):
    return [event["event"] for event in run.events()]


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
    return found


def cut_short(lab, **options):
    """Nights that end while the only run trains, however slow the machine is to start it. Returns the run."""
    for seconds in (3.0, 12.0, 48.0):
        assert night(lab, 1, until=time.time() + seconds, **options).run() == {}
        if (runs := Run.all(lab)) and runs[0].state().step:
            return runs[0]
    raise AssertionError("the run did not begin within a minute")


def test_jobs_run_in_their_order_and_each_has_one_finished_run(lab):
    add(lab, ["toy:count:short"])
    add(lab, ["toy:count:short", "--priority", "5", "--name", "<img onerror=x>", "--owner", "ada", "--second", "bo"])
    add(lab, ["toy:count:short", "--priority", "9", "--after", "1"])
    heard = Heard()
    assert night(lab, 1, report=heard).run() == {"finished": 3}
    assert [line.split()[1] for line in heard.lines if line.endswith("starts")] == ["2", "1", "3"]
    runs = Run.all(lab)
    assert [run.state().word for run in runs] == ["finished"] * 3
    first = runs[0].info
    assert (first.name, first.owner, first.second, first.preset) == ("<img onerror=x>", "ada", "bo", "short")
    assert night(lab, 1).run() == {}  # what is finished is not run again
    assert len(Run.all(lab)) == 3


def test_a_worker_that_is_killed_is_tried_again_and_goes_on(lab):
    add(lab, ["toy:count", "--steps", "60", "--pause", "0.02", "--checkpoint", "0"])

    def kill(text):
        if text.endswith("starts"):
            slot = made.slots

            def when_saved():
                run = wait_for(lambda: Run.all(lab))[0]
                wait_for(run.checkpoints)
                os.kill(slot[0].handle.pid, signal.SIGKILL)

            threading.Thread(target=when_saved).start()

    made = night(lab, report=Heard(kill))
    assert made.run() == {"finished": 1}
    (run,) = Run.all(lab)
    assert words(run)[0] == "started"
    assert words(run).count("resumed") == words(run).count("finished") == 1
    assert [line["step"] for line in run.metrics() if "loss" in line] == list(range(1, 61))
    assert (jobs(lab)[1].tries, jobs(lab)[1].failures, jobs(lab)[1].barren) == (2, 1, 0)


@pytest.mark.parametrize(
    ("fault", "said"), [("raise", "the recipe raised"), ("exit", "exit code 9"), ("kill", "SIGKILL")]
)
def test_what_fails_three_times_without_a_checkpoint_is_quarantined(lab, fault, said):
    add(lab, ["toy:count", "--fault", fault])
    add(lab, ["toy:count:short", "--after", "1"])
    assert night(lab).run() == {"quarantined": 1}
    run = Run.all(lab)[0]
    assert run.state().word == "quarantined"
    event = run.events()[-1]
    assert "3 failures without a new checkpoint" in event["reason"]
    assert said in event["reason"]
    assert ("RuntimeError: the recipe raised" in event["traceback"]) == (fault == "raise")
    held = jobs(lab)
    assert (held[1].state, held[1].tries) == ("quarantined", 3)
    assert (held[2].state, held[2].reason) == ("waiting", "job 1 is quarantined")


@pytest.mark.slow
def test_failures_with_new_checkpoints_are_counted_in_all(lab):
    add(lab, ["toy:count", "--steps", "400", "--pause", "0.02", "--checkpoint", "0"])

    def kill(text):
        if "starts" in text:
            run_at = made.slots

            def when_saved():
                run = wait_for(lambda: Run.all(lab))[0]
                had = len(list(run.path.glob("checkpoints/*"))) and max(run.checkpoints()).name
                wait_for(lambda: run.checkpoints() and max(run.checkpoints()).name > (had or ""))
                os.kill(run_at[0].handle.pid, signal.SIGKILL)

            threading.Thread(target=when_saved).start()

    made = night(lab, policy=Policy(pause=0.05, beat=0.1, failures=3, barren=2), report=Heard(kill))
    assert made.run() == {"quarantined": 1}
    assert jobs(lab)[1].reason.startswith("3 failures; the last: killed by SIGKILL")


def test_a_users_mistake_is_not_tried_again(lab):
    add(lab, ["toy:count", "--fault", "refuse"])
    assert night(lab).run() == {"refused": 1}
    assert (jobs(lab)[1].tries, jobs(lab)[1].reason) == (1, "this cannot work")


def test_a_recipe_that_hangs_is_killed_and_its_place_is_kept(lab):
    add(lab, ["toy:count", "--fault", "hang"])

    def lose_patience(text):
        def when_it_hangs():
            run = wait_for(lambda: Run.all(lab))[0]
            wait_for(lambda: "evaluated" in words(run))
            made.policy = replace(made.policy, silence=1.5)

        if text.endswith("starts"):
            threading.Thread(target=when_it_hangs).start()

    made = night(lab, report=Heard(lose_patience))
    assert made.run() == {"quarantined": 1}
    event = Run.all(lab)[0].events()[-1]
    assert "no step for" in event["reason"]
    assert "count.py" in event["traceback"]
    assert "in step" in event["traceback"]


def test_silence_is_measured_against_the_runs_own_steps(lab):
    class Still(Clock):
        now = 0.0

        def awake(self):
            return self.now

    clock = Still()
    (job,) = add(lab, ["toy:count"])
    made = night(lab)
    with Tonight(lab) as tonight:
        made.queue = tonight
        run = made._make(tonight.claim(job))
    pulse = Pulse(run, clock)
    clock.now = 601.0
    assert pulse.silent(600.0, 20.0) == "no step for 601 s (allowed: 600 s)"
    (run.path / "system.jsonl").write_text('{"step": 1, "step_ms": 60000}\n')
    pulse.look()
    assert not pulse.silent(600.0, 20.0)
    clock.now += 1199.0
    pulse.look()
    assert not pulse.silent(600.0, 20.0)  # 20 steps of a minute
    clock.now += 2.0
    assert pulse.silent(600.0, 20.0)


def test_a_diverged_run_is_not_tried_again(lab):
    add(lab, ["toy:count", "--fault", "nan"])
    assert night(lab).run() == {"diverged": 1}
    assert jobs(lab)[1].tries == 1


def test_at_the_deadline_runs_are_scored_and_go_on_another_night(lab):
    add(lab, ["toy:count", "--steps", "400", "--pause", "0.02"])
    add(lab, ["toy:count:short", "--priority", "-1"])
    run = cut_short(lab)
    state = run.state()
    assert state.word == "deadline"
    assert 0 < state.step < 400
    assert max(run.evaluated()) == state.step
    held = jobs(lab)
    assert (held[1].state, held[1].failures, held[2].run) == ("waiting", 0, "")
    assert night(lab).run() == {"finished": 2}
    assert [line["step"] for line in run.metrics() if "loss" in line] == list(range(1, 401))


@pytest.mark.slow
def test_a_worker_that_ignores_the_deadline_is_killed_after_a_grace(lab):
    add(lab, ["toy:count", "--fault", "hang"])
    policy = Policy(grace=0.5, beat=0.1)
    assert night(lab, until=time.time() + 8.0, policy=policy).run() == {}
    held = jobs(lab)[1]
    assert (held.state, held.failures) == ("waiting", 0)
    assert "did not stop in time" in held.reason


def test_a_jump_of_the_wall_clock_stops_nothing(lab):
    class Jumping(Clock):
        def __init__(self):
            self.start = time.monotonic()

        def wall(self):
            return time.time() + (7200 if time.monotonic() > self.start + 1.0 else 0)

    add(lab, ["toy:count", "--steps", "60", "--pause", "0.03"])
    add(lab, ["toy:count:short"])
    assert night(lab, 1, clock=Jumping(), until=time.time() + 600).run() == {"finished": 2}


def test_two_nights_on_one_lab_are_one_too_many(lab):
    code = (
        "import sys, time; from pathlib import Path; from daybreak.lab import lock\n"
        "with lock.hold(Path(sys.argv[1]), 'x'): print(flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, lab.root / "night.lock"], stdout=subprocess.PIPE)
    other.stdout.readline()
    try:
        with pytest.raises(UserError, match=f"is held by process {other.pid} on .* since"):
            night(lab).run()
    finally:
        other.kill()
        other.wait()
    assert night(lab).run() == {}


def command(lab, *argv):
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from daybreak.cli import main; main(sys.argv[1:])", "night", *argv],
        env={**os.environ, "DAYBREAK_LAB": str(lab.root)}, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def running(lab):
    return wait_for(lambda: [run for run in Run.all(lab) if run.state().word == "running"])[0]


def test_a_night_that_is_killed_loses_nothing_and_runs_nothing_twice(lab):
    add(lab, ["toy:count", "--steps", "100", "--pause", "0.03"])
    add(lab, ["toy:count:short"])
    died = command(lab)
    run = running(lab)
    died.kill()
    died.communicate()
    assert run.state().word == "running"  # the worker lives on
    heard = Heard()
    assert night(lab, 1, report=heard).run() == {"finished": 2}
    assert "adopted" in heard.lines[0]
    assert words(run) == ["started", "evaluated", "evaluated", "finished"]
    assert len(Run.all(lab)) == 2


@pytest.mark.slow
def test_a_night_and_its_worker_that_are_killed_go_on_and_count_no_failure(lab):
    add(lab, ["toy:count", "--steps", "50", "--pause", "0.03", "--checkpoint", "0"])
    died = command(lab)
    run = running(lab)
    wait_for(run.checkpoints)
    died.kill()
    os.kill(lock.holder(run.path / "lock").pid, signal.SIGKILL)
    died.communicate()
    wait_for(lambda: run.state().word == "crashed")
    assert night(lab).run() == {"finished": 1}
    assert (jobs(lab)[1].tries, jobs(lab)[1].failures, len(Run.all(lab))) == (2, 0, 1)


def test_a_night_that_dies_between_making_a_run_and_recording_it_makes_no_second(lab):
    (job,) = add(lab, ["toy:count:short"])
    made = night(lab)
    with Tonight(lab) as tonight:
        made.queue = tonight
        made._make(tonight.claim(job))
        with tonight._change():
            tonight._connection.execute("UPDATE jobs SET run = ''")
    assert night(lab).run() == {"finished": 1}
    assert len(Run.all(lab)) == 1


def test_sigterm_lets_workers_save_and_the_next_night_goes_on(lab):
    add(lab, ["toy:count", "--steps", "300", "--pause", "0.03"])
    stopped = command(lab)
    run = running(lab)
    wait_for(lambda: any(line["step"] > 3 for line in run.metrics()))
    stopped.terminate()
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 0, said
    assert run.state().word == "stopped"
    assert run.checkpoints()
    assert jobs(lab)[1].state == "waiting"
    assert jobs(lab)[1].failures == 0


def test_a_second_sigterm_kills_and_leaves_at_once(lab):
    add(lab, ["toy:count", "--fault", "hang", "--at", "1"])
    stopped = command(lab)
    run = running(lab)
    wait_for(lambda: "evaluated" in words(run))
    time.sleep(0.3)  # the step that hangs has begun
    stopped.terminate()
    time.sleep(0.5)
    assert stopped.poll() is None
    stopped.terminate()
    _, said = stopped.communicate(timeout=30)
    assert stopped.returncode == 130, said
    assert run.state().word == "crashed"
    held = jobs(lab)[1]
    assert (held.state, held.failures) == ("waiting", 0)


def test_a_full_disk_is_refused_before_the_start(lab):
    add(lab, ["toy:count:short"])
    with pytest.raises(UserError, match=r"has 5 MiB free; a run needs 200 MiB"):
        night(lab, free=lambda: 5 * 2**20).run()
    assert Run.all(lab) == []
    free = iter([2**40])
    heard = Heard()
    assert night(lab, report=heard, free=lambda: next(free, 10 * 2**20)).run() == {}
    assert "too little room" in jobs(lab)[1].reason
    assert len([line for line in heard.lines if "too little room" in line]) == 1
    assert night(lab).run() == {"finished": 1}


@pytest.mark.slow
def test_a_job_with_a_large_checkpoint_needs_room_for_a_few_of_them(lab):
    add(lab, ["toy:count", "--steps", "400", "--pause", "0.02"])
    run = cut_short(lab)
    (run.checkpoints()[-1] / "padding").write_bytes(bytes(2**20))
    policy = Policy(floor=2**20, copies=4)
    assert night(lab, policy=policy, free=lambda: 3 * 2**20).run() == {}
    assert run.state().word == "refused"
    assert night(lab, policy=policy, free=lambda: 5 * 2**20).run() == {"finished": 1}


def test_jobs_wait_for_room_on_the_machine(lab):
    for _ in range(3):
        add(lab, ["toy:count", "--steps", "10", "--pause", "0.03", "--wants", "memory=600M"], Machine(4, 1024))
    most = [0]
    made = night(lab, 3, engine=LocalEngine(Machine(4, 1024)), report=Heard(lambda _: most.append(len(made.slots))))
    assert made.run() == {"finished": 3}
    assert max(most) == 1


def test_a_job_that_no_longer_fits_the_machine_waits_and_says_why(lab):
    add(lab, ["toy:count", "--wants", "gpu=1"], Machine(4, 1024, ("0",)))
    assert night(lab, engine=LocalEngine(Machine(4, 1024))).run() == {}
    assert jobs(lab)[1].reason == "it wants gpu=1; this machine has 0"


def test_workers_share_the_cores(lab):
    add(lab, ["toy:count:short"])
    add(lab, ["toy:count:short", "--wants", "cpu=3"], Machine(8, 1024))
    night(lab, 4, engine=LocalEngine(Machine(8, 1024))).run()
    assert sorted(run.info.threads for run in Run.all(lab)) == [2, 3]


def test_for_ever_means_that_new_jobs_are_taken_up_and_the_page_is_cut_at_ten(lab):
    class Ten(Clock):
        def __init__(self):
            now = time.localtime()
            ten = time.mktime((now.tm_year, now.tm_mon, now.tm_mday, 10, 0, 0, 0, 0, -1))
            self.shift = ten - 1.0 - time.time()

        def wall(self):
            return time.time() + self.shift

    pages = []

    def page(where):
        pages.append(where)
        add(lab, ["toy:count:short"])

    def act(text):
        if "finished" in text:
            made.signals = 1

    made = night(lab, forever=True, clock=Ten(), morning=page, report=Heard(act))
    assert made.run() == {"finished": 1}
    assert pages == [lab]


@pytest.mark.slow
def test_a_job_is_not_started_before_its_time(lab):
    (job,) = add(lab, ["toy:count:short", "--not-before", "2000-01-01T00:00"])
    with Tonight(lab) as tonight:
        begin = time.time() + 1.5
        tonight.change(job, not_before=begin)
    assert night(lab).run() == {"finished": 1}
    assert Run.all(lab)[0].events()[0]["time"] >= begin
    with Tonight(lab) as tonight:
        tonight.change(add(lab, ["toy:count:short"])[0], not_before=time.time() + 3600)
    assert night(lab, until=time.time() + 60).run() == {}  # it could not start before the deadline


@pytest.mark.slow
def test_a_run_whose_folder_is_gone_is_refused(lab):
    import shutil

    add(lab, ["toy:count", "--steps", "400", "--pause", "0.02"])
    shutil.rmtree(cut_short(lab).path)
    assert night(lab).run() == {"refused": 1}


def many(lab, count, every):
    """A night of `count` jobs on 8 workers, in which a worker is killed for every few that start."""
    add(lab, ["toy:count", "--steps", "20", "--pause", "0.01", "--checkpoint", "0", "--seeds", str(count)])
    chance, starts, killed = random.Random(1), [0], Counter()

    def kill_one():
        # At the third time without a checkpoint a night sets a job aside, as it should.
        slots = [slot for slot in list(made.slots) if killed[slot.job.id] < 2]
        if slots:
            slot = chance.choice(slots)
            with suppress(ProcessLookupError):
                os.kill(slot.handle.pid, signal.SIGKILL)
                killed[slot.job.id] += 1

    def act(text):
        if text.endswith("starts"):
            starts[0] += 1
            if starts[0] % every == 0:
                threading.Timer(chance.random() * 2, kill_one).start()

    made = night(lab, 8, report=Heard(act))
    assert made.run() == {"finished": count}
    runs = Run.all(lab)
    assert len(runs) == len({run.info.job for run in runs}) == count
    for run in runs:
        # final/ is the completion: a kill between the event and the folder's appearance repeats the event alone.
        assert "finished" in words(run)
        assert run.result()["step"] == 20
        assert [line["step"] for line in run.metrics() if "loss" in line] == list(range(1, 21))
    assert killed


def test_every_job_is_finished_exactly_once_while_workers_are_killed(lab):
    many(lab, 8, 2)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_five_hundred_jobs_are_each_finished_exactly_once(lab):
    many(lab, 500, 5)


@pytest.mark.slow
def test_a_search_stops_trials_that_fall_behind(lab):
    pytest.importorskip("optuna")
    add(
        lab,
        [
            "toy:count",
            "--level",
            "uniform(0,10)",
            "--steps",
            "40",
            "--pause",
            "0.05",
            "--evaluate",
            "5",
            "--trials",
            "10",
        ],
    )
    ended = night(lab, 1).run()
    assert sum(ended.values()) == 10
    assert ended["finished"] >= 4
    assert ended.get("pruned", 0) >= 1
    levels = {run.info.config["level"] for run in Run.all(lab)}
    assert len(levels) == 10
    finished = [r.info.config["level"] for r in Run.all(lab) if r.state().word == "finished"]
    pruned = [r.info.config["level"] for r in Run.all(lab) if r.state().word == "pruned"]
    assert max(pruned) < max(finished)
