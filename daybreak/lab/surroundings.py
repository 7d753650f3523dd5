"""What a run stands on: code, library versions, hardware. Recorded, so that a run can be made again."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import socket
import subprocess
import sys
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from daybreak.lab.system import GROUP, systems

LARGEST_PATCH = 2**20
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Of glibc's mallopt: malloc.h."""


def code(recipe: str) -> dict[str, Any]:
    """Commit of the repository that holds the recipe's system, whether it was changed since, and the change.

    `patch` is the text of the change (at most 1 MiB); outside a repository everything is empty.
    """
    folder = _folder(recipe)
    # A package installed below somebody's repository is not that repository's code.
    tracked = _git(folder, "ls-files", "--", ".")
    commit = _git(folder, "rev-parse", "HEAD").strip() if tracked else ""
    if not commit:
        return {"commit": "", "dirty": False, "diff": ""}
    patch = _git(folder, "diff", "HEAD")
    about = {
        "commit": commit,
        "dirty": bool(patch),
        "diff": hashlib.sha256(patch.encode()).hexdigest()[:16] if patch else "",
    }
    if patch and len(patch) <= LARGEST_PATCH:
        about["patch"] = patch
    return about


def versions(recipe: str) -> dict[str, str]:
    """Versions of Python, daybreak, the system's own package and what these require."""
    found = {"python": platform.python_version()}
    for package in {"daybreak", *_packages(recipe)}:
        try:
            found[package] = metadata.version(package)
            needed = metadata.requires(package) or []
        except metadata.PackageNotFoundError:
            continue
        for line in needed:
            name = re.split(r"[\s;<>=!~\[(]", line, maxsplit=1)[0]
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
    return dict(sorted(found.items()))


@cache
def hardware() -> dict[str, Any]:
    """This machine: host, processor, cores that may be used, memory in GiB, accelerator where torch is loaded."""
    cpu = platform.processor() or platform.machine()
    try:
        names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        cpu = names[0] if names else cpu
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else ""
    return {"host": socket.gethostname(), "cpu": cpu, "cores": cores(), "memory_gb": round(memory, 1), "gpu": gpu}


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_threads() -> int:
    """Threads of a run where nobody says how many: what OMP_NUM_THREADS says, as everywhere, or every core.

    Several runs on one machine that each take every core wait for one another many times as long as they work.
    """
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdigit() and int(said) else cores()


def keep_memory() -> None:
    """Have this process keep memory that it freed, for its next tensors, where the C library is glibc.

    It gives back what a step frees and is given it again page by page, each cleared: of small nets' updates up to a
    tenth of the time. A process that serves others, or lives on after its work, had better give memory back.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    limits = {M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 * 2**20, M_MMAP_THRESHOLD: 32 * 2**20}
    library = ctypes.CDLL(None)
    for name, value in limits.items():
        library.mallopt(name, value)


def _folder(recipe: str) -> Path:
    target = next(iter(_targets(recipe)), "daybreak:")
    spec = find_spec(target.split(":")[0].split(".")[0])
    return Path(spec.origin).parent if spec and spec.origin else Path.cwd()


def _packages(recipe: str) -> list[str]:
    """The package that brought the recipe's system, as its entry point says."""
    name = recipe.partition(":")[0]
    return [point.dist.name for point in metadata.entry_points(group=GROUP, name=name) if point.dist is not None]


def _targets(recipe: str) -> list[str]:
    system, _, name = recipe.partition(":")
    found = systems().get(system)
    return [found.recipes[name]] if found and name in found.recipes else []


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""
