"""What the ONNX converter does to a graph: fewer bytes, the same answers; and a reduced precision is judged fairly."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import numpy as np
import pytest
from daybreak_toys.mlp import Mlp

from daybreak.lab.recipe import Gate, Score
from daybreak.lab.ship.export.goal import Judge
from daybreak.lab.ship.export.session import WORKERS


@pytest.fixture(scope="module")
def to_onnx() -> ModuleType:
    """The converter, as it runs in an environment of its own."""
    pytest.importorskip("onnxruntime")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(WORKERS))
        yield importlib.import_module("to_onnx")
    for name in ("to_onnx", "common"):
        sys.modules.pop(name, None)


def graph_of(nodes, weights, shape=(1, 4)):
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
        value_info=[helper.make_tensor_value_info("a_long_name_of_an_inner_value", TensorProto.FLOAT, None)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def answer(model, x):
    import onnxruntime

    (y,) = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], {"x": x})
    return y


def test_a_slim_graph_answers_the_same_in_fewer_bytes(to_onnx):
    from onnx import helper

    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    model = graph_of(
        [
            helper.make_node("MatMul", ["x", "encoder.0.weight"], ["a_long_name_of_an_inner_value"], name="node_first"),
            helper.make_node(
                "MatMul", ["a_long_name_of_an_inner_value", "encoder.1.weight"], ["z"], name="node_second"
            ),
            helper.make_node("Clip", ["z", "", "most"], ["y"], name="node_clip"),
        ],
        {"encoder.0.weight": weight, "encoder.1.weight": weight.copy(), "most": np.float32(0.5)},
    )
    model.opset_import.add(domain="com.microsoft", version=1)  # as a quantiser leaves it, though no node is of it
    model.graph.input[0].metadata_props.add(key="pkg.torch.onnx.original_node_name", value="inputs_0")
    x = np.random.default_rng(1).normal(size=(1, 4)).astype(np.float32)
    want, before = answer(model, x), model.ByteSize()
    slim = to_onnx.slim(model)
    assert [one.domain for one in slim.opset_import] == [""]
    assert not slim.graph.input[0].metadata_props
    np.testing.assert_array_equal(answer(slim, x), want)
    assert slim.ByteSize() < 0.7 * before
    assert len(slim.graph.initializer) == 2  # the two weights are equal
    assert [one.name for one in (*slim.graph.input, *slim.graph.output)] == ["x", "y"]


def test_what_a_program_is_given_is_not_rounded_and_what_comes_after_is(to_onnx):
    from onnx import helper

    eye = np.eye(4, dtype=np.float32)
    coarse = {"scale": np.float32(0.5), "zero": np.uint8(128)}
    rounded = ["QuantizeLinear", "DequantizeLinear"]
    nodes = [helper.make_node("Unsqueeze", ["x", "axes"], ["raw"])]
    for given, made in (("raw", "first"), ("first", "z")):
        nodes += [
            helper.make_node(rounded[0], [given, "scale", "zero"], [f"{given}_q"]),
            helper.make_node(rounded[1], [f"{given}_q", "scale", "zero"], [f"{given}_d"]),
            helper.make_node("MatMul", [f"{given}_d", "eye"], [made]),
        ]
    nodes.append(helper.make_node("Squeeze", ["z", "axes"], ["y"]))
    x = np.array([[0.26, 0.1, -0.1, 0.9]], np.float32)
    nodes.insert(4, helper.make_node("Mul", ["first", "ten"], ["more"]))
    nodes[5].input[0] = "more"
    model = graph_of(nodes, {**coarse, "eye": eye, "axes": np.array([0]), "ten": np.float32(10)})
    np.testing.assert_allclose(answer(model, x), 10 * np.array([[0.5, 0, 0, 1]]))
    made = to_onnx.unrounded(model)
    np.testing.assert_allclose(answer(made, x), [[2.5, 1, -1, 9]])
    assert sum(node.op_type in rounded for node in made.graph.node) == 2


def test_a_choice_among_values_is_not_rounded_and_a_table_is(to_onnx):
    from onnx import helper

    model = graph_of(
        [
            helper.make_node("Gather", ["x", "first"], ["a"], name="choice", axis=1),
            helper.make_node("Gather", ["table", "first"], ["b"], name="table"),
            helper.make_node("Add", ["a", "b"], ["y"]),
        ],
        {"first": np.array(0), "table": np.zeros((3, 1), np.float32)},
    )
    assert to_onnx._choosing(model) == ["choice"]


def scores(*values):
    return [Score(f"item-{n}", f"group-{n}", {"squared error": value}) for n, value in enumerate(values)]


def test_a_reduced_precision_is_judged_by_the_gate_and_without_one_by_the_same_items_in_fp32():
    judge = Judge.__new__(Judge)
    judge.cls, judge.gate = Mlp, Gate(Mlp.goal, 1.0)
    own = scores(*np.random.default_rng(0).uniform(0, 1, 40))
    worse = scores(*(one.values["squared error"] + 0.2 for one in own))
    same = scores(*(one.values["squared error"] + 0.01 * (-1) ** n for n, one in enumerate(own)))
    assert judge.wrong(worse, own) == ""
    judge.gate = Gate(Mlp.goal, 0.1)
    assert "the gate asks for 0.1 (in fp32 it is " in judge.wrong(same, own)
    judge.gate = None
    assert judge.wrong(same, own) == ""
    assert judge.wrong(worse, own).endswith("without a gate")
    assert "worse by +0.2" in judge.wrong(worse, own)
    assert judge.wrong(own, worse) == ""
