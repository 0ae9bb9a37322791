"""FULLY_CONNECTED over more than one row, and BATCH_MATMUL with constant weights, as a 1x1 convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement

SUMMARY = "FULLY_CONNECTED with a result of several rows, and BATCH_MATMUL by constants, as a 1x1 CONV_2D"
EXACT = True


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one whose weights are constants, and return how many there were."""
    count = 0
    for operator in editor.each("FULLY_CONNECTED", "BATCH_MATMUL"):
        weight = _weight(editor, operator)
        result = int(operator.outputs[0])
        source = int(operator.inputs[0])
        if weight is None or not editor.is_float(source, result):
            continue
        rows = int(np.prod(editor.shape(source), dtype=int)) // weight.shape[1]
        if rows < 1 or (rows == 1 and editor.kind(operator) == "FULLY_CONNECTED"):
            continue
        made = Replacement(editor, operator)
        flat = made.reshape(source, (1, 1, rows, weight.shape[1]))
        kernel = made.numbers(weight.reshape(weight.shape[0], 1, 1, weight.shape[1]))
        bias = int(operator.inputs[2]) if len(operator.inputs) > 2 else -1
        bias = bias if bias >= 0 else made.numbers(np.zeros(weight.shape[0]))
        wide = made.convolution(flat, kernel, bias, activation=editor.activation(operator))
        made.reshape(wide, editor.shape(result))
        count += made.finish()
    return count


def _weight(editor: GraphEditor, operator: Any) -> np.ndarray[Any, Any] | None:
    """Return the constant weights as [out, in], None where they are computed or of another form."""
    weight, options = editor.values(int(operator.inputs[1])), operator.builtinOptions
    if weight is None or weight.dtype != np.float32 or weight.ndim != 2:
        return None
    if editor.kind(operator) == "BATCH_MATMUL":
        return None if options.adjX else weight if options.adjY else weight.T
    return weight if not options.weightsFormat else None
