"""LiteRT: one .tflite with a signature for each program. Inputs are args_0, args_1, ..., outputs output_0, ..."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Lacking, Runner, main, whereabouts

FILE = "model.tflite"


def convert(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write model.tflite."""
    import litert_torch

    made: Any = litert_torch
    traced = {name: torch.export.load(about["pt2"]) for name, about in job["programs"].items()}
    for name, one in traced.items():
        module, (args, _) = one.module(), one.example_inputs
        for held in [*module.parameters(), *module.buffers()]:
            held.data = held.data.contiguous()  # it reads weights as they lie in memory, whatever their strides say
        made = made.signature(name, module, args)
    try:
        made.convert().export(str(folder / FILE))
    except Exception as error:
        if found := re.search(
            r"(?:[Ll]owering not found|not implemented|[Uu]nsupported op\w*)[^\w]*([\w.:]+)", str(error)
        ):
            raise Lacking(found[1], whereabouts(found[1], traced)) from error
        raise
    versions = {name: version(name) for name in ("torch", "litert-torch", "ai-edge-litert")}
    return {"versions": versions, "inputs": "args_N in order", "outputs": "output_N in order"}


def load(folder: Path, program: str) -> Runner:
    """A signature of the file, on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / FILE), num_threads=1)
    runner = interpreter.get_signature_runner(program)
    kinds = {name: about["dtype"] for name, about in runner.get_input_details().items()}

    def run(arrays: list[Any]) -> Sequence[Any]:
        given = {f"args_{n}": x.astype(kinds[f"args_{n}"]) for n, x in enumerate(arrays)}
        out = runner(**given)
        return [np.asarray(out[f"output_{n}"]) for n in range(len(out))]

    return run


if __name__ == "__main__":
    main(convert, load)
