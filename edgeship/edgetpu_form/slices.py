"""Ways to take a tensor apart that the compiler or the quantizer do not take, as SLICE, RESHAPE, and pooling of single points."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement

SUMMARY = (
    "UNPACK, SPLIT_V, GATHER of neighbours and STRIDED_SLICE with masks as SLICE and RESHAPE; every second row or column "
    "as MAX_POOL_2D of one point"
)
EXACT = True


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one and return how many there were."""
    count = 0
    for operator in editor.each("GATHER", "SPLIT_V", "STRIDED_SLICE", "UNPACK"):
        source = int(operator.inputs[0])
        if not editor.is_float(source):
            continue
        match editor.kind(operator):
            case "GATHER":
                count += _gather(editor, operator)
            case "STRIDED_SLICE":
                count += _strided(editor, operator)
            case "UNPACK":
                axis = int(operator.builtinOptions.axis) % len(editor.shape(source))
                count += _parts(editor, operator, axis, [1] * len(operator.outputs))
            case _:
                sizes, axis_value = (editor.values(int(index)) for index in operator.inputs[1:3])
                if sizes is not None and axis_value is not None:
                    axis = int(axis_value.ravel()[0]) % len(editor.shape(source))
                    lengths = [editor.shape(int(index))[axis] for index in operator.outputs]
                    count += _parts(editor, operator, axis, lengths)
    return count


def _cut(made: Replacement, source: int, axis: int, start: int, length: int) -> int:
    shape = list(made.editor.shape(source))
    begin = [start if place == axis else 0 for place in range(len(shape))]
    shape[axis] = length
    return made.add("SLICE", [source, made.whole_numbers(begin), made.whole_numbers(shape)], shape)


def _parts(editor: GraphEditor, operator: Any, axis: int, lengths: list[int]) -> int:
    """Cut a tensor into pieces along an axis, each with the shape that it had."""
    made = Replacement(editor, operator)
    start = 0
    for output, length in zip(operator.outputs, lengths, strict=True):
        piece = _cut(made, int(operator.inputs[0]), axis, start, length)
        if editor.shape(piece) != editor.shape(int(output)):
            made.reshape(piece, editor.shape(int(output)))
        made.made[-1].outputs = [int(output)]
        start += length
    editor.replace(operator, made.made)
    return 1


def _gather(editor: GraphEditor, operator: Any) -> int:
    """Take neighbours, or one, in one piece."""
    source, positions = int(operator.inputs[0]), editor.values(int(operator.inputs[1]))
    options = operator.builtinOptions
    if positions is None or not positions.size or options.batchDims:
        return 0
    shape = editor.shape(source)
    axis = int(options.axis) % len(shape)
    flat = [int(place) % shape[axis] for place in positions.ravel()]
    if flat != list(range(flat[0], flat[0] + len(flat))):
        return 0
    made = Replacement(editor, operator)
    piece = _cut(made, source, axis, flat[0], len(flat))
    if editor.shape(piece) != editor.shape(made.output):
        made.reshape(piece, editor.shape(made.output))
    return made.finish()


def _strided(editor: GraphEditor, operator: Any) -> int:
    """Say in begins and lengths what a slice says in masks; take every n-th row and column by pooling."""
    source, options = int(operator.inputs[0]), operator.builtinOptions
    given = [editor.values(int(index)) for index in operator.inputs[1:4]]
    if any(values is None for values in given) or options.ellipsisMask or options.newAxisMask or options.offset:
        return 0
    shape = editor.shape(source)
    begins, ends, steps = ([int(value) for value in values] for values in given if values is not None)
    plain = all(step == 1 for step in steps)
    if (plain and not options.shrinkAxisMask) or any(step < 1 for step in steps):
        return 0
    if not plain and (len(shape) != 4 or any(step != 1 for step in [*steps[:1], *steps[3:]])):
        return 0
    start, length = list(shape), list(shape)
    for axis, size in enumerate(shape):
        start[axis], length[axis] = _range(axis, size, begins, ends, options)
    made = Replacement(editor, operator)
    piece = source
    if tuple(length) != shape:
        piece = made.add("SLICE", [piece, made.whole_numbers(start), made.whole_numbers(length)], length)
    if not plain:
        high, wide = ([*steps, 1, 1, 1, 1][axis] for axis in (1, 2))
        thin = (length[0], -(-length[1] // high), -(-length[2] // wide), length[3])
        piece = made.add(
            "MAX_POOL_2D", [piece], thin, padding=editor.schema.Padding.VALID,
            strideH=high, strideW=wide, filterHeight=1, filterWidth=1,
        )  # fmt: skip
    if editor.shape(piece) != editor.shape(made.output):
        made.reshape(piece, editor.shape(made.output))
    if not made.made:
        return made.finish_as(source)
    return made.finish()


def _range(axis: int, size: int, begins: list[int], ends: list[int], options: Any) -> tuple[int, int]:
    """Return where a slice begins along an axis, and its length before the steps (TensorFlow's strided_slice rules)."""
    if axis >= len(begins):
        return 0, size
    begin = 0 if options.beginMask >> axis & 1 else begins[axis]
    end = size if options.endMask >> axis & 1 else ends[axis]
    begin, end = (int(np.clip(place + size if place < 0 else place, 0, size)) for place in (begin, end))
    if options.shrinkAxisMask >> axis & 1:
        return begin, 1
    return begin, end - begin
