"""Identity and Dropout at rest: the value itself."""

from __future__ import annotations

import onnx

from edgeship.onnx_rewrite.draft import Draft

OPERATIONS: tuple[str, ...] = ("Identity",)
NOTE = ""


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Let every later use mean the input; an output of the graph keeps its node."""
    if draft.is_output(node.output[0]):
        return False
    draft.rename(node.output[0], node.input[0])
    return True
