"""Small ONNX models for tests, one for each thing that an importer must get right. Weights are seeded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR = 17, 8
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Value = tuple[str, int, Sequence[int | str]]


def weights(name: str, *shape: int) -> onnx.TensorProto:
    """Return seeded normal weights; the name decides them."""
    seed = sum(name.encode()) + sum(shape)
    return constant(name, np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def constant(name: str, value: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def node(kind: str, inputs: Sequence[str], output: str | Sequence[str], **attributes: Any) -> onnx.NodeProto:
    outputs = [output] if isinstance(output, str) else list(output)
    return helper.make_node(kind, list(inputs), outputs, name=f"{outputs[0]}_layer", **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    initializers: Sequence[onnx.TensorProto] = (),
    opset: int = OPSET,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        list(initializers),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR)


def two_inputs(batch: int | str = "n") -> onnx.ModelProto:
    """An image (channels first) and a vector in; scores and one more value out."""
    nodes = [
        node("Conv", ["image", "kernel"], "features", pads=[1, 1, 1, 1]),
        node("Relu", ["features"], "active"),
        node("GlobalAveragePool", ["active"], "pooled"),
        node("Flatten", ["pooled"], "flat"),
        node("Concat", ["flat", "extra"], "both", axis=1),
        node("Gemm", ["both", "dense", "bias"], "scores"),
        node("MatMul", ["both", "turn"], "turned"),
        node("Tanh", ["turned"], "angle"),
    ]
    return model(
        nodes,
        [("image", FLOAT, [batch, 3, 8, 8]), ("extra", FLOAT, [batch, 4])],
        [("scores", FLOAT, [batch, 5]), ("angle", FLOAT, [batch, 1])],
        [weights("kernel", 6, 3, 3, 3), weights("dense", 10, 5), weights("bias", 5), weights("turn", 10, 1)],
    )


def open_image() -> onnx.ModelProto:
    """An image of any size in, one of twice the size out, as a U-Net gives it."""
    nodes = [
        node("Conv", ["image", "kernel"], "features", pads=[1, 1, 1, 1]),
        node("Relu", ["features"], "active"),
        node("ConvTranspose", ["active", "wider"], "wide", strides=[2, 2]),
        node("Sigmoid", ["wide"], "mask"),
    ]
    return model(
        nodes,
        [("image", FLOAT, ["batch", 3, "height", "width"])],
        [("mask", FLOAT, ["batch", 2, "h", "w"])],
        [weights("kernel", 6, 3, 3, 3), weights("wider", 6, 2, 2, 2)],
    )


def tokens() -> onnx.ModelProto:
    """Token numbers and a mask in, an embedding and the place of its largest value out."""
    nodes = [
        node("Gather", ["table", "input_ids"], "embedded"),
        node("Cast", ["attention_mask"], "kept", to=FLOAT),
        node("Unsqueeze", ["kept", "last"], "column"),
        node("Mul", ["embedded", "column"], "masked"),
        node("ReduceMean", ["masked"], "mean", axes=[1], keepdims=0),
        node("MatMul", ["mean", "dense"], "embedding"),
        node("ArgMax", ["embedding"], "best", axis=1, keepdims=0),
    ]
    return model(
        nodes,
        [("input_ids", INT64, ["batch", "sequence"]), ("attention_mask", INT64, ["batch", "sequence"])],
        [("embedding", FLOAT, ["batch", 6]), ("best", INT64, ["batch"])],
        [weights("table", 50, 8), weights("dense", 8, 6), constant("last", np.array([2]))],
    )


def stateful() -> onnx.ModelProto:
    """A state whose batch stands second, and a single number, beside the input: as recurrent models have them."""
    nodes = [
        node("Slice", ["state", "zero", "one", "zero"], "first"),
        node("Squeeze", ["first", "zero"], "memory"),
        node("Concat", ["x", "memory"], "both", axis=1),
        node("MatMul", ["both", "dense"], "next"),
        node("Tanh", ["next"], "out"),
        node("Cast", ["rate"], "factor", to=FLOAT),
        node("Unsqueeze", ["out", "zero"], "told"),
        node("Mul", ["told", "factor"], "scaled"),
        node("Concat", ["scaled", "first"], "state_after", axis=0),
    ]
    return model(
        nodes,
        [("x", FLOAT, [1, 4]), ("state", FLOAT, [2, 1, 3]), ("rate", INT64, [])],
        [("out", FLOAT, [1, 3]), ("state_after", FLOAT, [2, 1, 3])],
        [weights("dense", 7, 3), constant("zero", np.array([0])), constant("one", np.array([1]))],
    )


def odd_names() -> onnx.ModelProto:
    """Names as exporters leave them: with dots, colons, slashes and blanks."""
    nodes = [
        node("MatMul", ["input.1", "dense"], "/model/out:0"),
        node("Relu", ["/model/out:0"], "a name, with blanks"),
    ]
    return model(
        nodes,
        [("input.1", FLOAT, [1, 4])],
        [("/model/out:0", FLOAT, [1, 3]), ("a name, with blanks", FLOAT, [1, 3])],
        [weights("dense", 4, 3)],
    )


def named_by_tensorflow() -> onnx.ModelProto:
    """Inputs with the colons of TensorFlow's names: two images, channels first."""
    nodes = [
        node("Conv", ["image:0", "kernel"], "features"),
        node("Conv", ["other/image:0", "kernel"], "others"),
        node("Sub", ["features", "others"], "out:0"),
    ]
    return model(
        nodes,
        [("image:0", FLOAT, [1, 3, 8, 8]), ("other/image:0", FLOAT, [1, 3, 8, 8])],
        [("out:0", FLOAT, [1, 4, 6, 6])],
        [weights("kernel", 4, 3, 3, 3)],
    )


def channels_last() -> onnx.ModelProto:
    """A model that TensorFlow's exporter wrote: images end with their channels, and a Transpose stands in front."""
    nodes = [
        node("Transpose", ["image"], "first", perm=[0, 3, 1, 2]),
        node("Conv", ["first", "kernel"], "features", strides=[2, 2]),
        node("Transpose", ["features"], "out", perm=[0, 2, 3, 1]),
    ]
    return model(
        nodes, [("image", FLOAT, ["n", 8, 8, 3])], [("out", FLOAT, ["n", 3, 3, 4])], [weights("kernel", 4, 3, 3, 3)]
    )


def sequence() -> onnx.ModelProto:
    """A one-dimensional convolution, and a product of two matrices: nothing here is an image."""
    nodes = [
        node("Conv", ["audio", "kernel"], "features", pads=[1, 1]),
        node("Relu", ["features"], "active"),
        node("Transpose", ["active"], "steps", perm=[0, 2, 1]),
        node("MatMul", ["steps", "dense"], "out"),
    ]
    return model(
        nodes,
        [("audio", FLOAT, [1, 2, 16])],
        [("active", FLOAT, [1, 5, 16]), ("out", FLOAT, [1, 16, 3])],
        [weights("kernel", 5, 2, 3), weights("dense", 5, 3)],
    )


def quantized() -> onnx.ModelProto:
    """A convolution between QuantizeLinear and DequantizeLinear, its weights int8."""
    kernel: NDArray[np.int8] = np.random.default_rng(3).integers(-127, 127, (4, 3, 3, 3)).astype(np.int8)
    nodes = [
        node("QuantizeLinear", ["image", "scale", "zero"], "image_q"),
        node("DequantizeLinear", ["image_q", "scale", "zero"], "image_d"),
        node("DequantizeLinear", ["kernel", "scale", "zero"], "kernel_d"),
        node("Conv", ["image_d", "kernel_d"], "features"),
        node("QuantizeLinear", ["features", "wide", "zero"], "features_q"),
        node("DequantizeLinear", ["features_q", "wide", "zero"], "out"),
    ]
    values = [constant("scale", np.float32(0.02)), constant("wide", np.float32(0.3)), constant("zero", np.int8(0))]
    return model(
        nodes, [("image", FLOAT, [1, 3, 8, 8])], [("out", FLOAT, [1, 4, 6, 6])], [*values, constant("kernel", kernel)]
    )


def half() -> onnx.ModelProto:
    """A model in float16, inputs and outputs too."""
    dense = constant("dense", np.ones((4, 3), np.float16))
    return model(
        [node("MatMul", ["x", "dense"], "y")],
        [("x", TensorProto.FLOAT16, [1, 4])],
        [("y", TensorProto.FLOAT16, [1, 3])],
        [dense],
    )


def save(made: onnx.ModelProto, path: Path) -> Path:
    onnx.save(made, path)
    return path


def save_with_weights_beside(made: onnx.ModelProto, path: Path) -> Path:
    """Write a model whose weights stand in a file beside it."""
    onnx.save(made, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    return path
