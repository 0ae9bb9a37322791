"""From a finished build to its record, and from the record to the JSON that users and scripts read."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from edgeship import __version__, complexity, flatbuffer, quantized, verify
from edgeship.adaptation import Adapted
from edgeship.artifact import Advice, TensorSpec
from edgeship.compilation import COMPILED, Compilation, GateVerdict, PlainFile
from edgeship.examples import Preparation, preparation_of
from edgeship.flatbuffer import Graph
from edgeship.out_folder import ARTIFACT, MANIFEST, REPORT
from edgeship.plan import Plan, budget, options
from edgeship.quantized import Coverage
from edgeship.run import BuildRecord, ImportCheck, Port, QuantizedShare, StageRun, TrainingSummary
from edgeship.run_edgetpu import Forecast
from edgeship.stages import REFERENCE, ImportFacts
from edgeship.store import Done, Store
from edgeship.subject import Given, Material
from edgeship.training import Trained
from edgeship.verify import Judged


@dataclass(frozen=True, eq=False)
class Built:
    """The stages' results, from which the record is made."""

    imported: Done[ImportFacts]
    trained: Done[Trained] | None
    formed: tuple[Done[Adapted], ...]
    quantized: Done[Any] | None
    judged: Done[Judged]
    artifact: str
    compiled: Done[Compilation] | None
    forecast: Forecast | None
    gates: tuple[GateVerdict, ...]
    given: Given
    material: Material
    advice: tuple[Advice, ...]


def made(store: Store, plan: Plan, built: Built) -> BuildRecord:
    """Return everything about a finished build."""
    graph, reference = (flatbuffer.read(store.path(sha)) for sha in (built.artifact, built.imported.files[REFERENCE]))
    content, float_content = (store.path(sha).read_bytes() for sha in (built.artifact, built.imported.files[REFERENCE]))
    facts, judged = built.imported.facts, built.judged.facts
    inputs, outputs = _ports(graph, built.material.preparation)
    cost, float_cost = complexity.complexity(graph), complexity.complexity(reference)
    integer = complexity.computes_in_int8(graph)
    before = [done for done in built.formed if done.stage == "adapt"]
    after = [done for done in built.formed if done.stage != "adapt"]
    every = (built.imported, built.trained, *before, built.quantized, *after, built.compiled, built.judged)
    runs = [done for done in every if done is not None]
    name, sha, whole, plain = ARTIFACT, built.artifact, content, None
    if built.compiled is not None:
        plain = PlainFile(str(plan.out / ARTIFACT), built.artifact, len(content))
        name, sha = COMPILED, built.compiled.files[COMPILED]
        whole = store.path(sha).read_bytes()
    check = ImportCheck(
        facts.imported.checked_against, facts.max_abs_error, facts.relative_error, facts.tolerance, facts.imported.examples
    )  # fmt: skip
    return BuildRecord(
        artifact=str(plan.out / name), manifest=str(plan.out / MANIFEST), report=str(plan.out / REPORT),
        sha256=sha, size_bytes=len(whole), gzip_bytes=_gzip_bytes(whole),
        reference_size_bytes=len(float_content), reference_gzip_bytes=_gzip_bytes(float_content),
        target=plan.target.name, target_summary=plan.target.summary,
        recipe=plan.recipe.name, recipe_summary=plan.recipe.summary,
        model=plan.model.name, source=str(plan.model.source), source_format=facts.format, labels=plan.model.labels,
        quality=verify.verdict(judged, budget=budget(plan, judged.metric), synthetic=built.material.evaluation.synthetic),
        import_check=check, stages=tuple(_stage_run(done) for done in runs),
        quantized=_share(quantized.coverage(graph)), sparsity=cost.sparsity,
        warnings=tuple(entry.text for entry in built.advice if entry.level == "warning"),
        notes=tuple(entry.text for entry in built.advice if entry.level == "note"), advice=built.advice,
        input_hashes=_hashes(plan, built), options=options(plan), inputs=inputs, outputs=outputs,
        reference_complexity=float_cost, complexity=cost,
        roofline=complexity.roofline(cost, plan.target, integer=integer),
        reference_roofline=complexity.roofline(float_cost, plan.target, integer=False),
        layers=judged.layers, histograms=complexity.histograms(reference, graph),
        training=_training_summary(built.trained), edgeship=__version__,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        uncompiled=plain, compiler=built.compiled.facts if built.compiled else None, gates=built.gates, forecast=built.forecast,
    )  # fmt: skip


def _gzip_bytes(content: bytes) -> int:
    """Return the size after gzip at its best, with no time stamp."""
    return len(gzip.compress(content, compresslevel=9, mtime=0))


def _stage_run(done: Done[Any]) -> StageRun:
    """Return a stage as the record tells it."""
    return StageRun(done.stage, done.outcome, done.why, round(done.seconds, 3), dict(done.tools))


def _share(found: Coverage) -> QuantizedShare:
    """Return the coverage as the record tells it."""
    return QuantizedShare(found.operators, found.of, round(found.weight_share, 6), dict(found.untouched))


def _ports(graph: Graph, how: Mapping[str, Preparation]) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Return inputs and outputs as an app needs them."""
    inputs = tuple(_port(spec, preparation_of(spec.name, how)) for spec in graph.interface.inputs)
    return inputs, tuple(_port(spec, None) for spec in graph.interface.outputs)


def _port(spec: TensorSpec, how: Preparation | None) -> Port:
    told = None
    if how is not None:
        told = {"scale": list(how.scale), "offset": list(how.offset), "range": list(how.range) if how.range else None}
    return Port(spec.name, spec.shape, spec.dtype, spec.scale, spec.zero_point, told)


def _training_summary(done: Done[Trained] | None) -> TrainingSummary | None:
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


def _hashes(plan: Plan, built: Built) -> dict[str, str]:
    given = {"data": built.given.data, "calibration": built.given.calibration}
    return {
        "model": plan.model.sha256,
        "reference": built.imported.files[REFERENCE],
        **{name: part.sha256 for name, part in given.items() if part is not None},
    }
