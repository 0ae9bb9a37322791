"""Activations that TFLite has only with one parameter, or not at all: in elementwise operations."""

from __future__ import annotations

import math

import numpy as np
import onnx

from edgeship.onnx_rewrite.draft import Draft, attribute

OPERATIONS: tuple[str, ...] = ("Celu", "Elu", "Selu", "ThresholdedRelu")
NOTE = "as exponentials and comparisons"
_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875  # ONNX's defaults


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Write out an activation; TFLite's ELU has alpha 1, and the converter forgets any other."""
    value, output = node.input[0], node.output[0]
    kind = draft.dtype(value) or np.dtype(np.float32)
    alpha = attribute(node, "alpha", _SELU_ALPHA if node.op_type == "Selu" else 1.0)
    if node.op_type == "ThresholdedRelu":
        above = draft.add("Cast", draft.add("Greater", value, draft.scalar(alpha, kind)), to=_onnx_type(kind))
        draft.add("Mul", value, above, output=output)
        return True
    if node.op_type == "Elu" and alpha == 1.0:
        return False
    stretch = alpha if node.op_type == "Celu" else 1.0
    scale = attribute(node, "gamma", _SELU_GAMMA) if node.op_type == "Selu" else 1.0
    low = draft.add("Min", value, draft.scalar(0.0, kind))
    if stretch != 1.0:
        low = draft.add("Mul", low, draft.scalar(1 / stretch, kind))
    low = draft.add("Sub", draft.add("Exp", low), draft.scalar(1.0, kind))
    total = draft.add("Add", draft.add("Relu", value), draft.add("Mul", low, draft.scalar(alpha, kind)))
    if math.isclose(scale, 1.0):
        draft.add("Identity", total, output=output)
    else:
        draft.add("Mul", total, draft.scalar(scale, kind), output=output)
    return True


def _onnx_type(kind: np.dtype[np.generic]) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(kind))
