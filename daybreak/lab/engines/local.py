"""Workers as processes of this machine, each in a session of its own, so that they outlive a night that dies.

It knows processes, groups and signals. It knows nothing about queues or about what a worker does.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from daybreak.lab import lock
from daybreak.lab.engines import Handle, Machine
from daybreak.lab.home import Lab
from daybreak.lab.run import Run
from daybreak.lab.surroundings import cores


def machine() -> Machine:
    """This machine: cores that may be used, memory (a container's where it is less), accelerators that may be seen."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            memory = min(memory, int(Path(limit).read_text()))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        found = [path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia*")]
        gpus = tuple(sorted((name for name in found if re.fullmatch(r"\d+", name)), key=int))
    else:
        gpus = tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    return Machine(cores(), memory // 2**20, gpus)


class LocalEngine:
    """Local processes."""

    def __init__(self, has: Machine | None = None) -> None:
        self.machine = has or machine()

    def start(
        self, lab: Lab, run: Run, *, deadline: float | None, threads: int, gpus: tuple[str, ...] | None
    ) -> Handle:
        # With faulthandler, an abort prints where every thread was.
        command = [sys.executable, "-X", "faulthandler", "-m", "daybreak.lab.train", str(lab.root), run.id]
        if deadline is not None:
            command += ["--deadline", f"{deadline:.3f}"]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(threads)
        if gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        with open(run.path / "log.txt", "ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} a try begins\n".encode())
            log.flush()
            worker = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        if hasattr(resource, "prlimit"):
            # An aborted worker says where it was; its memory is not wanted on the disk.
            with suppress(OSError):
                resource.prlimit(worker.pid, resource.RLIMIT_CORE, (0, 0))
        return _Child(worker)

    def adopt(self, run: Run) -> Handle | None:
        who = lock.holder(run.path / "lock")
        return _Adopted(run.path / "lock", who.pid) if who and who.live and who.pid > 0 else None


class _Child:
    """A worker that this process started."""

    def __init__(self, worker: subprocess.Popen[bytes]) -> None:
        self.worker, self.pid = worker, worker.pid
        self.code: int | None = None

    def poll(self) -> int | None:
        if self.code is None and self._ended():
            # Its loaders go with it. The group's number is its own until it is reaped, so that nobody else is hit.
            _signal_group(self.pid, signal.SIGKILL)
            self.code = self.worker.wait()
        return self.code

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def abort(self) -> None:
        self._signal(signal.SIGABRT)

    def kill(self) -> None:
        if self.code is None:
            _signal_group(self.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _ended(self) -> bool:
        if not hasattr(os, "waitid"):
            return self.worker.poll() is not None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True


class _Adopted:
    """A worker that an earlier night started: known by the lock that it holds."""

    def __init__(self, path: Path, pid: int) -> None:
        self.path, self.pid = path, pid

    def poll(self) -> int | None:
        return None if self._holds() else 1

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def abort(self) -> None:
        self._signal(signal.SIGABRT)

    def kill(self) -> None:
        if self._holds() and os.getpgid(self.pid) == self.pid:
            _signal_group(self.pid, signal.SIGKILL)
        else:
            self._signal(signal.SIGKILL)

    def _holds(self) -> bool:
        who = lock.holder(self.path)
        return who is not None and who.live and who.pid == self.pid

    def _signal(self, number: signal.Signals) -> None:
        # Only while it holds the lock: afterwards its number may be somebody else's.
        if self._holds():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _signal_group(leader: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
