"""One layer or operation of Keras 3 as its counterpart in tf_keras: what is renamed, dropped, or means something else."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from edgeship.errors import StageFailed

_DROPPED_ENDINGS = ("_initializer", "_regularizer", "_constraint")  # weights are copied, and our loss has no penalties
_DROPPED = frozenset({"dtype", "name", "batch_shape", "batch_input_shape", "quantization_config", "build_config"})
_RENAMED = {("LeakyReLU", "negative_slope"): "alpha"}
_SAME_ACTIVATIONS = frozenset(
    {
        "elu", "exponential", "gelu", "linear", "mish", "relu", "selu", "sigmoid", "softmax", "softplus", "softsign",
        "swish", "tanh",
    }
)  # fmt: skip
_BINARY = {"Add": "add", "Subtract": "subtract", "Multiply": "multiply", "Divide": "divide", "TrueDivide": "truediv"}


def translated(layer: Any, *, name: str) -> Any:
    """Return a new tf_keras layer of the same kind and options, not yet built.

    Raises:
        StageFailed: tf_keras has no such layer or option.
    """
    import tf_keras

    kind = type(layer).__name__
    if kind == "Normalization":
        return _rescaling(layer, name)
    if kind == "Activation" and layer.activation.__name__ == "relu6":
        return tf_keras.layers.ReLU(6.0, name=name)
    if type(layer).__module__.startswith("tf_keras.") or isinstance(layer, tf_keras.layers.Layer):
        return type(layer).from_config({**layer.get_config(), "name": name})
    made = getattr(tf_keras.layers, kind, None)
    if made is None or not type(layer).__module__.startswith("keras."):
        raise StageFailed(f"layer '{layer.name}' ({kind}) has no counterpart in tf_keras, which training needs")
    try:
        return made(**_options(layer, made), name=name)
    except (TypeError, ValueError) as fault:
        raise StageFailed(f"layer '{layer.name}' ({kind}) does not fit tf_keras: {str(fault)[:200]}") from fault


def _options(layer: Any, made: type) -> dict[str, Any]:
    """Return the layer's options as the tf_keras class takes them."""
    makers = [vars(parent)["__init__"] for parent in inspect.getmro(made) if "__init__" in vars(parent)]
    known = {key for maker in makers for key in inspect.signature(maker).parameters}
    options: dict[str, Any] = {}
    for key, value in layer.get_config().items():
        key = _RENAMED.get((made.__name__, key), key)
        if key in _DROPPED or key.endswith(_DROPPED_ENDINGS) or key not in known:
            continue
        if key.endswith("activation"):
            value = activation(getattr(layer, key), layer.name)
        elif key in ("layer", "backward_layer") and isinstance(value, dict):
            inner = getattr(layer, "forward_layer" if hasattr(layer, "forward_layer") else "layer", None)
            value = translated(layer.backward_layer if key == "backward_layer" else inner, name=value["config"]["name"])
        options[key] = value
    return options


def _rescaling(layer: Any, name: str) -> Any:
    """Return Normalization as constants: tf_keras would forget its statistics when the layer is copied."""
    import tf_keras

    mean, variance = np.asarray(layer.mean).reshape(-1), np.asarray(layer.variance).reshape(-1)
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    last = len(layer.mean.shape) - 1
    if any(axis not in (-1, last) for axis in axes if axis is not None) or len(axes) > 1:
        raise StageFailed(f"layer '{layer.name}' (Normalization) works on an axis other than the last one")
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    scale, offset = (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
    return tf_keras.layers.Rescaling(_plain(scale), _plain(offset), name=name)


def _plain(values: Any) -> float | list[float]:
    return float(values[0]) if len(values) == 1 else [float(value) for value in values]


def activation(function: Any, layer: str) -> Any:
    """Return tf_keras's function of the same meaning; the same name may mean another one there.

    Raises:
        StageFailed: there is none.
    """
    name = getattr(function, "__name__", str(function))
    name = {"silu": "swish"}.get(name, name)
    if name in _SAME_ACTIVATIONS:
        return name
    if name in _own_activations():
        return _own_activations()[name]
    raise StageFailed(f"layer '{layer}': the activation '{name}' has no counterpart in tf_keras, which training needs")


def own_activation(name: str) -> Callable[[Any], Any]:
    """Return a function of Keras 3 or TFLite that tf_keras lacks, such as `hard_silu`."""
    return _own_activations()[name]


@cache
def _own_activations() -> dict[str, Callable[[Any], Any]]:
    """Return Keras 3's functions that tf_keras lacks, or has under the same name with another meaning."""
    import tensorflow as tf
    import tf_keras

    def hard_sigmoid(x: Any) -> Any:
        return tf.nn.relu6(x + 3.0) * (1.0 / 6.0)  # tf_keras: clip(0.2 x + 0.5)

    def hard_silu(x: Any) -> Any:
        return x * hard_sigmoid(x)

    def leaky_relu(x: Any) -> Any:
        return tf.nn.leaky_relu(x, 0.2)

    def relu6(x: Any) -> Any:
        return tf.nn.relu6(x)

    def log_softmax(x: Any) -> Any:
        return tf.nn.log_softmax(x)

    functions = {function.__name__: function for function in (hard_sigmoid, hard_silu, leaky_relu, relu6, log_softmax)}
    for name, function in functions.items():
        tf_keras.utils.get_custom_objects()[f"edgeship>{name}"] = function
        function._keras_api_names = ()  # type: ignore[attr-defined]
    return {name: tf_keras.utils.register_keras_serializable("edgeship", name)(f) for name, f in functions.items()}


def operation(made_by: Any, args: Any, kwargs: dict[str, Any], *, name: str) -> Any:
    """Return what an operation of Keras 3 (`x + 3.0`, `keras.ops.reshape`) gives on tf_keras tensors.

    Raises:
        StageFailed: the operation is not known here.
    """
    import tensorflow as tf
    import tf_keras

    kind = type(made_by).__name__
    if kind in ("Add", "Multiply") and len(args) == 2 and any(isinstance(arg, (int, float)) for arg in args):
        number, tensor = sorted(args, key=lambda arg: not isinstance(arg, (int, float)))
        scale, offset = (1.0, float(number)) if kind == "Add" else (float(number), 0.0)
        return tf_keras.layers.Rescaling(scale, offset, name=name)(
            tensor
        )  # which quantizes, and a bare operation does not
    if kind in ("Add", "Subtract", "Multiply") and all(hasattr(arg, "shape") for arg in args):
        return getattr(tf_keras.layers, kind)(name=name)(list(args))
    if kind in _BINARY:
        return getattr(tf.math, _BINARY[kind])(*args)
    shape = getattr(made_by, "newshape", None)
    if kind == "Reshape" and shape is not None:
        return tf_keras.layers.Reshape(tuple(size if size else -1 for size in shape[1:]), name=name)(args[0])
    if kind in ("Mean", "Sum", "Max") and hasattr(made_by, "axis"):
        reduce = {"Mean": tf.reduce_mean, "Sum": tf.reduce_sum, "Max": tf.reduce_max}[kind]
        return reduce(args[0], axis=made_by.axis, keepdims=made_by.keepdims)
    functions = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Silu": "swish", "Relu6": "relu6"}
    functions |= {"HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "Softmax": "softmax", "Gelu": "gelu"}
    if kind in functions and not kwargs and getattr(made_by, "axis", -1) == -1:
        if kind == "Relu6":
            return tf_keras.layers.ReLU(6.0, name=name)(args[0])
        if kind != "Gelu" or not getattr(made_by, "approximate", True):
            function = functions[kind]
            made = function if function in _SAME_ACTIVATIONS else _own_activations()[function]
            return tf_keras.layers.Activation(made, name=name)(args[0])
    raise StageFailed(f"operation '{made_by.name}' ({kind}) has no counterpart in tf_keras, which training needs")
