"""TFLite → tf_keras: a float graph rebuilt as a flat functional model that can be trained, checked against the runtime.

Layers are named after the file's tensors. Convolutions get their batch norms back as far as that is possible: one that
holds each channel's scale and offset, so that folding does not stand in the way of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeship import flatbuffer, float_weights
from edgeship.errors import StageFailed
from edgeship.flatbuffer import Graph, Operator
from edgeship.interpret import Runner
from edgeship.lift_arithmetic import ARITHMETIC, product_of_computed
from edgeship.lift_graph import Array, Step, Walk
from edgeship.lift_layers import LINEAR, NORM_EPSILON
from edgeship.lift_moves import MOVES
from edgeship.lift_recurrence import RECURRENCE

RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-6
CHECKED_EXAMPLES = 4
STATISTICS_EXAMPLES, STATISTICS_BATCH = 256, 16
LEAST_VARIANCE = 1e-3  # of the mean of all channels, for one that says nothing
BUILDERS = {**ARITHMETIC, **LINEAR, **MOVES, **RECURRENCE}
_STATIC = frozenset({"SHAPE", "RANK"})  # what they give does not depend on the values of their operand
_MISFIT = (ValueError, TypeError, LookupError, NotImplementedError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class Lifted:
    """A flat tf_keras model, and how far its answers are from the file's (relative: of the outputs' range).

    `shown` is the name of the file's tensor for each layer; `notes` what the user should know.
    """

    model: Any
    max_abs_error: float
    relative_error: float
    shown: Mapping[str, str]
    notes: tuple[str, ...]


def lift(source: Path, inputs: Sequence[Array], *, aside: Path, name: str = "", channel_scales: bool = True) -> Lifted:
    """Return a float TFLite file as a flat functional tf_keras model. Only for use inside a child process.

    Args:
        inputs: real examples, one array per input in the file's order, batch axis first; a few of them check the model.
        aside: where a copy with float weights may be written.
        name: what the user knows the file by, for messages.
        channel_scales: whether convolutions are followed by batch norms that hold their channels' scale and offset.

    Raises:
        StageFailed: an operation has no counterpart, or the answers differ; names the operation and its tensor.
    """
    named = name or source.name
    hidden = float_weights.write(source, aside)
    source = aside if hidden else source
    graph = flatbuffer.read(source)
    _check_liftable(graph, named)
    runner = Runner(source, name=named, kernels="without-delegates", keep_all=True)
    first = [array[:1] for array in inputs]
    _run(runner, first)
    walk = _walk(graph, runner, named, channel_scales)
    model = _build(walk)
    _recover_norms(walk, model, inputs)
    absolute, relative = _check(walk, model, runner, [array[:CHECKED_EXAMPLES] for array in inputs])
    return Lifted(model, absolute, relative, walk.shown, tuple(_notes(walk, hidden)))


def _check_liftable(graph: Graph, name: str) -> None:
    """Refuse what no layer can stand for, before any work.

    Raises:
        StageFailed: it computes in integers, takes several examples at once, or has operations that are not known here.
    """
    tensors = graph.main.tensors
    for index in graph.main.inputs:
        tensor = tensors[index]
        if tensor.shape[:1] != (1,):
            raise StageFailed(
                f"{name}: cannot be made trainable: input '{tensor.name}' of shape {tensor.shape} does not begin with a batch of 1"
            )
    for operator in graph.main.operators:
        used = [index for index in (*operator.inputs, *operator.outputs) if index >= 0]
        integer = next(
            (tensors[i] for i in used if not tensors[i].constant and tensors[i].quantization is not None), None
        )
        if integer is not None:
            raise StageFailed(
                f"{name}: cannot be made trainable: {operator.name} computes '{integer.name}' in {integer.dtype}; "
                "the float file that it was quantized from is needed"
            )


def _run(runner: Runner, inputs: Sequence[Array]) -> dict[str, Array]:
    runner.interpreter.reset_all_variables()  # each example begins anew
    names = [spec.name for spec in runner.inputs]
    return runner.run(dict(zip(names, inputs, strict=True)))


def _walk(graph: Graph, runner: Runner, name: str, channel_scales: bool) -> Walk:
    """Return what is known before the first layer: shapes and constants as the runtime has them after a run."""
    main = graph.main
    computed = set(main.inputs)
    for operator in main.operators:
        if operator.name not in _STATIC and any(index in computed for index in operator.inputs):
            computed.update(operator.outputs)
    used = {index for operator in main.operators for index in (*operator.inputs, *operator.outputs) if index >= 0}
    values = {index: runner.tensor(index) for index in sorted(used | set(main.inputs) | set(main.outputs))}
    shapes = {index: tuple(int(size) for size in value.shape) for index, value in values.items()}
    constants = {index: value for index, value in values.items() if index not in computed}
    return Walk(name, main, shapes, constants, channel_scales)


def _build(walk: Walk) -> Any:
    """Return the model, its weights set.

    Raises:
        StageFailed: an operation has no counterpart.
    """
    import tf_keras

    main = walk.graph
    inputs = []
    for index in main.inputs:
        tensor = main.tensors[index]
        made = walk.layer_name(tensor.name)
        inputs.append(tf_keras.Input(walk.shapes[index][1:], dtype=tensor.dtype, name=made))
        walk.tensors[index] = inputs[-1]
    for operator in main.operators:
        if operator.index in walk.absorbed or not any(index in walk.tensors for index in operator.inputs):
            continue
        if all(index in walk.constants for index in operator.outputs):
            continue
        _add(walk, operator)
    outputs = []
    for index in main.outputs:
        if index not in walk.tensors:
            raise StageFailed(
                f"{walk.source}: cannot be made trainable: output '{main.tensors[index].name}' does not depend on an input"
            )
        outputs.append(walk.tensors[index])
    model = tf_keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0], name="model")
    for layer, weights in walk.weights:
        layer.set_weights(weights)
    return model


def _recover_norms(walk: Walk, model: Any, inputs: Sequence[Array]) -> None:
    """Give each batch norm what it had before it was folded: the mean and variance of what it works on, in real examples.

    Its scale is then the deviation of its result, of like size in all channels, and training can move it.
    """
    import tensorflow as tf
    import tf_keras

    if not walk.norms:
        return
    for norm in walk.norms:  # no statistics yet
        ones = np.ones_like(norm.scale)
        norm.layer.set_weights([norm.scale, norm.offset, 0 * ones, ones - NORM_EPSILON])
    sources = tf_keras.Model(model.inputs, [norm.source for norm in walk.norms])

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def moments(given: Any) -> Any:
        found = tf.nest.flatten(sources(given, training=False))
        return [tf.nn.moments(tensor, list(range(len(tensor.shape) - 1))) for tensor in found]

    batches = []
    for start in range(0, min(len(inputs[0]), STATISTICS_EXAMPLES), STATISTICS_BATCH):
        batch = [array[start : start + STATISTICS_BATCH] for array in _typed(model, inputs)]
        batches.append([[part.numpy() for part in pair] for pair in moments(batch if len(batch) > 1 else batch[0])])
    for number, norm in enumerate(walk.norms):
        means, variances = (np.stack([batch[number][part] for batch in batches]) for part in (0, 1))
        mean, variance = means.mean(axis=0), variances.mean(axis=0) + means.var(axis=0)
        variance = np.maximum(variance, LEAST_VARIANCE * variance.mean() + NORM_EPSILON)
        scale = norm.scale * np.sqrt(variance + NORM_EPSILON)
        norm.layer.set_weights([scale, norm.offset + norm.scale * mean, mean, variance])


def _add(walk: Walk, operator: Operator) -> None:
    build = BUILDERS.get(operator.name)
    if build is None:
        raise walk.refuse(operator, "has no layer")
    if operator.name == "FULLY_CONNECTED" and operator.inputs[1] not in walk.constants:
        build = product_of_computed
    try:
        build(walk, operator)
    except _MISFIT as fault:
        lines = str(fault).strip().splitlines() or [type(fault).__name__]
        raise walk.refuse(operator, f"does not fit its layer: {lines[0][:200]}") from fault


def _check(walk: Walk, model: Any, runner: Runner, inputs: list[Array]) -> tuple[float, float]:
    """Return the largest error over all outputs, absolute and relative to each output's range.

    The model gets all examples at once and the runtime one after the other: no example may reach another's answer.

    Raises:
        StageFailed: an error above the tolerance; names the first tensor that differs.
    """
    wanted = _asked(runner, inputs, walk.graph.outputs)
    worst = (0.0, 0.0)
    for want, have in zip(wanted, _answers(model, inputs), strict=True):
        error, spread = distance(want, have)
        worst = max(worst, (error / max(spread, ABSOLUTE_TOLERANCE / RELATIVE_TOLERANCE), error))
        if not _is_close(error, spread):
            raise StageFailed(
                f"{walk.source}: the model made from it gives other answers: largest error {error:.3g}, outputs span "
                f"{spread:.3g}; first tensor that differs: {_first_difference(walk, model, runner, inputs)}"
            )
    return worst[1], worst[0]


def _asked(runner: Runner, inputs: Sequence[Array], indices: Sequence[int]) -> list[Array]:
    """Return some tensors' values for each example, examples first."""
    found: list[list[Array]] = [[] for _ in indices]
    for number in range(len(inputs[0])):
        _run(runner, [array[number : number + 1] for array in inputs])
        for values, index in zip(found, indices, strict=True):
            values.append(runner.tensor(index))
    return [np.stack(values) for values in found]


def _typed(model: Any, inputs: Sequence[Array]) -> list[Array]:
    return [array.astype(tensor.dtype.as_numpy_dtype) for array, tensor in zip(inputs, model.inputs, strict=True)]


def _answers(model: Any, inputs: Sequence[Array]) -> list[Array]:
    given = _typed(model, inputs)
    outputs = model(given if len(given) > 1 else given[0], training=False)
    return [np.asarray(output) for output in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


def distance(want: Array, have: Array) -> tuple[float, float]:
    """Return the largest absolute error and the range of the wanted values; infinities that agree are no error."""
    real, found = want.astype(np.float64), have.reshape(want.shape).astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.where(real == found, 0.0, np.abs(real - found))
    finite = real[np.isfinite(real)]
    return float(np.max(error, initial=0)), float(np.ptp(finite)) if finite.size else 0.0


def _is_close(error: float, spread: float) -> bool:
    return error <= max(RELATIVE_TOLERANCE * spread, ABSOLUTE_TOLERANCE)


def _first_difference(walk: Walk, model: Any, runner: Runner, inputs: Sequence[Array]) -> str:
    """Return the name of the first tensor in the file's order that differs, with its error and its operation."""
    import tf_keras

    steps: list[Step] = walk.steps
    whole = tf_keras.Model(model.inputs, [step.tensor for step in steps])
    pairs = zip(steps, _asked(runner, inputs, [step.index for step in steps]), _answers(whole, inputs), strict=True)
    for step, want, have in pairs:
        error, spread = distance(want, have)
        if not _is_close(error, spread):
            made = next(operator for operator in walk.graph.operators if step.index in operator.outputs)
            return f"'{step.name}' ({made.name}, error {error:.3g} of {spread:.3g})"
    return "not found"


def _notes(walk: Walk, hidden: tuple[str, ...]) -> Iterator[str]:
    """Yield what the user should know of the model that is trained."""
    if hidden:
        yield f"its {' and '.join(hidden)} weights were made float to train; its kernels would round activations too"
    if walk.custom:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(walk.custom.items()))
        yield f"operations without a Keras layer pass through training as they are: {kinds}"
