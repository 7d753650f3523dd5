"""EnvPool behind our contract."""

import numpy as np
import pytest

pytest.importorskip("envpool", reason="needs the extra envpool")

from daybreak.errors import UserError
from daybreak.systems.rl.envs import make
from daybreak.systems.rl.envs.classic import CLASSICS


def test_cartpole_steps_as_ours_does_and_ends_show_both_observations():
    env, ours = make("envpool:CartPole-v1", 3), CLASSICS["CartPole-v1"](3)
    seen, rng, ends = env.reset(0)["vector"], np.random.default_rng(0), 0
    for _ in range(80):
        actions = rng.integers(2, size=3)
        moved, _, over = ours.move(seen.astype(float), actions)
        step = env.step(actions)
        np.testing.assert_allclose(step.next["vector"], moved, rtol=1e-3, atol=1e-4)
        assert (step.terminated == over).all()
        assert (np.abs(step.observation["vector"][over]) <= 0.05).all()
        assert (step.observation["vector"][~over] == step.next["vector"][~over]).all()
        seen, ends = step.observation["vector"], ends + over.sum()
    assert ends > 3
    assert (env.spec.episode, env.spec.best, env.state()) == (500, 475.0, None)


def test_a_time_limit_truncates():
    env = make("envpool:Pendulum-v1", 2)
    env.reset(0)
    steps = [env.step(np.zeros((2, 1), np.float32)) for _ in range(200)]
    assert [n for n, step in enumerate(steps) if step.truncated.all()] == [199]
    assert not any(step.terminated.any() for step in steps)
    assert (env.spec.action.low, env.spec.action.high) == ((-2.0,), (2.0,))


def test_the_same_seed_gives_the_same_episodes():
    runs = []
    for seed in (1, 1, 2):
        env = make("envpool:CartPole-v1", 2)
        env.reset(seed)
        runs.append(np.stack([env.step(np.array([1, 0])).observation["vector"] for _ in range(40)]))
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()


def test_atari_frames_are_not_stacked_twice():
    env = make("envpool:Pong-v5", 2)
    seen = env.reset(0)["image"]
    assert (seen.shape, env.spec.stack, env.spec.image) == ((2, 1, 84, 84), 4, (1, 84, 84))
    assert env.step(np.array([0, 1])).observation["image"].any()
    assert env.frame().shape == (84, 84, 3)


def test_unknown_ids_and_options_are_refused():
    with pytest.raises(UserError, match="did you mean Pong-v5"):
        make("envpool:Pong-v9")
    with pytest.raises(UserError, match=r"envpool:CartPole-v1 cannot be built: .*gravitas"):
        make("envpool:CartPole-v1", gravitas=3)
