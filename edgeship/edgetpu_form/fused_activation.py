"""Activations fused into pooling, which the compiler does not map there, as operations of their own."""

from __future__ import annotations

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement

SUMMARY = "activations taken out of AVERAGE_POOL_2D and MAX_POOL_2D"
EXACT = True


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one and return how many there were."""
    count = 0
    for operator in editor.each("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        activation, result = editor.activation(operator), int(operator.outputs[0])
        if activation not in ("RELU", "RELU6", "RELU_N1_TO_1") or not editor.is_float(result):
            continue
        made = Replacement(editor, operator)
        plain = editor.computed(f"{made.stem}/plain", editor.shape(result))
        operator.outputs = [plain]
        editor.fuse(operator, "NONE")
        made.made.append(operator)
        made.activated(plain, activation)
        count += made.finish()
    return count
