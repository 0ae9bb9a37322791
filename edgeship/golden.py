"""Does the device compute what this machine computes? Its outputs against the host's, on the same stored inputs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.artifact import TensorSpec
from edgeship.closeness import FLOOR, TOLERANCE
from edgeship.measurement import Golden
from edgeship.verify import classes

Array = NDArray[Any]
STEPS = 1
_QUANTIZED = ("int8", "uint8", "int16", "uint16")


@dataclass(frozen=True)
class _Found:
    """One output compared: how far apart in real values and in steps, and what is wrong with it in words."""

    max_abs_error: float
    max_steps: int | None = None
    why: str | None = None


def check(expected: Sequence[Array], got: Sequence[Array], outputs: Sequence[TensorSpec]) -> Golden:
    """Compare raw outputs of shape (examples, *shape), the host's first, in the order of `outputs`.

    - Floats lie within 1e-4 of the range that the host's output spans over all examples (never asked to be nearer than
      1e-6, or than the next number of that type).
    - Quantized ones (8 and 16 bits with a scale) lie within one step. The top-1 class is the host's wherever the
      host's is ahead by more than a step; with a smaller lead one rounding decides it on either side, so nothing
      more is asked of it.
    - All else is equal.
    - NaN and infinity stand in the same places on both sides or nowhere; an output without any number proves nothing.

    `max_abs_error` is in real values (the largest float there is, where nothing can be subtracted), `max_steps` None
    without quantized outputs.
    """
    if len(expected) != len(got) or len(expected) != len(outputs):
        why = f"the device gave {len(got)} outputs, the host {len(expected)}"
        return Golden(0, sys.float_info.max, None, passed=False, why=why)
    counts = {len(array) for array in expected if array.ndim}
    if not counts or 0 in counts:
        return Golden(0, sys.float_info.max, None, passed=False, why="there was no output to compare")
    found = [_compared(ours, theirs, spec) for ours, theirs, spec in zip(expected, got, outputs, strict=True)]
    steps = [one.max_steps for one in found if one.max_steps is not None]
    wrong = [f"output '{spec.name}' {one.why}" for one, spec in zip(found, outputs, strict=True) if one.why]
    return Golden(
        checked=min(counts),
        max_abs_error=max(one.max_abs_error for one in found),
        max_steps=max(steps, default=None),
        passed=not wrong,
        why="; ".join(wrong) or None,
    )


def _compared(ours: Array, theirs: Array, spec: TensorSpec) -> _Found:
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        told = f"{theirs.dtype} of shape {theirs.shape}; the host's is {ours.dtype} of shape {ours.shape}"
        return _Found(sys.float_info.max, why=f"is {told}")
    if ours.dtype.kind == "f":
        return _floats(ours, theirs)
    if ours.dtype.name in _QUANTIZED and spec.scale:
        return _quantized(ours, theirs, spec.scale)
    return _exact(ours, theirs)


def _floats(ours: Array, theirs: Array) -> _Found:
    numbers = np.isfinite(ours)
    if not numbers.any():
        return _Found(sys.float_info.max, why="holds no number on the host itself: nothing can be compared")
    odd, odd_theirs = ours[~numbers], theirs[~numbers]
    if not np.isfinite(theirs[numbers]).all() or not np.array_equal(odd, odd_theirs, equal_nan=True):
        broken = int((~np.isfinite(theirs)).sum())
        told = f"has {broken} of {theirs.size} values that are NaN or infinite; the host's has {odd.size}"
        return _Found(sys.float_info.max, why=told + ", or at other places")
    host = ours[numbers]
    error = float(np.abs(host.astype(np.float64) - theirs[numbers].astype(np.float64)).max())
    span = float(host.max()) - float(host.min())
    grain = float(np.spacing(np.abs(host).max()))
    allowed = max(TOLERANCE * span, FLOOR, grain if np.isfinite(grain) else 0.0)
    if error <= allowed:
        return _Found(error)
    return _Found(error, why=f"is off by up to {error:.3g}, where {allowed:.3g} is allowed ({_shape_of(span)})")


def _shape_of(span: float) -> str:
    return f"{TOLERANCE:g} of its range of {span:.3g}" if TOLERANCE * span >= FLOOR else f"its range is {span:.3g}"


def _quantized(ours: Array, theirs: Array, scale: float) -> _Found:
    steps = int(np.abs(ours.astype(np.int64) - theirs.astype(np.int64)).max(initial=0))
    error = steps * scale
    changed = _changed_classes(ours, theirs) if classes([ours.shape]) is not None else 0
    told = f"the top-1 class differs in {changed} of {len(ours)} examples"
    if steps <= STEPS:
        return _Found(error, steps, told if changed else None)
    why = f"is off by up to {steps} quantization steps, where {STEPS} is allowed"
    return _Found(error, steps, f"{why}; {told}" if changed else why)


def _changed_classes(ours: Array, theirs: Array) -> int:
    """Return how many examples have another top-1 class, where the host's own is ahead by more than one rounding."""
    rows, others = (array.reshape(len(array), -1).astype(np.int64) for array in (ours, theirs))
    best = np.sort(rows, axis=-1)[:, -2:]
    clear = best[:, 1] - best[:, 0] > STEPS
    return int((clear & (rows.argmax(-1) != others.argmax(-1))).sum())


def _exact(ours: Array, theirs: Array) -> _Found:
    differ = ours != theirs
    if not differ.any():
        return _Found(0.0)
    try:
        error = float(np.abs(ours[differ].astype(np.float64) - theirs[differ].astype(np.float64)).max())
    except (TypeError, ValueError):  # text
        error = sys.float_info.max
    return _Found(error, why=f"differs in {int(differ.sum())} of {ours.size} values, and has to be equal")
