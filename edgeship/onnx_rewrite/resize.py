"""Resize and Upsample: what TFLite resizes in the same way stays; all else is gathers and matrix products along one axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgeship.onnx_rewrite.draft import Array, Draft, attribute, optional_input, refusal
from edgeship.onnx_rewrite.sampling import COORDINATES, MODES, Axis, Way, matrix, nearest, outside

OPERATIONS: tuple[str, ...] = ("Resize", "Upsample")
NOTE = "as gathers or matrix products along one axis after the other"
_LARGEST_MATRIX = 1 << 24  # weights; above it the file would grow past what resizing is worth
# What TFLite's kernels do, in ONNX's words; the converter maps these rightly.
_BILINEAR = tuple(Way("linear", coordinates) for coordinates in ("half_pixel", "align_corners", "asymmetric"))
_NEAREST = Way("nearest", "asymmetric", "floor")


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Replace a resize, or put it into the words that the converter knows.

    Raises:
        BadInput: open shapes, or a mode that ONNX does not have.
    """
    shape = draft.fixed_shape(node, node.input[0])
    way = _way(draft, node)
    if way.mode not in MODES or way.coordinates not in COORDINATES:
        raise refusal(node, f"mode '{way.mode}' with coordinates '{way.coordinates}' is not known")
    axes = _axes(draft, node, shape)
    axes = {number: axis for number, axis in axes.items() if _changes(axis, way)}
    kind = draft.dtype(node.input[0]) or np.dtype(np.float32)
    if not axes:
        draft.add("Identity", node.input[0], output=node.output[0])
        return True
    plain = _tflite_way(axes, way, len(shape)) if kind == np.float32 else None
    if plain is not None:
        if draft.opset < 11 or _is_plain(draft, node, plain):
            return False
        _add_plain(draft, node, plain, shape, axes)
        return True
    if way.mode != "nearest" and not np.issubdtype(kind, np.floating):
        raise refusal(node, f"mode '{way.mode}' on {kind} values")
    value = node.input[0]
    for number, axis in axes.items():
        value = _along(draft, node, value, number, axis, way, kind, len(shape))
    value = _extrapolated(draft, node, value, axes, way, kind, len(shape))
    draft.add("Identity", value, output=node.output[0])
    return True


def _way(draft: Draft, node: onnx.NodeProto) -> Way:
    old = node.op_type == "Upsample" or draft.opset < 11
    mode = {"bilinear": "linear"}.get(attribute(node, "mode", "nearest"), attribute(node, "mode", "nearest"))
    return Way(
        mode=mode,
        coordinates=attribute(node, "coordinate_transformation_mode", "asymmetric" if old else "half_pixel"),
        nearest=attribute(node, "nearest_mode", "floor" if old else "round_prefer_floor"),
        cubic=attribute(node, "cubic_coeff_a", -0.75),
        exclude_outside=bool(attribute(node, "exclude_outside", 0)),
        antialias=bool(attribute(node, "antialias", 0)),
    )


def _axes(draft: Draft, node: onnx.NodeProto, shape: tuple[int, ...]) -> dict[int, Axis]:
    """Return the axes that are resized, by their number."""
    rank = len(shape)
    old = node.op_type == "Upsample" or draft.opset < 11
    chosen = [number % rank for number in attribute(node, "axes") or range(rank)]
    scales = draft.fixed_constant(node, 1 if old else 2, "scales")
    if scales is None and attribute(node, "scales"):
        scales = np.array(attribute(node, "scales"))
    sizes = None if old else draft.fixed_constant(node, 3, "sizes")
    region = None if old else draft.fixed_constant(node, 1, "region")
    if sizes is not None and sizes.size:
        after, factors = _by_sizes(node, [shape[number] for number in chosen], sizes)
    elif scales is not None and scales.size == len(chosen):
        factors = [float(factor) for factor in scales]
        lengths = [shape[number] for number in chosen]
        after = [int(np.floor(np.float32(n) * np.float32(f))) for n, f in zip(lengths, factors, strict=True)]
    else:
        raise refusal(node, "neither scales nor sizes are there")
    if region is None or region.size != 2 * len(chosen):
        region = np.array([0.0] * len(chosen) + [1.0] * len(chosen))
    return {
        number: Axis(
            shape[number], after[place], factors[place], (float(region[place]), float(region[place + len(chosen)]))
        )
        for place, number in enumerate(chosen)
    }


def _by_sizes(node: onnx.NodeProto, before: list[int], sizes: Array) -> tuple[list[int], list[float]]:
    """Return lengths and scales for wanted sizes, which a policy may make one scale for all axes."""
    factors = [float(np.float32(size) / np.float32(length)) for size, length in zip(sizes, before, strict=True)]
    policy = attribute(node, "keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return [int(size) for size in sizes], factors
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [int(np.floor(factor * length + 0.5)) for length in before], [factor] * len(before)


def _changes(axis: Axis, way: Way) -> bool:
    """Say whether an axis is touched; onnxruntime copies one whose scale is 1, whatever the coordinates say."""
    if axis.scale == 1 and axis.after == axis.before:
        return False
    if way.mode == "nearest" and axis.after == axis.before and not outside(axis, way).any():
        return bool(np.any(nearest(axis, way) != np.arange(axis.before)))
    return True


def _tflite_way(axes: dict[int, Axis], way: Way, rank: int) -> Way | None:
    """Return how TFLite's own kernels do exactly this, or None; they resize two inner axes of images by their sizes."""
    if rank != 4 or not set(axes) <= {2, 3} or way.coordinates == "tf_crop_and_resize":
        return None
    for plain in (_NEAREST,) if way.mode == "nearest" else _BILINEAR if way.mode == "linear" else ():
        if all(_same(axis, way, plain) for axis in axes.values()):
            return plain
    return None


def _same(axis: Axis, way: Way, plain: Way) -> bool:
    by_size = Axis(axis.before, axis.after, axis.after / axis.before)
    if way.mode == "nearest":
        return bool(np.array_equal(nearest(axis, way), nearest(by_size, plain)))
    if axis.before * axis.after > _LARGEST_MATRIX:
        return False
    return bool(np.allclose(matrix(axis, way), matrix(by_size, plain), rtol=0, atol=2e-6))


def _is_plain(draft: Draft, node: onnx.NodeProto, plain: Way) -> bool:
    """Say whether the node is already written as `_add_plain` would write it."""
    return (
        node.op_type == "Resize"
        and _way(draft, node) == plain
        and bool(optional_input(node, 3))
        and not attribute(node, "axes")
    )


def _add_plain(draft: Draft, node: onnx.NodeProto, plain: Way, shape: tuple[int, ...], axes: dict[int, Axis]) -> None:
    after = [axes[number].after if number in axes else length for number, length in enumerate(shape)]
    more: dict[str, Any] = {"nearest_mode": plain.nearest} if plain.mode == "nearest" else {}
    empty = draft.const(np.zeros(0, np.float32)) if draft.opset < 13 else ""  # optional only since then
    draft.add(
        "Resize",
        node.input[0],
        empty,
        empty,
        draft.const(after),
        output=node.output[0],
        mode=plain.mode,
        coordinate_transformation_mode=plain.coordinates,
        **more,
    )


def _along(
    draft: Draft,
    node: onnx.NodeProto,
    value: str,
    number: int,
    axis: Axis,
    way: Way,
    kind: np.dtype[Any],
    rank: int,
) -> str:
    """Add the resize of one axis."""
    if way.mode == "nearest":
        return draft.add("Gather", value, draft.const(nearest(axis, way)), axis=number)
    if axis.before * axis.after > _LARGEST_MATRIX:
        raise refusal(node, f"axis {number} from {axis.before} to {axis.after} needs too large a matrix")
    weights = draft.const(matrix(axis, way).T.astype(kind))
    if number == rank - 1:
        return draft.add("MatMul", value, weights)
    order = list(range(rank))
    order[number], order[-1] = order[-1], order[number]
    return draft.transpose(draft.add("MatMul", draft.transpose(value, order), weights), order)


def _extrapolated(
    draft: Draft,
    node: onnx.NodeProto,
    value: str,
    axes: dict[int, Axis],
    way: Way,
    kind: np.dtype[Any],
    rank: int,
) -> str:
    """Add the extrapolation value wherever an output lies off the input's grid."""
    off = [(number, outside(axis, way)) for number, axis in axes.items() if outside(axis, way).any()]
    if not off:
        return value
    within = np.ones((), np.float64)
    for number, mask in off:
        shape = [1] * rank
        shape[number] = mask.size
        within = within * (~mask).reshape(shape)
    kept = draft.add("Mul", value, draft.const(within.astype(kind)))
    filled = (1 - within) * attribute(node, "extrapolation_value", 0.0)
    return draft.add("Add", kept, draft.const(filled.astype(kind))) if filled.any() else kept
