"""Reinforcement learning: what the system offers, as strings."""

from daybreak.lab.system import System

system = System(
    name="rl",
    line="agents that learn by play: value, policy, control and search",
    recipes={
        "value": "daybreak.systems.rl.value:Value",
        "policy": "daybreak.systems.rl.policy:Policy",
        "control": "daybreak.systems.rl.control:Control",
        "search": "daybreak.systems.rl.search:Search",
    },
    models={"agent": "daybreak.systems.rl.model:Agent"},
    commands={
        "envs": "daybreak.systems.rl.commands:envs",
        "verify": "daybreak.systems.rl.verify:verify",
        "watch": "daybreak.systems.rl.live:watch",
    },
)
