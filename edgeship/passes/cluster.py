"""Clustering: TF-MOT's weight clustering of convolution and dense kernels (Han et al. 2016, arXiv:1510.00149)."""

from __future__ import annotations

from typing import Any

from edgeship.channel_scale import even_out_channels
from edgeship.finetune import Trainee
from edgeship.keras_layers import cloned, is_chosen, kernel_name
from edgeship.recipe import Recipe

SUMMARY = "weights that share a few values"
PACKAGES = ("tensorflow", "tf-keras", "tensorflow-model-optimization")


def wrap(model: Any, recipe: Recipe) -> Trainee:
    """Return a copy of the model whose chosen kernels are made of a few values each; zeros of pruning stay zero.

    The values are shared by a whole kernel, so the channels are first brought to one size: folding the batch norm and
    rounding by channel then gives the same few int8 codes in every channel, which compress.
    """
    import tensorflow_model_optimization as tfmot

    assert recipe.cluster is not None
    options = recipe.cluster
    clustering = tfmot.clustering.keras
    start = clustering.CentroidInitialization(_INITIALIZATIONS[options.initialization])

    def wrapped(layer: Any) -> Any:
        name = kernel_name(layer, depthwise=False)
        if name is None or not is_chosen(layer.name, options.layers, options.skip):
            return layer
        if getattr(layer, name).shape.num_elements() <= options.clusters:
            return layer
        return clustering.cluster_weights(
            layer, options.clusters, start, preserve_sparsity=recipe.prune is not None, cluster_per_channel=False
        )

    return Trainee(cloned(even_out_channels(cloned(model)), wrapped))


def strip(model: Any) -> Any:
    """Return the clustered model without its wrappers."""
    import tensorflow_model_optimization as tfmot

    return tfmot.clustering.keras.strip_clustering(model)


_INITIALIZATIONS = {
    "linear": "CentroidInitialization.LINEAR",
    "density": "CentroidInitialization.DENSITY_BASED",
    "kmeans++": "CentroidInitialization.KMEANS_PLUS_PLUS",
    "random": "CentroidInitialization.RANDOM",
}
