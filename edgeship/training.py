"""Training passes on a Keras model, in a child process: prune, cluster, quantization-aware; ends in a TFLite file."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeship import keras_file
from edgeship.bridge import bridge
from edgeship.errors import BadInput, StageFailed
from edgeship.finetune import Array, Examples, Trainee, Tuned, finetune, plan, predict, split
from edgeship.keras_layers import kernel_name
from edgeship.passes import cluster, prune, qat
from edgeship.progress import OnProgress, Progress
from edgeship.recipe import Recipe

PACKAGES = ("tensorflow", "tf-keras", "keras", "tensorflow-model-optimization")


@dataclass(frozen=True)
class Order:
    """What to train.

    Attributes:
        source: the trained model, a Keras file (.keras or .h5).
        recipe: prune, cluster and qat are done here, in that order; quantize only together with qat.
        examples: npz; `input:<name>`: float32, what the model eats, batch axis first; optional `labels` and `groups`.
        out: the TFLite file to write.
        input_names, output_names: the reference's, in order: the file written has the same.
        seed: decides the held-out part, the order of examples and every initial value.
        trust: modules that the user allows to be imported.
    """

    source: Path
    recipe: Recipe
    examples: Path
    out: Path
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    seed: int = 0
    trust: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerReached:
    """What a layer's kernel ended as. `values` counts distinct ones; `passes` names the techniques that worked on it."""

    layer: str
    weights: int
    sparsity: float
    values: int
    passes: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """What training did; `tuned` is one history for each technique, in order."""

    layers: tuple[LayerReached, ...]
    tuned: dict[str, Tuned]
    bridge_error: float
    seconds: float
    warnings: tuple[str, ...] = ()
    tools: dict[str, str] = field(default_factory=dict)


def train(on_progress: OnProgress, order: Order) -> Trained:
    """Fine-tune a Keras model by the recipe and write it as TFLite with batch 1.

    Raises:
        BadInput: the model or the examples cannot be used.
        StageFailed: the bridge gives other answers, or the converter refused.
    """
    began = time.monotonic()
    _make_reproducible(order.seed)
    on_progress(Progress("train", 0, 0, "loading the model"))
    loaded = keras_file.load(order.source, order.trust)
    bridged = bridge(loaded.model, seed=order.seed)
    model = bridged.model
    examples = _read_examples(order, model)
    teacher = predict(model, examples.inputs)
    training, _ = split(examples.count, examples.groups, seed=order.seed)
    per_epoch, epochs = plan(len(training), order.recipe.train)
    tuned: dict[str, Tuned] = {}
    for name in ("prune", "cluster", "qat"):
        if getattr(order.recipe, name) is None:
            continue
        trainee = _wrapped(name, model, order.recipe, per_epoch * epochs, examples)
        _freeze_statistics(trainee.model)
        tuned[name] = finetune(
            on_progress, trainee, examples, teacher, options=order.recipe.train, seed=order.seed, stage=name
        )
        model = {"prune": prune.strip, "cluster": cluster.strip, "qat": lambda aware: aware}[name](trainee.model)
    on_progress(Progress("train", 0, 0, "converting"))
    content = to_tflite(order, model)
    temporary = order.out.with_name(order.out.name + ".part")
    temporary.write_bytes(content)
    temporary.replace(order.out)
    tools = {package: importlib.metadata.version(package) for package in PACKAGES}
    return Trained((), tuned, bridged.relative_error, round(time.monotonic() - began, 3), (), tools)


def _wrapped(name: str, model: Any, recipe: Recipe, steps: int, examples: Examples) -> Trainee:
    if name == "prune":
        return prune.wrap(model, recipe, steps=steps)
    if name == "cluster":
        return cluster.wrap(model, recipe)
    assert recipe.qat is not None
    few = tuple(array[: recipe.qat.calibration_examples] for array in examples.inputs)
    return qat.wrap(model, recipe, calibration=few)


def _make_reproducible(seed: int) -> None:
    import tensorflow as tf
    import tf_keras

    tf_keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def _freeze_statistics(model: Any) -> None:
    """Keep batch-norm statistics as they were learned; their scale and offset still train."""
    import tf_keras

    for layer in model.submodules:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.trainable = False


def _read_examples(order: Order, model: Any) -> Examples:
    """Return the examples with inputs in the model's own order.

    Raises:
        BadInput: names or shapes do not fit the model.
    """
    with np.load(order.examples, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    inputs = {name.removeprefix("input:"): array for name, array in arrays.items() if name.startswith("input:")}
    wanted = list(model.input_names)
    if len(inputs) != len(wanted):
        raise BadInput(f"{order.examples}: {len(inputs)} inputs, the model has {len(wanted)}: {', '.join(wanted)}")
    named = set(inputs) == set(wanted)
    ordered = [inputs[name] for name in (wanted if named else [n for n in order.input_names if n in inputs] or inputs)]
    return Examples(
        tuple(np.ascontiguousarray(array, dtype=np.float32) for array in ordered),
        arrays.get("labels"),
        arrays.get("groups"),
    )


def to_tflite(order: Order, model: Any) -> bytes:
    """Return the model as TFLite with batch 1: int8 where the recipe trained for it, else float32."""
    import tensorflow as tf

    inputs = {
        name: ((1, *tensor.shape[1:]), tensor.dtype)
        for name, tensor in zip(order.input_names, model.inputs, strict=True)
    }

    def forward(**tensors: Any) -> Mapping[str, Any]:
        ordered = [tensors[name] for name in order.input_names]
        outputs = tf.nest.flatten(model(ordered if len(ordered) > 1 else ordered[0], training=False))
        return dict(zip(order.output_names, outputs, strict=True))

    module = tf.Module()
    module.all_variables = list(model.variables)
    specs = {name: tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()}
    concrete = tf.function(forward, autograph=False).get_concrete_function(**specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    if order.recipe.qat:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if order.recipe.quantize.scheme == "int8":
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
    content: bytes = converter.convert()
    return content
