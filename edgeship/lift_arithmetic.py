"""TFLite operations that compute value by value, over an axis or between matrices: as Keras layers where there are such."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from edgeship.bridge_layers import own_activation
from edgeship.flatbuffer import Operator
from edgeship.lift_graph import Shape, Walk
from edgeship.lift_layers import PADDING, Linear, build, channel_constant, dense
from edgeship.lift_operations import BINARY, REDUCING, UNARY

_JOINS = {"ADD": "Add", "SUB": "Subtract", "MUL": "Multiply", "MAXIMUM": "Maximum", "MINIMUM": "Minimum"}
_APPLIED = {"LOGISTIC": "sigmoid", "TANH": "tanh"}
_CLIPS = {"RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}


def aligned(walk: Walk, operator: Operator, indices: list[int]) -> tuple[int, list[Any]]:
    """Return the operands of an operation that broadcasts, all with as many axes, and whether the batch stands before them.

    Constants come as arrays, the others as Keras tensors.
    """
    out = walk.shapes[operator.outputs[0]]
    rank = len(out)
    shapes = {index: (*[1] * (rank - len(walk.shapes[index])), *walk.shapes[index]) for index in indices}
    lead = 0 if rank and all(shapes[index][0] == 1 for index in indices) else 1
    operands: list[Any] = []
    for index in indices:
        shape: Shape = shapes[index]
        if index in walk.constants:
            operands.append(walk.constants[index].reshape((1, *shape) if lead else shape))
        else:
            operands.append(walk.in_shape(index, shape, lead, f"{walk.named(operator)}/align"))
    return lead, operands


def binary(walk: Walk, operator: Operator) -> None:
    """Build what has two operands that broadcast."""
    import tf_keras

    if _scaling(walk, operator) or _rescaling(walk, operator):
        return
    lead, operands = aligned(walk, operator, walk.given(operator))
    name = walk.named(operator)
    computed = [operand for operand in operands if not isinstance(operand, np.ndarray)]
    floats = all(tensor.dtype.is_floating for tensor in computed)
    if operator.name in _JOINS and len(computed) == 2 and floats and computed[0] is not computed[1]:
        join = getattr(tf_keras.layers, _JOINS[operator.name])
        tensor = join(name=walk.layer_name(name))(computed)
    else:
        channels = walk.shapes[operator.outputs[0]][-1:]
        learned = [
            number
            for number, operand in enumerate(operands)
            if isinstance(operand, np.ndarray)
            and operand.size > 1
            and operand.shape[-1:] == (operand.size,) == channels
        ]
        trainable = learned if operator.name in ("ADD", "SUB", "MUL") else ()
        tensor = walk.do(operator.name, operands, {}, lead=lead, name=name, trainable=trainable)
    walk.put(operator, walk.activated(operator, tensor, _fused(operator), name))


def _scaling(walk: Walk, operator: Operator) -> bool:
    """Build an image times a constant for each channel as a depthwise 1x1 convolution, which quantizes and takes an offset."""
    import tf_keras

    source = next((index for index in operator.inputs if index in walk.tensors), -1)
    shape = walk.shapes.get(source, ())
    if operator.name != "MUL" or len(shape) != 4 or shape[0] != 1 or shape[3] < 2:
        return False
    scale = channel_constant(walk, operator, source, shape[3])
    if scale is None or walk.constants[next(i for i in operator.inputs if i != source)].size == 1:
        return False
    make = partial(tf_keras.layers.DepthwiseConv2D, kernel_size=1)
    kernel = scale.reshape(1, 1, -1, 1).astype(np.float32)
    build(walk, operator, Linear(make, kernel, shape[3], "plain", bias=len(operator.inputs)), walk.tensors[source])
    return True


def _rescaling(walk: Walk, operator: Operator) -> bool:
    """Build arithmetic with a single number as a Rescaling, which quantizes."""
    import tf_keras

    source = next((index for index in operator.inputs if index in walk.tensors), -1)
    number = next((walk.constants[index] for index in operator.inputs if index in walk.constants), None)
    same = source >= 0 and walk.shapes[source] == walk.shapes[operator.outputs[0]]
    if number is None or number.size != 1 or number.dtype.kind != "f" or not same:
        return False
    value, first = float(number.reshape(-1)[0]), operator.inputs[0] == source
    if operator.name == "DIV" and (not first or not value):
        return False
    steps = {
        "ADD": (1.0, value),
        "SUB": (1.0, -value) if first else (-1.0, value),
        "MUL": (value, 0.0),
        "DIV": (1 / (value or 1), 0.0),
    }
    if operator.name not in steps:
        return False
    name = walk.named(operator)
    scale, offset = steps[operator.name]
    tensor = tf_keras.layers.Rescaling(scale, offset, name=walk.layer_name(name))(walk.tensors[source])
    walk.put(operator, walk.activated(operator, tensor, _fused(operator), name))
    return True


def _fused(operator: Operator) -> int:
    return int(operator.options.get("FusedActivationFunction", 0))


def unary(walk: Walk, operator: Operator) -> None:
    """Build what works on each value for itself."""
    _put_done(walk, operator, operator.name, {})


def _put_done(walk: Walk, operator: Operator, kind: str, options: Mapping[str, Any]) -> None:
    tensor = walk.do(kind, [_with_last_axis(walk, operator)], options, lead=0, name=walk.named(operator))
    walk.put(operator, tensor)


def _with_last_axis(walk: Walk, operator: Operator) -> Any:
    """Return the first operand with the file's last axis still its last."""
    index = operator.inputs[0]
    shape = walk.shapes[index]
    return walk.in_shape(index, shape, 1, f"{walk.named(operator)}/axis") if shape == (1,) else walk.tensors[index]


def activation(walk: Walk, operator: Operator) -> None:
    """Build an activation as the layer that quantization-aware training knows."""
    import tf_keras

    layers, kind, name = tf_keras.layers, operator.name, walk.named(operator)
    if kind in _CLIPS:
        low, high = _CLIPS[kind]
        _put_done(walk, operator, "CLIP", {"low": low, "high": high})
        return
    if kind == "GELU":
        _put_done(walk, operator, "GELU", {"approximate": bool(operator.options.get("Approximate", False))})
        return
    tensor = _with_last_axis(walk, operator)
    if kind == "SOFTMAX":
        beta = float(operator.options.get("Beta", 1.0))
        if beta != 1.0:
            tensor = layers.Rescaling(beta, name=walk.layer_name(f"{name}/beta"))(tensor)
        made = layers.Activation("softmax", name=walk.layer_name(name))
    elif kind == "HARD_SWISH":
        made = layers.Activation(own_activation("hard_silu"), name=walk.layer_name(name))
    elif kind == "LEAKY_RELU":
        made = layers.LeakyReLU(float(operator.options["Alpha"]), name=walk.layer_name(name))
    elif kind in _APPLIED:
        made = layers.Activation(_APPLIED[kind], name=walk.layer_name(name))
    else:
        made = layers.ReLU(6.0 if kind == "RELU6" else None, name=walk.layer_name(name))
    walk.put(operator, made(tensor))


def prelu(walk: Walk, operator: Operator) -> None:
    """Build a PReLU whose slopes train."""
    lead, operands = aligned(walk, operator, list(operator.inputs[:2]))
    walk.put(operator, walk.do("PRELU", operands, {}, lead=lead, name=walk.named(operator), trainable=(1,)))


def select(walk: Walk, operator: Operator) -> None:
    """Build a choice value by value; a condition of one axis chooses rows in the older form of it."""
    condition, value = (walk.shapes[index] for index in operator.inputs[:2])
    if operator.name == "SELECT" and len(condition) == 1 < len(value):
        raise walk.refuse(operator, "chooses whole rows")
    lead, operands = aligned(walk, operator, list(operator.inputs))
    walk.put(operator, walk.do("SELECT", operands, {}, lead=lead, name=walk.named(operator)))


def reduce(walk: Walk, operator: Operator) -> None:
    """Build a mean, sum, extreme or product over axes."""
    import tf_keras

    index, out = operator.inputs[0], walk.shapes[operator.outputs[0]]
    shape = walk.shapes[index]
    axes = sorted({int(axis) % max(len(shape), 1) for axis in walk.constant(operator, 1).reshape(-1)})
    keep, name = bool(operator.options.get("KeepDims", False)), walk.named(operator)
    if operator.name == "MEAN" and axes == [1, 2] and len(shape) == 4 and shape[0] == 1:
        pool = tf_keras.layers.GlobalAveragePooling2D(keepdims=keep, name=walk.layer_name(name))
        walk.put(operator, pool(walk.tensors[index]))
        return
    lead = 0 if shape[:1] == (1,) and 0 not in axes and out[:1] == (1,) else 1
    tensor = walk.in_shape(index, shape, lead, f"{name}/axes")
    walk.put(operator, walk.do(operator.name, [tensor], {"axes": axes, "keep": keep}, lead=lead, name=name))


def arg_max(walk: Walk, operator: Operator) -> None:
    """Build the place of the largest or smallest value along an axis."""
    index = operator.inputs[0]
    shape = walk.shapes[index]
    axis = int(walk.constant(operator, 1).reshape(-1)[0]) % len(shape)
    lead = 0 if shape[0] == 1 and axis and walk.shapes[operator.outputs[0]][:1] == (1,) else 1
    dtype = walk.graph.tensors[operator.outputs[0]].dtype
    options = {"axis": axis, "smallest": operator.name == "ARG_MIN", "dtype": dtype}
    tensor = walk.in_shape(index, shape, lead, f"{walk.named(operator)}/axes")
    walk.put(operator, walk.do("ARG_MAX", [tensor], options, lead=lead, name=walk.named(operator)))


def matmul(walk: Walk, operator: Operator) -> None:
    """Build a product of matrices: a dense layer where the right one is a constant that all share."""
    left, right = operator.inputs[:2]
    options = {"adjoint_a": bool(operator.options.get("AdjX")), "adjoint_b": bool(operator.options.get("AdjY"))}
    shape = walk.shapes[right]
    if right in walk.constants and not options["adjoint_a"] and int(np.prod(shape[:-2])) == 1:
        kernel = walk.constants[right].reshape(shape[-2:])
        kernel = np.ascontiguousarray(kernel.T if options["adjoint_b"] else kernel)
        whole = walk.shapes[left]
        lead = 0 if whole[0] == 1 and len(whole) > 2 else 1
        tensor = walk.in_shape(left, whole, lead, f"{walk.named(operator)}/rows")
        dense(walk, operator, tensor, kernel, bias=len(operator.inputs))
        return
    rank = max(len(walk.shapes[index]) for index in (left, right))
    shapes = {index: (*[1] * (rank - len(walk.shapes[index])), *walk.shapes[index]) for index in (left, right)}
    lead = 0 if rank > 2 and all(shapes[index][0] == 1 for index in shapes) else 1
    operands = [
        walk.constants[index].reshape((1, *shapes[index]) if lead else shapes[index])
        if index in walk.constants
        else walk.in_shape(index, shapes[index], lead, f"{walk.named(operator)}/rows")
        for index in (left, right)
    ]
    tensor = walk.do("BATCH_MATMUL", operands, options, lead=lead, name=walk.named(operator), trainable=(0, 1))
    walk.put(operator, tensor)


def product_of_computed(walk: Walk, operator: Operator) -> None:
    """Build a FULLY_CONNECTED whose weights are computed too, as a product of matrices."""
    left, right = operator.inputs[:2]
    name = walk.named(operator)
    width = walk.shapes[right][1]
    rows = (int(np.prod(walk.shapes[left])) // width, width)
    operands = [
        walk.constants[index][None]
        if index in walk.constants
        else walk.in_shape(index, rows if index == left else walk.shapes[right], 1, f"{name}/rows")
        for index in (left, right)
    ]
    tensor = walk.do("BATCH_MATMUL", operands, {"adjoint_a": False, "adjoint_b": True}, lead=1, name=name)
    bias = walk.optional(operator, 2)
    if bias is not None:
        tensor = walk.do("ADD", [tensor, bias.reshape(1, 1, -1)], {}, lead=1, name=f"{name}/bias", trainable=(1,))
    walk.put(operator, walk.activated(operator, tensor, _fused(operator), name))


def pool(walk: Walk, operator: Operator) -> None:
    """Build an average or a maximum over windows of an image."""
    import tf_keras

    options, name = operator.options, walk.named(operator)
    kind = tf_keras.layers.AveragePooling2D if operator.name == "AVERAGE_POOL_2D" else tf_keras.layers.MaxPooling2D
    made = kind(
        (options["FilterHeight"], options["FilterWidth"]),
        (options["StrideH"], options["StrideW"]),
        PADDING[options["Padding"]],
        name=walk.layer_name(name),
    )
    tensor = walk.activated(operator, made(walk.images(operator, 0)), _fused(operator), name)
    walk.put_images(operator, tensor, walk.shapes[operator.outputs[0]][0])


def normalized(walk: Walk, operator: Operator) -> None:
    """Build a vector over its own length, or a value over those of its neighbours."""
    said = operator.options
    if operator.name == "L2_NORMALIZATION":
        _put_done(walk, operator, operator.name, {})
        return
    options = {
        "radius": int(said["Radius"]),
        "bias": float(said["Bias"]),
        "alpha": float(said["Alpha"]),
        "beta": float(said["Beta"]),
    }
    tensor = walk.do(operator.name, [walk.images(operator, 0)], options, lead=0, name=walk.named(operator))
    walk.put_images(operator, tensor, walk.shapes[operator.outputs[0]][0])


ARITHMETIC: Mapping[str, Callable[[Walk, Operator], None]] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys(REDUCING, reduce),
    **dict.fromkeys(
        (
            "GELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "SOFTMAX", "TANH",
        ),
        activation,
    ),
    "ARG_MAX": arg_max,
    "ARG_MIN": arg_max,
    "AVERAGE_POOL_2D": pool,
    "BATCH_MATMUL": matmul,
    "L2_NORMALIZATION": normalized,
    "LOCAL_RESPONSE_NORMALIZATION": normalized,
    "MAX_POOL_2D": pool,
    "PRELU": prelu,
    "SELECT": select,
    "SELECT_V2": select,
}  # fmt: skip
