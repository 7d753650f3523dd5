"""Value-based agents: every preset learns, resumes to the same bits, and mixes with its siblings where it may."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rl_learn import same_after_resume, settled

from daybreak.errors import UserError
from daybreak.systems.rl.mixing import SUMS
from daybreak.systems.rl.value import Value, ValueConfig, _n_steps

SMALL = {
    "hidden": (16, 16), "play": 8, "updates": 2, "learning_starts": 64, "batch": 8, "replay": 800, "budget": 2000,
    "envs": 4, "length": 6, "burn_in": 3, "atoms": 8,
}  # fmt: skip


def small(name, **more):
    preset = Value.preset(name)
    given = {key: getattr(preset, key) for key in preset.model_fields_set}
    return ValueConfig(**{**given, **SMALL, **more})


@pytest.mark.parametrize("name", SUMS)
def test_every_preset_resumes_to_the_same_bits(name, tmp_path):
    same_after_resume(Value, small(name, seeds=2), tmp_path)


@pytest.mark.parametrize(
    "name", ["dqn+dueling+per+munchausen+iqn+n3+lstm", "dqn+gru+n2", "c51+per+double+dueling+noisy"]
)
def test_any_legal_mix_is_an_agent(name):
    learner = Value(small(name), None)
    logs = settled(learner, 20)
    assert np.isfinite(float(logs["loss"]))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("dqn+munchausen+c51", "munchausen and c51 do not go together: .*fixed atoms"),
        ("dqn+qr+iqn", "an agent has one head"),
        ("dqn+lstm+gru", "one memory"),
        ("dqn+duelling", "unknown part 'duelling' .*did you mean dueling"),
        ("dqn+n", "unknown part 'n'"),
    ],
)
def test_an_illegal_mix_is_refused_with_the_reason(name, why):
    with pytest.raises(UserError, match=why):
        Value.preset(name)


def test_a_space_that_does_not_fit_names_the_presets_that_do():
    with pytest.raises(UserError, match=r"value-based agent cannot act in Pendulum-v1, .*Box\(1\); these can: .*sac"):
        Value(ValueConfig(env="Pendulum-v1"), None)


def test_replay_too_small_for_an_update_says_what_would_do():
    with pytest.raises(UserError, match=r"--replay 16 over 8 copies keeps 2 steps .* needs 4: use --replay 32"):
        Value(ValueConfig(replay=16, n_step=3), None)


@pytest.mark.parametrize("name", ["dqn", "c51", "iqn", "r2d2", "rainbow"])
def test_a_stacked_seed_learns_from_its_own_play_alone(name):
    """Another seed's weights never reach it: its gradient is the same whatever the other's weights are."""
    torch.manual_seed(0)
    learner = Value(small(name, seeds=2, ema=0.0), None)
    settled(learner, 6)
    learner.net.eval()
    learner.target.eval()
    rows, copies = learner.ring.draw(np.random.default_rng(0), 8, learner.span)
    compare = learner._losses if learner.net.memory is None else learner._sequence

    def gradient():
        torch.manual_seed(1)
        losses, _, _ = compare(rows, copies)
        grads = torch.autograd.grad(losses.mean(1).sum(), list(learner.net.parameters()), allow_unused=True)
        return [g[0].clone() for g in grads if g is not None]  # noise has no part in evaluation mode

    before = gradient()
    with torch.no_grad():
        for p in learner.net.parameters():
            p[1] += 0.1
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(before, gradient(), strict=True))


def test_importance_weights_weigh_each_item_by_its_own():
    """The gradient with weights is that of a loop over the items."""
    torch.manual_seed(0)
    learner = Value(small("per"), None)
    settled(learner, 6)
    rows, copies = learner.ring.draw(np.random.default_rng(0), 8, learner.span)
    weights = torch.rand(1, 8)
    losses, _, _ = learner._losses(rows, copies)
    assert losses.shape == weights.shape
    parameter = next(learner.net.parameters())
    (got,) = torch.autograd.grad((losses * weights).mean(), [parameter], retain_graph=True)
    by_hand = sum(
        float(weights[0, i]) * torch.autograd.grad(losses[0, i], [parameter], retain_graph=True)[0] for i in range(8)
    )
    assert torch.allclose(got, by_hand / 8, atol=1e-6)


def test_sequences_bootstrap_n_steps_ahead_and_stop_at_the_episodes_end():
    reward = torch.arange(8.0)[:, None, None]
    terminated = torch.zeros(8, 1, 1, dtype=torch.bool)
    truncated = terminated.clone()
    terminated[4], truncated[6] = True, True
    total, discount, last = _n_steps(reward, terminated, truncated, 1, 5, 3, 0.5)
    assert total[:, 0, 0].tolist() == [1 + 1 + 0.75, 2 + 1.5 + 1, 3 + 2, 4, 5 + 3]
    assert discount[:, 0, 0].tolist() == [0.125, 0, 0, 0, 0.25]
    assert last[[0, 4], 0, 0].tolist() == [2, 5]


def test_noise_is_new_for_each_act_and_silent_in_evaluation():
    learner = Value(small("noisy"), None)
    seen = learner.actor.tensors(learner.actor.seen)
    one, two = learner.net._q(seen, None)[0], None
    learner.net.act(seen, None, 0.0)
    two = learner.net._q(seen, None)[0]
    assert not torch.equal(one, two)
    learner.net.eval()
    assert torch.equal(learner.net._q(seen, None)[0], learner.net._q(seen, None)[0])


def test_each_copy_keeps_its_own_share_of_exploration():
    net = Value(small("ape_x"), None).net
    assert net.epsilon(torch.Size((1, 4)), 0.9)[0].tolist() == pytest.approx([0.4 ** (1 + 7 * i / 3) for i in range(4)])
    falling = Value(small("dqn", epsilon_over=0.5), None).net
    assert float(falling.epsilon(torch.Size((1, 1)), 0.25)) == pytest.approx((1 + falling.config.epsilon_end) / 2)
