"""A constant factor after a division by a small value: the factor is divided instead, and the large value touched once.

The converter also gets constants of [channels, 1, 1] on a large value wrong where the image is as wide as it has channels.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.onnx_rewrite.draft import Draft

OPERATIONS: tuple[str, ...] = ("Mul",)
NOTE = ""


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Write (large / small) * constant as large * (constant / small)."""
    for quotient, factor in (tuple(node.input), tuple(reversed(node.input))):
        division = draft.producer(quotient)
        if division is None or division.op_type != "Div" or draft.uses(quotient) > 1 or not draft.is_constant(factor):
            continue
        large, small = division.input
        shapes = [draft.shape(name) for name in (large, small, factor)]
        if draft.is_constant(small) or draft.is_constant(large) or any(shape is None for shape in shapes):
            continue
        whole, *parts = [shape for shape in shapes if shape is not None]
        if np.prod(np.broadcast_shapes(*parts)) < np.prod(whole) and np.broadcast_shapes(whole, *parts) == whole:
            draft.add("Mul", large, draft.add("Div", factor, small), output=node.output[0])
            return True
    return False
