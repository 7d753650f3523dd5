"""From a command line to jobs: every mistake is found here, at once, and none at three in the morning.

It knows flags, configs, parents and sweeps. It knows nothing about workers.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from daybreak.errors import UserError
from daybreak.lab.config import Found, build, check, flat, leaves, lookup, read_toml, split_flags
from daybreak.lab.derive import Plan, choose_snapshot
from daybreak.lab.engines import Machine, Wants
from daybreak.lab.home import Lab
from daybreak.lab.night import sweep
from daybreak.lab.night.clock import parse_moment, words
from daybreak.lab.night.queue import Job, Tonight
from daybreak.lab.run import Run

WHERE = "tonight add"


class About(BaseModel):
    """What a job has beside its config."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = Field("", max_length=200)
    """Free text: what it is for."""
    owner: str = Field("", max_length=100)
    """Who looks after it."""
    second: str = Field("", max_length=100)
    """Who else knows about it."""
    priority: int = Field(0, ge=-(10**6), le=10**6)
    """Higher goes first."""
    after: str = ""
    """Jobs that must have finished: "4" or "4,5"."""
    wants: str = ""
    """What it needs: cpu=2,memory=4G,gpu=1."""
    not_before: str = ""
    """When it may start: 22:00 or 2026-11-23T22:00."""


class Order(About):
    """What `tonight add` takes beside the config's flags."""

    parent: str = ""
    """The run to derive from (--from)."""
    snapshot: str = ""
    """The snapshot to train on; else the parent's, else all of the system's items are frozen now."""
    config: Path | None = None
    """A TOML file of config values."""
    seeds: int = Field(0, ge=0, le=1000)
    """Runs that differ in their seed alone."""
    trials: int = Field(0, ge=0, le=10000)
    """Runs of a search over the flags given as log(A,B), uniform(A,B), int(A,B) or one(A,B,...)."""


def add(lab: Lab, argv: Sequence[str], machine: Machine | None = None, once: str = "") -> list[Job]:
    """Queue what `tonight add ARGV...` says. Returns the jobs. Raises `UserError`; then nothing was queued.

    What was queued under the key `once` is not queued again (see `Tonight.add`).
    """
    words = ["--parent" if word == "--from" else word.replace("--from=", "--parent=", 1) for word in argv]
    spec = words.pop(0) if words and not words[0].startswith("-") else ""
    parent = _parent(lab, words)
    if not spec:
        if parent is None:
            raise UserError(f"{WHERE}: name what to train, as in: tonight add music:small --lr 1e-3")
        spec = parent.info.recipe
    found = lookup(spec)
    model = found.cls.Config
    own = leaves(Order)
    if "seeds" in leaves(model):
        del own["seeds"]  # a recipe that trains several seeds beside one another counts them itself, in one run
    clash = sorted(set(own) & set(leaves(model)))
    if clash:
        raise UserError(f"{WHERE}: {found.name} has a config field {clash[0]!r}, which is a word of the queue's own")
    given, left = split_flags(words, {**leaves(model), **own}, WHERE)
    if left:
        raise UserError(f"{WHERE}: unexpected {left[0]!r}")
    order = build(Order, {name: texts for name, texts in given.items() if name in own}, None, WHERE)
    base, preset = _base(found, parent)
    origin = base.model_dump(mode="json")
    if order.config is not None:
        base = read_toml(model, order.config, base)
    flags = {name: texts for name, texts in given.items() if name not in own}
    swept = {name: texts[0] for name, texts in flags.items() if len(texts) == 1 and sweep.is_sweep(texts[0])}
    base = build(model, {name: texts for name, texts in flags.items() if name not in swept}, base, WHERE)
    space = {name: sweep.parse(model, base, name, text, WHERE) for name, text in swept.items()}
    job = Job(
        recipe=found.name,
        config=base.model_dump(mode="json"),
        preset=preset,
        parent=parent.id if parent else "",
        snapshot=choose_snapshot(lab, Plan(found, base, parent), order.snapshot),
        goal=_goal(found),
        clock=found.cls.clock,
        base=origin,
        **_about(order, machine),
    )
    job = replace(job, owner=job.owner or _me())
    if found.cls.threads and not job.wants.cpu:
        job = replace(job, wants=replace(job.wants, cpu=found.cls.threads))
    with Tonight(lab) as tonight:
        return _queue(tonight, job, model, order, space, once)


def edit(lab: Lab, number: int, argv: Sequence[str], machine: Machine | None = None) -> Job:
    """Change a waiting job. Its config can change until its run exists. Raises `UserError`."""
    where = "tonight edit"
    with Tonight(lab) as tonight:
        job = tonight.get(number)
        if job.state != "waiting":
            raise UserError(f"{where}: job {number} is {job.state}; only a waiting job can be changed")
        found = lookup(job.recipe)
        own = leaves(About)
        given, left = split_flags(argv, {**leaves(found.cls.Config), **own}, where)
        if left:
            raise UserError(f"{where}: unexpected {left[0]!r}")
        flags = {name: texts for name, texts in given.items() if name not in own}
        values: dict[str, Any] = {}
        if flags:
            if job.run:
                raise UserError(f"{where}: job {number} has begun as {job.run}; derive a new one with --from {job.run}")
            if job.sweep is not None:
                raise UserError(f"{where}: job {number} is a trial of a sweep, whose config is one for all")
            base = check(found.cls.Config, job.config, f"{where}: job {number}")
            values["config"] = build(found.cls.Config, flags, base, where).model_dump(mode="json")
        asked = {name: texts for name, texts in given.items() if name in own}
        about = _about(build(About, asked, None, where), machine)
        values |= {name: value for name, value in about.items() if name in asked}
        if not values:
            raise UserError(f"{where}: nothing to change; --priority, --after, --wants and config flags can be given")
        return tonight.change(job, **values)


def _queue(
    tonight: Tonight,
    job: Job,
    model: type[BaseModel],
    order: Order,
    space: Mapping[str, Mapping[str, Any]],
    once: str = "",
) -> list[Job]:
    """One job, its seeds, a grid, or the trials of a search."""
    if order.trials:
        sweep.needs_optuna(WHERE)
        if not space:
            raise UserError(f"{WHERE}: --trials needs a flag to search over, such as --lr 'log(1e-4,1e-2)'")
        if order.seeds:
            raise UserError(f"{WHERE}: --trials and --seeds do not go together; search first, then seeds of the best")
        if not job.goal:
            raise UserError(f"{WHERE}: {job.recipe} has no goal to search by")
        return tonight.add([job] * order.trials, space, seed=int(job.config.get("seed", 0)), once=once)
    open_ended = next((name for name, part in space.items() if part["kind"] != "one"), None)
    if open_ended:
        raise UserError(f"{WHERE}: --{open_ended.replace('_', '-')} is a range: say how many to try, with --trials 8")
    jobs = []
    for values in sweep.grid(space) if space else [{}]:
        for seed in range(max(1, order.seeds)):
            config = sweep.placed(job.config, values)
            config["seed"] = int(config["seed"]) + seed
            # A pair of values may be refused where each alone is not.
            jobs.append(replace(job, config=check(model, config, WHERE).model_dump(mode="json")))
    if len(jobs) > 10000:
        raise UserError(f"{WHERE}: that is {len(jobs)} jobs; at most 10000 can be added at once")
    return tonight.add(jobs, once=once)


def _parent(lab: Lab, words: Sequence[str]) -> Run | None:
    given, _ = split_flags(words, {"parent": Order.model_fields["parent"]}, WHERE, rest=True)
    texts = given.get("parent", [])
    if len(texts) > 1:
        raise UserError(f"{WHERE}: --from is given twice: {texts[0]!r} and {texts[1]!r}")
    return Run.find(lab, texts[0]) if texts else None


def _base(found: Found, parent: Run | None) -> tuple[Any, str]:
    """The config to start from, and the preset that it goes by."""
    if parent is None:
        return found.config, found.preset
    if parent.info.recipe != found.name:
        raise UserError(f"{WHERE}: --from {parent.id} is a run of {parent.info.recipe}, not of {found.name}")
    if found.preset and found.preset != parent.info.preset:
        raise UserError(
            f"{WHERE}: --from {parent.id} brings its own config; name {found.name} without the preset {found.preset!r}"
        )
    return check(found.cls.Config, parent.info.config, f"{WHERE}: --from {parent.id}"), parent.info.preset


def _about(about: About, machine: Machine | None) -> dict[str, Any]:
    """A job's fields from their texts."""
    if machine is None:
        from daybreak.lab.engines.local import machine as this_machine

        machine = this_machine()
    wants = Wants.parse(about.wants)
    if lacks := machine.lacks(wants):
        raise UserError(f"wants: it can never run here: {lacks}")
    after = []
    for part in filter(None, (p.strip() for p in about.after.split(",") if p.strip() != "none")):
        if not part.isdigit():
            raise UserError(f"after: {part!r} is not a job's number; tonight ls shows them")
        after.append(int(part))
    moment = about.not_before if about.not_before != "none" else ""
    return {
        "name": about.name,
        "owner": about.owner,
        "second": about.second,
        "priority": about.priority,
        "after": tuple(after),
        "wants": wants,
        "not_before": parse_moment(moment, time.time()) if moment else None,
    }


def _goal(found: Found) -> dict[str, str]:
    goal = getattr(found.cls, "goal", None)
    return {"name": goal.name, "better": goal.better, "unit": goal.unit} if goal else {}


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def changes(lab: Lab, job: Job) -> dict[str, Any]:
    """What a job changes against its parent or its preset: dotted name -> value, or the range it is to come from."""
    old, new = flat(job.base), flat(job.config)
    found = {name: value for name, value in new.items() if old.get(name) != value} if job.base else {}
    if job.sweep is not None and not job.run:
        with Tonight(lab) as tonight:
            found |= {name: sweep.words(part) for name, part in tonight.space(job)[0].items()}
    return found


def listed(lab: Lab, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Jobs as rows for people and programs. A run's folder is asked before the queue is believed."""
    rows = []
    for job in jobs:
        state: str = job.state
        why = job.reason
        if job.run:
            try:
                found = Run(lab.runs / job.run).state()
                if found.word == "finished" or (job.state == "waiting" and found.word == "running"):
                    state, why = found.word, found.text
            except UserError:
                why = f"{job.run} was removed"
        if state == "waiting" and not why and job.after:
            why = f"after job {', '.join(map(str, job.after))}"
        if state == "waiting" and not why and job.not_before is not None and job.not_before > time.time():
            why = f"not before {words(job.not_before)}"
        rows.append(
            {
                "job": job.id, "what": job.title, "changes": changes(lab, job), "state": state, "run": job.run,
                "priority": job.priority, "why": why, "owner": job.owner, "second": job.second, "name": job.name,
                "from": job.parent, "after": list(job.after), "wants": str(job.wants), "not_before": job.not_before,
                "tries": job.tries, "failures": job.failures, "sweep": job.sweep, "trial": job.trial,
                "config": dict(job.config), "snapshot": job.snapshot,
            }
        )  # fmt: skip
    return rows
