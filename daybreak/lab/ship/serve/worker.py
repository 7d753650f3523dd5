"""One thread a model: a bounded queue before it, batches where the model says so, streams one event at a time.

A job is bytes in, bytes out: reading, the action and writing happen in the thread, so that connections are never kept
waiting. A stream is pulled by its reader: between two of its events others get their turn. It knows actions; it knows
nothing about HTTP beyond statuses.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from daybreak.errors import UserError
from daybreak.lab.model import Action
from daybreak.lab.ship.named import Loaded, Named
from daybreak.lab.ship.serve.wire import Refused, Wire, refused


class Stopped(BaseException):
    """Raised inside an action whose answer nobody waits for any more. No action catches it by accident."""


@dataclass(eq=False)
class Stream:
    """An iterator of answers that was begun, and the model that answers it to its end."""

    events: Iterator[Any]
    loaded: Loaded


@dataclass(frozen=True)
class Answer:
    """What a job came to."""

    title: str
    """The version that answered."""
    body: bytes
    """An answer, or an event of a stream; empty at a stream's end."""
    stream: Stream | None = None
    seconds: float = 0.0
    """From when the action's turn came."""


@dataclass(eq=False)
class Job:
    """A request that waits for its turn, or for the next event of its stream."""

    wire: Wire
    body: bytes
    kind: str
    """The body's Content-Type."""
    done: asyncio.Future[Answer]
    stream: Stream | None = None
    closing: bool = False
    """The reader of the stream went away: end it."""
    cancelled: bool = False
    client: str = ""
    """Who asks, to tell visits apart while they last."""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)


class Worker:
    """The thread of one model, and the places in its queue.

    A place is taken before a body is read and given back when the answer was sent, so that it also bounds memory.
    """

    def __init__(self, named: Named, places: int = 64, batched: Callable[[int], None] | None = None) -> None:
        self.named = named
        self.places = places
        self.taken = 0
        """Places taken: read, waiting, running or being sent."""
        self.tell: Callable[[str], None] = lambda line: None
        self.seen: Callable[[str, str, Action, Any, Mapping[str, Any]], None] = lambda *asked: None
        """Told of each request that fits its types: client, version, action, request, limits of the weights."""
        self._batched = batched or (lambda count: None)
        self._queue: deque[Job] = deque()
        self._there = threading.Condition()
        self._running: tuple[Job, ...] = ()
        self._ended = self._stopping = False
        """Of what runs: whether its work is over, and whether it is being stopped."""
        self._since = 0.0
        self._mean = 0.05
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"model {named.slug}", daemon=True)
        self._thread.start()

    # Called by the event loop.

    def take(self) -> None:
        """Take a place, or raise `Refused` with the seconds after which there may be one."""
        if self.taken >= self.places:
            wait = min(60, max(1, math.ceil(self._mean * self.taken)))
            raise Refused(503, f"{self.named.slug} has {self.taken} requests waiting; try again", Retry_After=str(wait))
        self.taken += 1

    def give_back(self) -> None:
        """The place is free again."""
        self.taken -= 1

    async def ask(
        self, wire: Wire, body: bytes, kind: str, most: float, stream: Stream | None = None, client: str = ""
    ) -> Answer:
        """The answer of an action, or the next event of a stream. A cancelled caller cancels the job.

        Raises `Refused`: 422 where the body does not fit, 409 where the action says no or takes longer than `most`
        seconds, 503 where its turn does not come within them, 500 where it fails.
        """
        job = Job(wire, body, kind, asyncio.get_running_loop().create_future(), stream, client=client)
        with self._there:
            self._queue.append(job)
            self._there.notify()
        began = time.monotonic()
        try:
            while True:
                since = self._since if job in self._running else None
                left = most - (time.monotonic() - (since or began))
                if left <= 0:
                    break
                await asyncio.wait({job.done}, timeout=left)
                if job.done.done():
                    return job.done.result()
            if since is None:
                raise Refused(503, f"{self.named.slug} is busy: no turn within {most:g} s", Retry_After="5")
            raise Refused(409, f"{wire.action.name} took longer than {most:g} s; ask for less")
        finally:
            if not job.done.done():
                self._cancel(job)
            elif not job.done.cancelled():
                job.done.exception()  # seen: nobody may have waited for it

    def end(self, wire: Wire, stream: Stream) -> None:
        """Close a stream whose reader went away. Its generator's `finally` runs in the thread."""
        job = Job(wire, b"", "", asyncio.get_running_loop().create_future(), stream, closing=True)
        with self._there:
            self._queue.append(job)
            self._there.notify()

    def close(self) -> None:
        """Let the thread end after what it does now."""
        with self._there:
            self._closed = True
            self._there.notify()

    @property
    def alive(self) -> bool:
        """Whether the thread is there."""
        return self._thread.is_alive()

    @property
    def busy(self) -> float:
        """Seconds since what runs now had its turn; 0 where nothing runs."""
        return time.monotonic() - self._since if self._running else 0.0

    @property
    def waiting(self) -> int:
        """Jobs that wait for their turn."""
        return len(self._queue)

    def _cancel(self, job: Job) -> None:
        """Take a job out of the queue, or stop the action where all that it answers were cancelled."""
        with self._there:
            job.cancelled = True
            if job in self._queue:
                self._queue.remove(job)
            elif job in self._running and all(one.cancelled for one in self._running):
                # Each side says what it does and then looks at the other (Peterson 1981): either the work is seen to
                # be over and nothing is raised, or the thread sees that it must wait for what is raised. Raised while
                # the thread takes the lock, it would leave it locked for ever.
                self._stopping = True
                if self._ended:
                    self._stopping = False
                else:
                    ident = ctypes.c_ulong(self._thread.ident or 0)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Stopped))

    # The thread.

    def _run(self) -> None:
        while not self._closed:
            self._turn()

    def _turn(self) -> None:
        with self._there:
            self._running = ()
            while not self._queue:
                if self._closed:
                    return
                self._there.wait()
            jobs = self._pick()
            self._since = time.monotonic()
            self._ended = self._stopping = False
            self._running = jobs
        try:
            self._work(jobs)
            self._ended = True
            while self._stopping:
                time.sleep(0)
        except Stopped:
            self._ended = True
        with self._there:
            self._running = ()
        took = time.monotonic() - self._since
        self._mean += 0.1 * (took / len(jobs) - self._mean)

    def _pick(self) -> tuple[Job, ...]:
        """The first job, with those of the same action behind it that may be answered together."""
        first = self._queue.popleft()
        if first.wire.action.batch == 1:
            return (first,)
        jobs = [first]
        for job in list(self._queue):
            if len(jobs) == first.wire.action.batch:
                break
            if job.wire is first.wire:
                jobs.append(job)
                self._queue.remove(job)
        return tuple(jobs)

    def _work(self, jobs: tuple[Job, ...]) -> None:
        (first, *_) = jobs
        if first.stream is not None:
            if first.closing:
                self._guarded(first, partial(self._closing, first))
            else:
                self._guarded(first, partial(self._next, first, first.stream))
            return
        loaded = self.named.current
        read: list[tuple[Job, Any]] = []
        for job in jobs:
            self._guarded(job, partial(self._read, loaded, job, read))
        if not (len(read) > 1 and self._together(loaded, read)):
            for job, request in read:
                self._guarded(job, partial(self._one, loaded, job, request))
        for job, request in read:  # after they were answered: nobody waits for it
            self.seen(job.client, loaded.title, job.wire.action, request, loaded.limits)

    def _read(self, loaded: Loaded, job: Job, into: list[tuple[Job, Any]]) -> None:
        into.append((job, job.wire.read(job.body, job.kind, loaded.limits)))

    def _together(self, loaded: Loaded, read: Sequence[tuple[Job, Any]]) -> bool:
        """Answer several requests at once. False where that fails: each is then answered, or refused, alone."""
        wire = read[0][0].wire
        try:
            answers = list(getattr(loaded.model, f"{wire.action.method}_many")([request for _, request in read]))
            bodies = [wire.write(answer) for answer in answers]
        except Exception:  # one request's fault must not be the others'
            return False
        if len(bodies) != len(read):
            return False
        self._batched(len(read))
        for (job, _), body in zip(read, bodies, strict=True):
            self._settle(job, Answer(loaded.title, body, None, time.monotonic() - self._since))
        return True

    def _one(self, loaded: Loaded, job: Job, request: Any) -> None:
        answer = getattr(loaded.model, job.wire.action.method)(request)
        if job.wire.action.streams:
            self._next(job, Stream(iter(answer), loaded))
            return
        body = job.wire.write(answer)
        self._settle(job, Answer(loaded.title, body, None, time.monotonic() - self._since))

    def _next(self, job: Job, stream: Stream | None) -> None:
        assert stream is not None
        try:
            body = job.wire.write(next(stream.events))
        except StopIteration:
            self._settle(job, Answer(stream.loaded.title, b"", None, time.monotonic() - self._since))
            return
        self._settle(job, Answer(stream.loaded.title, body, stream, time.monotonic() - self._since))

    def _closing(self, job: Job) -> None:
        close = getattr(job.stream and job.stream.events, "close", None)
        if close:
            close()

    def _guarded(self, job: Job, work: Callable[[], object]) -> None:
        """Do a job's work; what goes wrong is its answer."""
        try:
            work()
        except Refused as error:
            self._settle(job, error)
        except UserError as error:
            self._settle(job, refused(error))
        except Exception as error:  # the action's own fault: where is told to the operator, what never
            at = "; ".join(f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-3:])
            self.tell(f"{self.named.slug}.{job.wire.action.name} failed: {type(error).__name__} at {at}")
            self._settle(job, Refused(500, f"{job.wire.action.name} failed inside; the service's log says where"))

    def _settle(self, job: Job, outcome: Answer | Refused) -> None:
        def settle() -> None:
            if job.done.done():
                return
            if isinstance(outcome, Answer):
                job.done.set_result(outcome)
            else:
                job.done.set_exception(outcome)

        try:
            job.loop.call_soon_threadsafe(settle)
        except RuntimeError:  # the service has ended
            return
