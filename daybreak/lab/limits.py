"""What these weights know: the words that `describe()` lists under a field's name, checked before an action is called.

Commands, the service and the kiosk ask here, so that one mistake is told in one way. It knows requests; it knows
nothing about how they came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from daybreak.lab.config import leaves


def words(limits: Mapping[str, Any], flag: str) -> list[str]:
    """The words that a field may take with these weights; empty where `describe()` does not list words."""
    known = limits.get(flag)
    if isinstance(known, (list, tuple)) and all(isinstance(word, str) for word in known):
        return list(known)
    return []


def unknown(request: BaseModel, limits: Mapping[str, Any]) -> tuple[str, str, list[str]] | None:
    """The first word that these weights do not know: (dotted field, word, known words). "" asks for nothing."""
    for flag in leaves(type(request)):
        known = words(limits, flag)
        if not known:
            continue
        value: Any = request
        for step in flag.split("."):
            value = getattr(value, step, None)
        for word in [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []:
            if isinstance(word, str) and word and word not in known:
                return flag, word, known
    return None
