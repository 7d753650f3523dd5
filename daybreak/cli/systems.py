"""`daybreak systems`: what is installed."""

from __future__ import annotations

from daybreak.cli.show import say, table
from daybreak.lab import system


def systems(*, json: bool = False) -> None:
    """List the installed systems.

    Args:
        json: print JSON.
    """
    rows = [
        {
            "system": found.name,
            "what": found.line,
            "recipes": ", ".join(found.recipes),
            "models": ", ".join(found.models),
            "commands": ", ".join(found.commands),
        }
        for found in system.systems().values()
    ]
    table(rows, ["system", "what", "recipes", "models", "commands"], json=json)
    for name, reason in system.broken().items():
        say(f"{name}: {reason}")
