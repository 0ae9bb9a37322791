"""What a model costs by its graph alone: parameters, multiply-accumulates, bytes, sparsity, and the target's roofline.

Counted is the model's own subgraph, once, at the shapes in the file; bodies of loops and branches are not followed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from edgeship import flatbuffer
from edgeship.artifact import Complexity, OperatorCost, Roofline, WeightHistogram
from edgeship.flatbuffer import Graph, Operator, Subgraph, Tensor
from edgeship.target import Target

BINS = 41  # odd: the middle bin holds the zeros
_UNPACKING = frozenset({"DEQUANTIZE", "DENSIFY"})
_EIGHT_BITS = frozenset({"int8", "uint8", "int4", "uint4", "int2"})
_LEARNED = frozenset({"float32", "float16", "float64", "int8", "uint8", "int16", "int4", "uint4", "int2"})
_ACCUMULATORS = frozenset({"int32", "int64"})  # what quantized biases are stored as
_Shapes = list[tuple[int, ...]]
_Macs = Callable[[Operator, _Shapes, tuple[int, ...]], int]


def complexity(graph: Graph) -> Complexity:
    """Return what one inference costs, counted from the graph."""
    main = graph.main
    origins = constant_origins(main)
    costs = tuple(_cost(operator, main, origins) for operator in main.operators)
    learned = _learned(main, origins)
    weight_bytes = sum(tensor.size_bytes for tensor in learned)
    return Complexity(
        parameters=sum(tensor.elements for tensor in learned),
        macs=sum(cost.macs for cost in costs),
        bytes_moved=weight_bytes + sum(cost.activation_bytes for cost in costs),
        peak_activation_bytes=max(alive_bytes(main, origins)),
        weight_bytes=weight_bytes,
        sparsity=_sparsity(tensor for tensor in learned if len(tensor.shape) > 1),
        operators=costs,
    )


def roofline(complexity: Complexity, target: Target, *, integer: bool) -> Roofline | None:
    """Return the bound on latency from a target's published peaks, None where it states none (or runs on an accelerator).

    Williams, Waterman and Patterson 2009, "Roofline", doi:10.1145/1498765.1498785. Every tensor is taken to travel
    through memory; where caches hold the activations, the memory time can be lower.

    Args:
        complexity: of the model, as it would run there.
        target: whose peaks are meant; over all of its cores.
        integer: the int8 peak counts, not the float32 one.
    """
    peaks = _peaks(target, integer=integer)
    if peaks is None or target.peak is None or not complexity.bytes_moved:
        return None
    gops, gb_per_s = peaks
    compute_ms = 2 * complexity.macs / gops / 1e6
    memory_ms = complexity.bytes_moved / gb_per_s / 1e6
    return Roofline(
        bound_by="compute" if compute_ms >= memory_ms else "memory",
        best_latency_ms=max(compute_ms, memory_ms),
        compute_ms=compute_ms,
        memory_ms=memory_ms,
        intensity=2 * complexity.macs / complexity.bytes_moved,
        ridge=gops / gb_per_s,
        peak_gops=gops,
        memory_gb_per_s=gb_per_s,
        source=target.peak.source.strip(),
    )


def bound_shares(complexity: Complexity, target: Target, *, integer: bool) -> tuple[float, ...] | None:
    """Return each operation's share of the sum of all bounds, in file order, None where the target states no peaks."""
    peaks = _peaks(target, integer=integer)
    if peaks is None:
        return None
    gops, gb_per_s = peaks
    bounds = [
        max(2 * cost.macs / gops, (cost.weight_bytes + cost.activation_bytes) / gb_per_s)
        for cost in complexity.operators
    ]
    total = sum(bounds)
    return tuple(bound / total for bound in bounds) if total else None


def computes_in_int8(graph: Graph) -> bool:
    """Say whether most multiply-accumulates are done on 8-bit integers: weights go in as such, and the input is not 16-bit."""
    main = graph.main
    origins = constant_origins(main)
    total = small = 0
    for operator in main.operators:
        macs = _cost(operator, main, origins).macs
        dtypes = [main.tensors[index].dtype for index in operator.inputs if index >= 0]
        total += macs
        small += macs if _EIGHT_BITS & set(dtypes) and dtypes[0] != "int16" else 0
    return 2 * small > total


def weighted_operators(graph: Graph) -> list[tuple[Operator, Tensor]]:
    """Return each operation with each of its weight tensors (constants of two dimensions or more), in file order."""
    main = graph.main
    origins = constant_origins(main)
    seen: set[int] = set()
    found = []
    for operator in main.operators:
        if operator.name in _UNPACKING:
            continue
        for index in operator.inputs:
            tensor = main.tensors[origins.get(index, index)] if index >= 0 else None
            if tensor is None or id(tensor.content) in seen or not _is_weight(tensor):
                continue
            seen.add(id(tensor.content))
            found.append((operator, tensor))
    return found


def histograms(reference: Graph, artifact: Graph, *, limit: int = 24) -> tuple[WeightHistogram, ...]:
    """Return the largest weight tensors before and after, in the artifact's order, over `BINS` bins around zero.

    Tensors meet by name, else by operation and number of values in the order of the files: converters rename and
    transpose. `distinct_values` is the largest number of stored values in any one channel of the artifact's tensor.
    """
    pairs = _matched(weighted_operators(reference), weighted_operators(artifact))
    largest = sorted(pairs, key=lambda pair: pair[1][1].elements, reverse=True)[:limit]
    kept = {id(pair[1][1]) for pair in largest}
    drawn = (_histogram(*pair) for pair in pairs if id(pair[1][1]) in kept)
    return tuple(histogram for histogram in drawn if histogram is not None)


def constant_origins(main: Subgraph) -> dict[int, int]:
    """Return, for each tensor that is only an unpacked constant (DEQUANTIZE, DENSIFY), the constant it comes from."""
    origins: dict[int, int] = {}
    for operator in main.operators:
        if operator.name not in _UNPACKING or not operator.inputs:
            continue
        source = origins.get(operator.inputs[0], operator.inputs[0])
        if source >= 0 and main.tensors[source].constant:
            origins.update(dict.fromkeys(operator.outputs, source))
    return origins


def _peaks(target: Target, *, integer: bool) -> tuple[float, float] | None:
    """Return GOP/s and GB/s, None where one of them is not stated or an accelerator does the work."""
    if target.accelerator is not None or target.peak is None:
        return None
    gops = target.peak.int8_gops if integer else target.peak.fp32_gflops
    memory = target.peak.memory_gb_per_s
    return (gops, memory) if gops is not None and memory is not None else None


def _cost(operator: Operator, main: Subgraph, origins: dict[int, int]) -> OperatorCost:
    inputs = [main.tensors[origins.get(index, index)] if index >= 0 else None for index in operator.inputs]
    weights = {id(tensor.content): tensor for tensor in inputs if tensor is not None and tensor.constant}
    moved = [tensor for tensor in inputs if tensor is not None and not tensor.constant]
    moved += [main.tensors[index] for index in operator.outputs if index >= 0 and index not in origins]
    return OperatorCost(
        index=operator.index,
        name=operator.name,
        output=main.tensors[operator.outputs[0]].name if operator.outputs and operator.outputs[0] >= 0 else "",
        macs=_macs(operator, inputs, main),
        weight_bytes=sum(tensor.size_bytes for tensor in weights.values()) if moved else 0,
        activation_bytes=sum(tensor.size_bytes for tensor in moved),
    )


def _macs(operator: Operator, inputs: list[Tensor | None], main: Subgraph) -> int:
    """Return multiply-accumulates; 0 for what multiplies no matrices, and where the shapes are not those of its kind."""
    count = None if operator.custom else _MACS.get(operator.name)
    if count is None or not operator.outputs or operator.outputs[0] < 0:
        return 0
    shapes = [tensor.shape if tensor is not None else () for tensor in inputs]
    try:
        return count(operator, shapes, main.tensors[operator.outputs[0]].shape)
    except IndexError:
        return 0


def _convolution(operator: Operator, inputs: _Shapes, output: tuple[int, ...]) -> int:
    return math.prod(output) * math.prod(inputs[1][1:])  # OHWI; grouped ones hold their own group's I only


def _depthwise(operator: Operator, inputs: _Shapes, output: tuple[int, ...]) -> int:
    return math.prod(output) * math.prod(inputs[1][1:3])


def _fully_connected(operator: Operator, inputs: _Shapes, output: tuple[int, ...]) -> int:
    return math.prod(output) * inputs[1][-1]


def _transpose_convolution(operator: Operator, inputs: _Shapes, output: tuple[int, ...]) -> int:
    return math.prod(inputs[2]) * math.prod(inputs[1][:3])  # each input value meets every output channel and tap


def _convolution_3d(operator: Operator, inputs: _Shapes, output: tuple[int, ...]) -> int:
    return math.prod(output) * math.prod(inputs[1][:4])  # DHWIO


def _batch_matmul(operator: Operator, inputs: _Shapes, output: tuple[int, ...]) -> int:
    return math.prod(output) * inputs[0][-2 if operator.options.get("AdjX") else -1]


def _recurrent(operator: Operator, inputs: _Shapes, output: tuple[int, ...]) -> int:
    steps = math.prod(inputs[0][:-1])  # batch, and time where the operation runs through a sequence
    return steps * sum(math.prod(shape) for shape in inputs[1 : _STATES[operator.name]] if len(shape) == 2)


# Where the inputs that are weights end and the states begin: tensorflow/lite/kernels/*.cc
_STATES = {
    "LSTM": 18, "UNIDIRECTIONAL_SEQUENCE_LSTM": 18, "BIDIRECTIONAL_SEQUENCE_LSTM": 35,
    "RNN": 4, "UNIDIRECTIONAL_SEQUENCE_RNN": 4, "BIDIRECTIONAL_SEQUENCE_RNN": 9, "SVDF": 4,
}  # fmt: skip
_MACS: dict[str, _Macs] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transpose_convolution,
    "CONV_3D": _convolution_3d,
    "BATCH_MATMUL": _batch_matmul,
    **dict.fromkeys(_STATES, _recurrent),
}


def _is_weight(tensor: Tensor) -> bool:
    return tensor.constant and len(tensor.shape) > 1 and tensor.elements > 1 and tensor.dtype in _LEARNED


def _learned(main: Subgraph, origins: dict[int, int]) -> list[Tensor]:
    """Return the constants a model learned, weights and biases, each buffer once: no shapes, axes or paddings."""
    used = {origins.get(index, index) for operator in main.operators for index in operator.inputs if index >= 0}
    kept: dict[int, Tensor] = {}
    for index in sorted(used):
        tensor = main.tensors[index]
        bias = tensor.dtype in _ACCUMULATORS and tensor.quantization is not None
        if tensor.constant and (bias or tensor.dtype in _LEARNED):
            kept.setdefault(id(tensor.content), tensor)
    return list(kept.values())


def alive_bytes(main: Subgraph, origins: dict[int, int]) -> list[int]:
    """Return the sum of computed tensors alive at each operation, each from its producer to its last reader; one for no operations."""
    born = dict.fromkeys((index for index in main.inputs if index >= 0), 0)
    last = dict.fromkeys((index for index in (*main.inputs, *main.outputs) if index >= 0), 0)
    for step, operator in enumerate(main.operators):
        for index in (*operator.inputs, *operator.outputs):
            if index >= 0 and index not in origins and not main.tensors[index].constant:
                born.setdefault(index, step)
                last[index] = step
    final = max(len(main.operators) - 1, 0)
    last.update(dict.fromkeys((index for index in main.outputs if index in born), final))
    change = [0] * (final + 2)
    for index, start in born.items():
        variable = main.tensors[index].variable
        change[0 if variable else start] += main.tensors[index].size_bytes
        change[1 + (final if variable else last[index])] -= main.tensors[index].size_bytes
    return list(itertools.accumulate(change[:-1]))


def _sparsity(weights: Iterable[Tensor]) -> float:
    """Return the share of values that are exactly zero."""
    zeros = total = 0
    for tensor in weights:
        total += tensor.elements
        zeros += _zeros(tensor)
    return zeros / total if total else 0.0


def _zeros(tensor: Tensor) -> int:
    stored = _stored(tensor)
    if stored is None:  # stored sparse: what is not there is zero
        return max(tensor.elements - _stored_elements(tensor), 0) if tensor.sparse else 0
    zero_points = _per_channel(tensor, stored)
    return int(np.count_nonzero(stored == (0 if zero_points is None else zero_points)))


def _stored_elements(tensor: Tensor) -> int:
    bits = {"float32": 32, "float64": 64, "float16": 16, "int16": 16}.get(tensor.dtype, 8)
    return tensor.size_bytes * 8 // bits


def _stored(tensor: Tensor) -> NDArray[np.generic] | None:
    """Return a constant's stored values, None where the file does not hold as many as the shape says."""
    try:
        return flatbuffer.raw(tensor)
    except ValueError:
        return None


def _real(tensor: Tensor) -> NDArray[np.float64] | None:
    """Return a constant's real values that are finite, None where the file does not hold as many as the shape says."""
    try:
        found = flatbuffer.values(tensor)
    except ValueError:
        return None
    return None if found is None else found[np.isfinite(found)].astype(np.float64)


def _per_channel(tensor: Tensor, stored: NDArray[np.generic]) -> NDArray[np.int64] | None:
    """Return the zero points, shaped to meet the stored values; None for a tensor that is not quantized."""
    found = tensor.quantization
    if found is None:
        return None
    if found.zero_points.size == 1:
        return found.zero_points.reshape([1] * stored.ndim)
    if stored.shape[found.axis] != found.zero_points.size:
        return None  # blockwise scales are symmetric
    along = [1] * stored.ndim
    along[found.axis] = found.zero_points.size
    return found.zero_points.reshape(along)


_Weighted = tuple[Operator, Tensor]


def _matched(before: list[_Weighted], after: list[_Weighted]) -> list[tuple[_Weighted, _Weighted]]:
    """Return each weight of the second file with its own in the first; what has none is left out."""
    free = dict(enumerate(before))
    by_name = {entry[1].name: index for index, entry in free.items()}
    partner: dict[int, _Weighted] = {}
    for place, (_, tensor) in enumerate(after):
        index = by_name.get(tensor.name)
        if index in free and free[index][1].elements == tensor.elements:
            partner[place] = free.pop(index)
    for place, (operator, tensor) in enumerate(after):
        if place in partner:
            continue
        like = (i for i, (op, t) in free.items() if op.name == operator.name and t.elements == tensor.elements)
        index = next(like, None)
        if index is not None:
            partner[place] = free.pop(index)
    return [(partner[place], after[place]) for place in sorted(partner)]


def _histogram(before: _Weighted, after: _Weighted) -> WeightHistogram | None:
    operator, tensor = after
    stored = _stored(tensor)
    first, second = _real(before[1]), _real(tensor)
    if stored is None or first is None or second is None:
        return None
    reach = max((float(np.abs(part).max()) for part in (first, second) if part.size), default=0.0) or 1.0
    counts = [tuple(int(n) for n in np.histogram(part, BINS, (-reach, reach))[0]) for part in (first, second)]
    return WeightHistogram(
        name=before[1].name,
        operator=operator.name,
        low=-reach,
        high=reach,
        before=counts[0],
        after=counts[1],
        sparsity=_zeros(tensor) / tensor.elements,
        distinct_values=_distinct_values(tensor, stored),
    )


def _distinct_values(tensor: Tensor, stored: NDArray[np.generic]) -> int:
    """Return the largest number of different stored values in one channel (in all, where one scale serves all)."""
    found = tensor.quantization
    if found is None or found.scales.size == 1:
        return int(np.unique(stored).size)
    channels = np.moveaxis(stored, found.axis, 0).reshape(stored.shape[found.axis], -1)
    ordered = np.sort(channels, axis=1)
    return int(1 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1).max(initial=0))
