"""Training passes in a child process: prune, cluster, quantization-aware; from a trainable model to a TFLite file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeship import flatbuffer, tf_convert, tools, trained_file
from edgeship.errors import BadInput, StageFailed, near_miss
from edgeship.finetune import Trainee, Tuned, finetune, plan, split
from edgeship.keras_layers import kernel_name
from edgeship.lesson import Array, Material, check_labels, predict
from edgeship.passes import TRAINING_ORDER, TRAINING_PASSES
from edgeship.progress import OnProgress, Progress
from edgeship.recipe import Recipe
from edgeship.trainable import Start, Trainable, by_layer, trainable
from edgeship.trained_file import Ports

CALIBRATION_LIMIT = 1024
MOST = 0.5  # of all kernel weights: a technique that works on less leaves most of the model untouched


@dataclass(frozen=True)
class Order:
    """What to train.

    Attributes:
        start: the model to begin with.
        recipe: prune, cluster and qat are done here, in that order; quantize only together with qat.
        examples: npz; `input:<name>`: float32, what the model eats, batch axis first, in the reference's order; optional
            `labels` and `groups`. Its folder may be written to.
        out: the TFLite file to write: its inputs and outputs are the reference's.
        seed: decides the held-out part, the order of examples and every initial value.
    """

    start: Start
    recipe: Recipe
    examples: Path
    out: Path
    seed: int = 0


@dataclass(frozen=True)
class LayerReached:
    """What a layer's kernel ended as: its share of zeros, and the distinct values of the output channel with most.

    `passes` names the techniques that worked on it.
    """

    layer: str
    weights: int
    sparsity: float
    values_per_channel: int
    passes: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """What training did: what each kernel ended as, one history for each technique in order, what the user should know.

    `start_error` is the largest difference between the model that training began with and what it stands for, relative
    to the outputs' range.
    """

    layers: tuple[LayerReached, ...]
    tuned: dict[str, Tuned]
    start_error: float
    seconds: float
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tools: dict[str, str] = field(default_factory=dict)


def train(on_progress: OnProgress, order: Order) -> Trained:
    """Fine-tune a model by the recipe and write it as TFLite with batch 1. Runs in a child process.

    The file is float32 unless the recipe has qat; then it is int8, with int8 inputs and outputs for the scheme `int8`
    and float ones for `int8-float-io`.

    Raises:
        BadInput: the model or the examples cannot be used, or a pattern of the recipe fits no layer.
        StageFailed: the model cannot be made trainable, TF-MOT cannot wrap it, or the converter refused.
    """
    began = time.monotonic()
    _make_reproducible(order.seed)
    on_progress(Progress("train", 0, 0, "making the model trainable"))
    given = read_inputs(order.examples)
    begun = trainable(order.start, given, aside=order.examples.with_name("float.tflite"), seed=order.seed)
    order = replace(order, recipe=by_layer(order.recipe, begun.shown))
    material = read_material(order, begun)
    teacher = predict(begun.model, material.inputs)
    check_labels(material, teacher[0])
    model = begun.model
    tuned: dict[str, Tuned] = {}
    worked_on: dict[str, tuple[str, ...]] = {}
    warnings = list(begun.doubts)
    for name in TRAINING_ORDER:
        if getattr(order.recipe, name) is None:
            continue
        trainee = _wrapped(name, model, order, material, begun.shown)
        _freeze_statistics(trainee.model)
        tuned[name] = finetune(
            on_progress, trainee, material, teacher,
            options=order.recipe.train, seed=order.seed, stage=name, original=begun.model,
        )  # fmt: skip
        worked_on[name] = trainee.worked_on
        warnings += _doubts(name, trainee, tuned[name], begun, order)
        model = TRAINING_PASSES[name].strip(trainee.model)
    on_progress(Progress("train", 0, 0, "converting to TFLite"))
    scheme = order.recipe.quantize.scheme if order.recipe.qat else "float32"
    trained_file.write(order.start.source, model, _ports(order, begun), scheme, order.out)
    return Trained(
        layers=tuple(reached(model, worked_on, begun.shown)),
        tuned=tuned,
        start_error=begun.relative_error,
        seconds=round(time.monotonic() - began, 3),
        warnings=tuple(warnings),
        notes=begun.notes,
        tools=tools.versions(tools.TRAINING),
    )


def _ports(order: Order, begun: Trainable) -> Ports:
    """Return the reference's inputs and outputs in the model's own order, with a batch of 1."""
    interface = flatbuffer.read(order.start.reference).interface
    shapes = {spec.name: tuple(max(size, 1) for size in spec.shape) for spec in (*interface.inputs, *interface.outputs)}
    return Ports(
        {name: shapes[name] for name in begun.input_names}, {name: shapes[name] for name in begun.output_names}
    )


def _make_reproducible(seed: int) -> None:
    import tensorflow as tf
    import tf_keras

    tf_keras.backend.clear_session()  # numbers in made-up names start anew
    tf_keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def _wrapped(name: str, model: Any, order: Order, material: Material, shown: Mapping[str, str]) -> Trainee:
    """Return the model wrapped by one technique.

    Raises:
        BadInput: the recipe's patterns choose no layer.
        StageFailed: TF-MOT cannot wrap this model.
    """
    _check_patterns(name, model, order.recipe, shown)
    training, _ = split(material.count, material.groups, seed=order.seed)
    per_epoch, epochs = plan(len(training), order.recipe.train)
    calibration = tuple(array[training[:CALIBRATION_LIMIT]] for array in material.inputs)
    try:
        trainee = TRAINING_PASSES[name].wrap(model, order.recipe, steps=per_epoch * epochs, calibration=calibration)
    except (ValueError, TypeError, RuntimeError, AttributeError) as fault:
        raise StageFailed(
            f"{order.start.source}: {name}: TF-MOT cannot wrap it: {tf_convert.first_line(fault)}"
        ) from fault
    if not trainee.worked_on:
        reasons = "; ".join(f"{shown.get(layer, layer)} {why}" for layer, why in trainee.left.items())
        raise BadInput(f"{order.start.source}: {name} finds no layer to work on{': ' + reasons if reasons else ''}")
    return trainee


def _check_patterns(name: str, model: Any, recipe: Recipe, shown: Mapping[str, str]) -> None:
    """Refuse a pattern that fits no layer: a misspelt name would otherwise change nothing, silently."""
    from fnmatch import fnmatchcase

    options = getattr(recipe, name)
    layers = [layer.name for layer in model.layers]
    for key in ("layers", "skip"):
        for pattern in getattr(options, key):
            if pattern != "*" and not any(fnmatchcase(layer, pattern) for layer in layers):
                guess = near_miss(pattern, [shown.get(layer, layer) for layer in layers])
                question = f"; did you mean '{guess}'?" if guess else ""
                kernels = [
                    shown.get(layer.name, layer.name) for layer in model.layers if kernel_name(layer, depthwise=True)
                ]
                raise BadInput(
                    f"recipe '{recipe.name}': {name}.{key}: '{pattern}' fits no layer{question}",
                    hint=f"layers with weights: {', '.join(kernels)}",
                )


def _freeze_statistics(model: Any) -> None:
    """Keep batch-norm statistics as they were learned: few examples give worse ones. Scale and offset still train."""
    import tf_keras

    for layer in model.submodules:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.trainable = False


def _doubts(name: str, trainee: Trainee, tuned: Tuned, begun: Trainable, order: Order) -> Iterator[str]:
    """Yield what the user should know of one technique's work."""
    sizes = {layer.name: _kernel_size(layer) for layer in begun.model.layers if layer.weights}
    share = sum(sizes.get(layer, 0) for layer in trainee.worked_on) / max(1, sum(sizes.values()))
    if share < MOST:
        yield f"{name} left most of the model untouched: it worked on {share:.0%} of the weights"
    for layer, why in trainee.left.items():
        yield f"{name} left '{begun.shown.get(layer, layer)}': {why}"
    if tuned.diverged is not None:
        yield (
            f"{name}: with learning rate {tuned.learning_rate:g} the loss was not finite in epoch {tuned.diverged}, "
            "and training ended there: set [train] learning_rate lower"
        )
    if tuned.best_epoch == 0:
        yield f"{name}: no epoch of fine-tuning was better than none; the weights are those before it"
    if order.recipe.train.learning_rate is None and all(loss is None for loss in tuned.probed.values()):
        yield f"{name}: the loss grew beyond all bounds with every learning rate tried"


def _kernel_size(layer: Any) -> int:
    return max(int(np.prod(weight.shape)) for weight in layer.weights)


def read_inputs(examples: Path) -> dict[str, Array]:
    """Return the arrays `input:<name>` of the examples by name, in the order in which they were written."""
    with np.load(examples, allow_pickle=False) as stored:
        return {name.removeprefix("input:"): stored[name] for name in stored.files if name.startswith("input:")}


def read_material(order: Order, begun: Trainable) -> Material:
    """Return the examples with inputs in the model's own order: by name where the names are its own, else by position.

    Raises:
        BadInput: names or shapes do not fit the model.
    """
    inputs, model = read_inputs(order.examples), begun.model
    with np.load(order.examples, allow_pickle=False) as stored:
        labels, groups = (stored[name] if name in stored.files else None for name in ("labels", "groups"))
    wanted = list(model.input_names)
    if len(inputs) != len(wanted):
        raise BadInput(f"{order.examples}: {len(inputs)} inputs, the model has {len(wanted)}: {', '.join(wanted)}")
    names = next((known for known in (begun.input_names, wanted) if set(known) == set(inputs)), list(inputs))
    ordered = [inputs[name] for name in names]
    for name, array, tensor in zip(names, ordered, model.inputs, strict=True):
        sizes = zip(array.shape[1:], tensor.shape[1:], strict=False)
        if array.ndim != len(tensor.shape) or any(size is not None and size != given for given, size in sizes):
            raise BadInput(
                f"{order.examples}: '{name}' has examples of shape {array.shape[1:]}, not {tensor.shape[1:]}"
            )
    typed = [array.astype(tensor.dtype.as_numpy_dtype) for array, tensor in zip(ordered, model.inputs, strict=True)]
    return Material(tuple(typed), labels, groups)


def reached(model: Any, worked_on: Mapping[str, tuple[str, ...]], shown: Mapping[str, str]) -> Iterator[LayerReached]:
    """Yield what every kernel of a stripped or quantization-aware model ended as."""
    for layer in model.layers:
        kernel = final_kernel(layer)
        if kernel is None:
            continue
        name = getattr(layer, "layer", layer).name
        channels = kernel.reshape(-1, kernel.shape[-1]).T
        yield LayerReached(
            layer=shown.get(name, name),
            weights=int(kernel.size),
            sparsity=round(float((kernel == 0).mean()), 6),
            values_per_channel=max(len(np.unique(channel)) for channel in channels),
            passes=tuple(technique for technique, layers in worked_on.items() if name in layers),
        )


def final_kernel(layer: Any) -> Array | None:
    """Return a layer's kernel as it will be used, rounded where the layer rounds; None for a layer without one."""
    inner = getattr(layer, "layer", layer)
    attribute = kernel_name(inner, depthwise=True)
    if attribute is None:
        return None
    for variable, quantizer, ranges in getattr(layer, "_weight_vars", ()):
        rounded: Array = quantizer(variable, False, weights=ranges).numpy()
        return rounded
    kernel: Array = getattr(inner, attribute).numpy()
    return kernel
