"""LEAKY_RELU and PRELU, which the compiler or the quantizer do not take, as the larger of x and alpha * x."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement

SUMMARY = "LEAKY_RELU and PRELU as max(x, alpha * x), where alpha is over 1 as x + (1 - alpha) * relu(-x)"
EXACT = True


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one with constant slopes and return how many there were."""
    count = 0
    for operator in editor.each("LEAKY_RELU", "PRELU"):
        source = int(operator.inputs[0])
        alpha = _slopes(editor, operator)
        if alpha is None or not editor.is_float(source):
            continue
        made = Replacement(editor, operator)
        if (alpha <= 1).all():
            made.arithmetic("MAXIMUM", source, made.arithmetic("MUL", source, made.numbers(alpha)))
        else:
            below = made.arithmetic("MUL", source, -1.0, "RELU")
            made.arithmetic("ADD", source, made.arithmetic("MUL", below, made.numbers(1 - alpha)))
        count += made.finish()
    return count


def _slopes(editor: GraphEditor, operator: Any) -> np.ndarray[Any, Any] | None:
    """Return the slopes below zero: one number, or as many as PRELU has; along an axis where all agree, once."""
    if editor.kind(operator) == "LEAKY_RELU":
        return np.array([operator.builtinOptions.alpha], np.float32)
    alpha = editor.values(int(operator.inputs[1]))
    if alpha is None:
        return None
    for axis in range(alpha.ndim - 1):
        if (alpha == alpha.take([0], axis)).all():
            alpha = alpha.take([0], axis)
    return alpha
