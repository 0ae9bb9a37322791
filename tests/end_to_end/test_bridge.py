"""Real Keras 3 models as tf_keras models: the same answers, or a refusal that names the layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeship import child
from tests import bridge_models


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    log = tmp_path_factory.mktemp("bridge") / "log.txt"
    return child.run(bridge_models.bridge_small, log=log, timeout_s=300)


def test_stock_models_give_the_same_logits(tmp_path: Path) -> None:
    found = child.run(bridge_models.bridge_all, log=tmp_path / "log.txt", timeout_s=600)
    assert len(found) == 3
    for name, (_, relative_error, spread) in found.items():
        assert relative_error <= 1e-4, name
        assert spread > 0.1, f"{name}: the logits vanished, so the comparison says nothing"


def test_models_used_as_layers_become_flat(small: dict[str, Any]) -> None:
    error, names = small["nested"]
    assert error <= 1e-4
    assert "base/conv2d" in names and names.count("base/conv2d") == 1


@pytest.mark.parametrize("name", ["sequential", "sequence", "tf_keras"])
def test_other_shapes_of_models(small: dict[str, Any], name: str) -> None:
    assert small[name][0] <= 1e-4, small[name]


def test_what_has_no_counterpart_is_named(small: dict[str, Any]) -> None:
    assert (
        small["unknown operation"][0] == "StageFailed" and "(Roll) has no counterpart" in small["unknown operation"][1]
    )
    assert small["unbuilt"][0] == "StageFailed" and "model 'unbuilt'" in small["unbuilt"][1]


def test_other_answers_are_refused_and_the_layer_is_named(small: dict[str, Any]) -> None:
    kind, message = small["lies"]
    assert kind == "StageFailed" and "first layer that differs: 'liar'" in message
