"""The agent: what is saved decides as what was trained, plays, is judged, and says what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rl_learn import settled

from daybreak.errors import UserError
from daybreak.lab.config import lookup
from daybreak.lab.evaluate import scores
from daybreak.lab.model import Model
from daybreak.lab.night.add import add
from daybreak.systems.rl.model import Act, Agent, Evaluate, Play
from daybreak.systems.rl.nets.encoders import Encoder
from daybreak.systems.rl.policy import Policy, PolicyConfig
from daybreak.systems.rl.recipe import iqm
from daybreak.systems.rl.spec import Space, Spec
from daybreak.systems.rl.value import Value, ValueConfig

SMALL = {"hidden": (16, 16), "play": 8, "envs": 4, "episodes": 3}


def value(**more):
    torch.manual_seed(0)
    return Value(ValueConfig(**{**SMALL, "batch": 8, "learning_starts": 64, "updates": 2, **more}), None)


def policy(**more):
    torch.manual_seed(0)
    return Policy(PolicyConfig(**{**SMALL, "batch": 32, **more}), None)


@pytest.mark.parametrize(
    "made",
    [lambda: value(seeds=3, norm=True), lambda: policy(seeds=3, normalise=True), lambda: value(head="iqn", noisy=True)],
)
def test_a_saved_agent_decides_as_the_first_of_its_seeds_did(made, tmp_path):
    learner = made()
    settled(learner, 12)
    learner.net.eval()
    agent = Model.load(learner.model().save(tmp_path / "agent"))
    assert isinstance(agent, Agent)
    seen = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    with torch.no_grad():
        stacked = torch.from_numpy(seen).expand(learner.config.seeds, 5, 4)
        trained = learner.net.greedy({"vector": stacked}, None).action[0]
    decided = [agent.act(Act(vector=tuple(map(float, one)))).action[0] for one in seen]
    assert decided == trained.tolist()


@pytest.mark.parametrize("make", [value, policy])
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_saved_agent_may_be_the_start_of_every_seed(make, seeds, tmp_path):
    learner = make(seeds=2)
    settled(learner, 12)
    learner.model().save(tmp_path / "agent")
    begun = make(seeds=seeds, start=str(tmp_path / "agent"), ema=0.9)
    seen = {"vector": torch.randn(1, 9, 4)}
    expected = learner.model().net.greedy(seen, None).action
    for net in (begun.net, getattr(begun, "target", begun.net)):
        got = net.eval().greedy({"vector": seen["vector"].expand(seeds, -1, -1)}, None).action
        assert torch.equal(got, expected.expand(seeds, -1))
    with begun.averaged():
        assert torch.equal(
            begun.net.greedy({"vector": seen["vector"].expand(seeds, -1, -1)}, None).action[:1], expected
        )
    with pytest.raises(UserError, match=r"start: .* has a net of another kind or size"):
        make(seeds=seeds, hidden=(8, 8), start=str(tmp_path / "agent"))


def test_scores_are_whole_episodes_and_the_same_again():
    learner = value(seeds=2)
    items = learner.items("validation")
    assert len(items) == 6
    assert [item.group for item in items] == ["seed-0"] * 3 + ["seed-1"] * 3
    one, two = (list(scores(learner, items)) for _ in range(2))
    assert [s.values for s in one] == [s.values for s in two]
    assert [s.values for s in scores(learner, items[4:], 4)] == [s.values for s in one[4:]]
    assert all(s.values["return"] == s.values["length"] for s in one)
    assert "video" in one[0].sample
    assert {item.id for item in items}.isdisjoint(item.id for item in learner.items("test"))


def test_the_goal_is_the_interquartile_mean_over_seeds():
    class Episode:
        def __init__(self, seed, total):
            self.group, self.values = f"seed-{seed}", {"return": total}

    told = [
        Episode(seed, total) for seed, totals in enumerate(([0, 0], [4, 6], [7, 7], [1000, 1000])) for total in totals
    ]
    assert iqm(told) == pytest.approx((5 + 7) / 2)
    assert iqm(told[:4]) == pytest.approx(2.5)


def test_an_agent_plays_and_is_judged():
    agent = value().model()
    played = agent.play(Play(seed=3))
    assert played.video.frames.shape[0] == min(played.length, 300)
    judged = agent.evaluate(Evaluate(episodes=6))
    assert judged.low <= judged.mean <= judged.high
    assert np.mean(judged.returns) == pytest.approx(judged.mean)
    assert judged == agent.evaluate(Evaluate(episodes=6))


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda a: a.act(Act(vector=(1.0,))), "--vector has 1 numbers; CartPole-v1 shows 4"),
        (lambda a: a.act(Act(vector=(1.0, 2.0, 3.0, float("nan")))), "not finite"),
        (lambda a: a.play(Play(env="Acrobot-v1")), "Acrobot-v1 does not fit an agent of CartPole-v1"),
    ],
)
def test_what_does_not_fit_is_one_line(call, why):
    with pytest.raises(UserError, match=why):
        call(value().model())


def test_names_lead_to_recipes():
    assert lookup("rl:rainbow").recipe == "value"
    assert lookup("rl:ppo").recipe == "policy"
    mix = lookup("rl:dqn+per+n3@Acrobot-v1").config
    assert (mix.prioritised, mix.n_step, mix.env) == (True, 3, "Acrobot-v1")
    with pytest.raises(UserError, match="did you mean rainbow"):
        lookup("rl:rainbw")


def test_an_unknown_environment_names_the_nearest():
    with pytest.raises(UserError, match="did you mean"):
        value(env="CartPoel-v1")
    with pytest.raises(UserError, match="unknown family of environments 'atari'"):
        value(env="atari:Pong")


def test_the_queue_leaves_stacked_seeds_to_the_recipe(lab):
    (job,) = add(lab, ["rl:ppo", "--seeds", "3"])
    assert job.config["seeds"] == 3
    assert job.wants.cpu == 1


def test_an_exported_program_keeps_the_order_of_a_picture_s_numbers():
    spec = Spec(name="pictures", action=Space.discrete(2), image=(1, 36, 36), stack=4)
    encoder = Encoder(1, spec, (8,), "relu", "workshop").eval()

    class Seen(torch.nn.Module):
        def forward(self, image):
            return encoder({"image": image[None]})

    picture = torch.zeros(2, 4, 36, 36, dtype=torch.uint8)
    graph = torch.export.export(Seen(), (picture,), strict=False).graph
    assert not [node for node in graph.nodes if node.kwargs.get("memory_format") is torch.channels_last]
