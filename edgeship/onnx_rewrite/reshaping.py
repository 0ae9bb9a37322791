"""Reshape: two that follow one another are one, and one that changes nothing is none."""

from __future__ import annotations

import onnx

from edgeship.onnx_rewrite.draft import Draft

OPERATIONS: tuple[str, ...] = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
NOTE = ""


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Skip the shapes in between, where nothing else is done with them."""
    made = draft.made_shape(node)
    if made is None:
        return False
    source = node.input[0]
    while (before := draft.producer(source)) is not None and before.op_type == "Reshape":
        source = before.input[0]
    if draft.shape(source) == made and not draft.is_output(node.output[0]):
        draft.rename(node.output[0], source)
        return True
    if source == node.input[0] and node.op_type == "Reshape":
        return False
    draft.reshape(source, made, output=node.output[0])
    return True
