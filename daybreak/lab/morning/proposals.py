"""What the team is asked to decide: commands with a short id made from their content, and carrying them out once.

A proposal is the words of a command, so that whoever distrusts the button can type it. It is decided in
daily/<date>/decisions.jsonl: a line when it begins and one when it is done, so that a crash between the two is seen.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from daybreak.errors import UserError, nearest
from daybreak.lab.home import Lab, sync_folder
from daybreak.lab.run import Run, read

MOST = 8
"""Proposals on a page: more is a list, not a decision."""
MOST_RERUNS = 3
"""Reruns of what failed; the others stand beside their findings."""
SHORTEST = 3


def propose(lab: Lab, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the night asks to be decided, the most important first."""
    found: list[dict[str, Any]] = []
    rows = {row["id"]: row for row in data["runs"]}
    registered = _registered(lab)
    earlier = {run for group in data["groups"] if group["earlier"] for run in group["runs"]}
    leaders = [rows[group["runs"][0]] for group in data["groups"] if group["runs"]]
    for row in leaders:
        passed = next((f for f in row["findings"] if f["kind"] == "gate"), None)
        if (
            row["id"] not in registered
            and row["state"] == "finished"
            and (row["leading"] or (passed and not row["failed"]))
        ):
            than = "the best so far" if row["id"] in earlier else "the first run of the night"
            why = passed["text"] if passed else f"better than {than}; its gates are read on the test items then"
            found.append(_proposal("register", f"register {row['title']}", ("registry", "add", row["id"]), why))
    failed = 0
    for row in data["runs"]:
        # That a loss ran away says more than that it ended as no number.
        for finding in sorted(row["findings"], key=lambda found: found["kind"] == "non-finite"):
            if finding["weight"] == "alarm" and finding["next"] and failed < MOST_RERUNS:
                failed += tuple(finding["next"]) not in {tuple(p["argv"]) for p in found}
                text = f"rerun {row['title']} with {_flags(finding['next'])}"
                found.append(_proposal("queue", text, finding["next"], finding["text"]))
    for row in leaders:
        if row["leading"] and row["state"] == "finished" and "seed" in dict(row["config"]):
            spec = row["title"].rpartition("#")[0]
            argv = ("tonight", "add", spec, "--from", str(row["number"]), "--seeds", "3")
            found.append(_proposal("queue", f"three seeds of {row['title']} before we believe it", argv, "one seed"))
    for told in data["standing"]["decide"]:
        who, what = str(told["id"]), told["run_title"] or told["run"]
        text = f"let {what} take over as {told['model']}@production"
        found.append(_proposal("promote", text, ("standing", "promote", who), told["said"]))
        text = f"keep {told['model']}@production, and not {what}"
        found.append(_proposal("keep", text, ("standing", "keep", who), told["said"]))
    found += _promotions(lab, rows)
    found += _drops(data, rows)
    for row in data["runs"]:
        for finding in row["findings"]:
            if finding["weight"] == "warn" and finding["next"]:
                text = f"try {row['title']} with {_flags(finding['next'])}"
                found.append(_proposal("queue", text, finding["next"], finding["text"]))
    unique = list({tuple(proposal["argv"]): proposal for proposal in reversed(found)}.values())[::-1]
    unique.sort(key=found.index)
    decided = decisions(lab)
    _name(unique)
    for proposal in unique:
        before = decided.get(proposal["digest"])
        proposal["state"] = "done" if before and before["state"] == "done" else "open"
        proposal["command"] = f"daybreak decide {proposal['id']}"
    return unique[:MOST]


def decide(lab: Lab, ids: Sequence[str], by: str = "") -> list[dict[str, Any]]:
    """Carry out proposals by their ids. What was decided before is not done again.

    Returns:
        A line each: id, text, state ("done" or "done before"), result.

    Raises:
        UserError: an id that no page knows, or what the command behind it says; those before it are done.
    """
    known = _known(lab)
    missing = [name for name in ids if name.lower() not in known]
    if missing:
        raise UserError(f"no morning proposed {missing[0]!r}; {nearest(missing[0], known)}")
    told = []
    with _deciding(lab):
        for name in dict.fromkeys(name.lower() for name in ids):
            day, proposal = known[name]
            before = decisions(lab).get(proposal["digest"])
            if before and before["state"] == "done":
                told.append(_told(proposal, "done before", str(before.get("result", ""))))
                continue
            began = float(before["time"]) if before else None
            if began is None:
                _record(lab, day, proposal, "begun", "", by)
            result = _done_already(lab, proposal, began) or _carry_out(lab, proposal, by)
            _record(lab, day, proposal, "done", result, by)
            told.append(_told(proposal, "done", result))
    return told


def decisions(lab: Lab) -> dict[str, dict[str, Any]]:
    """The last line about each proposal, by its digest, over all mornings."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(lab.daily.glob("*/decisions.jsonl")):
        for line in read(path):
            held = found.get(line["digest"])
            if held is None or held["state"] != "done":
                found[line["digest"]] = line
    return found


def digest_of(argv: Sequence[str]) -> str:
    """The content of a proposal, in hexadecimal: its id is the beginning of this."""
    return hashlib.sha256(json.dumps(list(argv)).encode()).hexdigest()


def _proposal(action: str, text: str, argv: Sequence[str], why: str) -> dict[str, Any]:
    return {"action": action, "text": text, "argv": list(argv), "why": why, "digest": digest_of(argv)}


def _name(proposals: Sequence[dict[str, Any]]) -> None:
    """Ids: the shortest beginnings of the digests, three letters or more, that differ from each other."""
    for proposal in proposals:
        others = [other["digest"] for other in proposals if other is not proposal]
        size = SHORTEST
        while any(other.startswith(proposal["digest"][:size]) for other in others):
            size += 1
        proposal["id"] = proposal["digest"][:size]


def _flags(argv: Sequence[str]) -> str:
    """The part of a queue's command that is new: "lr 3e-4"."""
    words = list(argv)[3:]
    if "--from" in words:
        place = words.index("--from")
        del words[place : place + 2]
    text = " ".join(words)
    return re.sub(r"(^|\s)--", r"\1", text) or "the same settings"


def _promotions(lab: Lab, rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Registered versions made from the night's runs that are newer than what is in production."""
    from daybreak.lab import registry

    found = []
    for model in registry.models(lab):
        newest = next(reversed(registry.versions(lab, model)), None)
        if newest is None or newest.record.get("run") not in rows or registry.PRODUCTION in newest.aliases:
            continue
        argv = ("registry", "promote", newest.title)
        text = f"promote {newest.title} to {registry.PRODUCTION}"
        found.append(_proposal("promote", text, argv, "registered, and not yet in use"))
    return found


def _registered(lab: Lab) -> set[str]:
    """Runs that are in the registry."""
    from daybreak.lab import registry

    return {str(v.record.get("run")) for model in registry.models(lab) for v in registry.versions(lab, model)}


def _drops(data: Mapping[str, Any], rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Waiting jobs that derive from a run that diverged, and change nothing that its findings say to change."""
    found = []
    for job in data["tonight"]["jobs"]:
        row = rows.get(job["parent"])
        if row is None or not row["failed"] or job["state"] != "waiting":
            continue
        advice = {word[2:] for f in row["findings"] for word in f["next"] or () if word.startswith("--")}
        if advice & {part.split(" ")[0] for part in job["change"].split(", ")}:
            continue
        text = f"drop job {job['id']}: it derives from {row['title']}, which {row['state']}"
        found.append(_proposal("drop", text, ("tonight", "rm", str(job["id"])), row["state_text"]))
    return found


def _known(lab: Lab) -> dict[str, tuple[str, dict[str, Any]]]:
    """Every proposal by id, with the date of its page; the newest page wins where two ids are alike."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for path in sorted(lab.daily.glob("*/data.json")):
        try:
            proposals = json.loads(path.read_text())["proposals"]
        except (OSError, ValueError, KeyError):
            continue
        found |= {proposal["id"]: (path.parent.name, proposal) for proposal in proposals}
    return found


def _carry_out(lab: Lab, proposal: Mapping[str, Any], by: str) -> str:
    """Do it, through the same functions as the command line. Returns what came of it, in words."""
    argv = list(proposal["argv"])
    match argv[:2]:
        case ["tonight", "add"]:
            from daybreak.lab.night.add import add

            jobs = add(lab, argv[2:])
            return f"queued as {', '.join(f'job {job.id}' for job in jobs)}"
        case ["tonight", "rm"]:
            from daybreak.lab.night.queue import Tonight

            with Tonight(lab) as queue:
                return f"took job {queue.remove(int(argv[2])).id} out of the queue"
        case ["registry", "add"]:
            from daybreak.lab import registry

            return f"registered as {registry.add(lab, Run.find(lab, argv[2]), by=by or _me()).title}"
        case ["registry", "promote"]:
            from daybreak.lab import registry

            return f"{registry.promote(lab, argv[2], by=by or _me()).title} is in {registry.PRODUCTION}"
        case ["standing", "promote" | "keep" as word]:
            from daybreak.lab.ship.standing import check

            return (check.promote if word == "promote" else check.keep)(lab, int(argv[2]), by or _me())
    raise UserError(f"{proposal['id']} asks for {' '.join(argv)!r}, which decide cannot do; run it as a command")


def _done_already(lab: Lab, proposal: Mapping[str, Any], began: float | None) -> str:
    """What an attempt that was cut off had done: jobs queued since it began that this proposal would queue.

    Registering and promoting are idempotent of themselves, and a job taken out twice is found out here.
    """
    if began is None:
        return ""
    argv = list(proposal["argv"])
    from daybreak.lab.night.queue import Tonight

    if argv[:2] == ["tonight", "add"] and "--from" in argv:
        parent = Run.find(lab, argv[argv.index("--from") + 1]).id
        with Tonight(lab) as queue:
            jobs = [job.id for job in queue.jobs() if job.created >= began and job.parent == parent]
        return f"queued as {', '.join(f'job {job}' for job in jobs)}" if jobs else ""
    if argv[:2] == ["tonight", "rm"]:
        with Tonight(lab) as queue:
            if int(argv[2]) not in {job.id for job in queue.jobs()}:
                return f"took job {argv[2]} out of the queue"
    return ""


def _record(lab: Lab, day: str, proposal: Mapping[str, Any], state: str, result: str, by: str) -> None:
    path = lab.daily / day / "decisions.jsonl"
    line = {
        "time": time.time(), "id": proposal["id"], "digest": proposal["digest"], "state": state, "by": by or _me(),
        "text": proposal["text"], "argv": proposal["argv"], "result": result,
    }  # fmt: skip
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


@contextmanager
def _deciding(lab: Lab) -> Iterator[None]:
    """Two people who decide at once wait for each other."""
    with open(lab.daily / ".deciding", "a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _told(proposal: Mapping[str, Any], state: str, result: str) -> dict[str, Any]:
    return {"id": proposal["id"], "text": proposal["text"], "state": state, "result": result}


def _me() -> str:
    name: Callable[[], str] = getpass.getuser
    try:
        return name()
    except (KeyError, OSError):
        return ""
