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
from itertools import islice
from typing import Literal

import numpy as np

from edgeship.noise import Noise, location
from edgeship.resampling import REPLICATES, Array, draw, normal, rows, spread_out

_TAIL = 0.05
_SURELY = 3.5  # standard deviations that the device is off its history
# Nights are never quite alike: this much of what old runs and a reference show of the device is always believed.
_PART = 0.2
_ALONE = 1.25  # the old runs alone, without a reference, must lie so much further off
_FOLLOWS = 0.95  # of the reference: nothing is left of it that the level does not follow
_LEAST_P = 1e-6  # beyond it the tail is a guess


@dataclass(frozen=True)
class Design:
    """One night as it was measured: how many runs of each, and how it is weighed.

    Attributes:
        trust: weight of the old runs against the history for an ordinary night; 1 without history, 0 without old runs.
        shift_sd: standard error of the level that the reference lets one expect.
        off_sd: how far the old runs lie from that level by chance; None without old runs.
        moved_sd: how far the reference, where the level does not follow it, lies from its history by chance; None without.
        usual: how many of these standard deviations are still nothing unusual.
        variance: of the night's difference.
    """

    new: int
    old: int
    trust: float
    shift_sd: float
    off_sd: float | None
    moved_sd: float | None
    usual: float
    variance: float


@dataclass(frozen=True)
class Seen:
    """What nights show, one row a night: new and old runs above the expected level, and the reference above its own."""

    above: Array
    off: Array
    moved: Array


def expected(noise: Noise, reference: float) -> tuple[float, float, float]:
    """Return how far the reference moves the level, that shift's standard error, and what of it the level ignores."""
    if noise.reference_level is None or not np.isfinite(reference):
        return 0.0, 0.0, 0.0
    moved = reference - noise.reference_level
    return noise.slope * moved, noise.slope_sd * abs(moved) * (noise.slope > 0), max(1 - noise.slope, 0.0) * moved


def design(noise: Noise, new: int, old: int, reference: float) -> Design:
    """Return how a night with so many runs is weighed; `reference` is its logarithm or nan."""
    _, shift_sd, _ = expected(noise, reference)
    history = noise.between_sd**2 + noise.level_sd**2 + shift_sd**2
    runs = noise.location_variance
    trust = 0.0 if not old else 1.0 if noise.level is None else history / (history + runs / old)
    variance = runs / new + (trust**2 * runs / old if old else 0.0) + (1 - trust) ** 2 * history
    ignores = noise.reference_sd is not None and np.isfinite(reference) and noise.slope < _FOLLOWS
    moved_sd = (1 - noise.slope) * noise.reference_sd if ignores and noise.reference_sd else None
    off_sd = math.sqrt(history + runs / old) if old and noise.level is not None else None
    return Design(new, old, trust, shift_sd, off_sd, moved_sd, noise.usual, variance)


def weights(nights: Sequence[Design]) -> Array:
    """Return what each night is worth."""
    precisions = np.array([1 / night.variance for night in nights])
    return np.asarray(precisions / precisions.sum())


def differences(nights: Sequence[Design], seen: Seen, last: int) -> tuple[Array, Array]:
    """Return how much worse the new runs of the last nights are, by the history and by the device's own shift besides.

    The second takes away what the old runs and the reference show of the device in these nights: it needs no history of
    such shifts, and is less precise.
    """
    chosen, part = nights[-last:], slice(-last, None)
    mine = weights(chosen)
    trust = np.array([night.trust for night in chosen])
    trusting = mine @ (seen.above[part].T - trust * seen.off[part].T).T
    shift, _ = _shift(chosen, Seen(seen.above[part], seen.off[part], seen.moved[part]))
    shift = float(mine @ (1 - trust)) * shift
    partly = _PART if all(night.old and night.moved_sd for night in chosen) else 0.0
    return np.asarray(trusting - partly * shift), np.asarray(trusting - shift)


def shifted(nights: Sequence[Design], seen: Seen, last: int) -> Literal["no", "perhaps", "surely"]:
    """Say whether the device is off its history, in the last nights or over all of the trial.

    Without old runs nothing but the reference speaks for it: then any move of it may be one, and none is for sure.
    """
    part = slice(-last, None)
    chosen = nights[part]
    if not all(night.old for night in chosen):
        return "perhaps" if any(night.moved_sd for night in chosen) else "no"
    _, lately = _shift(chosen, Seen(seen.above[part], seen.off[part], seen.moved[part]))
    distance = max(float(lately), float(_shift(nights, seen)[1]))
    usual = nights[-1].usual * (1.0 if nights[-1].moved_sd else _ALONE)
    return "surely" if float(lately) > _SURELY else "perhaps" if distance > usual else "no"


def _shift(nights: Sequence[Design], seen: Seen) -> tuple[Array, Array]:
    """Return how far the device is off its history over some nights, and how many standard deviations that is."""
    own = np.array([night.off_sd**-2 if night.off_sd else 0.0 for night in nights])
    its = np.array([night.moved_sd**-2 if night.moved_sd else 0.0 for night in nights])
    power = float(own.sum() + its.sum())
    if not power:
        return np.zeros(seen.above.shape[1:]), np.zeros(seen.above.shape[1:])
    shift = (own @ seen.off + its @ seen.moved) / power
    return np.asarray(shift), np.abs(shift) * math.sqrt(power)


def by_chance(noise: Noise, nights: Sequence[Design]) -> Seen:
    """Return replicates of what nights show when nothing changed: one row a night."""
    numbers, normals = rows(), normal()
    within, between = spread_out(noise.within, noise.within_sd), spread_out(noise.between, noise.between_sd)
    taken = [np.fromiter(islice(numbers, night.new + night.old), dtype=np.intp) for night in reversed(nights)]
    level_error = noise.level_sd * normals[next(numbers)]
    inflations = [_inflation(worth, normals[next(numbers)]) for worth in (noise.within_freedom, noise.between_freedom)]
    above, off, moved = [], [], []
    for night, mine in zip(nights, reversed(taken), strict=True):
        runs = draw(within, mine) * inflations[0]
        shared = draw(between, np.array([next(numbers)]))[0] * inflations[1]
        shared = shared - level_error - night.shift_sd * normals[next(numbers)]
        above.append(_centred(runs[: night.new], noise.clip) + shared)
        off.append(_centred(runs[night.new :], noise.clip) + shared if night.old else np.zeros(REPLICATES))
        moved.append((night.moved_sd or 0.0) * normals[next(numbers)])
    return Seen(np.stack(above), np.stack(off), np.stack(moved))


def exceeds(ordered: Array, observed: float) -> float:
    """Return the probability that chance gives at least what was observed; `ordered` are the replicates, smallest first.

    Beyond the largest twentieth of the replicates: a generalized Pareto tail, fitted by its first two moments.
    """
    count = ordered.size
    most = max(int(_TAIL * count), 10)
    start = float(ordered[count - most])
    beyond = ordered[count - most :] - start
    mean, variance = float(beyond.mean()), float(beyond.var())
    if observed <= start or not variance:
        return max(1 - int(np.searchsorted(ordered, observed)) / count, _LEAST_P)
    shape = float(np.clip((1 - mean**2 / variance) / 2, -0.1, 0.4))
    scale = mean * (1 - shape)
    base = max(1 + shape * (observed - start) / scale, 1e-9)
    survives = math.exp(-(observed - start) / scale) if abs(shape) < 1e-6 else base ** (-1 / shape)
    return max(most / count * survives, _LEAST_P)


def _centred(runs: Array, clip: float) -> Array:
    """Return locations of runs around their own mean: with a skewed shape that is not 0, and in no night's level."""
    found = location(runs, clip)
    return np.asarray(found - found.mean())


def _inflation(freedom: float, normals: Array) -> Array:
    """Return how much a spread that rests on so many figures may be understated (Wilson and Hilferty's chi square)."""
    small = 2 / (9 * freedom)
    return np.asarray(np.maximum(1 - small + normals * math.sqrt(small), 0.2) ** -1.5)
