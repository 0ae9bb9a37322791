"""SQUEEZE, EXPAND_DIMS and transpositions that move no value, as RESHAPE."""

from __future__ import annotations

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement

SUMMARY = "SQUEEZE, EXPAND_DIMS and TRANSPOSE of axes of length 1 as RESHAPE"
EXACT = True


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one and return how many there were."""
    count = 0
    for operator in editor.each("SQUEEZE", "EXPAND_DIMS", "TRANSPOSE"):
        source, result = int(operator.inputs[0]), int(operator.outputs[0])
        if not editor.is_float(source, result):
            continue
        if editor.kind(operator) == "TRANSPOSE":
            order = editor.values(int(operator.inputs[1]))
            shape = editor.shape(source)
            if order is None or not _moves_nothing([int(axis) for axis in order], shape):
                continue
        made = Replacement(editor, operator)
        made.reshape(source, editor.shape(result))
        count += made.finish()
    return count


def _moves_nothing(order: list[int], shape: tuple[int, ...]) -> bool:
    """Say whether the axes that are longer than 1 keep their order."""
    long = [axis % len(shape) for axis in order if shape[axis] > 1]
    return long == sorted(long)
