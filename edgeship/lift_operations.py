"""TFLite operations that have no Keras layer, as one small custom layer that every technique passes through untouched.

Axes are those of one example, in the shape that the file has for a batch of 1. `lead` is 0 where a tensor's own first
axis, of length 1, became the batch, and 1 where the batch stands before all axes of the example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

Options = Mapping[str, Any]
Function = Callable[[Any, Sequence[Any], Options, int], Any]

UNARY: Mapping[str, str] = {
    "ABS": "abs", "CEIL": "math.ceil", "COS": "cos", "EXP": "exp", "FLOOR": "floor", "LOG": "math.log",
    "LOGICAL_NOT": "logical_not", "LOG_SOFTMAX": "nn.log_softmax", "NEG": "negative", "ROUND": "round", "RSQRT": "math.rsqrt",
    "SIGN": "sign", "SIN": "sin", "SQRT": "sqrt", "SQUARE": "square", "ZEROS_LIKE": "zeros_like", "ELU": "nn.elu",
}  # fmt: skip
BINARY: Mapping[str, str] = {
    "ADD": "add", "ATAN2": "math.atan2", "DIV": "divide", "EQUAL": "equal", "FLOOR_DIV": "math.floordiv",
    "FLOOR_MOD": "math.floormod", "GREATER": "greater", "GREATER_EQUAL": "greater_equal", "LESS": "less",
    "LESS_EQUAL": "less_equal", "LOGICAL_AND": "logical_and", "LOGICAL_OR": "logical_or", "MAXIMUM": "maximum",
    "MINIMUM": "minimum", "MUL": "multiply", "NOT_EQUAL": "not_equal", "POW": "pow",
    "SQUARED_DIFFERENCE": "math.squared_difference", "SUB": "subtract",
}  # fmt: skip
REDUCING: Mapping[str, str] = {
    "MEAN": "reduce_mean", "REDUCE_ALL": "reduce_all", "REDUCE_ANY": "reduce_any", "REDUCE_MAX": "reduce_max",
    "REDUCE_MIN": "reduce_min", "REDUCE_PROD": "reduce_prod", "SUM": "reduce_sum",
}  # fmt: skip
# Arithmetic whose result has a range of its own, for which int8 kernels want one: quantization-aware training rounds it.
ROUNDED = frozenset(
    {
        "ADD", "BATCH_MATMUL", "DIV", "ELU", "EXP", "GELU", "LEAKY_RELU", "MEAN", "MUL", "PRELU", "RSQRT", "SQRT",
        "SQUARED_DIFFERENCE", "SUB", "SUM", "TRANSPOSE_CONV",
    }
)  # fmt: skip
MOVING = frozenset(
    {
        "ARG_MAX", "BATCH_TO_SPACE_ND", "BROADCAST_TO", "CAST", "CLIP", "CONCATENATION", "DEPTH_TO_SPACE", "GATHER",
        "GATHER_ND", "MERGE", "MIRROR_PAD", "ONE_HOT", "PAD", "REDUCE_MAX", "REDUCE_MIN", "RESIZE", "REVERSE_V2", "SELECT",
        "SLICE", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "TILE", "TOPK_INDICES", "TOPK_VALUES", "UNMERGE",
    }
)  # fmt: skip


def operation(kind: str, options: Options, lead: int, operands: Sequence[Options | None], *, name: str) -> Any:
    """Return a layer that does one TFLite operation.

    Args:
        operands: one entry an operand: None for what comes from the graph, else `shape`, `dtype` and `trainable` of a
            constant, which becomes a weight of the layer.
    """
    return layer_class()(kind=kind, options=dict(options), lead=lead, operands=list(operands), name=name)


def is_rounded(layer: Any) -> bool:
    """Say whether a layer is one of these and computes what int8 kernels want a range for."""
    return getattr(layer, "kind", None) in ROUNDED


def moves_values(layer: Any) -> bool:
    """Say whether a layer is one of these and only moves values: its result is rounded if its operand is."""
    return getattr(layer, "kind", None) in MOVING


@cache
def layer_class() -> Any:
    """Return the layer's class, registered so that a copy of a model finds it."""
    import tensorflow as tf
    import tf_keras

    @tf_keras.utils.register_keras_serializable("edgeship", "Operation")
    class Operation(tf_keras.layers.Layer):  # type: ignore[misc]  # tf_keras has no types
        """One TFLite operation on one or several tensors and constants."""

        def __init__(self, kind: str, options: Any, lead: int, operands: Any, **said: Any) -> None:
            super().__init__(**said)
            self.kind, self.options, self.lead, self.operands = kind, options, lead, operands
            self.constants: dict[int, Any] = {}

        def build(self, input_shape: Any) -> None:
            for number, told in enumerate(self.operands):
                if told is not None:
                    self.constants[number] = self.add_weight(
                        f"operand_{number}", tuple(told["shape"]), told["dtype"], "zeros", trainable=told["trainable"]
                    )
            self.built = True

        def call(self, inputs: Any) -> Any:
            given = iter(inputs if isinstance(inputs, (list, tuple)) else [inputs])
            tensors = [
                next(given) if told is None else tf.convert_to_tensor(self.constants[number])
                for number, told in enumerate(self.operands)
            ]
            return compute(self.kind, tensors, self.options, self.lead)

        def get_config(self) -> Any:
            own = {"kind": self.kind, "options": self.options, "lead": self.lead, "operands": self.operands}
            return {**super().get_config(), **own}

    return Operation


def compute(kind: str, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    """Return what an operation gives."""
    import tensorflow as tf

    for table in (UNARY, BINARY):
        if kind in table:
            return _named(tf, table[kind])(*tensors)
    if kind in REDUCING:
        axes = [axis + lead for axis in options["axes"]]
        return _named(tf, REDUCING[kind])(tensors[0], axis=axes, keepdims=options["keep"])
    return FUNCTIONS[kind](tf, tensors, options, lead)


def _named(tf: Any, path: str) -> Any:
    found = tf
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _arg_max(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    find = tf.argmin if options["smallest"] else tf.argmax
    return find(tensors[0], axis=options["axis"] + lead, output_type=options["dtype"])


def _clip(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    return tf.clip_by_value(tensors[0], options["low"], options["high"])


def _concatenate(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    """Join tensors, constants among them repeated for each example."""
    constant = set(options["constants"])
    count = next(tf.shape(tensor)[0] for number, tensor in enumerate(tensors) if number not in constant)
    whole = [
        tf.repeat(tensor, count, axis=0) if number in constant else tensor for number, tensor in enumerate(tensors)
    ]
    return tf.concat(whole, axis=options["axis"] + lead)


def _cumsum(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    return tf.cumsum(
        tensors[0], axis=options["axis"] + lead, exclusive=options["exclusive"], reverse=options["reverse"]
    )


def _gather(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    """Take slices along an axis: `batched` of indices that each example has for itself, else of the same for all."""
    params, indices = tensors
    if options["batched"]:
        return tf.gather(params, indices, axis=options["axis"] + lead, batch_dims=options["batch_dims"] + lead)
    return tf.gather(params, indices, axis=options["axis"] + (lead if options["from_graph"] else 0))


def _gather_nd(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    return tf.gather_nd(tensors[0], tensors[1], batch_dims=1 if options["batched"] else 0)


def _gelu(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    x = tensors[0]
    if options["approximate"]:
        return tf.nn.gelu(x, approximate=True)
    return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))  # as its converter knows it; tf.nn.gelu may end in Erfc


def _matmul(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    return tf.matmul(*tensors, transpose_a=options["adjoint_a"], transpose_b=options["adjoint_b"])


def _mirror_pad(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    return tf.pad(tensors[0], _for_batch(options["pads"], lead), mode=options["mode"])


def _one_hot(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    axis = options["axis"] + lead if options["axis"] >= 0 else -1
    return tf.one_hot(tensors[0], options["depth"], options["on"], options["off"], axis, options["dtype"])


def _pad(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    return tf.pad(tensors[0], _for_batch(options["pads"], lead), constant_values=options["value"])


def _for_batch(pads: Sequence[Sequence[int]], lead: int) -> list[list[int]]:
    return [[0, 0]] * lead + [list(pair) for pair in pads]


def _prelu(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    return tf.nn.relu(tensors[0]) - tensors[1] * tf.nn.relu(-tensors[0])


def _resize(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    resize = tf.raw_ops.ResizeBilinear if options["method"] == "bilinear" else tf.raw_ops.ResizeNearestNeighbor
    return resize(
        images=tensors[0],
        size=options["size"],
        align_corners=options["align_corners"],
        half_pixel_centers=options["half_pixel"],
    )


def _slice(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    """Take begin:end:stride of each axis; an end of None is beyond the last."""
    everything = [slice(None)] * lead
    return tensors[0][tuple(everything + [slice(*bounds) for bounds in options["bounds"]])]


def _space_to_batch(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    """Cut an image into a batch of blocks; the blocks of one example come to stand behind the batch."""
    blocks = tf.space_to_batch(tensors[0], options["block"], options["pads"])
    count = options["count"]
    parts = tf.reshape(blocks, [count, -1, *blocks.shape[1:]])
    return tf.transpose(parts, [1, 0, *range(2, len(blocks.shape) + 1)])


def _batch_to_space(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    """Put blocks together again; they stand behind the batch."""
    rank = len(tensors[0].shape)
    blocks = tf.transpose(tensors[0], [1, 0, *range(2, rank)])
    return tf.batch_to_space(tf.reshape(blocks, [-1, *tensors[0].shape[2:]]), options["block"], options["crops"])


def _merge(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    """Make one batch of the batch and the example's own first axis."""
    return tf.reshape(tensors[0], [-1, *tensors[0].shape[2:]])


def _unmerge(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    return tf.reshape(tensors[0], [-1, options["count"], *tensors[0].shape[1:]])


def _transpose_conv(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    size = [tf.shape(tensors[0])[0], *options["shape"]]
    made = tf.nn.conv2d_transpose(tensors[0], tensors[1], size, options["strides"], options["padding"])
    return tf.nn.bias_add(made, tensors[2]) if len(tensors) > 2 else made


def _tile(tf: Any, tensors: Sequence[Any], options: Options, lead: int) -> Any:
    ones = [1] * lead
    return tf.tile(tensors[0], ones + list(options["multiples"]))


FUNCTIONS: Mapping[str, Function] = {
    "ARG_MAX": _arg_max,
    "BATCH_MATMUL": _matmul,
    "BATCH_TO_SPACE_ND": _batch_to_space,
    "BROADCAST_TO": lambda tf, tensors, options, lead: tf.broadcast_to(
        tensors[0], [tf.shape(tensors[0])[0], *options["shape"]]
    ),
    "CAST": lambda tf, tensors, options, lead: tf.cast(tensors[0], options["dtype"]),
    "CLIP": _clip,
    "CONCATENATION": _concatenate,
    "CUMSUM": _cumsum,
    "DEPTH_TO_SPACE": lambda tf, tensors, options, lead: tf.nn.depth_to_space(tensors[0], options["block"]),
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "GELU": _gelu,
    "L2_NORMALIZATION": lambda tf, tensors, options, lead: tf.math.l2_normalize(tensors[0], axis=-1),
    "LOCAL_RESPONSE_NORMALIZATION": lambda tf, tensors, options, lead: tf.nn.lrn(
        tensors[0], options["radius"], options["bias"], options["alpha"], options["beta"]
    ),
    "MERGE": _merge,
    "MIRROR_PAD": _mirror_pad,
    "ONE_HOT": _one_hot,
    "PAD": _pad,
    "PRELU": _prelu,
    "RESIZE": _resize,
    "REVERSE_V2": lambda tf, tensors, options, lead: tf.reverse(tensors[0], [axis + lead for axis in options["axes"]]),
    "SELECT": lambda tf, tensors, options, lead: tf.where(*tensors),
    "SLICE": _slice,
    "SPACE_TO_BATCH_ND": _space_to_batch,
    "SPACE_TO_DEPTH": lambda tf, tensors, options, lead: tf.nn.space_to_depth(tensors[0], options["block"]),
    "TILE": _tile,
    "TOPK_VALUES": lambda tf, tensors, options, lead: tf.math.top_k(tensors[0], options["count"]).values,
    "TOPK_INDICES": lambda tf, tensors, options, lead: tf.math.top_k(tensors[0], options["count"]).indices,
    "TRANSPOSE_CONV": _transpose_conv,
    "UNMERGE": _unmerge,
}
