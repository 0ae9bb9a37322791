"""ReduceLogSumExp: with the largest value taken out first, so that no exponential overflows."""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.onnx_rewrite.draft import Draft, attribute, optional_input

OPERATIONS: tuple[str, ...] = ("ReduceLogSumExp",)
NOTE = "with the largest value taken out first"


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Write out max + log(sum(exp(value - max)))."""
    value = node.input[0]
    shape, made = draft.shape(value), draft.made_shape(node)
    given = draft.constant(optional_input(node, 1))
    axes = attribute(node, "axes") or ([] if given is None else [int(axis) for axis in given])
    if shape is None or made is None or (optional_input(node, 1) and given is None):
        return False
    if not axes and attribute(node, "noop_with_empty_axes", 0):
        draft.add("Identity", value, output=node.output[0])
        return True
    reduced = [axis % len(shape) for axis in axes] or list(range(len(shape)))
    if any(shape[axis] == 0 for axis in reduced) or (draft.dtype(value) or np.dtype(np.float32)).kind != "f":
        return False
    largest = draft.reduce("ReduceMax", value, reduced)
    total = draft.reduce("ReduceSum", draft.add("Exp", draft.add("Sub", value, largest)), reduced)
    draft.reshape(draft.add("Add", largest, draft.add("Log", total)), made, output=node.output[0])
    return True
