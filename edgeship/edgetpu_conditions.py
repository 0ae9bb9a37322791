"""The conditions that rules about the Edge TPU are written in: each a function of one operation, True to its name or a reason.

To add a condition: write a function here that returns None where it holds and else what it found, in words that follow the
operation's name; put it into `CONDITIONS` (or `LIMITED`, where a rule gives it a number). What the graph does not tell (an axis that
is computed) never fails a condition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgeship import flatbuffer
from edgeship.flatbuffer import Operator, Subgraph, Tensor

EIGHT_BITS = frozenset({"int8", "uint8"})
_SMALLER = frozenset({"int4", "uint4", "int2"})
_INNER = 3
_LEARNED_INPUTS = {  # where weights and biases stand in an operation's signature
    "CONV_2D": (1, 2), "DEPTHWISE_CONV_2D": (1, 2), "FULLY_CONNECTED": (1, 2), "TRANSPOSE_CONV": (1, 3), "PRELU": (1,),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Case:
    """One operation and the graph it stands in; absent inputs are left out."""

    operator: Operator
    subgraph: Subgraph

    @cached_property
    def inputs(self) -> tuple[Tensor, ...]:
        """Return all inputs, constants among them."""
        return tuple(self.subgraph.tensors[index] for index in self.operator.inputs if index >= 0)

    @cached_property
    def activations(self) -> tuple[Tensor, ...]:
        """Return the inputs that are computed; the state that an LSTM keeps is none."""
        return tuple(tensor for tensor in self.inputs if not tensor.constant and not tensor.variable)

    @cached_property
    def outputs(self) -> tuple[Tensor, ...]:
        """Return the outputs."""
        return tuple(self.subgraph.tensors[index] for index in self.operator.outputs if index >= 0)

    def input(self, position: int) -> Tensor | None:
        """Return the input at a place of the operation's signature, None where it is absent."""
        index = self.operator.inputs[position] if position < len(self.operator.inputs) else -1
        return self.subgraph.tensors[index] if index >= 0 else None

    def integers(self, position: int) -> tuple[int, ...] | None:
        """Return a constant input's whole numbers, None where they are computed or absent."""
        tensor = self.input(position)
        stored = flatbuffer.raw(tensor) if tensor is not None else None
        if stored is None or not np.issubdtype(stored.dtype, np.integer):
            return None
        return tuple(int(value) for value in stored.ravel())

    def axes(self, position: int = 1) -> tuple[int, ...]:
        """Return the constant axes of a reduction, counted from the front; none where they are computed."""
        rank = len(self.inputs[0].shape) if self.inputs else 0
        return tuple(axis % rank for axis in self.integers(position) or () if rank)


Check = Callable[[Case], str | None]
LimitedCheck = Callable[[Case, int], str | None]


def eight_bit(case: Case) -> str | None:
    """Check that everything that is computed, in and out, is quantized to 8 bits, and that weights have no fewer."""
    for tensor in (*case.activations, *case.outputs):
        if tensor.dtype not in EIGHT_BITS:
            return f"works on {tensor.dtype} ('{tensor.name}'); the Edge TPU computes in 8 bits"
        if tensor.quantization is None:
            return f"works on {tensor.dtype} without a scale ('{tensor.name}')"
    small = [tensor.dtype for tensor in case.inputs if tensor.constant and tensor.dtype in _SMALLER]
    return f"has weights of {small[0]}; the Edge TPU computes in 8 bits" if small else None


def three_inner_dimensions(case: Case) -> str | None:
    """Check that only the three innermost dimensions exceed 1."""
    for tensor in (*case.activations, *case.outputs):
        if any(size != 1 for size in tensor.shape[:-_INNER]):
            return f"has a tensor of {_shape(tensor)}: only its three innermost dimensions may exceed 1"
    return None


def constant_parameters(case: Case) -> str | None:
    """Check that weights and biases stand in the file."""
    for place in _LEARNED_INPUTS.get(case.operator.name, ()):
        tensor = case.input(place)
        if tensor is not None and not tensor.constant:
            return f"has weights that are computed ('{tensor.name}')"
    return None


def no_fused_activation(case: Case) -> str | None:
    """Check that no activation is fused in."""
    return "has an activation fused in" if case.operator.options.get("FusedActivationFunction") else None


def equal_dilation(case: Case) -> str | None:
    """Check that the dilation is the same in x and y."""
    y, x = _dilation(case)
    return f"is dilated {y}x{x}, differently in y and x" if y != x else None


def no_dilation(case: Case) -> str | None:
    """Check that nothing is dilated."""
    y, x = _dilation(case)
    return f"is dilated {y}x{x}" if (y, x) != (1, 1) else None


def default_weight_format(case: Case) -> str | None:
    """Check that fully-connected weights are not shuffled."""
    return "has shuffled weights" if case.operator.options.get("WeightsFormat") else None


def one_weight_scale(case: Case) -> str | None:
    """Check that the weights have one scale, not one a channel."""
    weights = case.input(1)
    found = weights.quantization if weights is not None else None
    return f"has {found.scales.size} scales of its weights" if found is not None and found.scales.size > 1 else None


def one_dimensional_input(case: Case) -> str | None:
    """Check that one dimension of the input exceeds 1 at most."""
    return _one_dimensional(case.inputs[:1], "takes")


def one_dimensional_output(case: Case) -> str | None:
    """Check that one dimension of the output exceeds 1 at most."""
    return _one_dimensional(case.outputs[:1], "gives")


def one_dimensional_alpha(case: Case) -> str | None:
    """Check that a PRELU's slopes differ by channel only."""
    alpha = case.input(1)
    if alpha is None or all(size == 1 for size in alpha.shape[:-1]):
        return None
    return f"has an alpha of {_shape(alpha)}: only the innermost dimension may exceed 1"


def constant_only_as_zero_padding(case: Case) -> str | None:
    """Check that a constant among concatenated inputs is all zeros, beside one other input."""
    constants = [tensor for tensor in case.inputs if tensor.constant]
    if not constants:
        return None
    if len(case.inputs) != 2:
        return f"joins a constant to {len(case.inputs) - 1} other inputs"
    values = flatbuffer.values(constants[0])
    return None if values is not None and not values.any() else "joins a constant that is not all zeros"


def axes_without_batch(case: Case) -> str | None:
    """Check that the batch is not reduced over."""
    return "reduces over the batch" if 0 in case.axes() else None


def axes_in_space(case: Case) -> str | None:
    """Check that only height and width are reduced over."""
    rank = len(case.inputs[0].shape) if case.inputs else 0
    outside = [axis for axis in case.axes() if axis not in (rank - 3, rank - 2)]
    return f"reduces over axis {outside[0]}" if outside else None


def only_leading_ones_removed(case: Case) -> str | None:
    """Check that a SQUEEZE takes dimensions off the front only."""
    before, after = (tensors[0].shape if tensors else () for tensors in (case.inputs, case.outputs))
    kept = before[len(before) - len(after) :]
    return None if kept == after else f"takes a dimension out of the middle of {before}"


def not_packed_into_batch(case: Case) -> str | None:
    """Check that PACK makes no batch of its inputs."""
    rank = len(case.outputs[0].shape) if case.outputs else 1
    return "packs into the batch" if int(case.operator.options.get("Axis", 1)) % max(rank, 1) == 0 else None


def batch_not_padded(case: Case) -> str | None:
    """Check that PAD leaves the batch alone."""
    widths = case.integers(1) or ()
    return "pads the batch" if any(widths[:2]) else None


def padded_in_space(case: Case) -> str | None:
    """Check that PAD adds to height and width only."""
    widths = case.integers(1) or ()
    return "pads the depth" if any(widths[-2:]) and len(widths) >= 2 * _INNER else None


def batch_not_split(case: Case) -> str | None:
    """Check that SPLIT leaves the batch whole."""
    axis, tensor = case.integers(0), case.input(1)
    rank = len(tensor.shape) if tensor is not None else 0
    return "splits the batch" if axis and rank and axis[0] % rank == 0 else None


def unit_strides(case: Case) -> str | None:
    """Check that a slice takes every element between its ends."""
    strides = case.integers(3) or ()
    return f"slices with strides {strides}" if any(step != 1 for step in strides) else None


def plain_slice_masks(case: Case) -> str | None:
    """Check that a slice has no ellipsis and adds no axis."""
    masks = {"EllipsisMask": "an ellipsis", "NewAxisMask": "a new axis"}
    found = [words for name, words in masks.items() if case.operator.options.get(name)]
    return f"slices with {found[0]}" if found else None


def resized_from_more_than_one_pixel(case: Case) -> str | None:
    """Check that a resize has more than one pixel to work from, or leaves it one."""
    before, after = (_positions(tensors[0]) if tensors else 1 for tensors in (case.inputs, case.outputs))
    return "resizes a single pixel" if before == 1 and after > 1 else None


def sizes_kept(case: Case) -> str | None:
    """Check that a resize leaves height and width as they are."""
    before, after = (tensors[0].shape[1:3] if tensors else () for tensors in (case.inputs, case.outputs))
    if before == after:
        return None
    sizes = " to ".join("x".join(map(str, shape)) for shape in (before, after))
    return f"resizes {sizes}, and which sizes are refused is not documented"


def softmax_size_at_most(case: Case, limit: int) -> str | None:
    """Check the number of classes that a SOFTMAX is over."""
    size = case.inputs[0].shape[-1] if case.inputs and case.inputs[0].shape else 1
    return f"is over {size:,} elements, more than {limit:,}" if size > limit else None


def version_at_most(case: Case, limit: int) -> str | None:
    """Check the operation's version."""
    version = case.operator.version
    return f"has version {version}, which compilers for this runtime do not map" if version > limit else None


def output_elements_at_most(case: Case, limit: int) -> str | None:
    """Check the size of the largest output, in elements."""
    return _too_large(max(case.outputs, key=lambda tensor: tensor.elements, default=None), limit)


def joined_elements_at_most(case: Case, limit: int) -> str | None:
    """Check the size of what is concatenated along another dimension than the depth, in elements."""
    output = case.outputs[0] if case.outputs else None
    rank = len(output.shape) if output is not None else 0
    along_depth = not rank or int(case.operator.options.get("Axis", -1)) % rank == rank - 1
    return None if along_depth else _too_large(output, limit)


def relaid_elements_at_most(case: Case, limit: int) -> str | None:
    """Check the size of what a RESHAPE lays out anew, in elements; only adding or taking off dimensions of 1 lays out nothing."""
    before, after = (tensors[0] if tensors else None for tensors in (case.inputs, case.outputs))
    if before is None or after is None or _without_ones(before) == _without_ones(after):
        return None
    return _too_large(after, limit)


def reduced_depth_multiple_of(case: Case, limit: int) -> str | None:
    """Check that a depth which is reduced over divides evenly."""
    shape = case.inputs[0].shape if case.inputs else ()
    last = len(shape) - 1
    return f"reduces a depth of {shape[last]}" if last in case.axes() and shape[last] % limit else None


def reduced_positions_at_most(case: Case, limit: int) -> str | None:
    """Check over how many positions beside the depth is reduced."""
    shape = case.inputs[0].shape if case.inputs else ()
    count = math.prod(shape[axis] for axis in set(case.axes()) - {len(shape) - 1})
    return f"reduces over {count:,} positions, more than {limit:,}" if count > limit else None


def resized_by_at_most(case: Case, limit: int) -> str | None:
    """Check the factor of a resize."""
    before, after = (tensors[0].shape if tensors else () for tensors in (case.inputs, case.outputs))
    if len(before) != 4 or len(after) != 4:
        return None
    factor = max(after[axis] / max(before[axis], 1) for axis in (1, 2))
    return f"resizes by {factor:.3g}, more than {limit}" if factor > limit else None


def _one_dimensional(tensors: tuple[Tensor, ...], verb: str) -> str | None:
    wide = [tensor for tensor in tensors if sum(size > 1 for size in tensor.shape) > 1]
    return f"{verb} {_shape(wide[0])}, more than one dimension" if wide else None


def _dilation(case: Case) -> tuple[int, int]:
    options = case.operator.options
    return int(options.get("DilationHFactor", 1)), int(options.get("DilationWFactor", 1))


def _positions(tensor: Tensor) -> int:
    return math.prod(tensor.shape[:-1])


def _too_large(tensor: Tensor | None, limit: int) -> str | None:
    if tensor is None or tensor.elements <= limit:
        return None
    return f"makes {_shape(tensor)} ({tensor.elements:,} elements, more than {limit:,})"


def _without_ones(tensor: Tensor) -> tuple[int, ...]:
    return tuple(size for size in tensor.shape if size != 1)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single value"


CONDITIONS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        eight_bit, three_inner_dimensions, constant_parameters, no_fused_activation, equal_dilation, no_dilation,
        default_weight_format, one_weight_scale, one_dimensional_input, one_dimensional_output, one_dimensional_alpha,
        constant_only_as_zero_padding, axes_without_batch, axes_in_space, only_leading_ones_removed,
        not_packed_into_batch, batch_not_padded, padded_in_space, batch_not_split, unit_strides, plain_slice_masks,
        resized_from_more_than_one_pixel, sizes_kept,
    )
}  # fmt: skip
LIMITED: Mapping[str, LimitedCheck] = {
    check.__name__: check
    for check in (
        softmax_size_at_most, version_at_most, output_elements_at_most, joined_elements_at_most, relaid_elements_at_most,
        reduced_depth_multiple_of, reduced_positions_at_most, resized_by_at_most,
    )
}  # fmt: skip
