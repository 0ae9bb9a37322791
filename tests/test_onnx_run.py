"""What onnxruntime says is told in words that are the model's, with a next move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeship import onnx_interface, onnx_run
from edgeship.errors import BadInput
from tests import tiny_onnx
from tests.tiny_onnx import FLOAT, constant, node


def refused(made: onnx.ModelProto) -> BadInput:
    source = Path("m.onnx")
    ports = onnx_interface.ports(source, onnx_interface.declared(source, made), {}, None, keep_layout=False)
    with pytest.raises(BadInput) as refusal:
        onnx_run.outputs(source, made.SerializeToString(), ports, {"x": np.zeros((1, 4), np.float32)})
    assert refusal.value.message.startswith("m.onnx: ")
    return refusal.value


def test_a_value_beyond_all_memory_is_named_without_the_runtime_s_own_source_lines() -> None:
    sizes = constant("sizes", np.array([2**24, 2**24], np.int64))  # more than any address space holds
    made = tiny_onnx.model(
        [
            node("ConstantOfShape", ["sizes"], "huge"),
            node("ReduceSum", ["huge"], "sum", keepdims=0),
            node("Add", ["x", "sum"], "y"),
        ],
        [("x", FLOAT, [1, 4])],
        [("y", FLOAT, [1, 4])],
        [sizes],
    )
    message = refused(made).message
    assert "ConstantOfShape" in message
    assert "huge_layer" in message
    assert "ailed to allocate" in message or "too large" in message
    assert "onnxruntime_src" not in message


def test_operators_of_another_maker_are_named_with_what_to_do() -> None:
    own = helper.make_node("Own", ["x"], ["y"], name="own", domain="acme")
    made = tiny_onnx.model([own], [("x", TensorProto.FLOAT, [1, 4])], [("y", TensorProto.FLOAT, [1, 4])])
    made.opset_import.append(helper.make_opsetid("acme", 1))
    refusal = refused(made)
    assert "acme:Own" in refusal.message
    assert "operators of ONNX itself" in str(refusal.hint)


def test_a_shape_of_another_rank_leaves_no_size_behind() -> None:
    open_image = tiny_onnx.model(
        [node("Relu", ["x"], "y")], [("x", FLOAT, ["n", 3, "high", "wide"])], [("y", FLOAT, ["n", 3, "high", "wide"])]
    )
    source = Path("m.onnx")
    declared = onnx_interface.declared(source, open_image)
    with pytest.raises(BadInput, match=r"'x' is \(1, 3, \?, \?\), which --shape 1,3,16 does not fit"):
        onnx_interface.ports(source, declared, {"x": (1, 3, 16)}, None, keep_layout=False)
