"""The arithmetic of ONNX's Resize along one axis: which inputs make an output, and with what weights.

The formulas are those of the ONNX operator's documentation; in single precision as onnxruntime computes them, since at
ties a nearest neighbour depends on the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """One axis: its length before and after, the scale (after / before, as given), and its part of the region."""

    before: int
    after: int
    scale: float
    region: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Way:
    """How values between the grid's points are made; the attributes of the ONNX operator."""

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False


COORDINATES = (
    "align_corners",
    "asymmetric",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
)
_TIE = 1e-6
MODES = ("nearest", "linear", "cubic")


def positions(axis: Axis, coordinates: str) -> Positions:
    """Return for each output where it lies on the input's grid.

    Raises:
        KeyError: coordinates that ONNX does not know.
    """
    points = np.arange(axis.after, dtype=np.float32)
    scale, half = np.float32(axis.scale), np.float32(0.5)
    if coordinates == "align_corners":
        if axis.after == 1:
            return np.zeros(1, np.float32)
        return points * np.float32(axis.before - 1) / np.float32(axis.after - 1)
    if coordinates == "tf_crop_and_resize":
        start, end = (np.float32(bound) for bound in axis.region)
        last = np.float32(axis.before - 1)
        if axis.after == 1:
            return np.full(1, half * (start + end) * last, np.float32)
        return start * last + points * (end - start) * last / np.float32(axis.after - 1)
    if coordinates == "pytorch_half_pixel" and axis.after == 1:
        return np.zeros(1, np.float32)
    if coordinates == "half_pixel_symmetric":
        # The grid's middle stays where it is, also when the scaled length is not a whole number. The sum is made in
        # double precision and rounded once.
        shrunk = np.float32(axis.after) / (scale * np.float32(axis.before))
        middle = float(axis.before / 2 * (1 - shrunk))
        summed: Positions = (middle + (points + half).astype(np.float64) / float(scale) - 0.5).astype(np.float32)
        return summed
    return {
        "asymmetric": points / scale,
        "half_pixel": (points + half) / scale - half,
        "pytorch_half_pixel": (points + half) / scale - half,
        "tf_half_pixel_for_nn": (points + half) / scale,
    }[coordinates]


def nearest(axis: Axis, way: Way) -> npt.NDArray[np.int64]:
    """Return for each output the index of the input that it copies.

    Raises:
        KeyError: a way of rounding that ONNX does not know.
    """
    where = positions(axis, way.coordinates)
    below = np.floor(where)
    rounded = {
        "floor": below,
        "ceil": np.ceil(where),
        "round_prefer_floor": np.where(_tied(where), below, np.rint(where)),
        "round_prefer_ceil": np.where(_tied(where), below + 1, np.rint(where)),
    }[way.nearest]
    inside: npt.NDArray[np.int64] = np.clip(rounded.astype(np.int64), 0, axis.before - 1)
    return inside


def _tied(where: Positions) -> npt.NDArray[np.bool_]:
    """Return which positions count as the middle between two inputs: onnxruntime forgives 1e-6 (its issue 28291)."""
    exact = where.astype(np.float64)
    return np.abs(exact - np.floor(exact) - 0.5) <= _TIE


def outside(axis: Axis, way: Way) -> npt.NDArray[np.bool_]:
    """Return which outputs lie off the input's grid and take the extrapolation value instead."""
    if way.coordinates != "tf_crop_and_resize":
        return np.zeros(axis.after, np.bool_)
    where = positions(axis, way.coordinates)
    return (where < 0) | (where > axis.before - 1)


def matrix(axis: Axis, way: Way) -> Weights:
    """Return the weights by which outputs are made: [after, before]; rows sum to one.

    Raises:
        KeyError: a mode that ONNX does not know.
    """
    made = np.zeros((axis.after, axis.before))
    rows = np.arange(axis.after)
    if way.mode == "nearest":
        made[rows, nearest(axis, way)] = 1
        return made
    where = positions(axis, way.coordinates).astype(np.float64)
    kernel, reach = {"linear": (_linear, 1), "cubic": (_cubic, 2)}[way.mode]
    stretch = max(1.0, 1.0 / axis.scale) if way.antialias else 1.0
    if way.mode == "linear" and not way.antialias:
        where = np.clip(where, 0, axis.before - 1)
    span = int(np.ceil(reach * stretch)) + 1
    centre = np.floor(where).astype(np.int64)
    for step in range(-span, span + 1):
        index = centre + step
        weight = kernel((where - index) / stretch, way.cubic)
        inside = (index >= 0) & (index < axis.before)
        if way.exclude_outside:
            weight = np.where(inside, weight, 0)
        np.add.at(made, (rows, np.clip(index, 0, axis.before - 1)), weight)
    total: Weights = made.sum(axis=1, keepdims=True)
    return made / np.where(total == 0, 1, total)


def _linear(distance: Weights, _cubic: float) -> Weights:
    weights: Weights = np.maximum(0, 1 - np.abs(distance))
    return weights


def _cubic(distance: Weights, coefficient: float) -> Weights:
    """Return Keys' cubic convolution kernel (IEEE Trans. ASSP 29, 1981)."""
    x, a = np.abs(distance), coefficient
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    weights: Weights = np.where(x <= 1, near, np.where(x < 2, far, 0))
    return weights
