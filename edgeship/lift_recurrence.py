"""TFLite's fused LSTM as a Keras layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgeship.flatbuffer import Operator
from edgeship.lift_graph import ACTIVATIONS, Walk

# Positions of operands: tensorflow/lite/kernels/unidirectional_sequence_lstm.cc
_KERNELS, _RECURRENT, _BIASES = (1, 2, 3, 4), (5, 6, 7, 8), (12, 13, 14, 15)
_MORE = {9: "peepholes", 10: "peepholes", 11: "peepholes", 16: "a projection", 20: "layer normalization"}


def lstm(walk: Walk, operator: Operator) -> None:
    """Build a plain LSTM over a sequence, its gates in the order input, forget, cell, output, as Keras has them."""
    import tf_keras

    said = operator.options
    if operator.inputs[1] < 0:
        raise walk.refuse(operator, "has coupled gates")
    for position, what in _MORE.items():
        if position < len(operator.inputs) and operator.inputs[position] >= 0:
            raise walk.refuse(operator, f"has {what}")
    if said.get("CellClip") or said.get("ProjClip") or ACTIVATIONS.get(int(said["FusedActivationFunction"])) != "TANH":
        raise walk.refuse(operator, "clips its state, or has another activation than tanh")
    kernels, recurrent, biases = (
        np.concatenate([walk.constant(operator, position).T for position in positions], axis=-1)
        for positions in (_KERNELS, _RECURRENT, _BIASES)
    )
    name, shape = walk.named(operator), walk.shapes[operator.inputs[0]]
    examples = shape[1] if said.get("TimeMajor") else shape[0]
    if examples != 1:
        raise walk.refuse(operator, f"works on {examples} sequences at once")
    steps = shape[0] if said.get("TimeMajor") else shape[1]
    sequence = walk.reshaped(walk.tensors[operator.inputs[0]], (steps, shape[2]), f"{name}/sequence")
    layer = tf_keras.layers.LSTM(recurrent.shape[0], return_sequences=True, name=walk.layer_name(name))
    tensor = layer(sequence)
    walk.weights.append((layer, [kernels, recurrent, biases]))
    walk.put(operator, tensor)


RECURRENCE: Mapping[str, Callable[[Walk, Operator], None]] = {"UNIDIRECTIONAL_SEQUENCE_LSTM": lstm}
