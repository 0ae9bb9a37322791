"""What the user asked for, made definite and checked before any work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from edgeship import digest, metrics, out_folder, subject, tools
from edgeship import model as models
from edgeship import recipe as recipes
from edgeship import target as targets
from edgeship.compilation import COMPILED, Program
from edgeship.compilers import COMPILERS
from edgeship.errors import BadInput
from edgeship.importers import IMPORTERS, recognize
from edgeship.model import Model
from edgeship.recipe import Recipe
from edgeship.store import Step
from edgeship.subject import Judging
from edgeship.target import Target


@dataclass(frozen=True)
class Order(Judging):
    """What the user asked to build; what is None was not said."""

    model: str
    target: str
    recipe: str | None = None
    calibration: tuple[Path, ...] = ()
    fresh: bool = False
    out: Path | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """The order made definite, and checked: nothing has been run yet."""

    order: Order
    model: Model
    target: Target
    recipe: Recipe
    files: Mapping[str, Path]
    out: Path
    compiler: Program | None = None

    def given(self) -> subject.Given:
        """Read the examples.

        Raises:
            BadInput: a file cannot be used.
        """
        order = self.order
        return subject.given(self.model, order.data, order.calibration, order.scale, order.offset)


def prepare(order: Order) -> Plan:
    """Check all that can be checked before any work.

    Raises:
        BadInput: unknown target, recipe or model; a recipe the target refuses; examples or an out folder of no use.
        MissingTool: a package that the recipe or the source needs is absent, or the compiler that a setting names.
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
    _check_metrics(order, recipe, model)
    out = order.out or Path("build") / model.name / target.name / recipe.name
    chip = target.accelerator
    compiler = COMPILERS[chip.kind].find() if chip else None
    compiled = [COMPILED] if compiler else []
    out_folder.check_writable(out, (out_folder.ARTIFACT, out_folder.MANIFEST, out_folder.REPORT, *compiled))
    files = subject.files(model, order.data, order.calibration)
    tools.versions((*IMPORTERS[importer].PACKAGES, *_packages(recipe)))
    return Plan(order, model, target, recipe, files, out, compiler)


def _check_metrics(order: Order, recipe: Recipe, model: Model) -> None:
    """Find every metric that is named; one that would import code must be the user's own word, not a file's.

    Raises:
        BadInput: no such metric, or a file names a module that the user does not trust.
    """
    for named, where in ((recipe.metric, f"recipe '{recipe.name}'"), (model.metric, f"model '{model.name}'")):
        module = (named or "").partition(":")[0]
        if named and ":" in named and named != order.metric and module not in order.trust:
            raise BadInput(f"{where}: its metric {named} would run code", hint=f"allow it with --trust {module}")
    for named in (order.metric, recipe.metric, model.metric):
        if named:
            metrics.find(named)


def budget(plan: Plan, metric: str) -> float | None:
    """Return the drop allowed: the user's, the recipe's, the model's; the target's only for its own default recipe.

    A budget that was not typed beside the metric holds for the metric it was written with, or, where none was named,
    for shares of examples; 0.01 of accuracy is not 0.01 dB.
    """
    if plan.order.max_drop is not None:
        return plan.order.max_drop
    own = plan.recipe.name == plan.target.default_recipe and not (plan.order.recipe or "").endswith(".toml")
    written = (
        (plan.recipe.metric, plan.recipe.max_drop),
        (plan.model.metric, plan.model.max_drop),
        (None, plan.target.max_drop if own else None),
    )
    for written_for, drop in written:
        if drop is not None and (metric == written_for if written_for else metric in metrics.SHARES):
            return drop
    return None


def options(plan: Plan) -> dict[str, Any]:
    """Return what was asked, as JSON values."""
    said = {name: value for name, value in vars(plan.order).items() if value not in (None, (), {})}
    said = {name: str(value) if isinstance(value, Path) else value for name, value in said.items()}
    if plan.order.calibration:
        said["calibration"] = [str(path) for path in plan.order.calibration]
    return {**said, "recipe_options": plan.recipe.model_dump(mode="json")}


def _packages(recipe: Recipe) -> tuple[str, ...]:
    """Return the packages that a recipe's passes need."""
    quantizes = recipe.quantize.scheme != "float32" and not recipe.qat
    return (*(tools.TRAINING if recipe.trains else ()), *(tools.QUANTIZING if quantizes else ()))


def step(plan: Plan) -> Step:
    """Return what decides the whole build: nothing of it has to run when none of this changed."""
    packages = {
        *IMPORTERS[recognize(plan.model.source)].PACKAGES,
        *_packages(plan.recipe),
        "ai-edge-litert",
        "numpy",
    }
    subject = replace(plan.model, data=None, calibration=None, source=Path())
    return Step(
        "build",
        slot(plan),
        inputs={"the model": plan.model.sha256, **{part: digest.of_file(path) for part, path in plan.files.items()}},
        options={
            **options(plan),
            "source": str(plan.model.source),
            "out": str(plan.out),
            "model": json.loads(TypeAdapter(Model).dump_json(subject)),
            "target": plan.target.model_dump(mode="json"),
            "compiler": asdict(plan.compiler) if plan.compiler else None,
        },
        tools=tools.versions(sorted(packages)),
        code="edgeship.pipeline",
    )


def slot(plan: Plan) -> str:
    """Name the build, so that a stage can say what changed since the same build ran before."""
    return f"{plan.model.source.resolve()}{plan.model.entry or ''}|{plan.target.name}|{plan.recipe.name}|{plan.out.resolve()}"
