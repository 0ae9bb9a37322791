"""GELU written out with Erf, in whatever order: in the one order that the converter knows as TFLite's GELU.

x / 2 * (1 + erf(x / √2)); Hendrycks and Gimpel 2016, arXiv:1606.08415.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from edgeship.onnx_rewrite.draft import Draft, attribute

OPERATIONS: tuple[str, ...] = ("Gelu", "Mul")
NOTE = "as the chain that becomes one operation of TFLite, or by a hyperbolic tangent"
_SLACK = 1e-5


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Write a product that is a GELU in the known order; opset 20's own operation too."""
    if node.op_type == "Gelu":
        if draft.dtype(node.input[0]) != np.float32:
            return False
        near = attribute(node, "approximate", "none") == "tanh"
        (_write_near if near else _write)(draft, node.input[0], node.output[0])
        return True
    if _is_written(draft, node):
        return False
    value = _gelu_of(draft, node)
    if value is None:
        return False
    _write(draft, value, node.output[0])
    return True


def _write(draft: Draft, value: str, output: str) -> None:
    kind = draft.dtype(value) or np.dtype(np.float32)
    inner = draft.add("Erf", draft.add("Div", value, draft.scalar(math.sqrt(2), kind)))
    product = draft.add("Mul", value, draft.add("Add", inner, draft.scalar(1.0, kind)))
    draft.add("Mul", product, draft.scalar(0.5, kind), output=output)


def _write_near(draft: Draft, value: str, output: str) -> None:
    """Write out the approximation by a hyperbolic tangent; the converter makes the exact one of it."""
    kind = draft.dtype(value) or np.dtype(np.float32)
    cube = draft.add("Mul", draft.add("Mul", value, value), value)
    inner = draft.add("Add", value, draft.add("Mul", cube, draft.scalar(0.044715, kind)))
    bent = draft.add("Tanh", draft.add("Mul", inner, draft.scalar(math.sqrt(2 / math.pi), kind)))
    half = draft.add("Mul", value, draft.scalar(0.5, kind))
    draft.add("Mul", half, draft.add("Add", bent, draft.scalar(1.0, kind)), output=output)


def _is_written(draft: Draft, node: onnx.NodeProto) -> bool:
    """Say whether a product is the last of `_write`'s."""
    before = draft.producer(node.input[0])
    if before is None or before.op_type != "Mul" or not _is(draft, node.input[1], 0.5):
        return False
    grown = draft.producer(before.input[1])
    inner = draft.producer(grown.input[0]) if grown is not None and grown.op_type == "Add" else None
    scaled = draft.producer(inner.input[0]) if inner is not None and inner.op_type == "Erf" else None
    return scaled is not None and scaled.op_type == "Div" and scaled.input[0] == before.input[0]


def _gelu_of(draft: Draft, node: onnx.NodeProto) -> str | None:
    """Return the value whose GELU a product is, or None."""
    factor, values = 1.0, []
    for name in _factors(draft, node, 2):
        number = _number(draft, name)
        if number is None:
            values.append(name)
        else:
            factor *= number
    if len(values) != 2 or abs(factor - 0.5) > _SLACK:
        return None
    for value, grown in (tuple(values), tuple(reversed(values))):
        if _inside(draft, grown) == value and draft.dtype(value) == np.float32:
            return value
    return None


def _inside(draft: Draft, grown: str) -> str | None:
    """Return x of 1 + erf(x / √2), or None."""
    total = draft.producer(grown)
    if total is None or total.op_type != "Add":
        return None
    for inner, one in (tuple(total.input), tuple(reversed(total.input))):
        error = draft.producer(inner)
        if error is None or error.op_type != "Erf" or not _is(draft, one, 1.0):
            continue
        scaled = draft.producer(error.input[0])
        if scaled is None:
            return None
        if scaled.op_type == "Div" and _is(draft, scaled.input[1], math.sqrt(2)):
            return str(scaled.input[0])
        if scaled.op_type == "Mul":
            for value, factor in (tuple(scaled.input), tuple(reversed(scaled.input))):
                if _is(draft, factor, math.sqrt(0.5)):
                    return str(value)
    return None


def _factors(draft: Draft, node: onnx.NodeProto, depth: int) -> list[str]:
    """Return what is multiplied, products of products taken apart; a division by a number is a factor too."""
    found = []
    for name in node.input:
        maker = draft.producer(name)
        if depth and maker is not None and maker.op_type == "Mul" and not draft.is_output(name):
            found += _factors(draft, maker, depth - 1)
        else:
            found.append(str(name))
    return found


def _number(draft: Draft, name: str) -> float | None:
    array = draft.constant(name) if draft.shape(name) in ((), (1,)) else None
    return None if array is None or array.dtype.kind != "f" else float(array.reshape(-1)[0])


def _is(draft: Draft, name: str, number: float) -> bool:
    found = _number(draft, name)
    return found is not None and abs(found - number) <= _SLACK
