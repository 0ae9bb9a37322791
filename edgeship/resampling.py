"""Random numbers that are the same every time, and draws from residuals by them: the same runs have the same verdict."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]
REPLICATES = 2_000
_SMOOTHING = 0.1  # part of the variance that is drawn from a normal distribution: fills the gaps between residuals


def draw(residuals: Array, spread: float, first: int, columns: int) -> Array:
    """Return draws from residuals, brought to a spread and smoothed: a column each replicate."""
    smooth = _columns(first, columns, True)
    power = float(np.sqrt(np.mean(residuals**2))) if residuals.size else 0.0
    if not power:
        return spread * smooth
    part = _SMOOTHING + 1 / (1 + residuals.size)
    drawn = residuals[(_columns(first + 20, columns, False) * residuals.size).astype(np.intp)]
    return np.asarray(spread * (math.sqrt(1 - part) / power * drawn + math.sqrt(part) * smooth))


@cache
def uniform(row: int) -> Array:
    """Return one number from each of equal steps between 0 and 1, in random order: less chance than plain numbers."""
    source = np.random.default_rng(row)
    return np.asarray((source.permutation(REPLICATES) + source.random(REPLICATES)) / REPLICATES)


@cache
def normal(row: int) -> Array:
    """Return standard normal numbers, likewise."""
    return np.asarray(ndtri(uniform(1_000_000 + row)))


@cache
def _columns(first: int, columns: int, smooth: bool) -> Array:
    return np.stack([(normal if smooth else uniform)(first + column) for column in range(columns)])
