"""GELU, which the compiler does not map, by its tanh form."""

from __future__ import annotations

import math

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement

SUMMARY = "GELU as x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))), within 0.0005 of the exact one"
EXACT = False


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one and return how many there were (Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2)."""
    count = 0
    for operator in editor.each("GELU"):
        source = int(operator.inputs[0])
        if not editor.is_float(source):
            continue
        made = Replacement(editor, operator)
        bend = made.arithmetic("MUL", made.arithmetic("MUL", source, source), 0.044715 * math.sqrt(2 / math.pi))
        slope = made.arithmetic("ADD", bend, math.sqrt(2 / math.pi))
        turned = made.add("TANH", [made.arithmetic("MUL", source, slope)], editor.shape(source))
        gate = made.arithmetic("ADD", made.arithmetic("MUL", turned, 0.5), 0.5)
        made.arithmetic("MUL", source, gate)
        count += made.finish()
    return count
