"""Settings by preset and environment: what our own sweeps found, starting from published ones.

("dqn", "") holds a preset's own defaults; ("dqn", "Acrobot-v1") what "dqn@Acrobot-v1" adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

QUICK: Mapping[str, Any] = {
    "lr": 1e-3, "epochs": 20, "gamma": 0.98, "lam": 0.8, "ratio_falls": True, "schedule": "linear",
}  # fmt: skip
"""PPO's published settings for CartPole (RL Baselines3 Zoo): eight copies, 32 steps, one batch of all."""

TUNED: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("ppo", ""): QUICK,
    ("icm_ppo", ""): QUICK,
    ("rnd_ppo", ""): QUICK,
}
