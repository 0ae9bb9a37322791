"""What a quantizer really did, read from its result: which operations, and what share of the weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeship.flatbuffer import Graph, Operator, Tensor

CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})
_SMALL_TYPES = frozenset({"int8", "uint8", "int16", "int4", "uint4", "int2", "float16"})
LITTLE = 0.5


@dataclass(frozen=True)
class Coverage:
    """How much of a model holds small numbers.

    Attributes:
        operators: operations that compute on, or with weights of, 16 bits or fewer.
        of: all operations but conversions between real and quantized.
        weight_share: share of the weights (constants of more than one dimension) stored in 16 bits or fewer.
        untouched: the names of the operations left as they were, with their counts.
        schemes: how weights are stored, by dtype, as counts of values.
    """

    operators: int
    of: int
    weight_share: float
    untouched: Mapping[str, int] = field(default_factory=dict)
    schemes: Mapping[str, int] = field(default_factory=dict)


def coverage(graph: Graph) -> Coverage:
    """Return what share of a model is quantized (or stored as float16)."""
    tensors = graph.main.tensors
    from_small = {
        output
        for operator in graph.main.operators
        if operator.name in CONVERSIONS
        and _is_small(tensors[operator.inputs[0]])
        and tensors[operator.inputs[0]].constant
        for output in operator.outputs
    }
    counted = [operator for operator in graph.main.operators if operator.name not in CONVERSIONS]
    touched = [operator for operator in counted if _touched(operator, tensors, from_small)]
    left = Counter(operator.name for operator in counted if operator not in touched)
    stored: Counter[str] = Counter()
    for tensor in weights(graph):
        stored[tensor.dtype] += tensor.elements
    small = sum(count for dtype, count in stored.items() if dtype in _SMALL_TYPES)
    total = sum(stored.values())
    return Coverage(len(touched), len(counted), small / total if total else 0.0, dict(left), dict(stored))


def weights(graph: Graph) -> list[Tensor]:
    """Return the constants that are weights: numbers a model learned, of two dimensions or more, each buffer once."""
    kinds = _SMALL_TYPES | {"float32"}
    return [
        tensor
        for tensor in graph.main.tensors
        if tensor.constant and len(tensor.shape) > 1 and tensor.elements > 1 and tensor.dtype in kinds
    ]


def already_quantized(graph: Graph) -> str | None:
    """Say how a file is quantized already, or return None for a float one."""
    found = coverage(graph)
    interface = {spec.dtype for spec in (*graph.interface.inputs, *graph.interface.outputs) if spec.scale is not None}
    if interface:
        return f"{'/'.join(sorted(interface))} in or out"
    small = {dtype: count for dtype, count in found.schemes.items() if dtype in _SMALL_TYPES}
    if not small:
        return None
    return f"{' and '.join(sorted(small))} weights ({found.weight_share:.0%} of all)"


def _is_small(tensor: Tensor) -> bool:
    return tensor.dtype in _SMALL_TYPES and (tensor.quantization is not None or tensor.dtype == "float16")


def _touched(operator: Operator, tensors: tuple[Tensor, ...], from_small: set[int]) -> bool:
    used = [index for index in (*operator.inputs, *operator.outputs) if index >= 0]
    return any(_is_small(tensors[index]) or index in from_small for index in used)
