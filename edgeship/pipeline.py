"""The path, on one page: build() takes a source model to a verified artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeship import (
    __version__,
    advice,
    complexity,
    flatbuffer,
    metrics,
    out_folder,
    quantized,
    record,
    stages,
    subject,
    tools,
    verify,
)
from edgeship import model as models
from edgeship import recipe as recipes
from edgeship import target as targets
from edgeship.artifact import Advice
from edgeship.errors import BadInput
from edgeship.flatbuffer import Graph
from edgeship.importers import IMPORTERS, recognize
from edgeship.model import Model
from edgeship.progress import Listener, StageTold
from edgeship.recipe import Recipe
from edgeship.report import build_page
from edgeship.run import BuildRecord, ImportCheck
from edgeship.stages import ARTIFACT, REFERENCE, TRAINED, Context, ImportFacts
from edgeship.store import Done, Store, home
from edgeship.subject import Material
from edgeship.target import Target
from edgeship.training import Trained
from edgeship.verify import Judged


@dataclass(frozen=True)
class Order:
    """What the user asked for; what is None was not said."""

    model: str
    target: str
    recipe: str | None = None
    data: Path | None = None
    calibration: Path | None = None
    scale: tuple[float, ...] | None = None
    offset: tuple[float, ...] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    metric: str | None = None
    max_drop: float | None = None
    seed: int = 0
    trust: tuple[str, ...] = ()
    fresh: bool = False
    out: Path | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """The order made definite, and checked: nothing has been run yet."""

    order: Order
    model: Model
    target: Target
    recipe: Recipe
    given: subject.Given
    out: Path


@dataclass(frozen=True, eq=False)
class Built:
    """The stages' results, from which the record is made."""

    imported: Done[ImportFacts]
    trained: Done[Trained] | None
    quantized: Done[Any] | None
    judged: Done[Judged]
    artifact: str
    material: Material
    advice: tuple[Advice, ...]


def build(order: Order, listener: Listener | None = None) -> BuildRecord:
    """Turn a source model into a verified artifact in its out folder, and return the record of it.

    A verdict that is negative is no error here: the record's `quality.passed` says it.

    Raises:
        BadInput: something given cannot be used; nothing was run.
        MissingTool: an extra is not installed.
        StageFailed: a stage broke, or its result is not the same model; the out folder is as it was.
    """
    plan = prepare(order)
    heard = listener or Listener()
    with Store(home()) as store:
        context = Context(store, _slot(plan), heard, order.fresh, order.seed)
        imported = stages.import_model(
            context, plan.model, plan.given.any, plan.given.preparation, dict(order.shapes), order.trust
        )
        heard.on_stage(_told(imported, _import_words(imported.facts)))
        reference = flatbuffer.read(store.path(imported.files[REFERENCE]))
        material = subject.material(plan.given, reference, recipe=plan.recipe, seed=order.seed)
        said = _tell_before(plan, imported, reference, material, heard)
        trained, compressed, artifact = _compress(context, plan, imported, reference, material)
        graph = flatbuffer.read(store.path(artifact))
        said += _tell_after(plan, reference, graph, heard)
        judged = _verify(context, plan, imported, reference, artifact, material)
        built = Built(imported, trained, compressed, judged, artifact, material, said)
        return _deliver(store, plan, built, reference, graph)


def prepare(order: Order) -> Plan:
    """Check all that can be checked before any work.

    Raises:
        BadInput: unknown target, recipe or model; a recipe the target refuses; examples or an out folder of no use.
        MissingTool: a package that the recipe or the source needs is absent.
    """
    target = targets.read(order.target)
    recipe = recipes.read(order.recipe or target.default_recipe)
    reason = targets.refusal(target, recipe.parts)
    if reason is not None:
        raise BadInput(
            f"{order.target} refuses the recipe '{recipe.name}': {reason}",
            hint=f"its default is '{target.default_recipe}'",
        )
    model = models.find(order.model)
    importer = recognize(model.source)
    tools.versions((*IMPORTERS[importer].PACKAGES, *stages.packages(recipe)))
    if recipe.trains and importer != "keras":
        raise BadInput(
            f"{model.source}: recipe '{recipe.name}' trains, which needs a Keras model (.keras or .h5)",
            hint="give the Keras model that this file was made from, or a recipe without training such as int8",
        )
    if order.metric:
        metrics.find(order.metric)
    out = order.out or Path("build") / model.name / target.name / recipe.name
    out_folder.check_writable(out)
    found = subject.given(model, order.data, order.calibration, order.scale, order.offset)
    return Plan(order, model, target, recipe, found, out)


def _compress(
    context: Context, plan: Plan, imported: Done[ImportFacts], reference: Graph, material: Material
) -> tuple[Done[Trained] | None, Done[Any] | None, str]:
    """Run the training passes and the quantization that the recipe names; return their results and the artifact."""
    source, trained = imported.files[REFERENCE], None
    if quantized.already_quantized(reference):
        return None, None, source
    feed = stages.feeder(reference, material.preparation)
    heard = context.listener
    if plan.recipe.trains:
        trained = stages.train(context, plan.model, imported, plan.recipe, material.calibration, feed, plan.order.trust)
        heard.on_stage(_told(trained, plan.recipe.summary))
        source = trained.files[TRAINED]
    if plan.recipe.qat:
        return trained, None, source
    done = stages.quantize_file(context, source, plan.recipe, material.calibration, feed)
    graph = flatbuffer.read(context.store.path(done.files[ARTIFACT]))
    found = quantized.coverage(graph)
    heard.on_stage(_told(done, f"{found.operators} of {found.of} operations, {found.weight_share:.0%} of the weights"))
    return trained, done, done.files[ARTIFACT]


def _verify(
    context: Context, plan: Plan, imported: Done[ImportFacts], reference: Graph, artifact: str, material: Material
) -> Done[Judged]:
    classes = verify.classes(tuple(spec.shape for spec in reference.interface.outputs))
    metric = subject.metric_for(plan.order.metric, plan.recipe, plan.model, material.evaluation, classes)
    metrics.check_labels(metric, material.evaluation.labels, classes, material.evaluation.origin)
    feed = stages.feeder(reference, material.preparation)
    done = stages.verify_artifact(context, imported.files[REFERENCE], artifact, metric, material.evaluation, feed)
    facts = done.facts
    words = f"{facts.metric} {facts.reference:.4g} to {facts.got:.4g} on {facts.examples:,} examples"
    context.listener.on_stage(_told(done, words))
    return done


def _tell_before(
    plan: Plan, imported: Done[ImportFacts], reference: Graph, material: Material, heard: Listener
) -> tuple[Advice, ...]:
    """Say what the user should know before the long work starts."""
    said = [*material.advice, *(Advice("note", note) for note in imported.facts.imported.notes)]
    how = quantized.already_quantized(reference)
    if how is None:
        said += advice.before(reference, complexity.complexity(reference), plan.recipe, plan.target)
    else:
        text = f"{plan.model.source} is quantized already ({how}): recipe '{plan.recipe.name}' was not applied to it"
        said.append(Advice("warning", text))
    for entry in said:
        heard.on_advice(entry)
    return tuple(said)


def _tell_after(plan: Plan, reference: Graph, graph: Graph, heard: Listener) -> tuple[Advice, ...]:
    """Say what the work came to: above all when the recipe left most of the model as it was."""
    if quantized.already_quantized(reference):
        return ()
    said = advice.after(graph, complexity.complexity(graph), plan.recipe, plan.target)
    for entry in said:
        heard.on_advice(entry)
    return said


def _deliver(store: Store, plan: Plan, built: Built, reference: Graph, graph: Graph) -> BuildRecord:
    """Make the record and the report, and put them with the artifact into the out folder."""
    content = store.path(built.artifact).read_bytes()
    float_content = store.path(built.imported.files[REFERENCE]).read_bytes()
    facts = built.imported.facts
    found = quantized.coverage(graph)
    inputs, outputs = record.ports(graph, built.material.preparation)
    cost, float_cost = complexity.complexity(graph), complexity.complexity(reference)
    integer = complexity.computes_in_int8(graph)
    runs = [done for done in (built.imported, built.trained, built.quantized, built.judged) if done is not None]
    made = BuildRecord(
        artifact=str(plan.out / ARTIFACT),
        sha256=built.artifact,
        target=plan.target.name,
        recipe=plan.recipe.name,
        size_bytes=len(content),
        gzip_bytes=record.gzip_bytes(content),
        reference_size_bytes=len(float_content),
        quality=verify.verdict(built.judged.facts, budget=_budget(plan), synthetic=built.material.evaluation.synthetic),
        import_check=ImportCheck(
            facts.imported.checked_against,
            facts.max_abs_error,
            facts.relative_error,
            facts.tolerance,
            facts.imported.examples,
        ),
        stages=tuple(record.stage_run(done) for done in runs),
        quantized=record.share(found),
        sparsity=cost.sparsity,
        warnings=tuple(entry.text for entry in built.advice if entry.level == "warning"),
        manifest=str(plan.out / out_folder.MANIFEST),
        report=str(plan.out / "report.html"),
        model=plan.model.name,
        source=str(plan.model.source),
        source_format=facts.format,
        recipe_summary=plan.recipe.summary,
        target_summary=plan.target.summary,
        reference_gzip_bytes=record.gzip_bytes(float_content),
        input_hashes=_hashes(plan, built),
        options=_options(plan),
        notes=tuple(entry.text for entry in built.advice if entry.level == "note"),
        inputs=inputs,
        outputs=outputs,
        labels=plan.model.labels,
        reference_complexity=float_cost,
        complexity=cost,
        roofline=complexity.roofline(cost, plan.target, integer=integer),
        reference_roofline=complexity.roofline(float_cost, plan.target, integer=False),
        layers=built.judged.facts.layers,
        histograms=complexity.histograms(reference, graph),
        advice=built.advice,
        training=record.training_summary(built.trained),
        edgeship=__version__,
        made=record.now(),
    )
    out_folder.write(
        plan.out,
        {
            ARTIFACT: content,
            out_folder.MANIFEST: record.as_bytes(record.manifest(made)),
            "report.html": build_page.render(made).encode(),
        },
    )
    return made


def _budget(plan: Plan) -> float | None:
    """Return the drop allowed: the user's, the recipe's, the model's; the target's only for its own default recipe."""
    for budget in (plan.order.max_drop, plan.recipe.max_drop, plan.model.max_drop):
        if budget is not None:
            return budget
    return plan.target.max_drop if plan.recipe.name == plan.target.default_recipe else None


def _hashes(plan: Plan, built: Built) -> dict[str, str]:
    given = {"data": plan.given.data, "calibration": plan.given.calibration}
    return {
        "model": plan.model.sha256,
        "reference": built.imported.files[REFERENCE],
        **{name: part.sha256 for name, part in given.items() if part is not None},
    }


def _options(plan: Plan) -> dict[str, Any]:
    """Return what was asked, as JSON values."""
    said = {name: value for name, value in vars(plan.order).items() if value not in (None, (), {})}
    said = {name: str(value) if isinstance(value, Path) else value for name, value in said.items()}
    return {**said, "recipe_options": plan.recipe.model_dump(mode="json")}


def _slot(plan: Plan) -> str:
    return f"{plan.model.source.resolve()}|{plan.target.name}|{plan.recipe.name}|{plan.out.resolve()}"


def _told(done: Done[Any], words: str) -> StageTold:
    return StageTold(done.stage, done.outcome, done.why, done.seconds, words)


def _import_words(facts: ImportFacts) -> str:
    return f"same outputs as {facts.imported.checked_against}: error {facts.relative_error:.1e} of their range"
