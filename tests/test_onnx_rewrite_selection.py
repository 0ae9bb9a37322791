"""Slices backwards, uneven splits, triangles, sums of one, spectra: against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeship.errors import BadInput
from edgeship.onnx_rewrite import rewritten
from tests import onnx_graphs


@settings(max_examples=40, deadline=None)
@given(
    start=st.integers(-9, 9),
    end=st.sampled_from([-(2**62), -9, -7, -3, -1, 0, 2, 5, 9]),
    step=st.sampled_from([-3, -2, -1, 1, 2]),
    axis=st.sampled_from([0, 1, -1]),
)
def test_any_slice(start: int, end: int, step: int, axis: int) -> None:
    """Forwards and backwards, within and beyond the ends."""
    constants = {name: np.array([number]) for name, number in {"s": start, "e": end, "a": axis, "t": step}.items()}
    node = helper.make_node("Slice", ["X", *constants], ["Y"])
    onnx_graphs.same(onnx_graphs.graph([node], {"X": (4, 7)}, ["Y"], constants))


@pytest.mark.parametrize(("length", "count"), [(7, 3), (8, 3), (6, 3)])
def test_uneven_splits(length: int, count: int) -> None:
    """The last part is shorter."""
    names = [f"Y{number}" for number in range(count)]
    node = helper.make_node("Split", ["X"], names, axis=1, num_outputs=count)
    onnx_graphs.same(onnx_graphs.graph([node], {"X": (2, length)}, names, opset=18))


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("offset", [None, -1, 2])
def test_triangles(upper: int, offset: int | None) -> None:
    """Of matrices in a batch."""
    constants = {} if offset is None else {"k": np.array(offset)}
    node = helper.make_node("Trilu", ["X", *constants], ["Y"], upper=upper)
    onnx_graphs.same(onnx_graphs.graph([node], {"X": (2, 4, 5)}, ["Y"], constants), "Trilu")


@pytest.mark.parametrize("kind", ["Max", "Mean", "Min", "Sum"])
def test_of_one_value(kind: str) -> None:
    """The value itself."""
    onnx_graphs.same(onnx_graphs.graph([helper.make_node(kind, ["X"], ["Y"])], {"X": (3,)}, ["Y"]), kind)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("axes", [None, [1], [0, -1]], ids=str)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_logarithms_of_sums_of_exponentials(opset: int, axes: list[int] | None, keepdims: int) -> None:
    """Over some axes or all."""
    constants = {"axes": np.array(axes)} if axes and opset >= 18 else {}
    more: dict[str, Any] = {"axes": axes} if axes and opset < 18 else {}
    node = helper.make_node("ReduceLogSumExp", ["X", *constants], ["Y"], keepdims=keepdims, **more)
    model = onnx_graphs.graph([node], {"X": (2, 3, 4)}, ["Y"], constants, opset=opset)
    onnx_graphs.same(model, "ReduceLogSumExp")


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("window", [True, False], ids=["window", "plain"])
def test_spectra(onesided: int, window: bool) -> None:
    """Frames of 16 every 6 samples."""
    constants = {"step": np.array(6), "size": np.array(16)}
    if window:
        constants["window"] = np.hanning(16).astype(np.float32)
    names = ["X", "step", "window" if window else "", "size"]
    node = helper.make_node("STFT", names, ["Y"], onesided=onesided)
    onnx_graphs.same(onnx_graphs.graph([node], {"X": (2, 50, 1)}, ["Y"], constants), "STFT")


def test_a_complex_signal_is_refused() -> None:
    """The refusal names operation and layer."""
    node = helper.make_node("STFT", ["X", "step", "", "size"], ["Y"], name="layer", onesided=0)
    constants = {"step": np.array(6), "size": np.array(16)}
    with pytest.raises(BadInput, match="operation STFT, layer 'layer': a complex signal"):
        rewritten(onnx_graphs.graph([node], {"X": (1, 50, 2)}, ["Y"], constants))
