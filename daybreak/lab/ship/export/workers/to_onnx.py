"""ONNX: a graph for each program, and the weights of all of them in one file, each once.

fp16 keeps inputs and outputs as they are. int8 is static, weights by channel, activations calibrated on real inputs.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from common import Lacking, Runner, arrays_of, main, whereabouts
from onnx import TensorProto

WEIGHTS = "weights.bin"
SMALL = 1024
"""Bytes below which a weight stays in its graph."""
MOVING = ("Unsqueeze", "Squeeze", "Expand", "Tile", "Reshape", "Transpose", "Identity")
"""Operators that change no number."""


def convert(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write NAME.onnx for each program, and weights.bin."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    graphs = {}
    for name, about in job["programs"].items():
        graph = exported(about, name)
        if job["precision"] == "fp16":
            graph = half(graph)
        elif job["precision"] == "int8":
            graph = eight(graph, about, folder)
        graphs[name] = slim(graph)
    share(graphs, folder)
    for name, graph in graphs.items():
        (folder / f"{name}.onnx").write_bytes(graph.SerializeToString())
    opset = max(one.version for graph in graphs.values() for one in graph.opset_import if not one.domain)
    return {
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        "opset": opset,
    }


def exported(about: dict[str, Any], name: str) -> Any:
    """The program's graph in fp32."""
    traced = torch.export.load(about["pt2"])
    try:
        made = torch.onnx.export(
            traced, (), dynamo=True, input_names=about["inputs"], output_names=about["outputs"], verbose=False
        )
    except Exception as error:
        if operator := _operator(error):
            raise Lacking(operator, whereabouts(operator, {name: traced})) from error
        raise
    assert made is not None
    graph = made.model_proto
    told: list[Any] = [*graph.graph.node, *graph.graph.initializer, *graph.graph.value_info]
    for node in told:
        del node.metadata_props[:]  # stack traces and paths of this machine
        node.doc_string = ""
    for function in graph.functions:
        for node in function.node:
            del node.metadata_props[:]
    graph.producer_name, graph.doc_string = "daybreak", ""
    return graph


def _operator(error: BaseException | None) -> str:
    """The operator that a failed conversion names."""
    import re

    while error is not None:
        if found := re.search(r"No ONNX function found for .*?'([\w:.]+)'|'(aten[:.]+\S+)'", str(error)):
            return found[1] or found[2]
        error = error.__cause__ or error.__context__
    return ""


def half(graph: Any) -> Any:
    """Weights and inner values in 16 bits."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(graph, keep_io_types=True, disable_shape_infer=False)


def eight(graph: Any, about: dict[str, Any], folder: Path) -> Any:
    """Static int8: QDQ, weights by channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    inputs = arrays_of(about["calibration"])

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(inputs)

        def get_next(self) -> Any:
            return next(self.left, None)

    before, ready, after = (folder / f".{step}.onnx" for step in ("fp32", "ready", "int8"))
    onnx.save(graph, before)
    try:
        quant_pre_process(str(before), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready), str(after), Reader(), quant_format=QuantFormat.QDQ, per_channel=_flat(graph),
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Conv", "Gather"], nodes_to_exclude=_choosing(graph),
            extra_options={"MatMulConstBOnly": True, "QDQDisableWeightAdjustForInt32Bias": True},
        )  # fmt: skip
        return unrounded(onnx.load(after))
    finally:
        for path in (before, ready, after):
            path.unlink(missing_ok=True)


def unrounded(graph: Any) -> Any:
    """What a program is given goes into its first products as it is: the numbers of an observation have units of their
    own, and one scale for all of them would round the small ones away. The weights stay int8."""
    inner = graph.graph
    raw = {one.name for one in inner.input}
    for node in inner.node:
        if node.op_type in MOVING and node.input[0] in raw:
            raw.update(node.output)
    rounded = {node.output[0]: node.input[0] for node in inner.node if node.op_type == "QuantizeLinear"}
    back = {node.output[0]: rounded.get(node.input[0]) for node in inner.node if node.op_type == "DequantizeLinear"}
    for node in inner.node:
        if node.op_type in ("MatMul", "Gemm") and back.get(node.input[0]) in raw:
            node.input[0] = back[node.input[0]]
    used = {name for node in inner.node for name in node.input} | {one.name for one in inner.output}
    for kinds in ("DequantizeLinear", "QuantizeLinear"):
        for node in [one for one in inner.node if one.op_type == kinds and one.output[0] not in used]:
            inner.node.remove(node)
        used = {name for node in inner.node for name in node.input} | {one.name for one in inner.output}
    for weight in [one for one in inner.initializer if one.name not in used]:
        inner.initializer.remove(weight)
    return graph


def _choosing(graph: Any) -> list[str]:
    """Gathers that choose among computed values and not in a table: rounding those would save no weight."""
    weights = {weight.name for weight in graph.graph.initializer}
    return [node.name for node in graph.graph.node if node.op_type == "Gather" and node.input[0] not in weights]


def _flat(graph: Any) -> bool:
    """Whether every weight of a product is a matrix. The runtime's kernel takes scales by channel of those alone."""
    ranks = {weight.name: len(weight.dims) for weight in graph.graph.initializer}
    return all(ranks.get(node.input[1], 2) == 2 for node in graph.graph.node if node.op_type in ("MatMul", "Gemm"))


def slim(graph: Any) -> Any:
    """The same graph in fewer bytes: no shapes of inner values, which the runtime infers; equal small constants once;
    inner values named by number; no operator sets that no node is of. A small net's names take more room than its
    weights."""
    inner = graph.graph
    for field in ("value_info", "metadata_props", "quantization_annotation"):
        inner.ClearField(field)
    graph.ClearField("metadata_props")
    for value in (*inner.input, *inner.output):
        value.ClearField("metadata_props")  # where in the traced program it stood
    if not graph.functions:
        of = {node.domain for node in inner.node}
        sets = {one.domain: one.version for one in graph.opset_import if one.domain in of}
        graph.ClearField("opset_import")
        for domain, version in sets.items():
            graph.opset_import.add(domain=domain, version=version)
    if any(one.HasField("g") or one.graphs for node in inner.node for one in node.attribute):
        return graph  # what stands in a branch is found by name
    names = {one.name: one.name for one in [*inner.input, *inner.output]} | {"": ""}
    held: dict[bytes, str] = {}
    kept = []
    for weight in inner.initializer:
        name, weight.name = weight.name, ""
        weight.doc_string = ""
        key = hashlib.sha256(weight.SerializeToString()).digest()
        if key not in held:
            held[key] = weight.name = f"w{len(held)}"
            kept.append(weight)
        names[name] = held[key]
    for node in inner.node:
        node.name = ""
        for told in (node.input, node.output):
            told[:] = [names.setdefault(name, f"v{len(names)}") for name in told]
    weights = [weight.SerializeToString() for weight in kept]
    inner.ClearField("initializer")
    for weight in weights:
        inner.initializer.add().ParseFromString(weight)
    return graph


def share(graphs: dict[str, Any], folder: Path) -> None:
    """Move the weights of all graphs into one file, equal ones once. A file without weights is not written."""
    places: dict[bytes, tuple[int, int]] = {}
    blob = bytearray()
    for graph in graphs.values():
        for weight in graph.graph.initializer:
            data = onnx.numpy_helper.to_array(weight).tobytes()
            if len(data) < SMALL:
                continue
            digest = hashlib.sha256(data).digest()
            if digest not in places:
                blob += bytes(-len(blob) % 64)
                places[digest] = len(blob), len(data)
                blob += data
            start, size = places[digest]
            for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                weight.ClearField(field)
            del weight.external_data[:]
            weight.data_location = TensorProto.EXTERNAL
            for key, value in (("location", WEIGHTS), ("offset", start), ("length", size)):
                weight.external_data.add(key=key, value=str(value))
    if blob:
        (folder / WEIGHTS).write_bytes(blob)


def load(folder: Path, program: str) -> Runner:
    """A session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(folder / f"{program}.onnx", options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(arrays: list[Any]) -> Sequence[Any]:
        return [np.asarray(x) for x in session.run(None, dict(zip(names, arrays, strict=True)))]

    return run


if __name__ == "__main__":
    main(convert, load)
