"""The control family's losses and targets, beside slow loops, autograd and torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions

from daybreak.systems.rl.control import targets
from daybreak.systems.rl.control.config import ControlConfig
from daybreak.systems.rl.control.nets import LEAST, ActorNet, CriticNet, Duals
from daybreak.systems.rl.spec import Space, Spec

BOX = Spec(name="box", action=Space.box((-2.0, 0.0), (2.0, 1.0)), vector=3)


def test_a_target_takes_the_least_of_the_critics():
    q = torch.tensor([[[[3.0], [1.0]]], [[[2.0], [5.0]]]])
    assert targets.cautious(q, 2)[0, :, 0].tolist() == [2, 1]


def test_the_largest_of_the_pooled_quantiles_are_left_out():
    q = torch.tensor([[[[1.0, 7.0, 3.0]]], [[[9.0, 2.0, 8.0]]]])  # of six, 1 x 2 critics are dropped
    assert targets.cautious(q, 1)[0, 0].tolist() == [1, 2, 3, 7]
    assert targets.cautious(q, 0)[0, 0].tolist() == [1, 2, 3, 7, 8, 9]
    assert targets.cautious(q, 2)[0, 0].tolist() == [1, 2]


def test_the_noise_on_a_targets_action_is_cut_and_so_is_the_action():
    torch.manual_seed(0)
    middle = targets.smoothed(torch.zeros(1, 5000, 1), 0.2, 0.5)
    assert float(middle.abs().max()) == 0.5
    assert float(middle.std()) == pytest.approx(0.2, rel=0.05)
    assert float(targets.smoothed(torch.full((1, 500, 1), 0.9), 0.2, 0.5).max()) == 1


@pytest.mark.parametrize(("entropy", "grows"), [(-3.0, True), (1.0, False)])
def test_the_temperature_grows_where_there_is_too_little_entropy(entropy, grows):
    log = torch.zeros(1, 1, requires_grad=True)
    loss = targets.temperature_loss(log, torch.full((1, 8), entropy), -1.0).mean(1).sum()
    loss.backward()
    assert (float(log.grad) < 0) == grows  # a step goes against the gradient


def test_weights_and_the_temperatures_dual_are_those_of_a_loop():
    torch.manual_seed(0)
    q, eta = torch.randn(1, 4, 6, dtype=torch.float64), torch.full((1, 4), 0.7, dtype=torch.float64)
    weights, dual = targets.reweigh(q, eta, 0.1)
    for b in range(4):
        e = [math.exp(float(x) / 0.7) for x in q[0, b]]
        assert weights[0, b].tolist() == pytest.approx([x / sum(e) for x in e])
        assert float(dual[0, b]) == pytest.approx(0.7 * (0.1 + math.log(sum(e) / 6)))


def test_choices_are_weighed_by_the_policys_own_probability():
    q, log = torch.tensor([[[1.0, 1.0, 2.0]]]), torch.tensor([[[0.5, 0.3, 0.2]]]).log()
    weights, _ = targets.reweigh(q, torch.ones(1, 1), 0.1, log)
    e = [0.5 * math.exp(1), 0.3 * math.exp(1), 0.2 * math.exp(2)]
    assert weights[0, 0].tolist() == pytest.approx([x / sum(e) for x in e])


def test_at_the_duals_least_the_weights_are_as_far_from_even_as_the_bound_says():
    torch.manual_seed(0)
    q = torch.randn(1, 1, 50, dtype=torch.float64)
    low, high = 0.05, 20.0
    for _ in range(60):  # where the dual's slope changes its sign
        eta = torch.tensor((low * high) ** 0.5, dtype=torch.float64, requires_grad=True)
        targets.reweigh(q, eta.expand(1, 1), 0.3)[1].sum().backward()
        low, high = (low, eta.item()) if eta.grad > 0 else (eta.item(), high)
    weights, _ = targets.reweigh(q, eta.detach().expand(1, 1), 0.3)
    assert float((weights * (weights * 50).log()).sum()) == pytest.approx(0.3, abs=1e-5)


def test_the_m_step_is_torchs_densities_and_divergences_one_for_the_mean_and_one_for_the_deviation():
    torch.manual_seed(0)
    mean, old_mean = torch.randn(1, 4, 2), torch.randn(1, 4, 2)
    log_std, old_log_std = 0.3 * torch.randn(1, 4, 2), 0.3 * torch.randn(1, 4, 2)
    drawn, weights = torch.randn(1, 4, 5, 2), torch.rand(1, 4, 5).softmax(-1)
    loss, mean_kl, spread_kl = targets.follow(weights, drawn, mean, log_std, old_mean, old_log_std)
    for b in range(4):
        normal = [
            distributions.Normal(m[0, b], s[0, b].exp())
            for m, s in ((mean, old_log_std), (old_mean, log_std), (old_mean, old_log_std))
        ]
        by_hand = -sum(
            float(weights[0, b, j] * normal[k].log_prob(drawn[0, b, j]).sum()) for j in range(5) for k in (0, 1)
        )
        assert float(loss[0, b]) == pytest.approx(by_hand, rel=1e-4)
        for got, which in ((mean_kl, 0), (spread_kl, 1)):
            assert torch.allclose(got[0, b], distributions.kl_divergence(normal[2], normal[which]), atol=1e-5)


def test_a_smaller_deviation_makes_the_same_move_of_the_mean_a_larger_divergence():
    """The gap is divided by the variance, not multiplied by it."""
    one, half = torch.zeros(1, 1, 1), torch.full((1, 1, 1), math.log(0.5))
    move = torch.full((1, 1, 1), 0.3)
    _, kl, _ = targets.follow(torch.ones(1, 1, 1), torch.zeros(1, 1, 1, 1), move, half, one, half)
    assert float(kl) == pytest.approx(0.5 * (0.3 / 0.5) ** 2)


@pytest.mark.parametrize(("kl", "grows"), [(0.02, True), (0.001, False)])
def test_a_multiplier_grows_while_its_bound_is_exceeded(kl, grows):
    duals, divergence = Duals(1, (1,)), torch.full((1, 4, 1), kl, requires_grad=True)
    targets.held(divergence, duals()[1][0], 0.01).mean().backward()
    assert (float(duals.alphas[0].grad) < 0) == grows
    assert float(divergence.grad.min()) > 0  # and it always pulls the divergence down
    assert [x.item() for x in duals()[1]] == pytest.approx([1])
    assert duals()[0].item() == pytest.approx(1)


@pytest.mark.parametrize("actor", ["squashed", "gaussian"])
def test_the_density_of_an_action_is_torchs(actor):
    torch.manual_seed(0)
    net = ActorNet(ControlConfig(actor=actor, hidden=(8,)), BOX, 1)
    numbers = torch.randn(1, 50, 4)
    mean, log_std = net.gaussian(numbers)
    normal = distributions.Normal(mean, log_std.exp())
    if actor == "gaussian":
        drawn = normal.sample()
        expected = normal.log_prob(drawn).sum(-1)
        assert float(mean.abs().max()) < 1
        assert float(log_std.min()) > math.log(LEAST)
    else:
        drawn, log = net.squashed(numbers)
        slope = distributions.transforms.TanhTransform().log_abs_det_jacobian(drawn, drawn.tanh())
        expected = (normal.log_prob(drawn) - slope).sum(-1)
        assert torch.allclose(log, expected, atol=1e-3)
    assert torch.allclose(net.log_prob(numbers, drawn), expected, atol=1e-3)


def test_a_squashed_density_is_finite_however_far_the_draw_lies_and_its_gradient_is_autograds():
    net = ActorNet(ControlConfig(hidden=(8,)), BOX, 1)
    for far in (-60.0, 60.0):
        assert torch.isfinite(net.log_prob(torch.tensor([[[far, far, 0.0, 0.0]]]), torch.full((1, 1, 2), far))).all()
    numbers = torch.randn(1, 5, 4, dtype=torch.float64, requires_grad=True)

    def drawn(x):
        torch.manual_seed(3)
        return net.squashed(x)

    assert torch.autograd.gradcheck(drawn, (numbers,))


def test_actions_are_in_the_environments_units_and_before_learning_uniform():
    torch.manual_seed(0)
    for actor in ("squashed", "gaussian", "deterministic"):
        net = ActorNet(ControlConfig(actor=actor, hidden=(8,)), BOX, 1)
        acted = net.act({"vector": torch.zeros(1, 4000, 3)}, None, 0.0)
        taken = (acted.action - torch.tensor([-2.0, 0.0])) / torch.tensor([4.0, 1.0])
        assert torch.allclose(net.unit(acted.extras["stored"]), 2 * taken - 1, atol=1e-5)
        for d in range(2):
            share = torch.histc(taken[..., d], 10, 0, 1) / 4000
            assert torch.allclose(share, torch.full((10,), 0.1), atol=0.02)
        net.begun.fill_(True)
        acted = net.act({"vector": torch.randn(1, 100, 3)}, None, 0.0).action
        assert (acted >= torch.tensor([-2.0, 0.0])).all()
        assert (acted <= torch.tensor([2.0, 1.0])).all()


def test_ou_noise_is_remembered_and_each_dimension_has_its_own():
    torch.manual_seed(0)
    net = ActorNet(ControlConfig(actor="deterministic", noise="ou", noise_std=0.2, hidden=(8,)), BOX, 1)
    net.begun.fill_(True)
    seen, carry, path = {"vector": torch.zeros(1, 3, 3)}, net.start(1, 3), []
    for _ in range(4000):
        carry = net.act(seen, carry, 0.0).carry
        path.append(carry)
    x = torch.stack(path)[200:].flatten(1).T  # copies x dimensions, time
    assert float(x.std()) == pytest.approx(0.2 / math.sqrt(1 - 0.85**2), rel=0.15)
    together = torch.corrcoef(x)
    assert float((together - torch.eye(6)).abs().max()) < 0.25
    assert float(torch.corrcoef(torch.stack([x[0, 1:], x[0, :-1]]))[0, 1]) == pytest.approx(0.85, abs=0.05)
    assert net.start(1, 3).abs().sum() == 0


@pytest.mark.parametrize("atoms", [1, 5])
def test_stacked_critics_say_what_each_says_alone(atoms):
    torch.manual_seed(0)
    config = ControlConfig(critics=2, atoms=atoms, hidden=(8, 8))
    both = CriticNet(config, BOX, 3)
    seen, action = {"vector": torch.randn(3, 7, 3)}, torch.rand(3, 7, 2)
    said = both(seen, action)
    assert said.shape == (2, 3, 7, atoms)
    several = both(seen, action[:, :, None].expand(3, 7, 4, 2))
    assert torch.allclose(several, said[:, :, :, None].expand(2, 3, 7, 4, atoms), atol=1e-6)
    for critic in range(2):
        for seed in range(3):
            alone = CriticNet(config.model_copy(update={"critics": 1}), BOX, 1)
            weights = {n: v[critic * 3 + seed][None] for n, v in both.state_dict().items()}
            alone.load_state_dict(weights)
            one = alone({n: v[seed][None] for n, v in seen.items()}, action[seed][None])
            assert torch.allclose(one[0, 0], said[critic, seed], atol=1e-6)
