"""What a chip's compiler is asked and what it made: plain records, kept with the build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

COMPILED = "model_edgetpu.tflite"  # in a build's folder, beside the file that was compiled


@dataclass(frozen=True)
class Program:
    """A compiler that is installed. `stand_in` is one of ours, which talks like the original and makes no chip's code."""

    name: str
    path: str
    version: str
    sha256: str
    stand_in: bool = False


@dataclass(frozen=True)
class Source:
    """A model to compile, and what the user knows it by."""

    path: Path
    name: str


@dataclass(frozen=True)
class CompileOrder:
    """What to compile: several models share the chip's memory in the order given; segments are for as many chips.

    Attributes:
        sources: quantized TFLite files.
        segments: into how many pieces each is cut.
        min_runtime: the oldest runtime of the chip that has to take the result, by its own number.
        timeout_s: seconds that the compiler may take for one piece.
        several_subgraphs: it may make several parts for the chip, where it would stop after the first.
    """

    sources: tuple[Source, ...]
    segments: int = 1
    min_runtime: int | None = None
    timeout_s: float = 180.0
    several_subgraphs: bool = False


@dataclass(frozen=True)
class OperatorStatus:
    """A line of the compiler's table, with what it means and what to do where that is known."""

    name: str
    count: int
    status: str
    mapped: bool
    meaning: str | None = None
    suggestion: str | None = None


@dataclass(frozen=True)
class CompiledPart:
    """One compiled file: a whole model, or segment `segment` of `of`. What the compiler did not say is None.

    `cpu_operators` are counted in the file itself: what stands outside of the chip's own operation.
    """

    model: str
    segment: int
    of: int
    file: str
    size_bytes: int
    chip_operators: int | None
    cpu_operators: Mapping[str, int]
    cached_bytes: int | None
    remaining_bytes: int | None
    streamed_bytes: int | None
    subgraphs: int | None
    compile_ms: int | None
    statuses: tuple[OperatorStatus, ...]

    @property
    def parameter_bytes(self) -> int | None:
        """Return the weights' bytes as the chip holds or streams them."""
        if self.cached_bytes is None or self.streamed_bytes is None:
            return None
        return self.cached_bytes + self.streamed_bytes


@dataclass(frozen=True)
class Compilation:
    """What a compiler made, in the order asked: every model, and every segment of it."""

    compiler: str
    version: str
    stand_in: bool
    min_runtime: int | None
    parts: tuple[CompiledPart, ...]
    remarks: tuple[str, ...] = ()

    @property
    def streamed_bytes(self) -> int | None:
        """Return the bytes of weights that are fetched at every inference, over all parts."""
        return _sum([part.streamed_bytes for part in self.parts])

    @property
    def chip_operators(self) -> int | None:
        """Return the operations that the chip runs, over all parts."""
        return _sum([part.chip_operators for part in self.parts])

    @property
    def cpu_operators(self) -> dict[str, int]:
        """Return what stays on the CPU, by name, over all parts."""
        found: dict[str, int] = {}
        for part in self.parts:
            for name, count in part.cpu_operators.items():
                found[name] = found.get(name, 0) + count
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class CompiledFiles:
    """What a compiler made, and where its files were left: nowhere unless a folder was named."""

    made: Compilation
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class PlainFile:
    """The file that was compiled: the same model for any TFLite runtime, and what this machine holds a chip's answer against."""

    artifact: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class GateVerdict:
    """A limit of the target's held against what was made, or is forecast; `got` is None where no number is known."""

    gate: str
    limit: int
    got: int | None
    passed: bool
    seen_by: Literal["compiler", "forecast"]


def contract(made: Compilation) -> dict[str, Any]:
    """Return what `--json` says of a compilation: its sums first, then each part."""
    sums = {
        "edgetpu_operators": made.chip_operators, "cpu_operators": made.cpu_operators,
        "streamed_bytes": made.streamed_bytes,
    }  # fmt: skip
    table = asdict(made)
    parts = table.pop("parts")
    weights = [part.parameter_bytes for part in made.parts]
    total = _sum(weights)
    for part, own in zip(parts, weights, strict=True):
        part["parameter_bytes"] = own
        part["parameter_share"] = None if own is None or not total else own / total
    return {"name": table.pop("compiler"), "version": table.pop("version"), **sums, **table, "parts": parts}


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
