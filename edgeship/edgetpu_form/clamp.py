"""RELU6 and its like standing alone, which the quantizer leaves float: fused into what they follow, or into an addition."""

from __future__ import annotations

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement

SUMMARY = "RELU6, RELU_N1_TO_1 and RELU_0_TO_1 fused into the operation before them, or into an addition of nothing"
EXACT = True
_FUSING = frozenset({"ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL", "SUB"})


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one and return how many there were."""
    count = 0
    for operator in editor.each("RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"):
        source, kind = int(operator.inputs[0]), editor.kind(operator)
        if not editor.is_float(source):
            continue
        if kind != "RELU_0_TO_1" and _fused(editor, operator, kind):
            count += 1
            continue
        made = Replacement(editor, operator)
        if kind == "RELU_0_TO_1":
            made.arithmetic("MUL", made.arithmetic("MUL", source, 6.0, "RELU6"), 1 / 6)
        else:
            made.activated(source, kind)
        count += made.finish()
    return count


def _fused(editor: GraphEditor, operator: object, kind: str) -> bool:
    """Let the operation before compute the activation, if nobody else reads what it computes."""
    source = int(operator.inputs[0])  # type: ignore[attr-defined]
    before = editor.producer(source)
    if before is None or editor.kind(before) not in _FUSING or editor.activation(before) != "NONE":
        return False
    if editor.is_output(source) or len(editor.readers(source)) > 1:
        return False
    editor.fuse(before, kind)
    before.outputs = list(operator.outputs)  # type: ignore[attr-defined]
    editor.replace(operator, [])
    return True
