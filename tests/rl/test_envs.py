"""Environments by name: families, options, what is missing, what is not finite."""

import importlib.util
import json
import sys
from types import SimpleNamespace
from urllib.parse import urlencode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.systems.rl import envs
from daybreak.systems.rl.envs import FAMILIES, Step, VectorEnv, make, split
from daybreak.systems.rl.policy import Policy
from daybreak.systems.rl.spec import Space, Spec


class Sick(VectorEnv):
    """Shows and pays what a test wants."""

    def __init__(self, id, count, reward=0.0, seen=0.0):
        self.spec, self.count = Spec(name=f"sick:{id}", action=Space.discrete(2), vector=1), count
        self.reward, self.seen = reward, seen

    def reset(self, seed):
        return {"vector": np.zeros((self.count, 1), np.float32)}

    def step(self, actions):
        seen = {"vector": np.full((self.count, 1), self.seen, np.float32)}
        nobody = np.zeros(self.count, bool)
        return Step(seen, seen, np.full(self.count, self.reward, np.float32), nobody, nobody)


@pytest.fixture
def third_party(monkeypatch):
    point = SimpleNamespace(name="sick", value=f"{__name__}:Sick")
    monkeypatch.setattr(envs, "entry_points", lambda group: [point] if group == "daybreak.envs" else [])


def test_a_third_partys_family_is_there_by_its_entry_point(third_party):
    assert make("sick:one", 3).spec.name == "sick:one"
    assert "sick" in envs.families()


def test_what_is_not_finite_is_told_with_environment_step_and_action(third_party):
    env = make("sick:one", 2, reward=float("nan"))
    env.reset(0)
    with pytest.raises(UserError, match="sick:one, copy 0: reward nan is not finite, at step 1, after action 1"):
        env.step(np.array([1, 0]))
    env = make("sick:one", 2, seen=float("inf"))
    env.reset(0)
    with pytest.raises(UserError, match=r"copy 0: observation \[inf\] is not finite, at step 1, after action 1"):
        env.step(np.array([1, 0]))


@pytest.mark.parametrize(
    ("name", "module", "line"),
    [
        ("gym:CartPole-v1", "gymnasium", "pip install 'daybreak[gym]'"),
        ("ale:Pong", "ale_py", "pip install 'daybreak[atari]'"),
        ("minatar:breakout", "minatar", "pip install 'daybreak[minatar]'"),
        ("nes:SuperMarioBros-v0", "nes_py", "pip install 'daybreak[nes]'"),
        ("envpool:Pong-v5", "envpool", "pip install 'daybreak[envpool]'"),
        ("unity:game", "grpc", "pip install 'daybreak[unity]'"),
    ],
)
def test_a_package_that_is_missing_gives_the_one_line_that_installs_it(name, module, line, monkeypatch):
    if name.startswith("nes"):
        pytest.importorskip("gym_notices", reason="comes before nes_py")
        importlib.import_module("daybreak.systems.rl.envs.nes").console.cache_clear()
    for loaded in [one for one in sys.modules if one.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError) as error:
        make(name)
    assert str(error.value).startswith(f"{name} needs {module}")
    assert str(error.value).endswith(f"which is not installed: {line}")


def test_box2d_and_mujoco_name_their_own_extra(monkeypatch):
    pytest.importorskip("gymnasium", reason="needs the extra gym")
    for id, package, extra in (("LunarLander-v3", "Box2D", "box2d"), ("HalfCheetah-v5", "mujoco", "mujoco")):
        for loaded in [one for one in sys.modules if one.startswith((f"gymnasium.envs.{extra}", package))]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError) as error:
            make(id)
        assert str(error.value).endswith(f"which is not installed: pip install 'daybreak[{extra}]'")


def test_every_extra_that_a_family_names_is_declared():
    import tomllib
    from pathlib import Path

    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for name, family in FAMILIES.items():
        # Procgen's wheel cannot be resolved beside NumPy 2: its adapter has a line of its own.
        assert name == "procgen" or not family.extra or family.extra in declared["optional-dependencies"]


@given(options=st.dictionaries(
    st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
    st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
              st.from_regex(r"[A-Za-z][a-z/&=? ]{5,9}", fullmatch=True)),
))  # fmt: skip
def test_options_behind_the_name_come_back_as_they_were(options):
    written = urlencode({key: value if isinstance(value, str) else json.dumps(value) for key, value in options.items()})
    assert split(f"ale:Pong?{written}" if options else "ale:Pong") == ("ale:Pong", options)


def test_options_may_stand_in_the_name_and_keep_what_was_tuned(third_party):
    env = make("sick:one?reward=0.5&seen=2", 2)
    env.reset(0)
    assert env.step(np.array([0, 0])).reward.tolist() == [0.5, 0.5]
    config = Policy.preset("ppo@minatar:breakout?sticky=0.5")
    assert config.env == "minatar:breakout?sticky=0.5"
    assert config.hidden == Policy.preset("ppo@minatar:breakout").hidden != Policy.preset("ppo").hidden
    with pytest.raises(UserError, match=r"options are written sick:one\?NAME=VALUE"):
        make("sick:one?reward")
    with pytest.raises(UserError, match=r"CartPole-v1\?foo=1 has no option 'foo'"):
        make("CartPole-v1?foo=1")


def test_an_unknown_option_gives_the_nearest():
    with pytest.raises(UserError, match="probe:action has no option 'process'; there is none yet"):
        make("probe:action", process=True)
    with pytest.raises(UserError, match="minatar:breakout has no option 'stiky'; did you mean sticky"):
        make("minatar:breakout", stiky=0.5)
