"""Complexity from the graph: counts worked out by hand, on files built tensor by tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeship import complexity, flatbuffer, target
from edgeship.errors import BadInput
from edgeship.flatbuffer import Graph
from tests.tiny_tflite import TinyModel, separable


def one(kind: str, tmp_path: Path, *shapes: tuple[int, ...], output: tuple[int, ...], **options: object) -> Graph:
    """Return a model of one operation whose first shape is its input, the others its constants."""
    model = TinyModel()
    inputs = [model.input("x", shapes[0])]
    inputs += [model.constant(f"c{i}", np.ones(shape, np.float32)) for i, shape in enumerate(shapes[1:])]
    model.outputs.append(model.operator(kind, inputs, model.tensor("y", output), **options))
    return model.graph(tmp_path)


@pytest.mark.parametrize(
    ("kind", "shapes", "output", "options", "macs"),
    [
        ("CONV_2D", [(1, 8, 8, 3), (16, 3, 3, 3)], (1, 4, 4, 16), {"strideH": 2, "strideW": 2}, 4 * 4 * 16 * 27),
        ("CONV_2D", [(1, 8, 8, 4), (16, 3, 3, 2)], (1, 8, 8, 16), {}, 64 * 16 * 18),  # two groups
        ("DEPTHWISE_CONV_2D", [(1, 8, 8, 4), (1, 5, 5, 8)], (1, 8, 8, 8), {"depthMultiplier": 2}, 64 * 8 * 25),
        ("FULLY_CONNECTED", [(3, 20), (7, 20)], (3, 7), {}, 3 * 7 * 20),
        ("CONV_3D", [(1, 4, 4, 4, 2), (3, 3, 3, 2, 5)], (1, 4, 4, 4, 5), {}, 64 * 5 * 54),
        ("BATCH_MATMUL", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), {}, 2 * 3 * 5 * 4),
        ("BATCH_MATMUL", [(2, 4, 3), (2, 4, 5)], (2, 3, 5), {"adjX": True}, 2 * 3 * 5 * 4),
        ("ADD", [(1, 8, 8, 4), (4,)], (1, 8, 8, 4), {}, 0),
        ("CONV_2D", [(1, 8, 8, 3)], (1, 8, 8, 3), {}, 0),  # a damaged one: no weights
    ],
)
def test_macs_by_hand(
    tmp_path: Path,
    kind: str,
    shapes: list[tuple[int, ...]],
    output: tuple[int, ...],
    options: dict[str, object],
    macs: int,
) -> None:
    assert complexity.complexity(one(kind, tmp_path, *shapes, output=output, **options)).macs == macs


def test_macs_of_a_transposed_convolution(tmp_path: Path) -> None:
    model = TinyModel()
    size = model.constant("size", np.array([1, 8, 8, 5], np.int32))
    weight = model.constant("w", np.ones((5, 3, 3, 4), np.float32))
    image = model.input("x", (1, 4, 4, 4))
    model.outputs.append(model.operator("TRANSPOSE_CONV", [size, weight, image], model.tensor("y", (1, 8, 8, 5))))

    assert complexity.complexity(model.graph(tmp_path)).macs == 4 * 4 * 4 * 5 * 9


def test_macs_of_an_lstm_leave_its_states_out(tmp_path: Path) -> None:
    model = TinyModel()
    steps, width, cells = 6, 5, 3
    x = model.input("x", (1, steps, width))
    kernels = [model.constant(f"w{i}", np.ones((cells, width), np.float32)) for i in range(4)]
    recurrent = [model.constant(f"r{i}", np.ones((cells, cells), np.float32)) for i in range(4)]
    states = [model.tensor(f"s{i}", (1, cells)) for i in range(2)]
    for index in states:
        model.tensors[index].isVariable = True
    inputs = [x, *kernels, *recurrent, *[-1] * 9, *states]
    model.outputs.append(
        model.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, model.tensor("y", (1, steps, cells)), timeMajor=False)
    )

    assert complexity.complexity(model.graph(tmp_path)).macs == steps * 4 * (cells * width + cells * cells)


def test_parameters_are_what_was_learned(tmp_path: Path) -> None:
    found = complexity.complexity(separable().graph(tmp_path))

    learned = (8 * 27 + 8) + (72 + 8) + (256 + 32) + (512 + 16) + 160
    assert found.parameters == learned, "weights and biases, not the axes of the mean"
    assert found.weight_bytes == 4 * learned


def test_bytes_moved_and_peak_by_hand(tmp_path: Path) -> None:
    model = TinyModel()
    x = model.input("x", (1, 10))
    a = model.operator("RELU", [x], model.tensor("a", (1, 10)))
    b = model.operator("RELU", [a], model.tensor("b", (1, 10)))
    model.outputs.append(model.operator("ADD", [a, b], model.tensor("y", (1, 10))))
    found = complexity.complexity(model.graph(tmp_path))

    assert found.bytes_moved == 4 * 10 * (3 + 4), "three written, x once, a twice, b once read"
    assert found.peak_activation_bytes == 4 * 10 * 3, "a, b and y at the end"
    assert [cost.activation_bytes for cost in found.operators] == [80, 80, 120]


def test_unpacked_constants_are_weights_not_activations(tmp_path: Path) -> None:
    model = TinyModel()
    x = model.input("x", (1, 20))
    stored = model.constant("half", np.zeros((7, 20), np.float16))
    unpacked = model.operator("DEQUANTIZE", [stored], model.tensor("full", (7, 20)))
    model.outputs.append(model.operator("FULLY_CONNECTED", [x, unpacked, -1], model.tensor("y", (1, 7))))
    found = complexity.complexity(model.graph(tmp_path))

    assert (found.macs, found.weight_bytes, found.sparsity) == (140, 280, 1.0)
    assert found.peak_activation_bytes == 4 * 27
    assert [cost.weight_bytes for cost in found.operators] == [0, 280]
    assert not complexity.computes_in_int8(model.graph(tmp_path))


@pytest.mark.parametrize(
    ("dtype", "stored", "options", "share"),
    [
        ("float32", [[0, 1], [0, 2]], {}, 0.5),
        ("int8", [[0, 1], [0, 2]], {"scale": [0.5, 0.1]}, 0.5),
        ("uint8", [[128, 0], [0, 2]], {"scale": 0.5, "zero_point": 128}, 0.25),
        ("int8", [[3, 0], [0, 4]], {"scale": [0.5, 0.1], "zero_point": [3, 4]}, 0.5),
        ("int4", [[0, -1], [0, 0]], {"scale": 0.5}, 0.75),
    ],
)
def test_sparsity_counts_stored_zeros(
    tmp_path: Path, dtype: str, stored: list[list[int]], options: dict[str, object], share: float
) -> None:
    model = TinyModel()
    numbers = np.array(stored).astype("int8" if dtype == "int4" else dtype)
    weight = model.constant("w", numbers, dtype=dtype, **options)
    inputs = [model.input("x", (1, 2)), weight, -1]
    model.outputs.append(model.operator("FULLY_CONNECTED", inputs, model.tensor("y", (1, 2))))
    graph = model.graph(tmp_path)

    assert complexity.complexity(graph).sparsity == share
    assert complexity.computes_in_int8(graph) == (dtype != "float32")


def test_roofline_names_its_roof(tmp_path: Path) -> None:
    board = target.read("rpi4")
    assert board.peak is not None and board.peak.int8_gops and board.peak.memory_gb_per_s
    found = complexity.complexity(one("FULLY_CONNECTED", tmp_path, (1, 1000), (1000, 1000), output=(1, 1000)))
    bound = complexity.roofline(found, board, integer=True)

    assert bound is not None and bound.bound_by == "memory"
    assert bound.memory_ms == pytest.approx(found.bytes_moved / (board.peak.memory_gb_per_s * 1e9) * 1e3)
    assert bound.compute_ms == pytest.approx(2 * 1e6 / (board.peak.int8_gops * 1e9) * 1e3)
    assert bound.best_latency_ms == bound.memory_ms
    assert bound.ridge == pytest.approx(board.peak.int8_gops / board.peak.memory_gb_per_s)


@pytest.mark.parametrize(("name", "integer"), [("linux-x86_64", False), ("coral-usb", True), ("rpi3", True)])
def test_no_roofline_without_published_peaks(tmp_path: Path, name: str, integer: bool) -> None:
    found = complexity.complexity(separable().graph(tmp_path))

    assert complexity.roofline(found, target.read(name), integer=integer) is None
    assert complexity.bound_shares(found, target.read(name), integer=integer) is None


def test_bound_shares_sum_to_one(tmp_path: Path) -> None:
    found = complexity.complexity(separable().graph(tmp_path))
    shares = complexity.bound_shares(found, target.read("rpi4"), integer=False)

    assert shares is not None and len(shares) == len(found.operators)
    assert sum(shares) == pytest.approx(1)


def test_histograms_match_by_name_and_tell_of_zeros(tmp_path: Path) -> None:
    before, after = separable().graph(tmp_path), separable(zeros=0.5).graph(tmp_path)
    found = {histogram.name: histogram for histogram in complexity.histograms(before, after)}

    assert list(found) == [f"{name}/weight" for name in ("stem", "depthwise", "expand", "project", "dense")]
    expand = found["expand/weight"]
    assert (expand.operator, expand.sparsity) == ("CONV_2D", 0.5)
    assert sum(expand.before) == sum(expand.after) == 256
    assert len(expand.before) == complexity.BINS and expand.low == -expand.high
    assert expand.after[complexity.BINS // 2] >= 128
    assert found["stem/weight"].before == found["stem/weight"].after
    assert expand.distinct_values == 129


def test_histograms_match_by_order_where_names_and_layouts_changed(tmp_path: Path) -> None:
    def model(name: str, *, transposed: bool) -> Graph:
        kernel = np.arange(72, dtype=np.float32).reshape(2, 3, 3, 4)
        made = TinyModel()
        x = made.input("x", (1, 4, 4, 4))
        y = made.conv(x, f"{name}1", kernel.transpose(0, 2, 1, 3) if transposed else kernel, (4, 4))
        made.outputs.append(made.conv(y, f"{name}2", np.ones((3, 1, 1, 2)), (4, 4)))
        return made.graph(tmp_path)

    found = complexity.histograms(model("a", transposed=False), model("other", transposed=True))

    assert [histogram.name for histogram in found] == ["a1/weight", "a2/weight"]
    assert all(histogram.before == histogram.after for histogram in found)


def test_histograms_of_quantized_weights_count_values_a_channel(tmp_path: Path) -> None:
    def model(numbers: np.ndarray[tuple[int, ...], np.dtype[np.generic]], dtype: str, **options: object) -> Graph:
        made = TinyModel()
        x = made.input("x", (1, 4))
        weight = made.constant("w", numbers, dtype=dtype, **options)
        made.outputs.append(made.operator("FULLY_CONNECTED", [x, weight, -1], made.tensor("y", (1, 2))))
        return made.graph(tmp_path)

    whole = np.array([[1, 1, 0, 2], [7, 7, 7, 7]], np.int8)
    before = model(whole * np.float32(0.5), "float32")
    for dtype in ("int8", "int4"):
        (found,) = complexity.histograms(before, model(whole, dtype, scale=[0.5, 0.5]))
        assert (found.distinct_values, found.sparsity) == (3, 0.125)
        assert found.before == found.after


def test_histograms_keep_the_largest(tmp_path: Path) -> None:
    graph = separable().graph(tmp_path)

    assert [histogram.name for histogram in complexity.histograms(graph, graph, limit=2)] == [
        "expand/weight",
        "project/weight",
    ]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=4))
def test_damaged_files_are_refused_or_counted(tmp_path: Path, flips: list[tuple[float, int]]) -> None:
    content = bytearray(separable().content())
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    path = tmp_path / "damaged.tflite"
    path.write_bytes(content)
    try:
        graph = flatbuffer.read(path)
    except BadInput:
        return

    found = complexity.complexity(graph)
    complexity.histograms(graph, graph)
    assert found.parameters >= 0 and 0 <= found.sparsity <= 1
