"""From a finished build to its record, and from the record to the JSON that users and scripts read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from edgeship.artifact import TensorSpec
from edgeship.examples import Preparation, preparation_of
from edgeship.flatbuffer import Graph
from edgeship.quantized import Coverage
from edgeship.run import BuildRecord, Port, QuantizedShare, StageRun, TrainingSummary
from edgeship.store import Done
from edgeship.training import Trained

# The keys of `edgeship build --json`, in the contract's order; the manifest holds the rest too.
CONTRACT = (
    "artifact", "sha256", "target", "recipe", "size_bytes", "gzip_bytes", "reference_size_bytes", "quality", "import",
    "stages", "quantized", "sparsity", "warnings", "manifest", "report",
)  # fmt: skip


def manifest(record: BuildRecord) -> dict[str, Any]:
    """Return the whole record as JSON values, the contract's keys first."""
    table = asdict(record)
    table["import"] = table.pop("import_check")
    return {key: table[key] for key in (*CONTRACT, *(key for key in table if key not in CONTRACT))}


def contract(record: BuildRecord) -> dict[str, Any]:
    """Return what `--json` prints."""
    table = manifest(record)
    return {key: table[key] for key in CONTRACT}


def as_bytes(table: Mapping[str, Any]) -> bytes:
    """Return JSON text a person can read; a number that is not finite would be no JSON and raises ValueError."""
    return (json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def gzip_bytes(content: bytes) -> int:
    """Return the size after gzip at its best, with no time stamp."""
    return len(gzip.compress(content, compresslevel=9, mtime=0))


def stage_run(done: Done[Any]) -> StageRun:
    """Return a stage as the record tells it."""
    return StageRun(done.stage, done.outcome, done.why, round(done.seconds, 3), dict(done.tools))


def share(found: Coverage) -> QuantizedShare:
    """Return the coverage as the record tells it."""
    return QuantizedShare(found.operators, found.of, round(found.weight_share, 6), dict(found.untouched))


def ports(graph: Graph, how: Mapping[str, Preparation]) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Return inputs and outputs as an app needs them."""
    inputs = tuple(_port(spec, preparation_of(spec.name, how)) for spec in graph.interface.inputs)
    return inputs, tuple(_port(spec, None) for spec in graph.interface.outputs)


def _port(spec: TensorSpec, how: Preparation | None) -> Port:
    told = None
    if how is not None:
        told = {"scale": list(how.scale), "offset": list(how.offset), "range": list(how.range) if how.range else None}
    return Port(spec.name, spec.shape, spec.dtype, spec.scale, spec.zero_point, told)


def training_summary(done: Done[Trained] | None) -> TrainingSummary | None:
    """Return what fine-tuning did: every epoch of every technique, and each layer."""
    if done is None:
        return None
    facts = done.facts
    history = [
        {"technique": technique, **row} for technique, tuned in facts.tuned.items() for row in asdict(tuned)["history"]
    ]
    rates = [tuned.learning_rate for tuned in facts.tuned.values()]
    return TrainingSummary(
        history=tuple(history),
        layers=tuple(asdict(layer) for layer in facts.layers),
        learning_rate=rates[-1] if rates else None,
        notes=tuple(facts.warnings),
    )


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
