"""Control agents: every preset learns, resumes to the same bits, and says which spaces it fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rl_learn import same_after_resume, settled

from daybreak.errors import UserError
from daybreak.lab.checkpoint import undisturbed
from daybreak.systems.rl import dist
from daybreak.systems.rl.control import Control, ControlConfig
from daybreak.systems.rl.mixing import CONTROLS
from daybreak.systems.rl.recipe import play
from daybreak.systems.rl.spec import Space, Spec

SMALL = {
    "hidden": (16, 16), "play": 2, "updates": 2, "learning_starts": 32, "batch": 8, "replay": 800, "budget": 2000,
    "envs": 4, "draws": 4, "length": 4,
}  # fmt: skip


def small(name, **more):
    preset = Control.preset(name)
    given = {key: getattr(preset, key) for key in preset.model_fields_set}
    if given.get("atoms", 1) > 1:
        more = {"atoms": 4, "dropped": 1, **more}
    return ControlConfig(**{**given, **SMALL, **more})


def learned(name, rounds=12, **more):
    torch.manual_seed(0)
    learner = Control(small(name, **more), None)
    settled(learner, rounds)
    return learner


CASES = [
    *((name, {}) for name in CONTROLS),
    ("mpo", {"returns": "retrace"}),
    ("sac", {"env": "CartPole-v1"}),
    ("mpo", {"env": "CartPole-v1", "returns": "retrace"}),
    ("td3", {"noise": "ou", "normalise": True, "n_step": 3, "ema": 0.9}),
]


@pytest.mark.parametrize(("name", "more"), CASES, ids=str)
def test_every_preset_resumes_to_the_same_bits(name, more, tmp_path):
    same_after_resume(Control, small(name, seeds=2, **more), tmp_path, before=8, after=4)


@pytest.mark.parametrize("name", ["ddpg", "td3", "tqc"])
def test_where_actions_are_choices_the_presets_that_fit_are_named(name):
    with pytest.raises(UserError, match=r"cannot act in CartPole-v1, .*Discrete\(2\); these can: .*sac, mpo"):
        Control(small(name, env="CartPole-v1"), None)


def test_several_choices_at_once_are_refused():
    spec = Spec(name="x", action=Space(kind="multi", choices=(2, 3)), vector=4)
    with pytest.raises(UserError, match=r"cannot act in x, .*MultiDiscrete.*these can: reinforce"):
        Control.net_of(small("sac"), spec, 1)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"replay": 8, "n_step": 3}, r"--replay 8 over 4 copies keeps 2 steps of each; an update needs 4: .*16"),
        ({"returns": "retrace"}, "retrace needs the density"),
        ({"actor": "gaussian", "atoms": 5}, "MPO's critics learn means"),
        ({"actor": "gaussian", "returns": "retrace", "n_step": 2}, "--n-step 2 with --returns retrace"),
        ({"atoms": 4, "dropped": 4}, "--dropped 4 leaves none of --atoms 4"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_reason(more, why):
    with pytest.raises(UserError, match=why):
        Control(small("sac", **more), None)


def test_presets_take_tuned_settings_by_environment():
    assert Control.preset("sac@CartPole-v1").env == "CartPole-v1"
    assert Control.preset("dqn") is None


@pytest.mark.parametrize(("name", "more"), CASES, ids=str)
def test_a_stacked_seed_learns_from_its_own_play_alone(name, more):
    """The gradients of seed 0 are the same whatever the other seed's weights are."""
    learner = learned(name, seeds=2, **{**more, "ema": 0.0})
    batch = next(learner._batches(1))

    def gradients():
        torch.manual_seed(1)
        draws = learner._draws(batch.after) if learner.config.actor == "gaussian" else None
        with torch.no_grad():
            goal = learner._goal(batch, draws)
        loss = learner._critic_loss(learner._values(learner.critics, batch.now, batch.stored), goal)
        critics = list(learner.critics.parameters())
        actor, _ = learner._mpo(batch.after, draws) if draws is not None else learner._climb(batch.now)
        mine = [g.view(-1, 2, *g.shape[1:])[:, 0] for g in torch.autograd.grad(loss, critics)]
        return mine + [g[0] for g in torch.autograd.grad(actor.mean(1).sum(), list(learner.net.parameters()))]

    before = gradients()
    with torch.no_grad():
        for net in learner.nets().values():
            for p in net.parameters():
                p.view(-1, 2, *p.shape[1:])[:, 1] += 0.1
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(before, gradients(), strict=True))


def test_targets_are_those_of_a_loop_over_items():
    """DDPG's and TD3's (without its noise) by their papers' sums, from each transition alone."""
    for name in ("ddpg", "td3"):
        learner = learned(name, smoothing=0.0, learning_starts=32)
        batch = next(learner._batches(1))
        goal = learner._goal(batch, None)
        for i in range(8):
            after = {"vector": batch.after["vector"][:, i : i + 1]}
            q = learner.target(after, torch.tanh(learner.old(after)))[:, 0, 0, 0]
            expected = batch.reward[0, i] + batch.discount[0, i] * min(float(x) for x in q)
            assert float(goal[0, i, 0]) == pytest.approx(float(expected), abs=1e-4)


def test_sacs_target_and_loss_are_those_of_a_loop_over_items():
    learner = learned("sac")
    batch = next(learner._batches(1))
    torch.manual_seed(5)
    goal = learner._goal(batch, None)
    torch.manual_seed(5)
    z, log = learner.net.squashed(learner.net(batch.after))
    weight = learner.temperature().item()
    q = learner.target(batch.after, torch.tanh(z))
    for i in range(8):
        soft = q[:, 0, i, 0].min().item() - weight * log[0, i].item()
        expected = float(batch.reward[0, i]) + float(batch.discount[0, i]) * soft
        assert float(goal[0, i, 0]) == pytest.approx(expected, abs=1e-4)
    said = learner._values(learner.critics, batch.now, batch.stored)
    by_hand = sum(0.5 * float(said[c, 0, i, 0] - goal[0, i, 0]) ** 2 / 8 for c in range(2) for i in range(8))
    assert float(learner._critic_loss(said, goal)) == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize(("given", "counted"), [({}, False), ({"entropy_reward": True}, True),
                                                ({"learn_temperature": False}, True)])  # fmt: skip
def test_choices_are_summed_over_where_an_action_would_be_drawn(given, counted):
    learner = learned("sac", env="CartPole-v1", **given)
    batch = next(learner._batches(1))
    goal, lesson = learner._goal(batch, None), learner._climb(batch.now)[1]["actor"]
    weight = learner.temperature().item()
    for i in range(8):
        for seen, critics, got in (
            (batch.after, learner.target, goal[0, i, 0]),
            (batch.now, learner.critics, lesson[0, i]),
        ):
            p = learner.net(seen)[0, i].softmax(-1)
            q = critics(seen)[:, 0, i].amin(0)
            bonus = weight * p.log() if counted or critics is learner.critics else 0
            value = float((p * (q - bonus)).sum())
            expected = float(batch.reward[0, i] + batch.discount[0, i] * value) if critics is learner.target else -value
            assert float(got) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 10.0, 1000.0])
def test_an_entropy_that_pays_for_staying_alive_cannot_be_raised_by_its_temperature(temperature):
    """Why `entropy_reward` is left out: one state, a choice that goes on and one that ends, a reward of 1 a step. The
    soft values' fixed point keeps its entropy away from the target at any temperature; without the bonus in the
    values the temperature reaches it."""
    found = {}
    for counted in (True, False):
        q = np.zeros(2)
        for _ in range(2000):
            p = np.exp((q - q.max()) / temperature)
            p /= p.sum()
            entropy = -(p * np.log(p)).sum()
            q = np.array([1 + 0.98 * ((p * q).sum() + temperature * entropy * counted), 1.0])
        found[counted] = entropy
    assert found[True] < 0.4 * np.log(2)
    assert temperature < 1000 or found[False] > 0.98 * np.log(2)


def test_the_target_entropy_is_a_share_of_what_the_choices_that_are_allowed_could_have():
    learner = learned("sac", env="CartPole-v1", rounds=1)
    mask = torch.tensor([[[True, True], [True, False]]])
    aim = learner._aim({"mask": mask})[0].tolist()
    assert aim == pytest.approx([learner.config.entropy_share * np.log(2), 0])
    assert learned("sac", rounds=1)._aim({}) == -1


def test_a_deterministic_actor_follows_the_critics_slope():
    """The policy gradient by the chain rule and finite differences of the critic in the action."""
    learner = learned("td3")
    now = {n: v.double() for n, v in next(learner._batches(1)).now.items()}
    learner.net.double(), learner.critics.double()
    lesson, _ = learner._climb(now)
    parameters = list(learner.net.parameters())
    got = torch.autograd.grad(lesson.mean(1).sum(), parameters)
    action, step = torch.tanh(learner.net(now)), 1e-7
    with torch.no_grad():
        up, down = (learner.critics(now, action + s)[0] for s in (step, -step))
        slope = (up - down) / (2 * step)
    expected = torch.autograd.grad((-slope * action).mean(1).sum(), parameters)
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(got, expected, strict=True))


def test_the_actor_and_the_targets_wait_for_the_critics():
    learner = learned("td3", updates=1, tau=0.25)
    for _ in range(4):
        before = {n: [p.clone() for p in net.parameters()] for n, net in learner.nets().items()}
        settled(learner, 1)
        moves = learner.counts["updates"] % 2 == 0
        for name in ("net", "old", "target"):
            same = all(torch.equal(a, b) for a, b in zip(before[name], learner.nets()[name].parameters(), strict=True))
            assert same != moves
        if moves:
            pairs = zip(before["target"], learner.critics.parameters(), learner.target.parameters(), strict=True)
            assert all(torch.allclose(0.75 * old + 0.25 * new, now, atol=1e-6) for old, new, now in pairs)


@pytest.mark.parametrize("env", ["Pendulum-v1", "CartPole-v1"])
def test_retrace_is_that_of_each_sequence_alone(env):
    learner = learned("mpo", env=env, returns="retrace", seeds=2, rounds=40)
    rows, copies = learner.ring.draw(learner.random, 8, learner.span)
    (batch,) = learner._cut(rows, copies, 1)
    with torch.no_grad():
        value = learner._draws(batch.after).q.mean(-1)
        goal = learner._retrace(batch, value).view(2, 4, 8)
        q = learner._values(learner.target, batch.now, batch.stored)[0, ..., 0].view(2, 4, 8)
        numbers = learner.old(batch.now)
        ratio = (learner.net.log_prob(numbers, batch.stored) - batch.log_prob).view(2, 4, 8)
    raw = learner.ring.sequences(rows, copies, 4)
    value = value.view(2, 4, 8)
    for seed in range(2):
        for item in range(8):
            error = 0.0
            for t in reversed(range(4)):
                end = bool(raw["terminated"][t, seed, item] | raw["truncated"][t, seed, item])
                follows = (
                    0.0 if raw["terminated"][t, seed, item] else learner.config.gamma * float(value[seed, t, item])
                )
                trace = 0.0
                if t < 3 and not end:
                    trace = learner.config.gamma * min(1.0, float(ratio[seed, t + 1, item].exp())) * error
                error = float(raw["reward"][t, seed, item]) + follows - float(q[seed, t, item]) + trace
                assert float(goal[seed, t, item]) == pytest.approx(float(q[seed, t, item]) + error, abs=1e-3)


def test_what_was_played_keeps_its_own_density():
    learner = learned("mpo", returns="retrace")
    block = learner.actor.collect(3)
    numbers = learner.net({"vector": torch.from_numpy(block.columns["vector"][1])})
    stored = torch.from_numpy(block.columns["stored"][1])
    expected = dist.log_gaussian(stored, *learner.net.gaussian(numbers))
    assert torch.allclose(torch.from_numpy(block.columns["log_prob"][1]), expected, atol=1e-4)
    taken = block.columns["action"]
    assert np.allclose(taken, 2 * np.clip(block.columns["stored"], -1, 1), atol=1e-6)


def test_a_masked_choice_is_never_made_and_has_no_part_in_the_value():
    spec = Spec(name="x", action=Space.discrete(4), vector=2, masked=True)
    torch.manual_seed(0)
    net = Control.net_of(small("sac"), spec, 1)
    seen = {"vector": torch.randn(1, 500, 2), "mask": torch.tensor([True, False, True, False]).expand(1, 500, 4)}
    assert set(net.act(seen, None, 0.0).action.unique().tolist()) == {0, 2}
    net.begun.fill_(True)
    assert set(net.act(seen, None, 0.0).action.unique().tolist()) == {0, 2}
    log = torch.log_softmax(net(seen), -1)
    assert torch.isfinite(log.exp() * log).all()


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in CONTROLS if name != "sac"]


@pytest.mark.parametrize("name", ["sac", *SLOW])
def test_every_preset_learns_what_follows_an_observation(name):
    """The best action is 0.5 or -0.5, by the sign that was shown: 1 at most, 0 for one that ignores it."""
    torch.manual_seed(0)
    more = {"hidden": (32, 32), "batch": 32, "replay": 4000, "lr": 3e-3, "critic_lr": 0.0, "dual_lr": 1e-2, "draws": 20,
            "tau": 0.02, "eps_mean": 0.05, "eps_spread": 0.01}  # fmt: skip
    learner = Control(small(name, env="probe:both-box", budget=1e6, **more), None)
    settled(learner, 150)
    with undisturbed(learner):
        played = play(learner.net, "probe:both-box", 1, 20, 0)
    assert np.mean([total for total, _, _ in played.values()]) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sac", "mpo"])
def test_choices_are_learned_too(name):
    torch.manual_seed(0)
    more = {"hidden": (32, 32), "batch": 32, "replay": 4000, "lr": 3e-3, "dual_lr": 1e-2}
    learner = Control(small(name, env="probe:both", budget=1e6, **more), None)
    settled(learner, 120)
    with undisturbed(learner):
        played = play(learner.net, "probe:both", 1, 20, 0)
    assert np.mean([total for total, _, _ in played.values()]) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CONTROLS)
def test_every_preset_swings_the_pendulum_up_and_holds_it(name):
    torch.manual_seed(0)
    learner = Control(Control.preset(name), None)
    while learner._clock < learner.config.budget:
        settled(learner, 1)
    with undisturbed(learner):
        played = play(learner.net, "Pendulum-v1", 1, 100, 0)
    assert np.mean([total for total, _, _ in played.values()]) > -180
