"""The golden check: what rounding may do passes, what a wrong kernel does fails, and the text says which."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from edgeship import golden
from edgeship.artifact import TensorSpec
from edgeship.measurement import Golden

FLOAT = TensorSpec("scores", (1, 10), "float32")
INT8 = TensorSpec("scores", (1, 10), "int8", 0.5, -3)


def one(expected: Any, got: Any, spec: TensorSpec = FLOAT) -> Golden:
    return golden.check((np.asarray(expected),), (np.asarray(got),), (spec,))


def floats(*rows: list[float]) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


def int8(rows: list[list[int]]) -> NDArray[np.int8]:
    return np.array(rows, dtype=np.int8)


def same_class(host: NDArray[Any], device: NDArray[Any]) -> bool:
    """Say whether the host's top class is the device's, or is ahead by no more than one rounding."""
    return bool(device.argmax() == host.argmax() or np.ptp(np.sort(host)[-2:]) <= 1)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@given(data=st.data())
def test_one_quantization_step_passes_and_two_do_not(dtype: str, data: st.DataObject) -> None:
    limits = np.iinfo(dtype)
    host = data.draw(arrays.arrays(dtype, (3, 1, 6), elements=st.integers(limits.min + 2, limits.max - 2)))
    change = data.draw(arrays.arrays(np.int64, (3, 1, 6), elements=st.integers(-1, 1)))
    spec = TensorSpec("q", (1, 6), dtype, 0.25, 1)
    found = one(host, (host + change).astype(dtype), spec)
    most = int(np.abs(change).max())
    same = all(map(same_class, host.reshape(3, 6).astype(int), (host + change).reshape(3, 6)))
    assert (found.checked, found.max_abs_error, found.max_steps, found.passed) == (3, most * 0.25, most, same)
    change[1, 0, data.draw(st.integers(0, 5))] = data.draw(st.sampled_from([-2, 2]))
    found = one(host, (host + change).astype(dtype), spec)
    assert (found.passed, found.max_steps, found.max_abs_error) == (False, 2, 0.5)


def test_the_whole_range_of_a_type_is_no_overflow() -> None:
    found = one(np.full((1, 2), -128, np.int8), np.full((1, 2), 127, np.int8), INT8)
    assert (found.max_steps, found.max_abs_error, found.passed) == (255, 127.5, False)


@given(arrays.arrays(np.int8, (8, 1, 5), elements=st.integers(-127, 126)), st.integers(0, 2**32 - 1))
def test_within_a_step_only_a_tie_can_take_the_top_class_from_a_sure_host(host: NDArray[np.int8], seed: int) -> None:
    """A lead of two steps may shrink to a tie, which another index may win; a lead of three stays."""
    device = host + np.random.default_rng(seed).integers(-1, 2, host.shape).astype(np.int8)
    rows, others = host.reshape(8, -1).astype(int), device.reshape(8, -1).astype(int)
    assert one(host, device, INT8).passed == all(map(same_class, rows, others))
    for row, other in zip(rows, others, strict=True):
        assert same_class(row, other) or other[row.argmax()] == other.max()


def test_ties_at_the_top_pass_and_a_changed_class_is_told() -> None:
    assert one(int8([[9, 9, 1]]), int8([[8, 9, 1]]), INT8).passed
    found = one(int8([[9, 5, 1], [9, 5, 1]]), int8([[2, 5, 1], [9, 5, 1]]), INT8)
    assert found.why == (
        "output 'scores' is off by up to 7 quantization steps, where 1 is allowed; the top-1 class differs in 1 of 2 examples"
    )


@given(st.floats(0.0078125, 1e6, width=32), st.floats(0, 3))
def test_floats_are_held_to_the_range_of_the_output(span: float, share: float) -> None:
    host = floats([0, span], [span / 2, 0])
    device = host.copy()
    device[0, 0] = np.float32(share * 1e-4 * span)
    if abs(share - 1) > 1e-3 or share == 0:
        allowed = max(1e-4 * span, 1e-6, float(np.spacing(np.float32(span))))
        assert one(host, device).passed == (float(device[0, 0]) <= allowed)


def test_a_flat_output_has_a_floor() -> None:
    assert one(floats([1, 1]), floats([1, 1 + 5e-7])).passed
    found = one(floats([1, 1]), floats([1, 1.01]))
    assert not found.passed
    assert "off by up to 0.01, where 1e-06 is allowed (its range is 0)" in str(found.why)
    assert one(floats([4e6, 4e6]), floats([4e6, 4e6 + 0.25])).passed  # the next number of that type


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stands_on_both_sides_or_nowhere(odd: float) -> None:
    host, broken = floats([1, 2, 3]), floats([1, odd, 3])
    for ours, theirs in ((host, broken), (broken, host), (broken, floats([odd, 2, 3]))):
        found = one(ours, theirs)
        assert not found.passed
        assert found.max_abs_error == sys.float_info.max
    assert one(broken, broken.copy()) == Golden(1, 0.0, None, passed=True)
    assert not one(floats([odd, odd]), floats([odd, odd])).passed
    assert not one(floats([np.inf, 1]), floats([-np.inf, 1])).passed
    assert not one(broken, floats([1, odd, 4])).passed


@pytest.mark.parametrize("dtype", ["int32", "int64", "bool", "int8", "uint64"])
def test_plain_whole_numbers_are_equal(dtype: str) -> None:
    spec = TensorSpec("index", (1, 2), dtype)
    host = np.array([[1, 0]], dtype)
    assert one(host, host.copy(), spec) == Golden(1, 0.0, None, passed=True)
    found = one(host, host[:, ::-1].copy(), spec)
    assert (found.passed, found.max_abs_error, found.max_steps) == (False, 1.0, None)
    assert found.why == "output 'index' differs in 2 of 2 values, and has to be equal"


@pytest.mark.parametrize(
    "got", [np.zeros((2, 1, 9), np.float32), np.zeros((1, 1, 10), np.float32), np.zeros((2, 1, 10), np.int8)]
)
def test_another_shape_or_type_fails_with_both_named(got: NDArray[Any]) -> None:
    found = one(np.zeros((2, 1, 10), np.float32), got)
    assert not found.passed
    assert str(got.shape) in str(found.why)
    assert str(got.dtype) in str(found.why)


def test_nothing_compared_is_no_pass() -> None:
    assert not golden.check((), (), ()).passed
    assert not one(np.zeros((0, 10), np.float32), np.zeros((0, 10), np.float32)).passed
    assert not golden.check((floats([1]),), (), (FLOAT,)).passed


def test_several_outputs_are_all_held() -> None:
    specs = (TensorSpec("a", (1, 2), "float32"), TensorSpec("b", (1, 2), "int8", 0.5, 0))
    host = (floats([0, 1], [1, 0]), int8([[1, 2], [3, 4]]))
    assert golden.check(host, (host[0], int8([[1, 2], [3, 3]])), specs) == Golden(2, 0.5, 1, passed=True)
    found = golden.check(host, (host[0] + 1, int8([[1, 2], [3, 9]])), specs)
    assert (found.passed, found.max_steps) == (False, 5)
    assert "output 'a'" in str(found.why)
    assert "output 'b'" in str(found.why)


def test_another_class_fails_where_the_host_is_sure() -> None:
    """Within a step each, and yet another class: wrong where the host was ahead by more than one rounding."""
    spec = TensorSpec("scores", (1, 2), "int8", 0.1, 0)
    sure, tied = np.array([[[8, 10]]], np.int8), np.array([[[9, 9]]], np.int8)
    assert not golden.check([sure], [tied], [spec]).passed
    near = np.array([[[9, 10]]], np.int8)
    assert golden.check([near], [np.array([[[10, 9]]], np.int8)], [spec]).passed
