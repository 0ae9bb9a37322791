"""Verdicts and differences: a budget to its last bit, tolerances by range, and what is never within any."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship import closeness, verify
from edgeship.errors import BadInput, StageFailed
from edgeship.verify import Judged


def judged(drop: float) -> Judged:
    return Judged("top1", 0.9, 0.9 - drop, drop, 100, 30.0, 0.95, 10, (), "ai-edge-litert 2.3.0")


@given(st.floats(0, 1))
def test_a_drop_of_exactly_the_budget_passes(drop: float) -> None:
    assert verify.verdict(judged(drop), budget=drop, synthetic=False).passed
    assert not verify.verdict(judged(drop + 1e-6), budget=drop, synthetic=False).passed
    assert verify.verdict(judged(-drop), budget=0.0, synthetic=False).passed


def test_without_a_budget_everything_passes_and_says_so() -> None:
    found = verify.verdict(judged(0.9), budget=None, synthetic=True)
    assert found.passed
    assert found.budget is None
    assert found.synthetic
    assert (found.metric, found.reference, found.drop, found.examples) == ("top1", 0.9, 0.9, 100)


def test_a_difference_is_judged_by_the_range_of_what_was_expected() -> None:
    expected = {"a": np.array([[0.0, 100.0]])}
    near, far = {"a": np.array([[0.009, 100.0]])}, {"a": np.array([[0.011, 100.0]])}
    assert closeness.difference(expected, near).within
    found = closeness.difference(expected, far)
    assert not found.within
    assert found.max_abs_error == pytest.approx(0.011)
    assert found.relative_error == pytest.approx(0.00011)
    assert closeness.difference(expected, far, tolerance=1e-3).within


def test_tiny_ranges_have_a_floor_and_quantized_outputs_a_step() -> None:
    flat = {"a": np.full((2, 2), 3.0)}
    assert closeness.difference(flat, {"a": np.full((2, 2), 3.0 + 5e-7)}).within
    assert not closeness.difference(flat, {"a": np.full((2, 2), 3.0 + 5e-6)}).within
    assert closeness.difference(flat, {"a": np.full((2, 2), 3.5)}, steps={"a": 0.5}).within
    assert not closeness.difference(flat, {"a": np.full((2, 2), 4.0)}, steps={"a": 0.5}).within
    assert not closeness.difference(flat, {"a": np.full((2, 2), 3.5)}, steps={"other": 0.5}).within


@pytest.mark.parametrize("wrong", [np.full((2, 2), np.nan), np.full((2, 2), np.inf), np.zeros((2, 3))])
def test_no_number_and_another_shape_are_beyond_any_tolerance(wrong: np.ndarray) -> None:
    found = closeness.difference({"a": np.zeros((2, 2))}, {"a": wrong}, tolerance=1e30)
    assert not found.within
    assert found.max_abs_error == sys.float_info.max


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_source_that_gives_no_number_is_not_told_as_an_error_of_nothing(value: float) -> None:
    found = closeness.difference({"a": np.full((2, 2), value)}, {"a": np.zeros((2, 2))})
    assert not found.within
    assert not found.comparable
    assert found.max_abs_error == sys.float_info.max


def test_one_bad_output_of_several_is_enough() -> None:
    expected = {"a": np.array([0.0, 1.0]), "b": np.array([0.0, 1.0])}
    assert not closeness.difference(expected, {"a": np.array([0.0, 1.0]), "b": np.array([0.0, 2.0])}).within
    assert closeness.difference(expected, {"b": np.array([0.0, 1.0]), "a": np.array([0.0, 1.0])}).within
    assert closeness.difference(expected, {"x": np.array([0.0, 1.0]), "y": np.array([0.0, 1.0])}).within
    with pytest.raises(StageFailed, match="2 outputs were expected, 1 came"):
        closeness.difference(expected, {"a": np.array([0.0, 1.0])})


@pytest.mark.parametrize(
    ("shape", "classes"),
    [((1, 10), 10), ((1, 1, 1, 10), 10), ((1, 1), None), ((1,), None), ((1, 4, 4, 2), None), ((1, 2), 2)],
)
def test_an_output_is_classes_when_it_is_one_score_each(shape: tuple[int, ...], classes: int | None) -> None:
    assert verify.classes([shape]) == classes


def test_a_model_without_outputs_is_refused() -> None:
    with pytest.raises(BadInput, match="no outputs"):
        verify.classes([])
