"""Every operation that a lift knows, against the runtime on several examples at once; and what it refuses, in words."""

from __future__ import annotations

from functools import partial

import pytest

from edgeship import child
from edgeship.lift import RELATIVE_TOLERANCE
from tests import lifted_models
from tests.lifted_models import Answer

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


def test_operations_without_a_layer_are_named(answers: dict[str, Answer]) -> None:
    (note,) = answers["heads"].notes
    assert "BATCH_MATMUL (2)" in note


@pytest.mark.parametrize(("name", "said"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_trained_is_refused_by_name(answers: dict[str, Answer], name: str, said: str) -> None:
    assert said in answers[name].refusal and f"{name}.tflite: cannot be made trainable" in answers[name].refusal
