"""Super Mario Bros: the shims hold, Mario walks, dies, and starts anew."""

import warnings

import numpy as np
import pytest

pytest.importorskip("gym_super_mario_bros", reason="needs the extra nes")

from daybreak.errors import UserError
from daybreak.systems.rl.envs import make
from daybreak.systems.rl.envs.nes import Ram, parse


def test_mario_walks_is_rewarded_dies_and_starts_anew():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # An overflow anywhere fails the test.
        env = make("nes:SuperMarioBros-1-1-v0", 1, noops=0)
        first = env.reset(0)["image"]
        assert (first.shape, env.spec.stack, env.spec.action.choices) == ((1, 1, 84, 84), 4, (7,))
        steps = []
        while not steps or not steps[-1].terminated[0]:
            steps.append(env.step(np.array([1])))  # Right, into the first enemy.
            assert len(steps) < 200
    assert sum(float(step.reward[0]) for step in steps[:20]) > 50
    assert steps[-1].reward[0] < 0
    assert (steps[-1].observation["image"] == first).all()
    assert (steps[-1].next["image"] != first).mean() > 0.1
    assert not steps[-1].truncated[0]


def test_seeds_decide_how_long_is_waited_and_the_same_seed_waits_the_same():
    runs = []
    for seed in (0, 0, 1):
        env = make("nes:SuperMarioBros-v0", 1)
        env.reset(seed)
        runs.append([env.step(np.array([2])).observation["image"].tobytes() for _ in range(25)])
        picture = env.frame()
    assert runs[0] == runs[1] != runs[2]
    assert (picture.shape, picture.dtype) == ((240, 256, 3), np.uint8)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5
    assert env.state() is None


def test_memory_gives_whole_numbers_and_takes_them():
    memory = np.zeros(8, np.uint8)
    ram = Ram(memory)
    ram[3] = 200
    assert (ram[3] * 4, ram[2:4], type(ram[3])) == (800, [0, 200], int)
    assert memory[3] == 200


@pytest.mark.parametrize(
    ("id", "reason"),
    [
        ("SuperMarioBro-v0", "did you mean SuperMarioBros-v0"),
        ("SuperMarioBros-9-1-v0", "worlds are 1 to 8"),
        ("SuperMarioBros-v7", "no NES game"),
        ("SuperMarioBros2-v3", "no NES game"),
    ],
)
def test_games_that_are_not_there_are_refused(id, reason):
    with pytest.raises(UserError, match=reason):
        make(f"nes:{id}")
    assert parse("SuperMarioBros-3-2-v1")["target"] == (3, 2)


def test_unknown_moves_give_the_known():
    with pytest.raises(UserError, match="no moves 'simpel'; did you mean simple"):
        make("nes:SuperMarioBros-v0", moves="simpel")
