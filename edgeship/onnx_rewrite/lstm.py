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
    read,
    times_recurrent,
    unroll,
)

OPERATIONS: tuple[str, ...] = ("LSTM",)
NOTE = "unrolled over its steps"


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Put the steps one after another.

    Raises:
        BadInput: sequence lengths that differ, open shapes, weights that change.
    """
    layer = read(draft, node, 4, ("Sigmoid", "Tanh", "Tanh"))
    unroll(draft, layer, _step, states=(5, 6))
    return True


def _step(draft: Draft, layer: Recurrence, direction: Direction, projected: str, state: State | None) -> State:
    """Add one step; states are (hidden, cell), and ONNX's order of the gates is input, output, forget, candidate."""
    hidden = layer.hidden
    recurrent_bias = direction.bias[4 * hidden :]
    if state is None:
        gates = draft.add("Add", projected, draft.const(recurrent_bias)) if recurrent_bias.any() else projected
        cell = None
    else:
        gates = draft.add("Add", projected, times_recurrent(draft, direction.recurrent, recurrent_bias, state[0]))
        cell = state[1]
    for_gates, for_cell, for_output = direction.activations
    together, before = draft.split(gates, 1, [3 * hidden, hidden])
    candidate = activate(draft, layer, for_cell, clipped(draft, layer, before))
    if direction.peepholes is None:
        opened = activate(draft, layer, for_gates, clipped(draft, layer, together))
        entering, leaving, kept = draft.split(opened, 1, [hidden] * 3)
    else:
        entering, leaving, kept = draft.split(together, 1, [hidden] * 3)
        entering, kept = (_looking(draft, layer, direction, which, cell) for which in ((0, entering), (2, kept)))
    fresh = draft.add("Mul", entering, candidate)
    if cell is not None:
        if attribute(layer.node, "input_forget", 0):
            kept = draft.add("Sub", draft.scalar(1.0, layer.dtype), entering)
        fresh = draft.add("Add", draft.add("Mul", kept, cell), fresh)
    if direction.peepholes is not None:
        leaving = _looking(draft, layer, direction, (1, leaving), fresh)
    return draft.add("Mul", leaving, activate(draft, layer, for_output, fresh)), fresh


def _looking(draft: Draft, layer: Recurrence, direction: Direction, which: tuple[int, str], cell: str | None) -> str:
    """Add one gate that looks at the cell through its peephole; without a cell yet it sees zero."""
    assert direction.peepholes is not None
    number, value = which
    if cell is not None:
        peephole = direction.peepholes[number * layer.hidden : (number + 1) * layer.hidden]
        value = draft.add("Add", value, draft.add("Mul", cell, draft.const(peephole)))
    return activate(draft, layer, direction.activations[0], clipped(draft, layer, value))
