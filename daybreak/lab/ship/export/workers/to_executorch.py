"""ExecuTorch: one .pte with a method for each program, lowered to XNNPACK; the rest runs on portable kernels.

int8 is static (PT2E), weights by channel, activations calibrated on real inputs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from common import Lacking, Runner, arrays_of, main, whereabouts
from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

FILE = "model.pte"
INEXACT = ("GeluConfig",)
"""What XNNPACK only approximates: its GELU is off by 1e-3 and would break parity. Portable kernels take these."""


def convert(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write model.pte."""
    logging.disable(logging.WARNING)
    traced = {name: torch.export.load(about["pt2"]) for name, about in job["programs"].items()}
    if job["precision"] == "int8":
        traced = {name: eight(one, job["programs"][name]) for name, one in traced.items()}
    try:
        edge = to_edge_transform_and_lower(
            traced,
            partitioner=[
                XnnpackPartitioner(configs=[one for one in ALL_PARTITIONER_CONFIGS if one.__name__ not in INEXACT])
            ],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        made = edge.to_executorch()
    except Exception as error:
        if found := re.search(r"(?:Missing out variants: \{'|operator[: ]+)([\w.:]+)", str(error)):
            raise Lacking(found[1], whereabouts(found[1], traced)) from error
        raise
    for operator in without_kernel(made):
        raise Lacking(operator, whereabouts(operator, traced))
    with open(folder / FILE, "wb") as file:
        made.write_to_file(file)
    return {"versions": {"torch": torch.__version__, "executorch": version("executorch")}}


def without_kernel(made: Any) -> list[str]:
    """Operators of the file for which the runtime has no kernel: it would refuse them when the file is loaded."""
    from executorch.runtime import Runtime

    known = Runtime.get().operator_registry.operator_names
    wanted = {op.name + (f".{op.overload}" if op.overload else "") for plan in made.executorch_program.execution_plan
              for op in plan.operators}  # fmt: skip
    return sorted(wanted - set(known))


def eight(traced: Any, about: dict[str, Any]) -> Any:
    """The program with int8 weights and activations."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(traced.module(), quantizer)
    inputs = [
        tuple(torch.from_numpy(one[name].copy()) for name in about["inputs"]) for one in arrays_of(about["calibration"])
    ]
    with torch.no_grad():
        for one in inputs:
            prepared(*one)
    args, _ = traced.example_inputs
    return torch.export.export(convert_pt2e(prepared), args, dynamic_shapes=_shapes(traced), strict=False)


def _shapes(traced: Any) -> Any:
    """The axes of a traced program's inputs whose length varies, with their bounds."""
    symbols = {node.name: node.meta["val"] for node in traced.graph.nodes if node.op == "placeholder"}
    dims: dict[str, Any] = {}
    axes: list[dict[int, Any]] = []
    for value in (symbols[name] for name in traced.graph_signature.user_inputs):
        axes.append({})
        for n, size in enumerate(value.shape):
            if not isinstance(size, int):
                symbol = size.node.expr
                bounds = traced.range_constraints[symbol]
                name = f"axis_{len(dims)}"
                dim = torch.export.Dim(name, min=int(bounds.lower), max=int(bounds.upper))
                axes[-1][n] = dims.setdefault(str(symbol), dim)
    return tuple(axes)


def load(folder: Path, program: str) -> Runner:
    """A method of the file."""
    from executorch.runtime import Runtime

    held = Runtime.get().load_program(folder / FILE)
    method = held.load_method(program)
    assert method is not None

    def run(arrays: list[Any], held: Any = held) -> Sequence[Any]:
        return [x.numpy().copy() for x in method.execute([torch.from_numpy(x.copy()) for x in arrays])]

    return run


if __name__ == "__main__":
    main(convert, load)
