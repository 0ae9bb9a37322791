"""The path, stage by stage: what build() does when something changed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeship import (
    advice,
    chip_form,
    chip_path,
    complexity,
    flatbuffer,
    metrics,
    quantized,
    record,
    stages,
    subject,
    verify,
    wording,
)
from edgeship import plan as plans
from edgeship import recipe as recipes
from edgeship import target as targets
from edgeship.adaptation import Adapted
from edgeship.artifact import Advice
from edgeship.errors import BadInput
from edgeship.flatbuffer import Graph
from edgeship.metrics import Metric
from edgeship.out_folder import ARTIFACT
from edgeship.plan import Plan
from edgeship.progress import Listener, StageTold
from edgeship.run import BuildRecord
from edgeship.stages import REFERENCE, TRAINED, Context, ImportFacts
from edgeship.store import Done, Store
from edgeship.subject import Material
from edgeship.training import Trained
from edgeship.verify import Judged


def walk(store: Store, plan: Plan, heard: Listener, folder: Path) -> BuildRecord:
    """Run the path's stages, each from the cache if it can; leave the artifact in the folder."""
    context = Context(store, plans.slot(plan), heard, plan.order.fresh, plan.order.seed)
    given = plan.given()
    imported = stages.import_model(
        context, plan.model, given.any, given.preparation, dict(plan.order.shapes), plan.order.trust,
        keep_layout=plan.order.keep_layout,
    )  # fmt: skip
    facts = imported.facts
    heard.on_stage(_told(imported, wording.imported(facts.imported.checked_against, facts.relative_error)))
    reference = flatbuffer.read(store.path(imported.files[REFERENCE]))
    material = subject.material(given, reference, recipe=plan.recipe, seed=plan.order.seed)
    plan = _left_as_it_is(plan, reference)
    metric = _metric(plan, reference, material)
    said = _tell_before(plan, imported, reference, material, heard)
    made = _compress(context, plan, imported, reference, material)
    artifact = made.artifact
    said += _tell_after(plan, reference, flatbuffer.read(store.path(artifact)), made, heard)
    chip = chip_path.compile_artifact(context, plan, artifact)
    said += chip.said
    feed = stages.Feeder(reference, material.preparation)
    names = (f"{plan.model.source}", f"{plan.model.source} after {plan.recipe.name}")
    judged = stages.verify_artifact(
        context, imported.files[REFERENCE], artifact, metric, material.evaluation, feed, names
    )
    seen = judged.facts
    heard.on_stage(_told(judged, wording.verified(seen.metric, seen.reference, seen.got, seen.examples)))
    said += _tell_judged(judged.facts, heard)
    shutil.copyfile(store.path(artifact), folder / ARTIFACT)
    built = record.Built(
        imported, made.trained, made.formed, made.quantized, judged, artifact,
        chip.compiled, chip.forecast, chip.gates, given, material, said,
    )  # fmt: skip
    return record.made(store, plan, built)


@dataclass(frozen=True)
class _Compressed:
    """The results of the stages between the reference and the artifact, and the artifact."""

    trained: Done[Trained] | None
    formed: tuple[Done[Adapted], ...]
    quantized: Done[Any] | None
    artifact: str


def _compress(
    context: Context, plan: Plan, imported: Done[ImportFacts], reference: Graph, material: Material
) -> _Compressed:
    """Run the training passes, the target's forms and the quantization that the recipe names."""
    source, trained, done = imported.files[REFERENCE], None, None
    feed = stages.Feeder(reference, material.preparation)
    heard = context.listener
    formed: list[Done[Adapted]] = []

    def form(source: str, *, whole_numbers: bool) -> str:
        found = chip_form.adapt(context, plan, source, material.calibration, feed, whole_numbers=whole_numbers)
        formed.extend([found] if found else [])
        return found.files[ARTIFACT] if found else source

    if quantized.left_alone(reference, plan.recipe):
        artifact = form(source, whole_numbers=True)
        return _Compressed(None, tuple(formed), None, artifact)
    if plan.recipe.trains:
        trained = stages.train(context, plan.model, imported, plan.recipe, material.calibration, feed, plan.order.trust)
        heard.on_stage(_told(trained, _training_words(trained.facts)))
        source = trained.files[TRAINED]
    if not plan.recipe.qat:
        source = form(source, whole_numbers=False)
        done = stages.quantize_file(context, source, plan.recipe, material.calibration, feed, str(plan.model.source))
        source = done.files[ARTIFACT]
        found = quantized.coverage(flatbuffer.read(context.store.path(source)))
        heard.on_stage(_told(done, wording.quantized(found.operators, found.of, found.weight_share)))
    artifact = form(source, whole_numbers=True)
    return _Compressed(trained, tuple(formed), done, artifact)


def _left_as_it_is(plan: Plan, reference: Graph) -> Plan:
    """Return the plan for a file that is quantized already: with the recipe that it went through elsewhere.

    Raises:
        BadInput: the target refuses such files, or the recipe trains, which needs the float model.
    """
    how, scheme = quantized.left_alone(reference, plan.recipe), quantized.scheme(reference)
    if how and plan.recipe.trains:
        raise BadInput(
            f"{plan.model.source}: is quantized already ({how}); recipe '{plan.recipe.name}' trains, which needs a float model",
            hint="give the float model that this file was made from",
        )
    if how is None or scheme is None:
        return plan
    reason = targets.refusal(plan.target, (scheme,))
    edges_come_off = scheme == "int8-float-io" and plan.target.accelerator is not None
    if reason is not None and not edges_come_off:
        raise BadInput(
            f"{plan.model.source}: is quantized already as {scheme}, which {plan.target.name} refuses: {reason}"
        )
    done = recipes.read(scheme).model_copy(update={"name": plan.recipe.name, "max_drop": plan.recipe.max_drop})
    return replace(plan, recipe=done.model_copy(update={"summary": f"left as it is: quantized already as {scheme}"}))


def _metric(plan: Plan, reference: Graph, material: Material) -> Metric:
    """Return what quality means here, having held the labels against it: before any long work."""
    classes = verify.classes(tuple(spec.shape for spec in reference.interface.outputs))
    metric = subject.metric_for(plan.order.metric, plan.recipe, plan.model, material.evaluation, classes)
    metrics.check(metric, material.evaluation.labels, classes, material.evaluation.origin)
    return metric


def _tell_before(
    plan: Plan, imported: Done[ImportFacts], reference: Graph, material: Material, heard: Listener
) -> tuple[Advice, ...]:
    """Say what the user should know before the long work starts."""
    said = list(material.advice)
    how = quantized.left_alone(reference, plan.recipe)
    if how is None:
        said += [Advice("note", note) for note in imported.facts.imported.notes]
        said += advice.before(reference, complexity.complexity(reference), plan.recipe, plan.target)
    else:
        text = f"{plan.model.source} is quantized already ({how}): recipe '{plan.recipe.name}' was not applied to it"
        said.append(Advice("warning", text))
    for entry in said:
        heard.on_advice(entry)
    return tuple(said)


def _tell_after(plan: Plan, reference: Graph, graph: Graph, made: _Compressed, heard: Listener) -> tuple[Advice, ...]:
    """Say what the work came to: above all when the recipe left most of the model as it was."""
    trained = made.trained
    said = tuple(Advice("warning", text) for text in trained.facts.warnings) if trained else ()
    said += tuple(Advice("note", text) for text in trained.facts.notes) if trained else ()
    said += tuple(entry for done in made.formed for entry in chip_form.advice(done))
    said += advice.after(graph, complexity.complexity(graph), plan.recipe, plan.target)
    for entry in said:
        heard.on_advice(entry)
    return said


def _tell_judged(facts: Judged, heard: Listener) -> tuple[Advice, ...]:
    """Warn when the examples cannot tell one model from another."""
    if facts.classes_seen != 1 or facts.examples == 1:
        return ()
    text = (
        f"the reference gives one and the same class for all {facts.examples} examples: {facts.metric} says little here"
    )
    heard.on_advice(Advice("warning", text))
    return (Advice("warning", text),)


def _told(done: Done[Any], words: str) -> StageTold:
    return StageTold(done.stage, done.outcome, done.why, done.seconds, words)


def _training_words(facts: Trained) -> str:
    """Say of each technique which epoch was kept, and what the held-out part thought of it."""
    return "; ".join(
        f"{name}: epoch {tuned.best_epoch} of {len(tuned.history)} kept, held-out {tuned.metric} {tuned.best:.4g}"
        for name, tuned in facts.tuned.items()
    )
