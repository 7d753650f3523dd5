"""Our classic environments against Gymnasium's, and their pictures."""

import numpy as np
import pytest

from daybreak.errors import UserError
from daybreak.systems.rl.envs import make
from daybreak.systems.rl.envs.classic import CLASSICS

NAMES = sorted(CLASSICS)


def spread(name: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """States all over the space, also near the ends of episodes."""
    bounds = {
        "CartPole-v1": [2.6, 3.0, 0.25, 3.0],
        "MountainCar-v0": [0.9, 0.07],
        "MountainCarContinuous-v0": [0.9, 0.07],
        "Acrobot-v1": [3.1, 3.1, 12.0, 28.0],
        "Pendulum-v1": [7.0, 8.0],
    }[name]
    states = rng.uniform(-1, 1, (count, len(bounds))) * bounds
    if name.startswith("MountainCar"):
        states[:, 0] -= 0.3
        states[: count // 8, 0] = -1.2
    return states


@pytest.mark.parametrize("name", NAMES)
def test_states_rewards_and_ends_are_gymnasiums(name):
    gymnasium = pytest.importorskip("gymnasium", reason="needs the extra gym")
    rng = np.random.default_rng(len(name))
    ours, theirs = CLASSICS[name](200), gymnasium.make(name, disable_env_checker=True).unwrapped
    theirs.reset(seed=0)
    states = spread(name, 200, rng)
    if ours.spec.action.kind == "box":
        actions = rng.uniform(ours.spec.action.low, ours.spec.action.high, (200, 1)).astype(np.float32)
    else:
        actions = rng.integers(ours.spec.action.choices[0], size=200)
    moved, rewards, over = ours.move(states, actions)
    seen = ours.observe(moved)
    ended = 0
    for n in range(200):
        theirs.state = states[n].copy()
        theirs.steps_beyond_terminated = None
        observation, reward, terminated, truncated, _ = theirs.step(actions[n])
        np.testing.assert_allclose(moved[n], np.asarray(theirs.state), rtol=2e-6, atol=1e-7)
        np.testing.assert_allclose(seen[n], observation, rtol=2e-6, atol=1e-6)
        assert rewards[n] == pytest.approx(float(reward), rel=1e-5)
        assert (bool(over[n]), truncated) == (terminated, False)
        ended += terminated
    assert ended > 0 or name == "Pendulum-v1"


@pytest.mark.parametrize("name", NAMES)
def test_spaces_and_time_limits_are_gymnasiums(name):
    gymnasium = pytest.importorskip("gymnasium", reason="needs the extra gym")
    theirs, spec = gymnasium.make(name), CLASSICS[name](1).spec
    assert spec.episode == theirs.spec.max_episode_steps
    assert (spec.vector,) == theirs.observation_space.shape
    if spec.action.kind == "box":
        assert (spec.action.low, spec.action.high) == (
            tuple(theirs.action_space.low.tolist()),
            tuple(theirs.action_space.high.tolist()),
        )
    else:
        assert spec.action.choices == (theirs.action_space.n,)


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_starts_where_gymnasiums_does(name):
    gymnasium = pytest.importorskip("gymnasium", reason="needs the extra gym")
    theirs = gymnasium.make(name)
    theirs.reset(seed=0)
    starts = []
    for _ in range(400):
        theirs.reset()
        starts.append(np.asarray(theirs.unwrapped.state, float))
    ours = CLASSICS[name](400)
    ours.reset(3)
    spread_of = np.ptp(starts, axis=0)
    assert np.abs(np.ptp(ours.states, axis=0) - spread_of).max() <= 0.05 * max(spread_of.max(), 1e-9)
    assert np.abs(ours.states.mean(axis=0) - np.mean(starts, axis=0)).max() <= 0.15 * spread_of.max()


def actions_for(env, rng: np.random.Generator) -> np.ndarray:
    space = env.spec.action
    if space.kind == "box":
        return rng.uniform(space.low, space.high, (env.count, space.size)).astype(np.float32)
    return rng.integers(space.choices[0], size=env.count)


@pytest.mark.parametrize("name", NAMES)
def test_a_time_limit_truncates_and_is_never_a_termination(name):
    env = CLASSICS[name](2)
    env.reset(0)
    env.times[:] = env.LIMIT - 2, 0
    env.states[:] = 0.0 if name == "CartPole-v1" else env.states
    for n in range(2):
        step = env.step(np.zeros((2, 1), np.float32) if env.spec.action.kind == "box" else np.array([1, 1]))
        assert step.truncated.tolist() == [n == 1, False]
        assert not step.terminated.any()
    # What was reached and what comes next are two observations, and the second copy just goes on.
    assert (step.next["vector"][0] != step.observation["vector"][0]).any()
    assert (step.next["vector"][1] == step.observation["vector"][1]).all()


def test_an_end_at_the_time_limit_is_an_end():
    env = CLASSICS["CartPole-v1"](1)
    env.reset(0)
    env.times[:], env.states[:] = 499, [2.39, 3.0, 0.0, 0.0]
    step = env.step(np.array([1]))
    assert (step.terminated.tolist(), step.truncated.tolist()) == ([True], [False])


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_copy_goes_on_with_the_same_bits(name):
    env = make(name, 16)
    env.reset(7)
    rng = np.random.default_rng(1)
    for _ in range(60):
        env.step(actions_for(env, rng))
    state, actions = env.state(), [actions_for(env, rng) for _ in range(250)]

    def play(env):
        steps = [env.step(a) for a in actions]
        return [(s.next["vector"].tobytes(), s.observation["vector"].tobytes(), s.reward.tobytes()) for s in steps]

    first = play(env)
    other = make(name, 16)
    other.reset(99)
    other.restore(state)
    assert play(other) == first


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_start_and_arrays_stay_the_callers(name):
    env, other = make(name, 3), make(name, 3)
    one = env.reset(5)["vector"]
    kept = one.copy()
    assert (one == other.reset(5)["vector"]).all()
    assert (one != other.reset(6)["vector"]).any()
    step = env.step(actions_for(env, np.random.default_rng(0)))
    seen = step.next["vector"].copy()
    env.step(actions_for(env, np.random.default_rng(0)))
    assert (one == kept).all()
    assert (step.next["vector"] == seen).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_shows_the_state_and_moves_with_it(name):
    pytest.importorskip("PIL", reason="needs the extra rl")
    env = make(name, 2)
    env.reset(0)
    before = env.frame()
    assert (before.shape, before.dtype) == ((200, 300, 3), np.uint8)
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 20  # Colours between colours: edges are smooth.
    for _ in range(15):
        env.step(np.ones((2, 1), np.float32) if env.spec.action.kind == "box" else np.array([1, 1]))
    assert (env.frame() != before).mean() > 0.001


def test_a_picture_is_where_the_numbers_say():
    pytest.importorskip("PIL", reason="needs the extra rl")
    from daybreak.systems.rl.envs.drawing import BLUE, GREEN, ORANGE, draw

    def centre(picture, colour):
        rows, columns = np.nonzero((np.abs(picture.astype(int) - colour) < 12).all(axis=2))
        return rows.mean(), columns.mean()

    left, right = (centre(draw("CartPole-v1", np.array([x, 0, 0, 0])), BLUE)[1] for x in (-1.2, 1.2))
    assert right - left == pytest.approx(2.4 * 300 / 5.4, abs=1)
    leaning = draw("CartPole-v1", np.array([0, 0, 0.2, 0]))
    assert centre(leaning, ORANGE)[1] > centre(leaning, BLUE)[1] + 5
    assert centre(draw("Pendulum-v1", np.array([0.0, 0])), ORANGE)[0] < 90
    assert centre(draw("Pendulum-v1", np.array([np.pi / 2, 0])), ORANGE)[1] < 130
    assert centre(draw("Acrobot-v1", np.zeros(4)), ORANGE)[0] > centre(draw("Acrobot-v1", np.zeros(4)), BLUE)[0]
    car = draw("MountainCar-v0", np.array([0.5, 0.0]))
    assert abs(centre(car, BLUE)[1] - centre(car, GREEN)[1]) < 25
    with pytest.raises(UserError, match="did you mean CartPole-v1"):
        draw("CartPole-v0", np.zeros(4))


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(UserError, match="did you mean CartPole-v1"):
        make("classic:Cartpole-v1")
    with pytest.raises(UserError, match="unknown family of environments 'clasic'"):
        make("clasic:CartPole-v1")
