"""Builds small TFLite files for tests, tensor by tensor, through the schema's object API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import ArrayLike, NDArray

from edgeship import flatbuffer

SAME = schema.Padding.SAME
_OPTIONS = {
    "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions", "FULLY_CONNECTED": "FullyConnectedOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions", "CONV_3D": "Conv3DOptions", "BATCH_MATMUL": "BatchMatMulOptions",
    "ADD": "AddOptions", "MUL": "MulOptions", "MEAN": "ReducerOptions", "RESHAPE": "ReshapeOptions", "SOFTMAX": "SoftmaxOptions",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions", "DEQUANTIZE": "DequantizeOptions",
    "QUANTIZE": "QuantizeOptions", "SUB": "SubOptions", "MAXIMUM": "MaximumMinimumOptions", "HARD_SWISH": "HardSwishOptions",
    "LEAKY_RELU": "LeakyReluOptions", "CONCATENATION": "ConcatenationOptions", "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions", "TRANSPOSE": "TransposeOptions", "SQUEEZE": "SqueezeOptions", "PACK": "PackOptions",
    "EXPAND_DIMS": "ExpandDimsOptions", "STRIDED_SLICE": "StridedSliceOptions", "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "GELU": "GeluOptions", "SPLIT": "SplitOptions", "UNPACK": "UnpackOptions", "REDUCE_MAX": "ReducerOptions", "DIV": "DivOptions",
    "SQUARED_DIFFERENCE": "SquaredDifferenceOptions", "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions", "SPLIT_V": "SplitVOptions", "GATHER": "GatherOptions", "SUM": "ReducerOptions", "PAD": "PadOptions", "SHAPE": "ShapeOptions", "PADV2": "PadV2Options",
}  # fmt: skip


@dataclass
class TinyModel:
    """A model being built: each method adds a piece and returns its tensor's index."""

    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    codes: list[Any] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        *,
        scale: ArrayLike | None = None,
        zero_point: ArrayLike = 0,
        axis: int = 0,
        buffer: int = 0,
    ) -> int:
        """Add a tensor; computed, unless `buffer` names its content."""
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name, [int(size) for size in shape], buffer
        made.type = getattr(schema.TensorType, dtype.upper())
        if scale is not None:
            found = schema.QuantizationParametersT()
            scales = np.atleast_1d(np.asarray(scale, dtype=np.float32))
            found.scale = scales
            found.zeroPoint = np.broadcast_to(np.asarray(zero_point, dtype=np.int64), scales.shape).copy()
            found.quantizedDimension = axis
            made.quantization = found
        self.tensors.append(made)
        return len(self.tensors) - 1

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32", **quantization: Any) -> int:
        """Add an input of the model."""
        self.inputs.append(self.tensor(name, shape, dtype, **quantization))
        return self.inputs[-1]

    def constant(self, name: str, values: NDArray[Any], dtype: str | None = None, **quantization: Any) -> int:
        """Add a constant; for `int4` the values are packed two a byte, the first in the low bits."""
        content = np.ascontiguousarray(values)
        if dtype == "int4":
            nibbles = np.append(content.ravel().astype(np.uint8) & 15, np.zeros(content.size % 2, np.uint8))
            content = (nibbles[::2] | nibbles[1::2] << 4).astype(np.uint8)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content.tobytes(), dtype=np.uint8)
        self.buffers.append(buffer)
        kind = dtype or values.dtype.name
        return self.tensor(name, values.shape, kind, buffer=len(self.buffers) - 1, **quantization)

    def operator(self, kind: str, inputs: Sequence[int], output: int, *more: int, **options: Any) -> int:
        """Add an operation by its builtin name, with options by the schema's field names; return its first output."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 1
        self.codes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(self.codes) - 1, list(inputs), [output, *more]
        if kind in _OPTIONS:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, _OPTIONS[kind])
            made.builtinOptions = _filled(getattr(schema, f"{_OPTIONS[kind]}T")(), options)
        self.operators.append(made)
        return output

    def conv(self, source: int, name: str, kernel: NDArray[Any], size: Sequence[int], **options: Any) -> int:
        """Add a float CONV_2D with a bias and its output; kernel OHWI, options such as `strideH`."""
        return self._convolution("CONV_2D", source, name, kernel, kernel.shape[0], size, options)

    def depthwise(self, source: int, name: str, kernel: NDArray[Any], size: Sequence[int], **options: Any) -> int:
        """Add a float DEPTHWISE_CONV_2D with a bias and its output; kernel 1HWC."""
        options = {"depthMultiplier": 1, **options}
        return self._convolution("DEPTHWISE_CONV_2D", source, name, kernel, kernel.shape[3], size, options)

    def _convolution(
        self,
        kind: str,
        source: int,
        name: str,
        kernel: NDArray[Any],
        channels: int,
        size: Sequence[int],
        options: Mapping[str, Any],
    ) -> int:
        weight = self.constant(f"{name}/weight", kernel.astype(np.float32))
        bias = self.constant(f"{name}/bias", np.zeros(channels, np.float32))
        defaults = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": SAME}
        output = self.tensor(name, (1, *size, channels))
        return self.operator(kind, [source, weight, bias], output, **{**defaults, **options})

    def dense(self, source: int, name: str, weight: NDArray[Any]) -> int:
        """Add a float FULLY_CONNECTED without a bias and its output; weight [out, in]."""
        kernel = self.constant(f"{name}/weight", weight.astype(np.float32))
        return self.operator("FULLY_CONNECTED", [source, kernel, -1], self.tensor(name, (1, weight.shape[0])))

    def content(self) -> bytes:
        """Return the file's bytes."""
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs, graph.outputs = self.inputs, self.outputs
        model = schema.ModelT()
        model.version, model.description = 3, "made by a test"
        model.subgraphs, model.buffers, model.operatorCodes = [graph], self.buffers, self.codes
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def write(self, path: Path) -> Path:
        """Write the file and return its path."""
        path.write_bytes(self.content())
        return path

    def graph(self, folder: Path) -> flatbuffer.Graph:
        """Write the file into a folder and read it back."""
        return flatbuffer.read(self.write(folder / "tiny.tflite"))


def _filled(table: Any, options: Mapping[str, Any]) -> Any:
    for name, value in options.items():
        if not hasattr(table, name):
            raise AttributeError(f"{type(table).__name__} has no '{name}'")
        setattr(table, name, value)
    return table


def separable(*, zeros: float = 0.0, seed: int = 0, last: str = "MEAN") -> TinyModel:
    """Return a small convolutional model: 3x3 stride 2 from RGB, depthwise, two 1x1, a spatial mean, dense, softmax.

    `zeros` of each 1x1 kernel's values are exactly zero; `last` other than MEAN (as RESHAPE) flattens instead.
    """
    random = np.random.default_rng(seed)
    model = TinyModel()
    image = model.input("image", (1, 16, 16, 3))
    first = model.conv(image, "stem", random.normal(size=(8, 3, 3, 3)), (8, 8), strideH=2, strideW=2)
    deep = model.depthwise(first, "depthwise", random.normal(size=(1, 3, 3, 8)), (8, 8))
    wide = model.conv(deep, "expand", _pruned(random.normal(size=(32, 1, 1, 8)), zeros), (8, 8))
    thin = model.conv(wide, "project", _pruned(random.normal(size=(16, 1, 1, 32)), zeros), (8, 8))
    if last == "MEAN":
        axes = model.constant("axes", np.array([1, 2], np.int32))
        pooled = model.operator("MEAN", [thin, axes], model.tensor("pooled", (1, 1, 1, 16)), keepDims=True)
        flat = model.operator("RESHAPE", [pooled], model.tensor("flat", (1, 16)), newShape=[1, 16])
    else:
        flat = model.operator("RESHAPE", [thin], model.tensor("flat", (1, 1024)), newShape=[1, 1024])
    units = 16 if last == "MEAN" else 1024
    logits = model.dense(flat, "dense", random.normal(size=(10, units)))
    model.outputs.append(model.operator("SOFTMAX", [logits], model.tensor("softmax", (1, 10)), beta=1.0))
    return model


def _pruned(kernel: NDArray[Any], zeros: float) -> NDArray[Any]:
    order = np.argsort(np.abs(kernel), axis=None)
    flat = kernel.ravel().copy()
    flat[order[: round(zeros * flat.size)]] = 0
    return flat.reshape(kernel.shape)
