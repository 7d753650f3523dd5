"""What value-based learning aims at: targets and losses of every head, as pure functions.

Tensors are [seeds, batch, ...]. `discount` is gamma^n, 0 where nothing follows. Held by tests against slow loops and
conservation laws. It knows no networks.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

PerItem = Float[Tensor, "*batch"]


def pick(values: Tensor, action: Int[Tensor, "*batch"]) -> Tensor:
    """What belongs to the action: [*batch, actions, ...] -> [*batch, ...]."""
    index = action.long().view(*action.shape, *[1] * (values.dim() - action.dim()))
    return values.gather(action.dim(), index.expand(*action.shape, 1, *values.shape[action.dim() + 1 :])).squeeze(
        action.dim()
    )


def soft(q: Float[Tensor, "*batch actions"], temperature: float) -> tuple[Tensor, Tensor]:
    """The softmax policy of Q at a temperature and tau log pi (Vieillard et al. 2020, section 2), in one pass."""
    scaled = F.log_softmax(q / temperature, dim=-1)
    return scaled.exp(), temperature * scaled


def project(
    probabilities: Float[Tensor, "*batch atoms"],
    support: Float[Tensor, atoms],
    reward: PerItem,
    discount: PerItem,
) -> Float[Tensor, "*batch atoms"]:
    """The distribution of r + discount z on the support (Bellemare et al. 2017, algorithm 1).

    Each atom's mass is shared by its two neighbours in proportion to nearness. One that lands on a neighbour leaves it
    all there: its share of the other is 0, never of both.
    """
    low, high = support[0], support[-1]
    last = len(support) - 1
    moved = (reward[..., None] + discount[..., None] * support).clamp(low, high)
    place = ((moved - low) * (last / (high - low))).clamp(0, last)
    below = place.floor()
    above = (place - below) * probabilities
    index = below.long()
    out = torch.zeros_like(probabilities).scatter_add_(-1, index, probabilities - above)
    return out.scatter_add_(-1, (index + 1).clamp(max=last), above)


def quantile_huber(
    quantiles: Float[Tensor, "*batch n"],
    taus: Float[Tensor, "*batch n"],
    targets: Float[Tensor, "*batch m"],
    kappa: float = 1.0,
) -> PerItem:
    """Quantile regression with the Huber loss (Dabney et al. 2018, eq. 10): sum over quantiles, mean of targets."""
    errors = targets[..., None, :] - quantiles[..., :, None]
    size = errors.abs()
    huber = torch.where(size <= kappa, 0.5 * errors.square(), kappa * (size - 0.5 * kappa))
    weight = (taus[..., :, None] - (errors.detach() < 0).float()).abs()
    return (weight * huber / kappa).mean(-1).sum(-1)
