"""Returns and advantages, from columns [time, ...]: n-step, GAE, V-trace, Retrace, and the value rescaling.

All are pure functions, held by tests against loops that follow the papers' sums. `terminated` ends what can be earned;
`ended` (terminated or truncated) ends the episode, whose remaining value is that of its last observation.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Column = Float[Tensor, "time *batch"]


def discounted(rewards: Column, ended: Column, after: Column, gamma: float) -> Column:
    """The sum of discounted rewards to the episode's end; where an episode ends, or time does, `after` follows.

    `after` [time] is the value of what follows the step where the episode ended there (0 where it terminated), and at
    the last time the value of what follows it.
    """
    returns = torch.empty_like(rewards)
    follows = after[-1]
    for t in range(len(rewards) - 1, -1, -1):
        follows = rewards[t] + gamma * torch.where(ended[t] > 0, after[t], follows)
        returns[t] = follows
    return returns


def gae(
    rewards: Column, values: Column, next_values: Column, terminated: Column, ended: Column, gamma: float, lam: float
) -> Column:
    """Generalised advantages (Schulman et al. 2016, eq. 16): cut where an episode ended, bootstrapped where truncated.

    `next_values[t]` is the value of the observation that step t led to, the episode's last one where it ended.
    """
    deltas = rewards + gamma * (1 - terminated) * next_values - values
    advantages = torch.empty_like(rewards)
    last = torch.zeros_like(rewards[0])
    keep = gamma * lam * (1 - ended)
    for t in range(len(rewards) - 1, -1, -1):
        last = deltas[t] + keep[t] * last
        advantages[t] = last
    return advantages


def vtrace(
    rewards: Column,
    values: Column,
    next_values: Column,
    terminated: Column,
    ended: Column,
    log_ratio: Column,
    gamma: float,
    lam: float = 1.0,
    rho: float = 1.0,
    c: float = 1.0,
    rho_gradient: float = 1.0,
) -> tuple[Column, Column]:
    """V-trace targets and policy-gradient advantages (Espeholt et al. 2018, eq. 1 and section 4.2).

    `log_ratio` is log pi - log mu of the action taken. rho clips the correction of a step, c the trace, and the
    policy's gradient is weighted again with rho.
    """
    ratio = log_ratio.exp()
    clipped, trace = ratio.clamp(max=rho), lam * ratio.clamp(max=c)
    deltas = clipped * (rewards + gamma * (1 - terminated) * next_values - values)
    error = torch.zeros_like(rewards[0])
    errors = torch.empty_like(rewards)
    for t in range(len(rewards) - 1, -1, -1):
        error = deltas[t] + gamma * (1 - ended[t]) * trace[t] * error
        errors[t] = error
    targets = values + errors
    follows = torch.cat([targets[1:], next_values[-1:]])
    follows = torch.where(ended > 0, next_values, follows)
    advantages = ratio.clamp(max=rho_gradient) * (rewards + gamma * (1 - terminated) * follows - values)
    return targets, advantages


def retrace(
    rewards: Column,
    q: Column,
    next_values: Column,
    terminated: Column,
    ended: Column,
    log_ratio: Column,
    gamma: float,
    lam: float = 1.0,
) -> Column:
    """Retrace targets of Q(s, a) (Munos et al. 2016, eq. 4): c = lam min(1, pi / mu), from the second action on.

    `q` is the target net's of the action taken; `next_values[t]` the expectation of Q under the policy at what step t
    led to; `log_ratio` log pi - log mu of the action taken.
    """
    c = lam * log_ratio.clamp(max=0).exp()
    deltas = rewards + gamma * (1 - terminated) * next_values - q
    error = torch.zeros_like(rewards[0])
    targets = torch.empty_like(rewards)
    for t in range(len(rewards) - 1, -1, -1):
        follows = c[t + 1] * error if t + 1 < len(rewards) else torch.zeros_like(error)
        error = deltas[t] + gamma * (1 - ended[t]) * follows
        targets[t] = q[t] + error
    return targets


EPSILON = 1e-3


def rescale(x: Tensor) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + 0.001 x (Pohlen et al. 2018, section 3.2)."""
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + EPSILON * x


def unscale(x: Tensor) -> Tensor:
    """The inverse of `rescale`."""
    root = (1 + 4 * EPSILON * (x.abs() + 1 + EPSILON)).sqrt()
    return x.sign() * (((root - 1) / (2 * EPSILON)).square() - 1)
