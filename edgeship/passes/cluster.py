"""Clustering: TF-MOT's weight clustering of convolution and dense kernels (Han et al. 2016, arXiv:1510.00149)."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeship.channel_scale import even_out_channels
from edgeship.finetune import Trainee
from edgeship.keras_layers import cloned, is_chosen, kernel_name
from edgeship.lesson import Array
from edgeship.recipe import Recipe

SUMMARY = "weights that share a few values"
PACKAGES: tuple[str, ...] = ("tensorflow", "tf-keras", "tensorflow-model-optimization")
_INITIALIZATIONS = {"linear": "LINEAR", "density": "DENSITY_BASED", "kmeans++": "KMEANS_PLUS_PLUS", "random": "RANDOM"}


def wrap(model: Any, recipe: Recipe, *, steps: int, calibration: tuple[Array, ...]) -> Trainee:
    """Return a copy of the model whose chosen kernels are made of a few values each; zeros of pruning stay zero.

    The values are shared by a whole kernel, so the channels are first brought to one size: folding the batch norm and
    rounding by channel then gives the same few int8 codes in every channel, which compress. TF-MOT's clustering by
    channel leaves thousands of values instead.
    """
    import tensorflow_model_optimization as tfmot

    assert recipe.cluster is not None
    options = recipe.cluster
    clustering = tfmot.clustering.keras
    start = getattr(clustering.CentroidInitialization, _INITIALIZATIONS[options.initialization])
    worked_on, left = [], {}

    def wrapped(layer: Any) -> Any:
        kernel = kernel_name(layer, depthwise=False)
        if kernel is None or not is_chosen(layer.name, options.layers, options.skip):
            return layer
        if getattr(layer, kernel).shape.num_elements() <= options.clusters:
            left[layer.name] = f"has no more than {options.clusters} weights"
            return layer
        worked_on.append(layer.name)
        return clustering.cluster_weights(layer, options.clusters, start, preserve_sparsity=recipe.prune is not None)

    clustered = cloned(even_out_channels(cloned(model)), wrapped)
    return Trainee(clustered, tuple(worked_on), left)


def strip(model: Any) -> Any:
    """Return the clustered model without its wrappers."""
    import tensorflow_model_optimization as tfmot

    names = [layer.layer.name for layer in model.layers if hasattr(layer, "clustering_algorithms")]
    stripped = tfmot.clustering.keras.strip_clustering(model)
    for name in names:
        kernel = stripped.get_layer(name).kernel
        kernel.assign(with_even_extremes(kernel.numpy()))
    return stripped


def with_even_extremes(kernel: Array) -> Array:
    """Return the kernel with its smallest and largest value moved to the same distance from zero.

    A channel is rounded by its own largest weight: one that has only the negative extreme and one that has only the
    positive would otherwise give the same values different int8 codes.
    """
    lowest, highest = kernel.min(), kernel.max()
    if not lowest < 0 < highest:
        return kernel
    distance = (highest - lowest) / 2
    moved: Array = np.where(kernel == lowest, -distance, np.where(kernel == highest, distance, kernel))
    return moved.astype(kernel.dtype)
