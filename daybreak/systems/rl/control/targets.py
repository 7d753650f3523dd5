"""What the control family aims at: losses and targets, as pure functions.

Tensors are [seeds, batch, ...]; what critics say has their number before that. Held by tests against slow loops,
autograd and torch.distributions. It knows no networks.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from daybreak.systems.rl import dist

Said = Float[Tensor, "critics *batch atoms"]


def cautious(q: Said, dropped: int) -> Float[Tensor, "*batch kept"]:
    """The least of the critics' means (Fujimoto et al. 2018, eq. 10); of quantiles, all pooled without the
    `dropped` x critics largest (Kuznetsov et al. 2020, eq. 11)."""
    if q.shape[-1] == 1:
        return q.amin(0)
    pooled = q.movedim(0, -2).flatten(-2)
    return pooled.sort(dim=-1).values[..., : len(q) * (q.shape[-1] - dropped)]


def smoothed(action: Tensor, deviation: float, most: float) -> Tensor:
    """An action in [-1, 1] with cut noise, cut to the bounds (Fujimoto et al. 2018, eq. 14)."""
    noise = (deviation * torch.randn_like(action)).clamp(-most, most)
    return (action + noise).clamp(-1, 1)


def reweigh(
    q: Float[Tensor, "*batch draws"], eta: Float[Tensor, "*batch"], bound: float, log_prior: Tensor | None = None
) -> tuple[Float[Tensor, "*batch draws"], Float[Tensor, "*batch"]]:
    """MPO's E-step (Abdolmaleki et al. 2018, eq. 8 and 9): weights of the draws, and the temperature's dual to descend.

    Draws come from the policy; where they are all choices, `log_prior` is the policy's log-probability of each.
    """
    prior = torch.full_like(q, -math.log(q.shape[-1])) if log_prior is None else log_prior
    weights = torch.softmax(prior + q / eta.detach()[..., None], dim=-1)
    return weights, eta * (bound + torch.logsumexp(prior + q / eta[..., None], dim=-1))


def follow(
    weights: Float[Tensor, "*batch draws"],
    drawn: Float[Tensor, "*batch draws dims"],
    mean: Float[Tensor, "*batch dims"],
    log_std: Float[Tensor, "*batch dims"],
    old_mean: Float[Tensor, "*batch dims"],
    old_log_std: Float[Tensor, "*batch dims"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch dims"], Float[Tensor, "*batch dims"]]:
    """MPO's M-step for Gaussians, decoupled (Abdolmaleki et al. 2018b, section 4.2): the loss, and the divergences
    KL(old || new) of each dimension by the mean (the old deviation kept) and by the deviation (the old mean kept)."""
    by_mean = dist.log_gaussian(drawn, mean[..., None, :], old_log_std[..., None, :])
    by_spread = dist.log_gaussian(drawn, old_mean[..., None, :], log_std[..., None, :])
    loss = -(weights * (by_mean + by_spread)).sum(-1)
    one, two = old_mean[..., None], old_log_std[..., None]
    mean_kl = dist.kl_gaussian(one, two, mean[..., None], two)
    spread_kl = dist.kl_gaussian(one, two, one, log_std[..., None])
    return loss, mean_kl, spread_kl


def held(divergence: Tensor, multiplier: Tensor, bound: float) -> Tensor:
    """A bound by its multiplier: descending it pulls the divergence down and moves the multiplier by what is left."""
    return multiplier.detach() * divergence + multiplier * (bound - divergence.detach())


def temperature_loss(log_temperature: Tensor, entropy: Tensor, target: Tensor | float) -> Tensor:
    """What the temperature descends (Haarnoja et al. 2018b, eq. 18, on its log): it grows where there is too little
    entropy."""
    return log_temperature * (entropy - target).detach()
