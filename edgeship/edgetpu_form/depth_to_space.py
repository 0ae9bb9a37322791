"""DEPTH_TO_SPACE, which the compiler does not map, as a transposed convolution whose kernel is of zeros and ones."""

from __future__ import annotations

import numpy as np

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement

SUMMARY = "DEPTH_TO_SPACE as TRANSPOSE_CONV with a kernel of zeros and ones"
EXACT = True


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one and return how many there were."""
    count = 0
    for operator in editor.each("DEPTH_TO_SPACE"):
        source, block = int(operator.inputs[0]), int(operator.builtinOptions.blockSize)
        if not editor.is_float(source):
            continue
        made = Replacement(editor, operator)
        deep, shape = editor.shape(source)[3], editor.shape(made.output)
        kernel = np.zeros((shape[3], block, block, deep), np.float32)
        for row, column, channel in np.ndindex(block, block, shape[3]):
            kernel[channel, row, column, (row * block + column) * shape[3] + channel] = 1
        made.add(
            "TRANSPOSE_CONV", [made.whole_numbers(shape), made.numbers(kernel), source], shape,
            strideH=block, strideW=block, padding=editor.schema.Padding.VALID,
        )  # fmt: skip
        count += made.finish()
    return count
