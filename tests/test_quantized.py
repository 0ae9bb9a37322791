"""What a file says of how it is quantized: the scheme in a recipe's word, and damaged files that say nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import quantized
from edgeship.recipe import Scheme
from tests.tiny_tflite import TinyModel

SCALE: dict[str, Any] = {"scale": 0.5}
KERNEL = np.arange(-8, 8).reshape(4, 4)


def quantized_dense(model: TinyModel, source: int, dtype: str, name: str = "dense") -> int:
    """Add a FULLY_CONNECTED with activations of a type and int8 weights."""
    kernel = model.constant(f"{name}/weight", KERNEL.astype(np.int8), **SCALE)
    return model.operator("FULLY_CONNECTED", [source, kernel, -1], model.tensor(name, (1, 4), dtype, **SCALE))


def whole(dtype: str) -> TinyModel:
    model = TinyModel()
    model.outputs.append(quantized_dense(model, model.input("in", (1, 4), dtype, **SCALE), dtype))
    return model


def float_in_and_out() -> TinyModel:
    model = TinyModel()
    given = model.operator("QUANTIZE", [model.input("in", (1, 4))], model.tensor("given", (1, 4), "int8", **SCALE))
    made = quantized_dense(model, given, "int8")
    model.outputs.append(model.operator("DEQUANTIZE", [made], model.tensor("out", (1, 4))))
    return model


def after_an_index() -> TinyModel:
    """Return an int8 model whose input is the row of a table."""
    model = TinyModel()
    table = model.constant("table", KERNEL.astype(np.int8), **SCALE)
    row = model.tensor("row", (1, 4), "int8", **SCALE)
    model.operator("GATHER", [table, model.input("in", (1,), "int32")], row)
    model.outputs.append(quantized_dense(model, row, "int8"))
    return model


def with_state() -> TinyModel:
    """Return an int8 model with a 16-bit state, as a quantized LSTM has."""
    model = whole("int8")
    states = [model.tensor(f"state{number}", (1, 4), "int16", **SCALE) for number in range(3)]
    for state in states:
        model.tensors[state].isVariable = True
    last = model.tensor("last", (1, 4), "int8", **SCALE)
    model.outputs = [model.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", [model.outputs[0], *states], last)]
    return model


def float_dense(values: Any, dtype: str | None = None, *, dequantized: bool = False, **quantization: Any) -> TinyModel:
    """Return a float FULLY_CONNECTED with weights of a type, made float again first or not."""
    model = TinyModel()
    source = model.input("in", (1, 4))
    kernel = model.constant("weight", values, dtype, **quantization)
    if dequantized:
        kernel = model.operator("DEQUANTIZE", [kernel], model.tensor("weight/float", (4, 4)))
    model.outputs.append(model.operator("FULLY_CONNECTED", [source, kernel, -1], model.tensor("out", (1, 4))))
    return model


def mixed() -> TinyModel:
    """Return a file with 16 int4 weights and 4 int8 ones."""
    model = float_dense(KERNEL.astype(np.int8), "int4", dequantized=True, **SCALE)
    row = model.constant("row", KERNEL[:1].astype(np.int8), **SCALE)
    real = model.operator("DEQUANTIZE", [row], model.tensor("row/float", (1, 4)))
    model.outputs = [model.operator("ADD", [model.outputs[0], real], model.tensor("sum", (1, 4)))]
    return model


SMALL = KERNEL.astype(np.int8)
FILES: dict[str, tuple[TinyModel, Scheme | None]] = {
    "int16x8": (whole("int16"), "int16x8"),
    "int8": (whole("int8"), "int8"),
    "uint8": (whole("uint8"), "int8"),
    "int8 after an index": (after_an_index(), "int8"),
    "int8 with a state": (with_state(), "int8"),
    "int8-float-io": (float_in_and_out(), "int8-float-io"),
    "int4 direct": (float_dense(SMALL, "int4", **SCALE), "int4-weights"),
    "int4": (float_dense(SMALL, "int4", dequantized=True, **SCALE), "int4-weights"),
    "int4 and int8": (mixed(), "int4-weights"),
    "dynamic": (float_dense(SMALL, **SCALE), "dynamic-int8"),
    "int8-weights": (float_dense(SMALL, dequantized=True, **SCALE), "int8-weights"),
    "float16": (float_dense(KERNEL.astype(np.float16), dequantized=True), "float16"),
    "float32": (float_dense(KERNEL.astype(np.float32)), None),
}


@pytest.mark.parametrize("name", FILES)
def test_the_scheme_is_read_from_the_file(name: str, tmp_path: Path) -> None:
    model, expected = FILES[name]
    graph = model.graph(tmp_path)
    assert quantized.scheme(graph) == expected
    assert (quantized.already_quantized(graph) is None) == (expected is None)


@pytest.mark.parametrize("kind", ["QUANTIZE", "DEQUANTIZE"])
@pytest.mark.parametrize("inputs", [[], [-1]])
def test_a_conversion_of_nothing_is_passed_over(kind: str, inputs: list[int], tmp_path: Path) -> None:
    model = float_dense(KERNEL.astype(np.float32))
    # int8: an index of -1 must not read the last tensor.
    model.operator(kind, inputs, model.constant("last", SMALL, **SCALE))
    graph = model.graph(tmp_path)
    assert quantized.coverage(graph).operators == 0
    assert quantized.scheme(graph) is None


def test_weights_that_share_a_buffer_count_once(tmp_path: Path) -> None:
    model = float_dense(KERNEL.astype(np.float32))
    first = next(tensor for tensor in model.tensors if tensor.name == "weight")
    again = model.tensor("again", (4, 4), buffer=first.buffer)
    model.outputs.append(model.operator("FULLY_CONNECTED", [0, again, -1], model.tensor("out2", (1, 4))))
    graph = model.graph(tmp_path)
    assert [tensor.name for tensor in quantized.weights(graph)] == ["weight"]
    assert quantized.coverage(graph).schemes == {"float32": 16}
