"""Gymnasium's environments behind our contract: spaces, ends, errors, processes, restoring."""

import os
import time

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra gym")

from gymnasium import spaces  # noqa: E402

from daybreak.errors import UserError  # noqa: E402
from daybreak.systems.rl.envs import make  # noqa: E402
from daybreak.systems.rl.envs.spaces import Reader, action_space  # noqa: E402


class Counter(gymnasium.Env):
    """Counts its steps; ends at 3. `trouble` makes it misbehave at the second step, or at the second reset."""

    observation_space = spaces.Box(-9, 9, (2,), np.float64)
    action_space = spaces.Discrete(4, start=-1)

    def __init__(self, trouble="", bound=1.0):
        self.trouble, self.resets = trouble, 0
        if trouble == "build":
            raise ValueError("no level\nwas found")
        if bound == float("inf"):
            self.action_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.resets, self.count = self.resets + 1, 0
        if self.trouble == "reset" and self.resets == 3:
            raise RuntimeError("cannot load")
        self.first = float(self.np_random.uniform(1, 2))
        return np.array([0.0, self.first]), {}

    def step(self, action):
        self.count += 1
        if self.count == 2:
            if self.trouble == "raise":
                raise ZeroDivisionError("physics\nblew up")
            if self.trouble == "hang":
                time.sleep(60)
            if self.trouble == "die":
                os._exit(7)
            if self.trouble == "nan":
                return np.array([np.nan, 0.0]), 0.0, False, False, {}
        return np.array([self.count, self.first]), float(action), self.count == 3, False, {}


class Everything(gymnasium.Env):
    """A mixed observation, a mask, a MultiDiscrete action."""

    observation_space = spaces.Dict(
        [
            ("zeta", spaces.Box(-1, 1, (2,), np.float32)),
            ("alpha", spaces.Discrete(3, start=5)),
            ("eye", spaces.Box(0, 255, (6, 8, 3), np.uint8)),
            ("inner", spaces.Tuple((spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)))),
        ]
    )
    action_space = spaces.MultiDiscrete([2, 3])

    def seen(self, last=(0, 0)):
        eye = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
        parts = {
            "zeta": np.array([0.25, 0.5], np.float32),
            "alpha": 6,
            "eye": eye,
            "inner": (np.array([1, 2]), np.array([0, 1], np.int8)),
        }
        info = {"action_mask": (np.array([1, 0], np.int8), np.array([0, 1, 1], np.int8)), "last": last}
        return parts, info

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.seen()

    def step(self, action):
        seen, info = self.seen()
        return seen, float(10 * action[0] + action[1]), False, False, info


gymnasium.register("rltest/Counter-v0", entry_point=Counter, max_episode_steps=50)
gymnasium.register("rltest/Short-v0", entry_point=Counter, max_episode_steps=2)
gymnasium.register("rltest/Everything-v0", entry_point=Everything)


def any_actions(env, rng):
    space = env.spec.action
    if space.kind == "box":
        return rng.uniform(space.low, space.high, (env.count, space.size)).astype(np.float32)
    if space.kind == "multi":
        return np.stack([rng.integers(n, size=env.count) for n in space.choices], axis=1)
    return rng.integers(space.choices[0], size=env.count)


@pytest.mark.parametrize("process", [False, True])
def test_an_ended_episode_shows_its_last_observation_and_the_next_ones_first(process):
    env = make("rltest/Counter-v0", 2, process=process)
    start = env.reset(3)["vector"]
    assert (env.spec.episode, env.spec.vector, str(env.spec.action)) == (50, 2, "Discrete(4)")
    assert start[0, 1] != start[1, 1]  # Each copy has a seed of its own.
    for n in (1, 2, 3):
        step = env.step(np.array([0, 3]))
        assert step.reward.tolist() == [-1.0, 2.0]  # Counted from 0 here, from the space's start there.
        assert step.next["vector"][:, 0].tolist() == [n, n]
        assert (step.terminated.tolist(), step.truncated.any()) == ([n == 3] * 2, False)
    assert step.next["vector"][:, 1].tolist() == start[:, 1].tolist()
    assert step.observation["vector"][:, 0].tolist() == [0.0, 0.0]
    assert (step.observation["vector"][:, 1] != start[:, 1]).all()
    env.close()


def test_a_time_limit_truncates_and_an_end_at_the_limit_is_an_end():
    env = make("rltest/Short-v0", 1)
    env.reset(0)
    env.step(np.array([1]))
    step = env.step(np.array([1]))
    assert (step.terminated.tolist(), step.truncated.tolist()) == ([False], [True])
    assert step.next["vector"][0, 0] == 2
    assert step.observation["vector"][0, 0] == 0


def test_mixed_observations_keep_the_order_of_their_names_and_choices_are_one_hot():
    env = make("rltest/Everything-v0", 2)
    seen = env.reset(0)
    assert Reader("x", Everything.observation_space).names == ["zeta", "alpha", "inner.0", "inner.1"]
    assert seen["vector"][1].tolist() == [0.25, 0.5, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1]
    assert env.spec.image == (3, 6, 8)
    assert seen["image"][0, 2, 1, 4] == (1 * 8 + 4) * 3 + 2
    assert seen["mask"][0].tolist() == [True, False, False, True, True]
    assert (env.spec.masked, str(env.spec.action)) == (True, "MultiDiscrete(2, 3)")
    assert env.step(np.array([[1, 2], [0, 1]])).reward.tolist() == [12.0, 1.0]


def test_the_same_seed_gives_the_same_episodes():
    runs = []
    for seed in (1, 1, 2):
        env, rng = make("gym:CartPole-v1", 3), np.random.default_rng(0)
        env.reset(seed)
        runs.append(np.stack([env.step(any_actions(env, rng)).observation["vector"] for _ in range(60)]))
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()


def test_a_step_equals_gymnasiums_own_vector_environment():
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    env = make("gym:CartPole-v1", 2)
    env.reset(0)
    theirs = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    theirs.reset(seed=[int(s) for s in np.random.SeedSequence(0).generate_state(2) >> 1])
    rng, ends = np.random.default_rng(5), 0
    for _ in range(120):
        actions = any_actions(env, rng)
        step, (seen, reward, terminated, truncated, info) = env.step(actions), theirs.step(actions)
        assert (step.observation["vector"] == seen).all()
        assert (step.reward == reward).all()
        assert (step.terminated == terminated).all()
        assert (step.truncated == truncated).all()
        for n in np.flatnonzero(terminated):
            assert (step.next["vector"][n] == info["final_obs"][n]).all()
            ends += 1
    assert ends > 2


@pytest.mark.parametrize(
    ("space", "value", "expected"),
    [
        (spaces.Box(-1, 1, (2, 2), np.float64), np.array([[1.0, 2], [3, 4]]), [1, 2, 3, 4]),
        (spaces.Box(0, 255, (3,), np.uint8), np.array([7, 8, 9], np.uint8), [7, 8, 9]),
        (spaces.Discrete(3), 2, [0, 0, 1]),
        (spaces.MultiDiscrete([2, 2], start=[1, 5]), np.array([2, 5]), [0, 1, 1, 0]),
    ],
)
def test_spaces_that_are_no_image_become_numbers(space, value, expected):
    reader = Reader("x", space)
    rows = {"vector": np.zeros((1, reader.vector), np.float32)}
    reader.write(value, rows, 0)
    assert rows["vector"][0].tolist() == expected


@pytest.mark.parametrize(
    ("shape", "channels"), [((9, 7, 3), (3, 9, 7)), ((4, 9, 7), (4, 9, 7)), ((9, 7), (1, 9, 7)), ((9, 9, 4), (4, 9, 9))]
)
def test_channels_come_first_wherever_they_were(shape, channels):
    reader = Reader("x", spaces.Box(0, 255, shape, np.uint8))
    rows = {"image": np.zeros((1, *channels), np.uint8)}
    picture = np.random.default_rng(0).integers(256, size=shape).astype(np.uint8)
    reader.write(picture, rows, 0)
    assert reader.image == channels
    assert sorted(rows["image"].ravel()) == sorted(picture.ravel())


def test_a_box_action_keeps_its_shape_and_bounds():
    ours, decode = action_space("x", spaces.Box(np.array([[-1, 0]]), np.array([[1, 2]]), dtype=np.float64))
    assert (ours.low, ours.high) == ((-1.0, 0.0), (1.0, 2.0))
    assert decode(np.array([0.5, 1.5], np.float32)).tolist() == [[0.5, 1.5]]


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (spaces.Text(5), "shows observation as Text"),
        (spaces.Dict({"a": spaces.Box(0, 255, (9, 9), np.uint8), "b": spaces.Box(0, 255, (9, 9), np.uint8)}), r"a, b"),
        (spaces.Dict({}), "shows nothing"),
    ],
)
def test_an_observation_that_cannot_be_learned_from_is_refused(space, reason):
    with pytest.raises(UserError, match=reason):
        Reader("x", space)


def test_actions_that_no_agent_can_take_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"rltest/Counter-v0: an action needs finite bounds.*RescaleAction"):
        make("rltest/Counter-v0", bound=float("inf"))
    with pytest.raises(UserError, match="which no agent here can act in"):
        action_space("x", spaces.Dict({"a": spaces.Discrete(2)}))


def test_unknown_ids_give_the_nearest_and_missing_modules_their_name():
    with pytest.raises(UserError, match="did you mean LunarLander"):
        make("LunarLandr-v3")
    with pytest.raises(UserError, match="no environment 'CartPole-v9'"):
        make("CartPole-v9")
    with pytest.raises(UserError, match="there is no module 'nowhere_at_all'; install it"):
        make("gym:nowhere_at_all:MyEnv-v0")


def test_a_users_module_registers_its_own(tmp_path, monkeypatch):
    (tmp_path / "my_module.py").write_text(
        "import gymnasium\nfrom gymnasium.envs.classic_control import CartPoleEnv\n"
        "gymnasium.register('MyEnv-v0', entry_point=CartPoleEnv, max_episode_steps=9)\n"
    )
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert make("gym:my_module:MyEnv-v0", 2).spec.episode == 9
    with pytest.raises(UserError, match="'broken_module' fails to import: ZeroDivisionError"):
        make("gym:broken_module:MyEnv-v0")


@pytest.mark.parametrize(
    ("trouble", "process", "reason"),
    [
        ("raise", False, r"rltest/Counter-v0, copy 0: ZeroDivisionError: physics, at step 2, after action 1"),
        ("raise", True, r"rltest/Counter-v0, copy 0: ZeroDivisionError: physics, at step 2, after action 1"),
        ("nan", False, r"rltest/Counter-v0, copy 0: observation \[nan, 0.0\] is not finite, at step 2, after action 1"),
        ("reset", False, "copy 0: could not start an episode: RuntimeError: cannot load"),
        ("hang", True, "copy 0: gave no answer within 1 s and was ended, at step 2, after action 1"),
        ("die", True, "copy 0: its process ended with code 7, at step 2, after action 1"),
    ],
)
def test_trouble_is_told_with_environment_copy_and_action(trouble, process, reason):
    options = {"process": True, "timeout": 1.0} if process else {}
    if trouble in ("raise", "die"):
        options = {k: 20.0 if k == "timeout" else v for k, v in options.items()}
    env = make("rltest/Counter-v0", 1, trouble=trouble, **options)
    with pytest.raises(UserError, match=reason) as error:  # noqa: PT012 - any of the steps may be the one.
        env.reset(0)
        for _ in range(9):
            env.step(np.array([1]))
    assert "\n" not in str(error.value)
    env.close()


def test_one_that_cannot_be_built_says_why():
    with pytest.raises(UserError, match="rltest/Counter-v0 cannot be built: ValueError: no level"):
        make("rltest/Counter-v0", trouble="build")
    with pytest.raises(UserError, match=r"cannot be built: TypeError: .*unexpected keyword argument 'gravitas'"):
        make("gym:CartPole-v1", gravitas=3)


def test_what_nobody_can_draw_or_restore_says_so():
    env = make("rltest/Counter-v0", 1)
    env.reset(0)
    assert env.state() is None
    with pytest.raises(UserError, match="cannot be drawn"):
        env.frame()


def test_box2d_steps_and_is_drawn_and_not_restored():
    pytest.importorskip("Box2D", reason="needs the extra box2d")
    env, rng = make("LunarLander-v3", 2), np.random.default_rng(0)
    env.reset(0)
    ends = 0
    for _ in range(150):
        step = env.step(any_actions(env, rng))
        ends += step.terminated.sum()
    assert ends > 0
    assert (env.spec.vector, env.spec.best, env.state()) == (8, 200.0, None)
    picture = env.frame()
    assert (picture.shape, picture.dtype) == ((400, 600, 3), np.uint8)
    assert len(np.unique(picture)) > 10


@pytest.mark.parametrize("id", ["HalfCheetah-v5", "Humanoid-v5", "Pusher-v5"])
def test_mujoco_is_restored_with_the_same_bits(id):
    pytest.importorskip("mujoco", reason="needs the extra mujoco")
    env, rng = make(id, 2), np.random.default_rng(0)
    env.reset(0)
    for _ in range(12):
        env.step(any_actions(env, rng))
    state, actions = env.state(), [any_actions(env, rng) for _ in range(40)]

    def play(env):
        steps = [env.step(a) for a in actions]
        return [(s.observation["vector"].tobytes(), s.reward.tobytes(), s.terminated.tolist()) for s in steps]

    seen = env.restore(state)["vector"]
    first = play(env)
    other = make(id, 2)
    other.reset(77)
    assert (other.restore(state)["vector"] == seen).all()
    assert play(other) == first


def test_mujocos_time_limit_is_restored_too():
    pytest.importorskip("mujoco", reason="needs the extra mujoco")
    env = make("HalfCheetah-v5", 1, max_episode_steps=30)
    env.reset(0)
    for _ in range(2):
        env.step(np.zeros((1, 6), np.float32))
    other = make("HalfCheetah-v5", 1, max_episode_steps=30)
    other.reset(1)
    other.restore(env.state())
    ends = [bool(other.step(np.zeros((1, 6), np.float32)).truncated[0]) for _ in range(28)]
    assert ends == [False] * 27 + [True]


def test_an_action_mask_of_taxi_allows_what_moves():
    env, rng = make("Taxi-v4", 4), np.random.default_rng(0)
    mask = env.reset(0)["mask"]
    for _ in range(20):
        actions = np.array([rng.choice(np.flatnonzero(row)) for row in mask])
        mask = env.step(actions).observation["mask"]
        assert mask.any(axis=1).all()
    assert (env.spec.vector, env.spec.masked) == (500, True)
