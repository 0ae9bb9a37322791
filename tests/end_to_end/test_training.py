"""TF-MOT for real on a small classifier: what was asked for is in the TFLite file, and the report says the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgeship import child, flatbuffer
from edgeship.errors import BadInput, EdgeshipError
from edgeship.progress import Progress
from edgeship.training import Trained
from tests import tiny_training as tiny

RECIPES = {
    "prune2x4": "keras.keras",
    "cluster8": "tf_keras.h5",
    "pqat50-int8": "tf_keras.h5",
    "pcqat50-8-int8": "keras.keras",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    child.run(partial(tiny.make_models, folder=folder), log=folder / "log.txt", timeout_s=300)
    tiny.write_examples(folder / "examples.npz")
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> dict[str, Trained]:
    orders = [tiny.order(folder, source, tiny.quick(name), out=f"{name}.tflite") for name, source in RECIPES.items()]
    answers = child.run(partial(tiny.train_all, orders=orders), log=folder / "log.txt", timeout_s=600)
    found = {}
    for name, answer in zip(RECIPES, answers, strict=True):
        assert isinstance(answer, Trained), answer
        found[name] = answer
    return found


@pytest.fixture(scope="module")
def others(folder: Path) -> tuple[dict[str, Trained | EdgeshipError], list[Progress]]:
    misspelt = tiny.with_options(tiny.quick("prune50"), "prune", layers=("secund",))
    part = tiny.with_options(tiny.quick("prune50", learning_rate=None), "prune", layers=("first",))
    float_io = tiny.quick("qat-int8-float-io")
    wrong = tiny.write_examples(folder / "wrong.npz", labelled=False)
    with np.load(wrong) as stored:
        np.savez(wrong, **{"input:image": stored["input:image"]}, labels=np.full(240, 9))
    unlabelled = tiny.write_examples(folder / "unlabelled.npz", labelled=False)
    orders = {
        "again": tiny.order(folder, "tf_keras.h5", tiny.quick("pqat50-int8"), out="again.tflite"),
        "misspelt": tiny.order(folder, "keras.keras", misspelt, out="misspelt.tflite"),
        "part": tiny.order(folder, "keras.keras", part, out="part.tflite"),
        "float io": tiny.order(folder, "tf_keras.h5", float_io, out="float_io.tflite"),
        "wrong": tiny.order(folder, "tf_keras.h5", tiny.quick("prune50"), out="wrong.tflite", examples=wrong.name),
        "unlabelled": tiny.order(
            folder, "keras.keras", tiny.quick("prune50"), out="u.tflite", examples=unlabelled.name
        ),
    }
    augment = {"augment": ("crop", "noise"), "crop_pixels": 1}
    wanted = tiny.quick("pcqat50-8-int8", **augment)
    orders["lifted"] = tiny.order(folder, "keras.keras.tflite", wanted, out="lifted.tflite")
    for name in ("changed", "changed again"):
        wanted = tiny.quick("prune50", **augment, epochs=1)
        orders[name] = tiny.order(folder, "tf_keras.h5", wanted, out=f"{name}.tflite")
    orders["odd"] = tiny.order(folder, "odd.keras", tiny.quick("prune50"), out="odd.tflite")
    said: list[Progress] = []
    work = partial(tiny.train_all, orders=list(orders.values()))
    answers = child.run(work, log=folder / "log.txt", timeout_s=1800, on_progress=said.append)
    return dict(zip(orders, answers, strict=True)), said


def test_pruning_reaches_its_share_in_every_kernel(folder: Path, trained: dict[str, Trained]) -> None:
    assert all(abs(layer.sparsity - 0.5) <= 1 / layer.weights for layer in trained["pqat50-int8"].layers)
    found = tiny.kernels(folder / "pqat50-int8.tflite")
    assert len(found) == 3
    # Rounding to int8 may turn more weights into zero, never fewer.
    assert all((kernel.values == 0).mean() >= 0.5 - 1 / kernel.values.size for kernel in found)


def test_two_of_four_along_the_input_depth(folder: Path, trained: dict[str, Trained]) -> None:
    second = next(k for k in tiny.kernels(folder / "prune2x4.tflite") if k.values.shape == (16, 3, 3, 8))
    assert ((second.values.reshape(-1, 4) == 0).sum(axis=1) >= 2).all()
    assert any("prune left 'first': its input depth 1" in warning for warning in trained["prune2x4"].warnings)


def test_clustering_leaves_a_few_values_also_in_int8(folder: Path, trained: dict[str, Trained]) -> None:
    whole = tiny.kernels(folder / "cluster8.tflite")
    assert len(whole) == 3
    assert all(len(np.unique(channel)) <= 8 for kernel in whole for channel in kernel.values)
    rounded = tiny.kernels(folder / "pcqat50-8-int8.tflite")
    assert all(len(np.unique(channel)) <= 8 for kernel in rounded for channel in kernel.values)
    assert all(layer.values_per_channel <= 8 for layer in trained["pcqat50-8-int8"].layers)
    assert all((kernel.values == 0).mean() >= 0.49 for kernel in rounded)


def test_channels_with_a_batch_norm_share_their_int8_codes(folder: Path, trained: dict[str, Trained]) -> None:
    second = next(k for k in tiny.kernels(folder / "pcqat50-8-int8.tflite") if k.values.shape == (16, 3, 3, 8))
    assert len(np.unique(second.values)) <= 3 * 8  # by chance 16 channels of 8 values have far more


@pytest.mark.parametrize("name", ["pqat50-int8", "pcqat50-8-int8"])
def test_quantization_aware_files_are_whole_int8(folder: Path, trained: dict[str, Trained], name: str) -> None:
    assert tiny.dtypes(folder / f"{name}.tflite") <= {"int8", "int32"}


@pytest.mark.parametrize("name", RECIPES)
def test_the_model_still_answers(folder: Path, trained: dict[str, Trained], name: str) -> None:
    assert tiny.accuracy(folder / f"{name}.tflite") >= 0.85


def test_the_history_is_whole_and_only_sparse_models_win(trained: dict[str, Trained]) -> None:
    tuned = trained["pqat50-int8"].tuned
    assert list(tuned) == ["prune", "qat"]
    assert [epoch.epoch for epoch in tuned["prune"].history] == [1, 2]
    assert tuned["prune"].best_epoch >= 1 and tuned["prune"].metric == "top1"
    assert (tuned["prune"].examples, tuned["prune"].held_out) == (192, 48)


def test_the_same_seed_gives_the_same_bytes(
    folder: Path, trained: dict[str, Trained], others: tuple[dict[str, object], list[Progress]]
) -> None:
    assert (folder / "again.tflite").read_bytes() == (folder / "pqat50-int8.tflite").read_bytes()


def test_a_pattern_that_fits_nothing_is_refused_with_the_near_miss(
    others: tuple[dict[str, object], list[Progress]], folder: Path
) -> None:
    refusal = others[0]["misspelt"]
    assert isinstance(refusal, BadInput)
    assert "'secund' fits no layer; did you mean 'second'?" in refusal.message
    assert not (folder / "misspelt.tflite").exists()


def test_a_model_left_mostly_untouched_is_warned_of(others: tuple[dict[str, object], list[Progress]]) -> None:
    answer = others[0]["part"]
    assert isinstance(answer, Trained)
    assert any("left most of the model untouched" in warning for warning in answer.warnings)
    assert [layer.passes for layer in answer.layers] == [("prune",), (), ()]
    assert len(answer.tuned["prune"].probed) == 4 and answer.tuned["prune"].learning_rate in (
        0.0002,
        0.0006,
        0.002,
        0.006,
    )


def test_labels_out_of_range_are_refused(others: tuple[dict[str, object], list[Progress]]) -> None:
    refusal = others[0]["wrong"]
    assert isinstance(refusal, BadInput) and "classes 9 to 9, but the model knows 0 to 3" in refusal.message


def test_without_labels_the_reference_is_imitated(
    folder: Path, others: tuple[dict[str, object], list[Progress]]
) -> None:
    answer = others[0]["unlabelled"]
    assert isinstance(answer, Trained) and answer.tuned["prune"].metric == "agreement"
    assert tiny.accuracy(folder / "u.tflite") >= 0.75


def test_float_inputs_and_outputs_around_int8(folder: Path, others: tuple[dict[str, object], list[Progress]]) -> None:
    assert isinstance(others[0]["float io"], Trained)
    assert "float32" in tiny.dtypes(folder / "float_io.tflite")
    assert all(kernel.values.dtype == np.int8 for kernel in tiny.kernels(folder / "float_io.tflite"))


def test_progress_tells_the_loss_and_the_time_left(others: tuple[dict[str, object], list[Progress]]) -> None:
    last = [step for step in others[1] if step.stage == "prune" and step.done][-1]
    assert last.done == last.total == 40
    assert last.text.startswith("epoch 2/2 loss ") and last.text.endswith("00:00 left")


def test_evening_out_channels_changes_no_answer(folder: Path) -> None:
    moved, largest, scales = child.run(
        partial(tiny.even_out, source=folder / "tf_keras.h5"), log=folder / "log.txt", timeout_s=300
    )
    assert moved <= 1e-5
    assert np.allclose(largest, 1, atol=1e-5) and min(scales) > 0


def test_a_lifted_model_goes_through_every_technique(
    folder: Path, others: tuple[dict[str, object], list[Progress]]
) -> None:
    answer = others[0]["lifted"]
    assert isinstance(answer, Trained), answer
    assert answer.start_error <= 1e-4 and not answer.notes
    assert list(answer.tuned) == ["prune", "cluster", "qat"]
    rounded = tiny.kernels(folder / "lifted.tflite")
    assert all(len(np.unique(channel)) <= 8 for kernel in rounded for channel in kernel.values)
    assert all((kernel.values == 0).mean() >= 0.49 for kernel in rounded)
    assert tiny.dtypes(folder / "lifted.tflite") <= {"int8", "int32"}
    assert tiny.accuracy(folder / "lifted.tflite") >= 0.85


def test_changed_examples_repeat_by_the_seed(folder: Path, others: tuple[dict[str, object], list[Progress]]) -> None:
    assert (folder / "changed.tflite").read_bytes() == (folder / "changed again.tflite").read_bytes()


def test_layers_of_a_lifted_model_are_called_by_the_references_tensors(
    folder: Path, others: tuple[dict[str, object], list[Progress]]
) -> None:
    answer = others[0]["lifted"]
    assert isinstance(answer, Trained)
    graph = flatbuffer.read(folder / "keras.keras.tflite")
    assert {layer.layer for layer in answer.layers} <= {tensor.name for tensor in graph.main.tensors}
    assert all(layer.passes == ("prune", "cluster", "qat") for layer in answer.layers)


def test_a_keras_model_that_the_bridge_cannot_take_is_lifted(
    folder: Path, others: tuple[dict[str, object], list[Progress]]
) -> None:
    answer = others[0]["odd"]
    assert isinstance(answer, Trained), answer
    assert answer.start_error <= 1e-4
    assert any("starts from the reference's graph" in warning and "Absolute" in warning for warning in answer.warnings)
    assert answer.notes == ("operations without a Keras layer pass through training as they are: ABS (1)",)
