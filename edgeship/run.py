"""What a build leaves behind: the record that `--json`, the manifest and the report are all made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeship.artifact import Advice, Complexity, LayerError, Roofline, WeightHistogram


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
    """Everything about one build. The keys of `--json` come first; see the command line's contract."""

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
