"""What a quantizer really did, read from its result: which operations, and what share of the weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeship.flatbuffer import Graph, Operator, Tensor
from edgeship.recipe import Recipe, Scheme

CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})
_SMALL_TYPES = frozenset({"int8", "uint8", "int16", "int4", "uint4", "int2", "float16"})
_ACTIVATIONS = frozenset({"int8", "uint8", "int16"})
# What weights of float operations mean: by dtype, and whether they are made float again before they are used.
_WEIGHTS: Mapping[tuple[str, bool], Scheme] = {
    ("int4", False): "int4-weights", ("int4", True): "int4-weights",
    ("int8", False): "dynamic-int8", ("uint8", False): "dynamic-int8",
    ("int8", True): "int8-weights", ("uint8", True): "int8-weights",
    ("float16", True): "float16",
}  # fmt: skip
LITTLE = 0.5
_FLOAT_ARITHMETIC = frozenset({"int4-weights", "int8-weights", "dynamic-int8", "float16"})


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
        if operator.name in CONVERSIONS and any(_is_small(tensor) for tensor in _constants(operator, tensors))
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
    found: dict[int, Tensor] = {}
    for tensor in graph.main.tensors:
        if tensor.constant and len(tensor.shape) > 1 and tensor.elements > 1 and tensor.dtype in kinds:
            found.setdefault(id(tensor.content), tensor)
    return list(found.values())


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


def left_alone(graph: Graph, recipe: Recipe) -> str | None:
    """Say how a file is quantized already where a recipe is not applied for that, or return None.

    Training makes weights float that alone were quantized, and goes on from there.
    """
    how = already_quantized(graph)
    return None if recipe.trains and scheme(graph) in _FLOAT_ARITHMETIC else how


def scheme(graph: Graph) -> Scheme | None:
    """Say how a file is quantized already, in a recipe's word; None for a float one, or a way that no recipe has.

    Where operations or weights differ, most of them decide.
    """
    tensors = graph.main.tensors
    computing = [operator for operator in graph.main.operators if operator.name not in CONVERSIONS]
    used = [tensors[index] for operator in computing for index in operator.inputs if index >= 0]
    # A quantized LSTM keeps its state, a variable, in 16 bits among 8-bit activations.
    computed = [tensor for tensor in used if not tensor.constant and not tensor.variable]
    activations = Counter(tensor.dtype for tensor in computed if _is_small(tensor) and tensor.dtype in _ACTIVATIONS)
    if activations:
        if activations.most_common(1)[0][0] == "int16":
            return "int16x8"
        ports = (*graph.interface.inputs, *graph.interface.outputs)
        real = [spec for spec in ports if spec.scale is not None or spec.dtype == "float32"]
        return "int8-float-io" if real and real[0].scale is None else "int8"
    stored: Counter[Scheme] = Counter()
    for operator in graph.main.operators:
        for tensor in _constants(operator, tensors):
            word = _WEIGHTS.get((tensor.dtype, operator.name in CONVERSIONS)) if _is_small(tensor) else None
            if word is not None:
                stored[word] += tensor.elements
    return stored.most_common(1)[0][0] if stored else None


def _constants(operator: Operator, tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """Return an operation's inputs that stand in the file."""
    return [tensors[index] for index in operator.inputs if index >= 0 and tensors[index].constant]


def _is_small(tensor: Tensor) -> bool:
    return tensor.dtype in _SMALL_TYPES and (tensor.quantization is not None or tensor.dtype == "float16")


def _touched(operator: Operator, tensors: tuple[Tensor, ...], from_small: set[int]) -> bool:
    used = [index for index in (*operator.inputs, *operator.outputs) if index >= 0]
    return any(_is_small(tensors[index]) or index in from_small for index in used)
