"""ONNX graphs that the converter by itself gets wrong or refuses, through the importer, which holds them against onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests import onnx_graphs, tiny_onnx
from tests.conftest import Answer
from tests.onnx_graphs import Array
from tests.tiny_onnx import node

Here = Callable[..., Answer]
# TFLite's own sequence operations keep their state from run to run.
STATEFUL = {"UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "WHILE"}


def normal(*shape: int, scale: float = 0.3) -> Array:
    """Return seeded weights."""
    return (np.random.default_rng(sum(shape)).standard_normal(shape) * scale).astype(np.float32)


def integers(*values: int) -> Array:
    """Return a constant list of whole numbers."""
    return np.array(values, np.int64)


def speech() -> onnx.ModelProto:
    """Tell speech from noise as silero-vad does: a rate that chooses the branch, frames by convolution, an LSTM's state."""

    def branch(name: str, window: int, hidden: int) -> onnx.GraphProto:
        constants = {
            f"{name}_basis": normal(2 * hidden, 1, window),
            f"{name}_kernel": normal(hidden, hidden, 3),
            f"{name}_W": normal(1, 4 * hidden, hidden),
            f"{name}_R": normal(1, 4 * hidden, hidden),
            f"{name}_B": normal(1, 8 * hidden),
            f"{name}_head": normal(1, hidden, 1),
        }
        nodes = [
            node("Pad", ["input", "margins"], "padded", mode="reflect"),
            node("Unsqueeze", ["padded", "one"], "channel"),
            node("Conv", ["channel", f"{name}_basis"], "spectrum", strides=[window // 2]),
            node("Split", ["spectrum"], ["real", "imaginary"], axis=1),
            node("Mul", ["real", "real"], "power"),
            node("Mul", ["imaginary", "imaginary"], "power_too"),
            node("Add", ["power", "power_too"], "energy"),
            node("Sqrt", ["energy"], "size"),
            node("Conv", ["size", f"{name}_kernel"], "features", pads=[1, 1], strides=[2]),
            node("Relu", ["features"], "active"),
            node("Squeeze", ["active", "last"], "frame"),  # only one rate leaves one frame of 24 samples
            node("Unsqueeze", ["frame", "zero"], "step"),
            node("Gather", ["state", "first"], "h"),
            node("Gather", ["state", "second"], "c"),
            node(
                "LSTM",
                ["step", f"{name}_W", f"{name}_R", f"{name}_B", "", "h", "c"],
                ["", "h_after", "c_after"],
                hidden_size=hidden,
            ),
            node("Concat", ["h_after", "c_after"], f"{name}_state", axis=0),
            node("Transpose", ["h_after"], "columns", perm=[1, 2, 0]),
            node("Conv", ["columns", f"{name}_head"], "said"),
            node("Sigmoid", ["said"], "sure"),
            node("ReduceMean", ["sure"], f"{name}_speech", axes=[1, 2], keepdims=0),
        ]
        kind = onnx.TensorProto.FLOAT
        outputs = [helper.make_tensor_value_info(f"{name}_{what}", kind, None) for what in ("speech", "state")]
        return helper.make_graph(
            nodes, name, [], outputs, [onnx.numpy_helper.from_array(array, key) for key, array in constants.items()]
        )

    nodes = [
        node("Equal", ["sr", "sixteen_k"], "is_16k"),
        node(
            "If", ["is_16k"], ["speech", "state_after"], then_branch=branch("a", 32, 8), else_branch=branch("b", 8, 8)
        ),
    ]
    constants = {
        "sixteen_k": np.array(16000),
        "margins": integers(0, 0, 0, 8),
        "zero": integers(0),
        "one": integers(1),
        "last": integers(2),
        "first": integers(0),
        "second": integers(1),
    }
    fed = {"input": (1, 24), "state": (2, 1, 8), "sr": ()}
    made = onnx_graphs.graph(nodes, fed, ["speech", "state_after"], constants, opset=15, kinds={"sr": tiny_onnx.INT64})
    for value, shape in zip(made.graph.output, ([1], [2, 1, 8]), strict=True):
        value.type.CopyFrom(helper.make_tensor_type_proto(tiny_onnx.FLOAT, shape))
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "samples"
    return made


def recurrent() -> onnx.ModelProto:
    """A bidirectional LSTM, a GRU of PyTorch's kind, and a plain one backwards, as exporters chain them."""
    nodes = [
        node("Transpose", ["frames"], "steps", perm=[1, 0, 2]),
        node("LSTM", ["steps", "W1", "R1", "B1"], ["y1", "h1"], hidden_size=5, direction="bidirectional"),
        node("Transpose", ["y1"], "t1", perm=[0, 2, 1, 3]),
        node("Reshape", ["t1", "wide"], "x2"),
        node("GRU", ["x2", "W2", "R2", "B2"], ["y2"], hidden_size=6, linear_before_reset=1),
        node("Squeeze", ["y2", "one"], "x3"),
        node("RNN", ["x3", "W3", "R3", "B3"], ["y3", "h3"], hidden_size=3, direction="reverse"),
        node("Squeeze", ["y3", "one"], "back"),
        node("Transpose", ["back"], "out", perm=[1, 0, 2]),
    ]
    constants: dict[str, Array] = {"wide": integers(0, 0, -1), "one": integers(1)}
    for number, (count, gates, hidden, size) in enumerate(((2, 4, 5, 4), (1, 3, 6, 10), (1, 1, 3, 6)), 1):
        constants[f"W{number}"] = normal(count, gates * hidden, size)
        constants[f"R{number}"] = normal(count, gates * hidden, hidden)
        constants[f"B{number}"] = normal(count, 2 * gates * hidden)
    return onnx_graphs.graph(nodes, {"frames": (1, 7, 4)}, ["out", "h1", "h3"], constants)


def image() -> onnx.ModelProto:
    """A small U-Net with group normalization, a grouped convolution, and resizes that TFLite lacks."""
    nodes = [
        node("Conv", ["image", "k1"], "a", pads=[1, 1, 1, 1]),
        node("Reshape", ["a", "rows"], "g1"),
        node("InstanceNormalization", ["g1", "ones", "zeros"], "g2"),
        node("Shape", ["a"], "shape"),
        node("Reshape", ["g2", "shape"], "g3"),
        node("Mul", ["g3", "scale"], "g4"),
        node("Add", ["g4", "bias"], "g5"),
        node("Sigmoid", ["g5"], "gate"),
        node("Mul", ["g5", "gate"], "b"),
        node("MaxPool", ["b"], "down", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["down", "k2"], "c", pads=[1, 1, 1, 1], group=2),
        node("Elu", ["c"], "d", alpha=0.4),
        node("Resize", ["d", "", "", "sizes"], "up", mode="cubic", coordinate_transformation_mode="align_corners"),
        node("Concat", ["up", "b"], "both", axis=1),
        node("Conv", ["both", "k3"], "e"),
        node("Resize", ["e", "", "twice"], "f", mode="nearest", coordinate_transformation_mode="half_pixel"),
        node(
            "Resize", ["f", "", "", "odd"], "mask", mode="linear", coordinate_transformation_mode="pytorch_half_pixel"
        ),
    ]
    constants = {
        "k1": normal(8, 3, 3, 3),
        "k2": normal(8, 4, 3, 3),
        "k3": normal(3, 16, 1, 1),
        "rows": integers(0, 4, -1),
        "ones": np.ones(4, np.float32),
        "zeros": np.zeros(4, np.float32),
        "scale": normal(8, 1, 1),
        "bias": normal(8, 1, 1),
        "sizes": integers(1, 8, 12, 16),
        "twice": np.array([1, 1, 1.5, 2], np.float32),
        "odd": integers(1, 3, 31, 33),
    }
    return onnx_graphs.graph(nodes, {"image": (1, 3, 12, 16)}, ["mask"], constants)


def encoder() -> onnx.ModelProto:
    """An encoder layer of BERT's kind: a mask made of shapes, einsum, GELU written out, layer normalization."""
    nodes = [
        node("Gather", ["table", "tokens"], "x"),
        node("Shape", ["tokens"], "shape"),
        node("ConstantOfShape", ["shape"], "open", value=onnx.numpy_helper.from_array(np.zeros(1, np.float32))),
        node("Cast", ["mask"], "seen", to=tiny_onnx.BOOL),
        node("Where", ["seen", "open", "closed"], "row"),
        node("Unsqueeze", ["row", "inner"], "bias"),
        node("MatMul", ["x", "wq"], "q0"),
        node("Add", ["bq", "q0"], "q1"),
        node("Reshape", ["q1", "heads"], "q"),
        node("MatMul", ["x", "wk"], "k1"),
        node("Reshape", ["k1", "heads"], "k"),
        node("MatMul", ["x", "wv"], "v1"),
        node("Reshape", ["v1", "heads"], "v"),
        node("Einsum", ["q", "k"], "scores", equation="bqhd,bkhd->bhqk"),
        node("Add", ["scores", "bias"], "masked"),
        node("Softmax", ["masked"], "weights", axis=-1),
        node("Einsum", ["weights", "v"], "mixed", equation="bhqk,bkhd->bqhd"),
        node("Reshape", ["mixed", "flat"], "joined"),
        node("Add", ["joined", "x"], "sum"),
        node("LayerNormalization", ["sum", "scale", "shift"], "n"),
        node("MatMul", ["n", "w1"], "f1"),
        node("Add", ["f1", "b1"], "f2"),
        node("Mul", ["f2", "root_half"], "g1"),
        node("Erf", ["g1"], "g2"),
        node("Add", ["g2", "unit"], "g3"),
        node("Mul", ["g3", "half"], "g4"),
        node("Mul", ["f2", "g4"], "g"),
        node("MatMul", ["g", "w2"], "f3"),
        node("Add", ["f3", "n"], "embedding"),
    ]
    constants = {
        "table": normal(20, 8, scale=1.0),
        "closed": np.array(-1e9, np.float32),
        "inner": integers(1, 2),
        "heads": integers(0, 0, 2, 4),
        "flat": integers(0, 0, 8),
        **{name: normal(8, 8) + place for place, name in enumerate(("wq", "wk", "wv"))},
        "bq": normal(8),
        "w1": normal(8, 16),
        "b1": normal(16),
        "w2": normal(16, 8),
        "scale": normal(8, scale=1.0),
        "shift": normal(8),
        **{
            name: np.array(number, np.float32)
            for name, number in {"root_half": 0.5**0.5, "unit": 1.0, "half": 0.5}.items()
        },
    }
    kinds = {"tokens": tiny_onnx.INT64, "mask": tiny_onnx.INT64}
    return onnx_graphs.graph(nodes, {"tokens": (1, 6), "mask": (1, 6)}, ["embedding"], constants, kinds=kinds)


MAKERS = (speech, recurrent, image, encoder)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: str(make.__name__))
def test_hard_graphs_come_in_and_give_what_onnxruntime_gives(
    make: Callable[[], onnx.ModelProto], here: Here, tmp_path: Path
) -> None:
    """The importer verifies; nothing custom is left, nothing keeps a state of its own."""
    model = make()
    onnx.checker.check_model(model)
    path, data, out = tiny_onnx.save(model, tmp_path / "m.onnx"), tmp_path / "d.npz", tmp_path / "out"
    random = np.random.default_rng(3)
    arrays: dict[str, Any] = {}
    for value in model.graph.input:
        shape = [dim.dim_value or 24 for dim in value.type.tensor_type.shape.dim]
        if value.name == "sr":
            arrays["sr"] = np.full((12,), 16000)
        elif value.type.tensor_type.elem_type == tiny_onnx.INT64:
            arrays[value.name] = random.integers(0, 20 if value.name == "tokens" else 2, (12, *shape[1:]))
        else:
            batched = shape[1:] if shape[0] == 1 else shape
            arrays[value.name] = random.standard_normal((12, *batched)).astype(np.float32)
    np.savez(data, **arrays)
    answer = here("build", path, "--target", "rpi4", "--recipe", "float32", "--data", data, "--out", out, "--json")
    assert answer.code == 0, answer.stdout + answer.stderr
    assert answer.table["import"]["relative_error"] <= 1e-4
    inside = here("inspect", out / "model.tflite", "--json").table["operators"]
    assert not STATEFUL & set(inside)
    assert not [name for name in inside if name.startswith(("ONNX_", "Flex"))]
    notes = json.loads((out / "manifest.json").read_text())["notes"]
    assert any("layer" in note for note in notes), notes


def test_what_no_rewrite_can_do_is_named(here: Here, tmp_path: Path) -> None:
    """Sequence lengths that differ: operation and layer, in the file's words."""
    lengths = {"W": normal(1, 9, 2), "R": normal(1, 9, 3), "lengths": np.array([2], np.int32)}
    made = onnx_graphs.graph(
        [node("GRU", ["x", "W", "R", "", "lengths"], ["y"], hidden_size=3)], {"x": (4, 1, 2)}, ["y"], lengths
    )
    path = tiny_onnx.save(made, tmp_path / "m.onnx")
    answer = here("inspect", path)
    assert answer.code in (2, 5)
    assert "operation GRU, layer 'y_layer': sequence lengths [2] that are not all 4" in answer.message
