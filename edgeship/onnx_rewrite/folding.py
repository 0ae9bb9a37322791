"""Values that are the same in every run, computed once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeship.onnx_rewrite.draft import STANDARD_DOMAINS, Draft, attribute, graphs_of

_LARGEST_BYTES = 1 << 24  # beyond this a computed constant makes the file larger for nothing
_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
_LEFT = ("Dropout", "DequantizeLinear", "QuantizeLinear")  # what stands between weights and their quantization
# What the reference raises for what it does not do, beside what numpy raises.
_FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def folded(draft: Draft, node: onnx.NodeProto, outputs: set[str]) -> bool:
    """Make a node's output a constant of the draft where it is one, and say whether that was done.

    Args:
        outputs: the graph's own outputs, which some node must make.
    """
    if node.domain not in STANDARD_DOMAINS or node.op_type in _RANDOM + _LEFT or outputs.intersection(node.output):
        return False
    if node.op_type == "Constant":
        return _know_constant(draft, node)
    if node.op_type in ("Shape", "Size"):
        return _know_shape(draft, node)
    names = [name for name in node.input if name]
    if graphs_of(node) or not names or not all(draft.is_constant(name) for name in names):
        return False
    return _evaluate(draft, node, names)


def _know_constant(draft: Draft, node: onnx.NodeProto) -> bool:
    entry = node.attribute[0]
    if entry.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(entry.t)
    elif entry.name in ("value_float", "value_floats", "value_int", "value_ints"):
        kind = np.float32 if "float" in entry.name else np.int64
        tensor = numpy_helper.from_array(np.array(helper.get_attribute_value(entry), kind))
    else:
        return False
    tensor.name = node.output[0]
    draft.know(tensor.name, tensor)
    return True


def _know_shape(draft: Draft, node: onnx.NodeProto) -> bool:
    shape = draft.shape(node.input[0])
    if shape is None:
        return False
    lengths: Any = np.array(shape, np.int64)
    if node.op_type == "Size":
        lengths = np.prod(lengths, dtype=np.int64)
    else:
        lengths = lengths[attribute(node, "start", 0) : attribute(node, "end", len(shape))]
    draft.know(node.output[0], numpy_helper.from_array(np.asarray(lengths, np.int64), node.output[0]))
    return True


def _evaluate(draft: Draft, node: onnx.NodeProto, names: list[str]) -> bool:
    """Run the node by ONNX's reference implementation; what that cannot run is left to stand."""
    arrays = {name: draft.constant(name) for name in names}
    given = sum(array.nbytes for array in arrays.values() if array is not None)
    try:
        results = ReferenceEvaluator(node, opsets={"": draft.opset}).run(None, arrays)
    except _FAULTS:  # an unfolded node is still right
        return False
    made = [np.asarray(result) for name, result in zip(node.output, results, strict=False) if name]
    if len(made) != sum(1 for name in node.output if name):
        return False
    if any(array.dtype == object for array in made) or sum(a.nbytes for a in made) > max(given, _LARGEST_BYTES):
        return False
    for name, array in zip((name for name in node.output if name), made, strict=True):
        draft.know(name, numpy_helper.from_array(array, name))
    return True
