"""The loop's promises: it learns, it resumes to the same bits, it stops in time, it never lies about its state."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from daybreak_toys.mlp import Mlp

from daybreak.errors import UserError
from daybreak.lab import codec
from daybreak.lab.compare import paired
from daybreak.lab.derive import new_run, plan
from daybreak.lab.recipe import Metric
from daybreak.lab.run import Run
from daybreak.lab.train import restored, train


def start(lab, spec="toy:mlp", *flags, parent="", **about):
    return new_run(lab, plan(lab, spec, flags, parent=parent), threads=1, **about)


def worker(lab, run, *more, start_new_session=False):
    return subprocess.Popen(
        [sys.executable, "-m", "daybreak.lab.train", str(lab.root), run.id, *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=start_new_session,
    )


def weights(run):
    return {p.name: p.read_bytes() for p in (run.path / "final").iterdir() if p.suffix == ".safetensors"}


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_it_learns_and_its_state_says_finished(lab):
    run = start(lab, "toy:mlp", "--steps", "300", "--lr", "1e-2", "--evaluate", "100")
    assert run.state().word == "new"
    assert train(lab, run, progress=False) == "finished"
    values = run.evaluated()
    assert list(values) == [0, 100, 200, 300]
    losses = [line["loss"] for line in run.metrics() if "loss" in line]
    assert len(losses) == 300
    assert sum(losses[-50:]) < 0.5 * sum(losses[:50])
    assert run.state().word == "finished"
    assert run.result()["goal"]["value"] == values[300]
    assert len(run.scores(300)) == 8
    assert all((run.path / row.sample["note"]).exists() for row in run.scores(300)[:6])


def test_the_same_config_gives_the_same_bits_and_another_seed_gives_others(lab):
    flags = ("--steps", "40", "--ema", "0.9", "--clip", "1", "--evaluate", "20")
    a, b, c = start(lab, "toy:mlp", *flags), start(lab, "toy:mlp", *flags), start(lab, "toy:mlp", *flags, "--seed", "1")
    for run in (a, b, c):
        train(lab, run, progress=False)
    assert weights(a) == weights(b) != weights(c)
    assert (a.path / "metrics.jsonl").read_bytes() == (b.path / "metrics.jsonl").read_bytes()
    assert (a.path / "scores.jsonl").read_bytes() == (b.path / "scores.jsonl").read_bytes()


@pytest.mark.parametrize("trial", [0, 1])
def test_resume_after_kill_gives_the_same_bits(lab, trial):
    flags = ("--steps", "2000", "--evaluate", "500", "--checkpoint", "0", "--ema", "0.99", "--loaders", "0")
    whole = start(lab, "toy:mlp", *flags)
    train(lab, whole, progress=False)
    run = start(lab, "toy:mlp", *flags)
    chance = random.Random(trial)
    for _ in range(3):
        process = worker(lab, run)
        wait_for(lambda process=process: run.state().word == "running" or process.poll() is not None)
        time.sleep(chance.uniform(0.05, 0.6))
        process.kill()
        process.wait()
        process.stderr.close()
        assert run.state().word in ("crashed", "finished", "new")
    assert train(lab, run, progress=False) == "finished"
    assert weights(run) == weights(whole)
    assert (run.path / "metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()
    assert run.scores() == whole.scores()


def test_acknowledged_metrics_survive_kill_and_the_run_reads_as_crashed(lab):
    run = start(lab, "toy:count", "--steps", "100000", "--pause", "0.001")
    process = worker(lab, run)
    wait_for(lambda: len(run.metrics()) > 50)
    assert run.state().word == "running"
    before = len(run.metrics())
    process.kill()
    process.wait()
    process.stderr.close()
    assert run.state().word == "crashed"
    steps = [line["step"] for line in run.metrics() if "loss" in line]
    assert len(steps) >= before - 1
    assert steps == list(range(1, len(steps) + 1))


def test_lines_beyond_the_checkpoint_are_kept_aside(lab):
    run = start(lab, "toy:count", "--steps", "50", "--fault", "raise", "--at", "30", "--checkpoint", "1000")
    assert train(lab, run, progress=False) == "failed"
    assert "the recipe raised" in run.state().text
    written = [line["step"] for line in run.metrics() if "loss" in line]
    assert train(lab, run, progress=False) == "failed"
    aside = [json.loads(line) for path in (run.path / "aside").glob("metrics-*") for line in path.open()]
    assert [line["step"] for line in aside if "loss" in line] == written


def test_sigterm_stops_with_a_checkpoint_and_the_run_goes_on_later(lab):
    run = start(lab, "toy:count", "--steps", "4000", "--pause", "0.001")
    process = worker(lab, run)
    wait_for(lambda: len(run.metrics()) > 20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75
    process.stderr.close()
    state = run.state()
    assert state.word == "stopped"
    assert run.checkpoints()
    process = worker(lab, run)
    wait_for(lambda: len(run.metrics()) > state.step + 20)
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    process.stderr.close()
    steps = [line["step"] for line in run.metrics() if "loss" in line]
    assert steps == list(range(1, len(steps) + 1))


def test_a_signal_to_the_whole_group_stops_a_run_with_loaders_as_any_other(lab):
    run = start(lab, "toy:mlp", "--steps", "1000000", "--loaders", "1")
    process = worker(lab, run, start_new_session=True)
    wait_for(lambda: len(run.metrics()) > 20)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(30) == 75
    process.stderr.close()
    assert run.state().word == "stopped"
    assert run.checkpoints()


def test_a_second_sigterm_leaves_at_once(lab):
    run = start(lab, "toy:count", "--fault", "hang", "--at", "5")
    process = worker(lab, run)
    wait_for(lambda: run.state().word == "running" and run.evaluated())
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM
    process.stderr.close()
    assert run.state().word == "crashed"


def test_a_deadline_leaves_time_to_score(lab):
    run = start(lab, "toy:count", "--steps", "1000000", "--pause", "0.002")
    assert train(lab, run, deadline=time.time() + 1.0, progress=False) == "deadline"
    state = run.state()
    assert state.word == "deadline"
    assert state.step in run.evaluated()


def test_a_loss_that_is_not_finite_ends_as_diverged(lab):
    run = start(lab, "toy:count", "--steps", "100", "--fault", "nan")
    assert train(lab, run, progress=False) == "diverged"
    assert "step 6" in run.state().text
    assert not (run.path / "final").exists()
    assert '"NaN"' in (run.path / "metrics.jsonl").read_text()


def test_a_users_mistake_is_refused_and_said(lab):
    run = start(lab, "toy:count", "--fault", "refuse")
    with pytest.raises(UserError, match="this cannot work"):
        train(lab, run, progress=False)
    assert run.state().word == "refused"


def test_a_run_is_trained_by_one_process_only(lab):
    run = start(lab, "toy:count", "--steps", "100000", "--pause", "0.001")
    process = worker(lab, run)
    wait_for(lambda: run.state().word == "running")
    with pytest.raises(UserError, match=f"process {process.pid}"):
        train(lab, run, progress=False)
    process.kill()
    process.wait()
    process.stderr.close()


def test_a_full_disk_keeps_the_last_good_checkpoint(lab, monkeypatch):
    run = start(lab, "toy:mlp", "--steps", "100", "--checkpoint", "0", "--evaluate", "10")
    save, calls = codec.save, []

    def fills(path, tree):
        calls.append(path)
        if len(calls) == 4:
            path.with_name("state.safetensors").write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(path, tree)

    monkeypatch.setattr(codec, "save", fills)
    with pytest.raises(UserError, match="No space left"):
        train(lab, run, progress=False)
    kept = run.checkpoints()
    assert kept
    monkeypatch.setattr(codec, "save", save)
    assert codec.load(kept[-1] / "state")["step"] > 0
    assert train(lab, run, progress=False) == "finished"


def test_accumulated_parts_give_the_gradient_of_the_whole_batch(lab):
    flags = ("--steps", "1", "--kind", "sgd", "--lr", "0.1")
    whole, parts = start(lab, "toy:mlp:plain", *flags), start(lab, "toy:mlp:plain", *flags, "--accumulate", "4")
    for run in (whole, parts):
        train(lab, run, progress=False)
    a, b = (restored(lab, run).net.state_dict() for run in (whole, parts))
    for name in a:
        torch.testing.assert_close(a[name], b[name])


def test_loaders_change_no_result(lab):
    flags = ("--steps", "12", "--evaluate", "6")
    here, background = start(lab, "toy:mlp", *flags), start(lab, "toy:mlp", *flags, "--loaders", "1")
    for run in (here, background):
        train(lab, run, progress=False)
    assert weights(here) == weights(background)


def test_a_goal_that_is_no_value_of_an_item_still_compares_by_interval(lab, monkeypatch):
    def root(scores):
        return (sum(score.values["squared error"] for score in scores) / len(scores)) ** 0.5

    monkeypatch.setattr(Mlp, "goal", Metric("error", "lower", aggregate=root))
    run = start(lab, "toy:mlp", "--steps", "200")
    train(lab, run, progress=False)
    first, last = run.scores(0), run.scores(200)
    assert len({row.item for row in last}) == len(last)
    found = paired(last, first, Mlp.goal)
    assert (found.items, found.groups) == (8, 4)
    assert found.difference == pytest.approx(root(last) - root(first), abs=0.05)


def test_the_run_that_is_named_second_is_the_one_that_is_called_better_or_worse(lab, capsys):
    from daybreak.cli.runs import compare

    learned, idle = start(lab, "toy:mlp", "--steps", "200"), start(lab, "toy:mlp", "--steps", "200", "--lr", "1e-9")
    for run in (learned, idle):
        train(lab, run, progress=False)
    compare("1", "2", json=True)
    assert json.loads(capsys.readouterr().out)["difference"] > 0.01  # of an error: 2 is worse than 1
    compare("2", "1", json=True)
    assert json.loads(capsys.readouterr().out)["difference"] < -0.01


def test_evaluation_leaves_the_run_as_it_was(lab):
    often, never = (start(lab, "toy:mlp", "--steps", "30", "--ema", "0.9", "--evaluate", every) for every in ("1", "0"))
    for run in (often, never):
        train(lab, run, progress=False)
    assert weights(often) == weights(never)


def test_a_holder_that_asks_about_its_own_lock_keeps_it(lab):
    run = start(lab, "toy:count")
    with run.own():
        assert run.state().word == "running"
        assert run.state().word == "running"
        script = (
            "import sys, pathlib; from daybreak.lab.run import Run; print(Run(pathlib.Path(sys.argv[1])).state().word)"
        )
        assert subprocess.check_output([sys.executable, "-c", script, str(run.path)], text=True).strip() == "running"
    assert run.state().word == "new"


def test_two_checkpoints_and_the_best_are_kept(lab):
    run = start(lab, "toy:mlp", "--steps", "100", "--evaluate", "10", "--lr", "1e-2")
    train(lab, run, progress=False)
    values = {s: v for s, v in run.evaluated().items() if s}
    steps = [int(path.name.removeprefix("step-")) for path in run.checkpoints()]
    assert set(steps) == {90, 100, min(values, key=values.get)}


def test_a_child_keeps_its_parents_config_and_records_the_difference(lab):
    parent = start(lab, "toy:mlp:wide", "--lr", "2e-3")
    child = start(lab, "toy:mlp", "--net.dropout", "0.3", parent=parent.id)
    assert child.info.difference == {"net.dropout": [0.1, 0.3]}
    assert child.info.config["lr"] == 2e-3
    assert child.info.parent == parent.id


def test_a_copied_folder_of_another_machine_says_where_it_ran(lab, tmp_path):
    run = start(lab, "toy:count")
    run.event("started", step=0)
    (run.path / "lock").write_text(json.dumps({"host": "elsewhere", "boot": "x", "pid": 4, "since": 0.0}))
    assert run.state().word == "elsewhere"
    assert "was running on elsewhere" in run.state().text


def test_numbers_are_never_given_twice(lab):
    script = (
        "from daybreak.lab.home import Lab; from daybreak.lab.run import _next_number; lab = Lab.open()\n"
        "print(*[_next_number(lab) for _ in range(30)])"
    )
    several = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(3)
    ]
    numbers = [int(word) for process in several for word in process.communicate()[0].split()]
    assert sorted(numbers) == list(range(1, 91))


def test_unknown_run_names_the_nearest(lab):
    start(lab, "toy:count")
    with pytest.raises(UserError, match="1-toy-count"):
        Run.find(lab, "1-toy-cont")
