"""Transpositions taken out where they cancel, move on, or can be done to constants instead."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement, axes_of

SUMMARY = "TRANSPOSE cancelled against another, moved behind elementwise operations, or done to the weights behind it"
EXACT = True
_UNARY = frozenset({"HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "RELU", "RELU6", "TANH"})
_BINARY = frozenset({"ADD", "MAXIMUM", "MUL", "SUB"})


def rewrite(editor: GraphEditor) -> int:
    """Rewrite what can be and return how many there were."""
    count = 0
    for operator in editor.each("TRANSPOSE"):
        if all(known is not operator for known in editor.operators):  # gone with another one
            continue
        order, source = order_of(editor, operator), int(operator.inputs[0])
        if order is None or not editor.is_float(source):
            continue
        if order == sorted(order):
            count += Replacement(editor, operator).finish_as(source)
            continue
        reader = _only_reader(editor, int(operator.outputs[0]))
        if reader is None:
            continue
        match editor.kind(reader):
            case "TRANSPOSE":
                count += _joined(editor, operator, reader, order)
            case "RESHAPE":
                count += _into_weights(editor, operator, reader, order)
            case "MEAN":
                count += _into_axes(editor, operator, reader, order)
            case kind if kind in _UNARY or kind in _BINARY:
                count += _moved_on(editor, operator, reader, order)
    return count


def order_of(editor: GraphEditor, operator: Any) -> list[int] | None:
    """Return a TRANSPOSE's order of axes, None where it is computed."""
    values = editor.values(int(operator.inputs[1]))
    return None if values is None else [int(axis) % values.size for axis in values]


def _only_reader(editor: GraphEditor, index: int) -> Any | None:
    readers = editor.readers(index)
    return readers[0] if len(readers) == 1 and not editor.is_output(index) else None


def _joined(editor: GraphEditor, operator: Any, reader: Any, order: list[int]) -> int:
    """Do two in one step."""
    second = order_of(editor, reader)
    if second is None:
        return 0
    both = np.array([order[axis] for axis in second], np.int32)
    reader.inputs = [int(operator.inputs[0]), editor.constant(f"{editor.name(int(reader.outputs[0]))}/order", both)]
    editor.replace(operator, [])
    return 1


def _into_weights(editor: GraphEditor, operator: Any, reader: Any, order: list[int]) -> int:
    """Flatten without transposing, and put the columns of the fully-connected weights behind it in that order."""
    dense = _only_reader(editor, int(reader.outputs[0]))
    shape = editor.shape(int(operator.inputs[0]))
    if dense is None or editor.kind(dense) != "FULLY_CONNECTED" or int(dense.inputs[0]) != int(reader.outputs[0]):
        return 0
    weight = editor.values(int(dense.inputs[1]))
    inner = int(np.prod(shape[1:], dtype=int))
    if (
        order[0] != 0
        or weight is None
        or weight.ndim != 2
        or weight.shape[1] != inner
        or dense.builtinOptions.weightsFormat
    ):
        return 0
    if editor.shape(int(reader.outputs[0])) != (shape[0], inner):
        return 0
    transposed = weight.reshape(len(weight), *(shape[axis] for axis in order[1:]))
    back = np.argsort([axis - 1 for axis in order[1:]])
    columns = transposed.transpose(0, *(axis + 1 for axis in back)).reshape(weight.shape)
    dense.inputs = [int(dense.inputs[0]), editor.constant(f"{editor.name(int(dense.inputs[1]))}/columns", columns),
                    *(int(index) for index in dense.inputs[2:])]  # fmt: skip
    reader.inputs = [int(operator.inputs[0]), *(int(index) for index in reader.inputs[1:])]
    editor.replace(operator, [])
    return 1


def _into_axes(editor: GraphEditor, operator: Any, reader: Any, order: list[int]) -> int:
    """Take the mean over the axes where they are, if what is left keeps its order."""
    axes = axes_of(editor, reader)
    if axes is None:
        return 0
    left = [axis for place, axis in enumerate(order) if place not in axes]
    if left != sorted(left):
        return 0
    source = int(operator.inputs[0])
    made = Replacement(editor, reader)
    over = sorted(order[axis] for axis in axes)
    kept = [1 if axis in over else size for axis, size in enumerate(editor.shape(source))]
    pooled = made.add("MEAN", [source, made.whole_numbers(over)], kept, keepDims=True)
    made.reshape(pooled, editor.shape(made.output))
    editor.replace(operator, [])
    return made.finish()


def _moved_on(editor: GraphEditor, operator: Any, reader: Any, order: list[int]) -> int:
    """Let an elementwise operation work before the transposition; its other input is one number, or transposed alike."""
    mine, source, result = int(operator.outputs[0]), int(operator.inputs[0]), int(reader.outputs[0])
    inputs, partners = [], []
    for index in (int(index) for index in reader.inputs):
        partner = editor.producer(index)
        if index == mine:
            inputs.append(source)
        elif (
            partner is not None and _transposed_alike(editor, partner, order) and _only_reader(editor, index) is reader
        ):
            inputs.append(int(partner.inputs[0]))
            partners.append(partner)
        elif editor.is_constant(index) and np.prod(editor.shape(index), dtype=int) == 1:
            inputs.append(index)
        else:
            return 0
    before = editor.computed(f"{editor.name(result)}/before", editor.shape(source))
    moved = _transposition(editor, before, result, order)
    reader.inputs, reader.outputs = inputs, [before]
    editor.replace(reader, [reader, moved])
    for gone in (operator, *partners):
        editor.replace(gone, [])
    return 1


def _transposed_alike(editor: GraphEditor, operator: Any, order: list[int]) -> bool:
    return editor.kind(operator) == "TRANSPOSE" and order_of(editor, operator) == order


def _transposition(editor: GraphEditor, source: int, result: int, order: list[int]) -> Any:
    name = editor.unique(f"{editor.name(result)}/order")
    return editor.operator("TRANSPOSE", [source, editor.constant(name, np.array(order, np.int32))], [result])
