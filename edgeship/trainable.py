"""The model that training starts from: a Keras source taken over by the bridge, else the reference, lifted."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from edgeship import flatbuffer, keras_file
from edgeship.bridge import bridge
from edgeship.errors import StageFailed
from edgeship.lesson import Array
from edgeship.lift import lift
from edgeship.recipe import Recipe


@dataclass(frozen=True)
class Start:
    """Where training starts.

    Attributes:
        source: what the user gave, for messages.
        keras: the Keras file to start from, None where there is none.
        reference: the float TFLite reference, which is lifted where no Keras file can be taken over.
        input_names, output_names: the reference's signature, in the order of the Keras file's own inputs and outputs.
        trust: modules that the user allows to be imported.
    """

    source: Path
    keras: Path | None
    reference: Path
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    trust: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trainable:
    """A flat tf_keras model that gives the reference's answers, and whose names the user knows.

    Attributes:
        relative_error: how far its answers are from the source's, relative to the outputs' range.
        input_names, output_names: the reference's, in the model's own order.
        shown: layer name → what to call it before the user; a layer that is absent is called by its own name.
        doubts, notes: what the user should know of how it came about.
    """

    model: Any
    relative_error: float
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    shown: Mapping[str, str]
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def trainable(start: Start, inputs: Mapping[str, Array], *, aside: Path, seed: int) -> Trainable:
    """Return the model to train, held against what it stands for.

    Args:
        inputs: real examples by the reference's input names, in the reference's order; some of them check a lifted model.
        aside: a file that may be written while lifting.

    Raises:
        BadInput: the Keras file is damaged, or runs code that is not trusted.
        StageFailed: it cannot be made trainable; names the layer or the operation.
    """
    if start.keras is None:
        return _lifted(start, inputs, aside)
    source = keras_file.load(start.keras, start.trust).model
    try:
        bridged = bridge(source, seed=seed)
    except StageFailed as refusal:
        doubt = f"training starts from the reference's graph, without batch norms, since {refusal.message}"
        try:
            return _lifted(start, inputs, aside, doubt)
        except StageFailed as other:
            raise StageFailed(f"{start.source}: {refusal.message}; {other.message}") from refusal
    return Trainable(bridged.model, bridged.relative_error, start.input_names, start.output_names, {})


def _lifted(start: Start, inputs: Mapping[str, Array], aside: Path, *doubts: str) -> Trainable:
    interface = flatbuffer.read(start.reference).interface
    made = lift(start.reference, list(inputs.values()), aside=aside, name=str(start.source))
    return Trainable(
        model=made.model,
        relative_error=made.relative_error,
        input_names=tuple(spec.name for spec in interface.inputs),
        output_names=tuple(spec.name for spec in interface.outputs),
        shown=made.shown,
        doubts=doubts,
        notes=made.notes,
    )


def by_layer(recipe: Recipe, shown: Mapping[str, str]) -> Recipe:
    """Return the recipe with its patterns, which the user wrote for the names shown, as names of layers.

    A pattern that fits nothing is kept as it is.
    """
    changed = {}
    for technique in ("prune", "cluster", "qat"):
        options = getattr(recipe, technique)
        if options is not None:
            told = {key: _translated(getattr(options, key), shown) for key in ("layers", "skip")}
            changed[technique] = options.model_copy(update=told)
    return recipe.model_copy(update=changed)


def _translated(patterns: Sequence[str], shown: Mapping[str, str]) -> tuple[str, ...]:
    found: list[str] = []
    for pattern in patterns:
        fitting: Iterable[str] = (
            glob.escape(layer) for layer, name in shown.items() if pattern != "*" and fnmatchcase(name, pattern)
        )
        found += [*fitting] or [pattern]
    return tuple(found)
