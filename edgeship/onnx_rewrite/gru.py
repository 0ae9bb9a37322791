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
    read,
    times_recurrent,
    unroll,
)

OPERATIONS: tuple[str, ...] = ("GRU",)
NOTE = "unrolled over its steps"


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Put the steps one after another.

    Raises:
        BadInput: sequence lengths that differ, open shapes, weights that change.
    """
    layer = read(draft, node, 3, ("Sigmoid", "Tanh"))
    unroll(draft, layer, _step, states=(5,))
    return True


def _step(draft: Draft, layer: Recurrence, direction: Direction, projected: str, state: State | None) -> State:
    """Add one step: next = candidate + update * (previous - candidate); ONNX's order is update, reset, candidate."""
    size = layer.hidden
    weights, bias = direction.recurrent, direction.bias[3 * size :]
    for_gates, for_candidate = direction.activations
    zero = np.zeros((layer.batch, size), layer.dtype)
    previous = draft.const(zero) if state is None else state[0]
    gates, candidate_input = draft.split(projected, 1, [2 * size, size])
    reset_after = bool(attribute(layer.node, "linear_before_reset", 0))
    recurrent = ""
    if reset_after:
        both = times_recurrent(draft, weights, bias, previous)
        product, recurrent = draft.split(both, 1, [2 * size, size])
    else:
        product = times_recurrent(draft, weights[: 2 * size], bias[: 2 * size], previous)
    opened = activate(draft, layer, for_gates, clipped(draft, layer, draft.add("Add", gates, product)))
    update, reset = draft.split(opened, 1, [size, size])
    if reset_after:
        recurrent = draft.add("Mul", reset, recurrent)
    else:
        recurrent = times_recurrent(draft, weights[2 * size :], bias[2 * size :], draft.add("Mul", reset, previous))
    candidate = draft.add("Add", candidate_input, recurrent)
    candidate = activate(draft, layer, for_candidate, clipped(draft, layer, candidate))
    change = draft.add("Mul", update, draft.add("Sub", previous, candidate))
    return (draft.add("Add", candidate, change),)
