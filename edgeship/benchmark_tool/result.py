"""The figures of one run of benchmark_model: its binary result file where the build writes one, else what it printed."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgeship.benchmark_tool.output import Output, Runs
from edgeship.measurement import Samples

_LATENCY = ("mean", "min", "max", "std", "p50", "p5", "p95", "init", "first", "warmup_mean")


@dataclass(frozen=True)
class ResultFile:
    """The figures of `--result_file_path`: `latency_ms` by name, and the numbers of runs."""

    latency_ms: Mapping[str, float]
    runs: int
    warmup_runs: int | None


def result_file(content: bytes) -> ResultFile:
    """Return a binary `tflite.tools.benchmark.BenchmarkResult` (benchmark_result.proto, 2025).

    Raises:
        ValueError: it is cut short, or not such a message.
    """
    parts: dict[int, bytes] = {}
    for number, value in _message(content):
        if number in (2, 3, 4) and isinstance(value, bytes):
            parts[number] = value
    latency: dict[str, float] = {}
    for number, value in _message(parts.get(2, b"")):
        if 1 <= number <= len(_LATENCY) and isinstance(value, float):
            latency[_LATENCY[number - 1]] = value
    counts = {number: value for number, value in _message(parts.get(4, b"")) if isinstance(value, int)}
    if "mean" not in latency or 2 not in counts:
        raise ValueError("the result file lacks the latency or the number of runs")
    return ResultFile(latency, counts[2], counts.get(3))


def _message(content: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Give the fields of a protobuf message: its number, and a float, an integer or bytes by its wire type."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, at = _varint(content, at)
        if size is None or at + size > len(content):
            raise ValueError("the result file is damaged")
        piece, at = content[at : at + size], at + size
        yield key >> 3, piece if kind == 2 else struct.unpack("<f" if kind == 5 else "<d", piece)[0]


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content) and shift < 64:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("the result file is damaged")


@dataclass(frozen=True)
class Timed:
    """One timed run: its text, its figures, and what is odd about them."""

    said: Output
    samples: Samples
    doubts: tuple[str, ...]


def timed(said: Output, content: bytes) -> Timed | None:
    """Return the figures of a run, the result file's before the printed ones; None when there are none.

    Args:
        said: what the run printed.
        content: its result file, empty where the build writes none.
    """
    doubts = []
    file = None
    try:
        file = result_file(content) if content else None
    except ValueError as fault:
        doubts.append(f"{fault}: the printed figures are used")
    if file is None and said.timed is None:
        return None
    figures = {**(_printed(said.timed) if said.timed else {}), **(file.latency_ms if file else {})}
    if said.timed and abs(figures["mean"] - said.timed.mean_ms) > 0.02 * said.timed.mean_ms + 0.01:
        doubts.append(f"the result file says {figures['mean']:.3f} ms on average, the text {said.timed.mean_ms:.3f}")
    init_ms, first_ms = figures.pop("init", said.init_ms), figures.pop("first", said.first_ms)
    figures.pop("warmup_mean", None)
    figures["runs"] = float(file.runs if file else said.timed.runs if said.timed else 0)
    samples = Samples(
        init_ns=None if init_ms is None else round(init_ms * 1e6),
        first_ns=None if first_ms is None else round(first_ms * 1e6),
        warmup_ns=(),
        samples_ns=None,
        starts_ns=None,
        steady=_steady(said.warmup, said.timed),
        aggregate_ms=figures,
    )
    return Timed(said, samples, tuple(doubts))


def _printed(runs: Runs) -> dict[str, float]:
    values = {
        "mean": runs.mean_ms, "min": runs.min_ms, "max": runs.max_ms, "std": runs.std_ms,
        "p5": runs.p5_ms, "p50": runs.p50_ms, "p95": runs.p95_ms,
    }  # fmt: skip
    return {name: value for name, value in values.items() if value is not None}


def _steady(warm: Runs | None, timed: Runs | None) -> bool:
    """Say whether the warm-up, its first inference apart, ran as the timed run did: all that aggregates can tell."""
    if warm is None or timed is None or warm.runs < 2:
        return False
    later_ms = (warm.mean_ms * warm.runs - warm.first_ms) / (warm.runs - 1)
    return abs(later_ms - timed.mean_ms) <= max(0.1 * timed.mean_ms, 2 * timed.std_ms / math.sqrt(warm.runs))
