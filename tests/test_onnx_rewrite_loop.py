"""Loops and scans put one step after another, einsum as products, activations written out; against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeship.errors import BadInput
from edgeship.onnx_rewrite import loop as loops
from edgeship.onnx_rewrite import rewritten
from tests import onnx_graphs
from tests.onnx_graphs import Array

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, kind: int, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    """Return a typed name."""
    return helper.make_tensor_value_info(name, kind, shape)


def body(condition: list[onnx.NodeProto], limit: int = 3) -> onnx.GraphProto:
    """Return a loop's body: state = tanh(state + X); what it was before is collected."""
    nodes = [
        helper.make_node("Identity", ["state"], ["before"]),
        helper.make_node("Add", ["state", "X"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["after"]),
        *condition,
    ]
    return helper.make_graph(
        nodes,
        "body",
        [value("step", INT64, ()), value("go", BOOL, ()), value("state", FLOAT, (2, 3))],
        [value("go_on", BOOL, ()), value("after", FLOAT, (2, 3)), value("before", FLOAT, (2, 3))],
        [numpy_helper.from_array(np.array(limit), "limit")],
    )


def loop(condition: list[onnx.NodeProto], trips: int | None, go: bool | None = True) -> onnx.ModelProto:
    """Return a model of one loop, which also reads X from outside."""
    constants: dict[str, Array] = {"zero": np.zeros((2, 3), np.float32)}
    if trips is not None:
        constants["trips"] = np.array(trips)
    if go is not None:
        constants["start"] = np.array(go)
    names = ["trips" if trips is not None else "", "start" if go is not None else "", "zero"]
    node = helper.make_node("Loop", names, ["last", "all"], name="layer", body=body(condition))
    model = onnx_graphs.graph([node], {"X": (2, 3)}, ["last", "all"], constants)
    count = trips if trips is not None else 3
    model.graph.output[1].type.CopyFrom(helper.make_tensor_type_proto(FLOAT, [count, 2, 3]))
    return model


ALWAYS = [helper.make_node("Identity", ["go"], ["go_on"])]
COUNTING = [helper.make_node("Less", ["step", "limit"], ["go_on"])]
LOOKING = [
    helper.make_node("ReduceMax", ["after"], ["top"], keepdims=0),
    helper.make_node("Cast", ["limit"], ["bound"], to=FLOAT),
    helper.make_node("Less", ["top", "bound"], ["go_on"]),
]


@pytest.mark.parametrize("trips", [1, 2, 5])
def test_a_loop_of_so_many_steps(trips: int) -> None:
    """With what its steps make, collected."""
    onnx_graphs.same(loop(ALWAYS, trips), "Loop")


def test_a_loop_that_counts_by_itself() -> None:
    """Without a number of steps: its condition is arithmetic on the step's number."""
    model = loop(COUNTING, None)
    model.graph.output[1].type.CopyFrom(helper.make_tensor_type_proto(FLOAT, [4, 2, 3]))
    onnx_graphs.same(model, "Loop", "Less")


def test_a_loop_whose_end_the_data_decide_is_refused() -> None:
    """No number of steps is known before the run."""
    with pytest.raises(
        BadInput, match="operation Loop, layer 'layer': how many steps it takes is known only in the run"
    ):
        rewritten(loop(LOOKING, 5))


def test_a_loop_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unrolling has a measure."""
    monkeypatch.setattr(loops, "MOST_STEPS", 20)
    with pytest.raises(BadInput, match="operation Loop, layer 'layer': more than 20 steps"):
        rewritten(loop(ALWAYS, None))


@settings(max_examples=25, deadline=None)
@given(
    steps=st.integers(1, 4),
    axes=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    backwards=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    opset=st.sampled_from([9, 11, 13, 18]),
)
def test_any_scan(steps: int, axes: tuple[int, int], backwards: tuple[int, int], opset: int) -> None:
    """Sequences along any axis, forwards and backwards."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["state", "part"], ["next"]), helper.make_node("Mul", ["next", "part"], ["made"])],
        "body",
        [value("state", FLOAT, (3,)), value("part", FLOAT, (3,))],
        [value("next", FLOAT, (3,)), value("made", FLOAT, (3,))],
    )
    node = helper.make_node(
        "Scan",
        ["S", "X"],
        ["last", "all"],
        body=inner,
        num_scan_inputs=1,
        scan_input_axes=[axes[0]],
        scan_input_directions=[backwards[0]],
        scan_output_axes=[axes[1]],
        scan_output_directions=[backwards[1]],
    )
    shape = (3, steps) if axes[0] else (steps, 3)
    onnx_graphs.same(onnx_graphs.graph([node], {"S": (3,), "X": shape}, ["last", "all"], opset=opset), "Scan")


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_einsum(data: st.DataObject) -> None:
    """Equations of one and two values, with sums, products, transposes and an ellipsis."""
    lengths = {"a": 2, "b": 3, "c": 4, "d": 5}
    count = data.draw(st.integers(1, 2))
    terms = ["".join(data.draw(st.permutations("abcd"))[: data.draw(st.integers(1, 4))]) for _term in range(count)]
    letters = sorted(set("".join(terms)))
    result = "".join(data.draw(st.permutations(letters))[: data.draw(st.integers(0, len(letters)))])
    dots = data.draw(st.booleans())
    shapes = [tuple(lengths[letter] for letter in term) for term in terms]
    equation = ",".join(terms) + "->" + result
    if dots:
        shapes = [(2, *shape) for shape in shapes]
        equation = ",".join("..." + term for term in terms) + "->..." + result
    elif data.draw(st.booleans()):
        equation = ",".join(terms)
    names = ["X", "Z"][:count]
    node = helper.make_node("Einsum", names, ["Y"], equation=equation)
    model = onnx_graphs.graph([node], dict(zip(names, shapes, strict=True)), ["Y"])
    try:
        onnx_graphs.run(model, onnx_graphs.feeds(model))
    except Exception as refusal:  # noqa: BLE001  onnxruntime's errors have no common parent
        assert "insum" in str(refusal)
        assume(False)
    onnx_graphs.same(model, "Einsum")


def test_einsum_of_a_diagonal_is_refused() -> None:
    """The refusal names operation, layer and equation."""
    node = helper.make_node("Einsum", ["X"], ["Y"], name="layer", equation="ii->i")
    with pytest.raises(BadInput, match="operation Einsum, layer 'layer': equation 'ii->i'"):
        rewritten(onnx_graphs.graph([node], {"X": (3, 3)}, ["Y"]))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("Elu", {"alpha": 0.3}),
        ("Celu", {}),
        ("Celu", {"alpha": 2.0}),
        ("Selu", {}),
        ("Selu", {"alpha": 1.2, "gamma": 0.9}),
        ("ThresholdedRelu", {"alpha": 0.7}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_activations(kind: str, more: dict[str, Any]) -> None:
    """Written out where TFLite has none with these parameters."""
    onnx_graphs.same(onnx_graphs.graph([helper.make_node(kind, ["X"], ["Y"], **more)], {"X": (4, 9)}, ["Y"]), kind)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, -1])
def test_lengths_are_divided_by(p: int, axis: int) -> None:
    """LpNormalization along an axis."""
    node = helper.make_node("LpNormalization", ["X"], ["Y"], p=p, axis=axis)
    onnx_graphs.same(onnx_graphs.graph([node], {"X": (3, 4)}, ["Y"]), "LpNormalization")
