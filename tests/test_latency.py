"""Figures of latency: orders that always hold, floors, and an interval that covers the median as often as it claims."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeship import latency
from edgeship.measurement import Samples

nanoseconds = st.lists(st.integers(1, 10**12), min_size=1, max_size=900)


def run_of(times: NDArray[np.float64] | list[int]) -> Samples:
    return Samples(None, None, (), tuple(int(value) for value in times), None, steady=True)


def printed(**aggregates: float) -> Samples:
    return Samples(None, None, (), None, None, steady=True, aggregate_ms=aggregates)


def autoregressive(rng: np.random.Generator, runs: int, count: int, rho: float) -> NDArray[np.float64]:
    """Return `runs` stationary AR(1) series around a median of 1 ms, skewed as latencies are, in nanoseconds."""
    noise = rng.standard_normal((runs, count))
    series = np.empty_like(noise)
    series[:, 0] = noise[:, 0] / np.sqrt(1 - rho**2)
    for place in range(1, count):
        series[:, place] = rho * series[:, place - 1] + noise[:, place]
    return np.exp(0.02 * series) * 1e6


@given(nanoseconds)
def test_figures_stand_in_their_order(times: list[int]) -> None:
    found = latency.summarize(run_of(times))
    assert found.min is not None and found.p50 is not None and found.max is not None
    assert found.mean is not None and found.cv is not None
    assert found.min <= found.p50 <= found.max
    assert found.min <= found.mean <= found.max
    assert found.cv >= 0
    assert found.runs == len(times)
    rising = [found.min, found.p50, *(value for value in (found.p90, found.p99) if value is not None), found.max]
    assert rising == sorted(rising)
    if len(times) == 1:
        assert found.ci95 is None
    else:
        assert found.ci95 is not None
        assert found.min <= found.ci95[0] <= found.p50 <= found.ci95[1] <= found.max
    assert found == latency.summarize(run_of(times))


@given(nanoseconds, st.integers(2, 1000))
def test_a_slower_clock_scales_every_figure(times: list[int], factor: int) -> None:
    ours, theirs = (latency.summarize(run_of([value * by for value in times])) for by in (1, factor))
    assert ours.p50 is not None
    assert theirs.p50 == pytest.approx(ours.p50 * factor)
    assert theirs.cv == pytest.approx(ours.cv, abs=1e-12)
    if ours.ci95 and theirs.ci95:
        assert theirs.ci95 == pytest.approx(tuple(value * factor for value in ours.ci95))


@pytest.mark.parametrize(("count", "p90", "p99"), [(63, False, False), (64, True, False), (661, True, False), (662, True, True)])  # fmt: skip
def test_a_percentile_below_its_floor_is_none(count: int, p90: bool, p99: bool) -> None:
    found = latency.summarize(run_of(list(range(1, count + 1))))
    assert (found.p90 is not None, found.p99 is not None) == (p90, p99)


def test_percentiles_are_numpys() -> None:
    times = np.random.default_rng(0).integers(1, 10**9, 1000)
    found = latency.summarize(run_of(times.astype(np.float64)))
    assert [found.p50, found.p90, found.p99] == pytest.approx(list(np.quantile(times, [0.5, 0.9, 0.99]) / 1e6))
    assert found.cv == pytest.approx(times.std(ddof=1) / times.mean())


@given(st.integers(1, 10**12), st.integers(2, 800))
def test_equal_samples_have_no_spread_at_all(value: int, count: int) -> None:
    found = latency.summarize(run_of([value] * count))
    assert {found.mean, found.p50, found.min, found.max} == {value / 1e6}
    assert found.cv == 0
    assert found.ci95 == (value / 1e6, value / 1e6)


def test_the_interval_is_the_bootstraps() -> None:
    """With independent samples it is what drawing them with replacement gives, resample by resample."""
    rng = np.random.default_rng(3)
    times = rng.gamma(9, 1e6, 301)
    medians = np.median(rng.choice(times, (20_000, times.size)), axis=1) / 1e6
    found = latency.median_interval(times)
    width = np.subtract(*np.quantile(medians, (0.975, 0.025)))
    assert found == pytest.approx(tuple(np.quantile(medians, (0.025, 0.975))), abs=0.1 * width)


@pytest.mark.parametrize(("rho", "count", "least"), [(0.0, 30, 0.92), (0.0, 300, 0.92), (0.3, 100, 0.89), (0.6, 300, 0.9), (0.9, 1000, 0.89)])  # fmt: skip
def test_the_interval_covers_the_median(rho: float, count: int, least: float) -> None:
    """95 % of intervals claim to hold the true median of 1 ms; 600 runs tell it to 0.9 % (standard error)."""
    series = autoregressive(np.random.default_rng(7), 600, count, rho)
    found = [latency.median_interval(times, seed=seed) for seed, times in enumerate(series)]
    covered = np.mean([low <= 1.0 <= high for low, high in filter(None, found)])
    assert least <= covered <= 0.99


def test_neighbours_that_resemble_one_another_are_worth_less() -> None:
    series = autoregressive(np.random.default_rng(1), 20, 4000, 0.8)
    worth = np.mean([latency.independent(times) for times in series])
    assert worth == pytest.approx(
        4000 / 5.6, rel=0.2
    )  # (1 + 0.59) / (1 - 0.59): the sign's own correlation is 2/pi asin(rho)
    assert latency.independent(np.random.default_rng(1).permutation(series[0])) > 3000


@given(nanoseconds)
def test_samples_are_worth_one_to_all_of_them(times: list[int]) -> None:
    assert 1 <= latency.independent(np.asarray(times)) <= len(times)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_few_samples_have_the_widest_interval_there_is(count: int) -> None:
    found = latency.median_interval(np.arange(1, count + 1) * 1e6)
    assert found == (None if count == 1 else (1.0, float(count)) if count < 6 else found)


def test_a_long_run_costs_little() -> None:
    times = np.random.default_rng(0).gamma(9, 1e5, 100_000)
    samples = run_of(times)
    began = time.process_time()
    latency.summarize(samples)
    assert time.process_time() - began < 0.3


def test_of_aggregates_only_what_was_printed_is_known() -> None:
    found = latency.summarize(printed(mean=2.0, min=1.0, max=4.0, std=0.5, runs=50))
    assert (found.mean, found.min, found.max, found.cv, found.runs) == (2.0, 1.0, 4.0, 0.25, 50)
    assert {found.p50, found.p90, found.p99, found.ci95} == {None}
    full = latency.summarize(printed(mean=2.0, min=1.0, max=4.0, std=0.5, p50=1.9, p90=3.0, p99=3.5, runs=100))
    assert (full.p50, full.p90, full.p99) == (1.9, 3.0, None)


@pytest.mark.parametrize("samples", [run_of([]), printed(), Samples(1, 1, (), None, None, steady=False)])
def test_nothing_measured_has_no_figures(samples: Samples) -> None:
    with pytest.raises(ValueError, match="no samples"):
        latency.summarize(samples)


def test_what_ran_in_turns_gives_a_ratio() -> None:
    """A machine that is now quick and now half as quick: the ratio of neighbours stays what it is."""
    pace = [1, 1, 1, 2, 2, 1, 2, 2, 2, 1]
    turns = tuple((1100 * each, 1000 * each) for each in pace)
    beside = latency.beside(Samples(1, 1, (), (1100,), (0,), steady=True, turns_ns=turns), "a" * 64)
    assert beside is not None
    assert beside.ratio == pytest.approx(1.1) and (beside.artifact_sha256, beside.turns) == ("a" * 64, 10)
    assert beside.ms == pytest.approx(1500 / 1e6)
    assert latency.beside(run_of([1000]), "a" * 64) is None
