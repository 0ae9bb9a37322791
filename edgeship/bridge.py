"""Keras 3 → tf_keras, which TF-MOT needs: a flat functional model of the same layers, weights and answers.

A tf_keras model goes the same way, since TF-MOT takes no models used as layers and no Sequential with models inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.bridge_layers import operation, translated
from edgeship.errors import StageFailed

RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-6
CHECKED_EXAMPLES = 4
FREE_SIZE = 64  # for an axis that the model leaves open


@dataclass(frozen=True)
class Bridged:
    """A flat tf_keras functional model, and how far its answers are from the source's (relative: of the outputs' range)."""

    model: Any
    max_abs_error: float
    relative_error: float


@dataclass
class _Walk:
    """What is known on the way: source layer → new layer, names given, and each step of the outermost graph."""

    layers: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    steps: list[tuple[str, Any, Any]] = field(default_factory=list)


def bridge(model: Any, *, seed: int) -> Bridged:
    """Return a Keras 3 or tf_keras model as a flat functional tf_keras model, checked against the source.

    Args:
        seed: decides the inputs of the check.

    Raises:
        StageFailed: a layer has no counterpart, or the answers differ; names the layer.
    """
    import tf_keras

    source = _graph(model)
    walk = _Walk()
    inputs = []
    for tensor in source.inputs:
        name = _unique_name(walk, _origin(tensor).name, "")
        inputs.append(tf_keras.Input(shape=tuple(tensor.shape[1:]), dtype=_dtype(tensor), name=name))
    outputs = _follow(source, inputs, walk, prefix="")
    made = tf_keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0], name="model")
    for old, new in walk.layers.values():
        _copy_weights(old, new)
    absolute, relative = _check(source, made, walk, seed)
    return Bridged(made, absolute, relative)


def _graph(model: Any) -> Any:
    """Return what holds the graph: the model, or the functional model inside a Sequential one.

    Raises:
        StageFailed: the model has no graph.
    """
    inner = getattr(model, "_functional", None) or model  # Keras 3's Sequential
    if not getattr(inner, "_nodes_by_depth", None):
        raise StageFailed(f"model '{model.name}': training needs a functional or Sequential model that has been built")
    return inner


def _follow(source: Any, inputs: list[Any], walk: _Walk, prefix: str) -> list[Any]:
    """Call the counterpart of every layer of a graph and return its outputs."""
    tensors = {id(tensor): value for tensor, value in zip(source.inputs, inputs, strict=True)}
    for layer, args, kwargs, outputs in _calls(source):
        if all(id(tensor) in tensors for tensor in outputs):
            continue  # an input
        args, kwargs = _filled(args, tensors), _filled(kwargs, tensors)
        if _is_model(layer):
            given = [value for value in _flat([args, list(kwargs.values())]) if hasattr(value, "shape")]
            made = _follow(_graph(layer), given, walk, prefix=f"{prefix}{layer.name}/")
        else:
            made = _flat(_call(layer, args, kwargs, walk, prefix))
        for tensor, value in zip(outputs, made, strict=True):
            tensors[id(tensor)] = value
            if not prefix:
                walk.steps.append((layer.name, tensor, value))
    return [tensors[id(tensor)] for tensor in source.outputs]


def _calls(source: Any) -> Iterator[tuple[Any, Any, dict[str, Any], list[Any]]]:
    """Yield each call of a layer in order: the layer, its arguments and its output tensors; of both Keras generations."""
    for depth in sorted(source._nodes_by_depth, reverse=True):
        for node in source._nodes_by_depth[depth]:
            if hasattr(node, "operation"):
                yield node.operation, node.arguments.args, node.arguments.kwargs, list(node.outputs)
            else:
                yield node.layer, node.call_args, node.call_kwargs, _flat(node.outputs)


def _call(layer: Any, args: Any, kwargs: dict[str, Any], walk: _Walk, prefix: str) -> Any:
    kwargs = {key: value for key, value in kwargs.items() if value is not None and key not in ("training", "mask")}
    if not hasattr(layer, "get_weights"):
        return operation(layer, args, kwargs, name=_unique_name(walk, layer.name, prefix))
    if id(layer) not in walk.layers:
        walk.layers[id(layer)] = (layer, translated(layer, name=_unique_name(walk, layer.name, prefix)))
    try:
        return walk.layers[id(layer)][1](*args, **kwargs)
    except (TypeError, ValueError) as fault:
        raise _no_counterpart(layer, fault) from fault


def _copy_weights(old: Any, new: Any) -> None:
    weights = old.get_weights()
    if not new.weights and type(old).__name__ == "Normalization":
        return  # its statistics became constants
    try:
        new.set_weights(weights)
    except ValueError as fault:
        raise _no_counterpart(old, fault) from fault


def _no_counterpart(layer: Any, fault: Exception) -> StageFailed:
    first_line = (str(fault).strip().splitlines() or [""])[0]
    return StageFailed(f"layer '{layer.name}' ({type(layer).__name__}) does not fit tf_keras: {first_line[:200]}")


def _check(source: Any, made: Any, walk: _Walk, seed: int) -> tuple[float, float]:
    """Return the largest error over all outputs, absolute and relative to each output's range.

    Raises:
        StageFailed: an error above the tolerance; names the first layer that differs.
    """
    inputs = seeded_inputs(source, seed)
    expected, got = _answers(source, inputs), _answers(made, inputs)
    worst = (0.0, 0.0)
    for want, have in zip(expected, got, strict=True):
        error, spread = distance(want, have)
        worst = max(worst, (error / max(spread, ABSOLUTE_TOLERANCE / RELATIVE_TOLERANCE), error))
        if not error <= max(RELATIVE_TOLERANCE * spread, ABSOLUTE_TOLERANCE):
            raise StageFailed(
                f"the bridge to tf_keras gives other answers: largest error {error:.3g}, outputs span {spread:.3g}"
                f"; first layer that differs: {_first_difference(source, made, walk, inputs)}"
            )
    return worst[1], worst[0]


def distance(want: NDArray[Any], have: NDArray[Any]) -> tuple[float, float]:
    """Return the largest absolute error, and the range of the wanted values."""
    return float(np.max(np.abs(want - have), initial=0)), float(np.ptp(want)) if want.size else 0.0


def seeded_inputs(source: Any, seed: int) -> list[NDArray[Any]]:
    """Return a few inputs for a graph: half standard normal, half of the size of 8-bit images; 0 or 1 where it looks up."""
    random = np.random.default_rng(seed)
    looked_up = {
        id(leaf) for layer, args, _, _ in _calls(source) if type(layer).__name__ == "Embedding" for leaf in _flat(args)
    }
    arrays = []
    for tensor in source.inputs:
        shape = [CHECKED_EXAMPLES, *(size or FREE_SIZE for size in tensor.shape[1:])]
        values = random.standard_normal(shape, dtype=np.float32)
        values[CHECKED_EXAMPLES // 2 :] = values[CHECKED_EXAMPLES // 2 :] * 64 + 128
        whole = id(tensor) in looked_up or np.issubdtype(np.dtype(_dtype(tensor)), np.integer)
        arrays.append(random.integers(0, 2, shape).astype(_dtype(tensor)) if whole else values)
    return arrays


def _answers(model: Any, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
    outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    return [np.asarray(output) for output in _flat(outputs)]


def _first_difference(source: Any, made: Any, walk: _Walk, inputs: list[NDArray[Any]]) -> str:
    """Return the name of the first layer of the source's own graph whose output differs, with its error."""
    import tf_keras

    if type(source).__module__.startswith("keras."):
        from keras import Model as SourceModel
    else:
        from tf_keras import Model as SourceModel
    before = SourceModel(source.inputs, [old for _, old, _ in walk.steps])
    after = tf_keras.Model(made.inputs, [new for _, _, new in walk.steps])
    pairs = zip(walk.steps, _answers(before, inputs), _answers(after, inputs), strict=True)
    for (name, _, _), want, have in pairs:
        error, spread = distance(want, have)
        if not error <= max(RELATIVE_TOLERANCE * spread, ABSOLUTE_TOLERANCE):
            return f"'{name}' (error {error:.3g} of {spread:.3g})"
    return "not found"


def _is_model(layer: Any) -> bool:
    return hasattr(layer, "_nodes_by_depth") or getattr(layer, "_functional", None) is not None


def _origin(tensor: Any) -> Any:
    history = tensor._keras_history
    return history.operation if hasattr(history, "operation") else history.layer


def _dtype(tensor: Any) -> str:
    return tensor.dtype if isinstance(tensor.dtype, str) else str(tensor.dtype.name)


def _unique_name(walk: _Walk, name: str, prefix: str) -> str:
    number, made = 0, prefix + name
    while made in walk.names:
        number += 1
        made = f"{prefix}{name}_{number}"
    walk.names.add(made)
    return made


def _flat(values: Any) -> list[Any]:
    if isinstance(values, dict):
        values = list(values.values())
    return [leaf for value in values for leaf in _flat(value)] if isinstance(values, (list, tuple)) else [values]


def _filled(values: Any, tensors: dict[int, Any]) -> Any:
    """Return the arguments with the source's tensors replaced by the new ones."""
    if isinstance(values, dict):
        return {key: _filled(value, tensors) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)(_filled(value, tensors) for value in values)
    return tensors.get(id(values), values)
