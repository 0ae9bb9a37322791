"""Figures of latency from raw samples: what they are worth decides how narrow the interval may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.measurement import Beside, Latency, Samples

# Below these a percentile is decided by two or three samples: the least queries of MLPerf's early stopping
# (mlcommons/inference_policies, "Early Stopping") for the 90th and the 99th at 99 % confidence.
P90_FLOOR = 64
P99_FLOOR = 662
RESAMPLES = 10_000
_CONFIDENCE = 0.95
# Sokal 1997, "Monte Carlo Methods in Statistical Mechanics", §3: the window that sums autocorrelations is this many
# times the sum itself; emcee and others took the number over.
_WINDOW = 5
_NS_PER_MS = 1e6


def summarize(samples: Samples, *, seed: int = 0) -> Latency:
    """Return the figures of a run in milliseconds: of its raw samples, else of what its tool printed.

    A percentile interpolates linearly between the two samples around rank `1 + p (n - 1)` (type 7 of Hyndman and Fan
    1996, doi:10.1080/00031305.1996.10473566: numpy's default), so p50 is the ordinary median; below its floor of
    samples it is None. `cv` is the standard deviation (n - 1 in the denominator) over the mean. Of aggregates only what
    the tool printed is known: the rest is None, `ci95` always.

    Raises:
        ValueError: there is neither a sample nor an aggregate.
    """
    if samples.samples_ns is None:
        return _of_aggregates(samples.aggregate_ms or {})
    if not samples.samples_ns:
        raise ValueError("no samples")
    times = np.sort(np.asarray(samples.samples_ns, dtype=np.float64)) / _NS_PER_MS
    p50, p90, p99 = (float(value) for value in np.quantile(times, (0.5, 0.9, 0.99)))
    mean = float(np.clip(times.mean(), times[0], times[-1]))  # equal samples must not differ from their mean's last bit
    return Latency(
        mean=mean,
        p50=p50,
        p90=p90 if times.size >= P90_FLOOR else None,
        p99=p99 if times.size >= P99_FLOOR else None,
        min=float(times[0]),
        max=float(times[-1]),
        cv=_spread(times, mean),
        ci95=median_interval(np.asarray(samples.samples_ns), seed=seed),
        runs=times.size * samples.every,
    )


def beside(samples: Samples, artifact_sha256: str) -> Beside | None:
    """Return how a run compares with the artifact that ran in turns with it; None where none did."""
    if not samples.turns_ns:
        return None
    turns = np.asarray(samples.turns_ns, dtype=np.float64)
    ratio, other_ns = float(np.median(turns[:, 0] / turns[:, 1])), float(np.median(turns[:, 1]))
    return Beside(artifact_sha256, ratio, other_ns / _NS_PER_MS, len(turns))


def median_interval(samples_ns: NDArray[Any], *, seed: int = 0) -> tuple[float, float] | None:
    """Return the bootstrap 95 % interval of the median in milliseconds, of samples in the order in which they were taken.

    The median of m draws with replacement is the sample whose rank is n times a Beta((m + 1) / 2, (m + 1) / 2) variate
    (Maritz and Jarrett 1978, doi:10.1080/01621459.1978.10480027), so a resample costs one draw, whatever n is, and none
    is sorted. With independent samples m is n. Neighbours in time that resemble one another are worth fewer: m is then
    n over the integrated autocorrelation time of "above or below the median" (`independent`), the effective sample
    size of a quantile in Vehtari et al. 2021, doi:10.1214/20-BA1221, §4. A block bootstrap (Künsch 1989) is the usual
    way; on simulated AR(1) of 20 to 1000 samples it covered the median less often or, within the simulation's noise, as
    often. Both are too narrow where a run is worth fewer than some twenty independent samples.

    Below six samples no interval between two of them holds the median with 95 %: theirs is then from the smallest to
    the largest. None for a single sample.
    """
    count = len(samples_ns)
    if count < 2:
        return None
    ordered = np.sort(np.asarray(samples_ns, dtype=np.float64)) / _NS_PER_MS
    if count < 6:
        return float(ordered[0]), float(ordered[-1])
    shape = (independent(samples_ns) + 1) / 2
    places = np.random.default_rng(seed).beta(shape, shape, RESAMPLES)
    ranks = np.clip(np.ceil(places * count).astype(np.int64) - 1, 0, count - 1)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(ordered[ranks], (tail, 1 - tail))
    p50 = float(np.quantile(ordered, 0.5))  # of an even number, between two samples: the interval holds what is stated
    return min(float(low), p50), max(float(high), p50)


def independent(samples_ns: NDArray[Any]) -> float:
    """Return how many independent samples these, in the order in which they were taken, tell as much of the median as.

    The count over the integrated autocorrelation time of the samples' side of the median, summed over Sokal's window
    and corrected to first order for the bias of short series; from 1 to the count: alternation is not held in favour.
    """
    times = np.asarray(samples_ns, dtype=np.float64)
    count = times.size
    sides = np.sign(times - np.median(times)) if count else times
    sides -= sides.mean() if count else 0.0
    power = float(sides @ sides)
    if not power:
        return float(count)
    size = 1 << (2 * count - 1).bit_length()  # padded: else the series' end would meet its start
    spectrum = np.fft.rfft(sides, size)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, size)[:count] / power
    sums = 2 * np.cumsum(correlation) - 1
    wide_enough = np.arange(count) >= _WINDOW * sums
    window = int(np.argmax(wide_enough)) if wide_enough.any() else count - 1
    steps = float(sums[window]) * (1 + (2 * window + 1) / count)
    return float(np.clip(count / max(steps, 1.0), 1.0, count))


def _spread(times: NDArray[np.float64], mean: float) -> float:
    if times.size < 2 or times[0] == times[-1] or not mean:
        return 0.0
    return float(times.std(ddof=1)) / mean


def _of_aggregates(printed: Mapping[str, float]) -> Latency:
    if not printed:
        raise ValueError("no samples and no aggregates")
    std, mean = printed.get("std"), printed.get("mean")
    known: dict[str, Any] = {key: printed.get(key) for key in ("mean", "p50", "min", "max")}
    known["runs"] = runs = int(printed.get("runs", 0))
    known["p90"] = printed.get("p90") if runs >= P90_FLOOR else None
    known["p99"] = printed.get("p99") if runs >= P99_FLOOR else None
    known["cv"] = None if std is None or not mean else std / mean
    return Latency(**known, ci95=None)
