"""Random numbers that are the same every time, and draws from residuals by them: the same runs have the same verdict.

Scrambled Sobol points (Owen 1998, doi:10.1006/jcom.1998.0487; scipy's): two thousand of them give a tail of one in two hundred to
a tenth, where independent numbers are off by a third, always to the same side since they are always the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
REPLICATES = 2_048
ROWS = 256
_SMOOTHING = 0.1  # part of the variance that is drawn from a normal distribution: fills the gaps between residuals
_STEPS = 15  # points of it around each residual


def spread_out(residuals: Array, spread: float) -> Array:
    """Return the quantiles, in order, of residuals brought to a spread and smoothed; of a normal one without residuals."""
    power = float(np.sqrt(np.mean(residuals**2))) if residuals.size else 0.0
    if not power:
        return spread * _normal_steps(1024)
    part = _SMOOTHING + 1 / (1 + residuals.size)
    steps = _normal_steps(_STEPS)
    table = math.sqrt(1 - part) / power * residuals[:, None] + math.sqrt(part) * steps
    return np.asarray(spread * np.sort(table, axis=None))


def draw(quantiles: Array, rows: NDArray[np.intp]) -> Array:
    """Return draws by the random numbers of some rows: a row each, a column each replicate."""
    return np.asarray(quantiles[(uniform()[rows] * quantiles.size).astype(np.intp)])


def rows() -> Iterator[int]:
    """Return the rows of random numbers, the best spread ones first; far down they are used again."""
    while True:
        yield from range(ROWS)


@cache
def uniform() -> Array:
    """Return numbers between 0 and 1: `ROWS` rows of replicates."""
    from scipy.stats import qmc  # half a second to import: who only reads a history need not wait for it

    points = qmc.Sobol(ROWS, seed=0).random(REPLICATES)
    return np.ascontiguousarray(np.clip(points.T, 1e-9, 1 - 1e-9))


@cache
def normal() -> Array:
    """Return standard normal numbers, likewise."""
    from scipy.special import ndtri

    return np.asarray(ndtri(uniform()))


@cache
def _normal_steps(count: int) -> Array:
    """Return normal quantiles in the middle of equal steps, with standard deviation 1."""
    from scipy.special import ndtri

    steps = ndtri((np.arange(count) + 0.5) / count)
    return np.asarray(steps / steps.std())
