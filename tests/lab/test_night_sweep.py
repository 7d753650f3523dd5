"""Searches: the jobs are the only record, and the same record gives the same values."""

from __future__ import annotations

import math

import pytest

from daybreak.lab.night.queue import Tonight
from daybreak.lab.night.sweep import Trial, ask, grid, hopeless, placed

pytest.importorskip("optuna")

SPACE = {
    "lr": {"kind": "float", "log": True, "low": 1e-4, "high": 1e-1},
    "net.width": {"kind": "int", "log": False, "low": 8, "high": 64},
    "kind": {"kind": "one", "choices": ["adamw", "sgd"]},
}


def score(values):
    return abs(math.log10(values["lr"]) + 2) + (values["kind"] == "sgd")


def test_the_same_trials_give_the_same_values_within_the_space():
    trials = []
    for number in range(12):
        values = ask(SPACE, trials, "lower", number)
        assert values == ask(SPACE, trials, "lower", number)
        assert 1e-4 <= values["lr"] <= 1e-1
        assert 8 <= values["net.width"] <= 64
        assert isinstance(values["net.width"], int)
        assert values["kind"] in ("adamw", "sgd")
        trials.append(Trial(values, "finished", {10: score(values)}))


def test_a_search_comes_closer_than_its_random_start():
    trials = []
    for number in range(40):
        values = ask(SPACE, trials, "lower", number)
        trials.append(Trial(values, "finished", {10: score(values)}))
    found = [trial.scores[10] for trial in trials]
    assert sum(found[-10:]) < sum(found[:10])


def test_trials_without_a_score_do_not_stop_a_search():
    values = ask(SPACE, [], "higher", 0)
    others = [
        Trial(values, "failed"),
        Trial(values, "running", {1: 2.0}),
        Trial(values, "pruned", {1: 2.0}),
        Trial(values, "finished", {1: math.nan}),
    ]
    assert set(ask(SPACE, others, "higher", 1)) == set(SPACE)


@pytest.mark.parametrize(("better", "sign"), [("lower", 1), ("higher", -1)])
def test_a_trial_behind_the_median_is_hopeless_and_one_before_it_is_not(better, sign):
    values = {"lr": 1e-3, "net.width": 8, "kind": "sgd"}
    others = [Trial(values, "finished", {0: 0.0, 10: sign * level, 20: sign * level}) for level in (1.0, 2.0, 3.0, 4.0)]
    assert hopeless(SPACE, Trial(values, "running", {0: 0.0, 10: sign * 9.0}), others, better)
    assert not hopeless(SPACE, Trial(values, "running", {0: 0.0, 10: sign * 0.5}), others, better)
    assert not hopeless(SPACE, Trial(values, "running", {10: sign * 9.0}), others[:2], better)
    assert not hopeless(SPACE, Trial(values, "running", {}), others, better)


def test_grids_and_nested_names():
    assert grid({"a": {"choices": [1, 2]}, "b": {"choices": ["x"]}}) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]
    config = {"lr": 1.0, "net": {"width": 8, "dropout": 0.1}}
    assert placed(config, {"net.width": 16}) == {"lr": 1.0, "net": {"width": 16, "dropout": 0.1}}
    assert config["net"]["width"] == 8


def test_trials_are_queued_without_values_until_they_start(lab):
    from daybreak.lab.night.add import add

    jobs = add(lab, ["toy:count", "--level", "uniform(0,1)", "--trials", "3"])
    assert [(job.sweep, job.trial) for job in jobs] == [(1, 0), (1, 1), (1, 2)]
    with Tonight(lab) as tonight:
        assert tonight.space(jobs[0]) == ({"level": {"kind": "float", "log": False, "low": 0.0, "high": 1.0}}, 0)
        assert [job.id for job in tonight.siblings(jobs[1])] == [1, 3]
