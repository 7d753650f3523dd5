"""The codec's promises: exact, typed, and nothing is ever unpickled."""

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.lab import codec

leaf = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([np.float32, np.int64, np.uint8, np.float64]).flatmap(
        lambda kind: st.lists(st.integers(0, 200), max_size=4).map(lambda v: np.array(v, kind))
    ),
    st.lists(st.floats(width=32), max_size=4).map(torch.tensor),
)  # fmt: skip
trees = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers()), inner, max_size=3),
    ),
    max_leaves=12,
)  # fmt: skip


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float):
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    return a == b


@settings(max_examples=80, deadline=None)
@given(trees)
def test_what_is_saved_comes_back_equal_and_of_the_same_type(tree):
    with tempfile.TemporaryDirectory() as folder:
        codec.save(Path(folder) / "state", tree)
        assert same(tree, codec.load(Path(folder) / "state"))


def test_shared_tensors_come_back_shared(tmp_path):
    weight = torch.nn.Parameter(torch.arange(4.0))
    codec.save(tmp_path / "state", {"a": weight, "b": weight, "c": weight[1:]})
    back = codec.load(tmp_path / "state")
    assert back["a"].data_ptr() == back["b"].data_ptr()
    assert back["c"].tolist() == [1.0, 2.0, 3.0]
    assert isinstance(back["a"], torch.nn.Parameter)


def test_a_thing_that_is_not_plain_is_refused(tmp_path):
    with pytest.raises(TypeError, match="cannot hold"):
        codec.save(tmp_path / "state", {"a": object()})


def test_a_damaged_file_is_one_line(tmp_path):
    codec.save(tmp_path / "state", {"a": torch.ones(3)})
    (tmp_path / "state.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot be read"):
        codec.load(tmp_path / "state")


@given(st.recursive(st.floats(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)))
def test_numbers_that_are_not_finite_are_words_in_json(value):
    json.dumps(codec.plain(value), allow_nan=False)
