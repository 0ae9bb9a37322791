"""Resize and Upsample in other words, against onnxruntime's own, over modes, coordinates and lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeship.errors import BadInput
from edgeship.onnx_rewrite import rewritten
from edgeship.onnx_rewrite.sampling import COORDINATES, Axis, Way, matrix, nearest
from tests import onnx_graphs

NEAREST = ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]


def resize(
    shape: tuple[int, ...],
    *,
    sizes: list[int] | None = None,
    scales: list[float] | None = None,
    region: list[float] | None = None,
    opset: int = 18,
    kind: int = TensorProto.FLOAT,
    **attributes: Any,
) -> onnx.ModelProto:
    """Return a model of one Resize."""
    constants = {"roi": np.array(region or [], np.float32), "scales": np.array(scales or [], np.float32)}
    names = ["X", "roi", "scales"]
    if sizes is not None:
        constants["sizes"] = np.array(sizes, np.int64)
        names.append("sizes")
    node = helper.make_node("Resize", names, ["Y"], name="layer", **attributes)
    return onnx_graphs.graph([node], {"X": shape}, ["Y"], constants, opset=opset, kinds={"X": kind})


def runs(model: onnx.ModelProto) -> bool:
    """Say whether onnxruntime itself takes a combination."""
    try:
        onnx_graphs.run(model, onnx_graphs.feeds(model))
    except Exception as fault:  # noqa: BLE001  its errors have no common parent
        assert "Resize" in str(fault) or "resize" in str(fault) or "scale" in str(fault).lower()
        return False
    return True


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_resize(data: st.DataObject) -> None:
    """Whatever a resize says, its replacement means the same."""
    mode = data.draw(st.sampled_from(["nearest", "linear", "cubic"]))
    coordinates = data.draw(st.sampled_from([name for name in COORDINATES if name != "tf_half_pixel_for_nn"]))
    more: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    shape: tuple[int, ...] = (1, 2, data.draw(st.integers(2, 7)), data.draw(st.integers(2, 7)))
    if mode == "nearest":
        more["nearest_mode"] = data.draw(st.sampled_from(NEAREST))
        shape = shape[: data.draw(st.integers(3, 4))]
    if mode == "cubic":
        more["exclude_outside"] = data.draw(st.integers(0, 1))
        more["cubic_coeff_a"] = data.draw(st.sampled_from([-0.75, -0.5]))
    if mode != "nearest" and coordinates == "half_pixel" and data.draw(st.booleans()):
        more["antialias"] = 1
    outer = len(shape) - len(shape[2:])
    if data.draw(st.booleans()):
        more["sizes"] = [*shape[:2], *(data.draw(st.integers(1, 13)) for _length in shape[2:])]
    else:
        more["scales"] = [1.0, 1.0, *(data.draw(st.sampled_from([0.5, 0.6, 1.0, 1.5, 2.0, 2.7])) for _n in shape[2:])]
        assume(all(int(length * scale) >= 1 for length, scale in zip(shape, more["scales"], strict=True)))
    if coordinates == "tf_crop_and_resize":
        starts = [0.0] * outer + [data.draw(st.sampled_from([-0.2, 0.0, 0.3])) for _n in shape[2:]]
        ends = [1.0] * outer + [data.draw(st.sampled_from([0.7, 1.0, 1.2])) for _n in shape[2:]]
        more.update(region=starts + ends, extrapolation_value=data.draw(st.sampled_from([0.0, 7.0])))
    opset = 19 if coordinates == "half_pixel_symmetric" else data.draw(st.sampled_from([18, 19]))
    if opset < 19 and "antialias" not in more:
        opset = data.draw(st.sampled_from([11, 13, opset]))
    model = resize(shape, opset=opset, **more)
    assume(runs(model))
    onnx_graphs.same(model)


@pytest.mark.parametrize("rounding", NEAREST)
@pytest.mark.parametrize("coordinates", ["asymmetric", "half_pixel", "half_pixel_symmetric", "align_corners"])
def test_nearest_of_any_length(coordinates: str, rounding: str) -> None:
    """At ties the last bit decides, and lengths such as 6 to 2 or 7 to 38 meet them."""
    for before in (3, 5, 6, 7, 9, 10, 11, 13, 14, 26, 30):
        for after in (*range(1, 16), 19, 26, 28, 38):
            model = resize(
                (1, 1, before), sizes=[1, 1, after], opset=19, mode="nearest",
                coordinate_transformation_mode=coordinates, nearest_mode=rounding,
            )  # fmt: skip
            (copied,) = onnx_graphs.run(model, {"X": np.arange(before, dtype=np.float32).reshape(1, 1, before)})
            told = nearest(Axis(before, after, after / before), Way("nearest", coordinates, rounding))
            assert copied.ravel().tolist() == told.tolist(), (before, after)


@pytest.mark.parametrize(
    ("shape", "sizes", "attributes"),
    [
        ((1, 3, 4, 5), [1, 3, 8, 10], {"mode": "nearest", "coordinate_transformation_mode": "half_pixel"}),
        ((1, 3, 4, 5), [1, 3, 8, 10], {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
        ((1, 3, 4, 5), [1, 3, 7, 9], {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ],
    ids=["nearest", "linear", "corners"],
)
def test_what_tflite_resizes_itself_stays_a_resize(
    shape: tuple[int, ...], sizes: list[int], attributes: dict[str, Any]
) -> None:
    """Chips resize images; so those that TFLite does in the same way stay one operation."""
    assert onnx_graphs.operations(onnx_graphs.same(resize(shape, sizes=sizes, **attributes))) == {"Resize"}


def test_a_resize_to_the_same_size_is_none() -> None:
    """All scales one."""
    model = resize((1, 2, 3, 4), scales=[1.0] * 4, mode="linear")
    assert onnx_graphs.operations(onnx_graphs.same(model, "Resize")) <= {"Identity"}


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_kept_aspect_ratio(policy: str) -> None:
    """One scale for all axes that are resized."""
    onnx_graphs.same(
        resize((1, 2, 6, 4), sizes=[9, 11], axes=[2, 3], keep_aspect_ratio_policy=policy, mode="linear", opset=19)
    )


def test_whole_numbers_are_copied() -> None:
    """Nearest neighbours of integers are gathers."""
    model = resize((1, 2, 5), sizes=[1, 2, 7], mode="nearest", kind=TensorProto.INT32)
    assert onnx_graphs.operations(onnx_graphs.same(model, "Resize")) <= {"Gather", "Identity"}


def test_upsample_of_opset_9() -> None:
    """The older name, with scales as an input."""
    node = helper.make_node("Upsample", ["X", "scales"], ["Y"], mode="nearest")
    scales = {"scales": np.array([1, 1, 2, 3], np.float32)}
    onnx_graphs.same(onnx_graphs.graph([node], {"X": (1, 2, 3, 4)}, ["Y"], scales, opset=9))


def test_sizes_known_only_at_run_time_are_refused() -> None:
    """The refusal names operation and layer."""
    node = helper.make_node("Resize", ["X", "", "", "sizes"], ["Y"], name="layer", mode="nearest")
    model = onnx_graphs.graph([node], {"X": (1, 2, 3, 4), "sizes": (4,)}, ["Y"], kinds={"sizes": TensorProto.INT64})
    with pytest.raises(BadInput, match=r"operation Resize, layer 'layer': its sizes .* computed anew"):
        rewritten(model)


@given(
    before=st.integers(1, 9),
    after=st.integers(1, 17),
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    coordinates=st.sampled_from(COORDINATES),
    antialias=st.booleans(),
)
def test_rows_sum_to_one(before: int, after: int, mode: str, coordinates: str, antialias: bool) -> None:
    """A constant image stays constant."""
    way = Way(mode, coordinates, antialias=antialias)
    rows = matrix(Axis(before, after, after / before), way).sum(axis=1)
    assert np.allclose(rows, 1)
