"""Charts of a bench: every extreme is in them, they stay small, and odd runs draw too."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeship.measurement import BenchRecord, Snapshot
from edgeship.report import figures
from edgeship.report.bench_charts import MOST_POINTS, histogram, thinned, time_line, was_held_back
from edgeship.report.drawing import Axis
from tests import sample_bench

RECORDS = [pytest.param(record, id=record.device) for record in sample_bench.every()]


def lines(svg: str) -> list[list[tuple[float, float]]]:
    """Return the points of every line in a drawing."""
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in points.split())]
        for points in re.findall(r'points="([^"]*)"', svg)
    ]


def texts(svg: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", svg)


@pytest.mark.parametrize("record", RECORDS)
def test_they_stand_inside_their_frames(record: BenchRecord) -> None:
    for svg in (histogram(record), time_line(record)):
        if svg is None:
            continue
        found = re.match(r'<svg viewBox="0 0 (\d+) (\d+)" role="img" aria-label="', svg)
        assert found is not None
        wide, high = (int(size) for size in found.groups())
        assert all(0 <= x <= wide and 0 <= y <= high for points in lines(svg) for x, y in points)
        assert not re.search(r"\b(nan|inf)\b", svg)
        assert len(svg) < 25_000


def test_histogram_counts_every_sample() -> None:
    samples = (1.0,) * 6 + (2.0,) * 3 + (3.0,) * 2
    latency = sample_bench.latency(samples)
    svg = histogram(sample_bench.record(samples_ms=samples, starts_ms=None, latency_ms=latency))
    assert svg is not None
    heights = [float(height) for height in re.findall(r'height="([\d.]+)" style="fill: var\(--after\)', svg)]
    counts = [round(6 * height / max(heights), 1) for height in heights]

    assert [count for count in counts if count] == [6, 3, 2]
    assert counts[0] == 6 and counts[-1] == 2, "the range is from the shortest to the longest"
    assert f"p50 {figures.latency_ms(1.0, latency)}" in texts(svg)


def test_a_few_far_out_stand_in_the_last_bin_and_are_told() -> None:
    calm = sample_bench.record().samples_ms
    assert calm is not None
    samples = (*calm, 400.0, 900.0)
    svg = histogram(sample_bench.record(samples_ms=samples))
    assert svg is not None

    (told,) = (words for words in texts(svg) if " over " in words)
    count, bound = re.fullmatch(r"(\d+) over ([\d.]+) ms", told).groups()  # type: ignore[union-attr]
    assert int(count) == sum(sample > float(bound) for sample in samples)
    assert float(bound) < 40


def test_a_heavy_tail_does_not_press_the_rest_into_one_bin() -> None:
    calm = tuple(0.3 + 0.0001 * (place % 1000) for place in range(1000))
    samples = calm + tuple(5.0 + place for place in range(60))
    latency = sample_bench.latency(samples)
    svg = histogram(sample_bench.record(samples_ms=samples, starts_ms=None, latency_ms=latency))
    assert svg is not None
    heights = [float(height) for height in re.findall(r'height="([\d.]+)" style="fill: var\(--after\)', svg)]

    assert "60 over " in "".join(texts(svg))
    assert sum(height > 0.05 * max(heights) for height in heights) >= 3


@pytest.mark.parametrize("samples", [None, (), (4.0,), (4.0, 4.0, 4.0)])
def test_no_histogram_of_what_does_not_differ(samples: tuple[float, ...] | None) -> None:
    assert histogram(sample_bench.record(samples_ms=samples, starts_ms=None)) is None


def test_time_line_has_the_conditions_that_are_known() -> None:
    whole, bare = time_line(sample_bench.record()), time_line(sample_bench.counted())
    assert whole is not None and bare is not None

    assert {"ms of one inference", "temperature in °C", "clock in MHz of the slowest core in use"} <= set(texts(whole))
    assert "seconds" in texts(bare)
    assert not [words for words in texts(bare) if "temperature" in words or "clock" in words]


def test_without_samples_the_conditions_still_have_their_times() -> None:
    svg = time_line(sample_bench.aggregates())
    assert svg is not None

    assert "temperature in °C, the hottest of 3 sensors" in texts(svg)
    assert "ms of one inference" not in texts(svg)


def test_when_the_board_held_itself_back_is_shaded_from_there_on() -> None:
    record = sample_bench.throttled()
    svg = time_line(record)
    assert svg is not None
    (band,) = re.findall(
        r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="[\d.]+" style="fill: var\(--bad-wash', svg
    )
    start, wide = map(float, band)
    (end_s,) = {points[-1][0] for points in lines(svg) if len(points) > 300}

    assert was_held_back(record.conditions)
    assert start + wide == pytest.approx(528, abs=2), "it never stopped"
    share = (start - 58) / (end_s - 58)
    hot = [snapshot.throttled != 0 for snapshot in record.conditions.during]
    assert share == pytest.approx(hot.index(True) / len(hot), abs=0.03)
    calm = time_line(sample_bench.record())
    assert calm is not None and "bad-wash" not in calm


def test_bits_since_boot_are_not_now() -> None:
    calm = sample_bench.record().conditions
    hot_before = dataclasses.replace(calm, during=(sample_bench.snapshot(1.0, throttled=0x50000),))

    assert not was_held_back(hot_before)


def test_a_snapshot_after_the_last_sample_gives_the_common_time() -> None:
    samples, starts = (10.0,) * 100, tuple(float(10 * place) for place in range(100))
    during = tuple(sample_bench.snapshot(500.0 + at, temperature_c={"a": 50.0 + at}) for at in (0.25, 0.5, 0.75))
    conditions = dataclasses.replace(
        sample_bench.record().conditions, during=during, after=sample_bench.snapshot(501.0, temperature_c={"a": 51.0})
    )
    svg = time_line(sample_bench.record(samples_ms=samples, starts_ms=starts, conditions=conditions))
    assert svg is not None
    (warm,) = (points for points in lines(svg) if len(points) == 4 and points[0][1] > points[-1][1])

    across = [(x - 58) / (528 - 58) for x, _ in warm]
    assert across == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=0.002)


def test_starts_that_are_not_told_follow_from_the_samples() -> None:
    record = sample_bench.record(starts_ms=None)
    svg = time_line(record)
    assert svg is not None
    (ran,) = (points for points in lines(svg) if len(points) > 300)

    assert ran[0][0] == pytest.approx(58, abs=1) and ran[-1][0] == pytest.approx(528, abs=2)


def test_very_unlike_times_are_drawn_on_a_logarithmic_axis() -> None:
    samples = tuple(1000.0 if place == 50 else 1.0 for place in range(100))
    svg = time_line(sample_bench.record(samples_ms=samples, starts_ms=None))
    assert svg is not None

    assert {"1", "10", "100", "1,000"} <= set(texts(svg))


def test_clock_jumps_and_silent_moments_do_no_harm() -> None:
    jumped = (sample_bench.snapshot(-5000.0), Snapshot(at_s=1e9, wall_s=0.0), sample_bench.snapshot(3.0))
    conditions = dataclasses.replace(sample_bench.record().conditions, during=jumped, after=None, before=None)
    svg = time_line(sample_bench.record(conditions=conditions))

    assert svg is not None
    assert all(57 <= x <= 529 for points in lines(svg) for x, _ in points)


@settings(deadline=None)
@given(
    st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=3 * MOST_POINTS),
    st.integers(2, MOST_POINTS),
)
def test_thinning_keeps_order_ends_of_each_stretch_and_every_extreme(values: list[float], most: int) -> None:
    points = [(float(place), value) for place, value in enumerate(values)]
    kept = thinned(points, most)

    assert len(kept) <= max(most, 2)
    assert kept == sorted(kept) and set(kept) <= set(points)
    assert {min(values), max(values)} <= {value for _, value in kept}


@settings(deadline=None)
@given(st.lists(st.floats(1e-4, 1e4), min_size=2, max_size=200))
def test_any_samples_draw(values: list[float]) -> None:
    record = sample_bench.record(
        samples_ms=tuple(values), starts_ms=None, latency_ms=sample_bench.latency(tuple(values))
    )

    for svg in (histogram(record), time_line(record)):
        assert svg is None or not re.search(r"\b(nan|inf)\b", svg)


@given(st.floats(-1e6, 1e6), st.floats(1e-5, 1e6))
def test_ticks_tell_themselves_apart(low: float, span: float) -> None:
    if span < 1e-7 * abs(low):
        return
    axis = Axis(low, low + span, 0, 100)
    marked = axis.ticks()

    assert len(marked) >= 2
    assert len({axis.label(value) for value in marked}) == len(marked)
