"""LSTM, GRU and RNN unrolled, against onnxruntime's own, over directions, layouts, states and activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeship.errors import BadInput
from edgeship.onnx_rewrite import rewritten
from tests import onnx_graphs
from tests.onnx_graphs import Array

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": ("initial_h", "initial_c"), "GRU": ("initial_h",), "RNN": ("initial_h",)}
ACTIVATIONS = {
    "LSTM": [None, ["HardSigmoid", "Relu", "Tanh"], ["Sigmoid", "Softsign", "Elu"]],
    "GRU": [None, ["HardSigmoid", "Relu"], ["Sigmoid", "LeakyRelu"]],
    "RNN": [None, ["Relu"], ["Sigmoid"], ["Affine"]],
}


def layer(
    kind: str,
    *,
    direction: str = "forward",
    steps: int = 3,
    batch: int = 2,
    inputs: int = 3,
    hidden: int = 4,
    bias: bool = True,
    states: str = "none",
    peepholes: bool = False,
    lengths: Array | None = None,
    opset: int = 17,
    outputs: tuple[str, ...] | None = None,
    **attributes: Any,
) -> Any:
    """Return a model of one recurrent layer; states are "none", "constant" or "input"."""
    random = np.random.default_rng(1)
    count, gates = 2 if direction == "bidirectional" else 1, GATES[kind]

    def weights(*shape: int) -> Array:
        return random.uniform(-0.7, 0.7, shape).astype(np.float32)

    constants = {"W": weights(count, gates * hidden, inputs), "R": weights(count, gates * hidden, hidden)}
    names = ["X", "W", "R", "", "", "", "", ""]
    if bias:
        constants["B"], names[3] = weights(count, 2 * gates * hidden), "B"
    if lengths is not None:
        constants["lengths"], names[4] = lengths, "lengths"
    fed = {"X": (steps, batch, inputs)}
    for place, name in enumerate(STATES[kind]):
        if states != "none":
            names[5 + place] = name
        if states == "constant":
            constants[name] = weights(count, batch, hidden)
        elif states == "input":
            fed[name] = (count, batch, hidden)
    if peepholes:
        constants["P"], names[7] = weights(count, 3 * hidden), "P"
    made = outputs or ("Y", "Y_h", *(("Y_c",) if kind == "LSTM" else ()))
    while names[-1] == "":
        names.pop()
    node = helper.make_node(
        kind, names, list(made), name="layer", hidden_size=hidden, direction=direction, **attributes
    )
    return onnx_graphs.graph([node], fed, [name for name in made if name], constants, opset=opset)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_recurrent_layer(data: st.DataObject) -> None:
    """Whatever a layer says, the unrolled one means the same."""
    kind = data.draw(st.sampled_from(sorted(GATES)))
    direction = data.draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    more: dict[str, Any] = {}
    names = data.draw(st.sampled_from(ACTIVATIONS[kind]))
    if names is not None:
        more["activations"] = names * (2 if direction == "bidirectional" else 1)
        if names == ["Affine"]:
            count = len(more["activations"])
            more.update(activation_alpha=[0.6] * count, activation_beta=[0.1] * count)
    if kind == "GRU":
        more["linear_before_reset"] = data.draw(st.integers(0, 1))
    if kind == "LSTM":
        more["peepholes"] = data.draw(st.booleans())
    model = layer(
        kind,
        direction=direction,
        steps=data.draw(st.integers(1, 5)),
        batch=data.draw(st.integers(1, 3)),
        inputs=data.draw(st.integers(1, 4)),
        hidden=data.draw(st.integers(1, 5)),
        bias=data.draw(st.booleans()),
        states=data.draw(st.sampled_from(["none", "constant", "input"])),
        opset=data.draw(st.sampled_from([11, 13, 14, 17, 18])),
        **more,
    )
    onnx_graphs.same(model, kind)


@pytest.mark.parametrize("kind", sorted(GATES))
def test_clip_bounds_what_goes_into_activations(kind: str) -> None:
    """A clip small enough to bite."""
    onnx_graphs.same(layer(kind, clip=0.3, states="constant", direction="bidirectional"), kind)


def test_coupled_gates() -> None:
    """input_forget makes the forget gate one minus the input gate."""
    onnx_graphs.same(layer("LSTM", input_forget=1, states="constant", peepholes=True), "LSTM")


@pytest.mark.parametrize("outputs", [("Y",), ("", "Y_h"), ("", "", "Y_c")], ids=lambda names: "+".join(names))
def test_only_some_outputs(outputs: tuple[str, ...]) -> None:
    """Outputs that nobody asked for are not made."""
    onnx_graphs.same(layer("LSTM", outputs=outputs), "LSTM")


def test_equal_sequence_lengths_are_none() -> None:
    """Lengths that all equal the steps say nothing."""
    onnx_graphs.same(layer("GRU", lengths=np.array([3, 3], np.int32)), "GRU")


def test_different_sequence_lengths_are_refused() -> None:
    """The refusal names operation, layer and lengths."""
    with pytest.raises(BadInput, match=r"operation GRU, layer 'layer': sequence lengths \[3, 2\] that are not all 3"):
        rewritten(layer("GRU", lengths=np.array([3, 2], np.int32)))


def test_unknown_activation_is_refused() -> None:
    """The refusal names the activation."""
    model = layer("RNN", activations=["Affine"])
    with pytest.raises(BadInput, match="operation RNN, layer 'layer': activation 'Affine'"):
        rewritten(model)


def test_open_steps_are_refused() -> None:
    """A number of steps that is not fixed cannot be unrolled."""
    model = layer("LSTM")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "steps"
    with pytest.raises(BadInput, match="operation LSTM, layer 'layer': the shape of its input 'X' is not fixed"):
        rewritten(model)


def test_too_many_steps_are_refused() -> None:
    """Unrolling has a measure."""
    with pytest.raises(BadInput, match="5000 steps; more than"):
        rewritten(layer("RNN", steps=5000, batch=1, inputs=1, hidden=1))


def test_state_goes_round() -> None:
    """Running a sequence in two parts, the state handed on, gives what the whole one gives."""
    whole, part = layer("LSTM", steps=4, states="input"), layer("LSTM", steps=2, states="input")
    small = onnx_graphs.same(part, "LSTM")
    given = onnx_graphs.feeds(whole, seed=3)
    expected = onnx_graphs.run(whole, given)
    first = onnx_graphs.run(small, {**given, "X": given["X"][:2]})
    second = onnx_graphs.run(small, {"X": given["X"][2:], "initial_h": first[1], "initial_c": first[2]})
    assert onnx_graphs.error(expected[0][2:], second[0]) <= 1e-5
    assert onnx_graphs.error(expected[2], second[2]) <= 1e-5
