"""The night: works through the queue with a number of workers, until it is empty or the morning comes.

It starts, watches, stops and judges workers. What a run reached is read off its folder, so that a night that dies
loses nothing: the next one goes on where the folders stand. It knows nothing about training.
"""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from daybreak.errors import UserError
from daybreak.lab import lock
from daybreak.lab.engines import Engine, Handle
from daybreak.lab.home import Lab
from daybreak.lab.night import sweep
from daybreak.lab.night.clock import Clock, Deadline, next_time
from daybreak.lab.night.pulse import Pulse, needed, newest
from daybreak.lab.night.queue import Job, Tonight
from daybreak.lab.night.room import Share, share
from daybreak.lab.night.slot import Policy, Quiet, Report, Slot
from daybreak.lab.run import Run


class Night:
    """One night on one lab."""

    def __init__(
        self,
        lab: Lab,
        *,
        workers: int,
        until: float | None = None,
        forever: bool = False,
        policy: Policy | None = None,
        engine: Engine | None = None,
        clock: Clock | None = None,
        report: Report | None = None,
        morning: Callable[[Lab], None] | None = None,
        standing: Callable[[Lab], subprocess.Popen[bytes] | None] | None = None,
        morning_at: tuple[int, int] = (10, 0),
        free: Callable[[], int] | None = None,
    ) -> None:
        """`until` is in seconds since the epoch; `free` says how many bytes the lab's disk has."""
        if workers < 1:
            raise UserError(f"night: --workers takes a whole number >= 1, not {workers}")
        if engine is None:
            from daybreak.lab.engines.local import LocalEngine

            engine = LocalEngine()
        self.lab, self.workers, self.forever, self.engine = lab, workers, forever, engine
        self.policy, self.clock, self.report = policy or Policy(), clock or Clock(), report or Quiet()
        self.until, self.deadline = until, Deadline(self.clock, until)
        # A job that would be stopped while it starts is not started.
        self.least = 0.0 if until is None else min(5.0, 0.05 * self.deadline.left)
        self.threads = max(1, engine.machine.cores // workers)
        self.free = free or (lambda: shutil.disk_usage(lab.root).free)
        self.morning = morning or write_morning
        self.standing = standing or check_standing
        self.morning_at = morning_at
        self.slots: list[Slot] = []
        self.resting: dict[int, float] = {}
        self.ended: dict[str, int] = {}
        self.begun = 0
        """Workers started or adopted."""
        self.signals = 0
        self._told = 0
        self._seen: tuple[int, int] | None = None
        self._look_at = self._beat_at = self._show_at = 0.0
        self._orders: subprocess.Popen[bytes] | None = None
        self._orders_at = -math.inf
        self._refused: set[int] = set()

    def run(self) -> dict[str, int]:
        """Work until the queue is empty, the deadline, or a signal. Returns how many jobs ended in each state.

        Raises:
            UserError: another night has the lab, or its disk is full; nothing was started.
        """
        with lock.hold(self.lab.root / "night.lock", f"the night of {self.lab.root}"), Tonight(self.lab) as queue:
            self.queue = queue
            if (free := self.free()) < self.policy.floor:
                raise UserError(
                    f"night: the disk of {self.lab.root} has {free // 2**20} MiB free; "
                    f"a run needs {self.policy.floor // 2**20} MiB: make room or name another lab in DAYBREAK_LAB"
                )
            self.night = queue.begin_night(self.until, self.workers)
            self._morning_next = next_time(*self.morning_at, self.clock.wall())
            with self._signals():
                self._recover()
                self._loop()
            queue.end_night(self.night)
        return self.ended

    def _loop(self) -> None:
        while True:
            self._reap()
            now = self.clock.steady()
            if now >= self._beat_at:
                self._beat_at = now + self.policy.beat
                self._beat()
            if now >= self._show_at:
                self._show_at = now + 1.0
                self._show()
            self._press()
            if self.forever and self.clock.wall() >= self._morning_next:
                self._morning_next = next_time(*self.morning_at, self.clock.wall())
                self.report.say("the morning page is being written")
                self.morning(self.lab)
            closing = self.signals > 0 or self.deadline.left <= self.least
            if not closing:
                self._stand(now)
                self._fill()
            if not self.slots and (closing or (not self.forever and self._over())):
                return
            self.clock.sleep(self.policy.poll)

    # Starting.

    def _stand(self, now: float) -> None:
        """Have standing orders looked at, at the start, each hour, and when a run has finished; one look at a time."""
        if self._orders is not None:
            if self._orders.poll() is None:
                return
            if self._orders.returncode:
                self.report.say(f"standing orders could not be looked at: {self.lab.daily / 'standing.log'} says why")
            self._orders = None
        if now >= self._orders_at:
            self._orders_at = now + self.policy.orders
            self._orders = self.standing(self.lab)

    def _recover(self) -> None:
        """Take up what a night that died has left: living workers are adopted, the others' jobs wait again."""
        for job in list(self.queue.jobs("running")):
            run = handle = None
            if job.run:
                with suppress(UserError):
                    run = Run(self.lab.runs / job.run)
                    handle = self.engine.adopt(run)
            if run is not None and handle is not None:
                self.report.say(f"job {job.id} {run.title} still runs as process {handle.pid}: adopted")
                self._take(job, run, handle, Share(), adopted=True)
            else:
                self.queue.back(job)

    def _fill(self) -> None:
        """Start jobs while there are workers and jobs that fit."""
        while len(self.slots) < self.workers:
            now = self.clock.steady()
            version = self.queue.version()
            if version == self._seen and now < self._look_at:
                return
            found = self._choose()
            if found is None:
                self._seen, self._look_at = self.queue.version(), now + 1.0
                return
            self._start(*found)

    def _choose(self) -> tuple[Job, Share] | None:
        """The first job in order that can start now."""
        machine, taken = self.engine.machine, [slot.share for slot in self.slots]
        explained: list[tuple[Job, str]] = []
        chosen = None
        held_for: int | None = None
        for job in self.queue.waiting(self.clock.wall(), self.night):
            if self.resting.get(job.id, 0.0) > self.clock.steady():
                continue
            if held_for is not None and job.priority < held_for:
                break  # what waits for room is not overtaken by what matters less
            if why := self.queue.blocked(job) or machine.lacks(job.wants) or self._no_room_on_disk(job):
                explained.append((job, why))
                continue
            fits = share(machine, job.wants, taken)
            if fits is not None:
                chosen = job, fits
                break
            held_for = job.priority
        for job, why in explained:
            self.queue.explain(job, why)
        return chosen

    def _no_room_on_disk(self, job: Job) -> str:
        run = None
        if job.run:
            with suppress(UserError):
                run = Run(self.lab.runs / job.run)
        needs, free = needed(run, self.policy.floor, self.policy.copies), self.free()
        if free >= needs:
            return ""
        # In steps, so that the reason does not change with each byte.
        why = f"the disk has too little room: it needs {needs // 2**20} MiB and {free // 2**26 * 64} MiB are free"
        if job.id not in self._refused:
            self._refused.add(job.id)
            self.report.say(f"job {job.id} is not started: {why}")
            if run is not None:
                with suppress(OSError):
                    run.event("refused", reason=why)
        return why

    def _start(self, job: Job, fits: Share) -> None:
        claimed = self.queue.claim(job)
        if claimed is None:
            return
        try:
            run = self._made(claimed) or self._make(claimed)
            job = self.queue.get(job.id)
            word = run.state().word
            if word in ("finished", "pruned", "diverged"):
                self._end(job, run, word)
                return
            handle = self.engine.adopt(run) if word == "running" else None
            adopted = handle is not None
            handle = handle or self.engine.start(
                self.lab, run, deadline=self.deadline.epoch, threads=run.info.threads, gpus=fits.gpus
            )
        except UserError as error:
            self._end(claimed, None, "refused", str(error))
        except OSError as error:
            self.queue.back(claimed, f"cannot start: {error.strerror or error}", night=self.night)
            self.report.say(f"job {job.id} cannot start: {error}")
        else:
            self._take(job, run, handle, fits, adopted=adopted)
            self.report.say(f"job {job.id} {run.title} starts{f', try {job.tries}' if job.tries > 1 else ''}")

    def _take(self, job: Job, run: Run, handle: Handle, fits: Share, *, adopted: bool) -> None:
        self.begun += 1
        self.slots.append(Slot(job, run, handle, Pulse(run, self.clock), fits, newest(run), adopted))

    def _made(self, job: Job) -> Run | None:
        """The run that was made for a job. Raises `UserError` where its folder is gone or damaged."""
        if job.run:
            return Run(self.lab.runs / job.run)
        if job.tries <= 1:
            return None
        # A night may have died between making the run and recording it.
        key = self.queue.key(job)
        for path in self.lab.runs.glob("[0-9]*-*"):
            with suppress(UserError):
                if (run := Run(path)).info.job == key:
                    self.queue.has_run(job, run.id, run.info.config)
                    return run
        return None

    def _make(self, job: Job) -> Run:
        config = dict(job.config)
        if job.sweep is not None:
            space, seed = self.queue.space(job)
            others = [self._trial(other, space) for other in self.queue.siblings(job) if other.run]
            values = sweep.ask(space, others, job.goal["better"], seed * 10007 + job.trial)
            config = sweep.placed(config, values)
        parent = None
        if job.parent:
            with suppress(UserError):
                parent = Run(self.lab.runs / job.parent)
        run = Run.create(
            self.lab,
            recipe=job.recipe, config=_Held(config), preset=job.preset, parent=parent, snapshot=job.snapshot,
            name=job.name, owner=job.owner, second=job.second, job=self.queue.key(job),
            threads=job.wants.cpu or self.threads, goal=job.goal, clock=job.clock,
        )  # fmt: skip
        self.queue.has_run(job, run.id, config)
        return run

    # Watching.

    def _reap(self) -> None:
        """Judge the workers that have ended; kill those whose time to end has passed."""
        for slot in list(self.slots):
            code = slot.handle.poll()
            if code is not None:
                self.slots.remove(slot)
                self._settle(slot, code)
            elif self.clock.steady() >= slot.kill_at:
                slot.handle.kill()

    def _settle(self, slot: Slot, code: int) -> None:
        """Decide what a worker's end means for its job. The folder is asked first."""
        run, job = slot.run, slot.job
        try:
            state = run.state()
        except (OSError, ValueError) as error:
            return self._end(job, run, "refused", f"its folder cannot be read: {error}")
        if state.word == "finished" or (state.word in ("pruned", "diverged") and not slot.hung):
            return self._end(job, run, state.word, state.text if state.word == "diverged" else "")
        if slot.hung:
            return self._quarantine(slot, slot.hung)
        if state.word == "running" and (handle := self.engine.adopt(run)) is not None:
            return self._take(job, run, handle, slot.share, adopted=True)
        known = code if not slot.adopted else None
        if state.word == "refused" and known in (2, None):
            return self._end(job, run, "refused", state.text.partition(": ")[2])
        if state.word in ("deadline", "stopped") and known in (75, None):
            self.queue.back(job, state.text, night=self.night)
            return self.report.say(f"job {job.id} {run.title}: {state.text}; it goes on another night")
        if slot.asked:
            self.queue.back(job, "killed: it did not stop in time", night=self.night)
            return self.report.say(f"job {job.id} {run.title} was killed; it goes on from its checkpoint another night")
        self._fail(slot, code)

    def _fail(self, slot: Slot, code: int) -> None:
        """A worker died: try again, or give up."""
        job, run, policy = slot.job, slot.run, self.policy
        last = slot.pulse.said().splitlines()[-1:] or [""]
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        why = f"{how}{': ' + last[0][:300] if code > 0 and last[0] and not last[0].startswith('---') else ''}"
        if slot.adopted:
            why = "its worker died"
        job = self.queue.back(job, why, failed=True, barren=newest(run) <= slot.checkpoint)
        if job.barren >= policy.barren:
            return self._quarantine(slot, f"{job.barren} failures without a new checkpoint; the last: {why}")
        if job.failures >= policy.failures:
            return self._quarantine(slot, f"{job.failures} failures; the last: {why}")
        self.resting[job.id] = self.clock.steady() + policy.pause * 2 ** max(0, job.barren - 1)
        self.report.say(f"job {job.id} {run.title} failed: {why}; it is tried again")

    def _quarantine(self, slot: Slot, reason: str) -> None:
        with suppress(OSError):
            slot.run.event("quarantined", step=slot.run.state().step, reason=reason, traceback=slot.pulse.said())
        self._end(slot.job, slot.run, "quarantined", reason)

    def _end(self, job: Job, run: Run | None, word: Any, reason: str = "") -> None:
        self.queue.end(job, word, reason)
        if word == "finished":
            self._orders_at = -math.inf  # it may be a challenger
        self.ended[word] = self.ended.get(word, 0) + 1
        self.report.say(f"job {job.id} {run.title if run else job.title} {word}{': ' + reason if reason else ''}")

    def _beat(self) -> None:
        """Look at what the workers have written: silence, and trials without hope."""
        for slot in self.slots:
            scored = slot.pulse.look()
            if not slot.hung and (hung := slot.pulse.silent(self.policy.silence, self.policy.factor)):
                self.report.say(f"job {slot.job.id} {slot.run.title} hangs: {hung}")
                slot.hung, slot.kill_at = hung, self.clock.steady() + 5.0
                slot.handle.abort()
            if scored and slot.job.sweep is not None and not (slot.run.path / "prune").exists():
                self._judge(slot)

    def _judge(self, slot: Slot) -> None:
        """Ask a trial that falls behind the others of its sweep to stop at its next evaluation."""
        space, _ = self.queue.space(slot.job)
        others = [self._trial(job, space) for job in self.queue.siblings(slot.job) if job.run]
        trial = sweep.Trial(sweep.taken(slot.run.info.config, space), "running", slot.pulse.scores)
        if sweep.hopeless(space, trial, others, slot.job.goal["better"]):
            (slot.run.path / "prune").touch()
            self.report.say(f"job {slot.job.id} {slot.run.title} is behind its sweep and is asked to stop")

    def _trial(self, job: Job, space: Mapping[str, Any]) -> sweep.Trial:
        """What a trial reached, read off its run."""
        live = next((slot.pulse.scores for slot in self.slots if slot.job.id == job.id), None)
        scores = live
        if scores is None:
            with suppress(UserError):
                scores = Run(self.lab.runs / job.run).evaluated()
        word = {"waiting": "running", "diverged": "failed"}.get(job.state, job.state)
        return sweep.Trial(sweep.taken(job.config, space), word, scores or {})

    # Stopping.

    def _press(self) -> None:
        """Pass on what the deadline or a person asks, harder each time."""
        late = self.deadline.left < -self.policy.grace
        if self.signals > 1:
            self._leave()
        if self.signals > self._told or late:
            if self.signals > self._told:
                self._told = self.signals
                self.report.say("stopping: the workers save and stop; a second signal kills them")
            for slot in self.slots:
                if not slot.asked:
                    slot.asked, slot.kill_at = True, self.clock.steady() + self.policy.grace
                    slot.handle.terminate()

    def _leave(self) -> None:
        """Kill the workers and go."""
        for slot in self.slots:
            slot.asked = True
            slot.handle.kill()
        for _ in range(40):
            self._reap()
            if not self.slots:
                break
            self.clock.sleep(0.05)
        self.queue.end_night(self.night)
        self.report.say("killed; what was saved goes on another night")
        raise SystemExit(130)

    def _over(self) -> bool:
        """Whether nothing is left that could start before the deadline."""
        if self._orders is not None or self._orders_at == -math.inf:
            return False
        now = self.clock.wall()
        rested = {job for job, until in self.resting.items() if until > self.clock.steady()}
        if any(job.id in rested for job in self.queue.waiting(now, self.night)):
            return False
        later = self.queue.later(now, self.night)
        if later is not None and later - now < self.deadline.left:
            return False
        return self._choose() is None

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C stop the night; a terminal that closes does not."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.signals += 1

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # Telling.

    def _show(self) -> None:
        rows = []
        for slot in self.slots:
            step, loss, eta = slot.pulse.progress()
            rows.append(
                {
                    "job": slot.job.id, "run": slot.run.title, "name": slot.job.name, "step": step,
                    "steps": slot.run.planned(), "loss": loss, "eta": eta,
                }
            )  # fmt: skip
        self.report.show(rows, self.queue.counts().get("waiting", 0), self.deadline.left)


class _Held:
    """A config that was checked when its job was queued, as `Run.create` takes it."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        return self.values


def write_morning(lab: Lab) -> None:
    """Write the morning page in a process of its own, so that the night goes on meanwhile."""
    command = "import sys; from daybreak.lab.home import Lab; from daybreak.lab.morning import write_morning"
    command += "; write_morning(Lab.open(sys.argv[1]))"
    with open(lab.daily / "night.log", "ab") as log:
        subprocess.Popen(
            [sys.executable, "-c", command, str(lab.root)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def check_standing(lab: Lab) -> subprocess.Popen[bytes] | None:
    """Look at the standing orders in a process of its own, which may score a champion anew; None where none stands."""
    if not (lab.root / "standing.sqlite").exists():
        return None
    command = "import sys; from daybreak.lab.home import Lab; from daybreak.lab.ship.standing.check import check"
    command += "; [print(row['order'], row['said']) for row in check(Lab.open(sys.argv[1]))]"
    with open(lab.daily / "standing.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", command, str(lab.root)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
