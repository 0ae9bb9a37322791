"""What LSTM, GRU and RNN have alike: weights, directions, initial states, and steps that stand one after another.

Unrolled, not looped: TFLite's own sequence operations keep their state from one run to the next, and its WHILE is out of
reach of delegates, quantizers and microcontrollers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edgeship.onnx_rewrite.draft import Array, Draft, attribute, optional_input, optional_output, refusal

MOST_STEPS = 1024  # an unrolled step is about ten operations
State = tuple[str, ...]  # names of [batch, hidden] values, the first of them the output


@dataclass(frozen=True)
class Direction:
    """One direction's parameters.

    Attributes:
        weights: [gates * hidden, inputs], as ONNX orders the gates.
        recurrent: [gates * hidden, hidden].
        bias: [2 * gates * hidden]: the inputs' and then the recurrent one.
        peepholes: [3 * hidden] of an LSTM, or None.
        activations: their names, with alpha and beta.
        backwards: whether it reads from the last step to the first.
    """

    weights: Array
    recurrent: Array
    bias: Array
    peepholes: Array | None
    activations: tuple[tuple[str, float | None, float | None], ...]
    backwards: bool


@dataclass(frozen=True)
class Recurrence:
    """A recurrent node with all that does not change from run to run; sequences as [steps, batch, inputs]."""

    node: onnx.NodeProto
    gates: int
    steps: int
    batch: int
    inputs: int
    hidden: int
    dtype: np.dtype[Any]
    clip: float | None
    batch_first: bool
    directions: tuple[Direction, ...]


Step = Callable[[Draft, Recurrence, Direction, str, State | None], State]


def read(draft: Draft, node: onnx.NodeProto, gates: int, defaults: Sequence[str]) -> Recurrence:
    """Return what a node says.

    Args:
        gates: how many gates stand above one another in the weights.
        defaults: the names of one direction's activations.

    Raises:
        BadInput: open shapes, weights that change, sequence lengths that differ; operation and layer are named.
    """
    shape = draft.fixed_shape(node, node.input[0])
    batch_first = bool(attribute(node, "layout", 0))
    steps, batch = (shape[1], shape[0]) if batch_first else shape[:2]
    weights, recurrent = (draft.fixed_constant(node, position, "weights") for position in (1, 2))
    if weights is None or recurrent is None:
        raise refusal(node, "it has no weights")
    count, hidden = weights.shape[0], recurrent.shape[2]
    bias = draft.fixed_constant(node, 3, "bias")
    lengths = draft.fixed_constant(node, 4, "sequence lengths")
    if lengths is not None and np.any(lengths != steps):
        raise refusal(node, f"sequence lengths {lengths.tolist()} that are not all {steps}")
    if steps > MOST_STEPS:
        raise refusal(node, f"{steps} steps; more than {MOST_STEPS} are not unrolled", hint="give a shorter --shape")
    peepholes = draft.fixed_constant(node, 7, "peepholes")
    direction = attribute(node, "direction", "forward")
    activations = list(_activations(node, defaults, count))
    if bias is None:
        bias = np.zeros((count, 2 * gates * hidden), weights.dtype)
    return Recurrence(
        node=node,
        gates=gates,
        steps=steps,
        batch=batch,
        inputs=weights.shape[2],
        hidden=hidden,
        dtype=weights.dtype,
        clip=attribute(node, "clip"),
        batch_first=batch_first,
        directions=tuple(
            Direction(
                weights[number],
                recurrent[number],
                bias[number],
                None if peepholes is None else peepholes[number],
                tuple(activations[number * len(defaults) : (number + 1) * len(defaults)]),
                direction == "reverse" or number == 1,
            )
            for number in range(count)
        ),
    )


def unroll(draft: Draft, layer: Recurrence, step: Step, states: Sequence[int]) -> None:
    """Add the layer's steps one after another, and its outputs.

    Args:
        step: adds one step; it gets the inputs' part of all gates, [batch, gates * hidden].
        states: which of the node's inputs hold the initial states; absent, they are zero.
    """
    node, sequence = layer.node, layer.node.input[0]
    if layer.batch_first:
        sequence = draft.transpose(sequence, (1, 0, 2))
    flat = draft.reshape(sequence, (layer.steps * layer.batch, layer.inputs))
    every: list[list[str]] = []
    final: list[State] = []
    for number, direction in enumerate(layer.directions):
        projected = _projected(draft, layer, direction, flat)
        state = _initial(draft, layer, number, states)
        outputs = {}
        moments = draft.split(projected, 0, [layer.batch] * layer.steps)
        for moment in sorted(range(layer.steps), reverse=direction.backwards):
            state = step(draft, layer, direction, moments[moment], state)
            outputs[moment] = state[0]
        every.append([outputs[moment] for moment in range(layer.steps)])
        assert state is not None
        final.append(state)
    _put_sequence(draft, layer, every)
    for position in range(len(states)):
        if name := optional_output(node, 1 + position):
            _put_state(draft, layer, [state[position] for state in final], name)


def times_recurrent(draft: Draft, weights: Array, bias: Array, state: str) -> str:
    """Add state · weightsᵀ + bias, a fully connected layer: [batch, hidden] → [batch, rows of weights]."""
    return draft.add("Gemm", state, draft.const(weights), draft.const(bias), transB=1)


def activate(draft: Draft, layer: Recurrence, which: tuple[str, float | None, float | None], value: str) -> str:
    """Add an activation by ONNX's name for it inside recurrent operations.

    Raises:
        BadInput: one that is not known; operation and layer are named.
    """
    name, alpha, beta = which
    if name in ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"):
        return draft.add(name, value)
    if name in ("LeakyRelu", "Elu", "ThresholdedRelu") and alpha is not None:
        return draft.add(name, value, alpha=alpha)
    if name == "HardSigmoid":
        return draft.add(name, value, alpha=0.2 if alpha is None else alpha, beta=0.5 if beta is None else beta)
    if name == "Affine" and alpha is not None and beta is not None:
        scaled = draft.add("Mul", value, draft.scalar(alpha, layer.dtype))
        return draft.add("Add", scaled, draft.scalar(beta, layer.dtype))
    if name == "ScaledTanh" and alpha is not None and beta is not None:
        inner = draft.add("Tanh", draft.add("Mul", value, draft.scalar(beta, layer.dtype)))
        return draft.add("Mul", inner, draft.scalar(alpha, layer.dtype))
    raise refusal(layer.node, f"activation '{name}' is not known, or lacks alpha and beta")


def clipped(draft: Draft, layer: Recurrence, value: str) -> str:
    """Add the layer's clip of what goes into an activation, if it has one."""
    return value if not layer.clip else draft.clip(value, -layer.clip, layer.clip, layer.dtype)


def _activations(
    node: onnx.NodeProto, defaults: Sequence[str], count: int
) -> Iterator[tuple[str, float | None, float | None]]:
    """Yield each activation's name with its alpha and beta, which ONNX lists only for those that take them."""
    names = attribute(node, "activations") or list(defaults) * count
    if len(names) != len(defaults) * count:
        raise refusal(node, f"{len(names)} activations where {len(defaults) * count} were expected")
    alphas, betas = (list(attribute(node, which) or []) for which in ("activation_alpha", "activation_beta"))
    by_name = {name.lower(): name for name in _TAKES}
    for given in names:
        name = by_name.get(given.lower(), given)
        takes = _TAKES.get(name, 0)
        alpha = alphas.pop(0) if takes >= 1 and alphas else _ALPHA.get(name)
        beta = betas.pop(0) if takes >= 2 and betas else None
        yield name, alpha, beta


_TAKES = {
    "Sigmoid": 0,
    "Tanh": 0,
    "Relu": 0,
    "Softsign": 0,
    "Softplus": 0,
    "LeakyRelu": 1,
    "Elu": 1,
    "ThresholdedRelu": 1,
    "HardSigmoid": 2,
    "Affine": 2,
    "ScaledTanh": 2,
}
_ALPHA = {"LeakyRelu": 0.01, "Elu": 1.0, "ThresholdedRelu": 1.0}


def _projected(draft: Draft, layer: Recurrence, direction: Direction, flat: str) -> str:
    """Add the inputs' part of every gate of every step at once: [steps * batch, gates * hidden]."""
    bias = direction.bias[: layer.gates * layer.hidden]
    return draft.add("Gemm", flat, draft.const(direction.weights), draft.const(bias), transB=1)


def _initial(draft: Draft, layer: Recurrence, number: int, positions: Sequence[int]) -> State | None:
    """Return one direction's initial states, or None when all are zero and need no arithmetic."""
    names = [optional_input(layer.node, position) for position in positions]
    known = [draft.constant(name) if name else np.zeros(1) for name in names]
    if all(array is not None and not array.any() for array in known):
        return None
    found = []
    for name in names:
        if not name:
            found.append(draft.const(np.zeros((layer.batch, layer.hidden), layer.dtype)))
            continue
        axis = 1 if layer.batch_first else 0
        part = name if len(layer.directions) == 1 else draft.slice(name, axis, number, number + 1)
        found.append(draft.reshape(part, (layer.batch, layer.hidden)))
    return tuple(found)


def _put_sequence(draft: Draft, layer: Recurrence, every: list[list[str]]) -> None:
    """Add Y: [steps, directions, batch, hidden], or [batch, steps, directions, hidden]."""
    name = optional_output(layer.node, 0)
    if not name:
        return
    shape = (layer.steps, 1, layer.batch, layer.hidden)
    stacked = []
    for outputs in every:
        rows = draft.add("Concat", *outputs, axis=0) if len(outputs) > 1 else outputs[0]
        stacked.append(draft.reshape(rows, shape))
    whole = draft.add("Concat", *stacked, axis=1) if len(stacked) > 1 else stacked[0]
    if layer.batch_first:
        draft.transpose(whole, (2, 0, 1, 3), output=name)
    else:
        draft.add("Identity", whole, output=name)


def _put_state(draft: Draft, layer: Recurrence, states: list[str], name: str) -> None:
    """Add a final state: [directions, batch, hidden], or [batch, directions, hidden]."""
    shape = (layer.batch, 1, layer.hidden) if layer.batch_first else (1, layer.batch, layer.hidden)
    parts = [draft.reshape(state, shape) for state in states]
    if len(parts) == 1:
        draft.add("Identity", parts[0], output=name)
    else:
        draft.add("Concat", *parts, output=name, axis=1 if layer.batch_first else 0)
