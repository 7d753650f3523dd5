"""Procgen through its C library: games, ends, levels, restoring."""

import importlib.util

import numpy as np
import pytest

from daybreak.errors import UserError
from daybreak.lab import codec
from daybreak.systems.rl.envs import make
from daybreak.systems.rl.envs.procgen import GAMES, library

needed = pytest.mark.skipif(importlib.util.find_spec("procgen") is None, reason="needs procgen-mirror")


def play(env, steps, rng):
    return [env.step(rng.integers(15, size=env.count)) for _ in range(steps)]


def bits(step):
    return [a.tobytes() for a in (step.next["image"], step.observation["image"], step.reward, step.terminated)]


@needed
@pytest.mark.parametrize("game", GAMES)
def test_every_game_is_restored_with_the_same_bits_after_the_codec(game, tmp_path):
    env, rng = make(f"procgen:{game}", 2), np.random.default_rng(0)
    seen = env.reset(1)["image"]
    assert (seen.shape, seen.dtype, env.spec.image) == ((2, 3, 64, 64), np.uint8, (3, 64, 64))
    play(env, 30, rng)
    codec.save(tmp_path / "state", env.state())
    other = make(f"procgen:{game}", 2)
    restored = other.restore(codec.load(tmp_path / "state"))
    one, two = (play(e, 60, np.random.default_rng(2)) for e in (env, other))
    assert restored["image"].any()
    assert [bits(step) for step in one] == [bits(step) for step in two]
    env.close()
    other.close()


@needed
def test_seeds_choose_levels_and_a_bound_on_levels_holds():
    starts = {}
    for seed in (0, 0, 1):
        env = make("procgen:coinrun", 4)
        starts.setdefault(seed, []).append(env.reset(seed)["image"])
    assert (starts[0][0] == starts[0][1]).all()
    assert (starts[0][0] != starts[1][0]).any()
    env = make("procgen:coinrun", 4, levels=1)
    seen = env.reset(0)["image"]
    assert (seen == seen[0]).all()
    assert env.frame().shape == (256, 256, 3)


@needed
def test_an_episode_that_ends_starts_the_next_and_next_is_what_was_seen_last():
    env, rng = make("procgen:maze", 1), np.random.default_rng(0)
    before = env.reset(0)["image"]
    steps = 0
    while True:
        step, steps = env.step(np.array([4])), steps + 1  # Stay where one is: only the clock ends this.
        if step.truncated[0] or step.terminated[0]:
            break
        before = step.observation["image"]
    assert (steps, step.truncated[0], step.terminated[0]) == (500, True, False)
    assert (step.next["image"] == before).all()
    assert (step.observation["image"] != before).any()
    env = make("procgen:fruitbot", 4)
    env.reset(0)
    ends = [step for step in play(env, 250, rng) if step.terminated.any()]
    assert ends
    assert not any(step.truncated.any() for step in ends)


@needed
def test_rewards_are_the_games():
    env = make("procgen:bigfish", 8)
    env.reset(0)
    rewards = np.concatenate([step.reward for step in play(env, 200, np.random.default_rng(0))])
    assert set(np.unique(rewards)) == {0.0, 1.0}


def test_unknown_games_and_modes_are_refused():
    with pytest.raises(UserError, match="did you mean coinrun"):
        make("procgen:coinrn")
    with pytest.raises(UserError, match="procgen:coinrun has no mode 'memory'; there is: easy, hard"):
        make("procgen:coinrun", mode="memory")
    with pytest.raises(UserError, match="are counts, not -1"):
        make("procgen:coinrun", levels=-1)


def test_a_missing_library_gives_the_line_that_installs_it(monkeypatch):
    library.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed: pip install --no-deps procgen-mirror==0\.10\.7"):
        make("procgen:coinrun")
    library.cache_clear()
