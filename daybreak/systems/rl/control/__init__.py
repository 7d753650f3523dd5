"""Continuous control, and its discrete siblings: DDPG, TD3, SAC, TQC and MPO, one class.

An actor, a stack of critics, replay. What differs is how the actor acts and what it climbs: `actor` names it.
"""

from daybreak.systems.rl.control.config import ControlConfig
from daybreak.systems.rl.control.learner import Control
from daybreak.systems.rl.control.nets import ActorNet, CriticNet

__all__ = ["ActorNet", "Control", "ControlConfig", "CriticNet"]
