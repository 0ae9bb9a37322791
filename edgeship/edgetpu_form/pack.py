"""PACK, which the compiler does not map in the batch, as CONCATENATION."""

from __future__ import annotations

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement

SUMMARY = "PACK as RESHAPE and CONCATENATION"
EXACT = True


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one of computed tensors and return how many there were."""
    count = 0
    for operator in editor.each("PACK"):
        inputs = [int(index) for index in operator.inputs]
        if not editor.is_float(*inputs) or any(editor.is_constant(index) for index in inputs):
            continue
        made = Replacement(editor, operator)
        shape = editor.shape(made.output)
        axis = int(operator.builtinOptions.axis) % len(shape)
        slim = tuple(1 if place == axis else size for place, size in enumerate(shape))
        pieces = [made.reshape(index, slim) for index in inputs]
        if len(pieces) > 1:
            made.add("CONCATENATION", pieces, shape, axis=axis)
        count += made.finish()
    return count
