"""Quantization-aware training: TF-MOT's 8-bit scheme, with ranges calibrated before the first step (arXiv:1712.05877)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from edgeship.finetune import Trainee
from edgeship.keras_layers import cloned, is_chosen, kernel_name, only_consumer, only_producer
from edgeship.lesson import Array
from edgeship.lift_operations import is_rounded, moves_values
from edgeship.recipe import Recipe

SUMMARY = "training that sees 8-bit rounding"
_KNOWN_ACTIVATIONS = frozenset({"linear", "relu", "relu6", "swish", "gelu", "softmax", "sigmoid", "tanh"})
PACKAGES: tuple[str, ...] = ("tensorflow", "tf-keras", "tensorflow-model-optimization")


def wrap(model: Any, recipe: Recipe, *, steps: int, calibration: tuple[Array, ...]) -> Trainee:
    """Return a copy of the model that rounds as its int8 file will, and keeps the zeros and values of earlier passes."""
    import tensorflow_model_optimization as tfmot

    assert recipe.qat is not None
    options = recipe.qat
    quantization = tfmot.quantization.keras
    worked_on, left = [], {}

    def annotated(layer: Any) -> Any:
        if not is_chosen(layer.name, options.layers, options.skip):
            return layer
        way = _way_to_round(layer)
        if way is None:
            if not moves_values(layer):
                left[layer.name] = f"TF-MOT cannot round a {getattr(layer, 'kind', type(layer).__name__)}"
            return layer
        if kernel_name(layer, depthwise=True):
            worked_on.append(layer.name)
        return quantization.quantize_annotate_layer(layer, None if way == "scheme" else _round_output())

    with quantization.quantize_scope(), _clusters_of_whole_kernels():
        aware = quantization.quantize_apply(cloned(model, annotated), _scheme(recipe))
    calibrate(aware, tuple(array[: options.calibration_examples] for array in calibration))
    return Trainee(aware, tuple(worked_on), left, rounds_outputs=True)


def strip(model: Any) -> Any:
    """Return the model as it is: the converter turns its rounding into int8."""
    return model


def calibrate(model: Any, inputs: tuple[Array, ...]) -> None:
    """Set every activation range to what one pass over real inputs gives.

    TF-MOT starts them at -6 to 6 and moves them by a thousandth a step: hopeless for inputs of 0 to 255.
    """
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.quantization.keras import quantizers

    moving_average = quantizers.quant_ops.MovingAvgQuantize

    def at_once(*args: Any, **kwargs: Any) -> Any:
        return moving_average(*args, **{**kwargs, "ema_decay": 0.0})

    quantizers.quant_ops.MovingAvgQuantize = at_once
    try:
        tensors = [tf.constant(array) for array in inputs]
        model(tensors if len(tensors) > 1 else tensors[0], training=True)
    finally:
        quantizers.quant_ops.MovingAvgQuantize = moving_average


def _way_to_round(layer: Any) -> Literal["scheme", "output"] | None:
    """Say how a layer is rounded: as TF-MOT's scheme does it, its output only, or not at all."""
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import default_8bit_quantize_registry

    kinds = tf_keras.layers
    if isinstance(layer, kinds.BatchNormalization):
        before = only_producer(layer)
        folds = type(before) in (kinds.Conv2D, kinds.DepthwiseConv2D, kinds.Dense) and only_consumer(before) is layer
        return "scheme" if folds and before.activation is tf_keras.activations.linear else "output"
    if isinstance(layer, kinds.Activation):
        name = getattr(layer.activation, "__name__", "")
        return "scheme" if name in _KNOWN_ACTIVATIONS else "output"
    if default_8bit_quantize_registry.Default8BitQuantizeRegistry().supports(layer):
        return "scheme"
    if is_rounded(layer):
        return "output"
    return "output" if type(layer) in (kinds.Multiply, kinds.Subtract, kinds.Rescaling) else None


def _round_output() -> Any:
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import default_8bit_quantize_configs

    return default_8bit_quantize_configs.Default8BitOutputQuantizeConfig()


@contextmanager
def _clusters_of_whole_kernels() -> Iterator[None]:
    """Keep one set of values for a whole kernel: TF-MOT would make one per channel, and they would drift apart."""
    from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve import (
        cluster_preserve_quantize_registry as registry,
    )

    theirs = registry.get_centroids

    def of_whole_kernel(layer: Any, weight: Any, data_format: str) -> tuple[Any, Any, Any, bool]:
        values, index = registry.get_unique(weight)
        return values, registry.tf.size(values), index, False

    registry.get_centroids = of_whole_kernel
    try:
        yield
    finally:
        registry.get_centroids = theirs


def _scheme(recipe: Recipe) -> Any:
    """Return the scheme that keeps what pruning and clustering have made."""
    from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve import (
        default_8bit_cluster_preserve_quantize_scheme as clusters,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (
        default_8bit_prune_preserve_quantize_scheme as zeros,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import default_8bit_quantize_scheme

    if recipe.cluster:
        return clusters.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=recipe.prune is not None)
    if recipe.prune:
        return zeros.Default8BitPrunePreserveQuantizeScheme()
    return default_8bit_quantize_scheme.Default8BitQuantizeScheme()
