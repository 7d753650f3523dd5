"""What a policy-gradient agent is made of, as fields."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from daybreak.systems.rl import recipe


class PolicyConfig(recipe.Config):
    """What a policy-gradient agent is made of."""

    objective: Literal["gradient", "clip", "vmpo"] = "clip"
    """The plain policy gradient, PPO's clipped ratio, or V-MPO's weighted likelihood with its divergence bound."""
    advantage: Literal["returns", "gae", "vtrace"] = "gae"
    """Whole discounted returns, generalised advantages, or V-trace."""
    curiosity: Literal["none", "icm", "rnd"] = "none"
    """What is added to the reward."""
    play: int = Field(32, ge=1)
    """Steps in each copy between two rounds of learning."""
    batch: int = Field(256, ge=1)
    """Steps in one update, for each seed."""
    epochs: int = Field(10, ge=1)
    """Times that what was played is learned from."""
    memory: Literal["none", "lstm", "gru"] = "none"
    """What carries what was seen before."""
    sequence: int = Field(0, ge=0)
    """Steps of a sequence through which a memory learns; 0: all that are played between two rounds."""
    lam: float = Field(0.95, ge=0, le=1)
    """Lambda of GAE and of V-trace's trace."""
    lr: float = Field(3e-4, gt=0)
    """Peak learning rate."""
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "linear"
    """Shape of the learning rate."""
    clip: float = Field(0.5, ge=0)
    """Largest gradient norm."""
    ratio: float = Field(0.2, gt=0)
    """PPO's clip of the ratio."""
    ratio_falls: bool = False
    """Whether that clip falls with the learning rate."""
    value_clip: float = Field(0.0, ge=0)
    """PPO's clip of the value's change; 0: none."""
    value_weight: float = Field(0.5, ge=0)
    """Weight of the value's loss."""
    entropy: float = Field(0.0, ge=0)
    """Weight of the entropy bonus."""
    standardise: bool = True
    """Scale each batch's advantages to mean 0 and deviation 1."""
    normalise_rewards: bool = False
    """Divide rewards by the running deviation of returns."""
    most_kl: float = Field(0.0, ge=0)
    """Stop a round's epochs once the policy has moved by this divergence; 0: never."""
    shared: bool = False
    """Whether policy and value share their encoder; always so for images."""
    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["relu", "tanh", "silu"] = "tanh"
    log_std: float = 0.0
    """Of the Gaussian, at the start, where actions are reals."""
    bonus: float = Field(0.01, ge=0)
    """Weight of the curiosity's reward."""
    bonus_gamma: float = Field(0.99, ge=0, le=1)
    """Discount of RND's own value, which no episode's end cuts."""
    eps_eta: float = Field(0.02, gt=0)
    """V-MPO: bound of the temperature's dual."""
    eps_alpha: float = Field(0.01, gt=0)
    """V-MPO: bound of the policy's divergence (of the mean, for reals)."""
    optimiser: Literal["adam", "adamw", "rmsprop"] = "adam"
    """What makes the updates."""
    adam_eps: float = Field(1e-5, gt=0)
    """Adam's epsilon."""
