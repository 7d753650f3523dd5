"""What an agent of the control family is made of, as fields."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from daybreak.systems.rl import recipe


class ControlConfig(recipe.Config):
    """What an agent of the control family is made of. Reals are in units of the half range inside the nets."""

    env: str = "Pendulum-v1"
    """The environment (`daybreak rl envs` lists them)."""
    actor: Literal["deterministic", "squashed", "gaussian"] = "squashed"
    """How it acts and learns: one action and the critic's slope there (DDPG, TD3); a Gaussian through tanh with an
    entropy bonus (SAC, TQC); a Gaussian that follows reweighted draws (MPO). The last two choose by logits where
    actions are choices."""
    critics: int = Field(2, ge=1, le=16)
    """Critics; a target takes the least of their means, or their pooled atoms."""
    atoms: int = Field(1, ge=1)
    """Quantiles of each critic; 1 learns the mean."""
    dropped: int = Field(2, ge=0)
    """Quantiles of each critic that targets leave out, the largest of all pooled (Kuznetsov et al. 2020)."""
    norm: bool = False
    """Layer normalisation in the critics."""
    noise: Literal["gaussian", "ou"] = "gaussian"
    """What a deterministic actor explores by: independent noise, or Ornstein-Uhlenbeck's, each dimension its own."""
    noise_std: float = Field(0.1, ge=0)
    """Deviation of one step's noise, in half ranges."""
    ou_theta: float = Field(0.15, gt=0, le=1)
    """Share of the Ornstein-Uhlenbeck noise that a step forgets."""
    smoothing: float = Field(0.0, ge=0)
    """Deviation of the noise on a deterministic target's action, in half ranges (Fujimoto et al. 2018)."""
    smoothing_most: float = Field(0.5, ge=0)
    """Largest such noise."""
    temperature: float = Field(1.0, gt=0)
    """Weight of the entropy, at the start where it is learned (SAC)."""
    learn_temperature: bool = True
    """Hold the entropy at its target by the temperature (Haarnoja et al. 2018b)."""
    target_entropy: float | None = None
    """In nats; without one, -1 for each dimension, or `entropy_share` of the log of the choices."""
    entropy_share: float = Field(0.98, gt=0, le=1)
    """Share of the largest entropy that is the target among choices (Christodoulou 2019)."""
    entropy_reward: bool | None = None
    """Whether critics count the entropy to come. Without a word: all but where a temperature is learned among choices.
    There the bonus pays for staying alive, a higher temperature pays more, and entropy never reaches its target."""
    draws: int = Field(20, ge=2)
    """Actions that MPO reweights in each state."""
    eps_eta: float = Field(0.1, gt=0)
    """MPO: bound of the divergence of the reweighted draws."""
    eps_mean: float = Field(0.0025, gt=0)
    """MPO: bound of the divergence by the mean, for each dimension; for choices, of the policy."""
    eps_spread: float = Field(1e-4, gt=0)
    """MPO: bound of the divergence by the deviation, for each dimension."""
    dual_lr: float = Field(1e-3, gt=0)
    """Peak learning rate of the temperature (SAC), or of the multipliers (MPO)."""
    returns: Literal["n_step", "retrace"] = "n_step"
    """What critics aim at: n-step returns, or Retrace on sequences (Munos et al. 2016; MPO)."""
    n_step: int = Field(1, ge=1, le=64)
    """Steps of reward before the bootstrap; not corrected for the policy."""
    length: int = Field(8, ge=2)
    """Steps of a sequence (Retrace)."""
    lam: float = Field(1.0, ge=0, le=1)
    """Retrace's lambda."""
    batch: int = Field(256, ge=1)
    """Transitions, or sequences (Retrace), in one update, for each seed."""
    replay: int = Field(100_000, ge=2)
    """Steps that are kept, for each seed."""
    spill: bool = False
    """Keep replay in files that the system pages, where it does not fit into memory."""
    play: int = Field(1, ge=1)
    """Steps in each copy between two rounds of learning."""
    updates: int = Field(8, ge=1)
    """Updates in a round."""
    learning_starts: int = Field(1000, ge=1)
    """Steps of random actions before learning begins."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate of the actor."""
    critic_lr: float = Field(0.0, ge=0)
    """Peak learning rate of the critics; 0 takes the actor's."""
    actor_every: int = Field(1, ge=1)
    """Updates of the critics to one of the actor and of the targets (Fujimoto et al. 2018)."""
    target_every: int = Field(1, ge=1)
    """Of those, to one move of the targets."""
    tau: float = Field(0.005, gt=0, le=1)
    """How far targets move towards the nets; 1 copies."""
