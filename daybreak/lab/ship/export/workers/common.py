"""What converters share: a job from a JSON file, and a loop that answers over a pipe.

These files run in environments of their own, which need not have daybreak: they import nothing of it. A converter has
two verbs. `convert JOB` writes the target's files and prints what it knows as JSON. `run FOLDER` loads them and answers
calls: a frame is the length of a JSON header, the header, and the raw bytes of the arrays that it describes.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Array = Any
Runner = Callable[[list[Array]], Sequence[Array]]


class Lacking(Exception):
    """An operator that the target lacks: its name, and where in the module it stands."""

    def __init__(self, operator: str, where: str) -> None:
        super().__init__(operator)
        self.operator, self.where = operator, where


def whereabouts(operator: str, traced: Mapping[str, Any]) -> str:
    """The program and the module in which an operator stands; the programs' names where it is found in none.
    `traced`: program -> exported program. What a converter names may be a part of what the model calls."""
    for name, program in traced.items():
        for graph in (program.graph, program.run_decompositions().graph):
            for node in graph.nodes:
                if node.op == "call_function" and _plain(operator) in _plain(str(node.target)):
                    path, kind = list((node.meta.get("nn_module_stack") or {"": ("", "")}).values())[-1]
                    path = str(path).removeprefix("L['self'].").removeprefix("module").strip(".")
                    kind = str(kind).rsplit(".", 1)[-1].rstrip("'>")
                    return f"program {name}" + (f", module {path} ({kind})" if path else "")
    return "program " + " or ".join(traced)


def _plain(operator: str) -> str:
    """An operator's own name: of "aten::_fft_r2c.default" it is "_fft_r2c"."""
    parts = operator.replace("::", ".").split(".")
    return parts[1] if len(parts) > 1 and parts[0] in ("aten", "torch", "prims") else parts[-1]


def main(convert: Callable[[dict[str, Any], Path], dict[str, Any]], load: Callable[[Path, str], Runner]) -> None:
    """The verbs of a converter. `convert(job, folder)` writes files; `load(folder, program)` makes one runnable."""
    verb, place = sys.argv[1:3]
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries that print must not reach the pipe
    if verb == "convert":
        job = json.loads(Path(place).read_text())
        try:
            told = {"made": convert(job, Path(job["folder"]))}
        except Lacking as error:
            told = {"lacking": {"operator": error.operator, "where": error.where}}
        own.write(json.dumps(told).encode())
        own.flush()
        return
    serve(Path(place), load, sys.stdin.buffer, own)


def serve(folder: Path, load: Callable[[Path, str], Runner], into: BinaryIO, out: BinaryIO) -> None:
    """Answer calls until the pipe closes."""
    loaded: dict[str, Runner] = {}
    start = memory()
    while (frame := read(into)) is not None:
        header, arrays = frame
        try:
            if header["verb"] == "memory":
                write(out, {"peak": peak() - start}, [])
                continue
            name = header["program"]
            if name not in loaded:
                loaded[name] = load(folder, name)
            took, got = [], []  # type: tuple[list[float], list[Array]]
            for _ in range(header["repeat"]):
                begun = time.perf_counter()
                got = list(loaded[name](arrays))
                took.append(time.perf_counter() - begun)
            write(out, {"took": took}, got)
        except Exception as error:
            traceback.print_exc()
            write(out, {"error": f"{type(error).__name__}: {error}"}, [])


def read(pipe: BinaryIO) -> tuple[dict[str, Any], list[Array]] | None:
    """A frame, or None at the end."""
    size = pipe.read(8)
    if len(size) < 8:
        return None
    header = json.loads(pipe.read(struct.unpack("<q", size)[0]))
    arrays = []
    for dtype, shape in header["arrays"]:
        kind = np.dtype(dtype)
        data = pipe.read(kind.itemsize * int(np.prod(shape, dtype=np.int64)))
        arrays.append(np.frombuffer(data, kind).reshape(shape))
    return header, arrays


def write(pipe: BinaryIO, header: dict[str, Any], arrays: Sequence[Array]) -> None:
    """Write a frame."""
    about = json.dumps({**header, "arrays": [(x.dtype.str, x.shape) for x in arrays]}).encode()
    pipe.write(struct.pack("<q", len(about)) + about)
    for x in arrays:
        pipe.write(x.tobytes())
    pipe.flush()


def memory() -> int:
    """Bytes of this process in memory."""
    return _status("VmRSS")


def peak() -> int:
    """The most bytes of this process that were in memory at once."""
    return _status("VmHWM")


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def arrays_of(path: str) -> list[dict[str, Array]]:
    """Calibration inputs: an .npz whose names are NUMBER/INPUT."""
    found: dict[int, dict[str, Array]] = {}
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            number, _, given = name.partition("/")
            found.setdefault(int(number), {})[given] = file[name]
    return [found[number] for number in sorted(found)]
