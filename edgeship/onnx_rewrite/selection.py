"""Parts of values in forms that the converter leaves undone: backward slices, uneven splits, triangles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from edgeship.onnx_rewrite.draft import Draft, attribute, optional_input

OPERATIONS: tuple[str, ...] = ("Slice", "Split", "Trilu")
NOTE = "as gathers, slices or masks"


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Replace what is not already in a form that the converter knows; a slice backwards is a gather of its indices."""
    return {"Slice": _backwards, "Split": _uneven, "Trilu": _triangle}[node.op_type](draft, node)


def _backwards(draft: Draft, node: onnx.NodeProto) -> bool:
    value, steps = node.input[0], draft.constant(optional_input(node, 4))
    starts, ends = (draft.constant(optional_input(node, place)) for place in (1, 2))
    shape = draft.shape(value)
    if steps is None or starts is None or ends is None or shape is None or np.all(steps > 0):
        return False
    axes = draft.constant(optional_input(node, 3))
    numbers = range(len(starts)) if axes is None else [int(axis) % len(shape) for axis in axes]
    for axis, start, end, step in zip(numbers, starts, ends, steps, strict=True):
        indices = _indices(int(start), int(end), int(step), shape[axis])
        value = draft.add("Gather", value, draft.const(indices), axis=axis)
    draft.add("Identity", value, output=node.output[0])
    return True


def _indices(start: int, end: int, step: int, length: int) -> npt.NDArray[np.int64]:
    """Return what a slice takes; unlike Python's, a backward one from before the first element begins with that."""
    start, end = (bound + length if bound < 0 else bound for bound in (start, end))
    low, high = (0, length) if step > 0 else (-1, length - 1)
    return np.arange(min(max(start, 0), high), min(max(end, low), high), step, dtype=np.int64)


def _uneven(draft: Draft, node: onnx.NodeProto) -> bool:
    """Take apart what is not said in lengths and does not come out even: the last part is shorter."""
    shape = draft.shape(node.input[0])
    if optional_input(node, 1) or attribute(node, "split") or shape is None:
        return False
    axis = attribute(node, "axis", 0) % len(shape)
    count = attribute(node, "num_outputs", len(node.output))
    each = -(-shape[axis] // count)
    if each * count == shape[axis]:
        return False
    for number, name in enumerate(node.output):
        if name:
            draft.slice(node.input[0], axis, number * each, min((number + 1) * each, shape[axis]), output=name)
    return True


def _triangle(draft: Draft, node: onnx.NodeProto) -> bool:
    """Choose by a constant mask between the value and zero."""
    value = node.input[0]
    shape, kind = draft.shape(value), draft.dtype(value)
    offset = draft.constant(optional_input(node, 1)) if optional_input(node, 1) else np.array(0)
    if shape is None or kind is None or offset is None or kind == np.bool_:
        return False
    ones = np.ones(shape[-2:], np.bool_)
    mask = (np.triu if attribute(node, "upper", 1) else np.tril)(ones, int(offset.reshape(-1)[0]))
    draft.add("Where", draft.const(mask), value, draft.scalar(0, kind), output=node.output[0])
    return True
