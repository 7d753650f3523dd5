"""From a name to a new run: what "change one thing and try again" means.

It joins a recipe's name, a parent, a file and flags to one config, picks the snapshot, and makes the run's folder. The
queue and the command line both come through here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daybreak.errors import UserError
from daybreak.lab.config import Found, check, lookup, parse_flags, read_toml
from daybreak.lab.home import Lab
from daybreak.lab.run import Run

if TYPE_CHECKING:
    from daybreak.lab.recipe import Config


@dataclass(frozen=True)
class Plan:
    """A run before it has a folder."""

    found: Found
    config: Config
    parent: Run | None


def plan(
    lab: Lab, spec: str, flags: Sequence[str], *, parent: str = "", file: Path | None = None, where: str = "train"
) -> Plan:
    """Join name, parent, file and flags, the later over the earlier. Raises `UserError` for a mistake."""
    found = lookup(spec)
    base: Any = found.config
    origin = Run.find(lab, parent) if parent else None
    if origin is not None:
        if origin.info.recipe != found.name:
            raise UserError(f"{origin.title} is a run of {origin.info.recipe}, not of {found.name}")
        base = check(found.cls.Config, origin.info.config, f"{origin.title}: run.json")
        # A preset named beside a parent would silently lose against the parent's values.
        found = Found(found.system, found.recipe, origin.info.preset, found.cls, base)
    if file is not None:
        base = read_toml(found.cls.Config, file, base)
    config, left = parse_flags(found.cls.Config, flags, base, f"{where} {spec}")
    if left:
        raise UserError(f"{where} {spec}: unexpected {left[0]!r}; flags start with --")
    return Plan(found, config, origin)


def new_run(lab: Lab, plan: Plan, *, snapshot: str = "", **about: Any) -> Run:
    """Make the run's folder. Without a snapshot the parent's is taken, else all current items of the system are frozen.

    `about` is passed on: name, owner, second, job, threads.
    """
    found = plan.found
    goal = getattr(found.cls, "goal", None)
    about["threads"] = about.get("threads") or found.cls.threads
    return Run.create(
        lab,
        recipe=found.name,
        preset=found.preset,
        config=plan.config,
        parent=plan.parent,
        snapshot=choose_snapshot(lab, plan, snapshot),
        goal={"name": goal.name, "better": goal.better, "unit": goal.unit} if goal else {},
        clock=found.cls.clock,
        **about,
    )


def choose_snapshot(lab: Lab, plan: Plan, text: str = "") -> str:
    """The id of the snapshot that a run will see; "" for a system that takes no items."""
    system = plan.found.system
    if not text and plan.parent is not None and plan.parent.info.snapshot:
        return plan.parent.info.snapshot
    if not text and not system.ingest and not system.embedded:
        return ""
    from daybreak.lab.lake import Lake, Snapshot

    if text:
        return str(Snapshot.open(lab, text).id)
    lake = Lake.open(lab)
    try:
        return str(lake.snapshot(system.name).id)
    finally:
        lake.close()
