"""Operations on any number of values that have only one: the value itself."""

from __future__ import annotations

import onnx

from edgeship.onnx_rewrite.draft import Draft

OPERATIONS: tuple[str, ...] = ("Max", "Mean", "Min", "Sum")
NOTE = ""


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Pass the only value on."""
    if len(node.input) != 1:
        return False
    draft.add("Identity", node.input[0], output=node.output[0])
    return True
