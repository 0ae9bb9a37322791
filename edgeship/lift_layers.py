"""TFLite operations with a kernel as Keras layers: convolutions and dense layers, with what TFLite fused into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from edgeship.flatbuffer import Operator
from edgeship.lift_graph import ACTIVATIONS, Array, Norm, Walk

PADDING = {0: "same", 1: "valid"}
NORM_EPSILON = 1e-6
_UNEVEN = 4.0  # a dense layer whose channels differ in size by more than this had a batch norm folded into it


@dataclass(frozen=True, eq=False)
class Linear:
    """A layer to be made: `make` takes use_bias and name; the kernel's values by output channel are its last axis.

    A transposed convolution's kernel is [height, width, out, in]. `source` and `bias` are positions of operands.
    """

    make: Callable[..., Any]
    kernel: Array
    channels: int
    kind: Literal["convolution", "transposed", "dense", "plain"]
    source: int = 0
    bias: int = 2


@dataclass(frozen=True, eq=False)
class Tail:
    """What follows a linear operation and can be made part of it: a scale and an offset a channel, an activation.

    `last` is the operation whose output all of it computes, `used` what makes this kernel and its tail unlike others.
    """

    scale: Array | None
    offset: Array | None
    last: Operator
    activation: int
    used: tuple[object, ...]


def tail(walk: Walk, operator: Operator, channels: int, offset: Array | None) -> Tail:
    """Return the constant MUL, ADD and SUB that alone read a linear operation's result: a value a channel, or one for all.

    A kernel that several operations use is left as it is: it has to stay one.
    """
    scale: Array | None = None
    used = [*_told(walk, operator)]
    last, activation = operator, int(operator.options.get("FusedActivationFunction", 0))
    while len(_users(walk, operator)) == 1 and ACTIVATIONS.get(activation) == "NONE":
        after = _only_reader(walk, last)
        constant = channel_constant(walk, after, last.outputs[0], channels) if after is not None else None
        if after is None or constant is None:
            break
        if after.name == "MUL":
            scale = constant if scale is None else scale * constant
            offset = None if offset is None else offset * constant
        else:
            signed = -constant if after.name == "SUB" else constant
            offset = signed if offset is None else offset + signed
        walk.absorbed.add(after.index)
        used += _told(walk, after)
        last, activation = after, int(after.options.get("FusedActivationFunction", 0))
    return Tail(scale, None if offset is None else offset.astype(np.float32), last, activation, tuple(used))


def _users(walk: Walk, operator: Operator) -> list[Operator]:
    """Return the operations that use the same kernel."""
    return [other for other in walk.graph.operators if operator.inputs[1] in other.inputs]


def _told(walk: Walk, operator: Operator) -> tuple[object, ...]:
    """Return what an operation is, but for the activation behind it and what it works on: equal for two of one kernel."""
    constants = (walk.graph.tensors[index] for index in operator.inputs if index in walk.constants)
    kernels = tuple(tensor.index if tensor.content is None else id(tensor.content) for tensor in constants)
    options = {key: value for key, value in operator.options.items() if key != "FusedActivationFunction"}
    return (operator.name, kernels, repr(sorted(options.items())))


def _only_reader(walk: Walk, operator: Operator) -> Operator | None:
    index = operator.outputs[0]
    readers = [other for other in walk.graph.operators if index in other.inputs]
    return readers[0] if len(readers) == 1 and index not in walk.graph.outputs else None


def channel_constant(walk: Walk, operator: Operator, source: int, channels: int) -> Array | None:
    """Return the constant of a MUL, ADD or SUB on a tensor as one value a channel; None where it is not such."""
    if operator.name not in ("MUL", "ADD", "SUB") or (operator.name == "SUB" and operator.inputs[0] != source):
        return None
    other = next((index for index in operator.inputs if index != source), None)
    value = walk.constants.get(other) if other is not None else None
    if value is None or value.dtype.kind != "f" or walk.shapes[operator.outputs[0]] != walk.shapes[source]:
        return None
    if value.size == 1:
        return np.full(channels, value.reshape(-1)[0], np.float32)
    return value.reshape(-1) if value.shape[-1] == value.size == channels else None


def convolution(walk: Walk, operator: Operator) -> None:
    """Build a Conv2D, grouped where the kernel is thinner than the input."""
    import tf_keras

    kernel = np.ascontiguousarray(walk.constant(operator, 1).transpose(1, 2, 3, 0))
    options = operator.options
    make = partial(
        tf_keras.layers.Conv2D,
        filters=kernel.shape[3],
        kernel_size=kernel.shape[:2],
        strides=(options["StrideH"], options["StrideW"]),
        padding=PADDING[options["Padding"]],
        dilation_rate=(options["DilationHFactor"], options["DilationWFactor"]),
        groups=walk.shapes[operator.inputs[0]][-1] // kernel.shape[2],
    )
    build(walk, operator, Linear(make, kernel, kernel.shape[3], "convolution"))


def depthwise(walk: Walk, operator: Operator) -> None:
    """Build a DepthwiseConv2D; where TensorFlow has none for these strides, a Conv2D with a group a channel."""
    import tf_keras

    weights = walk.constant(operator, 1)
    options = operator.options
    height, width, channels = weights.shape[1:]
    depth = walk.shapes[operator.inputs[0]][-1]
    strides = (options["StrideH"], options["StrideW"])
    dilation = (options["DilationHFactor"], options["DilationWFactor"])
    common: dict[str, Any] = {
        "kernel_size": (height, width),
        "strides": strides,
        "padding": PADDING[options["Padding"]],
        "dilation_rate": dilation,
    }
    if strides[0] != strides[1] or (max(strides) > 1 and max(dilation) > 1):
        kernel = weights[0].reshape(height, width, 1, channels)
        make = partial(tf_keras.layers.Conv2D, filters=channels, groups=depth, **common)
    else:
        kernel = weights[0].reshape(height, width, depth, channels // depth)
        make = partial(tf_keras.layers.DepthwiseConv2D, depth_multiplier=channels // depth, **common)
    build(walk, operator, Linear(make, kernel, channels, "convolution"))


def convolution_3d(walk: Walk, operator: Operator) -> None:
    """Build a Conv3D."""
    import tf_keras

    kernel = walk.constant(operator, 1)
    options = operator.options
    make = partial(
        tf_keras.layers.Conv3D,
        filters=kernel.shape[4],
        kernel_size=kernel.shape[:3],
        strides=tuple(options[f"Stride{axis}"] for axis in "DHW"),
        padding=PADDING[options["Padding"]],
        dilation_rate=tuple(options[f"Dilation{axis}Factor"] for axis in "DHW"),
    )
    build(walk, operator, Linear(make, kernel, kernel.shape[4], "plain"))


def transpose_convolution(walk: Walk, operator: Operator) -> None:
    """Build a Conv2DTranspose where that gives the same size, else an operation of its own."""
    import tf_keras

    kernel = np.ascontiguousarray(walk.constant(operator, 1).transpose(1, 2, 0, 3))
    options = operator.options
    strides, padding = (options["StrideH"], options["StrideW"]), PADDING[options["Padding"]]
    source, made = walk.shapes[operator.inputs[2]], walk.shapes[operator.outputs[0]]
    sizes = tuple(
        size * stride + (max(window - stride, 0) if padding == "valid" else 0)
        for size, stride, window in zip(source[1:3], strides, kernel.shape[:2], strict=True)
    )
    if made[1:3] == sizes:
        make = partial(
            tf_keras.layers.Conv2DTranspose,
            filters=kernel.shape[2],
            kernel_size=kernel.shape[:2],
            strides=strides,
            padding=padding,
        )
        build(walk, operator, Linear(make, kernel, kernel.shape[2], "transposed", source=2, bias=3))
        return
    name, bias = walk.named(operator), walk.optional(operator, 3)
    tensor = walk.do(
        "TRANSPOSE_CONV",
        [walk.images(operator, 2), kernel, *([] if bias is None else [bias])],
        {"shape": list(made[1:]), "strides": list(strides), "padding": padding.upper()},
        lead=0,
        name=name,
        trainable=(1, 2),
    )
    activation = int(options.get("FusedActivationFunction", 0))
    walk.put_images(operator, walk.activated(operator, tensor, activation, name), made[0])


def fully_connected(walk: Walk, operator: Operator) -> None:
    """Build a Dense over the last axis, having flattened what comes from a convolution."""

    if operator.options.get("WeightsFormat", 0):
        raise walk.refuse(operator, "has shuffled weights")
    kernel = np.ascontiguousarray(walk.constant(operator, 1).T)
    shape = walk.shapes[operator.inputs[0]]
    if shape[-1:] != kernel.shape[:1]:
        shape = (int(np.prod(shape)) // kernel.shape[0], kernel.shape[0])
    lead = 0 if shape[0] == 1 and len(shape) > 1 else 1
    tensor = walk.in_shape(operator.inputs[0], shape, lead, f"{walk.named(operator)}/flatten")
    dense(walk, operator, tensor, kernel, bias=2)


def dense(walk: Walk, operator: Operator, tensor: Any, kernel: Array, *, bias: int) -> None:
    """Build a Dense over the last axis of a Keras tensor; kernel [in, out]."""
    import tf_keras

    make = partial(tf_keras.layers.Dense, units=kernel.shape[1])
    build(walk, operator, Linear(make, kernel, kernel.shape[1], "dense", bias=bias), tensor)


def build(walk: Walk, operator: Operator, linear: Linear, tensor: Any = None) -> None:
    """Build a layer with a kernel and what follows it, and a batch norm for its channels' scale where that helps.

    Args:
        tensor: the Keras tensor that it works on, where that is not the operand as it is.
    """
    bias = walk.optional(operator, linear.bias)
    follows = tail(walk, operator, linear.channels, bias)
    if len({other.inputs[linear.bias :] for other in _users(walk, operator)}) > 1:  # one kernel, but not one bias
        follows = replace(
            follows, offset=None, used=_told(walk, replace(operator, inputs=operator.inputs[: linear.bias]))
        )
    else:
        bias = None
    images = linear.kind in ("convolution", "transposed")
    if tensor is None:
        tensor = walk.images(operator, linear.source) if images else walk.tensors[operator.inputs[linear.source]]
    if follows.used not in walk.linear:
        walk.linear[follows.used] = _made(walk, operator, linear, follows)
    made, norm = walk.linear[follows.used]
    tensor = made(tensor)
    if norm is not None:
        walk.norms.append(replace(norm, source=tensor))
        tensor = norm.layer(tensor)
    if bias is not None:
        name = f"{walk.named(operator)}/bias"
        tensor = walk.do("ADD", [tensor, bias.reshape(1, -1)], {}, lead=1, name=name, trainable=(1,))
    tensor = walk.activated(follows.last, tensor, follows.activation, walk.named(follows.last))
    if images:
        walk.put_images(follows.last, tensor, walk.shapes[operator.outputs[0]][0])
    else:
        walk.put(follows.last, tensor)


def _made(walk: Walk, operator: Operator, linear: Linear, follows: Tail) -> tuple[Any, Norm | None]:
    """Return the layer, and the batch norm behind it; a recurrence that was unrolled has the same at each step."""
    import tf_keras

    kernel, name = _scaled(linear, linear.kernel, follows.scale), walk.named(follows.last)
    sizes = _sizes(walk, linear, kernel, operator)
    made = linear.make(use_bias=follows.offset is not None and sizes is None, name=walk.layer_name(name))
    offset = [] if follows.offset is None else [follows.offset]
    if sizes is None:
        walk.weights.append((made, [kernel, *offset]))
        return made, None
    walk.weights.append((made, [_scaled(linear, kernel, 1 / sizes)]))
    # Its statistics are no batch's: it must not take those of one. Its scale and offset are trained all the same.
    norm = tf_keras.layers.BatchNormalization(
        epsilon=NORM_EPSILON, trainable=False, name=walk.layer_name(f"{name}/scale", name)
    )
    return made, Norm(norm, sizes, offset[0] if offset else np.zeros_like(sizes))


def _scaled(linear: Linear, kernel: Array, scale: Array | None) -> Array:
    """Return the kernel with each output channel times its own number."""
    if scale is None:
        return kernel
    if linear.kind == "transposed":
        return (kernel * scale[:, None]).astype(np.float32)
    return (kernel.reshape(-1, linear.channels) * scale).reshape(kernel.shape).astype(np.float32)


def _sizes(walk: Walk, linear: Linear, kernel: Array, operator: Operator) -> Array | None:
    """Return the size (RMS) of each output channel where a batch norm shall hold it, else None.

    Folding a batch norm leaves channels that differ by hundreds of times. To the optimizer, to pruning by magnitude and
    to values shared by a whole kernel the small ones are then nothing.
    """
    if not walk.channel_scales or linear.kind in ("transposed", "plain"):
        return None
    sizes: Array = np.sqrt(np.square(kernel.reshape(-1, linear.channels), dtype=np.float64).mean(axis=0))
    alive = sizes[sizes > 0]
    if not alive.size or linear.channels < 2:
        return None
    flat = len(walk.shapes[operator.outputs[0]]) == 2
    if linear.kind == "dense" and not (flat and alive.max() > _UNEVEN * alive.min()):
        return None
    return np.where(sizes > 0, sizes, alive.mean()).astype(np.float32)


LINEAR: Mapping[str, Callable[[Walk, Operator], None]] = {
    "CONV_2D": convolution,
    "CONV_3D": convolution_3d,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": fully_connected,
    "TRANSPOSE_CONV": transpose_convolution,
}
