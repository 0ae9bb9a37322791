"""LSTM: unrolled into fully connected layers, with peepholes, clip, both directions and any initial state.

The equations are those of the ONNX operator's documentation.
"""

from __future__ import annotations

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

OPERATIONS: tuple[str, ...] = ("LSTM",)
NOTE = "unrolled over its steps"
_INPUT, _OUTPUT, _FORGET, _CELL = range(4)  # ONNX's order of the gates


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Put the steps one after another.

    Raises:
        BadInput: sequence lengths that differ, open shapes, weights that change.
    """
    layer = read(draft, node, 4, ("Sigmoid", "Tanh", "Tanh"))
    unroll(draft, layer, _step, states=(5, 6))
    return True


def _step(draft: Draft, layer: Recurrence, direction: Direction, projected: str, state: State | None) -> State:
    """Add one step; states are (hidden, cell)."""
    hidden = layer.hidden
    recurrent_bias = direction.bias[4 * hidden :]
    if state is None:
        gates = draft.add("Add", projected, draft.const(recurrent_bias)) if recurrent_bias.any() else projected
        cell = None
    else:
        gates = draft.add("Add", projected, times_recurrent(draft, direction.recurrent, recurrent_bias, state[0]))
        cell = state[1]
    for_gates, for_cell, for_output = direction.activations

    def opened(number: int, look: str | None) -> str:
        value = gate(draft, gates, number, hidden)
        if look is not None and direction.peepholes is not None:
            order = (_INPUT, _OUTPUT, _FORGET).index(number)
            peephole = direction.peepholes[order * hidden : (order + 1) * hidden]
            value = draft.add("Add", value, draft.add("Mul", look, draft.const(peephole)))
        return activate(draft, layer, for_gates, clipped(draft, layer, value))

    entering = opened(_INPUT, cell)
    candidate = activate(draft, layer, for_cell, clipped(draft, layer, gate(draft, gates, _CELL, hidden)))
    fresh = draft.add("Mul", entering, candidate)
    if cell is not None:
        if attribute(layer.node, "input_forget", 0):
            kept = draft.add("Sub", draft.scalar(1.0, layer.dtype), entering)
        else:
            kept = opened(_FORGET, cell)
        fresh = draft.add("Add", draft.add("Mul", kept, cell), fresh)
    leaving = opened(_OUTPUT, fresh)
    return draft.add("Mul", leaving, activate(draft, layer, for_output, fresh)), fresh
