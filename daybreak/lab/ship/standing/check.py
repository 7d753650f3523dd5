"""What the night does with standing orders: judge what ended, look at each order, queue what is due.

Nothing is queued twice for one cause, whenever a process dies. Every look says why or why not, in a line. It joins the
other files of this room and owns none of their knowledge.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from daybreak.errors import UserError, nearest
from daybreak.lab import lock, registry
from daybreak.lab.home import Lab
from daybreak.lab.lake import Lake, Snapshot
from daybreak.lab.lake.store import query
from daybreak.lab.night.queue import Tonight
from daybreak.lab.registry import PRODUCTION
from daybreak.lab.run import Run
from daybreak.lab.ship.standing import challenge, drift, reference
from daybreak.lab.ship.standing.orders import OPEN, Order, Retraining, Standing, When, path_of
from daybreak.lab.ship.standing.served import forget, served, today

WEEK = 7 * 86400.0


def give(lab: Lab, spec: str, when: str, promote: str = "rule", model: str = "", owner: str = "") -> Order:
    """Give a standing order.

    Args:
        lab: the lab's folder.
        spec: the recipe, as in "music" or "music:compose".
        when: "new-items>=N", "drift" or "weekly".
        promote: "rule": a challenger whose interval says that it is better takes production; "ask": a person decides.
        model: the registered model, where several in production were made by this recipe.
        owner: who looks after it.

    Raises:
        UserError: an unknown recipe or condition, nothing in production to retrain, or the same order stands already.
    """
    from daybreak.lab.config import lookup

    asked = When.parse(when)
    found = lookup(spec)
    made: dict[str, list[registry.Version]] = {}
    for name in registry.models(lab):
        for version in registry.versions(lab, name):
            if version.record.get("recipe") == found.name:
                made.setdefault(name, []).append(version)
    standing = {name: v for name, held in made.items() for v in held if PRODUCTION in v.aliases}
    if not made:
        raise UserError(f"no model of {found.name} is registered; train one, and: daybreak registry add RUN")
    if model and model not in standing:
        raise UserError(f"{model!r} is no model of {found.name} in production; {nearest(model, standing)}")
    if not standing:
        newest = next(iter(made.values()))[-1]
        raise UserError(f"nothing of {found.name} is in production; daybreak registry promote {newest.title} first")
    if len(standing) > 1 and not model:
        raise UserError(f"{found.name} has {len(standing)} models in production; --model one of {', '.join(standing)}")
    model = model or next(iter(standing))
    version, run = challenge.champion(lab, model, found.name)
    if found.preset and found.preset != version.record.get("preset"):
        raise UserError(
            f"an order retrains what is in production, and {version.title} is {run.title}, not {spec}; "
            f"name {found.name}"
        )
    if asked.kind == "new-items" and not run.info.snapshot:
        raise UserError(f"{found.name} learns from no items of the lake; --when weekly or drift can be waited for")
    with Standing(lab) as orders:
        return orders.add(found.name, model, asked, promote, owner)


def check(lab: Lab, now: float | None = None) -> list[dict[str, Any]]:
    """Judge, look and queue; a row an order: order, due, said, job. What the night does at its start.

    Raises `UserError` where another process is at it.
    """
    if not path_of(lab).exists():
        return []
    now = time.time() if now is None else now
    rows = []
    with lock.hold(lab.root / "standing.lock", "the check of standing orders"), Standing(lab) as standing:
        orders = {order.id: order for order in standing.orders()}
        for retraining in standing.retrainings():
            _settle(lab, standing, standing.order(retraining.order), retraining, now)
        for order in orders.values():
            try:
                look = Look(lab, standing, order, now)
                due, said = look.due, look.said
                found = look.found
            except UserError as error:
                due, said, found, look = False, str(error), (), None
            job = None
            if look is not None and due:
                said, job = look.queue()
            standing.looked(order, now, due, said, [shift.plain() for shift in found])
            rows.append({"order": order.id, "recipe": order.recipe, "when": str(order.when), "due": due, "said": said,
                         "job": job})  # fmt: skip
    return rows


class Look:
    """One order, looked at once: whether it is due, why, and under which cause."""

    def __init__(self, lab: Lab, standing: Standing, order: Order, now: float) -> None:
        self.lab, self.standing, self.order, self.now = lab, standing, order, now
        self.version, self.run = challenge.champion(lab, order.model, order.recipe)
        self.mine = standing.retrainings(order.id)
        self.others = _of_model(standing, order.model)
        self.due, self.said, self.cause = False, "", ""
        self.found: tuple[drift.Shift, ...] = ()
        at_work = [r for r in self.mine if r.state in OPEN]
        if at_work:
            self.said = f"waits for its retraining {at_work[-1].id}: {_progress(at_work[-1])}"
            return
        {"new-items": self._new_items, "weekly": self._weekly, "drift": self._drift}[order.when.kind]()

    def _new_items(self) -> None:
        seen = {r.snapshot for r in self.others if r.snapshot and r.champion == self.run.id} | {self.run.info.snapshot}
        count = unseen(self.lab, Snapshot.open(self.lab, self.run.info.snapshot), seen)
        since = f"since the snapshot of {self.version.title}" + (" and its retrainings" if len(seen) > 1 else "")
        self.said = f"{count:,} of {self.order.when.least:,} new items {since}"
        self.due = count >= self.order.when.least
        self.cause = f"new items to {' '.join(sorted(seen))}"

    def _weekly(self) -> None:
        last = max((r.created for r in self.mine), default=None)
        begun = datetime.fromisoformat(self.run.info.created).timestamp() if last is None else last
        what = f"the run behind {self.version.title} was made" if last is None else "its last retraining was queued"
        days = (self.now - begun) / 86400
        self.due = self.now - begun >= WEEK
        self.said = f"{days:.1f} days since {what}"
        self.cause = f"a week after {self.mine[-1].id if self.mine else self.run.id}"

    def _drift(self) -> None:
        title, day = self.version.title, today(self.now)
        forget(self.lab, title, day)
        broken: list[str] = []
        days = reference.whole_week(self.lab, title, day - timedelta(days=1), broken)
        apart = f"; {len(broken)} files could not be read, {broken[0]} the first" if broken else ""
        visits = sum(counts.visits for actions in days for counts in actions.values())
        if not days and not served(self.lab, title):
            self.said = (
                f"nothing is recorded of {title}{apart}: daybreak serve {self.order.model} records what is asked"
            )
            return
        if visits < drift.FEWEST_VISITS or len(days) < drift.FEWEST_DAYS:
            self.said = (
                f"{visits:.0f} visits on {len(days)} of the last 7 whole days; a test needs {drift.FEWEST_VISITS} "
                f"on {drift.FEWEST_DAYS}{apart}"
            )
            return
        first = reference.first_weeks(self.lab, title, day)
        # Days that are held against themselves prove nothing.
        apart_from = first and first[-1][0] < day - timedelta(days=7)
        sides = {
            "snapshot": [reference.of_snapshot(self.lab, self.version, self.run)],
            "first weeks": [actions for _, actions in first] if apart_from else [],
        }
        shifts = drift.test(days, sides)
        self.found = tuple(shift for shift in shifts if shift.drifted)
        if not shifts:
            self.said = (
                f"{visits:.0f} visits in a week, and nothing to hold them against before {title} served three weeks"
            )
            return
        if not self.found:
            self.said = (
                f"no drift shown in {len(shifts)} traits of {visits:.0f} visits in a week; the nearest: "
                f"{drift.sentence(shifts[0], len(shifts))}{apart}"
            )
            return
        many = f", and {len(self.found) - 1} more" if len(self.found) > 1 else ""
        self.said = f"drift in {drift.sentence(self.found[0], len(shifts))}{many}{apart}"
        self.due, self.cause = True, f"drift in {title} until {day - timedelta(days=1)}"
        if acted := [r for r in self.mine if r.champion == self.run.id and r.cause.startswith(f"drift in {title} ")]:
            until = datetime.fromisoformat(acted[-1].cause.rpartition(" ")[2]).date()
            # The same drift is no new cause: what is asked must have moved on since it was acted on.
            since = drift.test(days, {"week of then": reference.whole_week(self.lab, title, until)})
            if until >= day - timedelta(days=7) or not any(shift.drifted for shift in since):
                self.due = False
                self.said += f"; retraining {acted[-1].id} was made for it, and nothing moved since"

    def queue(self) -> tuple[str, int | None]:
        """Write the retraining and queue it. What was said, and the job."""
        snapshot = ""
        if self.run.info.snapshot:
            held = Snapshot.open(self.lab, self.run.info.snapshot)
            lake = Lake.open(self.lab)
            try:
                snapshot = lake.snapshot(held.system, **held.query).id
            finally:
                lake.close()
        argv = ["--from", self.run.id, "--name", f"{self.order.title}: {self.said}"[:200]]
        argv += ["--owner", self.order.owner] if self.order.owner else []
        argv += ["--snapshot", snapshot] if snapshot else []
        again = sum(r.champion == self.run.id and r.snapshot == snapshot for r in self.others)
        again += self.run.info.snapshot == snapshot
        why = self.said
        if again and "seed" in self.run.info.config:
            seed = int(self.run.info.config["seed"]) + again
            argv += ["--seed", str(seed)]
            why += f"; there is no item that it has not seen, so that it is seed {seed}: else it would be the same run"
        made = self.standing.cause(self.order, self.cause, why, self.run.id, snapshot, argv, self.now)
        if made is None:
            return f"{why}; it was queued for this before", None
        made = place(self.lab, self.standing, made)
        return (f"{why}; queued as job {made.job}" if made.job else f"{why}; not queued: {made.said}"), made.job


def place(lab: Lab, standing: Standing, retraining: Retraining) -> Retraining:
    """Queue a retraining that was written, once however often this is called."""
    from daybreak.lab.night.add import add

    try:
        jobs = add(lab, retraining.argv, once=retraining.key)
    except UserError as error:  # tried again at the next check
        return standing.set(retraining, said=str(error))
    if not jobs:
        return standing.set(retraining, state="failed", said="its job was taken out of the queue", ended=time.time())
    return standing.set(retraining, job=jobs[0].id, said="")


def unseen(lab: Lab, held: Snapshot, seen: set[str]) -> int:
    """How many current items fit a snapshot's query and stand in none of these snapshots."""
    clause, values = query(held.system, where=held.query["where"], source=held.query["source"],
                           licence=held.query["licence"])  # fmt: skip
    rows = held.lake.db.execute(f"SELECT id FROM items WHERE {clause}", values).fetchall()
    ids = np.array([int(row[0], 16) for row in rows], "u8")
    for name in sorted(seen):
        known = [chunk["id"].astype("u8") for chunk in Snapshot.open(lab, name).records()]
        ids = np.setdiff1d(ids, np.concatenate(known) if known else ids[:0])
    return len(ids)


def _settle(lab: Lab, standing: Standing, order: Order, retraining: Retraining, now: float) -> None:
    """Take a retraining as far as it goes by itself."""
    if retraining.state == "queued" and retraining.job is None:
        retraining = place(lab, standing, retraining)
    if retraining.state not in (*OPEN, "failed") or retraining.job is None:
        return
    with Tonight(lab) as queue:
        job = next((one for one in queue.jobs() if one.id == retraining.job), None)
    run = None
    if job is not None and job.run:
        try:
            run = Run(lab.runs / job.run)
        except UserError as error:
            return _fail(standing, retraining, str(error), now)
    if run is not None and run.state().word == "finished":
        judge(lab, standing, order, retraining, run, now)
    elif job is None:
        _fail(standing, retraining, "its job was taken out of the queue", now)
    elif job.state not in ("waiting", "running"):
        _fail(standing, retraining, f"job {job.id} {job.state}{': ' + job.reason if job.reason else ''}", now)


def _fail(standing: Standing, retraining: Retraining, said: str, now: float) -> None:
    if retraining.state != "failed":
        standing.set(retraining, state="failed", said=said, ended=now)


def judge(lab: Lab, standing: Standing, order: Order, retraining: Retraining, run: Run, now: float) -> None:
    """Compare a finished challenger with what is in production, and let it take over where the rule says so."""
    try:
        _, holder = challenge.champion(lab, order.model, order.recipe)
        if holder.id == run.id:  # a crash between taking over and writing it down, or a person was faster
            standing.set(retraining, state="promoted", run=run.id, ended=now)
            return
        interval, note = challenge.against(lab, run, holder)
    except UserError as error:
        standing.set(retraining, state="undecided", run=run.id, said=f"it cannot be compared: {error}", ended=now)
        return
    others = [r for r in _of_model(standing, order.model) if r.id != retraining.id and r.against == holder.id]
    earlier = [r.p for r in others if r.p is not None]
    won, said = challenge.verdict(interval, earlier, run.title, note)
    said = f"{said}; against {holder.title}"
    values: dict[str, Any] = {"run": run.id, "said": said, "p": interval.p, "against": holder.id}
    if not won or order.promote == "ask" or order.id not in {one.id for one in standing.orders()}:
        standing.set(retraining, state="undecided", ended=now, **values)
        return
    retraining = standing.set(retraining, state="compared", **values)
    try:
        version = challenge.take_over(lab, run, order.model, f"standing order {order.id}")
    except UserError as error:
        standing.set(retraining, state="refused", said=f"{said}; {error}", ended=now)
        return
    standing.set(retraining, state="promoted", said=f"{said}; {version.title} is in production", ended=now)


def promote(lab: Lab, number: int, by: str = "") -> str:
    """A person lets an undecided challenger take over; its gates are read all the same. In words, what came of it."""
    with Standing(lab) as standing:
        retraining = _waiting(standing, number)
        if retraining.state == "promoted":
            return f"{retraining.run} is in production already"
        order = standing.order(retraining.order)
        version = challenge.take_over(lab, Run.find(lab, retraining.run), order.model, by)
        standing.set(retraining, state="promoted", said=f"{retraining.said}; {by or 'somebody'} promoted it")
    return f"{version.title} is in production"


def keep(lab: Lab, number: int, by: str = "") -> str:
    """A person lets the champion stay. In words, what came of it."""
    with Standing(lab) as standing:
        retraining = _waiting(standing, number)
        order = standing.order(retraining.order)
        if retraining.state != "kept":
            if retraining.state == "promoted":
                raise UserError(
                    f"{retraining.run} is in production; daybreak registry rollback {order.model} undoes it"
                )
            standing.set(retraining, state="kept", said=f"{retraining.said}; {by or 'somebody'} kept the champion")
    return f"{order.model}@{PRODUCTION} stays as it is"


def _waiting(standing: Standing, number: int) -> Retraining:
    retraining = standing.retraining(number)
    if retraining.state not in ("undecided", "promoted", "kept"):
        raise UserError(f"retraining {number} is not to be decided: it is {retraining.state}, {_progress(retraining)}")
    return retraining


def _of_model(standing: Standing, model: str) -> list[Retraining]:
    """The retrainings of a model by any order, also by those that were taken away."""
    return [r for r in standing.retrainings() if standing.order(r.order).model == model]


def _progress(retraining: Retraining) -> str:
    return retraining.said or (f"job {retraining.job}" if retraining.job else "not yet in the queue")
