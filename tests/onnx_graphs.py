"""Small ONNX graphs for tests, and what onnxruntime and a rewritten copy make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeship.onnx_rewrite import rewritten

Array = npt.NDArray[Any]
# The lowest IR version for each opset would do; onnxruntime refuses the newest that onnx writes by default.
IR_VERSION = 8
_SMALLEST_SCALE = 0.05  # onnxruntime's own tanh is off by 7e-8 near zero


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Sequence[str],
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    kinds: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """Return a model; inputs are float32 unless `kinds` gives another element type; outputs are typed by inference.

    An output that inference knows nothing of has the first input's shape.
    """
    kinds = kinds or {}
    made = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), shape) for n, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    known = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.output}
    for value in model.graph.output:
        kind = known[value.name].type
        if not kind.tensor_type.HasField("shape"):
            kind = helper.make_tensor_type_proto(kinds.get(value.name, TensorProto.FLOAT), next(iter(inputs.values())))
        value.type.CopyFrom(kind)
    return model


def feeds(model: onnx.ModelProto, seed: int = 0) -> dict[str, Array]:
    """Return seeded inputs: standard normal, zeros and ones for integers and booleans."""
    random = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for value in model.graph.input:
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if np.issubdtype(kind, np.floating):
            found[value.name] = random.standard_normal(shape).astype(kind)
        else:
            found[value.name] = random.integers(0, 2, shape).astype(kind)
    return found


def run(model: onnx.ModelProto, given: Mapping[str, Array]) -> list[Array]:
    """Return what onnxruntime makes of a model, without its own optimizations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(array) for array in session.run([value.name for value in model.graph.output], dict(given))]


def error(expected: Array, got: Array) -> float:
    """Return the largest difference relative to the expected values' range (or size, where all are alike)."""
    assert expected.shape == got.shape, f"{got.shape} where {expected.shape} was expected"
    assert expected.dtype == got.dtype
    if expected.size == 0:
        return 0.0
    want, have = expected.astype(np.float64), got.astype(np.float64)
    scale = max(float(np.ptp(want)), float(np.abs(want).max()), _SMALLEST_SCALE)
    return float(np.abs(want - have).max()) / scale


def operations(model: onnx.ModelProto) -> set[str]:
    """Return the kinds of operations in a model."""
    return {node.op_type for node in model.graph.node}


def same(
    model: onnx.ModelProto, *gone: str, tolerance: float = 1e-5, seed: int = 0, valid: bool = True
) -> onnx.ModelProto:
    """Check that a model rewritten is valid, means the same, and has no operation of these kinds left; return it.

    `valid` is false for operations that ONNX's own checker calls deprecated.
    """
    if valid:
        onnx.checker.check_model(model, full_check=True)
    before = model.SerializeToString()
    made, _notes = rewritten(model)
    assert model.SerializeToString() == before, "the source was changed"
    onnx.checker.check_model(made, full_check=True)
    assert not operations(made) & set(gone), f"{operations(made) & set(gone)} is still there"
    assert [value.name for value in made.graph.input] == [value.name for value in model.graph.input]
    assert [value.name for value in made.graph.output] == [value.name for value in model.graph.output]
    given = feeds(model, seed)
    for expected, got in zip(run(model, given), run(made, given), strict=True):
        assert error(expected, got) <= tolerance
    return made
