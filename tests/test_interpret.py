"""Quantization arithmetic at a model's edges: what is stored means what was given, to half a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship import interpret
from edgeship.flatbuffer import Quantization, dequantized

DTYPES = st.sampled_from(["int8", "uint8", "int16"])


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """Return a quantized tensor's details as the runtime gives them."""
    dtype = draw(DTYPES)
    limits = np.iinfo(dtype)
    scale = float(np.float32(10 ** draw(st.floats(-6, 3))))
    zero_point = 0 if dtype == "int16" else draw(st.integers(int(limits.min), int(limits.max)))
    return {"quantization": (scale, zero_point), "dtype": np.dtype(dtype).type}


@given(entries())
def test_every_stored_value_comes_back_as_itself(entry: dict[str, Any]) -> None:
    limits = np.iinfo(entry["dtype"])
    every = np.arange(limits.min, limits.max + 1, 1 if limits.bits == 8 else 37).astype(entry["dtype"])
    assert np.array_equal(interpret.stored(interpret.real(every, entry), entry), every)


@given(entries(), st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30))
def test_a_value_in_range_is_at_most_half_a_step_off(entry: dict[str, Any], shares: list[float]) -> None:
    limits, (scale, zero_point) = np.iinfo(entry["dtype"]), entry["quantization"]
    low, high = (limits.min - zero_point) * scale, (limits.max - zero_point) * scale
    given = (low + (np.array(shares) + 1) / 2 * (high - low)).astype(np.float32)
    error = np.abs(interpret.real(interpret.stored(given, entry), entry) - given)
    assert (error <= scale * 0.501 + np.abs(given) * 1e-6).all()


@given(entries())
def test_a_value_beyond_the_range_is_clipped(entry: dict[str, Any]) -> None:
    limits = np.iinfo(entry["dtype"])
    far = np.array([-1e9, 1e9], np.float32)
    assert interpret.stored(far, entry).tolist() == [limits.min, limits.max]


def test_halves_are_rounded_to_even() -> None:
    entry = {"quantization": (1.0, 0), "dtype": np.int8}
    given = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
    assert interpret.stored(given, entry).tolist() == [0, 2, 2, 0, -2]


def test_a_float_tensor_is_left_as_it_is() -> None:
    entry = {"quantization": (0.0, 0), "dtype": np.float32}
    given = np.array([1.25, -3.5], np.float32)
    assert interpret.stored(given, entry).tolist() == [1.25, -3.5]
    assert interpret.real(given, entry).tolist() == [1.25, -3.5]


@given(entries())
def test_both_ways_of_reading_real_values_agree(entry: dict[str, Any]) -> None:
    scale, zero_point = entry["quantization"]
    values = np.arange(-5, 6).astype(np.int8)
    by_file = dequantized(values, Quantization(np.array([scale]), np.array([zero_point]), 0))
    assert np.allclose(by_file, interpret.real(values, {**entry, "dtype": np.int8}), rtol=1e-5)


def test_channels_have_scales_of_their_own() -> None:
    found = dequantized(np.ones((2, 3), np.int8), Quantization(np.array([1.0, 2.0, 4.0]), np.array([0, 1, -1]), 1))
    assert found.tolist() == [[1.0, 0.0, 8.0]] * 2


@pytest.mark.parametrize(("count", "parts"), [(1, 1), (10, 3), (3, 3), (256, 7), (2, 8)])
def test_examples_are_cut_into_parts_that_miss_none(count: int, parts: int) -> None:
    cuts = interpret._cuts(count, parts)
    assert [index for start, stop in cuts for index in range(start, stop)] == list(range(count))
    assert len(cuts) <= parts
