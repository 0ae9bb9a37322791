"""What chance alone does to the difference between two artifacts, with the noise that the history has.

A smoothed bootstrap (Efron and Tibshirani 1993, §16.5) of the whole estimator: nights and runs are drawn from the history's
residuals, each replicate with a spread of its own (as uncertain as the history leaves it: Rubin 1981,
doi:10.1214/aos/1176345338, for the thought), and go through the same arithmetic as tonight's. Small p-values come from a
generalized Pareto tail (Knijnenburg et al. 2009, doi:10.1093/bioinformatics/btp211). The random numbers are the same every time: the
same runs have the same verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeship.noise import Noise, location
from edgeship.resampling import REPLICATES, Array, draw, normal, uniform

_TAIL = 0.05
_FALL = 4  # how fast the history is trusted less
_UNUSUAL = 2.5  # standard deviations of a reference outside which its slope was never seen
_LEAST_P = 1e-12


@dataclass(frozen=True)
class Design:
    """One night as it was measured: how many runs of each, and what the reference says of the device.

    Attributes:
        shift: how far the level is moved by what the reference says.
        shift_sd: standard error of that, from the slope's.
        doubt: width of what is not known of it, where the reference lies outside its history.
        trust: weight of the old runs against the history for an ordinary night; 1 without history.
        usual: standard deviations, each `usual_sd`, that the old runs nearly always lie within, around the history.
        moved: how far the reference lies from its own history, `moved_sd` how far it does by chance; 0 and inf without.
        variance: of the night's difference.
    """

    new: int
    old: int
    shift: float
    shift_sd: float
    doubt: float
    trust: float
    usual: float
    usual_sd: float
    moved: float
    moved_sd: float
    variance: float


def design(noise: Noise, new: int, old: int, reference: float) -> Design:
    """Return how a night with so many runs is weighed; `reference` is its logarithm or nan."""
    shift = shift_sd = doubt = moved = 0.0
    moved_sd = math.inf
    if noise.reference_level is not None and noise.reference_sd is not None and np.isfinite(reference):
        moved, moved_sd = reference - noise.reference_level, noise.reference_sd / max(1 - noise.slope, 0.01)
        seen = float(np.clip(moved, -_UNUSUAL * noise.reference_sd, _UNUSUAL * noise.reference_sd))
        missing = max(1 - noise.slope, 0.0) * (moved - seen)  # between what was learned and following wholly
        shift, doubt = noise.slope * moved + missing / 2, abs(missing)
        shift_sd = noise.slope_sd * abs(seen)
    history = noise.between_sd**2 + noise.level_sd**2 + shift_sd**2 + doubt**2 / 12
    runs = noise.location_variance
    if not old:
        trust = 0.0
    elif noise.level is None:
        trust = 1.0
    else:
        trust = history / (history + runs / old)
    variance = runs / new + (trust**2 * runs / old if old else 0.0) + (1 - trust) ** 2 * history
    usual_sd = math.sqrt(history + runs / max(old, 1))
    return Design(new, old, shift, shift_sd, doubt, trust, noise.usual, usual_sd, moved, moved_sd, variance)


def difference(night: Design, new: Array, old: Array, level: Array | float) -> Array:
    """Return how much worse the new runs are, from the locations of both and what the history expects.

    The old runs are believed the more the further they and the reference lie from the history: then the device has moved.
    """
    if not night.old:
        return np.asarray(new - level)
    own, its = night.usual_sd**-2, night.moved_sd**-2
    distance = np.abs(own * (old - level) + its * night.moved) / math.sqrt(own + its)
    keep = (night.usual / np.maximum(distance, night.usual)) ** _FALL
    paired, whole = new - old, (1 - night.trust) * (old - level)
    trusting, wary = paired + whole, paired + keep * whole
    nearer = np.where(np.abs(wary) < np.abs(trusting), wary, trusting)
    return np.asarray(np.where(trusting * wary > 0, nearer, 0.0))


def by_chance(noise: Noise, nights: Sequence[Design]) -> Array:
    """Return replicates of each night's difference when nothing changed: one row a night."""
    level_error = noise.level_sd * normal(0)
    within, between = _inflation(noise.within_freedom, 1), _inflation(noise.between_freedom, 2)
    rows = []
    for number, night in enumerate(nights):
        first = 100 * (number + 1)  # each night has random numbers of its own
        runs = draw(noise.within, noise.within_sd, first + 10, night.new + night.old) * within
        shared = draw(noise.between, noise.between_sd, first, 1)[0] * between
        level = level_error + night.shift_sd * normal(first + 3) + night.doubt * (uniform(first + 4) - 0.5)
        new = _centred(runs[: night.new], noise.clip) + shared
        old = _centred(runs[night.new :], noise.clip) + shared if night.old else np.zeros(REPLICATES)
        rows.append(difference(night, new, old, level))
    return np.stack(rows)


def exceeds(replicates: Array, observed: float) -> float:
    """Return the probability that chance gives at least what was observed.

    Beyond the largest twentieth of the replicates: a generalized Pareto tail, fitted by its first two moments.
    """
    count = replicates.size
    most = max(int(_TAIL * count), 10)
    largest = np.partition(replicates, count - most)[count - most :]
    start = float(largest.min())
    beyond = largest - start
    mean, variance = float(beyond.mean()), float(beyond.var())
    if observed <= start or not variance:
        return max(float(np.mean(replicates >= observed)), _LEAST_P)
    shape = float(np.clip((1 - mean**2 / variance) / 2, -0.15, 0.4))
    scale = mean * (1 - shape)
    base = max(1 + shape * (observed - start) / scale, 0.0)
    survives = math.exp(-(observed - start) / scale) if abs(shape) < 1e-6 else base ** (-1 / shape)
    return max(most / count * survives, _LEAST_P)


def _centred(runs: Array, clip: float) -> Array:
    """Return locations of runs around their own mean: with a skewed shape that is not 0, and in no night's level."""
    found = location(runs, clip)
    return np.asarray(found - found.mean())


def _inflation(freedom: float, row: int) -> Array:
    """Return how much a spread that rests on so many figures may be understated (Wilson and Hilferty's chi square)."""
    small = 2 / (9 * freedom)
    return np.asarray(np.maximum(1 - small + normal(row) * math.sqrt(small), 0.2) ** -1.5)
