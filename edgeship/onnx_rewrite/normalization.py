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
    "MeanVarianceNormalization",
    "RMSNormalization",
)
NOTE = "as means, differences and a square root"


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Replace the node by reductions and elementwise operations.

    Raises:
        BadInput: open shapes, groups that do not divide the channels.
    """
    if node.op_type == "GroupNormalization":
        _group(draft, node)
    elif node.op_type == "InstanceNormalization":
        _instance(draft, node)
    elif node.op_type == "MeanVarianceNormalization":
        axes = attribute(node, "axes", [0, 2, 3])
        draft.add("Identity", _standardized(draft, node.input[0], axes, 1e-9), output=node.output[0])
    elif node.op_type == "RMSNormalization":
        _root_mean_square(draft, node)
    else:
        _layer(draft, node)
    return True


def _standardized(draft: Draft, value: str, axes: Sequence[int], epsilon: float) -> str:
    """Add (value - mean) / sqrt(variance + epsilon), over some axes."""
    centred = draft.add("Sub", value, draft.reduce("ReduceMean", value, axes))
    variance = draft.reduce("ReduceMean", draft.add("Mul", centred, centred), axes)
    return _divided(draft, centred, variance, epsilon, value)


def _divided(draft: Draft, centred: str, variance: str, epsilon: float, like: str) -> str:
    kind = draft.dtype(like) or np.dtype(np.float32)
    root = draft.add("Sqrt", draft.add("Add", variance, draft.scalar(epsilon, kind)))
    return draft.add("Div", centred, root)


def _scaled(draft: Draft, node: onnx.NodeProto, value: str, shape: Sequence[int] | None) -> None:
    """Add value * scale + bias, the parameters seen in a shape that fits the value (or as they are)."""
    names = [optional_input(node, 1), optional_input(node, 2)]
    operations = [operation for operation, name in zip(("Mul", "Add"), names, strict=True) if name]
    if not operations:
        draft.add("Identity", value, output=node.output[0])
    for operation, name in zip(("Mul", "Add"), names, strict=True):
        if name:
            fitted = draft.reshape(name, shape) if shape is not None else name
            last = operation == operations[-1]
            value = draft.add(operation, value, fitted, output=node.output[0] if last else None)


def _instance(draft: Draft, node: onnx.NodeProto) -> None:
    """Standardize each channel of [batch, channels, …]; PyTorch's group normalization before opset 18 is found too."""
    value = node.input[0]
    shape = draft.fixed_shape(node, value)
    epsilon = attribute(node, "epsilon", 1e-5)
    grouped = _grouped_from(draft, value, shape)
    if grouped is not None and shape[1] != draft.fixed_shape(node, grouped)[1]:
        whole = _group_standardized(draft, grouped, draft.fixed_shape(node, grouped), shape[1], epsilon)
        result = draft.reshape(whole, shape)
    else:
        result = _standardized(draft, value, range(2, len(shape)), epsilon)
    _scaled(draft, node, result, (1, shape[1], *[1] * (len(shape) - 2)))


def _grouped_from(draft: Draft, value: str, shape: tuple[int, ...]) -> str | None:
    """Return the [batch, channels, …] value that was reshaped into [batch, groups, rest], or None."""
    maker = draft.producer(value)
    if maker is None or maker.op_type != "Reshape" or len(shape) != 3:
        return None
    before = draft.shape(maker.input[0])
    if before is None or len(before) < 3 or before[0] != shape[0] or before[1] % shape[1]:
        return None
    return str(maker.input[0])


def _group(draft: Draft, node: onnx.NodeProto) -> None:
    """Standardize groups of channels; parameters are one a group up to opset 20, one a channel since 21."""
    value, groups = node.input[0], attribute(node, "num_groups")
    shape = draft.fixed_shape(node, value)
    if not groups or shape[1] % groups:
        raise refusal(node, f"{shape[1]} channels do not make {groups} groups")
    whole = _group_standardized(draft, value, shape, groups, attribute(node, "epsilon", 1e-5))
    for position in (1, 2):
        parameter = draft.fixed_constant(node, position, "scale and bias")
        if parameter is not None and parameter.size != shape[1]:
            node.input[position] = draft.const(np.repeat(parameter, shape[1] // groups))
    _scaled(draft, node, whole, (1, shape[1], *[1] * (len(shape) - 2)))


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


def _layer(draft: Draft, node: onnx.NodeProto) -> None:
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
    _scaled(draft, node, draft.add("Div", centred, root), None)


def _root_mean_square(draft: Draft, node: onnx.NodeProto) -> None:
    """Divide by the root of the mean square over the last axes."""
    value = node.input[0]
    shape = draft.fixed_shape(node, value)
    axes = range(attribute(node, "axis", -1) % len(shape), len(shape))
    squares = draft.reduce("ReduceMean", draft.add("Mul", value, value), axes)
    _scaled(draft, node, _divided(draft, value, squares, attribute(node, "epsilon", 1e-5), value), None)
