"""HARD_SWISH, which the compiler does not map, as x * relu6(x + 3) / 6."""

from __future__ import annotations

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement

SUMMARY = "HARD_SWISH as x * relu6(x + 3) / 6"
EXACT = True


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one and return how many there were (Howard et al. 2019, arXiv:1905.02244, section 5.2)."""
    count = 0
    for operator in editor.each("HARD_SWISH"):
        source = int(operator.inputs[0])
        if not editor.is_float(source):
            continue
        made = Replacement(editor, operator)
        gate = made.arithmetic("ADD", source, 3.0, "RELU6")
        gate = made.arithmetic("MUL", gate, 1 / 6)
        made.arithmetic("MUL", source, gate)
        count += made.finish()
    return count
