"""Makes Keras 3 models whose signals do not vanish, and bridges them; runs in a child process, TensorFlow is heavy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgeship.bridge import bridge
from edgeship.errors import EdgeshipError
from edgeship.progress import OnProgress

APPLICATIONS = ("MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "EfficientNetB0", "ResNet50", "DenseNet121")


def seed_weights(model: Any, seed: int = 0) -> Any:
    """Give a model's kernels He's scale, and its batch norms statistics like those of a trained one."""
    random = np.random.default_rng(seed)
    for layer in _layers(model):
        weights = layer.get_weights()
        if type(layer).__name__ == "BatchNormalization":
            size = weights[0].shape
            scale, variance = random.uniform(0.8, 1.2, size), random.uniform(0.5, 1.5, size)
            weights = [scale, random.normal(0, 0.2, size), random.normal(0, 0.2, size), variance]
        elif type(layer).__name__ != "Normalization":
            weights = [_seeded(random, type(layer).__name__, array) for array in weights]
        layer.set_weights(weights)
    return model


def _seeded(random: np.random.Generator, kind: str, array: Any) -> Any:
    if array.ndim < 2:
        return random.normal(0, 0.1, array.shape)
    fan_in = np.prod(array.shape[:2] if kind == "DepthwiseConv2D" else array.shape[:-1])
    return random.normal(0, np.sqrt(2 / fan_in), array.shape)


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        else:
            yield layer


def bridge_application(on_progress: OnProgress, name: str) -> tuple[float, float, float]:
    """Return the error, the relative error, and how far the logits of two inputs are apart."""
    import keras

    make = getattr(keras.applications, name)
    model = seed_weights(make(weights=None, input_shape=(64, 64, 3), classes=10, classifier_activation=None))
    bridged = bridge(model, seed=0)
    images = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    logits = np.asarray(model(images, training=False))
    return bridged.max_abs_error, bridged.relative_error, float(np.ptp(logits) / (np.abs(logits).max() + 1e-30))


def bridge_all(on_progress: OnProgress) -> dict[str, tuple[float, float, float]]:
    """Return what `bridge_application` gives for a few; `scripts/bench_bridge.py` shows all of `APPLICATIONS`."""
    return {
        name: bridge_application(on_progress, name) for name in ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0")
    }


def bridge_small(on_progress: OnProgress) -> dict[str, Any]:
    """Return, for models with one trait each, the relative error with the layer names, or the refusal."""
    answers: dict[str, Any] = {}
    for name, make in _SMALL.items():
        try:
            bridged = bridge(make(), seed=0)
            answers[name] = (bridged.relative_error, [layer.name for layer in bridged.model.layers])
        except EdgeshipError as refusal:
            answers[name] = (type(refusal).__name__, refusal.message)
    return answers


def _nested() -> Any:
    import keras
    from keras import layers

    base = keras.Sequential([layers.Conv2D(4, 3, activation="silu"), layers.BatchNormalization()], name="base")
    image = keras.Input((8, 8, 3))
    both = layers.Concatenate()([base(image), base(image * 2.0)])
    flat = layers.Flatten()(layers.LeakyReLU(negative_slope=0.1)(both))
    outputs = [layers.Dense(5, activation="hard_sigmoid")(flat), layers.Dense(2, activation="gelu")(flat)]
    return seed_weights(keras.Model(image, outputs))


def _sequential() -> Any:
    import keras
    from keras import layers

    statistics = layers.Normalization()
    statistics.adapt(np.random.default_rng(0).normal(3, 5, (60, 6)))
    dense = [layers.Dense(8, activation=name) for name in ("relu6", "hard_silu", "leaky_relu", "log_softmax")]
    return seed_weights(keras.Sequential([keras.Input((6,)), statistics, *dense]))


def _sequence() -> Any:
    import keras
    from keras import layers

    words = keras.Input((10,))
    hidden = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(layers.Embedding(5, 8)(words))
    hidden = layers.TimeDistributed(layers.Dense(4))(layers.GRU(3, return_sequences=True)(hidden))
    hidden = layers.LayerNormalization()(layers.MultiHeadAttention(2, 4)(hidden, hidden))
    return keras.Model(words, layers.GlobalAveragePooling1D()(hidden))


def _tf_keras() -> Any:
    import tf_keras
    from tf_keras import layers

    statistics = layers.Normalization()
    statistics.adapt(np.random.default_rng(0).normal(3, 5, (60, 4)))
    base = tf_keras.Sequential([layers.Dense(6, activation="relu"), layers.BatchNormalization()], name="base")
    return tf_keras.Sequential([tf_keras.Input((4,)), statistics, base, layers.Dense(3)])


def _unknown_operation() -> Any:
    import keras

    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.ops.roll(image, 1, axis=1))


def _unbuilt() -> Any:
    import keras

    return keras.Sequential([keras.layers.Dense(3)], name="unbuilt")


def _lies() -> Any:
    """Return a model with a layer that answers otherwise than its options say: the check must find it."""
    import keras
    from keras import layers

    image = keras.Input((4,))
    hidden = layers.Dense(4, name="honest")(image)
    liar = layers.Dense(4, name="liar")
    model = keras.Model(image, layers.Dense(2, name="after")(liar(hidden)))
    liar.call = lambda inputs, training=None: inputs * 2.0
    return model


_SMALL = {
    "nested": _nested,
    "sequential": _sequential,
    "sequence": _sequence,
    "tf_keras": _tf_keras,
    "unknown operation": _unknown_operation,
    "unbuilt": _unbuilt,
    "lies": _lies,
}
