"""Convolutions in groups, which the compiler does not know, each group on its own slice of the channels."""

from __future__ import annotations

import copy
from typing import Any

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement

SUMMARY = "CONV_2D in groups as one CONV_2D a group, between SPLIT and CONCATENATION"
EXACT = True


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one and return how many there were."""
    count = 0
    for operator in editor.each("CONV_2D"):
        source, kernel = int(operator.inputs[0]), editor.values(int(operator.inputs[1]))
        if kernel is None or kernel.ndim != 4 or not editor.is_float(source):
            continue
        groups = editor.shape(source)[3] // kernel.shape[3]
        if groups > 1 and kernel.shape[0] % groups == 0:
            count += _apart(editor, operator, kernel, groups)
    return count


def _apart(editor: GraphEditor, operator: Any, kernel: Any, groups: int) -> int:
    made = Replacement(editor, operator)
    source, shape = int(operator.inputs[0]), editor.shape(int(operator.inputs[0]))
    slim = (*shape[:3], shape[3] // groups)
    pieces = [editor.computed(f"{made.stem}/group", slim) for _ in range(groups)]
    axis = editor.constant(f"{made.stem}/axis", _scalar(3))
    made.made.append(editor.operator("SPLIT", [axis, source], pieces, numSplits=groups))
    bias = editor.values(int(operator.inputs[2])) if len(operator.inputs) > 2 and operator.inputs[2] >= 0 else None
    each, full = kernel.shape[0] // groups, editor.shape(made.output)
    results = []
    for group, piece in enumerate(pieces):
        rows = slice(group * each, (group + 1) * each)
        inputs = [piece, made.numbers(kernel[rows]), made.numbers(bias[rows]) if bias is not None else -1]
        results.append(made.add("CONV_2D", inputs, (*full[:3], each)))
        made.made[-1].builtinOptions = copy.copy(operator.builtinOptions)
    made.add("CONCATENATION", results, full, axis=3)
    return made.finish()


def _scalar(value: int) -> Any:
    import numpy as np

    return np.array(value, np.int32)
