"""How far two sets of outputs are apart, and whether that is near enough to be the same model."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeship import quantized
from edgeship.errors import StageFailed
from edgeship.flatbuffer import Graph
from edgeship.metrics import Outputs

TOLERANCE = 1e-4
# Two sets of integer kernels round differently in every layer; a float file's must agree to TOLERANCE.
QUANTIZED_TOLERANCE = 0.1
FLOOR = 1e-6


@dataclass(frozen=True)
class Difference:
    """How far two sets of outputs are apart: absolute, and relative to the range of the first."""

    max_abs_error: float
    relative_error: float
    tolerance: float
    within: bool
    comparable: bool = True


def held(reference: Graph, expected: Outputs, got: Outputs) -> Difference:
    """Compare what a TFLite file gave with what its source gave, with the tolerance that such a file is given."""
    steps = {spec.name: spec.scale for spec in reference.interface.outputs if spec.scale is not None}
    tolerance = QUANTIZED_TOLERANCE if quantized.already_quantized(reference) else TOLERANCE
    return difference(expected, got, tolerance=tolerance, steps=steps)


def difference(
    expected: Outputs, got: Outputs, *, tolerance: float = TOLERANCE, steps: Mapping[str, float] | None = None
) -> Difference:
    """Compare outputs with a tolerance relative to the range of what was expected, and a floor for tiny ranges.

    Outputs are paired by name, else in order. `steps` names quantized outputs and their scales: one step is never an
    error. Of whole numbers (an argmax, say) the share that differs counts. A value that is no number, or a shape that
    differs, is beyond any tolerance.
    """
    worst, relative_worst, within = 0.0, 0.0, True
    for name, ours, theirs in _paired(expected, got):
        if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
            return Difference(sys.float_info.max, sys.float_info.max, tolerance, within=False, comparable=False)
        error = float(np.abs(ours - theirs).max(initial=0.0))
        spread = float(np.ptp(ours)) if ours.size else 0.0
        if np.issubdtype(expected[name].dtype, np.integer):
            error, spread = float(np.mean(ours != theirs)), 1.0
        within = within and error <= max(tolerance * spread, FLOOR, 1.001 * (steps or {}).get(name, 0.0))
        worst, relative_worst = max(worst, error), max(relative_worst, error / max(spread, FLOOR))
    return Difference(worst, relative_worst, tolerance, within)


def _paired(expected: Outputs, got: Outputs) -> list[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    if len(expected) != len(got):
        raise StageFailed(f"{len(expected)} outputs were expected, {len(got)} came: {', '.join(got)}")
    same = set(expected) == set(got)
    pairs = zip(expected.items(), got.values(), strict=True)
    return [
        (name, np.asarray(ours, dtype=np.float64), np.asarray(got[name] if same else theirs, dtype=np.float64))
        for (name, ours), theirs in pairs
    ]
