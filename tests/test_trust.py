"""Which runs may be believed: every condition that breaks one is seen and told, and a calm board has nothing against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeship import trust
from edgeship.measurement import Board, Conditions, Runtime, Samples, Snapshot, Wanted
from edgeship.trust import Trust

PI = Board(
    machine_id="m", boot_id="b", model="Raspberry Pi 4 Model B Rev 1.1", system=None, kernel=None, architecture="aarch64", abi="arm64",
    word_bits=64, cores=4, core_names=(), features=(), memory_mib=4096, free_mib=9000, page_bytes=4096, libc=None, python="3.11.2",
    runtimes={}, governor="performance", clock_mhz=1800.0,
)  # fmt: skip
WANTED = Wanted(threads=1, cpus=(), batch=1, runs=50, min_seconds=2.0, max_seconds=150.0, warmup_seconds=0.5)
CALM = Snapshot(
    0.0, 1e9, clock_mhz=(1800.0,) * 4, governor=("performance",) * 4, temperature_c={"cpu-thermal": 51.0}, throttled=0,
    load=0.9, swapped_pages=10,
)  # fmt: skip


def calm(at_s: float, /, **changes: Any) -> Snapshot:
    return replace(CALM, **{"at_s": at_s, "wall_s": 1e9 + at_s, **changes})


def around(**changes: Any) -> Conditions:
    """Return calm conditions of three seconds, with some of them changed; `middle` and `late` change single snapshots."""
    middle, late = calm(2, **changes.pop("middle", {})), calm(3, **changes.pop("late", {}))
    calmly: dict[str, Any] = {
        "board": PI, "before": calm(0), "during": (calm(1), middle), "after": late, "threads": 1, "cpus": (), "batch": 1,
    }  # fmt: skip
    return Conditions(**{**calmly, **changes})


def noisy(count: int = 700, *, spread: float = 0.01, seed: int = 0) -> NDArray[np.float64]:
    return 4e6 * (1 + spread * np.random.default_rng(seed).standard_normal(count))


def run_of(times: NDArray[np.float64], *, steady: bool = True) -> Samples:
    whole = times.astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(whole[:-1])])
    return Samples(1, 1, (10**9,), tuple(whole.tolist()), tuple(starts.tolist()), steady)


def judged(conditions: Conditions | None = None, samples: Samples | None = None, **options: Any) -> Trust:
    return trust.judge(samples or run_of(noisy()), conditions or around(), **{"wanted": WANTED, **options})


def test_a_calm_board_has_nothing_against_it() -> None:
    assert judged() == Trust(True, (), ())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"middle": {"throttled": 0x50005}}, "under-voltage, throttled while it was measured (throttled=0x50005): a stronger power supply"),
        ({"middle": {"throttled": 0x8}}, "soft temperature limit while it was measured (throttled=0x8): cool the board"),
        ({"late": {"throttled": 0x20000}}, "clock capped between two looks"),
        ({"middle": {"thermal_status": 3}}, "thermal status 3"),
        ({"late": {"governor": ("ondemand",) * 4}}, "the governor changed in the run, from performance to ondemand"),
        ({"late": {"swapped_pages": 10 + 256}}, "256 pages were swapped"),
        ({"middle": {"wall_s": 1e9 + 2.6}}, "jumped by +0.6 s"),
        ({"late": {"wall_s": 1e9 - 3600}}, "jumped by -3603.0 s"),
        ({"late": {"at_s": 0.5, "wall_s": 1e9 + 90}}, "the board rebooted"),
        ({"late": {"load": 5.2}}, "the load was 5.2 on 4 cores, 1 thread of it ours"),
        ({"before": calm(0, battery={"level": 90, "status": "Charging"}), "late": {"battery": {"level": 90, "status": "Discharging"}}}, "the charger was pulled"),
        ({"before": calm(0, battery={"level": 90, "status": 3}), "late": {"battery": {"level": 90, "status": 2}}}, "the charger was plugged in"),
    ],
)  # fmt: skip
def test_a_condition_that_broke_makes_a_run_invalid(changes: dict[str, Any], told: str) -> None:
    found = judged(around(**changes))
    assert not found.valid
    assert any(told in reason for reason in found.reasons), found.reasons


@pytest.mark.parametrize(
    "changes",
    [
        {"before": calm(0, throttled=0xF0000), "during": (calm(1, throttled=0xF0000),), "after": calm(3, throttled=0xF0000)},
        {"late": {"wall_s": 1e9 + 3.3}},
        {"before": calm(0, clock_mhz=(600.0,) * 4, load=4.0)},  # it idles before the run, or ends something else
        {"middle": {"clock_mhz": (1800.0, 600.0, 600.0, 600.0)}},  # one thread: the other cores may idle
        {"before": calm(0, battery={"level": 90, "status": 2}), "late": {"battery": {"level": 90, "status": 5}}},
    ],
)  # fmt: skip
def test_what_was_so_before_or_means_nothing_is_not_held_against_it(changes: dict[str, Any]) -> None:
    assert judged(around(**changes)) == Trust(True, (), ())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"late": {"swapped_pages": 200}, "middle": {"temperature_c": {"cpu-thermal": 75.0}}}, "cpu-thermal reached 75.0 °C"),
        ({"middle": {"clock_mhz": (1500.0,) * 4}}, "the core clock moved between 1500 and 1800 MHz"),
        ({"cpus": (0, 1), "during": (calm(1, clock_mhz=(1800.0, 1700.0)),), "before": None, "after": calm(3, clock_mhz=(1800.0, 1800.0))}, "between 1700 and 1800 MHz"),
        ({"late": {"load": 2.5}}, "about 1.5 other processes"),
        ({"middle": {"thermal_status": 1}}, "thermal status 1 of 6"),
        ({"late": {"battery": {"level": 19, "status": "Discharging"}}}, "the battery is at 19 %"),
        ({"before": None, "during": (), "after": None}, "conditions in the run are not known"),
        ({"before": calm(0, throttled=None), "during": (), "after": calm(3, throttled=None)}, "throttling cannot be seen"),
        ({"before": calm(0, governor=("ondemand",)), "during": (), "after": calm(3, governor=("ondemand",))}, "governor ondemand: the clock follows"),
        ({"unmodelled": ("caches", "the pipeline")}, "not modelled: caches, the pipeline"),
    ],
)  # fmt: skip
def test_what_is_odd_is_a_doubt_and_no_more(changes: dict[str, Any], told: str) -> None:
    found = judged(around(**changes))
    assert found.valid, found.reasons
    assert any(told in doubt for doubt in found.doubts), found.doubts
    assert len(found.doubts) == 1


def test_threads_beyond_the_cores_are_the_users_own_load() -> None:
    assert judged(around(threads=8, late={"load": 8.2})).valid
    assert not judged(around(threads=8, late={"load": 10.0})).valid
    assert not judged(around(threads=4, late={"load": 5.5})).valid


def test_too_little_or_never_steady_is_no_valid_run() -> None:
    short = judged(samples=run_of(noisy(30)))
    assert [reason for reason in short.reasons if "only 30 of 50 runs came within 150 s" in reason]
    assert [reason for reason in short.reasons if "only 0.12 of 2 s were measured" in reason]
    found = judged(samples=run_of(noisy(), steady=False))
    assert found.reasons == (
        "the times were not steady after 1.0 s of warm-up: a longer --warmup-seconds, or a quieter board",
    )
    assert judged(samples=run_of(noisy(10)), wanted=None).valid


def test_a_delegate_that_was_not_applied_is_told() -> None:
    assert judged(runtime=Runtime("benchmark_model", None, "GPU, whole graph"), delegate="gpu").valid
    found = judged(runtime=Runtime("benchmark_model", None), delegate="gpu")
    assert found.reasons == ("the target's delegate gpu was not applied: all of it ran on the CPU",)
    assert "it ran with XNNPACK" in judged(runtime=Runtime("x", None, "XNNPACK"), delegate="libedgetpu").reasons[0]


def test_aggregates_leave_what_cannot_be_seen_in_doubt() -> None:
    samples = Samples(None, None, (), None, None, True, {"mean": 4.0, "runs": 50.0})
    found = judged(samples=samples)
    assert found.valid
    assert [doubt for doubt in found.doubts if "aggregates only" in doubt]
    assert len(found.doubts) == 1
    printed = judged(samples=replace(samples, aggregate_ms={"mean": 4.0, "p90": 5.0, "runs": 50.0}))
    assert "too few runs (50) to state p90, which take 64: --runs 64" in printed.doubts
    few = judged(samples=run_of(noisy(60)), wanted=None)
    assert few.doubts == ("too few runs (60) to state p90 and p99, which take 64 and 662: --runs 662",)
    assert not judged(samples=replace(samples, aggregate_ms={"mean": 4.0, "runs": 20.0})).valid


def test_counted_time_has_no_doubts_of_statistics() -> None:
    """Its load is of before the snapshot was taken, its few samples are as good as many, and its spread is none."""
    conditions = around(counted=True, unmodelled=("caches",), board=replace(PI, model=None), late={"load": 9.0})
    found = judged(conditions, run_of(np.full(8, 4e6)), wanted=replace(WANTED, runs=8, min_seconds=0))
    assert found == Trust(True, (), (found.doubts[0],))
    assert "counted, not timed" in found.doubts[0]


def test_equal_times_have_no_doubts() -> None:
    assert judged(samples=run_of(np.full(700, 4e6))).doubts == ()


def test_wide_drifting_grouped_and_resembling_times_are_doubted() -> None:
    assert any("vary by" in doubt for doubt in judged(samples=run_of(noisy(spread=0.08))).doubts)
    rising = noisy() * np.linspace(1, 1.06, 700)
    assert any("the times rose by 5." in doubt or "the times rose by 6." in doubt for doubt in judged(samples=run_of(rising)).doubts)  # fmt: skip
    assert any("the times fell by" in doubt for doubt in judged(samples=run_of(rising[::-1])).doubts)
    two = np.where(np.random.default_rng(1).random(700) < 0.3, 1.12, 1.0) * noisy()
    assert any("two groups 1" in doubt and ", 30% around 4.4" in doubt for doubt in judged(samples=run_of(two)).doubts)
    wave = 4e6 * (1 + 0.01 * np.sin(np.linspace(0, 4 * np.pi, 700)))
    assert any("independent ones" in doubt for doubt in judged(samples=run_of(wave)).doubts)


SHAPES = {
    "normal": lambda rng, n: rng.normal(1, 0.05, n),
    "log-normal": lambda rng, n: np.exp(rng.normal(0, 0.2, n)),
    "gamma": lambda rng, n: 1 + rng.gamma(2, 0.05, n),
    "exponential": lambda rng, n: 1 + rng.exponential(0.1, n),
    "uniform": lambda rng, n: rng.uniform(1, 1.2, n),
    "heavy tails": lambda rng, n: 1 + 0.05 * rng.standard_t(3, n),
    "outliers": lambda rng, n: np.where(rng.random(n) < 0.03, 1.5, 1) + rng.normal(0, 0.02, n),
}


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_one_hump_is_no_two_groups_and_noise_no_drift(shape: str) -> None:
    rng = np.random.default_rng(5)
    runs = [4e6 * SHAPES[shape](rng, 200) for _ in range(200)]
    assert np.mean([trust.two_groups(times) is not None for times in runs]) <= 0.02
    assert np.mean([trust.drift(times) is not None for times in runs]) <= 0.03


@given(st.floats(0.12, 0.88), st.floats(1.08, 3.0), st.integers(0, 1000))
def test_two_humps_are_found_with_their_shares(share: float, apart: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    slow = rng.permutation(600) < round(share * 600)
    found = trust.two_groups(4e6 * np.where(slow, apart, 1.0) * (1 + 0.01 * rng.standard_normal(600)))
    assert found is not None
    assert found.slow_share == pytest.approx(share, abs=0.03)
    assert found.slow_ms / found.fast_ms == pytest.approx(apart, rel=0.01)


@given(st.floats(-0.3, 0.3), st.integers(24, 3000), st.integers(0, 1000))
def test_a_trend_is_found_with_its_size_and_a_small_one_is_not(change: float, count: int, seed: int) -> None:
    times = 4e6 * (1 + change * np.linspace(-0.5, 0.5, count)) * (1 + 0.002 * np.random.default_rng(seed).standard_normal(count))  # fmt: skip
    found = trust.drift(times)
    if abs(change) > 0.025:
        assert found == pytest.approx(change, abs=0.01)
    elif abs(change) < 0.015:
        assert found is None


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=300))
def test_any_times_can_be_judged(times: list[int]) -> None:
    found = judged(samples=run_of(np.asarray(times, dtype=np.float64)))
    assert found.valid == (not found.reasons)
    assert len(set(found.doubts)) == len(found.doubts)
