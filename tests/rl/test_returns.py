"""Returns, targets and divergences agree with loops that follow the papers, and with torch.distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions

from daybreak.systems.rl import dist, returns, values

SEEDS = st.integers(0, 10_000)


def episode(seed, times=12, batch=3):
    g = torch.Generator().manual_seed(seed)

    def rand():
        return torch.randn(times, batch, generator=g)

    terminated = (torch.rand(times, batch, generator=g) < 0.2).float()
    truncated = (torch.rand(times, batch, generator=g) < 0.2).float() * (1 - terminated)
    return rand(), rand(), rand(), terminated, (terminated + truncated).clamp(max=1), 0.5 * rand()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, gamma=st.floats(0, 1), lam=st.floats(0, 1))
def test_gae_is_the_sum_of_its_equation(seed, gamma, lam):
    reward, value, after, terminated, ended, _ = episode(seed)
    got = returns.gae(reward, value, after, terminated, ended, gamma, lam)
    for b in range(3):
        for t in range(12):
            total, weight = 0.0, 1.0
            for k in range(t, 12):
                delta = reward[k, b] + gamma * (1 - terminated[k, b]) * after[k, b] - value[k, b]
                total += weight * float(delta)
                if ended[k, b]:
                    break
                weight *= gamma * lam
            assert float(got[t, b]) == pytest.approx(total, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, gamma=st.floats(0, 1))
def test_gae_at_lambda_one_is_the_discounted_return_less_the_value(seed, gamma):
    reward, value, after, terminated, ended, _ = episode(seed)
    whole = returns.discounted(reward, ended, after * (1 - terminated), gamma)
    # The last time bootstraps too; between, what follows is the next step's own return.
    consistent = after.clone()
    got = returns.gae(reward, value, consistent, terminated, ended, gamma, 1.0) + value
    for b in range(3):
        t = 11
        assert float(got[t, b]) == pytest.approx(float(whole[t, b]), abs=1e-3)
        last = [t for t in range(12) if ended[t, b]]
        for t in last:
            assert float(got[t, b]) == pytest.approx(float(whole[t, b]), abs=1e-3)


def test_discounted_returns_by_hand():
    reward = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    ended = torch.tensor([[0.0], [1.0], [0.0], [0.0]])
    after = torch.tensor([[9.0], [10.0], [9.0], [20.0]])
    got = returns.discounted(reward, ended, after, 0.5)[:, 0].tolist()
    assert got == [1 + 0.5 * 7, 2 + 0.5 * 10, 3 + 0.5 * 14, 4 + 0.5 * 20]


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, gamma=st.floats(0, 1), lam=st.floats(0, 1))
def test_vtrace_is_the_sum_of_its_equation(seed, gamma, lam):
    reward, value, after, terminated, ended, log_ratio = episode(seed)
    targets, advantages = returns.vtrace(reward, value, after, terminated, ended, log_ratio, gamma, lam)
    ratio = log_ratio.exp()
    for b in range(3):
        for t in range(12):
            total, weight = float(value[t, b]), 1.0
            for k in range(t, 12):
                rho = min(1.0, float(ratio[k, b]))
                delta = rho * float(reward[k, b] + gamma * (1 - terminated[k, b]) * after[k, b] - value[k, b])
                total += weight * delta
                if ended[k, b]:
                    break
                weight *= gamma * lam * min(1.0, float(ratio[k, b]))
            assert float(targets[t, b]) == pytest.approx(total, abs=1e-3)
            follows = float(after[t, b]) if t == 11 or ended[t, b] else float(targets[t + 1, b])
            expected = min(1.0, float(ratio[t, b])) * (
                float(reward[t, b]) + gamma * (1 - float(terminated[t, b])) * follows - float(value[t, b])
            )
            assert float(advantages[t, b]) == pytest.approx(expected, abs=1e-3)


def test_vtrace_on_policy_at_lambda_one_is_the_n_step_return():
    reward, value, after, terminated, ended, _ = episode(3)
    after[:-1] = torch.where(ended[:-1] > 0, after[:-1], value[1:])
    targets, _ = returns.vtrace(reward, value, after, terminated, ended, torch.zeros_like(reward), 0.9)
    assert torch.allclose(targets, returns.gae(reward, value, after, terminated, ended, 0.9, 1.0) + value, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, gamma=st.floats(0, 1), lam=st.floats(0, 1))
def test_retrace_cuts_from_the_second_action_on(seed, gamma, lam):
    reward, q, after, terminated, ended, log_ratio = episode(seed)
    got = returns.retrace(reward, q, after, terminated, ended, log_ratio, gamma, lam)
    for b in range(3):
        for t in range(12):
            total, weight = float(q[t, b]), 1.0
            for k in range(t, 12):
                if k > t:
                    weight *= gamma * lam * min(1.0, float(log_ratio[k, b].exp()))
                total += weight * float(reward[k, b] + gamma * (1 - terminated[k, b]) * after[k, b] - q[k, b])
                if ended[k, b]:
                    break
            assert float(got[t, b]) == pytest.approx(total, abs=1e-3)


@given(st.floats(-300, 300))
def test_rescaling_is_undone(x):
    value = torch.tensor(x, dtype=torch.float64)
    assert float(returns.unscale(returns.rescale(value))) == pytest.approx(x, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, reward=st.floats(-15, 15), discount=st.floats(0, 1))
def test_c51_projection_keeps_all_mass_and_the_mean_that_fits(seed, reward, discount):
    g = torch.Generator().manual_seed(seed)
    support = torch.linspace(-10, 10, 51, dtype=torch.float64)
    p = torch.rand(4, 51, generator=g, dtype=torch.float64)
    p = p / p.sum(-1, keepdim=True)
    got = values.project(p, support, torch.full((4,), reward).double(), torch.full((4,), discount).double())
    assert torch.allclose(got.sum(-1), torch.ones(4, dtype=torch.float64))
    moved = (reward + discount * support).clamp(-10, 10)
    assert torch.allclose((got * support).sum(-1), (p * moved).sum(-1), atol=1e-9)


def test_c51_projection_keeps_the_mass_of_an_atom_that_lands_on_the_grid():
    support = torch.linspace(-10, 10, 51)
    top = torch.zeros(1, 51)
    top[0, -1] = 1
    assert float(values.project(top, support, torch.ones(1), torch.ones(1)).sum()) == pytest.approx(1)
    same = values.project(top, support, torch.zeros(1), torch.ones(1))
    assert torch.allclose(same, top, atol=1e-5)


def test_quantile_huber_by_hand():
    quantiles, taus = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.25, 0.75]])
    targets = torch.tensor([[0.5, 3.0, -2.0]])
    total = 0.0
    for i in range(2):
        row = []
        for j in range(3):
            u = float(targets[0, j] - quantiles[0, i])
            huber = 0.5 * u * u if abs(u) <= 1 else abs(u) - 0.5
            row.append(abs(float(taus[0, i]) - (u < 0)) * huber)
        total += sum(row) / 3
    assert float(values.quantile_huber(quantiles, taus, targets)) == pytest.approx(total)


def test_quantile_regression_finds_the_quantiles():
    torch.manual_seed(0)
    sample = torch.randn(4000)[None]
    taus = torch.tensor([[0.1, 0.5, 0.9]])
    quantiles = torch.zeros(1, 3, requires_grad=True)
    optimiser = torch.optim.Adam([quantiles], lr=0.05)
    for _ in range(300):
        loss = values.quantile_huber(quantiles, taus, sample, kappa=0.01).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert quantiles.detach()[0].numpy() == pytest.approx(np.quantile(sample.numpy(), (0.1, 0.5, 0.9)), abs=0.06)


def test_munchausens_policy_is_the_softmax_and_its_log():
    q = torch.tensor([[1.0, 1.03, 0.9]])
    pi, log = values.soft(q, 0.03)
    assert torch.allclose(pi, torch.softmax(q / 0.03, -1))
    assert torch.allclose(log, 0.03 * pi.log(), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_distributions_agree_with_torchs(seed):
    g = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    p, q = rand(5, 4), rand(5, 4)
    one, two = distributions.Categorical(logits=p), distributions.Categorical(logits=q)
    action = torch.randint(4, (5,), generator=g)
    assert torch.allclose(dist.log_choice(p, action), one.log_prob(action))
    assert torch.allclose(dist.entropy_choice(p), one.entropy())
    assert torch.allclose(dist.kl_choice(p, q), distributions.kl_divergence(one, two))
    mean, std, other, wide, x = rand(5, 3), rand(5, 3) / 2, rand(5, 3), rand(5, 3) / 2, rand(5, 3)

    def independent(m, s):
        return distributions.Independent(distributions.Normal(m, s.exp()), 1)

    assert torch.allclose(dist.log_gaussian(x, mean, std), independent(mean, std).log_prob(x))
    assert torch.allclose(dist.entropy_gaussian(std), independent(mean, std).entropy())
    expected = distributions.kl_divergence(independent(mean, std), independent(other, wide))
    assert torch.allclose(dist.kl_gaussian(mean, std, other, wide), expected)
    z = rand(5, 3) * 3
    assert torch.allclose(dist.log_squash(z), torch.log1p(-torch.tanh(z).square()).sum(-1), atol=1e-4)


def test_choices_are_drawn_as_often_as_their_probability():
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, -1.0, -1e9]).expand(40_000, 4)
    share = torch.bincount(dist.choose(logits), minlength=4) / 40_000
    assert torch.allclose(share, torch.softmax(logits[0], -1), atol=0.01)
    assert share[3] == 0
