"""How much the runs of a model on a device vary: within a night and between nights, with the shape they really have.

Model, on the metric's additive scale (logarithms for times): run = level + slope x reference + night + run's own, where
`night` is shared by all runs of a night. Nothing is assumed normal: residuals of the history are kept and drawn again.
Variance components by moments (Searle, Casella, McCulloch 1992, "Variance Components", §3.6); their logarithms are drawn
towards the prior of the device's family (Smyth 2004, doi:10.2202/1544-6115.1027, does so for variances). A night's
location is one step of Huber's M-estimator from the median (Huber 1964, doi:10.1214/aoms/1177703732), scale from the
history's median absolute deviation: as good as the mean for normal runs, much better with heavy tails.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgeship.night import Metric, Night, Prior
from edgeship.resampling import Array, draw, spread_out

_CLIP = 1.5  # Huber's constant, in standard deviations: 96 % efficient for normal noise
_NORMAL_MAD = 1.4826
_GROSS = 3.0
_INSIDE, _USUAL = 0.95, 2.0  # part of old runs that lie within the usual distance, in standard deviations
_FEW = 8  # residuals that tell no shape
# A night always shares something: variance between nights is at least this part of that within.
_LEAST_SHARED = 0.01
SISTERS = 12  # models of a device that are asked what its noise is
_ENOUGH = 3  # nights from which on one tells of it


@dataclass(frozen=True)
class Noise:
    """What the history says of runs and nights; all on the metric's scale.

    Attributes:
        level: where the baseline's runs lie while the reference is at `reference_level`; None without history in this era.
        level_sd: its standard error.
        within: residuals of runs from their night's centre; `within_sd` is what they are believed to spread,
            `within_freedom` how many independent figures that rests on.
        between: residuals of nights from their level, likewise.
        location_variance: of a night's location, times the runs it is of.
        clip: where Huber's score bends.
        usual: standard deviations within which nearly all locations of four runs lie.
        slope: how far the level follows the reference; `slope_sd` its standard error.
        reference_sd: of a night's reference around its own level; None without.
    """

    level: float | None
    level_sd: float
    within: Array
    within_sd: float
    within_freedom: float
    between: Array
    between_sd: float
    between_freedom: float
    location_variance: float
    clip: float
    usual: float
    slope: float
    slope_sd: float
    reference_level: float | None
    reference_sd: float | None

    @property
    def spread(self) -> float:
        """Return the standard deviation of a run."""
        return math.hypot(self.within_sd, self.between_sd)

    @property
    def shared(self) -> float:
        """Return the part of a run's variance that its night shares."""
        return self.between_sd**2 / self.spread**2


@dataclass(frozen=True)
class _Nights:
    """The history's nights side by side: where each lies, of how many runs, its reference (or nan), its era."""

    centres: Array
    counts: Array
    references: Array
    eras: NDArray[np.int64]
    names: tuple[str, ...]

    def around_era(self, values: Array) -> Array:
        """Return what is left of each night's value when its era's mean is taken away, or nan."""
        left = np.full(values.size, np.nan)
        for number in range(len(self.names)):
            told = (self.eras == number) & np.isfinite(values)
            left[told] = values[told] - values[told].mean() if told.any() else np.nan
        return left


def reference(night: Night) -> float:
    """Return the logarithm of a night's reference workload, nan without: it is a time or a memory, also of a metric that is not."""
    return _median_log(night.reference)


@lru_cache(maxsize=4096)
def _median_log(figures: tuple[float, ...]) -> float:
    return math.log(statistics.median(figures)) if figures and min(figures) > 0 else math.nan


def location(values: Array, clip: float) -> Array:
    """Return one Huber step from the median along the first axis."""
    count = values.shape[0]
    if count < 3:
        return np.asarray(values.mean(axis=0))
    if count <= 4:  # what is left without the ends: no need to sort
        middle = (values.sum(axis=0) - values.max(axis=0) - values.min(axis=0)) / (count - 2)
    else:
        middle = np.median(values, axis=0)
    return np.asarray(middle + np.clip(values - middle, -clip, clip).mean(axis=0))


def centre(metric: Metric, figures: tuple[float, ...], clip: float) -> float:
    """Return the location of one artifact's runs of one night: the same as `location`, quick for a handful."""
    ordered, count = _ordered(figures, metric.relative, metric.higher_is_better), len(figures)
    if count < 3:
        return sum(ordered) / count
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return middle + sum(min(max(run - middle, -clip), clip) for run in ordered) / count


@lru_cache(maxsize=4096)
def _ordered(figures: tuple[float, ...], relative: bool, higher_is_better: bool) -> tuple[float, ...]:
    scale = Metric("figure", higher_is_better=higher_is_better, relative=relative)
    return tuple(sorted(scale.scaled(figure) for figure in figures))


def estimate(history: Sequence[Night], trial: Sequence[Night], metric: Metric, prior: Prior) -> Noise:
    """Return the noise that the history shows, for judging the nights of the trial, the last of which names the era.

    Without a trial it is the noise of the history alone, as `family` wants it of a device's other models.

    Runs of the trial tell of the noise within a night, each role around its own centre: that holds whatever changed.

    Raises:
        ValueError: a figure is not one that the metric can have.
    """
    paced = (trial or history)[-1].paced  # of the noise within such nights only such nights tell
    groups = [night.new + night.old for night in history if night.paced == paced]
    groups += [runs for night in trial for runs in (night.new, night.old) if night.paced == paced]
    within, freedom = _residuals(groups, metric)
    clip, gain, usual = _bend(within, metric.floor)
    nights = _side_by_side(history, metric, clip)
    slope, slope_sd, follows = _slope(nights)
    between = nights.around_era(nights.centres) - follows
    lost = len(nights.names) + (1 if slope else 0)
    between_freedom = max(between.size - lost, 0)
    between = between * math.sqrt(between.size / between_freedom) if between_freedom else np.zeros(0)
    parts = _Parts(within, freedom, between, float(between_freedom), nights.counts)
    within_sd, between_sd, location_variance = _components(parts, gain, metric.floor, prior)
    # A machine whose pace moves so much within minutes moves as much from night to night, whatever few nights have shown.
    between_sd = max(between_sd, _rms(_residuals([night.paces for night in (*history, *trial)], metric)[0]))
    level, level_sd, reference_level = _level(
        nights, (trial or history)[-1].era, slope, between_sd**2, location_variance, clip
    )
    reference_around = nights.around_era(nights.references)
    told = reference_around[np.isfinite(reference_around)]
    return Noise(
        level, level_sd, within, within_sd, _worth(within, (freedom or between_freedom) + prior.nights), between, between_sd,
        _worth(between, between_freedom + prior.nights), location_variance, clip, usual, slope, slope_sd, reference_level,
        max(_robust_sd(told), metric.floor) if told.size > 2 else None,
    )  # fmt: skip


@dataclass(frozen=True)
class _Parts:
    within: Array
    within_freedom: float
    between: Array
    between_freedom: float
    counts: Array


def _components(parts: _Parts, gain: float, floor: float, prior: Prior) -> tuple[float, float, float]:
    """Return the standard deviations within and between nights and the variance of a one-run location."""
    within_raw, between_raw = max(_rms(parts.within), floor), _rms(parts.between)
    runs = float(1 / np.mean(1 / parts.counts)) if parts.counts.size else 1.0
    if parts.between_freedom:
        beyond = (
            max(between_raw**2 - within_raw**2 / runs, 0) + within_raw**2 if parts.within_freedom else between_raw**2
        )
        seen = math.sqrt(max(beyond, floor**2))
    else:
        seen = within_raw
    freedom = parts.between_freedom or min(parts.within_freedom, prior.nights)
    total = _drawn(seen, freedom, prior.spread, prior.nights)
    within = _drawn(within_raw, parts.within_freedom, total * math.sqrt(1 - prior.shared), prior.nights)
    within = max(within, floor)
    variance = gain * within**2
    left = max(between_raw**2 - variance / runs, 0)
    expected = prior.shared * total**2
    weight = parts.between_freedom + prior.nights
    between = (prior.nights * expected + parts.between_freedom * left) / weight if weight else left
    return within, math.sqrt(max(between, _LEAST_SHARED * within**2)), variance


def believed(histories: Iterable[Sequence[Night]], metric: Metric) -> Prior | None:
    """Return what the histories of a device's models let one expect of another's; None where none has enough nights."""
    return family([estimate(nights, (), metric, Prior()) for nights in histories if len(nights) >= _ENOUGH])


def family(members: Sequence[Noise], nights: float = 3.0) -> Prior | None:
    """Return what the other models of a device, or its sisters, let one expect of a new one; None without any."""
    if not members:
        return None
    spread = math.exp(float(np.median([math.log(member.spread) for member in members])))
    return Prior(spread, float(np.median([member.shared for member in members])), nights)


def _residuals(groups: Sequence[tuple[float, ...]], metric: Metric) -> tuple[Array, float]:
    """Return how far runs lie from the rest of their group, and the degrees of freedom of their spread.

    Around the median, which keeps the modes of a device apart where the mean of few runs smears them; the spread is that
    around the mean, which has no bias.
    """
    found = [_around(_ordered(runs, metric.relative, metric.higher_is_better)) for runs in groups if len(runs) > 1]
    freedom = float(sum(around.size - 1 for around, _ in found))
    if not found:
        return np.zeros(0), 0.0
    spread = math.sqrt(sum(power for _, power in found) / freedom)
    around = np.concatenate([around for around, _ in found])
    around = around - around.mean()
    power = _rms(around)
    return around * (spread / power) if power else around, freedom


@lru_cache(maxsize=4096)
def _around(ordered: tuple[float, ...]) -> tuple[Array, float]:
    """Return what is left of runs without their median, and their sum of squares around the mean."""
    group = np.array(ordered)
    return group - statistics.median(ordered), float(np.sum((group - group.mean()) ** 2))


def _bend(within: Array, floor: float) -> tuple[float, float, float]:
    """Return where Huber's score bends, the variance of such a location against that of the mean, and its usual distance.

    Of four runs drawn from the residuals, the location with the shorter tails is taken, for tails decide false alarms. Where
    that is the mean (two modes, short tails) only gross errors bend.
    """
    clip, power = _CLIP * max(_robust_sd(within), floor), _rms(within)
    if within.size < _FEW or not power:
        return clip, 1.0, _USUAL
    runs = draw(spread_out(within, power), np.arange(4))
    found = {bend: location(runs, bend) for bend in (clip, max(clip, _GROSS * power))}
    best = min(found, key=lambda bend: float(np.ptp(np.quantile(found[bend], (0.005, 0.995)))))
    around = np.abs(found[best] - found[best].mean())
    gain = min(float(found[best].var() / runs.mean(axis=0).var()), 1.0)
    return best, gain, float(np.quantile(around, _INSIDE) / found[best].std())


def _side_by_side(history: Sequence[Night], metric: Metric, clip: float) -> _Nights:
    told = [night for night in history if night.new or night.old]
    names = tuple(dict.fromkeys(night.era for night in told))
    return _Nights(
        np.array([_centre(night, metric, clip) for night in told]),
        np.array([float(len(night.new) + len(night.old)) for night in told]),
        np.array([reference(night) for night in told]),
        np.array([names.index(night.era) for night in told], dtype=np.int64),
        names,
    )


def _centre(night: Night, metric: Metric, clip: float) -> float:
    """Return where a night's runs lie: each role by itself, as it is judged, then weighed by its runs."""
    roles = [runs for runs in (night.new, night.old) if runs]
    return sum(centre(metric, role, clip) * len(role) for role in roles) / sum(len(role) for role in roles)


def _slope(nights: _Nights) -> tuple[float, float, Array]:
    """Return how far nights follow the reference, its standard error, and the part of each night that follows.

    Least squares, drawn to nothing as far as it could be chance (positive-part James-Stein: 1 - 1/F).
    """
    x, y = nights.around_era(nights.references), nights.around_era(nights.centres)
    told = np.isfinite(x)
    freedom = int(told.sum()) - len(nights.names) - 1
    power = float(np.sum(x[told] ** 2))
    if freedom < 3 or not power:
        return 0.0, 0.0, np.zeros(x.size)
    slope = float(x[told] @ y[told]) / power
    error = float(np.sum((y[told] - slope * x[told]) ** 2)) / freedom / power
    slope *= max(0.0, 1 - error / slope**2) if slope else 0.0
    return slope, math.sqrt(error), np.where(told, slope * np.nan_to_num(x), 0.0)


def _level(
    nights: _Nights, era: str, slope: float, between: float, one_run: float, clip: float
) -> tuple[float | None, float, float | None]:
    """Return the level of an era, its standard error, and the reference it belongs to."""
    if era not in nights.names:
        return None, 0.0, None
    mine = nights.eras == nights.names.index(era)
    references = nights.references[mine]
    told = references[np.isfinite(references)]
    reference_level = float(told.mean()) if told.size else None
    centres = nights.centres[mine]
    if slope and reference_level is not None:
        centres = centres - slope * np.nan_to_num(references - reference_level)
    bend = max(_CLIP * _robust_sd(centres - np.median(centres)), clip)
    error = math.sqrt(float(np.sum(between + one_run / nights.counts[mine]))) / centres.size
    return float(location(centres, bend)), error, reference_level


def _drawn(seen: float, freedom: float, believed: float, worth: float) -> float:
    """Return a standard deviation between the one seen and the one believed, by what each is worth, on a log scale."""
    if not freedom or not worth:
        return seen if freedom else believed
    return math.exp((freedom * math.log(seen) + worth * math.log(believed)) / (freedom + worth))


def _worth(residuals: Array, freedom: float) -> float:
    """Return how many normal figures a spread of this shape is worth: heavy tails tell less of it."""
    power = _rms(residuals)
    kurtosis = float(np.mean((residuals / power) ** 4)) if power else 3.0
    return max(2 * freedom / (min(max(kurtosis, 2.0), 9.0) - 1), 2.0)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0


def _robust_sd(values: Array) -> float:
    """Return the standard deviation by the median absolute deviation; of few values, by their squares."""
    return float(np.median(np.abs(values))) * _NORMAL_MAD if values.size >= _FEW else _rms(values)
