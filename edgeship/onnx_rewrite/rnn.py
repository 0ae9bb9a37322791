"""RNN, the plain kind: unrolled into fully connected layers."""

from __future__ import annotations

import onnx

from edgeship.onnx_rewrite.draft import Draft
from edgeship.onnx_rewrite.recurrence import (
    Direction,
    Recurrence,
    State,
    activate,
    clipped,
    read,
    times_recurrent,
    unroll,
)

OPERATIONS: tuple[str, ...] = ("RNN",)
NOTE = "unrolled over its steps"


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Put the steps one after another.

    Raises:
        BadInput: sequence lengths that differ, open shapes, weights that change.
    """
    layer = read(draft, node, 1, ("Tanh",))
    unroll(draft, layer, _step, states=(5,))
    return True


def _step(draft: Draft, layer: Recurrence, direction: Direction, projected: str, state: State | None) -> State:
    """Add one step: next = activation(inputs + recurrent · previous)."""
    bias = direction.bias[layer.hidden :]
    if state is None:
        total = draft.add("Add", projected, draft.const(bias)) if bias.any() else projected
    else:
        total = draft.add("Add", projected, times_recurrent(draft, direction.recurrent, bias, state[0]))
    return (activate(draft, layer, direction.activations[0], clipped(draft, layer, total)),)
