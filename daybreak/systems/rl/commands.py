"""`daybreak rl envs`: which environments there are, and what installs them."""

from __future__ import annotations

from importlib.util import find_spec

from daybreak.systems.rl.envs import families
from daybreak.systems.rl.envs.classic import CLASSICS

PACKAGES = {
    "gym": "gymnasium", "ale": "ale_py", "procgen": "procgen", "nes": "nes_py", "minatar": "minatar",
    "envpool": "envpool", "unity": "grpc",
}  # fmt: skip
"""What a family imports."""


def envs() -> None:
    """List the families of environments, and what installs those that are not here."""
    for name, family in families().items():
        missing = name in PACKAGES and find_spec(PACKAGES[name]) is None
        state = f"pip install 'daybreak[{family.extra}]'" if missing else ""
        print(f"{name:<8} {family.line}{'  (' + state + ')' if state else ''}")
    print(f"\nclassic: {', '.join(CLASSICS)}")
