"""Which layers of a tf_keras model a pass works on, and a copy of the model with some of them replaced."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any


def is_chosen(name: str, layers: tuple[str, ...], skip: tuple[str, ...]) -> bool:
    """Say whether a layer's name fits the patterns of a recipe."""
    return any(fnmatchcase(name, pattern) for pattern in layers) and not any(
        fnmatchcase(name, pattern) for pattern in skip
    )


def kernel_name(layer: Any, *, depthwise: bool) -> str | None:
    """Return the attribute that holds a convolution's or dense layer's kernel, None for any other layer."""
    import tf_keras

    kinds = tf_keras.layers
    if type(layer) in (kinds.Conv1D, kinds.Conv2D, kinds.Conv2DTranspose, kinds.Conv3D, kinds.Dense):
        return "kernel"
    if type(layer) is kinds.DepthwiseConv2D and depthwise:
        return "depthwise_kernel"
    return None


def cloned(model: Any, replace: Callable[[Any], Any] | None = None) -> Any:
    """Return a copy of a functional tf_keras model, weights and all, with some layers replaced by wrappers of themselves.

    The wrappers get layers of the copy: TF-MOT's wrapping changes the layers it is given.
    """
    import tf_keras

    copy = tf_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return tf_keras.models.clone_model(copy, clone_function=replace) if replace else copy


def only_producer(layer: Any) -> Any:
    """Return the layer whose output is this layer's only input, used once; None where there are several."""
    nodes = layer.inbound_nodes
    if len(nodes) != 1:
        return None
    before = nodes[0].inbound_layers
    return None if isinstance(before, (list, tuple)) and len(before) != 1 else _single(before)


def only_consumer(layer: Any) -> Any:
    """Return the layer that alone takes this layer's output; None where there are several, or none."""
    nodes = layer.outbound_nodes
    return nodes[0].outbound_layer if len(nodes) == 1 and len(layer.inbound_nodes) == 1 else None


def _single(layers: Any) -> Any:
    return layers[0] if isinstance(layers, (list, tuple)) else layers
