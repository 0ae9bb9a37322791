"""The forecast: what is left to the CPU, what waits behind it, and what to change."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from edgeship import forecast, target
from edgeship.errors import BadInput
from edgeship.flatbuffer import Graph, Operator, Quantization, Subgraph, Tensor
from edgeship.forecast import parts
from edgeship.run_edgetpu import Forecast
from edgeship.target import Accelerator
from tests.tiny_edgetpu import EightBit
from tests.tiny_tflite import separable

CHIP = Accelerator(
    kind="edgetpu", attachment="usb", int8_tops=4.0, on_chip_mib=1 / 1024, source="made for a test"
)  # fmt: skip


def foretold(model: EightBit, folder: Path, **options: object) -> Forecast:
    return forecast.forecast(model.read(folder), **options)  # type: ignore[arg-type]


def where(found: Forecast) -> str:
    """Return a letter an operation: T on the Edge TPU, c on the CPU by itself, b on the CPU behind another."""
    return "".join("T" if one.on == "edgetpu" else "b" if one.behind is not None else "c" for one in found.operators)


def test_all_maps(tmp_path: Path) -> None:
    found = foretold(EightBit().source().conv(3).chain("RELU").chain("MAX_POOL_2D"), tmp_path)
    assert where(found) == "TTT"
    assert (found.edgetpu_share, found.mac_share, found.subgraphs, found.possible_subgraphs) == (1.0, 1.0, 1, 1)
    assert found.cpu_operators == {} and found.suggestions == () and found.refused is None
    assert {one.confidence for one in found.operators} == {"certain"}


def test_all_after_the_first_that_does_not_map_stays_on_the_cpu(tmp_path: Path) -> None:
    found = foretold(EightBit().source().conv().chain("LEAKY_RELU").conv().chain("RELU"), tmp_path)
    assert where(found) == "Tcbb"
    assert found.cpu_operators == {"LEAKY_RELU": 1, "CONV_2D": 1, "RELU": 1}
    assert [one.behind for one in found.operators] == [None, None, 1, 1]
    assert found.subgraphs == 1 and found.possible_subgraphs == 2


def test_with_several_subgraphs_it_goes_on(tmp_path: Path) -> None:
    model = EightBit().source().conv().chain("LEAKY_RELU").conv().chain("LEAKY_RELU").conv()
    found = foretold(model, tmp_path, several_subgraphs=True)
    assert where(found) == "TcTcT"
    assert found.subgraphs == 3
    assert not any("option -a" in text for text in found.suggestions)


def test_what_stands_before_the_first_part_closes_nothing(tmp_path: Path) -> None:
    """Seen in many logs: a float input's QUANTIZE stays on the CPU and all behind it maps."""
    model = EightBit().source(dtype="float32")
    found = foretold(model.chain("QUANTIZE", dtype="int8").conv().chain("DEQUANTIZE", dtype="float32"), tmp_path)
    assert where(found) == "cTc"
    assert found.subgraphs == 1
    assert "Use int8 in and out (recipe int8)" in found.suggestions[0]
    assert len(found.suggestions) == 1


def branches(*, first: str) -> EightBit:
    """Return two branches from one input, joined; one holds an operation that does not map, and stands first or second."""
    model = EightBit().source()
    source, ends = model.last, []
    for name in ("bad", "good") if first == "bad" else ("good", "bad"):
        model.last = source
        model.conv()
        if name == "bad":
            model.chain("LEAKY_RELU")
        model.conv()
        ends.append(model.last)
    model.add("ADD", ends, (1, 8, 8, 4))
    return model


def test_only_its_own_path_stays_behind(tmp_path: Path) -> None:
    """The other branch goes on, in whichever order they stand: as in a two-headed tiny YOLO, whose log is public."""
    assert where(foretold(branches(first="bad"), tmp_path)) == "TcbTTb"
    assert where(foretold(branches(first="good"), tmp_path)) == "TTTcbb"


def test_what_the_compiler_does_not_come_to_is_only_likely(tmp_path: Path) -> None:
    """A second input whose first operation does not map: nothing of the Edge TPU's stands before it, but its part comes later."""
    model = EightBit().source("a").conv()
    a = model.last
    model.source("b").chain("LEAKY_RELU").conv()
    model.add("ADD", [a, model.last], (1, 8, 8, 4))
    found = foretold(model, tmp_path)
    assert where(found) == "Tccc"
    assert [one.rule for one in found.operators] == ["", "refused", "other_part", "other_part"]
    assert {one.confidence for one in found.operators[2:]} == {"likely"}


def test_nothing_maps(tmp_path: Path) -> None:
    found = foretold(EightBit().source(shape=(4, 8, 8, 4)).conv().chain("RELU"), tmp_path)
    assert where(found) == "cc"
    assert (found.edgetpu_share, found.subgraphs, found.parameter_bytes) == (0.0, 0, 0)
    assert found.operators[0].rule == "three_inner_dimensions"
    assert "batch to 1" in found.suggestions[0]


def test_confidence_is_that_of_the_weakest_evidence(tmp_path: Path) -> None:
    model = EightBit().source(shape=(1, 1, 1, 4))
    model.chain("TILE", model.numbers(1, 8, 8, 1), shape=(1, 8, 8, 4)).chain("RELU")
    found = foretold(model, tmp_path)
    assert [one.confidence for one in found.operators] == ["likely", "certain"]
    assert "google-coral/test_data" in found.operators[0].source


def test_what_waits_is_no_surer_than_what_it_waits_for(tmp_path: Path) -> None:
    model = EightBit().source(shape=(1, 1, 1, 4)).conv()
    model.chain("RESIZE_BILINEAR", model.numbers(8, 8), shape=(1, 8, 8, 4)).conv()
    found = foretold(model, tmp_path)
    assert where(found) == "Tcb"
    assert [one.confidence for one in found.operators] == ["certain", "likely", "likely"]


def resized(size: int, depth: int) -> EightBit:
    model = EightBit().source(shape=(1, size // 2, size // 2, depth))
    return model.chain("RESIZE_NEAREST_NEIGHBOR", model.numbers(size, size), shape=(1, size, size, depth))


@pytest.mark.parametrize(
    ("size", "depth", "on", "sure"),
    [(128, 32, "edgetpu", "likely"), (256, 32, "edgetpu", "unknown"), (512, 32, "cpu", "likely")],
)
def test_sizes_go_from_seen_mapped_over_unknown_to_seen_refused(
    size: int, depth: int, on: str, sure: str, tmp_path: Path
) -> None:
    (only,) = foretold(resized(size, depth), tmp_path).operators
    assert (only.on, only.confidence) == (on, sure)


def test_sizes_without_a_documented_condition_are_likely_and_it_says_why(tmp_path: Path) -> None:
    (only,) = foretold(resized(128, 32), tmp_path).operators
    assert only.reason == "resizes 64x64 to 128x128, and which sizes are refused is not documented"


def test_a_squeeze_in_the_middle_is_likely(tmp_path: Path) -> None:
    model = EightBit().source(shape=(1, 5, 1, 10)).chain("SQUEEZE", shape=(1, 5, 10))
    assert [(one.on, one.confidence) for one in foretold(model, tmp_path).operators] == [("edgetpu", "likely")]


def test_what_is_not_listed_comes_with_a_next_move(tmp_path: Path) -> None:
    (text,) = foretold(EightBit().source().chain("SQRT"), tmp_path).suggestions
    assert text.startswith("Write SQRT with operations that the Edge TPU has")


def test_a_doubt_is_among_the_suggestions(tmp_path: Path) -> None:
    (text,) = foretold(resized(256, 32), tmp_path).suggestions
    assert text.startswith("Not sure to map: RESIZE_NEAREST_NEIGHBOR, operation 0, makes 1x256x256x32")


def test_a_scale_a_channel_in_a_dense_layer_is_a_doubt_with_a_cure(tmp_path: Path) -> None:
    """Measured: runtimes of the compiler's age load it and compute a constant."""
    model = EightBit().source(shape=(1, 16))
    model.chain("FULLY_CONNECTED", model.weights(4, 16, scales=4), -1, shape=(1, 4))
    found = foretold(model, tmp_path)
    assert (found.operators[0].on, found.operators[0].confidence) == ("edgetpu", "unknown")
    assert "Quantize the weights of FULLY_CONNECTED with one scale" in found.suggestions[0]


def test_the_change_that_frees_most_comes_first(tmp_path: Path) -> None:
    model = EightBit().source().conv().chain("HARD_SWISH").conv().conv().conv().chain("GATHER")
    found = foretold(model, tmp_path)
    assert found.suggestions[0].startswith("Replace HARD_SWISH by RELU6")
    assert "operation 1, and 3 more behind it" in found.suggestions[0]
    assert found.suggestions[1].startswith("Use SLICE, SPLIT")
    assert any(text.startswith("Or split the head off: cut at 't") for text in found.suggestions)
    assert any("option -a would put 1 more part" in text for text in found.suggestions)


def test_a_detectors_post_processing_stays_and_the_file_is_read(tmp_path: Path) -> None:
    model = EightBit().source().conv()
    model.custom("TFLite_Detection_PostProcess", [model.last], (1, 10, 4), "float32")
    found = foretold(model, tmp_path)
    assert found.cpu_operators == {"TFLite_Detection_PostProcess": 1}
    assert found.subgraphs == 1 and found.refused is None


REFUSED = [
    (lambda model: model.conv().chain("RELU", version=4), "RELU up to version 3, and this is version 4"),
    (lambda model: model.conv().chain("GELU"), "older than GELU"),
]


@pytest.mark.parametrize(("make", "said"), REFUSED, ids=["version", "operation"])
def test_what_the_compiler_is_too_old_for_ends_all(make: object, said: str, tmp_path: Path) -> None:
    found = foretold(make(EightBit().source()), tmp_path)  # type: ignore[operator]
    assert found.refused is not None and said in found.refused
    assert set(where(found)) == {"c"} and found.subgraphs == 0
    assert len(found.suggestions) == 1 and "int8" in found.suggestions[0]


def test_a_custom_operation_that_the_compiler_does_not_know_ends_all(tmp_path: Path) -> None:
    model = EightBit().source().conv()
    model.custom("FlexSplitV", [model.last], (1, 8, 8, 4))
    found = foretold(model, tmp_path)
    assert found.refused is not None and "FlexSplitV" in found.refused
    assert found.edgetpu_share == 0.0


def test_a_shape_that_is_computed_ends_all(tmp_path: Path) -> None:
    model = EightBit().source().conv()
    image = model.last
    shape = model.add("SHAPE", [image], (2,), "int32")
    model.add("RESHAPE", [image, shape], (1, 256))
    found = foretold(model, tmp_path)
    assert found.refused is not None and "takes its shape from" in found.refused
    assert "fix the batch" in found.suggestions[0].lower()


@pytest.mark.parametrize(("runtime", "letters"), [(14, "TT"), (13, "Tc"), (12, "Tc"), (10, "Tc")])
def test_the_runtime_counts(runtime: int, letters: str, tmp_path: Path) -> None:
    model = EightBit().source().conv().chain("TRANSPOSE", shape=(1, 8, 8, 4))
    assert where(foretold(model, tmp_path, runtime=runtime)) == letters


def test_a_runtime_that_nothing_is_known_of(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="runtime 9"):
        foretold(EightBit().source().conv(), tmp_path, runtime=9)


def test_parameters_are_those_of_the_edge_tpus_part(tmp_path: Path) -> None:
    model = EightBit().source().conv(3, 8).chain("LEAKY_RELU").conv(3, 16)
    found = foretold(model, tmp_path)
    assert found.parameter_bytes == 3 * 3 * 4 * 8 + 4 * 8  # kernel and bias of the first convolution
    assert found.fits_on_chip is None


@pytest.mark.parametrize(("size", "channels", "fits"), [(1, 8, True), (8, 11, None), (1, 300, False)])
def test_fitting_on_the_chip(size: int, channels: int, fits: bool | None, tmp_path: Path) -> None:
    """One KiB: parameters beside activations, parameters alone, neither."""
    found = foretold(EightBit().source(shape=(1, size, size, 4)).conv(1, channels), tmp_path, chip=CHIP)
    assert found.fits_on_chip is fits
    told = [text for text in found.suggestions if "chip's memory" in text]
    assert len(told) == (0 if fits else 1)
    assert fits is not False or "Edge TPUs" in told[0]


def test_more_alive_than_the_chip_has_memory_for_leaves_nothing_sure(tmp_path: Path) -> None:
    """As YOLOv8s at 640x640, of which the compiler mapped 13 operations: what stands before the crowd is as sure as ever."""
    model = EightBit().source(shape=(1, 4, 4, 4)).conv().conv(1, 128).conv(1, 4)
    found = foretold(model, tmp_path, chip=CHIP)
    assert [one.confidence for one in found.operators] == ["certain", "unknown", "unknown"]
    assert where(found) == "TTT"
    assert any("Use a smaller input" in text and "operation 1" in text for text in found.suggestions)
    assert {one.confidence for one in foretold(model, tmp_path).operators} == {"certain"}


def test_a_target_brings_its_chip_and_its_runtime(tmp_path: Path) -> None:
    graph = EightBit().source().conv().read(tmp_path)
    found = forecast.of_target(graph, target.read("coral-usb"))
    assert found is not None and found.runtime == 14 and found.fits_on_chip is True
    assert forecast.of_target(graph, target.read("rpi4")) is None


def test_a_float_model_is_refused(tmp_path: Path) -> None:
    graph = separable().graph(tmp_path)
    with pytest.raises(
        BadInput, match="computes in float32, and the Edge TPU takes only fully 8-bit models"
    ) as refusal:
        forecast.check(graph, "m.tflite")
    assert refusal.value.message.startswith("m.tflite: ")
    assert "edgeship build" in (refusal.value.hint or "")


def test_sixteen_bit_activations_are_refused(tmp_path: Path) -> None:
    graph = EightBit().source(dtype="int16").chain("RELU", dtype="int16").read(tmp_path)
    with pytest.raises(BadInput, match="computes in int16"):
        forecast.check(graph, "m.tflite")


def test_open_sizes_are_refused_and_an_open_batch_is_not(tmp_path: Path) -> None:
    model = EightBit().source().conv()
    model.tensors[model.inputs[0]].shapeSignature = [-1, 8, 8, 4]
    forecast.check(model.read(tmp_path), "m.tflite")
    model.tensors[model.inputs[0]].shapeSignature = [-1, -1, 8, 4]
    with pytest.raises(BadInput, match=r"the input 'x' has open sizes \(\?,\?,8,4\)"):
        forecast.check(model.read(tmp_path), "m.tflite")


def test_a_file_of_no_operations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no operations"):
        forecast.check(EightBit().source().read(tmp_path), "m.tflite")


@some.composite
def graphs(draw: some.DrawFn) -> tuple[Graph, list[bool]]:
    """Draw a graph of up to 12 operations, each of one or two earlier tensors, and which of them map."""
    count = draw(some.integers(1, 12))
    operators, tensors = [], [_tensor(0)]
    for index in range(count):
        inputs = tuple(draw(some.lists(some.integers(0, index), min_size=1, max_size=2)))
        name = "RELU" if draw(some.booleans()) else "LEAKY_RELU"
        operators.append(Operator(index, name, False, 1, inputs, (index + 1,), {}))
        tensors.append(_tensor(index + 1))
    main = Subgraph(tuple(tensors), tuple(operators), (0,), (count,))
    return Graph((main,), None, None, (), 0), [one.name == "RELU" for one in operators]  # type: ignore[arg-type]


def _tensor(index: int) -> Tensor:
    how = Quantization(np.array([1.0]), np.array([0]), 0)
    return Tensor(index, f"t{index}", (1, 4), (1, 4), "int8", how, None, False, False)


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_any_graph_is_cut_into_parts_that_run_in_turn(drawn: tuple[Graph, list[bool]]) -> None:
    graph, maps = drawn
    cut = parts(graph.main, maps)
    order = [index for part in cut for index in part.operators]
    assert sorted(order) == list(range(len(maps)))
    seen = {0}
    for part in cut:
        for index in part.operators:
            assert maps[index] is part.mapped
            assert set(graph.main.operators[index].inputs) <= seen
            seen.update(graph.main.operators[index].outputs)
    assert all(one.mapped != other.mapped for one, other in itertools.pairwise(cut))


@settings(max_examples=100, deadline=None)
@given(graphs(), some.booleans())
def test_any_forecast_is_one_that_can_run(drawn: tuple[Graph, list[bool]], several: bool) -> None:
    """No data goes from the Edge TPU's only part over the CPU and back into it; all is placed; the counts agree."""
    graph, maps = drawn
    found = forecast.forecast(graph, several_subgraphs=several)
    on = [one.on == "edgetpu" for one in found.operators]
    assert not any(there and not able for there, able in zip(on, maps, strict=True))
    left = Counter(one.name for one in found.operators if one.on == "cpu")
    assert found.cpu_operators == dict(left)
    assert found.edgetpu_share == pytest.approx(sum(on) / len(on))
    assert (found.subgraphs > 0) == any(on) == any(maps)
    if several:
        assert on == maps and found.subgraphs == found.possible_subgraphs
        return
    assert found.subgraphs <= 1
    tainted: set[int] = set()  # tensors that the CPU makes of what the Edge TPU made
    made: set[int] = set()
    for operator in graph.main.operators:
        inputs = set(operator.inputs)
        if on[operator.index]:
            assert not inputs & tainted
            made.update(operator.outputs)
        elif inputs & (made | tainted):
            tainted.update(operator.outputs)
    for one in found.operators:
        assert one.behind is None or (not maps[one.behind] and one.behind < one.index)
