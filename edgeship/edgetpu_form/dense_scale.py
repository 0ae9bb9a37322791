"""8-bit FULLY_CONNECTED with one scale for all weights: runtimes of the compiler's age read one, and compute garbage of more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.graph_editor import GraphEditor

SUMMARY = "8-bit FULLY_CONNECTED with one scale for all weights in the place of one a channel"
EXACT = False


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one and return how many there were.

    A weight moves by half a step of the largest scale at most (Jacob et al. 2018, arXiv:1712.05877, section 2.1).
    """
    count = 0
    for operator in editor.each("FULLY_CONNECTED"):
        source, weight = (int(index) for index in operator.inputs[:2])
        scales = _scales(editor, weight)
        stored = editor.values(weight)
        if scales is None or scales.size < 2 or stored is None or editor.dtype(weight) != "int8":
            continue
        into = _scales(editor, source)
        if into is None or stored.ndim != 2 or len(stored) != scales.size:
            continue
        one = float(scales.max())
        whole = np.rint(stored * (scales / one)[:, None]).astype(np.int8)
        inputs = [source, _quantized(editor, weight, whole, one)]
        for bias in (int(index) for index in operator.inputs[2:]):
            sums = editor.values(bias)
            if sums is None:
                inputs.append(bias)
                continue
            fitted = np.rint(sums * (scales / one)).astype(sums.dtype)
            inputs.append(_quantized(editor, bias, fitted, float(into[0]) * one))
        operator.inputs = inputs
        count += 1
    return count


def _scales(editor: GraphEditor, index: int) -> NDArray[np.float64] | None:
    found = editor.tensors[index].quantization
    return None if found is None or found.scale is None else np.asarray(found.scale, dtype=np.float64)


def _quantized(editor: GraphEditor, like: int, values: NDArray[Any], scale: float) -> int:
    """Return a constant with one scale, called as the one that it stands for."""
    index = editor.constant(editor.name(like), values)
    made = editor.schema.QuantizationParametersT()
    made.scale, made.zeroPoint, made.quantizedDimension = [scale], [0], 0
    editor.tensors[index].quantization = made
    return index
