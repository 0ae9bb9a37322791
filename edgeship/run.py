"""What commands leave behind: the records that `--json`, the manifest and the report are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeship.artifact import Advice, Complexity, LayerError, Roofline, TensorSpec, WeightHistogram
from edgeship.compilation import Compilation, GateVerdict, PlainFile
from edgeship.run_edgetpu import CompiledFile, Forecast


@dataclass(frozen=True)
class Quality:
    """A metric on the reference and on the artifact, over the same examples; `drop` > 0 is always worse."""

    metric: str
    reference: float
    got: float
    drop: float
    budget: float | None
    examples: int
    synthetic: bool
    passed: bool
    sqnr_db: float | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class ImportCheck:
    """How the reference was held against the source's own runtime; errors over all outputs, relative to their range."""

    checked_against: str
    max_abs_error: float
    relative_error: float
    tolerance: float
    examples: int


@dataclass(frozen=True)
class StageRun:
    """One stage of a build: whether it ran, why, how long it took when it ran, and with which tools."""

    stage: str
    outcome: str
    why: str
    seconds: float
    tools: Mapping[str, str]


@dataclass(frozen=True)
class QuantizedShare:
    """What the quantizer really did: operations touched of all, and the share of weights."""

    operators: int
    of: int
    weight_share: float
    untouched: Mapping[str, int]


@dataclass(frozen=True)
class Port:
    """An input or output as an app sees it: what to feed, and how real values map to stored ones."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    preprocessing: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TrainingSummary:
    """What fine-tuning did: one row a technique and epoch, and what each layer reached."""

    history: tuple[Mapping[str, Any], ...]
    layers: tuple[Mapping[str, Any], ...]
    learning_rate: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class BuildRecord:
    """Everything about one build. The keys of `--json` come first; see the command line's contract.

    Where a chip's compiler ran, the artifact is the file it made, and `uncompiled` the one that figures, layers and
    quality are of. `forecast` is what was to be expected of it, said without the compiler.
    """

    artifact: str
    sha256: str
    target: str
    recipe: str
    size_bytes: int
    gzip_bytes: int
    reference_size_bytes: int
    quality: Quality
    import_check: ImportCheck
    stages: tuple[StageRun, ...]
    quantized: QuantizedShare
    sparsity: float
    warnings: tuple[str, ...]
    manifest: str
    report: str
    model: str
    source: str
    source_format: str
    recipe_summary: str
    target_summary: str
    reference_gzip_bytes: int
    input_hashes: Mapping[str, str]
    options: Mapping[str, Any]
    notes: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    labels: tuple[str, ...]
    reference_complexity: Complexity
    complexity: Complexity
    roofline: Roofline | None
    reference_roofline: Roofline | None
    layers: tuple[LayerError, ...]
    histograms: tuple[WeightHistogram, ...]
    advice: tuple[Advice, ...]
    training: TrainingSummary | None
    edgeship: str
    made: str
    uncompiled: PlainFile | None = None
    compiler: Compilation | None = None
    forecast: Forecast | None = None
    gates: tuple[GateVerdict, ...] = ()

    @property
    def passed(self) -> bool:
        """Say whether the verdict is positive: the quality within its budget, and no gate broken by what was compiled."""
        return self.quality.passed and all(gate.passed for gate in self.gates if gate.seen_by == "compiler")


@dataclass(frozen=True)
class Comparison:
    """The answer: quality of `b` by `a`, and the error of each operation that both have, worst first."""

    a: str
    b: str
    a_sha256: str
    b_sha256: str
    quality: Quality
    layers: tuple[LayerError, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """A model seen from outside; sizes are of the file the user gave, figures of its TFLite form.

    `compiled` is what an Edge TPU's file holds; `segments` are all files of a model that was cut, when they lie side by side.
    """

    model: str
    format: str
    parameters: int
    macs: int
    size_bytes: int
    sparsity: float
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    weight_types: Mapping[str, int]
    quantized: str | None
    peak_activation_bytes: int
    bytes_moved: int
    target: Mapping[str, Any] | None
    compiled: CompiledFile | None = None
    segments: tuple[CompiledFile, ...] = ()


@dataclass(frozen=True)
class Tool:
    """A package: its version or None, the part of edgeship it belongs to, and the command that brings it when missing."""

    name: str
    part: str
    version: str | None
    install: str | None


@dataclass(frozen=True)
class Checkup:
    """The state of this installation. `ready` says which parts are whole."""

    edgeship: str
    python: str
    machine: str
    cores: int
    store: str
    store_writable: bool
    free_bytes: int
    ready: dict[str, bool]
    tools: tuple[Tool, ...]
