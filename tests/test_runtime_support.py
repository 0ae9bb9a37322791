"""A runtime is not given what it would run wrongly; what it runs right is not refused. The real ones are asked in the lab."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeship import flatbuffer, resources, runtime_support
from edgeship.runtime_release import Release, read_all
from edgeship.toml_file import read_table
from tests.tiny_tflite import TinyModel, separable

OLD, MIDDLE, NEW = ("tflite-runtime", "2.14.0"), ("ai-edge-litert", "1.4.0"), ("ai-edge-litert", "2.3.0")


def reason(graph: flatbuffer.Graph, release: tuple[str, str], delegated: Sequence[str] = ()) -> str | None:
    found = runtime_support.refusal(graph, runtime=release[0], version=release[1], delegated=delegated)
    assert found is None or "int8" in found.hint
    return None if found is None else found.reason


def dense(weights: str, scales: int, folder: Path, *, version: int = 1) -> flatbuffer.Graph:
    """Return a FULLY_CONNECTED with float activations and weights of a type."""
    model = TinyModel()
    source = model.input("x", (1, 8))
    values = np.ones((4, 8), np.float32 if weights == "float32" else np.int8)
    options = {} if weights == "float32" else {"scale": np.full(scales, 0.1)}
    kernel = model.constant("w", values, None if weights == "float32" else weights, **options)
    model.outputs.append(model.operator("FULLY_CONNECTED", [source, kernel, -1], model.tensor("y", (1, 4))))
    model.codes[-1].version = version
    return model.graph(folder)


def test_plain_files_run_everywhere(tmp_path: Path) -> None:
    graph = separable().graph(tmp_path)
    for release in (OLD, MIDDLE, NEW):
        assert reason(graph, release) is None


def test_scales_of_each_channel_that_the_old_kernel_ignores(tmp_path: Path) -> None:
    """What litert-quantizer's dynamic int8 is made of: version 1, and a scale for each output."""
    told = reason(dense("int8", 4, tmp_path), OLD)
    assert told == (
        "tflite-runtime 2.14.0 cannot run this artifact correctly: FULLY_CONNECTED with int8 weights and float "
        "activations ignores the scale of each channel and computes garbage"
    )
    assert reason(dense("int8", 1, tmp_path), OLD) is None
    assert reason(dense("int8", 4, tmp_path), MIDDLE) is None
    assert reason(dense("float32", 0, tmp_path), OLD) is None


def test_a_version_that_is_too_new(tmp_path: Path) -> None:
    """What TensorFlow 2.21's dynamic range is made of."""
    told = reason(dense("int8", 4, tmp_path, version=12), OLD)
    assert told is not None and "FULLY_CONNECTED up to version 10, and the file needs version 12" in told
    assert reason(dense("int8", 4, tmp_path, version=12), MIDDLE) is None
    assert reason(dense("int8", 4, tmp_path, version=14), NEW) is None
    assert "needs version 15" in (reason(dense("int8", 4, tmp_path, version=15), NEW) or "")


def test_small_weights(tmp_path: Path) -> None:
    assert "a scale for each channel of int4 weights" in (reason(dense("int4", 4, tmp_path), OLD) or "")
    assert reason(dense("int4", 1, tmp_path), OLD) is None
    assert reason(dense("int4", 4, tmp_path), MIDDLE) is None
    for release, refused in ((OLD, True), (MIDDLE, True), (NEW, False)):
        told = reason(dense("int2", 4, tmp_path), release)
        assert (told is not None) is refused
        assert told is None or "does not know the type int2 (tensor 'w')" in told


def test_quantized_activations_without_a_kernel(tmp_path: Path) -> None:
    """litert-quantizer quantizes SQRT and leaves its version at 1, although int8 came with version 2."""
    model = TinyModel()
    source = model.input("x", (1, 8), "int8", scale=0.1)
    model.outputs.append(model.operator("SQRT", [source], model.tensor("y", (1, 8), "int8", scale=0.1)))
    graph = model.graph(tmp_path)
    for release, refused in ((OLD, True), (MIDDLE, True), (NEW, False)):
        told = reason(graph, release)
        assert (told is not None) is refused
        assert told is None or "SQRT has no kernel for this type there" in told


def test_one_scale_of_a_depthwise_kernel_is_wrong_everywhere(tmp_path: Path) -> None:
    for scales, refused in ((1, True), (8, False)):
        model = TinyModel()
        source = model.input("x", (1, 4, 4, 8))
        kernel = model.constant("w", np.ones((1, 3, 3, 8), np.int8), scale=np.full(scales, 0.1), axis=3)
        bias = model.constant("b", np.zeros(8, np.float32))
        output = model.tensor("y", (1, 4, 4, 8))
        model.outputs.append(
            model.operator("DEPTHWISE_CONV_2D", [source, kernel, bias], output, strideH=1, strideW=1, depthMultiplier=1)
        )
        graph = model.graph(tmp_path)
        assert [reason(graph, release) is not None for release in (OLD, MIDDLE, NEW)] == [refused] * 3


def custom(name: str, folder: Path) -> flatbuffer.Graph:
    model = TinyModel()
    source = model.input("x", (1,))
    model.outputs.append(model.operator("CUSTOM", [source], model.tensor("y", (1,))))
    model.codes[-1].customCode = name
    return model.graph(folder)


def test_what_is_wrong_on_some_architectures_only(tmp_path: Path) -> None:
    """Seen under an emulator: the Arm wheels of 2.14 end the process where x86 runs."""
    for outputs, biased, refused in ((3, False, True), (3, True, False), (8, False, False)):
        model = TinyModel()
        source = model.input("x", (1, 8), "int8", scale=0.1)
        kernel = model.constant("w", np.ones((outputs, 8), np.int8), scale=np.full(outputs, 0.1))
        bias = model.constant("b", np.zeros(outputs, np.int32), scale=np.full(outputs, 0.01)) if biased else -1
        output = model.tensor("y", (1, outputs), "int8", scale=0.1)
        model.outputs.append(model.operator("FULLY_CONNECTED", [source, kernel, bias], output))
        graph = model.graph(tmp_path)
        for machine, there in (("armv7l", refused), ("aarch64", refused), ("x86_64", False), (None, False)):
            found = runtime_support.refusal(graph, runtime=OLD[0], version=OLD[1], architecture=machine)
            assert (found is not None) is there
        assert reason(graph, NEW) is None


def test_custom_operations(tmp_path: Path) -> None:
    assert "no custom operation 'edgetpu-custom-op'" in (reason(custom("edgetpu-custom-op", tmp_path), NEW) or "")
    assert reason(custom("edgetpu-custom-op", tmp_path), NEW, delegated=["edgetpu-custom-op"]) is None
    assert "TensorFlow itself" in (reason(custom("FlexAddV2", tmp_path), NEW) or "")
    assert reason(custom("TFLite_Detection_PostProcess", tmp_path), OLD) is None


@pytest.mark.parametrize(
    ("kind", "refused"), [("STABLEHLO_ADD", [True, False, False]), ("STABLEHLO_DIVIDE", [True] * 3)]
)
def test_operations_that_a_release_lacks(kind: str, refused: list[bool], tmp_path: Path) -> None:
    model = TinyModel()
    source = model.input("x", (1,))
    model.outputs.append(model.operator(kind, [source, source], model.tensor("y", (1,))))
    told = [reason(model.graph(tmp_path), release) for release in (OLD, MIDDLE, NEW)]
    assert [one is not None for one in told] == refused
    assert told[0] is not None and f"it has no operation {kind}" in told[0]


def test_an_operation_newer_than_the_schema(tmp_path: Path) -> None:
    model = TinyModel()
    source = model.input("x", (1,))
    model.outputs.append(model.operator("ADD", [source, source], model.tensor("y", (1,))))
    model.codes[-1].builtinCode = 230
    model.codes[-1].deprecatedBuiltinCode = 127
    assert "no operation BUILTIN_230" in (reason(model.graph(tmp_path), NEW) or "")


def test_every_subgraph_is_looked_at(tmp_path: Path) -> None:
    """The body of a loop is a subgraph of its own."""
    inner = dense("int8", 4, tmp_path)
    outer = separable().graph(tmp_path)
    both = flatbuffer.Graph((outer.main, inner.main), outer.interface, None, (), 0)
    assert "computes garbage" in (reason(both, OLD) or "")


def test_many_complaints_are_counted(tmp_path: Path) -> None:
    model = TinyModel()
    source = model.input("x", (1,))
    for name in ("FlexA", "FlexB", "FlexB"):
        source = model.operator("CUSTOM", [source], model.tensor("y", (1,)))
        model.codes[-1].customCode = name
    model.outputs.append(source)
    assert (reason(model.graph(tmp_path), NEW) or "").endswith("(and 1 more)")


@pytest.mark.parametrize(("name", "version"), [("tflite-runtime", "2.5.0.post1"), ("benchmark_model", None), ("ai-edge-litert", "9.0")])  # fmt: skip
def test_of_an_unknown_runtime_nothing_is_claimed(name: str, version: str | None, tmp_path: Path) -> None:
    assert runtime_support.refusal(dense("int8", 4, tmp_path), runtime=name, version=version) is None
    told = runtime_support.doubt(runtime=name, version=version)
    assert told is not None and name in told
    assert runtime_support.doubt(runtime="ai-edge-litert", version="2.3.1") is None


@pytest.mark.parametrize("release", read_all(), ids=lambda release: release.title)
def test_the_data_names_operations_that_exist(release: Release) -> None:
    operators = vars(schema.BuiltinOperator)
    types = {name.lower() for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
    highest = release.highest()
    named = [name for names in release.versions.values() for name in names]
    assert len(named) == len(set(named))
    assert set(highest) <= set(operators) and set(release.lowest) <= set(highest)
    assert set(release.types) <= types
    for wrong in release.wrong:
        assert {*wrong.inputs, *wrong.outputs, *wrong.weights} <= types
        assert set(wrong.architectures) <= set(release.wheels.needs)
        assert all(name == "*" or name in operators for name in wrong.operators)


def test_a_release_stands_in_the_file_of_its_name() -> None:
    for path in resources.data("runtimes").glob("*.toml"):
        table = read_table(path)
        assert path.stem == f"{table['name']}-{'.'.join(table['version'].split('.')[:2])}"
