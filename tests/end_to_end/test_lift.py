"""Every operation that a lift knows, against the runtime on several examples at once; and what it refuses, in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgeship import child, resources
from edgeship.lift import RELATIVE_TOLERANCE
from tests import lifted_models
from tests.conftest import Answer as Said
from tests.lifted_models import Answer
from tests.tiny_tflite import TinyModel

Here = Callable[..., Said]
DIGITS = resources.folder("models") / "digits"

REFUSED = {
    "batch_of_four": "input 'image' of shape (4, 3) does not begin with a batch of 1",
    "constant_answer": "output 'answer' does not depend on an input",
    "integers": "RELU computes 'x' in int8",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    folder = tmp_path_factory.mktemp("lift")
    return child.run(partial(lifted_models.lift_all, folder=folder), log=folder / "log.txt", timeout_s=600)


def test_every_operation_gives_what_the_runtime_gives(answers: dict[str, Answer]) -> None:
    refused = {name: answer.refusal for name, answer in answers.items() if answer.refusal and name not in REFUSED}
    assert not refused
    assert max(answer.error for answer in answers.values()) <= RELATIVE_TOLERANCE


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("conv", "Conv2D"), ("conv_padded", "ZeroPadding2D"), ("conv_transposed", "Conv2DTranspose"), ("conv_3d", "Conv3D"),
        ("depthwise", "DepthwiseConv2D"), ("channel_constants", "DepthwiseConv2D"), ("single_numbers", "Rescaling"),
        ("dense_rows", "Dense"), ("merged_rows", "Dense"), ("tokens", "Embedding"), ("pooled", "AveragePooling2D"),
    ],
)  # fmt: skip
def test_what_training_knows_becomes_its_own_layer(answers: dict[str, Answer], name: str, layer: str) -> None:
    assert layer in answers[name].layers


def test_constants_behind_a_kernel_become_part_of_it(answers: dict[str, Answer]) -> None:
    assert answers["conv"].layers == ("InputLayer", "Conv2D", "ReLU")
    assert "Operation" not in answers["separable"].layers


def test_a_kernel_that_is_used_again_and_again_is_one_layer(answers: dict[str, Answer]) -> None:
    assert answers["unrolled"].layers.count("Dense") == 2


def test_operations_without_a_layer_are_named(answers: dict[str, Answer]) -> None:
    (note,) = answers["heads"].notes
    assert "BATCH_MATMUL (2)" in note


@pytest.mark.parametrize(("name", "said"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_trained_is_refused_by_name(answers: dict[str, Answer], name: str, said: str) -> None:
    assert said in answers[name].refusal and f"{name}.tflite: cannot be made trainable" in answers[name].refusal


QUICK = 'base = "{base}"\n[train]\nepochs = 1\nmax_steps = 6\nmin_epoch_steps = 6\nlearning_rate = 0.0002\n'


@pytest.mark.parametrize(
    ("base", "more"),
    [("prune50-int8", 'augment = ["crop", "noise"]\n[prune]\nsparsity = 0.2\n'), ("qat-int8", "")],
    ids=("prune", "qat"),
)
def test_a_tflite_file_is_trained(here: Here, float_digits: Path, base: str, more: str) -> None:
    Path("quick.toml").write_text(QUICK.format(base=base) + more)
    calibration = (str(DIGITS / "calibration.npz"), "--calibration", str(DIGITS / "calibration.npz"))
    answer = here(
        "build", float_digits, "-t", "rpi4", "-r", "quick.toml", "--data", DIGITS / "data.npz", "--scale", str(1 / 255),
        "--calibration", *calibration, "--json", "--out", "out",
    )  # fmt: skip
    assert answer.code == 0, answer.stderr
    assert answer.table["quality"]["got"] >= answer.table["quality"]["reference"] - 0.05
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["inputs"][0]["name"] == "image" and manifest["inputs"][0]["dtype"] == "int8"
    assert any(layer["passes"] for layer in manifest["training"]["layers"])
    assert answer.table["sparsity"] >= 0.19 or base == "qat-int8"


def test_a_quantized_file_is_not_trained(here: Here, int8_digits: Path) -> None:
    data = ("--data", DIGITS / "data.npz", "--scale", str(1 / 255))
    answer = here("build", int8_digits, "-t", "rpi4", "-r", "prune50-int8", *data, "--out", "out")
    assert answer.code == 2 and not Path("out").exists()
    assert answer.message.endswith("recipe 'prune50-int8' trains, which needs a float model")


def test_changes_that_mean_nothing_are_refused_before_any_training(here: Here, tmp_path: Path) -> None:
    model = TinyModel()
    row = model.dense(model.input("row", (1, 6)), "dense", np.ones((3, 6)))
    model.outputs.append(row)
    model.write(tmp_path / "row.tflite")
    np.savez("rows.npz", inputs=np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32))
    Path("quick.toml").write_text(QUICK.format(base="prune50") + 'augment = ["flip"]\n')
    answer = here("build", "row.tflite", "-t", "rpi4", "-r", "quick.toml", "--data", "rows.npz", "--out", "out")
    assert answer.code == 2
    assert '"flip" needs an image' in answer.message and "'row' (1, 6) float32" in answer.message
