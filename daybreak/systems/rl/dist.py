"""Distributions over actions as plain functions: log-probabilities, entropies, divergences, samples.

No objects are built in a training step. Gaussians are diagonal; a squashed one keeps its sample before tanh, which is
never inverted.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)
Logits = Float[Tensor, "*batch choices"]
Vector = Float[Tensor, "*batch dims"]
Scalar = Float[Tensor, "*batch"]


def masked(logits: Logits, mask: Bool[Tensor, "*batch choices"] | None) -> Logits:
    """Logits in which what is not allowed has no probability."""
    return logits if mask is None else logits.masked_fill(~mask, -1e9)


def choose(logits: Logits) -> Int[Tensor, "*batch"]:
    """Sample by the Gumbel trick: the largest of logits plus noise."""
    return (logits - torch.empty_like(logits).exponential_().log()).argmax(dim=-1)


def log_choice(logits: Logits, action: Int[Tensor, "*batch"]) -> Scalar:
    """Log-probability of a choice."""
    return F.log_softmax(logits, dim=-1).gather(-1, action.long()[..., None]).squeeze(-1)


def entropy_choice(logits: Logits) -> Scalar:
    """Entropy in nats."""
    log = F.log_softmax(logits, dim=-1)
    return -(log.exp() * log).sum(dim=-1)


def kl_choice(p: Logits, q: Logits) -> Scalar:
    """KL(p || q) of two categoricals."""
    one, two = F.log_softmax(p, dim=-1), F.log_softmax(q, dim=-1)
    return (one.exp() * (one - two)).sum(dim=-1)


def log_gaussian(x: Vector, mean: Vector, log_std: Vector) -> Scalar:
    """Log-density of a diagonal Gaussian."""
    return (-0.5 * ((x - mean) * (-log_std).exp()).square() - log_std - LOG_ROOT_2PI).sum(dim=-1)


def entropy_gaussian(log_std: Vector) -> Scalar:
    """Entropy in nats."""
    return (log_std + 0.5 + LOG_ROOT_2PI).sum(dim=-1)


def kl_gaussian(mean_p: Vector, log_std_p: Vector, mean_q: Vector, log_std_q: Vector) -> Scalar:
    """KL(p || q) of two diagonal Gaussians."""
    ratio = (2 * (log_std_p - log_std_q)).exp()
    gap = ((mean_p - mean_q) * (-log_std_q).exp()).square()
    return 0.5 * (ratio + gap - 1 - ratio.log()).sum(dim=-1)


def log_squash(z: Vector) -> Scalar:
    """log |d tanh(z) / dz|, summed over dims: 2 (log 2 - z - softplus(-2z)), exact for any z (Haarnoja et al. 2018,
    appendix C, in the form that does not lose digits)."""
    return (2 * (math.log(2) - z - F.softplus(-2 * z))).sum(dim=-1)
