"""RESIZE_NEAREST_NEIGHBOR by whole factors in its first version: which pixel's centre is meant makes no difference there."""

from __future__ import annotations

from edgeship.graph_editor import GraphEditor

SUMMARY = "RESIZE_NEAREST_NEIGHBOR by whole factors without half_pixel_centers, which the compiler reads"
EXACT = True


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one and return how many there were."""
    count = 0
    for operator in editor.each("RESIZE_NEAREST_NEIGHBOR"):
        before, after = editor.shape(int(operator.inputs[0])), editor.shape(int(operator.outputs[0]))
        options = operator.builtinOptions
        whole = all(after[axis] % before[axis] == 0 for axis in (1, 2))
        if not whole or options.alignCorners or not options.halfPixelCenters:
            continue
        options.halfPixelCenters = False
        operator.opcodeIndex = editor.operator("RESIZE_NEAREST_NEIGHBOR", [], []).opcodeIndex
        count += 1
    return count
