"""Where a history changed its level: slow creep that no single night shows.

The change point is ruptures' (Truong, Oudre, Vayatis 2020, doi:10.1016/j.sigpro.2019.107299: least squares, by the linear
kernel). Whether it is more than chance says a permutation test of the best split (as in E-divisive: Matteson and James 2014,
doi:10.1080/01621459.2013.849605): exact if nights are exchangeable, whatever their distribution. What the reference
workload or an unchanged baseline shows too is taken away first; where the reference moved at the same night, the model must
have moved beyond it. A machine that drifts while nothing tells so cannot be told from a model that creeps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgeship.chance import exceeds
from edgeship.night import Metric, Night
from edgeship.noise import Noise, centre, location, reference
from edgeship.resampling import Array

_PERMUTATIONS = 2_000
_LEAST, _SHORTEST, _LONGEST = 8, 3, 90  # nights: of a series, of a part of it, and looked back at the most
_CLIP = 3.0
_WORTH_A_TEST = 2.4  # standardized difference below which no series of eight nights is unusual
_BEYOND = 4.0  # standard errors, of a spread that is itself known from few nights


@dataclass(frozen=True)
class Creep:
    """The best split of a series: `since` counts nights from its end; `difference` is after against before, scaled."""

    since: int
    difference: float
    p: float


def find(nights: Sequence[Night], noise: Noise, metric: Metric) -> Creep | None:
    """Return where the nights (oldest first, of one era) changed their level; None where nothing speaks for it.

    `p` is two-sided.
    """
    told = [night for night in nights if night.new][-_LONGEST:]
    if len(told) < _LEAST:
        return None
    series = _followed(told, noise, metric)
    bend = _CLIP * max(_deviation(series), metric.floor / 4)
    middle = float(np.median(series))
    tame = np.clip(series, middle - bend, middle + bend)
    power = float(tame.std())
    if not power:
        return None
    tame = (tame - tame.mean()) / power
    scores = _scores(tame)
    if np.max(np.abs(scores)) < _WORTH_A_TEST:
        return None
    split = split_point(tame)
    after, before = series[split:], series[:split]
    difference = float(location(after, bend) - location(before, bend))
    side = 1.0 if difference > 0 else -1.0
    if abs(metric.change(difference)) < metric.smallest:
        return None
    if not _beyond_controls(told, metric, split, side, noise):
        return None
    chance = _scores(tame[_orders(tame.size)]).max(axis=-1)  # symmetric: permutations have no side
    p = min(1.0, 2 * exceeds(np.sort(chance), float(np.max(side * scores))))
    return Creep(len(told) - split, difference, p)


def split_point(series: Array) -> int:
    """Return the index at which a series is best divided in two."""
    import ruptures  # seconds to import

    found = ruptures.KernelCPD(kernel="linear", min_size=_SHORTEST).fit(series[:, None]).predict(n_bkps=1)
    return int(found[0])


def change_points(series: Array, spread: float) -> tuple[int, ...]:
    """Return every index at which a history's level changed, for its chart: each beyond chance at about 1 in 1000.

    Args:
        spread: standard deviation of a night around its level.
    """
    import ruptures

    if series.size < _LEAST or not spread:
        return ()
    penalty = 16 * spread**2  # four standard errors: what splitting saves is their square
    found = ruptures.KernelCPD(kernel="linear", min_size=_SHORTEST).fit(series[:, None]).predict(pen=penalty)
    return tuple(int(end) for end in found[:-1])


def _followed(nights: Sequence[Night], noise: Noise, metric: Metric) -> Array:
    """Return where each night's new runs lie, without what the reference or the same baseline shows."""
    series = np.array([centre(metric, night.new, noise.clip) for night in nights])
    references = np.array([reference(night) for night in nights])
    if np.isfinite(references).any():
        series -= noise.slope * np.nan_to_num(references - np.nanmean(references))
    for label in {night.baseline for night in nights if night.baseline is not None}:
        chosen = [n for n, night in enumerate(nights) if night.baseline == label and night.old]
        olds = [centre(metric, nights[n].old, noise.clip) for n in chosen]
        for n, old in zip(chosen, olds, strict=True):
            history = noise.between_sd**2
            trust = history / (history + noise.location_variance / len(nights[n].old))
            series[n] -= trust * (old - float(np.mean(olds)))
    return series


def _beyond_controls(nights: Sequence[Night], metric: Metric, split: int, side: float, noise: Noise) -> bool:
    """Say whether the model moved more than the reference did, and than the baseline, where these were measured."""
    news = np.array([centre(metric, night.new, noise.clip) for night in nights])
    olds = [
        centre(metric, night.old, noise.clip) if night.old and night.baseline == nights[-1].baseline else math.nan
        for night in nights
    ]
    controls = [np.array([reference(night) for night in nights])]
    if nights[-1].baseline is not None:
        controls.append(np.array(olds))
    for control in controls:
        left = news - control
        after, before = (part[np.isfinite(part)] for part in (left[split:], left[:split]))
        if min(after.size, before.size) < _SHORTEST:
            continue
        bend = _CLIP * max(_deviation(left[np.isfinite(left)]), metric.floor / 4)
        error = (
            _deviation(np.diff(left[np.isfinite(left)])) / math.sqrt(2) * math.sqrt(1 / after.size + 1 / before.size)
        )
        if side * (location(after, bend) - location(before, bend)) <= _BEYOND * error:
            return False
    return True


def _scores(series: Array) -> Array:
    """Return the standardized difference of after against before at every split, along the last axis.

    The series has mean 0 and variance 1; the score is that of a t test with the spread of the whole.
    """
    count = series.shape[-1]
    ends = np.arange(_SHORTEST, count - _SHORTEST + 1)
    sums = np.cumsum(series, axis=-1)[..., ends - 1]
    return np.asarray(-sums / np.sqrt(ends * (count - ends) / count))


@lru_cache(maxsize=32)
def _orders(count: int) -> NDArray[np.int8]:
    source = np.random.default_rng(count)
    return np.argsort(source.random((_PERMUTATIONS, count)), axis=-1).astype(np.int8)  # _LONGEST fits


def _deviation(values: Array) -> float:
    return float(np.median(np.abs(values - np.median(values)))) * 1.4826
