"""MinAtar: channels, seeds, ends, restoring through the lab's codec."""

import numpy as np
import pytest

pytest.importorskip("minatar", reason="needs the extra minatar")

from daybreak.errors import UserError
from daybreak.lab import codec
from daybreak.systems.rl.envs import make
from daybreak.systems.rl.envs.minatar import GAMES


def play(env, steps, rng):
    return [env.step(rng.integers(env.spec.action.choices[0], size=env.count)) for _ in range(steps)]


def bits(step):
    return [a.tobytes() for a in (step.next["image"], step.observation["image"], step.reward, step.terminated)]


@pytest.mark.parametrize("game", GAMES)
def test_a_game_is_restored_with_the_same_bits_after_the_codec(game, tmp_path):
    env, rng = make(f"minatar:{game}", 3), np.random.default_rng(0)
    seen = env.reset(1)["image"]
    assert set(np.unique(seen)) == {0, 1}
    assert env.spec.image == seen.shape[1:]
    assert env.spec.action.choices == (6,)
    play(env, 100, rng)
    codec.save(tmp_path / "state", env.state())
    other = make(f"minatar:{game}", 3)
    other.reset(8)
    other.restore(codec.load(tmp_path / "state"))
    one, two = (play(e, 150, np.random.default_rng(2)) for e in (env, other))
    assert [bits(step) for step in one] == [bits(step) for step in two]


def test_the_same_seed_gives_the_same_game():
    runs = []
    for seed in (4, 4, 5):
        env = make("minatar:asterix", 2)
        env.reset(seed)
        runs.append([bits(step) for step in play(env, 80, np.random.default_rng(0))])
    assert runs[0] == runs[1] != runs[2]


def test_steps_are_the_packages_own():
    import minatar

    theirs, env = minatar.Environment("breakout", sticky_action_prob=0.1), make("minatar:breakout", 1)
    env.reset(6)
    theirs.seed(int(np.random.SeedSequence(6).generate_state(1)[0] >> 1))
    theirs.reset()
    rng, ends = np.random.default_rng(0), 0
    for _ in range(300):
        action = int(rng.integers(6))
        step, (reward, over) = env.step(np.array([action])), theirs.act(action)
        assert (step.reward[0], step.terminated[0]) == (reward, over)
        assert (step.next["image"][0] == theirs.state().transpose(2, 0, 1)).all()
        if over:
            theirs.reset()
            ends += 1
        assert (step.observation["image"][0] == theirs.state().transpose(2, 0, 1)).all()
    assert ends > 3


def test_freeway_is_cut_off_by_its_clock_and_never_over():
    env = make("minatar:freeway", 1)
    env.reset(0)
    steps = [env.step(np.array([2])) for _ in range(env.spec.episode)]
    assert [n for n, step in enumerate(steps) if step.truncated[0]] == [env.spec.episode - 1]
    assert not any(step.terminated[0] for step in steps)
    assert sum(step.reward[0] for step in steps) > 0


def test_unknown_games_give_the_nearest_and_pictures_have_colours():
    with pytest.raises(UserError, match="did you mean breakout"):
        make("minatar:brekout")
    env = make("minatar:seaquest", 1, minimal=True)
    env.reset(0)
    play(env, 30, np.random.default_rng(0))
    assert env.frame().shape == (200, 200, 3)
    assert len(np.unique(env.frame().reshape(-1, 3), axis=0)) > 3
