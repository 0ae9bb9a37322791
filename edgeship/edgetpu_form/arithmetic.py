"""Arithmetic that the compiler or the quantizer do not take, by additions, multiplications and maxima that they do."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement

SUMMARY = "NEG, ABS, SQUARE, SQUARED_DIFFERENCE, MINIMUM, ADD_N and DIV by constants by ADD, SUB, MUL and MAXIMUM"
EXACT = True
_KINDS = ("ABS", "ADD_N", "DIV", "MINIMUM", "NEG", "SQUARE", "SQUARED_DIFFERENCE")


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one and return how many there were."""
    count = 0
    for operator in editor.each(*_KINDS):
        inputs = [int(index) for index in operator.inputs]
        if not editor.is_float(*inputs):
            continue
        made = Replacement(editor, operator)
        if _put(editor, made, operator, inputs):
            count += made.finish()
    return count


def _put(editor: GraphEditor, made: Replacement, operator: Any, inputs: list[int]) -> bool:
    one, two = inputs[0], inputs[-1]
    match editor.kind(operator):
        case "NEG":
            made.arithmetic("MUL", one, -1.0)
        case "ABS":
            made.arithmetic("MAXIMUM", one, made.arithmetic("MUL", one, -1.0))
        case "SQUARE":
            made.arithmetic("MUL", one, one)
        case "SQUARED_DIFFERENCE":
            difference = made.arithmetic("SUB", one, two)
            made.arithmetic("MUL", difference, difference)
        case "MINIMUM":
            made.arithmetic("SUB", one, made.arithmetic("SUB", one, two, "RELU"))
        case "ADD_N":
            total = one
            for more in inputs[1:]:
                total = made.arithmetic("ADD", total, more)
        case _:
            divisor = editor.values(two)
            if divisor is None or not np.all(divisor):
                return False
            made.arithmetic("MUL", one, made.numbers(1 / divisor), editor.activation(operator))
    return bool(made.made)
