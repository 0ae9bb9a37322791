"""Files to ask runtimes about: every version of every operation, every type, single quantized operations, and edgeship's own recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeship.passes import quantize
from edgeship.recipe import Quantization
from tests.tiny_tflite import TinyModel, separable

VERSIONS = range(1, 18)
CUSTOM = (
    "AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess", "aeq.hadamard_rotation",
    "odml.scaled_dot_product_attention", "odml.update_kv_cache", "edgetpu-custom-op", "ethos-u", "FlexAddV2", "Nonsense",
)  # fmt: skip
SHAPE = (1, 4, 4, 8)
ACTIVATIONS = ("float32", "int8", "int16")
UNARY = (
    "ABS", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "TANH", "LOGISTIC", "SQRT", "RSQRT", "EXP", "LOG", "SIN", "COS", "NEG",
    "FLOOR", "CEIL", "ROUND", "SQUARE", "HARD_SWISH", "ELU", "GELU", "LEAKY_RELU", "SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION",
    "ZEROS_LIKE",
)  # fmt: skip
BINARY = (
    "ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW", "ATAN2", "EQUAL", "NOT_EQUAL", "GREATER",
    "GREATER_EQUAL", "LESS", "LESS_EQUAL", "PRELU",
)  # fmt: skip
COMPARING = frozenset(BINARY[9:15])
REDUCING = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
MOVING: dict[str, tuple[list[Any], tuple[int, ...]]] = {  # operation → its integer arguments, shape of its output
    "TRANSPOSE": ([[0, 2, 1, 3]], SHAPE),
    "PAD": ([[[0, 0], [1, 1], [1, 1], [0, 0]]], (1, 6, 6, 8)),
    "TILE": ([[1, 2, 1, 1]], (1, 8, 4, 8)),
    "SLICE": ([[0, 1, 1, 0], [1, 2, 2, 8]], (1, 2, 2, 8)),
    "CUMSUM": ([1], SHAPE),
}
BLOCKS = {"SPACE_TO_DEPTH": (1, 2, 2, 32), "DEPTH_TO_SPACE": (1, 8, 8, 2)}
IN_SCALES: Mapping[str, tuple[float, int]] = {"int8": (0.02, 3), "int16": (1e-4, 0)}
OUT_SCALES: Mapping[str, tuple[float, int]] = {"int8": (0.05, 2), "int16": (3e-4, 0)}
# These kernels take one output scale only.
FIXED: Mapping[str, Mapping[str, tuple[float, int]]] = {
    "TANH": {"int8": (1 / 128, 0), "int16": (1 / 32768, 0)},
    "LOGISTIC": {"int8": (1 / 256, -128), "int16": (1 / 32768, 0)},
    "SOFTMAX": {"int8": (1 / 256, -128), "int16": (1 / 32768, 0)},
    "LOG_SOFTMAX": {"int8": (16 / 256, 127), "int16": (16 / 65536, 32767)},
    "L2_NORMALIZATION": {"int8": (1 / 128, 0), "int16": (1 / 32768, 0)},
    **dict.fromkeys(("ABS", "NEG", "ZEROS_LIKE", "MAXIMUM", "MINIMUM", "REDUCE_MAX", "REDUCE_MIN"), IN_SCALES),
}


def versions(folder: Path) -> None:
    """Write `<operation>-<version>.tflite` for all: runtimes look operations up when they load a file, used there or not."""
    for name, code in vars(schema.BuiltinOperator).items():
        for version in VERSIONS if isinstance(code, int) else ():
            model = _idle()
            made = schema.OperatorCodeT()
            made.builtinCode, made.deprecatedBuiltinCode, made.version = code, min(code, 127), version
            model.codes.append(made)
            model.write(folder / f"{name}-{version}.tflite")


def types(folder: Path) -> None:
    """Write `<type>.tflite` for each type of tensor."""
    for name, code in vars(schema.TensorType).items():
        if isinstance(code, int):
            model = _idle()
            model.tensor("spare", (4,), name)
            model.write(folder / f"{name.lower()}.tflite")


def customs(folder: Path) -> None:
    """Write `<custom operation>.tflite` for each of `CUSTOM`."""
    for name in CUSTOM:
        model = TinyModel()
        source = model.input("x", (1,))
        model.outputs.append(model.operator("CUSTOM", [source], model.tensor("y", (1,))))
        model.codes[-1].customCode = name
        model.write(folder / f"{name}.tflite")


def operations(folder: Path) -> None:
    """Write `<operation>.<activations>[.…].tflite`: one operation each, version 1, as a quantizer would leave it."""
    for kind in ACTIVATIONS:
        for name in UNARY:
            _one(folder, name, kind, [], SHAPE)
        for name in BINARY:
            _one(folder, name, kind, ["other"], SHAPE)
        for name in REDUCING:
            _one(folder, name, kind, [[1, 2]], (1, 1, 1, 8), options=("ReducerOptions", {"keepDims": True}))
        for name, (arguments, shape) in MOVING.items():
            _one(folder, name, kind, arguments, shape, same=True)
        for name, shape in BLOCKS.items():
            field = f"{name.title().replace('_', '').replace('To', 'To')}Options"
            _one(folder, name, kind, [], shape, same=True, options=(field, {"blockSize": 2}))
    for weights in ("int8", "int4"):
        for several in (True, False):
            for kind in ACTIVATIONS:
                for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
                    _weighted(folder, name, kind, weights, several)
            _weighted(folder, "BATCH_MATMUL", "float32", "int8", several)
            _weighted(folder, "EMBEDDING_LOOKUP", "float32", "int8", several)
    _weighted(folder, "CONV_2D", "float32", "int8", several=False, groups=2)


def recipes(folder: Path) -> None:
    """Write `<model>.<scheme>[.tensor].tflite`: small float models through edgeship's own quantizing pass."""
    builders: dict[str, Callable[[], TinyModel]] = {
        "separable": lambda: separable(last="RESHAPE"), "upsampling": _upsampling, "normalized": _normalized,
    }  # fmt: skip
    for name, build in builders.items():
        source = build().write(folder / f"{name}.float32.tflite")
        shape = build().tensors[0].shape
        feed = folder / f"{name}.feed"
        with feed.open("wb") as stream:
            examples = np.random.default_rng(0).uniform(0.05, 1.5, (16, *shape[1:])).astype(np.float32)
            arrays: dict[str, Any] = {f"input:{build().tensors[0].name}": examples}
            np.savez(stream, **arrays)
        for scheme in ("float16", "int8-weights", "int4-weights", "dynamic-int8", "int8", "int8-float-io", "int16x8"):
            for granularity in (
                ("channel", "tensor") if scheme in ("int8-weights", "dynamic-int8", "int8") else ("channel",)
            ):
                options = Quantization.model_validate({"scheme": scheme, "granularity": granularity})
                out = folder / f"{name}.{scheme}{'.tensor' if granularity == 'tensor' else ''}.tflite"
                quantize.quantize(lambda step: None, source, name, feed, options, out)


def _idle() -> TinyModel:
    model = TinyModel()
    model.outputs.append(model.input("x", (1,)))
    return model


def _one(
    folder: Path,
    name: str,
    kind: str,
    arguments: Sequence[Any],
    shape: Sequence[int],
    *,
    same: bool = False,
    options: tuple[str, dict[str, Any]] | None = None,
) -> None:
    model = TinyModel()
    source = model.input("x", SHAPE, kind, **_scales(IN_SCALES, kind))
    inputs = [source]
    for number, argument in enumerate(arguments):
        if argument == "other":
            depth = (1, 1, 8) if name == "PRELU" else SHAPE
            inputs.append(_stored(model, np.random.default_rng(0).uniform(0.3, 1.2, depth), kind))
        else:
            inputs.append(model.constant(f"argument{number}", np.asarray(argument, np.int32)))
    scales = IN_SCALES if same else FIXED.get(name, OUT_SCALES)
    found = "bool" if name in COMPARING else kind
    model.outputs.append(model.operator(name, inputs, model.tensor("y", shape, found, **_scales(scales, found))))
    table = options or {"LEAKY_RELU": ("LeakyReluOptions", {"alpha": 0.1}), "GELU": ("GeluOptions", {})}.get(name)
    if table:
        made = getattr(schema, f"{table[0]}T")()
        for field, value in table[1].items():
            setattr(made, field, value)
        model.operators[-1].builtinOptionsType = getattr(schema.BuiltinOptions, table[0])
        model.operators[-1].builtinOptions = made
    model.write(folder / f"{name}.{kind}.tflite")


def _weighted(folder: Path, name: str, kind: str, weights: str, several: bool, groups: int = 1) -> None:
    """Write one operation with small integer weights, whose channels differ in size."""
    model, random = TinyModel(), np.random.default_rng(2)
    shape, axis, source_shape, out = {
        "CONV_2D": ((16, 3, 3, 8 // groups), 0, SHAPE, (1, 4, 4, 16)),
        "DEPTHWISE_CONV_2D": ((1, 3, 3, 8), 3, SHAPE, SHAPE),
        "FULLY_CONNECTED": ((16, 8), 0, (1, 8), (1, 16)),
        "TRANSPOSE_CONV": ((16, 3, 3, 8), 0, SHAPE, (1, 8, 8, 16)),
        "BATCH_MATMUL": ((1, 8, 16), 2, (1, 5, 8), (1, 5, 16)),
        "EMBEDDING_LOOKUP": ((12, 8), 0, (3,), (3, 8)),
    }[name]
    top = 127 if weights == "int8" else 7
    channels = shape[axis]
    scales = random.uniform(0.2, 4.0, channels if several else 1) / top
    values = random.integers(-top, top + 1, shape).astype(np.int8)
    first = "int32" if name == "EMBEDDING_LOOKUP" else kind
    source = model.input("x", source_shape, first, **_scales(IN_SCALES, first))
    kernel = model.constant("w", values, "int4" if weights == "int4" else None, scale=scales, axis=axis)
    inputs = [source, kernel]
    if name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        bias = np.zeros(channels, {"float32": np.float32, "int8": np.int32, "int16": np.int64}[kind])
        given: dict[str, Any] = {} if kind == "float32" else {"scale": scales * IN_SCALES[kind][0]}
        inputs.append(model.constant("b", bias, **given))
    if name == "TRANSPOSE_CONV":
        inputs = [model.constant("shape", np.array(out, np.int32)), kernel, source]
    if name == "EMBEDDING_LOOKUP":
        inputs = [source, kernel]
    wide = {"int8": (1.0, 0), "int16": (4e-3, 0)}
    step = {"TRANSPOSE_CONV": 2, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1}.get(name)
    options: dict[str, Any] = {} if step is None else {"strideH": step, "strideW": step}
    options |= {"depthMultiplier": 1} if name == "DEPTHWISE_CONV_2D" else {}
    options |= {"dilationHFactor": 1, "dilationWFactor": 1} if step == 1 else {}
    model.outputs.append(model.operator(name, inputs, model.tensor("y", out, kind, **_scales(wide, kind)), **options))
    ending = f"{'several' if several else 'one'}{'.groups' if groups > 1 else ''}"
    model.write(folder / f"{name}.{kind}.{weights}.{ending}.tflite")


def _scales(scales: Mapping[str, tuple[float, int]], kind: str) -> dict[str, Any]:
    return {"scale": [scales[kind][0]], "zero_point": [scales[kind][1]]} if kind in scales else {}


def _stored(model: TinyModel, values: NDArray[Any], kind: str) -> int:
    if kind not in IN_SCALES:
        return model.constant("other", values.astype(kind))
    scale, zero_point = IN_SCALES[kind]
    stored = np.round(values / scale + zero_point).astype(kind)
    return model.constant("other", stored, **_scales(IN_SCALES, kind))


def _upsampling() -> TinyModel:
    """Return a convolution and a transposed one, twice as large."""
    random, model = np.random.default_rng(3), TinyModel()
    first = model.conv(model.input("image", (1, 8, 8, 3)), "narrow", random.normal(size=(8, 3, 3, 3)), (8, 8))
    kernel = model.constant("widen/weight", random.normal(size=(4, 3, 3, 8)).astype(np.float32))
    shape, wide = model.constant("shape", np.array([1, 16, 16, 4], np.int32)), model.tensor("wide", (1, 16, 16, 4))
    model.outputs.append(model.operator("TRANSPOSE_CONV", [shape, kernel, first], wide, strideH=2, strideW=2))
    return model


def _normalized() -> TinyModel:
    """Return two dense layers with a division by a root between them, as layer normalization has it."""
    random, model = np.random.default_rng(4), TinyModel()
    dense = model.dense(model.input("x", (1, 16)), "first", random.normal(size=(12, 16)))
    square = model.operator("MUL", [dense, dense], model.tensor("square", (1, 12)))
    axes = model.constant("axes", np.array([1], np.int32))
    mean = model.operator("MEAN", [square, axes], model.tensor("mean", (1, 1)), keepDims=True)
    root = model.operator("SQRT", [mean], model.tensor("root", (1, 1)))
    divided = model.operator("DIV", [dense, root], model.tensor("divided", (1, 12)))
    model.outputs.append(model.dense(divided, "second", random.normal(size=(5, 12))))
    return model
