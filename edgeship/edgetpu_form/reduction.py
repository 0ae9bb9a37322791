"""Reductions that the compiler or the quantizer do not take: over the batch, over an odd depth, and the largest of an image."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement, axes_of

SUMMARY = (
    "MEAN and SUM not over a batch of 1; over a depth that is no multiple of 4 as a 1x1 CONV_2D; REDUCE_MAX of an image "
    "as MAX_POOL_2D"
)
EXACT = True
_MULTIPLE = 4


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one and return how many there were."""
    count = 0
    for operator in editor.each("MEAN", "SUM", "REDUCE_MAX"):
        axes, source = axes_of(editor, operator), int(operator.inputs[0])
        shape = editor.shape(source)
        if axes is None or not axes or not editor.is_float(source) or not shape:
            continue
        if editor.kind(operator) == "REDUCE_MAX":
            count += _largest(editor, operator, axes)
        elif all(shape[axis] == 1 for axis in axes):
            made = Replacement(editor, operator)
            made.reshape(source, editor.shape(made.output))
            count += made.finish()
        elif shape[0] == 1 and 0 in axes:
            count += _without_batch(editor, operator, axes)
        elif axes == (len(shape) - 1,) and len(shape) > 1 and shape[-1] % _MULTIPLE:
            count += _over_depth(editor, operator)
    return count


def _without_batch(editor: GraphEditor, operator: Any, axes: tuple[int, ...]) -> int:
    made = Replacement(editor, operator)
    source, shape = int(operator.inputs[0]), editor.shape(int(operator.inputs[0]))
    inner = tuple(axis for axis in axes if axis)
    kept = tuple(1 if axis in inner else size for axis, size in enumerate(shape))
    reduced = made.add(editor.kind(operator), [source, made.whole_numbers(inner)], kept, keepDims=True)
    made.reshape(reduced, editor.shape(made.output))
    return made.finish()


def _over_depth(editor: GraphEditor, operator: Any) -> int:
    made = Replacement(editor, operator)
    source, shape = int(operator.inputs[0]), editor.shape(int(operator.inputs[0]))
    rows, depth = int(np.prod(shape[:-1], dtype=int)), shape[-1]
    share = 1 / depth if editor.kind(operator) == "MEAN" else 1.0
    image = source if len(shape) == 4 and shape[0] == 1 else made.reshape(source, (1, 1, rows, depth))
    kernel, bias = made.numbers(np.full((1, 1, 1, depth), share)), made.numbers(np.zeros(1))
    made.reshape(made.convolution(image, kernel, bias), editor.shape(made.output))
    return made.finish()


def _largest(editor: GraphEditor, operator: Any, axes: tuple[int, ...]) -> int:
    source, shape = int(operator.inputs[0]), editor.shape(int(operator.inputs[0]))
    if len(shape) != 4 or axes != (1, 2):
        return 0
    made = Replacement(editor, operator)
    pooled = made.add(
        "MAX_POOL_2D", [source], (shape[0], 1, 1, shape[3]), padding=editor.schema.Padding.VALID,
        strideH=1, strideW=1, filterHeight=shape[1], filterWidth=shape[2],
    )  # fmt: skip
    made.reshape(pooled, editor.shape(made.output))
    return made.finish()
