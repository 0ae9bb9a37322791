"""The programs that run on Linux boards, as far as they need no board: conditions, pacing, steadiness, profiles."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.board import profiler, runner
from edgeship.measurement import Snapshot

MILLISECOND_NS = 1_000_000
SUMMARY = Path(__file__).parent / "data" / "litert" / "libLiteRt-2.3.0-x86_64-resnet8-int8-5-inferences.txt"


def plant(root: Path, files: dict[str, str]) -> str:
    """Write a tree of files and return its root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(root)


CPU = "devices/system/cpu/cpu{}/cpufreq/{}"
FIRMWARE = "devices/platform/soc/soc:firmware/get_throttled"


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    frequencies = {CPU.format(core, "scaling_cur_freq"): f"{600 + core}000\n" for core in (0, 1, 2, 10)}
    governors = {CPU.format(core, "scaling_governor"): "ondemand\n" for core in (0, 1, 2, 10)}
    thermal = {
        "class/thermal/thermal_zone0/type": "cpu-thermal\n", "class/thermal/thermal_zone0/temp": "48312\n",
        "class/thermal/thermal_zone1/type": "cpu-thermal\n", "class/thermal/thermal_zone1/temp": "-1000\n",
        "class/thermal/thermal_zone2/type": "broken\n",
    }  # fmt: skip
    sys_root = plant(tmp_path / "sys", {**frequencies, **governors, **thermal, FIRMWARE: "50005\n"})
    proc_root = plant(
        tmp_path / "proc",
        {
            "loadavg": "0.52 0.58 0.59 1/89 1234\n",
            "vmstat": "nr_free_pages 100\npswpin 7\npswpout 5\n",
            "meminfo": "MemTotal: 900000 kB\nMemAvailable:  800000 kB\nSwapTotal: 100 kB\nSwapFree: 40 kB\n",
        },
    )
    return sys_root, proc_root


def test_a_snapshot_has_what_the_workstation_calls_one(pi: tuple[str, str]) -> None:
    found = runner.Watch(*pi, []).snapshot()
    assert set(found) == {field.name for field in dataclasses.fields(Snapshot)}


def test_a_snapshot_of_a_raspberry_pi(pi: tuple[str, str]) -> None:
    found = runner.Watch(*pi, []).snapshot()
    assert found["clock_mhz"] == [600, 601, 602, 610]  # not 600, 601, 610, 602
    assert found["governor"] == ["ondemand"] * 4
    assert found["temperature_c"] == {"cpu-thermal": 48.312, "thermal_zone1": -1.0}
    assert found["throttled"] == 0x50005
    assert (found["load"], found["swapped_pages"], found["swap_used_kib"]) == (0.52, 12, 60)
    assert found["available_kib"] == 800000


def test_only_the_cores_in_use_are_read(pi: tuple[str, str]) -> None:
    assert runner.Watch(*pi, [1, 10]).snapshot()["clock_mhz"] == [601, 610]


def test_what_a_board_does_not_tell_is_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = runner.Watch(str(tmp_path / "sys"), str(tmp_path / "proc"), []).snapshot()
    assert found["at_s"] > 0
    assert found["wall_s"] > 0
    empty: dict[str, Any] = {"clock_mhz": [], "governor": [], "temperature_c": {}}
    assert {**found, "at_s": None, "wall_s": None} == {**dict.fromkeys(found), **empty}


@pytest.mark.processes
@pytest.mark.parametrize(
    ("says", "throttled"), [("echo throttled=0x50000", 0x50000), ("exit 3", None), ("echo no", None)]
)
def test_vcgencmd_is_asked_where_sysfs_is_silent(
    says: str, throttled: int | None, pi: tuple[str, str], tmp_path: Path
) -> None:
    (Path(pi[0]) / FIRMWARE).unlink()
    log = tmp_path / "asked"
    plant(tmp_path / "bin", {"vcgencmd": f'#!/bin/sh\necho "$@" >> {log}\n{says}\n'})
    (tmp_path / "bin" / "vcgencmd").chmod(0o755)
    watch = runner.Watch(*pi, [])
    assert [watch.snapshot()["throttled"] for _ in range(3)] == [throttled] * 3
    assert log.read_text().splitlines() == ["get_throttled"] * (1 if throttled is None else 3)


def test_snapshots_keep_their_distance(pi: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    watch = runner.Watch(*pi, [])
    taken = []
    for moment in (100.0, 100.4, 101.1, 102.0, 102.2):
        now_s[0] = moment
        taken.append(watch.look(1.0))
    assert taken == [True, False, True, False, True]
    assert watch.look(0)


class Clock:
    """A clock that an inference moves; `lengths_ns` says by how much, the last one for ever."""

    def __init__(self, *lengths_ns: int) -> None:
        self.now_ns, self.lengths_ns, self.runs = 10**15, list(lengths_ns), 0

    def __call__(self) -> int:
        return self.now_ns

    def invoke(self) -> None:
        self.now_ns += self.lengths_ns[min(self.runs, len(self.lengths_ns) - 1)]
        self.runs += 1


class Silent(runner.Voice):
    """Says nothing and remembers when it would have."""

    def __init__(self) -> None:
        self.told_ns, self.told = 0, list[dict[str, Any]]()

    def say(self, event: str, **table: Any) -> None:
        self.told.append({"event": event, "at_ns": runner.clock(), **table})


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Clock, Silent]]:
    def make(*lengths_ns: int) -> tuple[Clock, Silent]:
        clock = Clock(*lengths_ns)
        monkeypatch.setattr(runner, "clock", clock)
        return clock, Silent()

    return make


def spent_s(record: runner.Record) -> float:
    return (runner.clock() - record.starts[0]) / runner.SECOND_NS


def test_it_takes_as_many_runs_and_as_long_as_asked(clocked: Callable[..., tuple[Clock, Silent]]) -> None:
    clock, voice = clocked(4 * MILLISECOND_NS)
    record = runner.Record(clock.invoke)
    runner.repeat(record, "measure", voice, 50, 1.0, 10.0)
    assert spent_s(record) >= 1.0
    assert 1.0 <= record.count * 0.004 <= 1.1
    record = runner.Record(clock.invoke)
    runner.repeat(record, "measure", voice, 500, 1.0, 10.0)
    assert 500 <= record.count <= 512
    assert record.lengths == [4 * MILLISECOND_NS] * record.count


@pytest.mark.parametrize(("runs", "taken"), [(50, 8), (3, 3)])
def test_past_its_longest_it_takes_eight(runs: int, taken: int, clocked: Callable[..., tuple[Clock, Silent]]) -> None:
    clock, voice = clocked(2000 * MILLISECOND_NS)
    record = runner.Record(clock.invoke)
    runner.repeat(record, "measure", voice, runs, 1.0, 5.0)
    assert record.count == taken


def test_warming_up_ends_when_it_is_steady_and_not_before_its_floor(
    clocked: Callable[..., tuple[Clock, Silent]],
) -> None:
    falling = [MILLISECOND_NS * (400 - number) // 10 for number in range(200)]
    clock, voice = clocked(*falling, 20 * MILLISECOND_NS)
    record = runner.Record(clock.invoke)
    runner.repeat(record, "warm-up", voice, 1, 0.1, 60.0, ready=lambda: runner.steady(record.lengths))
    assert record.count > 200
    assert runner.steady(record.lengths)
    assert record.lengths[-1] == 20 * MILLISECOND_NS
    steady_at_once, voice = clocked(MILLISECOND_NS)
    record = runner.Record(steady_at_once.invoke)
    runner.repeat(record, "warm-up", voice, 1, 0.5, 60.0, ready=lambda: runner.steady(record.lengths))
    assert 0.5 <= spent_s(record) < 0.7


def test_warming_up_gives_up_at_its_longest(clocked: Callable[..., tuple[Clock, Silent]]) -> None:
    clock, voice = clocked(*(MILLISECOND_NS * (10 + number) for number in range(2000)))
    record = runner.Record(clock.invoke)
    runner.repeat(record, "warm-up", voice, 1, 0.1, 3.0, ready=lambda: runner.steady(record.lengths))
    assert 3.0 <= spent_s(record) < 3.2
    assert not runner.steady(record.lengths)


def test_progress_comes_five_times_a_second_and_between_inferences(
    clocked: Callable[..., tuple[Clock, Silent]],
) -> None:
    clock, voice = clocked(7 * MILLISECOND_NS)
    record = runner.Record(clock.invoke)
    runner.repeat(record, "measure", voice, 10, 2.0, 10.0)
    assert 8 <= len(voice.told) <= 11
    assert all(0 < line["done"] <= line["total"] for line in voice.told)
    ends = {start + length for start, length in zip(record.starts, record.lengths, strict=False)}
    assert {line["at_ns"] for line in voice.told} <= ends


def test_looking_around_costs_no_sample(clocked: Callable[..., tuple[Clock, Silent]]) -> None:
    clock, voice = clocked(3 * MILLISECOND_NS)

    def look() -> bool:
        clock.now_ns += 40 * MILLISECOND_NS
        return True

    record = runner.Record(clock.invoke)
    runner.repeat(record, "measure", voice, 60, 0.0, 10.0, look=look)
    assert set(record.lengths) == {3 * MILLISECOND_NS}
    assert clock.runs > record.count  # one unrecorded after each look around


def test_of_very_many_every_second_is_kept(
    clocked: Callable[..., tuple[Clock, Silent]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "KEPT", 64)
    clock, voice = clocked(*range(1, 1001))
    record = runner.Record(clock.invoke)
    while record.every < 4:
        record.add()
    assert record.count <= 64
    steps = {after - before for before, after in itertools.pairwise(record.lengths)}
    assert steps == {4}
    assert voice.told == []
    record = runner.Record(clock.invoke)
    runner.repeat(record, "measure", voice, 500, 0.0, 1.0)  # what is not kept counts as a run all the same
    assert 500 <= record.count * record.every < 1000


@given(st.lists(st.integers(900, 1100), min_size=0, max_size=9))
def test_too_few_are_never_steady(lengths: list[int]) -> None:
    assert not runner.steady(lengths)


@given(st.integers(1_000, 10**10), st.integers(10, 400), st.randoms(use_true_random=False))
def test_noise_around_one_value_is_steady(length: int, count: int, random: Any) -> None:
    assert runner.steady([length + random.randrange(-length // 300, length // 300 + 1) for _ in range(count)])


@given(st.integers(10_000, 10**9), st.integers(16, 400), st.sampled_from((0.97, 1.03)))
def test_what_goes_one_way_is_not_steady(length: int, count: int, factor: float) -> None:
    width = max(5, count // 8)
    lengths = [round(length * factor ** (number * 2 / width)) for number in range(count)]
    assert not runner.steady(lengths)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool"])
def test_seeded_numbers_are_the_same_everywhere_and_of_the_kind(dtype: str) -> None:
    found = runner.seeded((1, 40, 40, 3), np.dtype(dtype))
    assert found.shape == (1, 40, 40, 3)
    assert found.dtype == dtype
    assert np.array_equal(found, runner.seeded((1, 40, 40, 3), np.dtype(dtype)))
    low, high = float(found.min()), float(found.max())
    limits = {"float32": (-1, 1), "float16": (-1, 1), "int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
    least, most = limits.get(dtype, (0, 1))
    assert least <= low <= least + 0.01 * (most - least)
    assert most - 0.01 * (most - least) <= high <= most
    assert len(np.unique(found)) > 1


def test_text_cannot_be_seeded() -> None:
    with pytest.raises(runner.Refused, match="takes text"):
        runner.seeded((1,), np.dtype("S"))


def test_the_profile_of_five_inferences() -> None:
    rows = profiler.parse(SUMMARY.read_text())
    assert len(rows) == 20
    assert all(times == 5 for _, _, times in rows)
    kinds = profiler.by_kind(rows, [0.4] * 5)
    assert kinds[0]["name"] == "Delegate/Convolution (NHWC, QC8) IGEMM"
    assert kinds[0]["count"] == 9
    assert {"AVERAGE_POOL_2D", "SOFTMAX", "Delegate/Add (ND)"} <= {kind["name"] for kind in kinds}
    assert sum(kind["ms"] for kind in kinds) == pytest.approx(sum(ms for _, ms, _ in rows))
    assert [kind["ms"] for kind in kinds] == sorted((kind["ms"] for kind in kinds), reverse=True)


@pytest.mark.parametrize(
    ("rows", "inferences_ms", "why"),
    [
        ([], [1.0], "saw no operation"),
        ([("ADD", 1.0, 1)], [1.0, 1.0], "in 1 of 2 inferences"),
        ([("ADD", 3.0, 2)], [9.0, 9.0], "33%"),
        ([("WHILE", 9.0, 2), ("ADD", 1.0, 16)], [9.0, 9.0], "189%"),
    ],
)
def test_a_profile_that_does_not_add_up_is_none(
    rows: list[tuple[str, float, int]], inferences_ms: list[float], why: str
) -> None:
    with pytest.raises(profiler.NoProfile, match=why):
        profiler.by_kind(rows, inferences_ms)


def test_the_first_example_is_read_without_numpy(tmp_path: Path) -> None:
    feed = np.arange(24, dtype=np.float32).reshape(3, 1, 8)
    np.savez(tmp_path / "feed.npz", **{"input:0": feed, "input:1": feed.astype(np.int8)})  # type: ignore[arg-type]
    assert profiler.first_example(str(tmp_path / "feed.npz"), 0, 32) == feed[0].tobytes()
    assert profiler.first_example(str(tmp_path / "feed.npz"), 1, 8) == bytes(range(8))
    for place, size in ((2, 8), (1, 80)):
        with pytest.raises(profiler.NoProfile):
            profiler.first_example(str(tmp_path / "feed.npz"), place, size)


@pytest.mark.parametrize("program", [runner, profiler])
def test_the_programs_are_python_3_8_and_import_nothing_of_ours(program: Any) -> None:
    tree = ast.parse(Path(program.__file__).read_text(), feature_version=(3, 8))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in names if name.split(".")[0] == "edgeship"]
