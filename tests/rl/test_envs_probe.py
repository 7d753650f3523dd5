"""The probes' known values, held against brute force, and their manners."""

import itertools

import numpy as np
import pytest

from daybreak.errors import UserError
from daybreak.systems.rl.envs import make
from daybreak.systems.rl.envs.probe import CUT, LENGTHS, VALUES

NAMES = [*VALUES, *(f"{name}-box" for name in VALUES)]


def best_action(env, up):
    """The right action of each copy, in its variant."""
    if env.spec.action.kind == "box":
        return np.where(up, 0.5, -0.5).astype(np.float32)[:, None]
    return up.astype(np.int64)


@pytest.mark.parametrize("name", NAMES)
def test_the_best_policy_earns_the_known_value_from_each_observation(name):
    """Plays with the cue known, and compares the discounted return from where an observation is seen."""
    discount, kind = 0.9, name.removesuffix("-box")
    env = make(f"probe:{name}", 64)
    seen = env.reset(0)["vector"]
    cues = seen[:, 0].copy()
    horizon = 400 if kind == "truncation" else LENGTHS.get(kind, 1)
    observations, rewards = [seen], []
    for _ in range(horizon):
        up = np.ones(64, bool) if kind in ("constant", "discount", "action", "truncation") else cues > 0
        step = env.step(best_action(env, up))
        rewards.append(step.reward)
        observations.append(step.observation["vector"])
        if kind != "truncation":
            assert step.terminated.all() == (len(rewards) == horizon)
    for known in VALUES[kind]:
        at = [
            (t, n)
            for t, seen in enumerate(observations[: min(horizon, 5)])
            for n in range(64)
            if tuple(seen[n].tolist()) == known.observation
        ]
        assert at
        for t, n in at:
            earned = sum(discount**k * float(r[n]) for k, r in enumerate(rewards[t:]))
            assert earned == pytest.approx(known.value(discount), abs=1e-4)


@pytest.mark.parametrize("name", ["action", "both"])
def test_every_choice_and_number_earns_what_is_known(name):
    for known in VALUES[name]:
        for choice, expected in enumerate(known.choices):
            env = make(f"probe:{name}", 32)
            here = (env.reset(1)["vector"] == known.observation).all(axis=1)
            assert (env.step(np.full(32, choice)).reward[here] == expected).all()
        env = make(f"probe:{name}-box", 21)
        env.reset(1)
        env.env.cues[:] = known.observation[0] or 1.0
        numbers = np.linspace(-1, 1, 21, dtype=np.float32)[:, None]
        rewards = env.step(numbers).reward
        assert numbers[rewards.argmax(), 0] == pytest.approx(known.best)
        assert rewards.max() == pytest.approx(1.0)
        assert rewards[10] == pytest.approx(0.0)  # The middle is worth as much as choosing blindly.


def test_memory_cannot_be_answered_from_what_is_seen_then():
    env = make("probe:memory", 500)
    cues = env.reset(0)["vector"][:, 0]
    for n in range(LENGTHS["memory"]):
        step = env.step(np.ones(500, np.int64))
        if n < LENGTHS["memory"] - 1:
            assert (step.observation["vector"][:, 0] == 0).all()
            assert (step.observation["vector"][:, 1] == (n == LENGTHS["memory"] - 2)).all()
            assert (step.reward == 0).all()
    assert (step.reward == cues).all()  # Always up: right for half of the cues.
    assert abs(step.reward.mean()) < 0.15


def test_truncation_is_a_cut_and_never_an_end_and_taking_it_for_one_is_worth_less():
    env = make("probe:truncation", 1)
    env.reset(0)
    steps = [env.step(np.array([0])) for _ in range(3 * CUT)]
    assert [n + 1 for n, step in enumerate(steps) if step.truncated[0]] == [CUT, 2 * CUT, 3 * CUT]
    assert not any(step.terminated[0] for step in steps)
    (known,) = VALUES["truncation"]
    # Temporal differences over the steps of an episode, by iteration: once with the cut bootstrapped, once not.
    right = wrong = 0.0
    for _ in itertools.repeat(None, 2000):
        right = np.mean([float(step.reward[0]) + 0.9 * right for step in steps])
        wrong = np.mean([float(step.reward[0]) + 0.9 * wrong * (not step.truncated[0]) for step in steps])
    assert right == pytest.approx(known.value(0.9))
    assert wrong == pytest.approx(1 / (1 - 0.9 * (1 - 1 / CUT)))
    assert wrong < 0.6 * right


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_probe_goes_on_with_the_same_bits(name):
    env, rng = make(f"probe:{name}", 8), np.random.default_rng(0)
    env.reset(3)

    def play(env, rng):
        actions = (
            rng.uniform(-1, 1, (30, 8, 1)).astype(np.float32) if name.endswith("box") else rng.integers(2, size=(30, 8))
        )
        steps = [env.step(a) for a in actions]
        return [(s.next["vector"].tobytes(), s.observation["vector"].tobytes(), s.reward.tobytes()) for s in steps]

    play(env, rng)
    state = env.state()
    first = play(env, np.random.default_rng(1))
    other = make(f"probe:{name}", 8)
    other.reset(0)
    other.restore(state)
    assert play(other, np.random.default_rng(1)) == first


def test_unknown_probes_give_the_nearest():
    with pytest.raises(UserError, match="did you mean memory"):
        make("probe:memroy")
