"""What a build works on, put together from the command line before any work: model, examples, preparation, metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgeship import augmentation, examples, metrics, mixed_examples, quantized
from edgeship.artifact import Advice
from edgeship.errors import BadInput, unknown
from edgeship.examples import EVERY_INPUT, Examples, Parts, Preparation
from edgeship.flatbuffer import Graph
from edgeship.metrics import Metric
from edgeship.model import Model
from edgeship.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What the user may say of how two models are compared, in any command; what is None was not said."""

    data: Path | None = None
    scale: tuple[float, ...] | None = None
    offset: tuple[float, ...] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    keep_layout: bool = False
    metric: str | None = None
    max_drop: float | None = None
    seed: int = 0
    trust: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Given:
    """The user's examples as read, not yet matched to the model's inputs."""

    data: Examples | None
    calibration: Examples | None
    preparation: Mapping[str, Preparation]
    doubts: tuple[str, ...] = ()

    @property
    def any(self) -> Examples | None:
        """Return whichever examples there are, those to judge by first."""
        return self.data or self.calibration


@dataclass(frozen=True, eq=False)
class Material:
    """The examples of one build, matched to the model: those that calibrate and train, and those that judge."""

    calibration: Examples
    evaluation: Examples
    preparation: Mapping[str, Preparation]
    advice: tuple[Advice, ...]


def files(model: Model, data: Path | None, calibration: Sequence[Path]) -> dict[str, Path]:
    """Return the npz files that the command line or the model's own entry names: `data`, `calibration`, or neither.

    Of several calibration files the second is `calibration 2`, and so on.

    The model's own calibration file is left out when the user brings other data: it may not belong with it.

    Raises:
        BadInput: a file is missing, or is no npz.
    """
    own = None if data else model.calibration
    named = {"data": data or model.data, "calibration": calibration[0] if calibration else own}
    named |= {f"calibration {number}": path for number, path in enumerate(calibration[1:], 2)}
    found = {part: path for part, path in named.items() if path is not None}
    for path in found.values():
        examples.check_file(path)
    return found


def preparation(
    model: Model, scale: tuple[float, ...] | None, offset: tuple[float, ...] | None
) -> dict[str, Preparation]:
    """Return how stored values become what the model eats: as the command line says, else as the model's own entry."""
    how = dict(model.preparation)
    if scale is None and offset is None:
        return how
    limits = next((entry.range for entry in how.values()), None) if len(how) == 1 else None
    return {EVERY_INPUT: Preparation(scale or (1.0,), offset or (0.0,), limits)}


def given(
    model: Model,
    data: Path | None,
    calibration: Sequence[Path],
    scale: tuple[float, ...] | None,
    offset: tuple[float, ...] | None,
) -> Given:
    """Read the examples.

    Raises:
        BadInput: a file cannot be used.
    """
    found = {part: examples.read(path) for part, path in files(model, data, calibration).items()}
    judging_by = found.pop("data", None)
    mixed = mixed_examples.joined([*found.values()])
    labelled = [part.origin for part in found.values() if part.labels is not None]
    doubts: tuple[str, ...] = ()
    if mixed is not None and mixed.labels is None and labelled:
        doubts = (
            f"not all calibration files have labels: those of {', '.join(labelled)} are left out, the original teaches",
        )
    return Given(judging_by, mixed, preparation(model, scale, offset), doubts)


def material(found: Given, graph: Graph, *, recipe: Recipe, seed: int) -> Material:
    """Match the examples to the reference's inputs, split them, and make up what is missing.

    A file that is quantized already is left as it is: nothing is calibrated for it.

    Raises:
        BadInput: the examples do not fit, or the recipe trains and there are none.
    """
    inputs = graph.interface.inputs
    known = {spec.name for spec in inputs}
    for name in found.preparation:
        if name != EVERY_INPUT and name not in known:
            raise unknown("input of the model", name, known)
    data, calibration = (
        examples.matched(part, inputs, found.preparation) if part else None for part in (found.data, found.calibration)
    )
    calibrates = (recipe.calibrates or recipe.trains) and quantized.left_alone(graph, recipe) is None
    parts = examples.parts(data, calibration, seed=seed, needed=calibrates)
    if recipe.trains and parts.calibration is None:
        raise BadInput(
            f"recipe '{recipe.name}' trains and needs examples; there are none",
            hint="give --data FILE.npz or --calibration FILE.npz",
        )
    if recipe.trains and parts.calibration is not None:
        augmentation.check(recipe, inputs, parts.calibration.labels)
    how = _with_calibrated_range(found.preparation, parts, graph)
    evaluation = parts.evaluation or examples.seeded(inputs, how, seed=seed)
    calibrating = parts.calibration or examples.seeded(inputs, how, seed=seed + 1)
    told = [Advice("warning", doubt) for doubt in found.doubts] if calibrates else []
    return Material(calibrating, evaluation, how, (*told, *_advice(parts, calibrating, calibrates=calibrates)))


def judging(found: Given, graph: Graph, *, seed: int) -> Material:
    """Match the examples for a comparison: nothing is calibrated, so all of the data judges.

    Raises:
        BadInput: the examples do not fit.
    """
    inputs = graph.interface.inputs
    data = examples.matched(found.data, inputs, found.preparation) if found.data else None
    evaluation = data or examples.seeded(inputs, found.preparation, seed=seed)
    advice = tuple(_advice(Parts(None, data), evaluation, calibrates=False))
    return Material(evaluation, evaluation, found.preparation, advice)


def _with_calibrated_range(how: Mapping[str, Preparation], parts: Parts, graph: Graph) -> dict[str, Preparation]:
    """Add the calibration's own range where none is declared: made-up inputs are scaled to it."""
    ranges = dict(how)
    if parts.calibration is None or parts.evaluation is not None:
        return ranges
    ready = examples.prepared(parts.calibration, graph.interface.inputs, how)
    for spec in graph.interface.inputs:
        declared = examples.preparation_of(spec.name, how)
        if declared.range is None:
            ranges[spec.name] = replace(
                declared, range=(float(np.min(ready[spec.name])), float(np.max(ready[spec.name])))
            )
    return ranges


def _advice(parts: Parts, calibrating: Examples, *, calibrates: bool) -> list[Advice]:
    told = [Advice("note", note) for note in parts.notes] + [Advice("warning", doubt) for doubt in parts.doubts]
    if parts.evaluation is None:
        text = f"no examples to judge by: quality is measured on {examples.SEEDED_EXAMPLES} made-up inputs; give --data for a real verdict"
        told.append(Advice("warning", text))
    if calibrates and parts.calibration is None:
        text = "no calibration examples: ranges are calibrated on made-up inputs, which real ones may exceed; give --data or --calibration"
        told.append(Advice("warning", text))
    elif calibrates and calibrating.count < examples.FEW:
        told.append(
            Advice(
                "warning",
                f"only {calibrating.count} calibration examples; use at least {examples.FEW}, better some hundreds",
            )
        )
    return told


def metric_for(asked: str | None, recipe: Recipe, model: Model, judged: Examples, classes: int | None) -> Metric:
    """Return the metric: the user's, the recipe's, the model's, else top1 with labels and agreement without.

    A float target makes it mse, and a model with one output value (where a top class means nothing) sqnr.

    Raises:
        BadInput: no such metric.
    """
    named = asked or recipe.metric
    if named:
        return metrics.find(named)
    own = metrics.find(model.metric) if model.metric else None
    if own is not None and (judged.labels is not None or not own.needs_labels):
        return own
    if (
        judged.labels is not None
        and judged.labels.dtype.kind in "iu"
        and judged.labels.ndim == 1
        and classes is not None
    ):
        return metrics.find("top1")
    if judged.labels is not None and judged.labels.dtype.kind == "f":
        return metrics.find("mse")
    return metrics.find("agreement" if classes is not None else "sqnr")
