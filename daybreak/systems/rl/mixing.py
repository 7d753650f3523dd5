"""Names: what "rainbow", "dqn+dueling+per+n3" and "ppo@Acrobot-v1" stand for.

A part is a set of fields; a preset is a sum of parts; "@ENV" adds the environment and what was tuned for it. It knows
fields and names; it imports no network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from daybreak.errors import UserError, nearest
from daybreak.systems.rl.tuned import TUNED

Parts = Mapping[str, Any]

PARTS: Mapping[str, Parts] = {
    "dqn": {},
    "double": {"double": True},
    "dueling": {"dueling": True},
    "per": {"prioritised": True},
    "noisy": {"noisy": True},
    "munchausen": {"munchausen": True},
    "c51": {"head": "c51"},
    "qr": {"head": "quantile"},
    "iqn": {"head": "iqn", "atoms": 8},
    "lstm": {"memory": "lstm"},
    "gru": {"memory": "gru"},
    "rescaled": {"rescaled": True},
    "spread": {"epsilon": 0.4, "spread": 7.0},
}
"""Parts of a value-based agent; "nK" beside them is K steps of reward."""

SUMS: Mapping[str, tuple[str, ...]] = {
    "dqn": (),
    "double": ("double",),
    "dueling": ("double", "dueling"),
    "multistep": ("n3",),
    "per": ("double", "per"),
    "noisy": ("noisy",),
    "c51": ("c51",),
    "qrdqn": ("qr",),
    "iqn": ("iqn",),
    "m_dqn": ("munchausen",),
    "m_iqn": ("munchausen", "iqn"),
    "rainbow": ("double", "dueling", "per", "noisy", "c51", "n3"),
    "rainbow_iqn": ("double", "dueling", "per", "noisy", "iqn", "n3"),
    "ape_x": ("double", "dueling", "per", "n3", "spread"),
    "r2d2": ("double", "dueling", "per", "n5", "spread", "lstm", "rescaled"),
}
"""Presets of the value family as sums of parts."""

FITS: Mapping[str, tuple[str, ...]] = {
    "discrete": (*SUMS, "reinforce", "a2c", "ppo", "icm_ppo", "rnd_ppo", "vmpo", "impala", "sac", "mpo", "muzero",
                 "gumbel_muzero"),
    "multi": ("reinforce", "a2c", "ppo", "icm_ppo", "rnd_ppo", "vmpo", "impala"),
    "box": ("reinforce", "a2c", "ppo", "icm_ppo", "rnd_ppo", "vmpo", "impala", "ddpg", "td3", "sac", "mpo", "tqc"),
}  # fmt: skip
"""Presets that can act in each kind of action space."""

CLASHES: tuple[tuple[str, str, str], ...] = (
    (
        "munchausen",
        "c51",
        "the soft target mixes actions at different shifts, which fixed atoms cannot hold; use qr or iqn",
    ),
    ("rescaled", "c51", "C51's atoms are returns, not rescaled ones"),
    ("rescaled", "qr", "quantiles are of returns, not of rescaled ones"),
    ("rescaled", "iqn", "quantiles are of returns, not of rescaled ones"),
    ("rescaled", "munchausen", "the log-policy bonus is in units of return"),
    ("c51", "qr", "an agent has one head"),
    ("c51", "iqn", "an agent has one head"),
    ("qr", "iqn", "an agent has one head"),
    ("lstm", "gru", "an agent has one memory"),
    ("noisy", "spread", "a noisy net explores by its weights; epsilon plays no part"),
)
"""Two parts that do not go together, and why."""

C = TypeVar("C")


def parts_of(names: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a sum of parts. Raises `UserError` for an unknown part and for two that clash."""
    fields: dict[str, Any] = {}
    for name in names:
        if steps := re.fullmatch(r"n(\d+)", name):
            fields["n_step"] = int(steps[1])
        elif name in PARTS:
            fields.update(PARTS[name])
        else:
            raise UserError(f"unknown part {name!r} in {'+'.join(names)}; {nearest(name, [*PARTS, 'n3'])}")
    for one, two, why in CLASHES:
        if one in names and two in names:
            raise UserError(f"{one} and {two} do not go together: {why}")
    return fields


def value_presets() -> dict[str, dict[str, Any]]:
    """The fields of each preset of the value family."""
    return {name: {**parts_of(parts), **TUNED.get((name, ""), {})} for name, parts in SUMS.items()}


POLICIES: Mapping[str, Parts] = {
    "ppo": {},
    "reinforce": {"objective": "gradient", "advantage": "returns", "epochs": 1},
    "a2c": {"objective": "gradient", "advantage": "gae", "lam": 1.0, "epochs": 1, "standardise": False},
    "icm_ppo": {"curiosity": "icm"},
    "rnd_ppo": {"curiosity": "rnd"},
    "vmpo": {"objective": "vmpo", "standardise": False},
    "impala": {"objective": "gradient", "advantage": "vtrace", "epochs": 1, "standardise": False},
}
"""Presets of the policy family."""


def policy_presets() -> dict[str, dict[str, Any]]:
    """The fields of each preset of the policy family."""
    return {name: {**parts, **TUNED.get((name, ""), {})} for name, parts in POLICIES.items()}


CONTROLS: Mapping[str, Parts] = {
    "ddpg": {"actor": "deterministic", "critics": 1, "noise": "ou", "noise_std": 0.2},
    "td3": {"actor": "deterministic", "smoothing": 0.2, "actor_every": 2},
    "sac": {"actor": "squashed"},
    "tqc": {"actor": "squashed", "atoms": 25},
    "mpo": {"actor": "gaussian", "critics": 1},
}
"""Presets of the control family."""


def control_presets() -> dict[str, dict[str, Any]]:
    """The fields of each preset of the control family."""
    return {name: {**parts, **TUNED.get((name, ""), {})} for name, parts in CONTROLS.items()}


SEARCHES: Mapping[str, Parts] = {"muzero": {}, "gumbel_muzero": {"rule": "gumbel"}}
"""Presets of the search family."""


def search_presets() -> dict[str, dict[str, Any]]:
    """The fields of each preset of the search family."""
    return {name: {**parts, **TUNED.get((name, ""), {})} for name, parts in SEARCHES.items()}


def remembering(config: type[Any], others: tuple[str, ...], name: str) -> dict[str, Any]:
    """The fields that "+lstm" or "+gru" add to a preset that learns no values. Raises `UserError` for other parts, and
    where the family has no memory."""
    if wrong := [part for part in others if part not in ("lstm", "gru")]:
        known = wrong[0] in PARTS or re.fullmatch(r"n\d+", wrong[0])
        why = f"{wrong[0]} is a part of value-based agents" if known else f"unknown part {wrong[0]!r}"
        raise UserError(f"{name}: {why}; {name.partition('+')[0]} takes lstm or gru")
    if "memory" not in config.model_fields:
        raise UserError(f"{name}: this family learns from single steps and has no memory; ppo+{others[0]} has one")
    return parts_of(others)


def mixed(config: type[C], presets: Mapping[str, C], name: str) -> C | None:
    """The config that a name stands for; None where it is nobody's."""
    name, at, env = name.partition("@")
    if "+" in name and name.partition("+")[0] in presets and "head" not in getattr(config, "model_fields", {}):
        first, *others = name.split("+")
        held: Any = presets[first]
        fields = {key: getattr(held, key) for key in held.model_fields_set} | remembering(config, tuple(others), name)
    elif "+" in name:
        first, *others = name.split("+")
        begin = SUMS.get(first, (first,)) if first in SUMS or first in PARTS else None
        if begin is None or "head" not in getattr(config, "model_fields", {}):
            return None
        fields = {**TUNED.get((first, ""), {}), **parts_of((*begin, *others))}
    elif name in presets:
        found: Any = presets[name]
        fields = {key: getattr(found, key) for key in found.model_fields_set}
    else:
        return None
    if at:
        own, bare = name.partition("+")[0], env.partition("?")[0]
        fields = {**fields, **TUNED.get((own, env), TUNED.get((own, bare), {})), "env": env}
    return config(**fields)
