"""Convolutions in groups: one convolution a group, since neither chips nor quantizers take a grouped one."""

from __future__ import annotations

import onnx

from edgeship.onnx_rewrite.draft import Draft, attribute, optional_input, refusal

OPERATIONS: tuple[str, ...] = ("Conv", "ConvTranspose")
NOTE = "one convolution for each of its groups"


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Split a grouped convolution; depthwise ones stay, since TFLite has them.

    Raises:
        BadInput: weights that change from run to run, or channels that the groups do not divide.
    """
    groups = attribute(node, "group", 1)
    if groups == 1:
        return False
    shape = draft.fixed_shape(node, node.input[0])
    channels = shape[1]
    if node.op_type == "Conv" and channels == groups and len(shape) <= 4:
        return False
    weights = draft.fixed_constant(node, 1, "weights")
    if weights is None or channels % groups or weights.shape[0] % groups:
        raise refusal(node, f"{channels} channels and {groups} groups do not fit")
    bias = draft.fixed_constant(node, 2, "bias") if optional_input(node, 2) else None
    size, rows = channels // groups, weights.shape[0] // groups
    made = weights.shape[0] if node.op_type == "Conv" else weights.shape[1] * groups
    each = made // groups
    parts = []
    for group in range(groups):
        inputs = [draft.slice(node.input[0], 1, group * size, (group + 1) * size)]
        inputs.append(draft.const(weights[group * rows : (group + 1) * rows]))
        if bias is not None:
            inputs.append(draft.const(bias[group * each : (group + 1) * each]))
        convolution = onnx.NodeProto(op_type=node.op_type, input=inputs, output=[draft.name(f"{node.output[0]}_group")])
        convolution.name = convolution.output[0]
        convolution.attribute.extend(entry for entry in node.attribute if entry.name != "group")
        draft.add_node(convolution)
        parts.append(convolution.output[0])
    draft.add("Concat", *parts, output=node.output[0], axis=1)
    return True
