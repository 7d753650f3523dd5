"""The policy family: REINFORCE, A2C, PPO (with ICM or RND), V-MPO, IMPALA; each with a memory or without.

`config.py` has the fields, `nets.py` the networks, `learner.py` the recipe.
"""

from daybreak.systems.rl.policy.config import PolicyConfig
from daybreak.systems.rl.policy.learner import Policy
from daybreak.systems.rl.policy.nets import PolicyNet

__all__ = ["Policy", "PolicyConfig", "PolicyNet"]
