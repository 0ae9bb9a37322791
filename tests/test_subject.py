"""What a build works on: examples matched and split, the metric that fits, and what the user has to be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import recipe, subject
from edgeship.errors import BadInput
from edgeship.examples import EVERY_INPUT, Preparation
from edgeship.flatbuffer import Graph
from edgeship.model import Model
from edgeship.subject import Given
from tests.tiny_tflite import separable

PLAIN = Model("net", Path("net.tflite"), "0" * 64)
INT8 = recipe.read("int8")


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return separable().graph(tmp_path)


def npz(folder: Path, count: int, name: str = "data.npz", **arrays: Any) -> Path:
    images = np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    path = folder / name
    np.savez(path, image=images, **arrays)
    return path


def given(data: Path | None = None, calibration: Path | None = None, **how: Any) -> Given:
    return subject.given(PLAIN, data, (calibration,) if calibration else (), how.get("scale"), how.get("offset"))


def told(found: subject.Material) -> dict[str, list[str]]:
    return {level: [entry.text for entry in found.advice if entry.level == level] for level in ("warning", "note")}


def test_data_alone_is_split(tmp_path: Path, graph: Graph) -> None:
    found = subject.material(given(npz(tmp_path, 50)), graph, recipe=INT8, seed=0)
    assert (found.calibration.count, found.evaluation.count, found.calibration.synthetic) == (10, 40, False)
    assert told(found) == {
        "warning": [],
        "note": ["10 of 50 examples were set apart for calibration and are left out of the evaluation"],
    }


def test_calibration_alone_leaves_made_up_inputs_of_its_range(tmp_path: Path, graph: Graph) -> None:
    found = subject.material(given(None, npz(tmp_path, 20), scale=(1 / 255,)), graph, recipe=INT8, seed=0)
    assert found.calibration.count == 20
    assert found.evaluation.synthetic
    limits = found.preparation["image"].range
    assert limits is not None
    assert limits == pytest.approx((0, 1), abs=0.02)
    assert "made-up inputs; give --data" in told(found)["warning"][0]


def test_nothing_given_is_made_up_and_warned_of_twice(graph: Graph) -> None:
    found = subject.material(given(), graph, recipe=INT8, seed=0)
    assert found.calibration.synthetic
    assert found.evaluation.synthetic
    assert found.calibration.sha256 != found.evaluation.sha256
    assert len(told(found)["warning"]) == 2
    assert len(told(subject.material(given(), graph, recipe=recipe.read("float16"), seed=0))["warning"]) == 1


def test_few_calibration_examples_warn(tmp_path: Path, graph: Graph) -> None:
    data = given(npz(tmp_path, 30), npz(tmp_path, 7, "few.npz"))
    assert "only 7 calibration examples" in told(subject.material(data, graph, recipe=INT8, seed=0))["warning"][0]
    assert (
        told(subject.material(data, graph, recipe=recipe.read("float32"), seed=0))["warning"] == []
    )  # none are needed


def test_training_needs_examples(graph: Graph) -> None:
    with pytest.raises(BadInput, match="recipe 'prune50' trains and needs examples"):
        subject.material(given(), graph, recipe=recipe.read("prune50"), seed=0)


def test_an_input_that_the_model_does_not_have_is_refused(graph: Graph) -> None:
    with pytest.raises(BadInput, match="no such input of the model 'imgae'; did you mean 'image'"):
        subject.material(Given(None, None, {"imgae": Preparation()}), graph, recipe=INT8, seed=0)


def test_scale_and_offset_replace_the_models_own_but_keep_its_range(tmp_path: Path) -> None:
    own = Model("net", Path("n"), "0", preparation={"image": Preparation((0.5,), (0.0,), (0.0, 1.0))})
    assert subject.given(own, None, (), None, None).preparation == own.preparation
    found = subject.given(own, None, (), (2.0,), None).preparation
    assert found == {EVERY_INPUT: Preparation((2.0,), (0.0,), (0.0, 1.0))}


def test_the_models_own_calibration_stays_out_when_other_data_comes(tmp_path: Path) -> None:
    own = Model("n", Path("n"), "0", data=npz(tmp_path, 9, "own.npz"), calibration=npz(tmp_path, 8, "cal.npz"))
    counts = [
        tuple(part.count if part else None for part in (found.data, found.calibration))
        for found in (
            subject.given(own, None, (), None, None),
            subject.given(own, npz(tmp_path, 5), (), None, None),
            subject.given(own, None, (npz(tmp_path, 6),), None, None),
        )
    ]
    assert counts == [(9, 8), (5, None), (9, 6)]


@pytest.mark.parametrize(
    ("asked", "of_recipe", "of_model", "labels", "classes", "found"),
    [
        (None, None, None, np.arange(4), 10, "top1"),
        (None, None, None, None, 10, "agreement"),
        (None, None, None, None, None, "sqnr"),
        (None, None, None, np.ones(4), 10, "mse"),
        (None, None, "top1", None, 10, "agreement"),  # the model's own needs labels, and there are none
        (None, None, "mse", None, 10, "mse"),
        (None, "auc", "mse", np.arange(4), 10, "auc"),
        ("sqnr", "auc", "mse", np.arange(4), 10, "sqnr"),
    ],
)
def test_the_metric_is_the_users_the_recipes_the_models_or_what_fits(
    tmp_path: Path,
    asked: str | None,
    of_recipe: str | None,
    of_model: str | None,
    labels: Any,
    classes: int | None,
    found: str,
) -> None:
    judged = given(npz(tmp_path, 4, **({} if labels is None else {"labels": labels}))).data
    assert judged is not None
    chosen = INT8.model_copy(update={"metric": of_recipe})
    own = Model("n", Path("n"), "0", metric=of_model)
    assert subject.metric_for(asked, chosen, own, judged, classes).name == found


def test_a_comparison_is_judged_by_all_of_the_data(tmp_path: Path, graph: Graph) -> None:
    found = subject.judging(given(npz(tmp_path, 30)), graph, seed=0)
    assert found.evaluation.count == 30
    assert told(found) == {"warning": [], "note": []}
    assert subject.judging(given(), graph, seed=0).evaluation.synthetic
