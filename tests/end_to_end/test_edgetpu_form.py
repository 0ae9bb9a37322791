"""A model with operations that no Edge TPU takes becomes one that maps whole, cut into segments with the same outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeship import flatbuffer
from tests.conftest import Answer
from tests.tiny_tflite import TinyModel

GONE = {"HARD_SWISH", "LEAKY_RELU", "PRELU", "RELU6", "SQUEEZE", "GELU", "DEQUANTIZE"}
Run = Callable[..., Answer]


def mobile(batch: int = 1) -> TinyModel:
    """Return a small network of what mobile networks are made of, with a residual connection over it all."""
    random = np.random.default_rng(11)
    model = TinyModel()
    image = model.input("image", (batch, 16, 16, 3))
    here = model.conv(image, "stem", random.normal(size=(8, 3, 3, 3)) / 4, (8, 8), strideH=2, strideW=2)
    here = model.operator("HARD_SWISH", [here], model.tensor("stem/swish", (batch, 8, 8, 8)))
    skip = here
    here = model.depthwise(here, "depthwise", random.normal(size=(1, 3, 3, 8)) / 2, (8, 8))
    here = model.operator("LEAKY_RELU", [here], model.tensor("depthwise/leaky", (batch, 8, 8, 8)), alpha=0.1)
    here = model.conv(here, "project", random.normal(size=(8, 1, 1, 8)) / 2, (8, 8))
    alpha = model.constant("alpha", np.linspace(0.1, 0.4, 8, dtype=np.float32).reshape(1, 1, 8))
    here = model.operator("PRELU", [here, alpha], model.tensor("project/prelu", (batch, 8, 8, 8)))
    here = model.operator("ADD", [here, skip], model.tensor("sum", (batch, 8, 8, 8)))
    here = model.operator("RELU6", [here], model.tensor("sum/relu6", (batch, 8, 8, 8)))
    axes = model.constant("axes", np.array([1, 2], np.int32))
    here = model.operator("MEAN", [here, axes], model.tensor("pooled", (batch, 1, 1, 8)), keepDims=True)
    flat = model.tensor("flat", (batch, 8))
    here = model.operator("SQUEEZE", [here], flat, squeezeDims=[1, 2])
    here = model.operator("GELU", [here], model.tensor("gelu", (batch, 8)))
    kernel = model.constant("dense/weight", random.normal(size=(10, 8)).astype(np.float32))
    model.outputs = [model.operator("FULLY_CONNECTED", [here, kernel, -1], model.tensor("logits", (batch, 10)))]
    for tensor in model.tensors:
        if tensor.buffer == 0:
            tensor.shape = [batch, *tensor.shape[1:]]
    return model


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """Write images to calibrate with and to judge by."""
    random = np.random.default_rng(12)
    np.savez(tmp_path / "images.npz", inputs=random.normal(size=(64, 16, 16, 3)).astype(np.float32))
    return tmp_path / "images.npz"


def build(run: Run, model: Path, examples: Path, *more: str) -> Answer:
    """Build a model for the Coral USB accelerator."""
    return run("build", model, "--target", "coral-usb", "--data", examples, "--metric", "sqnr", "--json", *more)


@pytest.mark.parametrize("batch", [1, 2])
def test_what_no_edgetpu_takes_is_rewritten_and_the_file_maps_whole(
    here: Run, tmp_path: Path, examples: Path, batch: int
) -> None:
    path = mobile(batch).write(tmp_path / "mobile.tflite")
    answer = build(here, path, examples, "--out", "out")
    assert answer.code == 0, answer.stderr
    told = answer.table
    stages = [stage["stage"] for stage in told["stages"]]
    assert stages == ["import", "adapt", "quantize", "adapt-int8", "verify"]
    assert told["quality"]["got"] > 10  # 13 dB, as without the forms: few examples clip
    graph = flatbuffer.read(tmp_path / "out" / "model.tflite")
    assert not GONE & {operator.name for operator in graph.main.operators}
    assert graph.interface.inputs[0].shape == (1, 16, 16, 3)
    assert {spec.dtype for spec in (*graph.interface.inputs, *graph.interface.outputs)} == {"int8"}
    forecast = here("edgetpu", "out/model.tflite", "--json").table
    assert forecast["edgetpu_share"] == 1.0, forecast["cpu_operators"]
    assert {entry["confidence"] for entry in forecast["operators"]} <= {"certain", "likely"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "HARD_SWISH as x * relu6(x + 3) / 6" in page
    again = build(here, path, examples, "--out", "out").table
    assert {stage["outcome"] for stage in again["stages"]} == {"cached"}


def test_segments_of_it_chain_to_the_same_bits(here: Run, tmp_path: Path, examples: Path) -> None:
    assert build(here, mobile().write(tmp_path / "mobile.tflite"), examples, "--out", "out").code == 0
    answer = here("edgetpu", "out/model.tflite", "--segments", "3", "--out", "parts", "--data", examples, "--json")
    assert answer.code == 0, answer.stderr
    told = answer.table["segments"]
    assert told["check"]["examples"] == 64
    assert told["check"]["kernels"] == ["XNNPACK", "plain"]
    assert [part["cpu_operators"] for part in told["segments"]] == [{}, {}, {}]
    names = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert names == [*(f"model_segment_{number}_of_3.tflite" for number in range(3)), "segments.json"]
    said = here("edgetpu", "out/model.tflite", "--segments", "2", "--out", "two")
    assert "BIT-IDENTICAL" in said.stdout
    assert "not a measurement" in said.stdout


def test_float_edges_of_an_8_bit_file_come_off(here: Run, tmp_path: Path, examples: Path) -> None:
    path = mobile().write(tmp_path / "mobile.tflite")
    first = here(
        "build", path, "--target", "linux-x86_64", "--recipe", "int8-float-io", "--data", examples, "--out", "io"
    )
    assert first.code == 0, first.stderr
    answer = build(here, tmp_path / "io" / "model.tflite", examples, "--out", "out")
    assert answer.code == 0, answer.stderr
    graph = flatbuffer.read(tmp_path / "out" / "model.tflite")
    assert graph.main.operators[0].name != "QUANTIZE"
    assert graph.main.operators[-1].name != "DEQUANTIZE"
    assert graph.interface.inputs[0].dtype == "int8"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mobile.tflite", "--segments", "2"], "computes in float32"),
        (["out/model.tflite", "--segments", "99"], "cannot be cut into 99 segments"),
        (["out/model.tflite", "--segments", "2", "--target", "rpi4"], "rpi4: has no Edge TPU"),
        (["out/model.tflite", "--segments", "2", "--link", "usb4"], "no such link 'usb4'"),
    ],
)
def test_what_cannot_be_cut_leaves_nothing(
    here: Run, tmp_path: Path, examples: Path, arguments: list[str], said: str
) -> None:
    assert build(here, mobile().write(tmp_path / "mobile.tflite"), examples, "--out", "out").code == 0
    answer = here("edgetpu", *arguments, "--out", "parts")
    assert answer.code in (2, 3)
    assert said in answer.message
    assert not (tmp_path / "parts").exists()
