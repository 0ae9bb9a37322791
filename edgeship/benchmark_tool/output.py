"""Reads what TFLite's benchmark_model prints, in its three dialects.

The dialects, by their last line: "Average inference timings in us" (until 2020), "Inference timings in us" (since), and
the "BENCHMARK RESULTS" block in milliseconds of LiteRT's own build. All print a `count=` line for the warm-up and one
for the timed run, in whole microseconds; that line is taken before the rounded summaries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Dialect = Literal["average", "inference", "results"]
_NUMBER = r"-?(?:[0-9]+\.?[0-9]*(?:e[-+]?[0-9]+)?|nan|inf)"
_COUNT = re.compile(r"\bcount=([0-9]+)\b(.*)")
_FIELD = re.compile(rf"\b(first|curr|min|max|avg|std|p5|median|p95)=({_NUMBER})")
_UNCONSUMED = re.compile(r"Unconsumed cmdline flags:(.*)")
_SESSION = re.compile(rf"Initialized session in ({_NUMBER})ms")
_INFERENCE = re.compile(
    rf"Inference timings in us: Init: ({_NUMBER}), First inference: ({_NUMBER}), "
    rf"Warmup \(avg\): ({_NUMBER}), Inference \(avg\): ({_NUMBER})"
)
_AVERAGE = re.compile(
    rf"Average inference timings in us: Warmup: ({_NUMBER}), (?:Init: ({_NUMBER}), )?(?:Inference|no stats): ({_NUMBER})"
)
_RESULT = re.compile(
    rf"(Model initialization|Warmup \((?:first|avg)\)|Inference \(\w+\)):\s+({_NUMBER})(?: ms)?(?: \(([0-9]+) runs\))?"
)
_APPLIED = re.compile(r"Explicitly applied (.+?) delegate, and the model graph will be (completely|partially)")
_NOT_USED = re.compile(r"Though (.+?) delegate is explicitly applied, the model graph will not be executed")
_REPLACING = re.compile(
    r"Replacing ([0-9]+)(?: out of ([0-9]+))? node\(s\) with delegate \((.+?)\) node, yielding ([0-9]+) part"
)
_ON_CPU = re.compile(r"([0-9]+) operations will run on the GPU, and the remaining ([0-9]+)")
_XNNPACK = re.compile(r"Created TensorFlow Lite XNNPACK delegate for CPU")
_NO_GPU = re.compile(r"GPU acceleration is unsupported on this platform")
_COMPLAINT = re.compile(
    r"ERROR: *(.+)|(Failed to .+|.*Please specify .+|.* should be .+|.*CANNOT LINK .+|.*error while loading .+)"
)


_LABELS = {
    "XNNPACK": ("XNNPACK",), "GPU": ("GPU", "LITERT_CL", "ML_DRIFT", "METAL"), "NNAPI": ("NNAPI",),
    "EXTERNAL": ("EXTERNAL",),
}  # fmt: skip


@dataclass(frozen=True)
class Runs:
    """One `count=` line, in milliseconds. Percentiles are None in builds that print none."""

    runs: int
    mean_ms: float
    min_ms: float
    max_ms: float
    std_ms: float
    first_ms: float
    p5_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None


@dataclass(frozen=True)
class Delegation:
    """What one delegate took: `replaced` of `of` nodes in `partitions` pieces, as far as the tool says so."""

    name: str
    extent: Literal["all", "part", "none"] | None
    replaced: int | None = None
    of: int | None = None
    partitions: int | None = None


@dataclass(frozen=True)
class Output:
    """Everything read from the text of one run; what it does not say is None or empty.

    Attributes:
        rounded: the timed run is known only from the block that rounds to 0.01 ms.
        unconsumed: names of flags that the tool did not know, without dashes.
        on_cpu: operations that a GPU delegate left to the CPU.
    """

    dialect: Dialect | None
    init_ms: float | None
    first_ms: float | None
    warmup: Runs | None
    timed: Runs | None
    rounded: bool
    unconsumed: tuple[str, ...]
    delegations: tuple[Delegation, ...]
    on_cpu: int | None
    gpu_unsupported: bool
    complaint: str | None


def read(text: str) -> Output:
    """Return what a run of benchmark_model said, in whichever dialect, also with a logcat's prefixes."""
    counts = _counts(text)
    inference, average = _INFERENCE.search(text), _AVERAGE.search(text)
    block = _block(text)
    warmup = counts[0] if counts else None
    timed = counts[1] if len(counts) > 1 else _timed_of(block)
    on_cpu = _ON_CPU.search(text)
    return Output(
        dialect="results" if block else "inference" if inference else "average" if average else None,
        init_ms=_init_ms(text, inference, average, block),
        first_ms=_first_ms(inference, warmup or (timed if counts else None), block),
        warmup=warmup,
        timed=timed,
        rounded=len(counts) < 2 and timed is not None,
        unconsumed=_unconsumed(text),
        delegations=_delegations(text),
        on_cpu=int(on_cpu[2]) if on_cpu else None,
        gpu_unsupported=_NO_GPU.search(text) is not None,
        complaint=_complaint(text),
    )


def _counts(text: str) -> list[Runs | None]:
    """Return what the `count=` lines say, in their order; None for a series that was not run at all."""
    lines = [line for line in text.splitlines() if "Timings (" not in line and "Memory (" not in line]
    return [_runs(int(found[1]), found[2]) for line in lines if (found := _COUNT.search(line))]


def _runs(runs: int, rest: str) -> Runs | None:
    if runs == 0:
        return None
    said = {name: round(float(value) / 1000, 7) for name, value in _FIELD.findall(rest)}
    only = said.get("curr", 0.0)  # equal values, or a single one, are printed as `curr` alone
    return Runs(
        runs=runs,
        mean_ms=said.get("avg", only),
        min_ms=said.get("min", only),
        max_ms=said.get("max", only),
        std_ms=said.get("std", 0.0),
        first_ms=said.get("first", only),
        p5_ms=said.get("p5"),
        p50_ms=said.get("median", only if "avg" not in said else None),
        p95_ms=said.get("p95"),
    )


def _block(text: str) -> dict[str, tuple[float, int | None]]:
    """Return the lines of the BENCHMARK RESULTS block: label → milliseconds and runs."""
    _, mark, after = text.partition("BENCHMARK RESULTS ==")
    if not mark:
        return {}
    return {label: (float(value), int(runs) if runs else None) for label, value, runs in _RESULT.findall(after)}


def _timed_of(block: Mapping[str, tuple[float, int | None]]) -> Runs | None:
    if "Inference (avg)" not in block:
        return None
    mean, runs = block["Inference (avg)"]

    def value(name: str) -> float:
        return block.get(f"Inference ({name})", (mean, None))[0]

    spread = block.get("Inference (std)", (0.0, None))[0]
    return Runs(runs or 1, mean, value("min"), value("max"), spread, mean)


def _init_ms(
    text: str,
    inference: re.Match[str] | None,
    average: re.Match[str] | None,
    block: Mapping[str, tuple[float, int | None]],
) -> float | None:
    if inference:
        return float(inference[1]) / 1000
    if found := _SESSION.search(text):
        return float(found[1])
    if average and average[2]:
        return float(average[2]) / 1000
    return block["Model initialization"][0] if "Model initialization" in block else None


def _first_ms(
    inference: re.Match[str] | None, earliest: Runs | None, block: Mapping[str, tuple[float, int | None]]
) -> float | None:
    if earliest:
        return earliest.first_ms
    if inference:
        return float(inference[2]) / 1000
    return block["Warmup (first)"][0] if "Warmup (first)" in block else None


def _unconsumed(text: str) -> tuple[str, ...]:
    words = [word for line in _UNCONSUMED.findall(text) for word in line.split()]
    return tuple(word.lstrip("-").partition("=")[0] for word in words if word.startswith("-"))


def _complaint(text: str) -> str | None:
    """Return the last line in which it said what went wrong."""
    found = [match[1] or match[2] for line in text.splitlines() if (match := _COMPLAINT.search(line))]
    return found[-1].strip()[:300] if found else None


def _delegations(text: str) -> tuple[Delegation, ...]:
    told: dict[str, Delegation] = {}
    for replaced, of, name, partitions in _REPLACING.findall(text):
        label = _label(name)
        before = told.get(label)
        if before is None or int(replaced) > (before.replaced or 0):  # later ones are subgraphs, or what was left
            nodes = int(of) if of else None
            extent: Literal["all", "part"] | None = (
                None if nodes is None else "all" if nodes == int(replaced) else "part"
            )
            told[label] = Delegation(label, extent, int(replaced), nodes, int(partitions))
    for name, extent_word in _APPLIED.findall(text):
        label = _label(name)
        before = told.get(label) or Delegation(label, None)
        word: Literal["all", "part"] = "all" if extent_word == "completely" else "part"
        told[label] = Delegation(label, word, before.replaced, before.of, before.partitions)
    for name in _NOT_USED.findall(text):
        told[_label(name)] = Delegation(_label(name), "none")
    if "XNNPACK" not in told and _XNNPACK.search(text):
        told["XNNPACK"] = Delegation("XNNPACK", None)
    return tuple(told.values())


def _label(name: str) -> str:
    """Return one name for a delegate, which the tool and the runtimes call differently (LITERT_CL, ML_DRIFT_CL: GPU)."""
    spelled = name.upper()
    for label, marks in _LABELS.items():
        if any(mark in spelled for mark in marks):
            return label
    return name


def in_words(output: Output) -> str | None:
    """Say what ran the model, in one line; None when the tool said nothing of delegates."""
    parts = []
    for one in output.delegations:
        if one.extent == "none":
            parts.append(f"{one.name}: nothing, the CPU ran it all")
        elif one.replaced is not None and one.of is not None:
            pieces = f" in {one.partitions} partitions" if (one.partitions or 1) > 1 else ""
            parts.append(f"{one.name}: {one.replaced} of {one.of} operations{pieces}")
        else:
            parts.append(
                f"{one.name}: {'all operations' if one.extent == 'all' else 'some operations'}"
                if one.extent
                else one.name
            )
    return "; ".join(parts) or None


def fallback(output: Output, wanted: str) -> str | None:
    """Say how much of the model the CPU ran although another delegate was asked for; None when none of it.

    Args:
        wanted: the delegate's label: `GPU`, `EXTERNAL`, ….
    """
    mine = next((one for one in output.delegations if one.name == wanted), None)
    if wanted == "EXTERNAL" and mine is not None and mine.extent != "none":  # its own name stands beside its figures
        mine = next((one for one in output.delegations if one.name not in _LABELS and one.of is not None), mine)
    if output.gpu_unsupported and wanted == "GPU":
        return "this build has no GPU delegate for this platform: the CPU ran all of the model"
    if mine is None or mine.extent == "none":
        return f"the {wanted} delegate took nothing: the CPU ran all of the model"
    left = mine.of - mine.replaced if mine.of is not None and mine.replaced is not None else output.on_cpu
    if left:
        return f"the {wanted} delegate left {left} operation{'s' if left > 1 else ''} to the CPU"
    return f"the {wanted} delegate took only a part: the CPU ran the rest" if mine.extent == "part" else None
