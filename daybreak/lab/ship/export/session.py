"""A converter's process: started in its environment, asked over a pipe, ended with it.

It knows frames and processes (workers/common.py is the other end); it knows no target.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import torch
from torch import Tensor

from daybreak.errors import UserError
from daybreak.lab.ship.export.workers import common

WORKERS = Path(__file__).parent / "workers"


class Lacking(UserError):
    """A target lacks an operator."""


@dataclass(frozen=True)
class Answer:
    """Outputs of one call, and what each repetition took in seconds."""

    outputs: tuple[Tensor, ...]
    took: tuple[float, ...]


def script(target: str) -> Path:
    """The file of a target's converter."""
    return WORKERS / f"to_{target}.py"


def convert(target: str, python: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Run a converter's `convert`. Raises `UserError` with the operator that lacks, or the converter's last words."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job, file)
        file.flush()
        done = subprocess.run(
            [python, script(target), "convert", file.name], capture_output=True, env=_environment(), check=False
        )
    if done.returncode or not done.stdout:
        raise UserError(f"{target} cannot convert this model: {last_words(done.stderr.decode(errors='replace'))}")
    told: dict[str, Any] = json.loads(done.stdout)
    if "lacking" in told:
        lack = told["lacking"]
        raise Lacking(
            f"{target} lacks the operator {lack['operator']} (in {lack['where']}): write that part of the module with "
            f"other operators, or leave {target} out of --to"
        )
    made: dict[str, Any] = told["made"]
    return made


class Session:
    """A target's files, loaded and answering. A context manager: its process ends with it."""

    def __init__(self, target: str, python: Path, folder: Path) -> None:
        self.target = target
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, script(target), "run", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors, env=_environment(),
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with suppress(BrokenPipeError):  # what it never read
                    pipe.close()

    def call(self, program: str, inputs: Sequence[Tensor], repeat: int = 1) -> Answer:
        """Run a program. Raises `UserError` where the target cannot."""
        arrays = [x.detach().numpy() for x in inputs]
        header, got = self._ask({"verb": "run", "program": program, "repeat": repeat}, arrays)
        return Answer(tuple(torch.from_numpy(x.copy()) for x in got), tuple(header["took"]))

    def memory(self) -> int:
        """Bytes at its most, above what the runtime's import took."""
        return int(self._ask({"verb": "memory"}, [])[0]["peak"])

    def _ask(self, header: dict[str, Any], arrays: list[np.ndarray]) -> tuple[dict[str, Any], list[np.ndarray]]:
        into, out = self._process.stdin, self._process.stdout
        assert into is not None
        assert out is not None
        try:
            common.write(into, header, arrays)  # type: ignore[arg-type]
            frame = common.read(out)  # type: ignore[arg-type]
        except BrokenPipeError:
            frame = None
        if frame is None:
            self._process.wait()
            self._errors.seek(0)
            raise UserError(
                f"{self.target} died while it ran this model (exit {self._process.returncode}): "
                f"{last_words(self._errors.read().decode(errors='replace'))}"
            )
        if "error" in frame[0]:
            raise UserError(f"{self.target} cannot run this model: {frame[0]['error'].splitlines()[0]}")
        return frame


def last_words(text: str) -> str:
    """The line that says why."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line or "error:" in line]
    return (told or lines or ["it said nothing"])[-1][:500]


def _environment() -> dict[str, str]:
    """One thread, and no module from elsewhere."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**{k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}, **one}
