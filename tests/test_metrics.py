"""Metrics: against brute force where that is easy, labels they cannot use refused, the user's own functions distrusted."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship import metrics
from edgeship.errors import BadInput


def out(*rows: Any) -> dict[str, Any]:
    return {"scores": np.array(rows, dtype=np.float32)}


def score(name: str, outputs: metrics.Outputs, labels: Any = None, reference: metrics.Outputs | None = None) -> float:
    given = None if labels is None else np.asarray(labels)
    return metrics.find(name).score(outputs, given, reference if reference is not None else outputs)


PAIRS = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40)


@given(PAIRS)
def test_auc_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[int, bool]]) -> None:
    hits = [value for value, positive in pairs if positive]
    misses = [value for value, positive in pairs if not positive]
    outputs = {"score": np.array([[value] for value, _ in pairs], np.float32)}
    labels = [int(positive) for _, positive in pairs]
    if not hits or not misses:
        with pytest.raises(BadInput, match="two classes"):
            score("auc", outputs, labels)
        return
    wins = [1.0 if hit > miss else 0.5 if hit == miss else 0.0 for hit, miss in itertools.product(hits, misses)]
    assert math.isclose(score("auc", outputs, labels), sum(wins) / len(wins), abs_tol=1e-12)


def test_auc_of_more_classes_is_the_mean_over_one_against_the_rest() -> None:
    outputs = out([9, 0, 1], [0, 9, 1], [0, 1, 9], [8, 0, 1])
    assert score("auc", outputs, [0, 1, 2, 0]) == 1.0
    assert 0 < score("auc", outputs, [1, 0, 2, 0]) < 1


def test_two_columns_are_judged_by_the_second() -> None:
    assert score("auc", out([0.9, 0.1], [0.2, 0.8]), [0, 1]) == 1.0
    assert score("auc", out([0.9, 0.1], [0.2, 0.8]), [1, 0]) == 0.0


def test_top1_and_agreement_count_the_highest_score() -> None:
    outputs, reference = out([1, 2], [3, 1], [0, 5]), out([0, 1], [0, 1], [0, 1])
    assert score("top1", outputs, [1, 0, 0]) == pytest.approx(2 / 3)
    assert score("agreement", outputs, reference=reference) == pytest.approx(2 / 3)
    assert score("agreement", reference) == 1.0


def test_mse_is_against_float_targets_else_against_the_reference() -> None:
    outputs, reference = out([1.0], [3.0]), out([0.0], [0.0])
    assert score("mse", outputs, [1.0, 1.0], reference) == 2.0
    assert score("mse", outputs, [1, 1], reference) == 5.0
    assert score("mse", outputs, None, reference) == 5.0
    with pytest.raises(BadInput, match="'labels' have shape"):
        score("mse", outputs, [1.0, 1.0, 1.0], reference)


@given(st.integers(1, 60))
def test_sqnr_is_signal_over_error_in_decibels(decibels: int) -> None:
    signal = np.full((4, 4), 1.0)
    noise = signal * (1 + 10 ** (-decibels / 20))
    assert metrics.sqnr_db({"a": signal}, {"a": noise}) == pytest.approx(decibels, abs=1e-6)


def test_sqnr_at_its_ends() -> None:
    ones, zeros = {"a": np.ones((2, 2))}, {"a": np.zeros((2, 2))}
    assert metrics.sqnr_db(ones, ones) == metrics.FLOAT32_SQNR_DB
    assert metrics.sqnr_db(zeros, ones) == -metrics.FLOAT32_SQNR_DB
    assert metrics.sqnr_db(ones, zeros) == 0.0


def test_outputs_of_another_model_are_refused() -> None:
    with pytest.raises(BadInput, match="different outputs"):
        metrics.sqnr_db({"a": np.ones((2, 3))}, {"a": np.ones((2, 4))})
    with pytest.raises(BadInput, match="different outputs"):
        metrics.sqnr_db({"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2)})


def test_outputs_are_paired_by_name_else_in_order() -> None:
    reference = {"a": np.zeros((1, 2)), "b": np.ones((1, 2))}
    assert score("mse", {"b": np.ones((1, 2)), "a": np.zeros((1, 2))}, None, reference) == 0
    assert score("mse", {"x": np.zeros((1, 2)), "y": np.ones((1, 2))}, None, reference) == 0


@pytest.mark.parametrize("name", sorted(metrics.METRICS))
def test_a_drop_above_zero_is_always_worse(name: str) -> None:
    metric = metrics.find(name)
    worse, better = (0.1, 0.9) if metric.higher_is_better else (0.9, 0.1)
    assert metric.drop(better, worse) == pytest.approx(0.8)
    assert metric.drop(worse, better) == pytest.approx(-0.8)
    assert metric.higher_is_better == (name != "mse")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, "needs 'labels'"),
        (np.array([0.0, 1.0]), "must be one integer an example"),
        (np.array([[1, 0], [0, 1]]), "must be one integer an example"),
        (np.array([0, 10]), "run from 0 to 10, but the model has 10 classes"),
        (np.array([-1, 3]), "run from -1 to 3"),
        (np.array([True, False]), "must be one integer an example"),
    ],
)
def test_labels_that_a_metric_cannot_use_are_refused(labels: Any, said: str) -> None:
    with pytest.raises(BadInput) as refusal:
        metrics.check(metrics.find("top1"), labels, 10, "a.npz")
    assert refusal.value.message.startswith("a.npz: ")
    assert said in refusal.value.message


def test_labels_that_fit_and_metrics_that_need_none_pass() -> None:
    metrics.check(metrics.find("top1"), np.array([0, 9], np.uint8), 10, "a.npz")
    metrics.check(metrics.find("auc"), np.array([0, 1]), None, "a.npz")
    for name in ("agreement", "mse", "sqnr"):
        metrics.check(metrics.find(name), None, 10, "a.npz")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a module of the user's where they stand."""
    (tmp_path / "my_metrics.py").write_text(
        "def plain(outputs, labels):\n    return float(outputs[0, 0])\n"
        "def distance(outputs, labels, reference):\n    return abs(outputs - reference).max()\n"
        "distance.lower_is_better = True\n"
        "def names(outputs, labels):\n    return len(outputs['b'])\n"
        "def breaks(outputs, labels):\n    raise RuntimeError('no such class')\n"
        "def nan(outputs, labels):\n    return float('nan')\n"
        "def text(outputs, labels):\n    return 'good'\n"
        "number = 3\n"
    )
    (tmp_path / "broken_metrics.py").write_text("def f(:\n")
    (tmp_path / "crashing_metrics.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own")
def test_the_users_own_function_is_called_with_what_it_takes() -> None:
    assert score("my_metrics:plain", out([4, 2])) == 4.0
    distance = metrics.find("my_metrics:distance")
    assert not distance.higher_is_better
    assert distance.score(out([1, 2]), None, out([1, 5])) == 3.0
    assert score("my_metrics:names", {"a": np.zeros((1, 2)), "b": np.zeros((3, 2))}) == 3.0


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    "name",
    ["gone:f", "my_metrics:gone", "my_metrics:number", "broken_metrics:f", "crashing_metrics:f", ":f", "my_metrics:"],
)
def test_a_function_that_cannot_be_had_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=f"--metric {name}: "):
        metrics.find(name)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "said"),
    [("breaks", "raised RuntimeError: no such class"), ("nan", "returned nan"), ("text", "returned 'good'")],
)
def test_a_function_that_fails_is_the_users_to_mend(name: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        score(f"my_metrics:{name}", out([1, 2]))


def test_an_unknown_metric_has_a_near_miss() -> None:
    with pytest.raises(BadInput, match="no such metric 'top-1'; did you mean 'top1'"):
        metrics.find("top-1")
