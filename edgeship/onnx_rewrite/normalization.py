"""Group, instance, layer and mean-variance normalization: means, differences and a square root."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from edgeship.onnx_rewrite.draft import Draft, attribute, optional_input, optional_output, refusal

OPERATIONS: tuple[str, ...] = (
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "LpNormalization",
    "MeanVarianceNormalization",
    "RMSNormalization",
)
NOTE = "as means, differences and a square root"
_SHORTEST = 1e-30  # a length that runtimes do not take for zero


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Replace the node by reductions and elementwise operations.

    Raises:
        BadInput: open shapes, groups that do not divide the channels.
    """
    ways = {
        "GroupNormalization": _group,
        "InstanceNormalization": _instance,
        "LayerNormalization": _layer,
        "LpNormalization": _length,
        "MeanVarianceNormalization": _mean_variance,
        "RMSNormalization": _root_mean_square,
    }
    draft.add("Identity", ways[node.op_type](draft, node), output=node.output[0])
    return True


def _mean_variance(draft: Draft, node: onnx.NodeProto) -> str:
    """Standardize over some axes; the small number is ONNX's own, in its function body."""
    return _standardized(draft, node.input[0], attribute(node, "axes", [0, 2, 3]), 1e-9)


def _standardized(draft: Draft, value: str, axes: Sequence[int], epsilon: float) -> str:
    """Add (value - mean) / sqrt(variance + epsilon), over some axes; a scale behind it goes into the small root."""
    centred = draft.add("Sub", value, draft.reduce("ReduceMean", value, axes))
    variance = draft.reduce("ReduceMean", draft.add("Mul", centred, centred), axes)
    return _divided(draft, centred, variance, epsilon, value)


def _divided(draft: Draft, centred: str, variance: str, epsilon: float, like: str) -> str:
    kind = draft.dtype(like) or np.dtype(np.float32)
    root = draft.add("Sqrt", draft.add("Add", variance, draft.scalar(epsilon, kind)))
    return draft.add("Div", centred, root)


def _scaled(draft: Draft, node: onnx.NodeProto, value: str, shape: Sequence[int] | None) -> str:
    """Add value * scale + bias, the parameters seen in a shape that fits the value (or as they are)."""
    for operation, position, neutral in (("Mul", 1, 1), ("Add", 2, 0)):
        name = optional_input(node, position)
        parameter = draft.constant(name) if name else None
        if name and (parameter is None or np.any(parameter != neutral)):
            value = draft.add(operation, value, draft.reshape(name, shape) if shape is not None else name)
    return value


def _instance(draft: Draft, node: onnx.NodeProto) -> str:
    """Standardize each channel of [batch, channels, …]; PyTorch's group normalization before opset 18 is found too."""
    value = node.input[0]
    shape = draft.fixed_shape(node, value)
    epsilon = attribute(node, "epsilon", 1e-5)
    whole = _grouped_from(draft, value, shape)
    if whole is None:
        result = _standardized(draft, value, range(2, len(shape)), epsilon)
        return _scaled(draft, node, result, (1, shape[1], *[1] * (len(shape) - 2)))
    before = draft.fixed_shape(node, whole)
    result = _group_standardized(draft, whole, before, shape[1], epsilon)
    _repeat_parameters(draft, node, before[1])
    return draft.reshape(_scaled(draft, node, result, (1, before[1], *[1] * (len(before) - 2))), shape)


def _repeat_parameters(draft: Draft, node: onnx.NodeProto, channels: int) -> None:
    """Let the node's scale and bias be one a channel where they are one a group."""
    for position in (1, 2):
        parameter = draft.fixed_constant(node, position, "scale and bias")
        if parameter is not None and parameter.size != channels:
            node.input[position] = draft.const(np.repeat(parameter, channels // parameter.size))


def _grouped_from(draft: Draft, value: str, shape: tuple[int, ...]) -> str | None:
    """Return the [batch, channels, …] value that was reshaped into [batch, groups, rest], or None."""
    maker = draft.producer(value)
    if maker is None or maker.op_type != "Reshape" or len(shape) != 3:
        return None
    before = draft.shape(maker.input[0])
    if before is None or len(before) < 3 or before[0] != shape[0] or before[1] % shape[1]:
        return None
    return str(maker.input[0])


def _group(draft: Draft, node: onnx.NodeProto) -> str:
    """Standardize groups of channels; parameters are one a group up to opset 20, one a channel since 21."""
    value, groups = node.input[0], attribute(node, "num_groups")
    shape = draft.fixed_shape(node, value)
    if not groups or shape[1] % groups:
        raise refusal(node, f"{shape[1]} channels do not make {groups} groups")
    whole = _group_standardized(draft, value, shape, groups, attribute(node, "epsilon", 1e-5))
    _repeat_parameters(draft, node, shape[1])
    return _scaled(draft, node, whole, (1, shape[1], *[1] * (len(shape) - 2)))


def _group_standardized(draft: Draft, value: str, shape: tuple[int, ...], groups: int, epsilon: float) -> str:
    """Add a standardization by groups whose large values keep their shape: only the means are reshaped."""
    axes = range(2, len(shape))

    def mean(what: str) -> str:
        """A group's mean, the same for each of its channels: [batch, channels, 1, …]."""
        channels = draft.reduce("ReduceMean", what, axes)
        if groups == shape[1]:
            return channels
        rows = draft.reshape(channels, (shape[0], groups, shape[1] // groups))
        means = draft.reduce("ReduceMean", rows, [2])
        repeated = draft.add("Concat", *[means] * (shape[1] // groups), axis=2)
        return draft.reshape(repeated, (*shape[:2], *[1] * len(axes)))

    centred = draft.add("Sub", value, mean(value))
    return _divided(draft, centred, mean(draft.add("Mul", centred, centred)), epsilon, value)


def _layer(draft: Draft, node: onnx.NodeProto) -> str:
    """Standardize the last axes; the mean and the inverse deviation are given when someone asks for them."""
    value = node.input[0]
    shape = draft.fixed_shape(node, value)
    first = attribute(node, "axis", -1) % len(shape)
    axes, kind = range(first, len(shape)), draft.dtype(value) or np.dtype(np.float32)
    mean = draft.reduce("ReduceMean", value, axes, output=optional_output(node, 1) or None)
    centred = draft.add("Sub", value, mean)
    variance = draft.reduce("ReduceMean", draft.add("Mul", centred, centred), axes)
    epsilon = draft.scalar(attribute(node, "epsilon", 1e-5), kind)
    root = draft.add("Sqrt", draft.add("Add", variance, epsilon))
    if name := optional_output(node, 2):
        draft.add("Reciprocal", root, output=name)
    return _scaled(draft, node, draft.add("Div", centred, root), None)


def _root_mean_square(draft: Draft, node: onnx.NodeProto) -> str:
    """Divide by the root of the mean square over the last axes."""
    value = node.input[0]
    shape = draft.fixed_shape(node, value)
    axes = range(attribute(node, "axis", -1) % len(shape), len(shape))
    squares = draft.reduce("ReduceMean", draft.add("Mul", value, value), axes)
    return _scaled(draft, node, _divided(draft, value, squares, attribute(node, "epsilon", 1e-5), value), None)


def _length(draft: Draft, node: onnx.NodeProto) -> str:
    """Divide by the length along an axis, the sum of sizes or the root of the sum of squares."""
    value = node.input[0]
    rank = len(draft.fixed_shape(node, value))
    axis = attribute(node, "axis", -1) % rank
    if attribute(node, "p", 2) == 1:
        length = draft.reduce("ReduceSum", draft.add("Abs", value), [axis])
    else:
        length = draft.add("Sqrt", draft.reduce("ReduceSum", draft.add("Mul", value, value), [axis]))
    kind = draft.dtype(value) or np.dtype(np.float32)
    return draft.add(
        "Div", value, draft.add("Max", length, draft.scalar(max(float(np.finfo(kind).tiny), _SHORTEST), kind))
    )
