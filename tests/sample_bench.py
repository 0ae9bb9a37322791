"""Records such as real benches leave, of every kind there is, for tests of what is made from them."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from typing import Any

from edgeship.measurement import (
    BenchRecord,
    Board,
    Conditions,
    Golden,
    Latency,
    Memory,
    Operator,
    Runtime,
    Snapshot,
)
from edgeship.run import Quality

SHA = "9d0c6a2f7e3b4c158a90f1d2e3c4b5a69788796a5b4c3d2e1f00112233445566"
_OPERATORS = (
    ("CONV_2D", 61.0), ("DEPTHWISE_CONV_2D", 14.0), ("ADD", 6.0), ("FULLY_CONNECTED", 4.0), ("MEAN", 3.0), ("PAD", 2.5),
    ("SOFTMAX", 1.6), ("RESHAPE", 1.1), ("QUANTIZE", 1.0), ("DEQUANTIZE", 0.9), ("MUL", 0.8), ("SUB", 0.7),
    ("LOGISTIC", 0.6), ("MAX_POOL_2D", 0.6), ("AVERAGE_POOL_2D", 0.5), ("CONCATENATION", 0.5), ("TRANSPOSE", 0.4),
    ("STRIDED_SLICE", 0.4), ("RSQRT", 0.3), ("custom:TFLite_Detection_PostProcess", 0.1),
)  # fmt: skip


def board(**changes: Any) -> Board:
    """Return what a Raspberry Pi 4 says of itself."""
    made = Board(
        machine_id="3c5a9d1e7b2f4a608c1d2e3f40516273",
        boot_id="b6a1f2c8-0d3e-4f5a-9b7c-8d9e0f1a2b3c",
        model="Raspberry Pi 4 Model B Rev 1.4",
        system="Debian GNU/Linux 12 (bookworm)",
        kernel="6.6.31+rpt-rpi-v8",
        architecture="aarch64",
        abi="arm64",
        word_bits=64,
        cores=4,
        core_names=("Cortex-A72",) * 4,
        features=("fp", "asimd", "evtstrm", "crc32", "cpuid"),
        memory_mib=3794,
        free_mib=21_904,
        page_bytes=4096,
        libc="glibc 2.36",
        python="3.11.2",
        runtimes={"ai-edge-litert": "2.3.0", "numpy": "2.2.6"},
        governor="ondemand",
        clock_mhz=1800.0,
    )
    return dataclasses.replace(made, **changes)


def snapshot(at_s: float, **changes: Any) -> Snapshot:
    """Return the conditions of a calm Raspberry Pi 4 at a moment."""
    made = Snapshot(
        at_s=at_s,
        wall_s=1_795_320_000 + at_s,
        clock_mhz=(1800.0,) * 4,
        governor=("performance",) * 4,
        temperature_c={"cpu-thermal": 52.1},
        throttled=0,
        load=0.12,
        swapped_pages=0,
        swap_used_kib=0,
        available_kib=3_421_004,
    )
    return dataclasses.replace(made, **changes)


def latency(samples_ms: tuple[float, ...]) -> Latency:
    """Return the figures of raw samples, with an interval about as wide as a bootstrap would give."""
    ordered = sorted(samples_ms)
    runs, mean = len(ordered), statistics.fmean(ordered)
    p50, spread = statistics.median(ordered), statistics.pstdev(ordered)
    half = 1.96 * 1.25 * spread / math.sqrt(runs)
    return Latency(
        mean=mean,
        p50=p50,
        p90=ordered[int(0.9 * runs)] if runs >= 64 else None,
        p99=ordered[int(0.99 * runs)] if runs >= 662 else None,
        min=ordered[0],
        max=ordered[-1],
        cv=spread / mean,
        ci95=(max(p50 - half, ordered[0]), p50 + half),
        runs=runs,
    )


def record(**changes: Any) -> BenchRecord:
    """Return a calm, valid bench of ResNet8 on a Raspberry Pi 4, with some fields replaced."""
    chance = random.Random(4)
    samples = tuple(round(31.2 + chance.gauss(0, 0.11) + chance.expovariate(4), 6) for _ in range(1024))
    starts, end_s = _starts(samples)
    during = tuple(snapshot(100.0 + second, temperature_c=_warmth(second)) for second in range(int(end_s)))
    conditions = Conditions(
        board=board(),
        before=snapshot(97.0, governor=("ondemand",) * 4, clock_mhz=(600.0,) * 4),
        during=during,
        after=snapshot(100.0 + end_s, temperature_c=_warmth(end_s)),
        threads=4,
        cpus=(0, 1, 2, 3),
        batch=1,
    )
    made = BenchRecord(
        device="kitchen",
        target="rpi4",
        transport="ssh",
        simulated=False,
        artifact_sha256=SHA,
        runtime=Runtime("ai-edge-litert", "2.3.0", "XNNPACK, whole graph"),
        latency_ms=latency(samples),
        samples_ms=samples,
        init_ms=4.712,
        first_inference_ms=38.04,
        memory=Memory(21.6, 3.9, "VmHWM, RssAnon and Pss of /proc/self", 12.2, 18.4, 17.7),
        operators=_operators(31.2),
        golden=Golden(16, 0.00390625, 1, True),
        quality=None,
        conditions=conditions,
        valid=True,
        reasons=(),
        doubts=(),
        starts_ms=starts,
        warmup_ms=tuple(31.4 for _ in range(40)),
        artifact="build/resnet8/rpi4/int8/model.tflite",
        edgeship="1.0.0",
        made="2026-11-22T04:12:09+00:00",
    )
    return dataclasses.replace(made, **changes)


def throttled() -> BenchRecord:
    """Return a run that got hot: clocks fell, bits came on, latency grew; not valid, and it says why."""
    chance = random.Random(7)
    samples = tuple(
        (31.2 if index < 500 else 31.2 + 14.0 * min((index - 500) / 300, 1)) + chance.expovariate(3)
        for index in range(1400)
    )
    starts, end_s = _starts(samples)
    hot = tuple(
        snapshot(
            400.0 + second,
            temperature_c={"cpu-thermal": min(61 + 1.3 * second, 84.2), "rp1_adc": 55.0},
            clock_mhz=(1800.0,) * 4 if second < 17 else (1000.0, 1200.0, 1200.0, 1200.0),
            throttled=0 if second < 17 else 0xE0008,
            load=1.4,
        )
        for second in range(int(end_s))
    )
    made = record()
    before = snapshot(396.0, temperature_c={"cpu-thermal": 60.8, "rp1_adc": 54.0})
    conditions = dataclasses.replace(made.conditions, before=before, during=hot, after=hot[-1])
    return record(
        device="attic",
        samples_ms=samples,
        starts_ms=starts,
        latency_ms=latency(samples),
        conditions=conditions,
        valid=False,
        reasons=("throttled: the soft temperature limit was active from second 17",),
        doubts=("latency drifted by 44 % in the run", "bimodal: modes at 31.4 and 45.3 ms", "cv 18 %"),
        quality=Quality("top1", 0.7624, 0.7611, 0.0013, 0.015, 2_000, False, True),
    )


def counted() -> BenchRecord:
    """Return a run on a virtual board whose clock counts instructions: it repeats, and is simulated."""
    chance = random.Random(1)
    samples = tuple(4.330112 + 0.000016 * chance.randrange(12) for _ in range(128))
    starts, end_s = _starts(samples)
    conditions = Conditions(
        board=board(model="QEMU virt, cortex-a72", governor=None, clock_mhz=None, kernel="6.1.0-41-arm64", libc="glibc 2.36"),
        before=_silent(10.0),
        during=(),
        after=_silent(10.0 + end_s),
        threads=1,
        cpus=(),
        batch=1,
        counted=True,
        unmodelled=("caches and memory latency", "the pipeline and its branch predictor", "more than one core"),
    )  # fmt: skip
    return record(
        device="virtual:rpi4",
        transport="virtual",
        simulated=True,
        samples_ms=samples,
        starts_ms=starts,
        latency_ms=latency(samples),
        operators=_operators(4.33),
        conditions=conditions,
        init_ms=1.204,
        first_inference_ms=4.611,
    )


def aggregates() -> BenchRecord:
    """Return what benchmark_model on a phone gives: no raw samples, no percentiles, no interval."""
    phone = board(
        model="Pixel 4", system="Android 13", kernel="4.14.276-g8ae7b4ca8564", libc="bionic", python=None, runtimes={},
        abi="arm64-v8a", cores=8, core_names=("Kryo 485",) * 8, governor="schedutil", serial="9B131FFAZ004X4",
    )  # fmt: skip
    warm = {"cpu-0-0-usr": 41.2, "skin": 33.8, "battery": 31.0}
    battery = {"level": 87, "temperature_c": 31.0, "status": "discharging"}
    before = snapshot(
        5.0, throttled=None, thermal_status=0, temperature_c=warm, battery=battery, governor=("schedutil",)
    )
    after = dataclasses.replace(before, at_s=12.0, thermal_status=2, temperature_c={name: each + 6 for name, each in warm.items()})  # fmt: skip
    return record(
        device="phone",
        target="android-arm64",
        transport="adb",
        runtime=Runtime("benchmark_model", None, "XNNPACK, 3 of 31 operations on plain kernels"),
        latency_ms=Latency(3.214, 3.201, None, None, 3.102, 6.871, 0.061, None, 312),
        samples_ms=None,
        starts_ms=None,
        warmup_ms=(),
        operators=None,
        memory=Memory(14.0, None, "ru_maxrss, a high-water mark that benchmark_model samples"),
        conditions=Conditions(phone, before, (), after, 4, (4, 5, 6, 7), 1),
        doubts=("benchmark_model keeps aggregates only: no samples, no percentiles, no interval",),
    )


def mean_only() -> BenchRecord:
    """Return what the tersest tool prints: a mean and a count, nothing else."""
    told: dict[str, Any] = {"p50": None, "min": None, "max": None, "cv": None}
    made = aggregates()
    return dataclasses.replace(made, latency_ms=Latency(**told, mean=1.929, p90=None, p99=None, ci95=None, runs=50))


def garbage() -> BenchRecord:
    """Return a run whose outputs are not the host's; the old runtime computed what is no number."""
    return record(
        device="cellar",
        target="rpi3",
        runtime=Runtime("tflite-runtime", "2.14.0"),
        golden=Golden(16, math.nan, None, False, "4 of 16 outputs are not numbers"),
        memory=None,
        operators=None,
        init_ms=None,
        first_inference_ms=None,
    )


def every() -> tuple[BenchRecord, ...]:
    """Return one record of each kind."""
    return record(), throttled(), counted(), aggregates(), garbage()


def _starts(samples_ms: tuple[float, ...]) -> tuple[tuple[float, ...], float]:
    """Return when each sample began, a little after the one before, and the seconds they took together."""
    at, starts = 0.0, []
    for sample in samples_ms:
        starts.append(round(at, 6))
        at += sample + 0.02
    return tuple(starts), at / 1e3


def _warmth(second: float) -> dict[str, float]:
    return {"cpu-thermal": round(52.1 + 9 * (1 - math.exp(-second / 12)), 1)}


def _operators(whole_ms: float) -> tuple[Operator, ...]:
    every_share = sum(share for _, share in _OPERATORS)
    return tuple(Operator(name, whole_ms * share / every_share, share / every_share) for name, share in _OPERATORS)


def _silent(at_s: float) -> Snapshot:
    """Return what a board says that has no sensors."""
    return Snapshot(at_s=at_s, wall_s=1_795_320_000 + at_s, load=0.4, swapped_pages=0, swap_used_kib=0)
