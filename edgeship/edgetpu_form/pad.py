"""PADV2 with zeros as PAD."""

from __future__ import annotations

import numpy as np

from edgeship.graph_editor import GraphEditor
from edgeship.graph_pieces import Replacement

SUMMARY = "PADV2 with zeros as PAD"
EXACT = True


def rewrite(editor: GraphEditor) -> int:
    """Rewrite every one and return how many there were."""
    count = 0
    for operator in editor.each("PADV2"):
        source, around, filling = (int(index) for index in operator.inputs)
        value = editor.values(filling)
        if value is None or np.any(value) or not editor.is_float(source):
            continue
        made = Replacement(editor, operator)
        made.add("PAD", [source, around], editor.shape(made.output))
        count += made.finish()
    return count
