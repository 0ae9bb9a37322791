"""What is known of a model on an Edge TPU: the records behind `edgeship edgetpu`, `inspect` and a build's report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Confidence = Literal["certain", "likely", "unknown"]
CONFIDENCE: tuple[Confidence, ...] = ("certain", "likely", "unknown")
Device = Literal["edgetpu", "cpu"]


@dataclass(frozen=True)
class Placement:
    """Where one operation is forecast to run, and why.

    `rule` is the condition or rule that decided, `source` where that is known from; `behind` is the index of the operation that
    keeps this one on the CPU, None where it stays there for a reason of its own or does not stay.
    """

    index: int
    name: str
    on: Device
    reason: str
    confidence: Confidence
    rule: str
    source: str
    behind: int | None = None
    cure: str | None = None


@dataclass(frozen=True)
class Forecast:
    """What the compiler is expected to make of a file. The keys of `edgeship edgetpu --json` come first.

    Attributes:
        operators: one entry an operation, in file order.
        edgetpu_share: operations on the Edge TPU of all.
        subgraphs: how many custom operations the compiler makes.
        cpu_operators: what stays on the CPU, by name.
        parameter_bytes: constants of the operations on the Edge TPU, as they stand in the file.
        fits_on_chip: whether these are cached there: False when more than the chip has, True when they fit beside the largest sum of
            activations, None in between or without a chip.
        suggestions: what to change, the change that frees most first.
        compiler: what the compiler itself said, None where it is not installed.
        mac_share: multiply-accumulates on the Edge TPU of all.
        possible_subgraphs: Edge TPU parts that the compiler would make with several subgraphs allowed.
        refused: why the compiler would not read the file at all, or None.
    """

    operators: tuple[Placement, ...]
    edgetpu_share: float
    subgraphs: int
    cpu_operators: Mapping[str, int]
    parameter_bytes: int
    fits_on_chip: bool | None
    suggestions: tuple[str, ...]
    compiler: Mapping[str, Any] | None
    mac_share: float
    possible_subgraphs: int
    runtime: int
    refused: str | None


@dataclass(frozen=True)
class Executable:
    """One program inside a compiled file. Parameters are uploaded once (`caching`) or at every inference (the other kinds)."""

    kind: Literal["stand-alone", "caching", "execution"]
    chip: str
    instruction_bytes: int
    parameter_bytes: int
    scratch_bytes: int
    size_bytes: int


@dataclass(frozen=True)
class Package:
    """What one edgetpu-custom-op holds: its programs, and the oldest runtime that runs them; None where it cannot be read."""

    operator: int
    size_bytes: int
    min_runtime: int | None
    compiler: str | None
    executables: tuple[Executable, ...]
    cached_bytes: int | None
    streamed_bytes: int | None


@dataclass(frozen=True)
class Segment:
    """Which piece of a model that was cut for several Edge TPUs: `number` counts from 0, as the file's name does.

    `missing` names the other pieces that are not in the same folder.
    """

    stem: str
    number: int
    of: int
    missing: tuple[str, ...]


@dataclass(frozen=True)
class CompiledFile:
    """A file that the compiler wrote, as far as it can be read.

    `cpu_operators` is what it left outside of its custom operations, by name.
    """

    path: str
    size_bytes: int
    packages: tuple[Package, ...]
    cpu_operators: Mapping[str, int]
    cached_bytes: int | None
    streamed_bytes: int | None
    instruction_bytes: int | None
    min_runtime: int | None
    segment: Segment | None


def weakest(*found: Confidence) -> Confidence:
    """Return the least sure of several confidences, `certain` of none."""
    return max(found, key=CONFIDENCE.index, default="certain")
