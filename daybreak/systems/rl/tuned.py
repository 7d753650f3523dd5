"""Settings by preset and environment: what our own sweeps found, starting from published ones.

("dqn", "") holds a preset's own defaults; ("dqn", "Acrobot-v1") what "dqn@Acrobot-v1" adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PPO: Mapping[str, Any] = {
    "lr": 1e-3, "epochs": 20, "gamma": 0.98, "lam": 0.8, "ratio_falls": True, "schedule": "linear",
}  # fmt: skip
"""PPO's published settings for CartPole (RL Baselines3 Zoo): eight copies, 32 steps, one batch of all."""

VALUE: Mapping[str, Any] = {
    "budget": 300_000, "hidden": (128, 128), "norm": True, "batch": 128, "updates": 8, "target_every": 16,
    "replay": 100_000, "schedule": "linear", "ema": 0.995,
}  # fmt: skip
"""Small tasks: little learning a step and much play; averaged weights play steadier than the last ones."""

SEQUENCE: Mapping[str, Any] = {**VALUE, "batch": 16, "updates": 4, "hidden": (64, 64), "burn_in": 4, "length": 12}

GRADIENT: Mapping[str, Any] = {"budget": 500_000, "lr": 2e-3, "gamma": 0.99, "ema": 0.99}

TUNED: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("ppo", ""): PPO,
    ("icm_ppo", ""): PPO,
    ("rnd_ppo", ""): PPO,
    **{
        (name, ""): VALUE
        for name in ("dqn", "double", "dueling", "per", "noisy", "c51", "qrdqn", "iqn", "m_dqn", "m_iqn")
    },
    **{(name, ""): {**VALUE, "target_every": 64} for name in ("multistep", "rainbow", "rainbow_iqn", "ape_x")},
    ("r2d2", ""): SEQUENCE,
    ("reinforce", ""): {**GRADIENT, "play": 64, "batch": 512},
    ("a2c", ""): {**GRADIENT, "play": 8, "batch": 64, "optimiser": "rmsprop", "lr": 7e-4},
    ("vmpo", ""): {**GRADIENT, "play": 64, "batch": 512, "lr": 5e-4},
    ("impala", ""): {**GRADIENT, "play": 16, "batch": 128, "entropy": 0.01},
}
