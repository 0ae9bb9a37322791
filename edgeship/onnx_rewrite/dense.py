"""Products with constant matrices, and sums with constant vectors after them: fully connected layers.

The converter makes a batched product of one with more than two axes, which quantizers and chips know less well.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.onnx_rewrite.draft import Draft, attribute, optional_input

OPERATIONS: tuple[str, ...] = ("Add", "MatMul")
NOTE = ""


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Replace a product by a two-dimensional one that may take a bias, and let the next sum be that bias."""
    return _product(draft, node) if node.op_type == "MatMul" else _sum(draft, node)


def _product(draft: Draft, node: onnx.NodeProto) -> bool:
    value, weights = node.input
    shape, kernel = draft.shape(value), draft.shape(weights)
    if not draft.is_constant(weights) or draft.dtype(weights) != np.float32 or draft.is_constant(value):
        return False
    if shape is None or kernel is None or len(kernel) != 2 or len(shape) < 2:
        return False
    if len(shape) == 2:
        draft.add("Gemm", value, weights, output=node.output[0])
        return True
    rows = draft.reshape(value, (int(np.prod(shape[:-1], dtype=np.int64)), shape[-1]))
    draft.reshape(draft.add("Gemm", rows, weights), (*shape[:-1], kernel[1]), output=node.output[0])
    return True


def _sum(draft: Draft, node: onnx.NodeProto) -> bool:
    for value, bias in (tuple(node.input), tuple(reversed(node.input))):
        product = _unbiased(draft, value)
        if product is None or not draft.is_constant(bias) or draft.uses(value) > 1:
            continue
        shape, length = draft.shape(value), draft.shape(bias)
        width = draft.made_shape(product)
        if (
            shape is None
            or length is None
            or width is None
            or length[-1:] != width[-1:]
            or np.prod(length) != width[-1]
        ):
            continue
        vector = draft.reshape(bias, width[-1:])
        whole = onnx.NodeProto()
        whole.CopyFrom(product)
        del whole.input[2:], whole.output[:]
        whole.input.append(vector)
        whole.output.append(draft.name(f"{node.output[0]}_rows"))
        whole.name = whole.output[0]
        draft.add_node(whole)
        draft.reshape(whole.output[0], shape, output=node.output[0])
        return True
    return False


def _unbiased(draft: Draft, value: str) -> onnx.NodeProto | None:
    """Return the product without a bias that a value is, perhaps in another shape with the same last axis."""
    maker = draft.producer(value)
    if maker is not None and maker.op_type == "Reshape":
        before, after = draft.shape(maker.input[0]), draft.shape(value)
        if before is None or after is None or before[-1:] != after[-1:]:
            return None
        maker = draft.producer(maker.input[0])
    if maker is None or maker.op_type != "Gemm" or optional_input(maker, 2):
        return None
    return maker if attribute(maker, "alpha", 1.0) == 1.0 else None
