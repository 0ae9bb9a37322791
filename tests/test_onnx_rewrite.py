"""The walk over a graph: constants, branches, products, groups, names; against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeship.errors import BadInput
from edgeship.onnx_rewrite import REWRITES, rewritten
from tests import onnx_graphs
from tests.onnx_graphs import Array


def normal(*shape: int) -> Array:
    """Return seeded weights."""
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


def branch(name: str, nodes: list[onnx.NodeProto], output: str, shape: tuple[int, ...] | None) -> onnx.GraphProto:
    """Return a branch with one output."""
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)])


def choice(then_shape: tuple[int, ...] = (2, 3), otherwise: list[onnx.NodeProto] | None = None) -> list[onnx.NodeProto]:
    """Return nodes that double X where C holds, and something else where not; both branches use one inner name."""
    double = helper.make_node("Add", ["X", "X"], ["inner"])
    nodes = otherwise or [helper.make_node("Neg", ["X"], ["inner"])]
    return [
        helper.make_node(
            "If",
            ["C"],
            ["Y"],
            name="fork",
            then_branch=branch("then", [double], "inner", then_shape),
            else_branch=branch("else", nodes, nodes[-1].output[0], None),
        )
    ]


def test_the_dict_is_sorted() -> None:
    """A stranger's line goes where the alphabet says."""
    assert list(REWRITES) == sorted(REWRITES)


@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1)], ids=str)
@pytest.mark.parametrize("first", [True, False])
def test_a_scale_behind_a_small_divisor_scales_that(shape: tuple[int, ...], first: bool) -> None:
    """Normalized channels: no constant of one value a channel meets the large value."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["X"], ["mean"]),
        helper.make_node("Exp", ["mean"], ["size"]),
        helper.make_node("Div", ["X", "size"], ["ratio"]),
        helper.make_node("Mul", ["scale", "ratio"] if first else ["ratio", "scale"], ["Y"]),
    ]
    made = onnx_graphs.same(onnx_graphs.graph(nodes, {"X": (1, 6, 4, 5)}, ["Y"], {"scale": normal(*shape)}))
    division = next(node for node in made.graph.node if node.op_type == "Div")
    assert "X" not in division.input


def test_a_scale_that_makes_the_divisor_large_stays() -> None:
    """As in layer normalization: along another axis."""
    nodes = [
        helper.make_node("ReduceL2", ["X"], ["size"], axes=[-1]),
        helper.make_node("Div", ["X", "size"], ["ratio"]),
        helper.make_node("Mul", ["ratio", "scale"], ["Y"]),
    ]
    made = onnx_graphs.same(onnx_graphs.graph(nodes, {"X": (1, 6, 5)}, ["Y"], {"scale": normal(5)}))
    assert next(node for node in made.graph.node if node.op_type == "Div").input[0] == "X"


@pytest.mark.parametrize("value", [True, False])
def test_a_constant_condition_takes_one_branch(value: bool) -> None:
    """Nothing of the other one is left, and the note says what happened."""
    model = onnx_graphs.graph(choice(), {"X": (2, 3)}, ["Y"], {"C": np.array(value)})
    made = onnx_graphs.same(model, "If")
    assert onnx_graphs.operations(made) <= ({"Add", "Identity"} if value else {"Neg", "Identity"})
    assert rewritten(model)[1][0].startswith("If (1 layer): ")


def test_a_condition_on_the_shape_is_constant() -> None:
    """As silero-vad has them: how many axes, how long is one."""
    nodes = [
        helper.make_node("Shape", ["X"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["length"]),
        helper.make_node("Equal", ["length", "three"], ["C"]),
        *choice(),
    ]
    constants = {"one": np.array(1), "three": np.array(3)}
    made = onnx_graphs.same(onnx_graphs.graph(nodes, {"X": (2, 3)}, ["Y"], constants), "If", "Shape", "Equal")
    assert onnx_graphs.operations(made) <= {"Add", "Identity"}


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_condition_of_the_run_chooses(seed: int) -> None:
    """Both branches are computed."""
    model = onnx_graphs.graph(choice(), {"X": (2, 3), "C": ()}, ["Y"], kinds={"C": TensorProto.BOOL})
    onnx_graphs.same(model, "If", seed=seed)


def test_a_branch_that_does_not_fit_is_never_taken() -> None:
    """As silero-vad's for the other sample rate: its weights cannot take inputs of this length."""
    product = helper.make_node("MatMul", ["X", "W"], ["product"])
    model = onnx_graphs.graph(
        choice(otherwise=[product]), {"X": (2, 3), "C": ()}, ["Y"], {"W": normal(5, 3)}, kinds={"C": TensorProto.BOOL}
    )
    assert onnx_graphs.operations(rewritten(model)[0]) <= {"Add", "Identity"}


def test_branches_of_different_shapes_are_refused() -> None:
    """No fixed shape can hold both; the refusal names the layer."""
    row = helper.make_node("ReduceSum", ["X"], ["row"], keepdims=1)
    model = onnx_graphs.graph(choice(otherwise=[row]), {"X": (2, 3), "C": ()}, ["Y"], kinds={"C": TensorProto.BOOL})
    with pytest.raises(BadInput, match="operation If, layer 'fork': its branches give different shapes"):
        rewritten(model)


def test_nested_branches_keep_what_they_capture() -> None:
    """An inner branch reads a value of the outer one, under a name that stands elsewhere too."""
    inner = helper.make_node(
        "If",
        ["D"],
        ["out"],
        then_branch=branch("t", [helper.make_node("Mul", ["inner", "X"], ["deep"])], "deep", (2, 3)),
        else_branch=branch("e", [helper.make_node("Neg", ["inner"], ["deep"])], "deep", (2, 3)),
    )
    first = [helper.make_node("Add", ["X", "X"], ["inner"]), inner]
    outer = helper.make_node(
        "If",
        ["C"],
        ["Z"],
        then_branch=branch("then", first, "out", (2, 3)),
        else_branch=branch("else", [helper.make_node("Abs", ["X"], ["inner"])], "inner", (2, 3)),
    )
    nodes = [outer, helper.make_node("Sub", ["Z", "X"], ["Y"])]
    for value in (True, False):
        model = onnx_graphs.graph(
            nodes, {"X": (2, 3), "D": ()}, ["Y"], {"C": np.array(value)}, kinds={"D": TensorProto.BOOL}
        )
        onnx_graphs.same(model, "If")


def test_shape_arithmetic_is_folded() -> None:
    """As exporters write it for an axis of any length."""
    nodes = [
        helper.make_node("Shape", ["X"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["target"], axis=0),
        helper.make_node("ConstantOfShape", ["target"], ["zeros"]),
        helper.make_node("Reshape", ["X", "target"], ["rows"]),
        helper.make_node("Add", ["rows", "zeros"], ["Y"]),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([3, 4])}
    made = onnx_graphs.same(
        onnx_graphs.graph(nodes, {"X": (2, 12)}, ["Y"], constants), "Shape", "ConstantOfShape", "Slice"
    )
    assert onnx_graphs.operations(made) == {"Reshape", "Add"}


def test_outputs_that_are_inputs_or_constants_keep_their_nodes() -> None:
    """The graph's own names are a promise."""
    nodes = [helper.make_node("Identity", ["X"], ["Y"]), helper.make_node("Add", ["A", "B"], ["Z"])]
    onnx_graphs.same(onnx_graphs.graph(nodes, {"X": (2,)}, ["Y", "Z"], {"A": normal(3), "B": normal(3)}))


@settings(max_examples=30, deadline=None)
@given(
    groups=st.integers(1, 4),
    each=st.integers(1, 3),
    made=st.integers(1, 3),
    rank=st.integers(1, 2),
    bias=st.booleans(),
    transposed=st.booleans(),
    stride=st.integers(1, 2),
)
def test_grouped_convolutions(
    groups: int, each: int, made: int, rank: int, bias: bool, transposed: bool, stride: int
) -> None:
    """Split into one a group, except depthwise ones."""
    kernel = (3,) * rank
    shape = (groups * each, made, *kernel) if transposed else (groups * made, each, *kernel)
    constants = {"W": normal(*shape)}
    if bias:
        constants["B"] = normal(groups * made)
    kind = "ConvTranspose" if transposed else "Conv"
    more: dict[str, Any] = {"strides": [stride] * rank, "pads": [1] * (2 * rank), "group": groups}
    node = helper.make_node(kind, ["X", *constants], ["Y"], **more)
    model = onnx_graphs.graph([node], {"X": (1, groups * each, *(7, 6)[:rank])}, ["Y"], constants)
    rewrote = onnx_graphs.same(model)
    for left in rewrote.graph.node:
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in left.attribute}
        assert attributes.get("group", 1) in (1, groups * each)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    columns=st.integers(1, 4),
    bias=st.sampled_from(["none", "vector", "row", "full", "scalar"]),
    first=st.booleans(),
)
def test_products_with_constants(shape: list[int], columns: int, bias: str, first: bool) -> None:
    """Fully connected layers, their bias inside where it is one."""
    nodes = [helper.make_node("MatMul", ["X", "W"], ["product"])]
    constants = {"W": normal(shape[-1], columns)}
    output = (*shape[:-1], columns)
    shapes = {"vector": (columns,), "row": (*[1] * (len(output) - 1), columns), "full": output, "scalar": ()}
    if bias != "none":
        constants["B"] = normal(*shapes[bias])
        names = ["B", "product"] if first else ["product", "B"]
        nodes.append(helper.make_node("Add", names, ["Y"]))
    else:
        nodes.append(helper.make_node("Relu", ["product"], ["Y"]))
    made = onnx_graphs.same(onnx_graphs.graph(nodes, {"X": tuple(shape)}, ["Y"], constants))
    if len(shape) > 1:
        assert "Gemm" in onnx_graphs.operations(made)
        if bias in ("vector", "row"):
            assert "Add" not in onnx_graphs.operations(made)


GELUS = {
    "torch": [
        ("Div", "X", "root2", "a"),
        ("Erf", "a", "", "b"),
        ("Add", "b", "one", "c"),
        ("Mul", "X", "c", "d"),
        ("Mul", "d", "half", "Y"),
    ],
    "half first": [
        ("Mul", "root_half", "X", "a"),
        ("Erf", "a", "", "b"),
        ("Add", "one", "b", "c"),
        ("Mul", "half", "X", "d"),
        ("Mul", "c", "d", "Y"),
    ],
    "half inside": [
        ("Mul", "X", "root_half", "a"),
        ("Erf", "a", "", "b"),
        ("Add", "b", "one", "c"),
        ("Mul", "c", "half", "d"),
        ("Mul", "X", "d", "Y"),
    ],
}


@pytest.mark.parametrize("way", sorted(GELUS))
def test_gelu_in_any_order_is_one_chain(way: str) -> None:
    """Div, Erf, Add, Mul, Mul: what the converter makes TFLite's GELU of."""
    nodes = [helper.make_node(kind, [one] + ([other] if other else []), [out]) for kind, one, other, out in GELUS[way]]
    numbers = {"root2": 2**0.5, "root_half": 0.5**0.5, "one": 1.0, "half": 0.5}
    constants = {name: np.array(number, np.float32) for name, number in numbers.items()}
    made = onnx_graphs.same(onnx_graphs.graph(nodes, {"X": (2, 5)}, ["Y"], constants))
    assert [node.op_type for node in made.graph.node] == ["Div", "Erf", "Add", "Mul", "Mul"]
    assert made.graph.node[0].input[0] == "X"


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_the_operation_gelu_is_written_out(approximate: str) -> None:
    """Opset 20 has one."""
    node = helper.make_node("Gelu", ["X"], ["Y"], approximate=approximate)
    onnx_graphs.same(onnx_graphs.graph([node], {"X": (2, 5)}, ["Y"], opset=20), "Gelu")


def test_what_only_looks_like_gelu_is_left() -> None:
    """Another factor than a half."""
    nodes = [
        helper.make_node(kind, [one] + ([other] if other else []), [out])
        for kind, one, other, out in GELUS["half first"]
    ]
    numbers = {"root_half": 0.5**0.5, "one": 1.0, "half": 0.6}
    constants = {name: np.array(number, np.float32) for name, number in numbers.items()}
    made = onnx_graphs.same(onnx_graphs.graph(nodes, {"X": (2, 5)}, ["Y"], constants))
    assert "Div" not in onnx_graphs.operations(made)


def test_operations_of_other_domains_are_left_alone() -> None:
    """A node of a domain that ONNX does not know stays, with the shapes that the file says."""
    model = onnx_graphs.graph([helper.make_node("Relu", ["X"], ["A"])], {"X": (2, 3)}, ["A"])
    model.graph.node.append(helper.make_node("If", ["A"], ["Y"], domain="com.example"))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("Y", TensorProto.FLOAT, (2, 3)))
    made, notes = rewritten(model)
    assert [node.domain for node in made.graph.node] == ["", "com.example"]
    assert notes == ()


def test_weights_of_half_precision_stay_so() -> None:
    """New constants have the type of what they meet."""
    node = helper.make_node("InstanceNormalization", ["X", "scale", "bias"], ["Y"])
    constants = {"scale": np.ones(2, np.float16), "bias": np.zeros(2, np.float16)}
    model = onnx_graphs.graph([node], {"X": (1, 2, 4, 4)}, ["Y"], constants, kinds={"X": TensorProto.FLOAT16})
    made, _notes = rewritten(model)
    onnx.checker.check_model(made, full_check=True)
    assert all(numpy_helper.to_array(t).dtype in (np.float16, np.int64) for t in made.graph.initializer)
