"""Policy-gradient agents: every preset resumes exactly, its parts agree with slow definitions, and it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rl_learn import same_after_resume, settled

from daybreak.errors import UserError
from daybreak.systems.rl import dist
from daybreak.systems.rl.control import Control
from daybreak.systems.rl.mixing import POLICIES
from daybreak.systems.rl.nets.curiosity import Rnd
from daybreak.systems.rl.policy import Policy, PolicyConfig
from daybreak.systems.rl.policy.learner import _first
from daybreak.systems.rl.spec import Space, Spec
from daybreak.systems.rl.store import Block

SMALL = {"hidden": (16, 16), "play": 8, "batch": 16, "epochs": 2, "envs": 4, "budget": 2000}


def small(name, **more):
    preset = Policy.preset(name)
    assert preset is not None
    given = {key: getattr(preset, key) for key in preset.model_fields_set}
    return PolicyConfig(**{**given, **SMALL, **more})


REMEMBERING = ["ppo+lstm", "a2c+gru", "impala+lstm", "vmpo+gru", "rnd_ppo+lstm"]


@pytest.mark.parametrize(
    ("name", "env"),
    [(name, env) for name in POLICIES for env in ("CartPole-v1", "Pendulum-v1")]
    + [(name, "CartPole-v1") for name in REMEMBERING],
)
def test_every_preset_resumes_to_the_same_bits(name, env, tmp_path):
    same_after_resume(Policy, small(name, env=env, seeds=2, normalise=True, normalise_rewards=True), tmp_path)


def test_a_batch_that_does_not_divide_says_the_remainder():
    with pytest.raises(UserError, match=r"--batch 100 does not divide the 256 steps .* 56 would be left over"):
        Policy(PolicyConfig(batch=100), None)


def test_stacked_seeds_do_not_reach_one_another():
    """Seed 0's net after a round is the same whatever seed 1 has played and weighs."""
    after = []
    for shift in (0.0, 0.3):
        torch.manual_seed(0)
        learner = Policy(small("ppo", seeds=2, batch=32, entropy=0.01), None)
        block = learner.actor.collect(8)
        with torch.no_grad():
            for p in learner.net.parameters():
                p.view(-1, 2, *p.shape[1:])[:, 1] += shift
        columns = {name: column.copy() for name, column in block.columns.items()}
        columns["reward"][:, 1] += shift
        learner.learn(Block(columns, block.finals, block.after))
        after.append([p.detach().view(-1, 2, *p.shape[1:])[:, 0].clone() for p in learner.net.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*after, strict=True))


def cut_off(learner):
    """A block of play in which one episode is cut off, its columns as tensors, and that episode's last observation."""
    block = learner.actor.collect(8)
    columns = {name: column.copy() for name, column in block.columns.items()}
    columns["terminated"][:], columns["truncated"][:] = False, False
    columns["truncated"][3, 0, 1] = True
    final = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    changed = Block(columns, {(3, 0, 1): {"vector": final}}, block.after)
    return (
        block,
        changed,
        {name: torch.from_numpy(v) for name, v in columns.items()},
        torch.from_numpy(final)[None, None],
    )


def test_truncation_is_bootstrapped_from_the_episodes_last_observation_and_termination_is_not():
    torch.manual_seed(0)
    learner = Policy(small("ppo"), None)
    _, changed, column, final = cut_off(learner)
    with torch.no_grad():
        _, following = learner._values(changed, {"value": column["value"]}, {})
        expected = learner.net.both({"vector": final})[1]
    assert following[3, 0, 1] == pytest.approx(float(expected), abs=1e-6)
    assert torch.equal(following[:3], column["value"][1:4])


def test_a_gaussians_action_is_stored_as_drawn_and_cut_only_for_the_environment():
    torch.manual_seed(0)
    learner = Policy(small("ppo", env="Pendulum-v1", log_std=2.0), None)
    block = learner.actor.collect(8)
    stored, taken = block.columns["stored"], block.columns["action"]
    assert np.abs(stored).max() > 1
    assert np.array_equal(taken, 2 * np.clip(stored, -1, 1))
    numbers, _ = learner.net.both({"vector": torch.from_numpy(block.columns["vector"][0])})
    again = learner.net.log_prob(numbers, torch.from_numpy(stored[0]))
    assert torch.allclose(again, torch.from_numpy(block.columns["log_prob"][0]), atol=1e-5)


def test_several_choices_at_once_are_independent():
    spec = Spec(name="x", action=Space(kind="multi", choices=(2, 3)), vector=4)
    torch.manual_seed(0)
    net = Policy.net_of(PolicyConfig(hidden=(8,)), spec, 1)
    numbers, _ = net.both({"vector": torch.randn(1, 5, 4)})
    action = net.sample(numbers)
    assert action.shape == (1, 5, 2)
    one, two = net.parts(numbers)
    expected = dist.log_choice(one, action[..., 0]) + dist.log_choice(two, action[..., 1])
    assert torch.allclose(net.log_prob(numbers, action), expected)


def test_what_is_masked_is_never_chosen():
    spec = Spec(name="x", action=Space.discrete(4), vector=2, masked=True)
    torch.manual_seed(0)
    net = Policy.net_of(PolicyConfig(hidden=(8,)), spec, 1)
    seen = {"vector": torch.randn(1, 500, 2), "mask": torch.tensor([True, False, True, False]).expand(1, 500, 4)}
    assert set(net.act(seen, None, 0.0).action.unique().tolist()) == {0, 2}
    assert set(net.greedy(seen, None).action.unique().tolist()) <= {0, 2}


def test_vmpo_holds_the_policy_where_it_was_once_the_divergence_exceeds_its_bound():
    torch.manual_seed(0)
    learner = Policy(small("vmpo"), None)
    old = torch.zeros(1, 32, 2)
    item = {"advantage": torch.randn(1, 32), "numbers": old}
    moved = torch.tensor([3.0, -3.0]).expand(1, 32, 2).clone().requires_grad_()
    learner._vmpo(moved, dist.log_choice(moved, torch.zeros(1, 32).long()), item).sum().backward()
    assert learner.duals.alpha.grad.item() < 0  # a step down the gradient makes the multiplier larger


def test_rnds_random_net_never_changes_and_what_was_seen_often_is_not_new():
    torch.manual_seed(0)
    rnd = Rnd(1, Spec(name="x", action=Space.discrete(2), vector=3))
    before = [p.clone() for p in rnd.target.parameters()]
    seen = {"vector": torch.randn(1, 64, 3) * 0.1}
    optimiser = torch.optim.Adam([p for p in rnd.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(100):
        loss = rnd(seen)[1].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(before, rnd.target.parameters(), strict=True))
    assert float(rnd({"vector": torch.randn(1, 64, 3) + 3})[0].mean()) > 5 * float(rnd(seen)[0].mean())


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_sequences_learn_from_what_the_memory_held_when_they_were_played(kind, shared):
    """Through a round in pieces of 4 steps the net says again what it said as it played, over ends of episodes too."""
    torch.manual_seed(0)
    config = small(f"ppo+{kind}", env="probe:memory", seeds=2, play=12, batch=16, sequence=4, shared=shared)
    learner = Policy(config, None)
    learner.actor.collect(3)  # so that the round begins within an episode
    block = learner.actor.collect(12)
    assert block.columns["terminated"].any()
    column = {n: torch.from_numpy(v) for n, v in block.columns.items()}
    item = {"carry": learner._flat(column["carry"]), "first": learner._flat(_first(column))}
    numbers, value = learner._both({"vector": learner._flat(column["vector"])}, item)
    log_prob = learner.net.log_prob(numbers, learner._flat(column["stored"]))
    assert torch.allclose(log_prob, learner._flat(column["log_prob"]), atol=1e-6)
    assert torch.allclose(value, learner._flat(column["value"]), atol=1e-6)
    assert torch.equal(learner._unflat(learner._flat(column["reward"]), 12), column["reward"])
    pick = learner._order(48)
    assert sorted(pick[0].tolist()) == list(range(48))
    assert (pick.view(2, 12, 4).diff(dim=-1) == 1).all()


def test_with_a_memory_truncation_is_bootstrapped_through_the_episodes_last_observation():
    torch.manual_seed(0)
    learner = Policy(small("ppo+lstm"), None)
    block, changed, column, final = cut_off(learner)
    with torch.no_grad():
        _, following = learner._values(changed, column, {"vector": column["vector"]})
        held = learner.net.recall({"vector": column["vector"][3, :, 1:2]}, column["carry"][3, :, 1:2])[2]
        expected = learner.net.recall({"vector": final}, held)[1]
        last = learner.net.recall({"vector": torch.from_numpy(block.after["vector"])}, learner.actor.carry)[1]
    assert following[3, 0, 1] == pytest.approx(float(expected), abs=1e-6)
    ended = torch.from_numpy(block.columns["terminated"][-1] | block.columns["truncated"][-1])
    assert torch.allclose(following[-1][~ended], last[~ended], atol=1e-6)


def test_a_cue_is_recalled_with_a_memory_and_not_without():
    reached = {}
    for name in ("ppo+gru", "ppo"):
        torch.manual_seed(0)
        config = small(name, env="probe:memory", batch=32, epochs=4, lr=3e-3, schedule="constant", budget=5000)
        learner = Policy(config, None)
        settled(learner, 110)
        reached[name] = float(np.mean([total for total, _ in learner.actor.recent[0]]))
    assert reached["ppo+gru"] > 0.8
    assert abs(reached["ppo"]) < 0.4


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ppo+dueling", "dueling is a part of value-based agents; ppo takes lstm or gru"),
        ("ppo+n3", "n3 is a part of value-based agents"),
        ("a2c+lsmt", "unknown part 'lsmt'; a2c takes lstm or gru"),
        ("ppo+lstm+gru", "an agent has one memory"),
    ],
)
def test_parts_that_a_policy_does_not_take_are_refused_with_the_reason(name, why):
    with pytest.raises(UserError, match=why.replace("+", r"\+")):
        Policy.preset(name)
    with pytest.raises(UserError, match=r"sac\+lstm: this family learns from single steps .*; ppo\+lstm has one"):
        Control.preset("sac+lstm")


@pytest.mark.parametrize("changed", [{"sequence": 3}, {"sequence": 8, "batch": 4}])
def test_sequences_that_do_not_fit_say_the_remainder(changed):
    with pytest.raises(UserError, match=r"is no multiple of the \d steps of a sequence .* would be left over"):
        Policy(small("ppo+lstm", **changed), None)


def test_ppo_learns_to_balance():
    torch.manual_seed(0)
    learner = Policy(Policy.preset("ppo").model_copy(update={"budget": 20_000}), None)
    logs = settled(learner, 60)
    assert logs["return"] > 60
