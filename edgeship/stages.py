"""The stages of a build: what each is decided by (its cache key) and what it does."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeship import child, closeness, environment, examples, flatbuffer, interpret, tools, training, verify
from edgeship import model as models
from edgeship.check_inputs import RealInputs
from edgeship.child import ChildCrashed
from edgeship.closeness import Difference
from edgeship.compilation import COMPILED, Compilation, CompileOrder, Program, Source
from edgeship.compilers import COMPILERS
from edgeship.errors import BadInput, StageFailed
from edgeship.examples import Examples, Preparation
from edgeship.flatbuffer import Graph
from edgeship.importers import IMPORTERS, Imported, Importer, Request, recognize
from edgeship.interpret import Job
from edgeship.metrics import Metric
from edgeship.model import Model
from edgeship.out_folder import ARTIFACT
from edgeship.passes import quantize
from edgeship.passes.quantize import Quantized
from edgeship.progress import Listener, Progress
from edgeship.recipe import Recipe
from edgeship.store import Done, Step, Store
from edgeship.trainable import Start
from edgeship.training import Trained
from edgeship.verify import Judged

REFERENCE, TRAINED = "reference.tflite", "trained.tflite"
IMPORT_TIMEOUT_S = 900.0
CHECKED = 8


@dataclass(frozen=True)
class ImportFacts:
    """The importer's own words, and how far the reference's outputs are from the source's."""

    format: str
    imported: Imported
    max_abs_error: float
    relative_error: float
    tolerance: float


@dataclass(frozen=True)
class Context:
    """What every stage of one build needs: the store, the build's slot in it, who listens, and `--fresh`."""

    store: Store
    slot: str
    listener: Listener
    fresh: bool
    seed: int

    @property
    def again(self) -> str | None:
        """Return why every stage has to run, or None."""
        return "--fresh" if self.fresh else None


@dataclass(frozen=True, eq=False)
class Feeder:
    """Turns examples into what a model eats; how it does is part of the cache key of each stage that is fed."""

    graph: Graph
    how: Mapping[str, Preparation]

    def write(self, given: Examples, folder: Path) -> Path:
        """Write the examples as the model eats them into a folder, and return the file."""
        ready = examples.prepared(given, self.graph.interface.inputs, self.how)
        return examples.write(folder / "feed.npz", ready, given)

    def options(self) -> dict[str, Any]:
        """Return how, as JSON values."""
        return _as_options(self.how)


def import_model(
    context: Context,
    model: Model,
    given: Examples | None,
    how: Mapping[str, Preparation],
    shapes: dict[str, tuple[int, ...]],
    trust: tuple[str, ...],
    *,
    keep_layout: bool = False,
) -> Done[ImportFacts]:
    """Turn the source into the float32 reference and hold it against the source's own runtime.

    Raises:
        BadInput: the source is damaged or cannot be used as it is.
        StageFailed: the reference's outputs are not the source's.
    """
    name = recognize(model.source)
    importer = IMPORTERS[name]
    real = RealInputs(given.chosen(np.arange(min(CHECKED, given.count))), how) if given is not None else None
    step = Step(
        "import",
        context.slot,
        inputs={"the model": model.sha256, **({"the data": given.sha256} if given is not None else {})},
        options={
            "shapes": shapes,
            "trust": trust,
            "seed": context.seed,
            "preparation": _as_options(how),
            "importer": name,
            "keep_layout": keep_layout,
            **({"entry": model.entry} if model.entry else {}),
        },
        tools=_import_tools(importer),
    )

    def work(folder: Path) -> ImportFacts:
        log = context.store.log("import")
        with context.store.scratch() as aside:
            request = Request(
                model.source.resolve(), folder / REFERENCE, aside / "check.npz", real, shapes, trust, context.seed,
                keep_layout=keep_layout, log=log, entry=model.entry,
            )  # fmt: skip
            imported = _brought(context, name, request, log)
            found = _held_against_source(request, imported, log)
            _check_unchanged(model)
        return ImportFacts(name, imported, found.max_abs_error, found.relative_error, found.tolerance)

    return context.store.run(step, ImportFacts, work, again=context.again or _own_code(model, trust))


def _import_tools(importer: Importer) -> dict[str, str]:
    """Return the versions of all that takes part in an import."""
    apart = {tool: told for own in importer.ENVIRONMENTS for tool, told in environment.versions(own).items()}
    return {**tools.versions((*importer.PACKAGES, "ai-edge-litert", "numpy")), **apart}


def _brought(context: Context, name: str, request: Request, log: Path) -> Imported:
    """Let the importer work in a process of its own, the environments that it needs made before."""
    importer = IMPORTERS[name]
    for own in importer.ENVIRONMENTS:
        environment.ready(own, on_progress=context.listener.on_progress, log=log)
    try:
        return child.run(
            partial(importer.bring, request=request),
            log=log,
            on_progress=context.listener.on_progress,
            timeout_s=IMPORT_TIMEOUT_S,
            memory_gib=interpret.MEMORY_GIB,
        )
    except ChildCrashed as crash:
        raise BadInput(f"{request.source}: could not be read as {name}: {crash.message}", log=log) from None


def _held_against_source(request: Request, imported: Imported, log: Path) -> Difference:
    """Run the reference on what the source was asked, and compare."""
    graph = flatbuffer.read(request.reference)
    for spec in graph.interface.inputs:
        if len(spec.shape) < 2 and spec.shape not in ((1,), (-1,)):
            raise BadInput(
                f"{request.source}: input '{spec.name}' of shape {spec.shape} has no batch axis, which edgeship needs",
                hint="export the model with inputs that begin with a batch of 1",
            )
    with _named(str(request.source)):
        job = Job(request.reference, request.check, str(request.source))
        (ran,) = interpret.outputs([job], log=log, timeout_s=IMPORT_TIMEOUT_S)
    with np.load(request.check, allow_pickle=False) as content:
        expected = {name: content[f"output:{name}"] for name in imported.output_names}
    found = closeness.held(graph, expected, ran.outputs)
    if not found.within:
        how = f"error {found.relative_error:.2g} of the outputs' range, tolerance {found.tolerance:g}"
        if not found.comparable:
            how = "values that are no number, or outputs of other shapes"
        raise StageFailed(
            f"{request.source}: the TFLite reference does not give what {imported.checked_against} gives: {how}; "
            f"full log: {log}",
            log=log,
        )
    return found


def train(
    context: Context,
    model: Model,
    reference: Done[ImportFacts],
    recipe: Recipe,
    given: Examples,
    feed: Feeder,
    trust: tuple[str, ...],
) -> Done[Trained]:
    """Run the recipe's training passes, from the source where that can be trained, else from the reference; it teaches."""
    packages = {**tools.versions(tools.TRAINING), **dict(reference.tools)}
    imported = reference.facts.imported
    step = Step(
        "train",
        context.slot,
        inputs={
            **({"the model": model.sha256} if imported.trainable else {}),
            "the reference": reference.files[REFERENCE],
            "the calibration data": given.sha256,
        },
        options={**_training_options(recipe), "preparation": feed.options(), "seed": context.seed, "trust": trust},
        tools=packages,
    )

    def work(folder: Path) -> Trained:
        with context.store.scratch() as aside, _named(str(model.source)):
            start = Start(
                model.source, model.source.resolve() if imported.trainable else None,
                context.store.path(reference.files[REFERENCE]), imported.input_names, imported.output_names, trust,
            )  # fmt: skip
            order = training.Order(start, recipe, feed.write(given, aside), folder / TRAINED, context.seed)
            trained = child.run(
                partial(training.train, order=order),
                log=context.store.log("train"),
                on_progress=context.listener.on_progress,
            )
        _check_unchanged(model)
        return trained

    return context.store.run(step, Trained, work, again=context.again or _trusted(trust))


def quantize_file(
    context: Context, source: str, recipe: Recipe, given: Examples | None, feed: Feeder, name: str
) -> Done[Quantized]:
    """Quantize a float TFLite artifact by the recipe's scheme."""
    options = recipe.quantize
    needed = given if recipe.calibrates else None
    step = Step(
        "quantize",
        context.slot,
        inputs={"the float model": source, **({"the calibration data": needed.sha256} if needed is not None else {})},
        options={**options.model_dump(mode="json"), **({"preparation": feed.options()} if needed is not None else {})},
        tools=tools.versions(tools.QUANTIZING),
    )

    def work(folder: Path) -> Quantized:
        with context.store.scratch() as aside, _named(name):
            ready = feed.write(needed, aside) if needed is not None else None
            return child.run(
                partial(
                    quantize.quantize,
                    source=context.store.path(source),
                    name=name,
                    calibration=ready,
                    options=options,
                    out=folder / ARTIFACT,
                ),
                log=context.store.log("quantize"),
                on_progress=context.listener.on_progress,
                memory_gib=interpret.MEMORY_GIB,
            )

    return context.store.run(step, Quantized, work, again=context.again)


def compile_file(
    context: Context, source: str, kind: str, program: Program, min_runtime: int | None, name: str
) -> Done[Compilation]:
    """Compile a quantized artifact for a chip, by the installed program for chips of this kind.

    Raises:
        StageFailed: the compiler refused it, hung, crashed, or wrote nothing of use.
    """
    step = Step(
        "compile",
        context.slot,
        inputs={"the quantized model": source, f"the program {program.path}": program.sha256},
        options={"min_runtime": min_runtime},
        tools={program.name: program.version},
    )

    def work(folder: Path) -> Compilation:
        compiler = COMPILERS[kind]
        told = f"{program.name} {program.version}"
        context.listener.on_progress(Progress("compile", 0, 0, told))
        order = CompileOrder((Source(context.store.path(source), name),), 1, min_runtime, compiler.timeout_s())
        with context.store.scratch() as aside:
            made = compiler.compile_models(order, program, folder=aside, log=context.store.log("compile"))
            (part,) = made.parts
            shutil.copyfile(aside / part.file, folder / COMPILED)
        return replace(made, parts=(replace(part, file=COMPILED),))

    return context.store.run(step, Compilation, work, again=context.again)


def verify_artifact(
    context: Context,
    reference: str,
    artifact: str,
    metric: Metric,
    given: Examples,
    feed: Feeder,
    names: tuple[str, str],
) -> Done[Judged]:
    """Judge the artifact by the reference on the evaluation examples; `names` is what the user calls the two."""
    again = context.again or ("your own metric may have changed" if ":" in metric.name else None)
    step = Step(
        "verify",
        context.slot,
        inputs={"the reference": reference, "the artifact": artifact, "the evaluation data": given.sha256},
        options={"metric": metric.name, "labels": given.labels is not None, "preparation": feed.options()},
        tools=tools.versions(("ai-edge-litert", "numpy")),
    )

    def work(folder: Path) -> Judged:
        with context.store.scratch() as aside, _named(names[1]):
            return verify.judge(
                context.store.path(reference),
                context.store.path(artifact),
                feed.write(given, aside),
                metric=metric,
                labels=given.labels,
                where=given.origin,
                names=names,
                log=context.store.log("verify"),
                on_progress=context.listener.on_progress,
            )

    return context.store.run(step, Judged, work, again=again)


@contextlib.contextmanager
def _named(model: str) -> Iterator[None]:
    """Say which model it was that ended a process."""
    try:
        yield
    except ChildCrashed as crash:
        raise StageFailed(f"{model}: {crash.message}", log=crash.log) from None


def _check_unchanged(model: Model) -> None:
    """Refuse a result whose source changed under the work: the cache would give it for the source as it was.

    Raises:
        StageFailed: the file is not what it was when the build began.
    """
    if models.address(model.source) != model.sha256:
        raise StageFailed(f"{model.source}: changed while it was read", hint="run the build again when it is complete")


def _own_code(model: Model, trust: tuple[str, ...]) -> str | None:
    """Return why an import that ran the user's own code runs again."""
    return f"{model.entry}: code that may have changed" if model.entry else _trusted(trust)


def _trusted(trust: tuple[str, ...]) -> str | None:
    """Return why a stage that ran the user's own code runs again: that code is in no cache key."""
    return f"--trust {' '.join(trust)}: code that may have changed" if trust else None


def _as_options(how: Mapping[str, Preparation]) -> dict[str, Any]:
    return {name: asdict(preparation) for name, preparation in how.items()}


def _training_options(recipe: Recipe) -> dict[str, Any]:
    """Return what training is told; the scheme counts only where training itself quantizes."""
    told = recipe.model_dump(mode="json", include={"prune", "cluster", "qat", "train"})
    return {**told, "scheme": recipe.quantize.scheme if recipe.qat else "float32"}
