"""Quantization-aware training: TF-MOT's 8-bit scheme, with ranges calibrated before the first step (arXiv:1712.05877)."""

from __future__ import annotations

from typing import Any

from edgeship.finetune import Array, Trainee
from edgeship.keras_layers import cloned, is_chosen
from edgeship.recipe import Recipe

SUMMARY = "training that sees 8-bit rounding"
PACKAGES = ("tensorflow", "tf-keras", "tensorflow-model-optimization")


def wrap(model: Any, recipe: Recipe, *, calibration: tuple[Array, ...]) -> Trainee:
    """Return a copy of the model that rounds as its int8 file will.

    Args:
        model: a flat tf_keras functional model, left as it is.
        calibration: one array per input, batch axis first: what the ranges start from.
    """
    import tensorflow_model_optimization as tfmot

    assert recipe.qat is not None
    options = recipe.qat
    quantization = tfmot.quantization.keras

    def annotated(layer: Any) -> Any:
        if is_chosen(layer.name, options.layers, options.skip) and _supports(layer):
            return quantization.quantize_annotate_layer(layer)
        return layer

    with quantization.quantize_scope():
        aware = quantization.quantize_apply(cloned(model, annotated), _scheme(recipe))
    calibrate(aware, calibration)
    return Trainee(aware, quantized=True)


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


def _supports(layer: Any) -> bool:
    """Say whether TF-MOT knows how to round this kind of layer."""
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import default_8bit_quantize_registry

    if isinstance(layer, tf_keras.layers.InputLayer):
        return False
    return bool(default_8bit_quantize_registry.Default8BitQuantizeRegistry().supports(layer))


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
