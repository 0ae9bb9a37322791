"""GRU: unrolled into fully connected layers, with the reset before or after the recurrent product.

The equations are those of the ONNX operator's documentation.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.onnx_rewrite.draft import Draft, attribute
from edgeship.onnx_rewrite.recurrence import (
    Direction,
    Recurrence,
    State,
    activate,
    clipped,
    gate,
    read,
    times_recurrent,
    unroll,
)

OPERATIONS: tuple[str, ...] = ("GRU",)
NOTE = "unrolled over its steps"
_UPDATE, _RESET, _HIDDEN = range(3)  # ONNX's order of the gates


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Put the steps one after another.

    Raises:
        BadInput: sequence lengths that differ, open shapes, weights that change.
    """
    layer = read(draft, node, 3, ("Sigmoid", "Tanh"))
    unroll(draft, layer, _step, states=(5,))
    return True


def _step(draft: Draft, layer: Recurrence, direction: Direction, projected: str, state: State | None) -> State:
    """Add one step: next = candidate + update * (previous - candidate)."""
    size = layer.hidden
    weights, bias = direction.recurrent, direction.bias[3 * size :]
    for_gates, for_candidate = direction.activations
    zero = np.zeros((layer.batch, size), layer.dtype)
    previous = draft.const(zero) if state is None else state[0]
    candidate_input = gate(draft, projected, _HIDDEN, size)
    reset_after = bool(attribute(layer.node, "linear_before_reset", 0))
    if reset_after:
        product = times_recurrent(draft, weights, bias, previous)
        gates = draft.add("Add", draft.slice(projected, 1, 0, 2 * size), draft.slice(product, 1, 0, 2 * size))
    else:
        product = times_recurrent(draft, weights[: 2 * size], bias[: 2 * size], previous)
        gates = draft.add("Add", draft.slice(projected, 1, 0, 2 * size), product)
    opened = activate(draft, layer, for_gates, clipped(draft, layer, gates))
    update, reset = gate(draft, opened, _UPDATE, size), gate(draft, opened, _RESET, size)
    if reset_after:
        recurrent = draft.add("Mul", reset, gate(draft, product, _HIDDEN, size))
    else:
        recurrent = times_recurrent(draft, weights[2 * size :], bias[2 * size :], draft.add("Mul", reset, previous))
    candidate = draft.add("Add", candidate_input, recurrent)
    candidate = activate(draft, layer, for_candidate, clipped(draft, layer, candidate))
    change = draft.add("Mul", update, draft.add("Sub", previous, candidate))
    return (draft.add("Add", candidate, change),)
