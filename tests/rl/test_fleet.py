"""Many actors: the same columns as one, exact resume when synchronous, a lag that is told when not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rl_learn import same_after_resume, settled

from daybreak.errors import UserError
from daybreak.systems.rl.policy import Policy, PolicyConfig
from daybreak.systems.rl.value import Value, ValueConfig

IMPALA = {**{k: getattr(Policy.preset("impala"), k) for k in Policy.preset("impala").model_fields_set},
          "hidden": (16,), "play": 8, "batch": 32, "envs": 4, "seeds": 2, "actors": 2}  # fmt: skip


def test_synchronous_actors_resume_to_the_same_bits(tmp_path):
    same_after_resume(Policy, PolicyConfig(**IMPALA), tmp_path, before=3, after=2)


def test_actors_ahead_of_the_learner_play_an_older_policy_and_say_how_old():
    learner = Policy(PolicyConfig(**IMPALA, ahead=1), None)
    try:
        lags = [settled(learner, 1)["lag"] for _ in range(4)]
        assert lags == [0, 1, 1, 1]
    finally:
        learner.actor.close()


def test_each_actor_explores_by_its_place_among_all():
    config = ValueConfig(hidden=(8, 8), envs=4, actors=2, play=4, epsilon=0.4, spread=7.0, learning_starts=10_000)
    learner = Value(config, None)
    try:
        block = learner.actor.collect(4)
        assert block.columns["reward"].shape == (4, 1, 4)
        net = learner.net
        whole = net.epsilon(torch.Size((1, 4)), 0.0)[0]
        net.share = (1, 2)
        assert torch.allclose(net.epsilon(torch.Size((1, 2)), 0.0)[0], whole[2:])
        assert np.isfinite(block.columns["vector"]).all()
    finally:
        learner.actor.close()


def test_copies_that_actors_cannot_share_evenly_are_refused_with_the_remainder():
    with pytest.raises(UserError, match="--envs 8 over --actors 3 leaves 2 over; use 6 or 9"):
        Value(ValueConfig(actors=3), None)


def test_an_actor_that_fails_tells_why():
    learner = Policy(PolicyConfig(**IMPALA), None)
    try:
        learner.actor.workers[0].ask("collect", {}, 1, 0.0)
        with pytest.raises(UserError, match=r"an actor failed at .*Missing key"):
            learner.actor.workers[0].answer()
    finally:
        learner.actor.close()


def test_rays_workers_play_as_processes_do():
    pytest.importorskip("ray")
    columns = []
    for engine in ("process", "ray"):
        torch.manual_seed(0)
        learner = Policy(PolicyConfig(**IMPALA, engine=engine), None)
        try:
            columns.append(learner.actor.collect(6).columns)
        finally:
            learner.actor.close()
    assert all(np.array_equal(columns[0][name], columns[1][name]) for name in columns[0])
