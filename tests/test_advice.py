"""Advice: said where it is true for this model, recipe and target, and not elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeship import advice, complexity, recipe, target
from edgeship.flatbuffer import Graph
from tests.tiny_tflite import TinyModel, separable


def ahead(graph: Graph, recipe_name: str, target_name: str) -> str:
    """Return all that is said before the work, as one text with the levels."""
    found = advice.before(graph, complexity.complexity(graph), recipe.read(recipe_name), target.read(target_name))
    return "\n".join(f"{entry.level}: {entry.text}" for entry in found)


def behind(graph: Graph, recipe_name: str, target_name: str) -> str:
    """Return all that is said after the work, as one text with the levels."""
    found = advice.after(graph, complexity.complexity(graph), recipe.read(recipe_name), target.read(target_name))
    return "\n".join(f"{entry.level}: {entry.text}" for entry in found)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return separable().graph(tmp_path)


def test_every_rule_has_words_a_source_and_a_predicate() -> None:
    assert set(advice.rules()) == set(advice._BEFORE) | set(advice._AFTER)
    assert all(len(rule.source) > 15 for rule in advice.rules().values())


def test_plain_int8_on_a_machine_with_dot_product_gets_no_advice(graph: Graph) -> None:
    assert ahead(graph, "int8", "rpi5") == ""
    assert ahead(graph, "float32", "rpi4") == ""


@pytest.mark.parametrize(
    ("recipe_name", "target_name", "says"),
    [
        ("prune50-int8", "rpi4", "note: Pruning will not make rpi4 faster with int8"),
        ("prune75-dynamic-int8", "linux-x86_64", "do not combine"),
        ("prune50", "rpi4", "need two thirds of the 1x1 weights to be zero, not 50%"),
        ("prune75", "rpi4", "note: Pruning may make this float model faster on rpi4"),
        ("int16x8", "rpi4", "warning: int16x8 has no XNNPACK kernels"),
        ("dynamic-int8", "rpi4", "8-16 ms against 3.9"),
        ("int8-weights", "rpi4", "note: int8-weights makes the file smaller, not the model faster"),
        ("int8", "rpi4", "rpi4's Cortex-A72 is not known to have the int8 dot product"),
        ("int8", "android-arm64", "Every android-arm64 machine is not known"),
        ("int8", "rpi4-32bit", "note: tflite-runtime 2.14.0 on rpi4-32bit runs int8 far slower"),
        (
            "dynamic-int8",
            "rpi4-32bit",
            "warning: tflite-runtime 2.14.0 on rpi4-32bit computes garbage with dynamic-int8",
        ),
        ("int4-weights", "rpi4-32bit", "computes NaN"),
    ],
)
def test_said_before_the_work(graph: Graph, recipe_name: str, target_name: str, says: str) -> None:
    assert says in ahead(graph, recipe_name, target_name)


def attention(mask: float) -> TinyModel:
    """Return scores to which a mask is added before a softmax."""
    model = TinyModel()
    scores, hides = model.input("scores", (1, 4)), model.input("hides", (1, 4))
    far = model.operator(
        "MUL", [hides, model.constant("far", np.array([mask], np.float32))], model.tensor("mask", (1, 4))
    )
    masked = model.operator("ADD", [scores, far], model.tensor("masked", (1, 4)))
    model.outputs.append(model.operator("SOFTMAX", [masked], model.tensor("shares", (1, 4)), beta=1.0))
    return model


@pytest.mark.parametrize(
    ("mask", "recipe_name", "said"),
    [(-3.4e38, "int8", True), (-1e9, "int16x8", True), (-3.4e38, "dynamic-int8", False), (-8.0, "int8", False)],
)
def test_a_mask_that_no_scale_holds_is_told(mask: float, recipe_name: str, said: bool, tmp_path: Path) -> None:
    told = ahead(attention(mask).graph(tmp_path), recipe_name, "linux-x86_64")
    assert ("hides tokens" in told) == said


@pytest.mark.parametrize(
    ("recipe_name", "target_name", "silent"),
    [
        ("int8", "linux-x86_64", "dot product"),
        ("float16", "rpi4", "dot product"),
        ("prune50-int8", "coral-usb", "Pruning"),
        ("int8", "coral-usb", "tflite-runtime"),
        ("int16x8", "rpi4-32bit", "XNNPACK"),
        ("prune75", "rpi4", "will not"),
    ],
)
def test_not_said_where_it_is_not_known(graph: Graph, recipe_name: str, target_name: str, silent: str) -> None:
    assert silent not in ahead(graph, recipe_name, target_name)


def test_a_graph_the_sparse_kernels_take_and_those_they_do_not(tmp_path: Path) -> None:
    assert advice.sparse_obstacle(separable().graph(tmp_path)) is None
    assert "do not take its RESHAPE" in str(advice.sparse_obstacle(separable(last="RESHAPE").graph(tmp_path)))

    model = TinyModel()
    model.outputs.append(model.dense(model.input("x", (1, 4)), "dense", np.ones((2, 4))))
    assert "3x3 convolution of stride 2" in str(advice.sparse_obstacle(model.graph(tmp_path)))

    model = TinyModel()
    image = model.input("image", (1, 16, 16, 3))
    stem = model.conv(image, "stem", np.ones((8, 3, 3, 3)), (8, 8), strideH=2, strideW=2)
    model.outputs.append(model.conv(stem, "second", np.ones((8, 3, 3, 8)), (8, 8)))
    assert "3x3 CONV_2D" in str(advice.sparse_obstacle(model.graph(tmp_path)))


def test_weight_only_is_worth_time_where_weights_are_fetched_once(tmp_path: Path) -> None:
    model = TinyModel()
    model.outputs.append(model.dense(model.input("x", (1, 400)), "dense", np.ones((400, 400))))

    assert "not the model faster" not in ahead(model.graph(tmp_path), "int8-weights", "rpi4")


@pytest.mark.parametrize(("name", "basis"), [("rpi4", "target's peaks"), ("linux-x86_64", "multiply-accumulates")])
def test_one_layer_that_dominates_is_named(tmp_path: Path, name: str, basis: str) -> None:
    model = TinyModel()
    x = model.input("image", (1, 32, 32, 4))
    y = model.conv(x, "small", np.ones((8, 1, 1, 4)), (32, 32))
    y = model.conv(y, "huge;joined", np.ones((64, 5, 5, 8)), (32, 32))
    model.outputs.append(model.conv(y, "last", np.ones((4, 1, 1, 64)), (32, 32)))
    said = ahead(model.graph(tmp_path), "float32", name)

    assert "'huge' (CONV_2D) alone makes 9" in said and basis in said


def test_too_little_memory_counts_the_scheme(tmp_path: Path) -> None:
    model = TinyModel()
    x = model.input("image", (1, 8192, 8192, 4))  # 1 GiB as float32
    model.outputs.append(model.operator("RELU", [x], model.tensor("y", (1, 8192, 8192, 4))))
    graph = model.graph(tmp_path)

    assert "warning: Weights and activations need 2048 MiB; rpi4 has 1024 MiB" in ahead(graph, "float32", "rpi4")
    assert "need 512 MiB" in ahead(graph, "int8", "rpi4")
    assert "MiB" not in ahead(graph, "float32", "linux-x86_64"), "no memory is stated there"
    assert "need 2048 MiB" in behind(graph, "float32", "rpi4")


def test_mostly_untouched_is_a_warning(graph: Graph) -> None:
    said = behind(graph, "int8", "rpi4")

    assert said.startswith("warning: int8 left most of the model as it was: 0 of 8 operations and 0% of the weights")
    assert "3 CONV_2D" in said
    assert behind(graph, "float32", "rpi4") == ""


def half_quantized(tmp_path: Path) -> Graph:
    """Return three operations, two of them on 8-bit integers."""
    model = TinyModel()
    x = model.input("x", (1, 4), "int8", scale=0.1)
    weight = model.constant("w", np.ones((4, 4), np.int8), scale=0.1)
    y = model.operator("FULLY_CONNECTED", [x, weight, -1], model.tensor("y", (1, 4), "int8", scale=0.1))
    z = model.operator("DEQUANTIZE", [y], model.tensor("z", (1, 4)))
    r = model.operator("RELU", [y], model.tensor("r", (1, 4), "int8", scale=0.1))
    model.outputs += [r, model.operator("SOFTMAX", [z], model.tensor("softmax", (1, 4)), beta=1.0)]
    return model.graph(tmp_path)


def test_operations_that_stayed_float_are_named(tmp_path: Path) -> None:
    assert "note: 1 of 3 operations stayed float (1 SOFTMAX)" in behind(half_quantized(tmp_path), "int8", "rpi5")


def test_float_ends_on_the_edge_tpu_are_a_warning(tmp_path: Path) -> None:
    assert "warning: 'softmax' is float: on the Edge TPU" in behind(half_quantized(tmp_path), "int8", "coral-usb")
    assert "Edge TPU" not in behind(half_quantized(tmp_path), "int8", "rpi5")


def test_an_operator_too_new_for_the_old_runtime_is_a_warning(tmp_path: Path) -> None:
    model = TinyModel()
    model.outputs.append(model.dense(model.input("x", (1, 4)), "dense", np.ones((2, 4))))
    model.codes[0].version = 12
    graph = model.graph(tmp_path)

    assert "warning: tflite-runtime 2.14.0 on rpi4-32bit does not load this file" in behind(
        graph, "float32", "rpi4-32bit"
    )
    assert "does not load" not in behind(graph, "float32", "rpi4")


def test_missed_sparsity_is_a_warning(tmp_path: Path) -> None:
    missed = behind(separable(zeros=0.1).graph(tmp_path), "prune50", "rpi4")
    reached = behind(separable(zeros=0.6).graph(tmp_path), "prune50", "rpi4")

    assert "warning: prune50 was to make 50% of the pruned kernels zero" in missed
    assert "prune50" not in reached
