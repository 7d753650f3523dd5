"""Core ML: one .mlpackage for each program. It converts anywhere and runs on macOS alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Lacking, Runner, main, whereabouts


def convert(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write NAME.mlpackage for each program."""
    import coremltools as ct

    half = ct.precision.FLOAT16 if job["precision"] == "fp16" else ct.precision.FLOAT32
    for name, about in job["programs"].items():
        whole = torch.export.load(about["pt2"])
        traced = whole.run_decompositions()
        try:
            made = ct.convert(
                traced,
                convert_to="mlprogram",
                minimum_deployment_target=ct.target.iOS18,
                compute_precision=half,
                outputs=[ct.TensorType(name=output) for output in about["outputs"]],
            )
        except Exception as error:
            if found := re.search(
                r"Unsupported fx node \S+, kind ([\w.:]+)|op(?:erator)? '?([\w.:]+)'? not", str(error)
            ):
                operator = found[1] or found[2]
                raise Lacking(operator, whereabouts(operator, {name: whole})) from error
            raise
        made.save(str(folder / f"{name}.mlpackage"))
    return {"versions": {"torch": torch.__version__, "coremltools": version("coremltools")}}


def load(folder: Path, program: str) -> Runner:
    """A program, where Core ML is."""
    import coremltools as ct

    model = ct.models.MLModel(str(folder / f"{program}.mlpackage"))
    spec = model.get_spec().description
    names, outputs = [one.name for one in spec.input], [one.name for one in spec.output]

    def run(arrays: list[Any]) -> Sequence[Any]:
        given = {name: x if x.dtype.kind == "f" else x.astype(np.int32) for name, x in zip(names, arrays, strict=True)}
        out = model.predict(given)
        return [np.asarray(out[name]) for name in outputs]

    return run


if __name__ == "__main__":
    main(convert, load)
