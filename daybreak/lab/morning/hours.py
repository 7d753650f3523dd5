"""Where the night's hours went, worker by worker, and what of tonight's queue fits before its end.

It knows stretches of time and the queue. It knows nothing about scores or pages. Times are epoch seconds.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

from daybreak.lab.home import Lab
from daybreak.lab.morning.figures import setting
from daybreak.lab.morning.story import Segment, Story, clock

PARTS = ("training", "data wait", "evaluation", "starting", "crashed", "idle")
"""What an hour may have been spent on. "evaluation" has saving in it; "crashed" is work that was lost."""


def lost(stories: Sequence[Story], start: float, stop: float) -> dict[str, Any]:
    """Where the hours went. Runs that overlap were on different workers: each worker is a lane that they are laid into.

    The night's span is from the first run's start to the last one's end.
    """
    whole = sorted((s for story in stories for s in story.segments), key=lambda s: (s.start, s.stop))
    segments = [cut for segment in whole if (cut := _cut(segment, start, stop)) is not None]
    if not segments:
        return {"from": None, "to": None, "workers": [], "totals": {}}
    first, last = segments[0].start, max(s.stop for s in segments)
    lanes: list[list[Segment]] = []
    for segment in segments:
        # A worker's next run starts some instants before its last line of the one before is on the disk.
        free = next((lane for lane in lanes if lane[-1].stop <= segment.start + 1), None)
        if free is None:
            lanes.append([segment])
        else:
            free.append(segment)
    workers: list[dict[str, Any]] = []
    for number, lane in enumerate(lanes, 1):
        parts: dict[str, float] = {name: sum(s.parts.get(name, 0.0) for s in lane) for name in PARTS[:-1]}
        parts["idle"] = max(0.0, last - first - sum(parts.values()))
        workers.append({"name": f"worker {number}", "parts": parts})
    totals = {name: sum(w["parts"][name] for w in workers) for name in PARTS}
    return {"from": first, "to": last, "workers": workers, "totals": totals}


def _cut(segment: Segment, start: float, stop: float) -> Segment | None:
    """The share of a stretch that lies between two moments."""
    a, b = max(segment.start, start), min(segment.stop, stop)
    if b <= a:
        return None
    share = (b - a) / (segment.stop - segment.start)
    return Segment(a, b, {name: value * share for name, value in segment.parts.items()})


def tonight(lab: Lab, stories: Sequence[Story], now: float) -> dict[str, Any]:
    """What is queued, what fits before the night's end, what does not.

    The night is taken to be like the last one: its workers, its end's time of day; 18:00 to 09:30 and one worker
    where there was none. A job's time is that of the latest run of its recipe and preset, a step.
    """
    from daybreak.lab.night.clock import next_time
    from daybreak.lab.night.queue import Tonight

    empty: dict[str, Any] = {"jobs": [], "until": None, "until_text": "", "workers": 1, "running": False}
    if not (lab.root / "tonight.sqlite").exists():
        return empty
    with Tonight(lab) as queue:
        nights = queue.nights()
        jobs = [*queue.jobs("running"), *queue.jobs("waiting")]
        reasons = {job.id: queue.blocked(job) for job in jobs}
    last = nights[-1] if nights else {}
    running = bool(last) and last["ended"] is None and any(job.state == "running" for job in jobs)
    until = last.get("until")
    if until is None or until <= now:
        import time

        at = time.localtime(until) if until is not None else None
        until = next_time(at.tm_hour if at else 9, at.tm_min if at else 30, now)
    workers = max(1, int(last.get("workers") or 1))
    begin = now if running or not jobs else min(next_time(18, 0, now), until)
    if begin >= until:
        begin = now
    speed = _speeds(stories)
    done = {story.run.id: story.state.step for story in stories}
    lanes = [begin] * workers
    rows = []
    for job in jobs:
        seconds = _needs(job, speed, done.get(job.run, 0))
        row: dict[str, Any] = {
            "id": job.id, "title": job.title, "name": job.name, "owner": job.owner, "state": job.state,
            "parent": job.parent, "change": _change(lab, job), "needs_s": seconds, "starts": "", "fits": None,
            "why": reasons[job.id] or job.reason,
        }  # fmt: skip
        if seconds is not None:
            start = max(heapq.heappop(lanes), job.not_before or 0.0)
            heapq.heappush(lanes, start + seconds)
            row["fits"] = start + seconds <= until
            row["starts"] = clock(start)
        rows.append(row)
    return {"jobs": rows, "until": until, "until_text": clock(until), "workers": workers, "running": running}


def _speeds(stories: Sequence[Story]) -> dict[tuple[str, str], float]:
    """Seconds a step, all included, of the latest run of each recipe and preset."""
    found: dict[tuple[str, str], float] = {}
    for story in sorted(stories, key=lambda s: s.ended or 0.0):
        steps = sum(int(w.get("steps") or 0) for w in story.windows)
        cost = story.cost()
        if steps and cost:
            found[story.run.info.recipe, story.run.info.preset] = cost / steps
    return found


def _needs(job: Any, speed: dict[tuple[str, str], float], done: int) -> float | None:
    """Seconds that a job will take, of which so many steps are done; None where nothing like it ran."""
    if job.config.get("minutes"):
        return 60.0 * float(job.config["minutes"])
    rate = speed.get((job.recipe, job.preset))
    steps = job.config.get("steps")
    if job.config.get("budget") or rate is None or not isinstance(steps, int) or not math.isfinite(rate):
        return None
    return rate * max(0, steps - done)


def _change(lab: Lab, job: Any) -> str:
    """What it changes against its parent or its preset, in words."""
    from daybreak.lab.night.add import changes

    return ", ".join(f"{name} {setting(value)}" for name, value in changes(lab, job).items())
