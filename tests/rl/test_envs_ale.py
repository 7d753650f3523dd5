"""Atari: frames, lives, ends, seeds, pictures."""

import numpy as np
import pytest

pytest.importorskip("ale_py", reason="needs the extra atari")

from daybreak.errors import UserError
from daybreak.systems.rl.envs import make
from daybreak.systems.rl.envs.ale import rom


def play(env, steps, seed=0):
    """Steps with random actions."""
    rng = np.random.default_rng(seed)
    return [env.step(rng.integers(env.spec.action.choices[0], size=env.count)) for _ in range(steps)]


def test_a_frame_is_one_grey_picture_and_four_are_stacked_by_who_learns():
    env = make("ale:Pong", 3)
    seen = env.reset(0)["image"]
    assert (seen.shape, seen.dtype, env.spec.stack, env.spec.image) == ((3, 1, 84, 84), np.uint8, 4, (1, 84, 84))
    assert (env.spec.action.choices, env.spec.episode) == ((6,), 27_000)
    assert (make("ale:Pong", 1, all_actions=True).spec.action.choices) == (18,)
    kept = seen.copy()
    first, *_ = play(env, 20)
    assert (seen == kept).all()  # The arrays are the caller's.
    assert first.reward.dtype == np.float32


def test_the_same_seed_gives_the_same_game_and_copies_differ():
    runs = []
    for seed, threads in ((3, 1), (3, 2), (4, 1)):
        env = make("ale:Breakout", 2, sticky=0.25, threads=threads)
        env.reset(seed)
        runs.append(np.stack([step.observation["image"] for step in play(env, 60)]))
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()
    assert (runs[0][:, 0] != runs[0][:, 1]).any()


def test_a_lost_life_ends_an_episode_for_the_learner_and_the_game_goes_on():
    judged, learner = make("ale:Breakout", 2), make("ale:Breakout", 2, training=True)
    assert (judged.reset(1)["image"] == learner.reset(1)["image"]).all()
    lost = over = 0
    for one, two in zip(play(judged, 260), play(learner, 260), strict=True):
        assert (one.observation["image"] == two.observation["image"]).all()
        for n in np.flatnonzero(two.terminated):
            if one.terminated[n]:
                over += 1
                assert (two.next["image"][n] == one.next["image"][n]).all()
            else:
                lost += 1
                # The game goes on: what was reached is what is answered next.
                assert (two.next["image"][n] == two.observation["image"][n]).all()
        assert not (one.terminated & ~two.terminated).any()
    assert over > 0
    assert lost == pytest.approx(4 * over, abs=8)


def test_an_ended_game_shows_its_last_screen_and_the_next_games_first():
    env = make("ale:Breakout", 1)
    env.reset(0)
    steps = play(env, 300)
    ends = [n for n, step in enumerate(steps) if step.terminated[0]]
    assert ends
    for n in ends:
        before, reached, first = (
            steps[n - 1].observation["image"],
            steps[n].next["image"],
            steps[n].observation["image"],
        )
        # Four frames change little; a new wall and a new score change more.
        assert (before != reached).mean() < 0.02
        assert (before != reached).mean() < (first != reached).mean()


def test_a_time_limit_truncates(monkeypatch):
    monkeypatch.setattr("daybreak.systems.rl.envs.ale.FRAMES", 200)
    env = make("ale:Pong", 2, noops=0)
    env.reset(0)
    steps = play(env, 51)
    assert not any(step.terminated.any() for step in steps)
    cut = [n for n, step in enumerate(steps) if step.truncated.all()]
    assert len(cut) == 1
    assert (steps[cut[0]].next["image"] != steps[cut[0]].observation["image"]).any()


def test_a_picture_is_the_screen_in_colour_and_follows_the_game():
    env = make("ale:Breakout", 2, sticky=0.25)
    env.reset(5)
    play(env, 30)
    picture = env.frame()
    assert (picture.shape, picture.dtype) == ((210, 160, 3), np.uint8)
    assert (picture[..., 0] != picture[..., 2]).any()
    play(env, 5)
    assert (env.frame() != picture).any()


def test_a_picture_asked_for_late_is_grey(monkeypatch):
    monkeypatch.setattr("daybreak.systems.rl.envs.ale.REMEMBERED", 5)
    env = make("ale:Breakout", 1)
    env.reset(5)
    last = play(env, 6)[-1]
    picture = env.frame()
    assert picture.shape == (252, 252, 3)
    assert (picture[1::3, 1::3, 2] == last.observation["image"][0, 0]).all()


def test_the_two_emulators_stay_in_step():
    env = make("ale:Breakout", 1, sticky=0.25)
    env.reset(5)
    env.frame()
    play(env, 250)
    inner = env.env
    _, _, _, _, info = inner._colour.step(np.array([0]))
    _, _, _, _, other = inner.env.step(np.array([0]))
    assert info["frame_number"].tolist() == other["frame_number"].tolist()
    assert info["lives"].tolist() == other["lives"].tolist()


def test_games_and_options_by_name_or_the_nearest():
    assert (rom("MsPacman"), rom("ms_pacman"), rom("Pong")) == ("ms_pacman", "ms_pacman", "pong")
    with pytest.raises(UserError, match="no Atari game 'Brakout'; did you mean Breakout"):
        make("ale:Brakout")
    with pytest.raises(UserError, match="ale:Combat is for two players"):
        make("ale:Combat")
    with pytest.raises(UserError, match="no option 'stickiness'; did you mean sticky"):
        make("ale:Pong", stickiness=1)
    with pytest.raises(UserError, match="sticky is a probability, not 3"):
        make("ale:Pong", sticky=3)
    with pytest.raises(UserError, match="size is a whole number of pixels from 16 to 210, not big"):
        make("ale:Pong?size=big")


def test_a_smaller_picture_shows_the_same_game():
    env = make("ale:Pong?size=52", 2)
    assert env.spec.image == (1, 52, 52)
    assert env.reset(0)["image"].shape == (2, 1, 52, 52)
    assert env.step(np.array([0, 0])).observation["image"].std() > 1
    assert env.frame().shape == (210, 160, 3)


def test_it_says_that_it_cannot_be_restored():
    env = make("ale:Pong", 1)
    env.reset(0)
    assert env.state() is None
