"""The conditions of rules about the Edge TPU: each where it holds and where it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.edgetpu_conditions import CONDITIONS, LIMITED, Case
from tests.tiny_edgetpu import EightBit

Model = EightBit
Make = Callable[[], Model]


def start(*shape: int, dtype: str = "int8") -> Model:
    return Model().source(shape=shape or (1, 8, 8, 4), dtype=dtype)


def with_numbers(kind: str, *numbers: int, shape: tuple[int, ...], source: tuple[int, ...] = (1, 8, 8, 4)) -> Model:
    model = start(*source)
    return model.chain(kind, model.numbers(*numbers), shape=shape)


def dense(shape: tuple[int, ...], scales: int = 1, **options: Any) -> Model:
    model = start(1, 16)
    return model.chain("FULLY_CONNECTED", model.weights(4, 16, scales=scales), -1, shape=shape, **options)


def joined(*parts: str, axis: int = 3, **options: Any) -> Model:
    """Concatenate computed parts (`x`) and constants (`0`, `1`) of 8x8x4."""
    model = start()
    inputs = [
        model.last if part == "x" else model.constant(f"k{n}", np.full((1, 8, 8, 4), int(part), np.int8), scale=0.1)
        for n, part in enumerate(parts)
    ]
    shape = [1, 8, 8, 4]
    shape[axis] *= len(parts)
    model.add("CONCATENATION", inputs, shape, axis=axis, **options)
    return model


def split(axis: int) -> Model:
    model = start()
    model.add("SPLIT", [model.numbers(axis), model.last], (1, 8, 8, 2), numSplits=2)
    return model


def sliced(*strides: int, **options: Any) -> Model:
    model = start()
    ends = [model.numbers(0, 0, 0, 0), model.numbers(1, 8, 8, 4), model.numbers(*strides)]
    return model.chain("STRIDED_SLICE", *ends, **options)


def alpha(*shape: int) -> Model:
    model = start()
    return model.chain("PRELU", model.weights(*shape))


def computed_weights() -> Model:
    model = start()
    model.add("CONV_2D", [model.last, model.last, -1], (1, 8, 8, 4))
    return model


def four_bit() -> Model:
    model = start()
    weights = model.constant("w4", np.ones((4, 1, 1, 4), np.int8), "int4", scale=0.1)
    return model.chain("CONV_2D", weights, -1)


def unscaled() -> Model:
    model = start()
    model.tensors[model.last].quantization = None
    return model.chain("RELU")


def depthwise(y: int, x: int) -> Model:
    model = start()
    options: dict[str, Any] = {
        "dilationHFactor": y,
        "dilationWFactor": x,
        "strideH": 1,
        "strideW": 1,
        "depthMultiplier": 1,
    }
    return model.chain("DEPTHWISE_CONV_2D", model.weights(1, 3, 3, 4), -1, **options)


def packed(axis: int) -> Model:
    model = start(8, 8)
    model.add("PACK", [model.last, model.last], (2, 8, 8), axis=axis, valuesCount=2)
    return model


# condition → (number, models that meet it, models that do not)
CASES: dict[str, tuple[int | None, list[Make], list[Make]]] = {
    "eight_bit": (
        None,
        [lambda: start().chain("RELU"), lambda: start(dtype="uint8").chain("QUANTIZE")],
        [lambda: start(dtype="float32").chain("QUANTIZE"), lambda: start().chain("DEQUANTIZE", dtype="float32"),
         lambda: start(dtype="int16").chain("RELU"), unscaled, four_bit],
    ),
    "three_inner_dimensions": (
        None,
        [lambda: start(1, 1, 8, 8, 4).chain("RELU"), lambda: start(8, 8, 4).chain("RELU"), lambda: start(5).chain("RELU")],
        [lambda: start(2, 8, 8, 4).chain("RELU"), lambda: start(1, 2, 8, 8, 4).chain("RELU"),
         lambda: start(1, 8, 8, 4).chain("RESHAPE", shape=(2, 2, 8, 8))],
    ),
    "constant_parameters": (None, [lambda: start().conv()], [computed_weights]),
    "no_fused_activation": (
        None,
        [lambda: start().chain("MAX_POOL_2D")],
        [lambda: start().chain("MAX_POOL_2D", fusedActivationFunction=1), lambda: joined("x", "x", fusedActivationFunction=3)],
    ),
    "equal_dilation": (
        None,
        [lambda: start().conv(3), lambda: start().conv(3, dilationHFactor=2, dilationWFactor=2), lambda: depthwise(2, 2)],
        [lambda: start().conv(3, dilationHFactor=2), lambda: depthwise(1, 3)],
    ),
    "no_dilation": (None, [lambda: depthwise(1, 1)], [lambda: depthwise(2, 2), lambda: depthwise(1, 2)]),
    "default_weight_format": (None, [lambda: dense((1, 4))], [lambda: dense((1, 4), weightsFormat=1)]),
    "one_weight_scale": (None, [lambda: dense((1, 4))], [lambda: dense((1, 4), scales=4)]),
    "one_dimensional_input": (None, [lambda: start(1, 10).chain("SOFTMAX")], [lambda: start(1, 5, 10).chain("SOFTMAX")]),
    "one_dimensional_output": (None, [lambda: dense((1, 4))], [lambda: dense((3, 4))]),
    "one_dimensional_alpha": (None, [lambda: alpha(1, 1, 4), lambda: alpha(4)], [lambda: alpha(8, 8, 4), lambda: alpha(1, 8, 1)]),
    "constant_only_as_zero_padding": (
        None,
        [lambda: joined("x", "x", "x"), lambda: joined("x", "0"), lambda: joined("0", "x")],
        [lambda: joined("x", "1"), lambda: joined("x", "x", "0")],
    ),
    "axes_without_batch": (
        None,
        [lambda: with_numbers("MEAN", 1, 2, shape=(1, 4)), lambda: with_numbers("MEAN", -1, shape=(1, 8, 8))],
        [lambda: with_numbers("MEAN", 0, shape=(8, 8, 4)), lambda: with_numbers("MEAN", -4, 2, shape=(8, 4))],
    ),
    "axes_in_space": (
        None,
        [lambda: with_numbers("MEAN", 1, 2, shape=(1, 4)), lambda: with_numbers("MEAN", -2, shape=(1, 8, 4))],
        [lambda: with_numbers("MEAN", 3, shape=(1, 8, 8)), lambda: with_numbers("MEAN", 1, 3, shape=(1, 8))],
    ),
    "only_leading_ones_removed": (
        None,
        [lambda: start(1, 1, 5, 10).chain("SQUEEZE", shape=(5, 10)), lambda: start(1, 1, 10).chain("SQUEEZE", shape=(10,))],
        [lambda: start(1, 5, 1, 10).chain("SQUEEZE", shape=(5, 10))],
    ),
    "not_packed_into_batch": (None, [lambda: packed(1), lambda: packed(-1)], [lambda: packed(0), lambda: packed(-3)]),
    "batch_not_padded": (
        None,
        [lambda: with_numbers("PAD", 0, 0, 1, 1, 1, 1, 0, 0, shape=(1, 10, 10, 4))],
        [lambda: with_numbers("PAD", 0, 1, 0, 0, 0, 0, 0, 0, shape=(2, 8, 8, 4))],
    ),
    "padded_in_space": (
        None,
        [lambda: with_numbers("PAD", 0, 0, 1, 1, 1, 1, 0, 0, shape=(1, 10, 10, 4))],
        [lambda: with_numbers("PAD", 0, 0, 0, 0, 0, 0, 0, 4, shape=(1, 8, 8, 8))],
    ),
    "batch_not_split": (None, [lambda: split(3), lambda: split(-1)], [lambda: split(0), lambda: split(-4)]),
    "unit_strides": (None, [lambda: sliced(1, 1, 1, 1)], [lambda: sliced(1, 2, 2, 1), lambda: sliced(1, -1, 1, 1)]),
    "plain_slice_masks": (
        None,
        [lambda: sliced(1, 1, 1, 1, beginMask=3, shrinkAxisMask=1)],
        [lambda: sliced(1, 1, 1, 1, ellipsisMask=1), lambda: sliced(1, 1, 1, 1, newAxisMask=2)],
    ),
    "resized_from_more_than_one_pixel": (
        None,
        [lambda: with_numbers("RESIZE_BILINEAR", 16, 16, shape=(1, 16, 16, 4)),
         lambda: with_numbers("RESIZE_BILINEAR", 1, 1, shape=(1, 1, 1, 4), source=(1, 1, 1, 4))],
        [lambda: with_numbers("RESIZE_BILINEAR", 16, 16, shape=(1, 16, 16, 4), source=(1, 1, 1, 4))],
    ),
    "softmax_size_at_most": (
        100, [lambda: start(1, 100).chain("SOFTMAX"), lambda: start(1, 200, 4).chain("SOFTMAX")], [lambda: start(1, 101).chain("SOFTMAX")]
    ),
    "version_at_most": (2, [lambda: start().chain("RELU", version=2)], [lambda: start().chain("RELU", version=3)]),
    "output_elements_at_most": (256, [lambda: start().chain("RELU")], [lambda: start().chain("RELU", shape=(1, 8, 8, 5))]),
    "joined_elements_at_most": (
        256,
        [lambda: joined("x", "x", axis=3), lambda: joined("x", axis=1)],
        [lambda: joined("x", "x", axis=1), lambda: joined("x", "x", axis=-2)],
    ),
    "relaid_elements_at_most": (
        100,
        [lambda: start().chain("RESHAPE", shape=(8, 8, 1, 4)), lambda: start(1, 1, 1, 256).chain("RESHAPE", shape=(1, 256)),
         lambda: start(1, 5, 20).chain("RESHAPE", shape=(1, 100))],
        [lambda: start().chain("RESHAPE", shape=(1, 256)), lambda: start(1, 101, 2).chain("RESHAPE", shape=(1, 2, 101))],
    ),
    "reduced_depth_multiple_of": (
        4,
        [lambda: with_numbers("MEAN", 3, shape=(1, 8, 8)),
         lambda: with_numbers("MEAN", 1, 2, shape=(1, 3), source=(1, 8, 8, 3))],
        [lambda: with_numbers("MEAN", 3, shape=(1, 8, 8), source=(1, 8, 8, 3)),
         lambda: with_numbers("MEAN", -1, shape=(1, 8, 8), source=(1, 8, 8, 6))],
    ),
    "reduced_positions_at_most": (
        64,
        [lambda: with_numbers("MEAN", 1, 2, shape=(1, 4)),
         lambda: with_numbers("MEAN", 3, shape=(1, 8, 8), source=(1, 8, 8, 100))],
        [lambda: with_numbers("MEAN", 1, 2, shape=(1, 4), source=(1, 8, 9, 4))],
    ),
    "sizes_kept": (
        None,
        [lambda: with_numbers("RESIZE_BILINEAR", 8, 8, shape=(1, 8, 8, 4))],
        [lambda: with_numbers("RESIZE_BILINEAR", 11, 7, shape=(1, 11, 7, 4))],
    ),
    "resized_by_at_most": (
        4,
        [lambda: with_numbers("RESIZE_BILINEAR", 32, 32, shape=(1, 32, 32, 4)),
         lambda: with_numbers("RESIZE_BILINEAR", 2, 2, shape=(1, 2, 2, 4))],
        [lambda: with_numbers("RESIZE_BILINEAR", 8, 33, shape=(1, 8, 33, 4))],
    ),
}  # fmt: skip
GOOD = [(name, n) for name in sorted(CASES) for n in range(len(CASES[name][1]))]
BAD = [(name, n) for name in sorted(CASES) for n in range(len(CASES[name][2]))]


def said(name: str, make: Make, folder: Path) -> str | None:
    main = make().read(folder).main
    case, limit = Case(main.operators[-1], main), CASES[name][0]
    return CONDITIONS[name](case) if limit is None else LIMITED[name](case, limit)


def test_every_condition_is_tried_both_ways() -> None:
    assert set(CASES) == {*CONDITIONS, *LIMITED}
    assert all(good and bad for _, good, bad in CASES.values())
    assert all((name in LIMITED) == (limit is not None) for name, (limit, _, _) in CASES.items())


@pytest.mark.parametrize(("name", "n"), GOOD)
def test_it_holds(name: str, n: int, tmp_path: Path) -> None:
    assert said(name, CASES[name][1][n], tmp_path) is None


@pytest.mark.parametrize(("name", "n"), BAD)
def test_it_does_not_hold_and_says_why(name: str, n: int, tmp_path: Path) -> None:
    reason = said(name, CASES[name][2][n], tmp_path)
    assert reason
    assert reason[0].islower() and not reason.endswith(".")  # it follows the operation's name


@pytest.mark.parametrize("kind", ["MEAN", "PAD", "SPLIT", "STRIDED_SLICE", "PRELU", "CONCATENATION", "SQUEEZE", "PACK"])
def test_what_the_graph_does_not_tell_fails_nothing(kind: str, tmp_path: Path) -> None:
    """An operation with computed axes, or with no inputs but one, is no reason to stumble."""
    model = start()
    model.add(kind, [model.last, model.last, model.last, model.last], (1, 8, 8, 4))
    model.add(kind, [model.last], (1, 8, 8, 4))
    main = model.read(tmp_path).main
    for operator in main.operators:
        for name in CONDITIONS:
            CONDITIONS[name](Case(operator, main))
        for name in LIMITED:
            LIMITED[name](Case(operator, main), 10**9)
