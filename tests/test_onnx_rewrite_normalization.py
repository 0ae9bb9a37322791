"""Normalizations as means, differences and a square root, against onnxruntime's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeship.errors import BadInput
from edgeship.onnx_rewrite import rewritten
from tests import onnx_graphs
from tests.onnx_graphs import Array


def vector(length: int, seed: int) -> Array:
    """Return seeded parameters."""
    return np.random.default_rng(seed).uniform(0.5, 2, length).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(
    groups=st.integers(1, 4),
    each=st.integers(1, 3),
    inner=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    batch=st.integers(1, 2),
    opset=st.sampled_from([18, 21]),
)
def test_group_normalization(groups: int, each: int, inner: list[int], batch: int, opset: int) -> None:
    """Parameters are one a group at opset 18, one a channel at 21; no five-dimensional value is made."""
    channels = groups * each
    length = groups if opset < 21 else channels
    if groups * each * int(np.prod(inner)) == groups:
        inner = [*inner[:-1], 2]  # a single value has no deviation
    node = helper.make_node("GroupNormalization", ["X", "scale", "bias"], ["Y"], num_groups=groups)
    constants = {"scale": vector(length, 1), "bias": vector(length, 2)}
    model = onnx_graphs.graph([node], {"X": (batch, channels, *inner)}, ["Y"], constants, opset=opset)
    onnx_graphs.same(model, "GroupNormalization", tolerance=2e-5, valid=opset >= 21)


@pytest.mark.parametrize("opset", [11, 17, 18, 22])
@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 4, 5, 6), (1, 2, 3, 4, 5)], ids=["1d", "2d", "3d"])
def test_instance_normalization(shape: tuple[int, ...], opset: int) -> None:
    """Each channel by itself."""
    node = helper.make_node("InstanceNormalization", ["X", "scale", "bias"], ["Y"], epsilon=1e-3)
    constants = {"scale": vector(shape[1], 1), "bias": vector(shape[1], 2)}
    onnx_graphs.same(onnx_graphs.graph([node], {"X": shape}, ["Y"], constants, opset=opset), "InstanceNormalization")


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_pytorch_writes_groups_as_instances(groups: int) -> None:
    """Reshape, InstanceNormalization, Reshape: the large value keeps its shape, only means are reshaped."""
    nodes = [
        helper.make_node("Reshape", ["X", "rows"], ["A"]),
        helper.make_node("InstanceNormalization", ["A", "ones", "zeros"], ["B"]),
        helper.make_node("Shape", ["X"], ["shape"]),
        helper.make_node("Reshape", ["B", "shape"], ["C"]),
        helper.make_node("Mul", ["C", "scale"], ["D"]),
        helper.make_node("Add", ["D", "bias"], ["Y"]),
    ]
    constants = {
        "rows": np.array([0, groups, -1]),
        "ones": np.ones(groups, np.float32),
        "zeros": np.zeros(groups, np.float32),
        "scale": vector(6, 1).reshape(6, 1, 1),
        "bias": vector(6, 2).reshape(6, 1, 1),
    }
    made = onnx_graphs.same(onnx_graphs.graph(nodes, {"X": (1, 6, 8, 10)}, ["Y"], constants), "InstanceNormalization")
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in made.graph.value_info
    }
    reshaped = [shapes[node.input[0]] for node in made.graph.node if node.op_type == "Reshape" and node.input[0] != "X"]
    assert all(np.prod(shape) <= 6 for shape in reshaped), reshaped


@pytest.mark.parametrize("axis", [-1, 1, 0])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "plain"])
def test_layer_normalization(axis: int, bias: bool) -> None:
    """Over the last axes; the mean and the inverse deviation are outputs too."""
    shape = (2, 3, 4)
    inner = shape[axis % 3 :]
    constants = {"scale": vector(int(np.prod(inner)), 1).reshape(inner)}
    if bias:
        constants["bias"] = vector(int(np.prod(inner)), 2).reshape(inner)
    node = helper.make_node("LayerNormalization", ["X", *constants], ["Y", "mean", "inverse"], axis=axis)
    model = onnx_graphs.graph([node], {"X": shape}, ["Y", "mean", "inverse"], constants)
    onnx_graphs.same(model, "LayerNormalization")


def test_mean_variance_normalization() -> None:
    """Over its axes."""
    node = helper.make_node("MeanVarianceNormalization", ["X"], ["Y"], axes=[0, 2, 3])
    onnx_graphs.same(onnx_graphs.graph([node], {"X": (2, 3, 4, 5)}, ["Y"]), "MeanVarianceNormalization")


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    """The refusal names operation and layer."""
    node = helper.make_node("GroupNormalization", ["X", "scale", "bias"], ["Y"], name="layer", num_groups=4)
    constants = {"scale": vector(6, 1), "bias": vector(6, 2)}
    with pytest.raises(BadInput, match="operation GroupNormalization, layer 'layer': 6 channels do not make 4 groups"):
        rewritten(onnx_graphs.graph([node], {"X": (1, 6, 2, 2)}, ["Y"], constants, opset=21))
