"""The size of a convolution's output channels, moved into the batch norm behind it without changing any answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeship.keras_layers import kernel_name, only_consumer


def even_out_channels(model: Any) -> Any:
    """Scale every kernel that feeds a batch norm, in place, so that each output channel's largest weight is 1 or -1.

    With y = s (k*x + b - mean) / sqrt(var + eps) + beta, the scale a of a channel goes from k and b into mean, var and s.
    The sign is such that s is positive: folding keeps the order of the values in all channels.
    """
    import tf_keras

    for layer in model.layers:
        norm = only_consumer(layer)
        if kernel_name(layer, depthwise=False) is None or type(norm) is not tf_keras.layers.BatchNormalization:
            continue
        if layer.activation is not tf_keras.activations.linear or list(norm.axis) != [len(layer.output_shape) - 1]:
            continue
        if isinstance(layer, tf_keras.layers.Conv2DTranspose):
            continue  # its output channels are not the kernel's last axis
        _even_out(layer, norm)
    return model


def _even_out(layer: Any, norm: Any) -> None:
    kernel = layer.kernel.numpy()
    largest = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0)
    scale = np.where(largest > 0, 1 / np.maximum(largest, 1e-30), 1.0)
    if norm.gamma is not None:
        scale = np.where(norm.gamma.numpy() < 0, -scale, scale)
    old = norm.moving_variance.numpy() + norm.epsilon
    new = np.maximum(scale**2 * old, norm.epsilon)
    if norm.gamma is not None:
        norm.gamma.assign(norm.gamma.numpy() * np.sqrt(new / old) / scale)
    elif not np.allclose(new, scale**2 * old):
        return  # without a learned scale the variance alone cannot take it
    layer.kernel.assign(kernel * scale)
    if layer.bias is not None:
        layer.bias.assign(layer.bias.numpy() * scale)
    norm.moving_mean.assign(norm.moving_mean.numpy() * scale)
    norm.moving_variance.assign(new - norm.epsilon)
