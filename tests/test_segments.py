"""A model in segments: the best of all cuts, files that a pipeline can chain, and the same outputs to the last bit."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeship import flatbuffer, segment_chain, segment_cuts, segment_files, segments
from edgeship import target as targets
from edgeship.errors import BadInput, NothingToDo, StageFailed
from edgeship.progress import silent
from edgeship.segment_schedule import Chip, chip, schedule
from edgeship.segments import SegmentOrder
from tests.tiny_tflite import TinyModel, separable

TINY_CHIP = Chip(on_chip_bytes=300, macs_per_s=1e6, link="usb3", bytes_per_s=1e5, fixed_ms=1.0)
INT8: dict[str, Any] = {"scale": 0.05, "zero_point": 3}


def computed(model: TinyModel, name: str, channels: int = 4) -> int:
    """Add an int8 tensor of 3x3 positions."""
    return model.tensor(name, (1, 3, 3, channels), "int8", **INT8)


def convolution(model: TinyModel, source: int, name: str, seed: int) -> int:
    """Add an int8 1x1 convolution with a scale a channel."""
    random = np.random.default_rng(seed)
    weight = model.constant(
        f"{name}/weight", random.integers(-127, 128, (4, 1, 1, 4)).astype(np.int8), scale=[0.01, 0.02, 0.005, 0.01]
    )
    scales = np.array([0.01, 0.02, 0.005, 0.01]) * INT8["scale"]
    bias = model.constant(f"{name}/bias", random.integers(-900, 900, 4).astype(np.int32), scale=scales)
    options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    return model.operator("CONV_2D", [source, weight, bias], computed(model, name), **options)


@st.composite
def graphs(draw: st.DrawFn) -> TinyModel:
    """Return a random int8 graph: several inputs, branches, skips over any distance, outputs anywhere, names that repeat."""
    model = TinyModel()
    known = [model.input(f"input{number}", (1, 3, 3, 4), "int8", **INT8) for number in range(draw(st.integers(1, 3)))]
    shared = model.constant("shared", np.arange(4, dtype=np.int8), **INT8)
    for number in range(draw(st.integers(2, 9))):
        name = draw(st.sampled_from([f"t{number}", "same", ""]))
        one, two = (draw(st.sampled_from(known)) for _ in range(2))
        match draw(st.sampled_from(["CONV_2D", "ADD", "MUL", "SUB", "MAXIMUM", "constant", "SPLIT"])):
            case "CONV_2D":
                known.append(convolution(model, one, name, number))
            case "constant":
                known.append(model.operator("ADD", [one, shared], computed(model, name)))
            case "SPLIT":
                axis = model.constant(f"axis{number}", np.array(3, np.int32))
                halves = [computed(model, f"{name}a", 2), computed(model, f"{name}b", 2)]
                model.operator("SPLIT", [axis, one], *halves, numSplits=2)
                known.append(model.operator("CONCATENATION", [*reversed(halves)], computed(model, name), axis=3))
            case kind:
                known.append(model.operator(kind, [one, two], computed(model, name)))
    chosen = draw(st.lists(st.sampled_from(known), min_size=1, max_size=4, unique=True))
    model.outputs = [*chosen, known[-1]] if known[-1] not in chosen else chosen
    return model


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(model=graphs(), count=st.integers(2, 5))
def test_the_chain_of_any_graph_is_the_graph(tmp_path: Path, model: TinyModel, count: int) -> None:
    path = model.write(tmp_path / "random.tflite")
    try:
        cut = segment_cuts.cut(flatbuffer.read(path), count, TINY_CHIP, name="random")
    except NothingToDo:
        assert len(model.operators) < count
        return
    parts = written(path, cut, tmp_path)
    assert segment_chain.check(silent, "random", path, parts, None, seed=1).examples == segment_chain.SEEDED_EXAMPLES
    check_pipeline_rules(path, parts)


def written(path: Path, cut: tuple[segment_cuts.Segment, ...], folder: Path) -> list[Path]:
    """Write the segments' files."""
    parts = []
    for number, part in enumerate(segment_files.contents(path, cut)):
        parts.append(folder / f"part{number}.tflite")
        parts[-1].write_bytes(part.content)
    return parts


def check_pipeline_rules(path: Path, parts: list[Path]) -> None:
    """Hold the files against what the vendor's pipeline runner asks of them (libcoral, pipelined_model_runner.cc)."""
    whole = flatbuffer.read(path)
    graphs = [flatbuffer.read(part) for part in parts]
    inputs = [[graph.main.tensors[index].name for index in graph.main.inputs] for graph in graphs]
    outputs = [[graph.main.tensors[index].name for index in graph.main.outputs] for graph in graphs]
    assert len(inputs[0]) == len(whole.main.inputs)
    assert len(outputs[-1]) == len(whole.main.outputs)
    for number, names in enumerate(outputs[:-1]):
        for name in names:
            assert any(name in later for later in inputs[number + 1 :]), f"nothing reads {name}"
    for number, names in enumerate(inputs[1:], start=1):
        assert set(names) <= set(itertools.chain(inputs[0], *outputs[:number]))
    every = [*inputs[0], *itertools.chain.from_iterable(outputs)]
    assert "" not in every
    assert len(set(every)) == len(every)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(model=graphs(), count=st.integers(2, 4), memory=st.sampled_from([0, 20, 60, 10_000]))
def test_no_other_cut_is_better(tmp_path: Path, model: TinyModel, count: int, memory: int) -> None:
    graph = model.graph(tmp_path)
    size = len(model.operators)
    if size < count:
        return
    small = Chip(on_chip_bytes=memory, macs_per_s=1e6, link="usb3", bytes_per_s=1e5, fixed_ms=0.1)
    found = segment_cuts.cut(graph, count, small, name="random")
    line = segment_cuts._Line(graph)
    costs = segment_cuts._Costs(line, line.places(), small)
    every = []
    for inner in itertools.combinations(range(1, size), count - 1):
        pieces = [costs.segment(start, stop) for start, stop in itertools.pairwise((0, *inner, size))]
        every.append((sum(piece.streamed_bytes for piece in pieces), max(piece.latency_ms for piece in pieces)))
    streamed, slowest = min(every)
    assert sum(piece.streamed_bytes for piece in found) == streamed
    assert max(piece.latency_ms for piece in found) <= slowest * (1 + segment_cuts.SLACK) * (1 + 1e-9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(model=graphs())
def test_what_a_segment_costs_is_what_is_in_it(tmp_path: Path, model: TinyModel) -> None:
    graph = model.graph(tmp_path)
    line = segment_cuts._Line(graph)
    costs = segment_cuts._Costs(line, line.places(), TINY_CHIP)
    tensors, macs = graph.main.tensors, line.macs
    for start, stop in itertools.combinations(range(len(costs.places)), 2):
        found = costs.segment(start, stop)
        read = {index for place in found.operators for index in graph.main.operators[place].inputs}
        entering = set(found.inputs) & (read | set(found.outputs)) if start == 0 else set(found.inputs)
        edges = sum(tensors[index].size_bytes for index in (*entering, *dict.fromkeys(found.outputs)))
        assert found.crossing_bytes == edges
        assert found.latency_ms == TINY_CHIP.latency_ms(
            sum(macs[place] for place in found.operators), found.weight_bytes, edges
        )
        assert found.streamed_bytes == max(0, found.weight_bytes - TINY_CHIP.on_chip_bytes)


def test_skip_connections_travel_past_the_segments_between(tmp_path: Path) -> None:
    model = TinyModel()
    start = convolution(model, model.input("image", (1, 3, 3, 4), "int8", **INT8), "start", 1)
    middle = convolution(model, convolution(model, start, "one", 2), "two", 3)
    model.outputs = [model.operator("ADD", [start, middle], computed(model, "sum"))]
    path = model.write(tmp_path / "skip.tflite")
    cut = segment_cuts.cut(flatbuffer.read(path), 4, TINY_CHIP, name="skip")
    assert [segment.operators for segment in cut] == [(0,), (1,), (2,), (3,)]
    parts = segment_files.contents(path, cut)
    assert [part.inputs for part in parts] == [("image",), ("start",), ("one",), ("start", "two")]
    assert [part.outputs for part in parts] == [("start",), ("one",), ("two",), ("sum",)]


def test_an_early_output_is_handed_over_by_the_last_segment(tmp_path: Path) -> None:
    model = TinyModel()
    start = convolution(model, model.input("image", (1, 3, 3, 4), "int8", **INT8), "start", 1)
    model.outputs = [start, convolution(model, start, "end", 2)]
    path = model.write(tmp_path / "early.tflite")
    first, last = segment_files.contents(path, segment_cuts.cut(flatbuffer.read(path), 2, TINY_CHIP, name="early"))
    assert first.outputs == ("start/early",)
    assert last.inputs == ("start/early",)
    assert last.outputs == ("start", "end")


def test_files_hold_what_they_use_and_no_more(tmp_path: Path) -> None:
    path = separable().write(tmp_path / "whole.tflite")
    whole = flatbuffer.read(path)
    parts = written(path, segment_cuts.cut(whole, 3, TINY_CHIP, name="whole"), tmp_path)
    graphs = [flatbuffer.read(part) for part in parts]
    assert sum(len(graph.main.operators) for graph in graphs) == len(whole.main.operators)
    assert sum(len(graph.main.tensors) for graph in graphs) == len(whole.main.tensors) + 2
    assert sum(graph.size_bytes for graph in graphs) < whole.size_bytes + 6000
    for graph in graphs:
        assert [operator.name for operator in graph.main.operators]


def test_half_precision_weights_are_unpacked_where_they_are_used(tmp_path: Path) -> None:
    model = TinyModel()
    image = model.input("image", (1, 8))
    half = model.constant("half", np.eye(8, dtype=np.float16))
    full = model.operator("DEQUANTIZE", [half], model.tensor("full", (8, 8)))
    first = model.operator("FULLY_CONNECTED", [image, full, -1], model.tensor("first", (1, 8)))
    model.outputs = [model.operator("FULLY_CONNECTED", [first, full, -1], model.tensor("second", (1, 8)))]
    path = model.write(tmp_path / "half.tflite")
    cut = segment_cuts.cut(flatbuffer.read(path), 2, TINY_CHIP, name="half")
    assert [segment.operators for segment in cut] == [(0, 1), (0, 2)]
    assert [segment.inputs for segment in cut] == [(image,), (first,)]
    assert segment_chain.check(silent, "half", path, written(path, cut, tmp_path), None, seed=0).synthetic


def test_weights_that_fit_nowhere_together_are_set_apart(tmp_path: Path) -> None:
    model = TinyModel()
    here = model.input("image", (1, 16))
    for number in range(4):
        here = model.dense(here, f"dense{number}", np.ones((16, 16)))
    model.outputs = [here]
    roomy = Chip(on_chip_bytes=2 * 16 * 16 * 4, macs_per_s=1e12, link="usb3", bytes_per_s=1e9, fixed_ms=0.01)
    cut = segment_cuts.cut(model.graph(tmp_path), 2, roomy, name="dense")
    assert [segment.operators for segment in cut] == [(0, 1), (2, 3)]
    assert [segment.streamed_bytes for segment in cut] == [0, 0]


def test_a_state_stays_in_one_segment(tmp_path: Path) -> None:
    model = TinyModel()
    here = model.input("image", (1, 3, 3, 4), "int8", **INT8)
    state = computed(model, "state")
    model.tensors[state].isVariable = True
    here = convolution(model, here, "before", 1)
    here = model.operator("ADD", [here, state], computed(model, "one"))
    here = model.operator("ADD", [here, state], computed(model, "two"))
    model.outputs = [convolution(model, here, "after", 2)]
    graph = model.graph(tmp_path)
    cut = segment_cuts.cut(graph, 3, TINY_CHIP, name="state")
    assert [segment.operators for segment in cut] == [(0,), (1, 2), (3,)]
    with pytest.raises(NothingToDo, match="4 operations in 3 pieces"):
        segment_cuts.cut(graph, 4, TINY_CHIP, name="state")


def test_a_chain_that_is_not_the_model_is_told(tmp_path: Path) -> None:
    path = separable().write(tmp_path / "one.tflite")
    other = separable(seed=5).write(tmp_path / "other.tflite")
    parts = written(other, segment_cuts.cut(flatbuffer.read(other), 2, TINY_CHIP, name="other"), tmp_path)
    with pytest.raises(
        StageFailed, match=r"^one: with the XNNPACK kernels the segments do not give .* [0-9]+ of 10 values"
    ):
        segment_chain.check(silent, "one", path, parts, None, seed=0)


def compiled(model: TinyModel) -> None:
    """Make a model look like the compiler's output."""
    model.codes[0].builtinCode, model.codes[0].deprecatedBuiltinCode = 32, 32
    model.codes[0].customCode = "edgetpu-custom-op"


def open_sizes(model: TinyModel) -> None:
    """Leave a tensor's height open."""
    model.tensors[model.operators[0].outputs[0]].shapeSignature = [1, -1, 8, 8]


def chance(model: TinyModel) -> None:
    """Put an operation in that gives something else each time."""
    model.codes[-1].builtinCode, model.codes[-1].deprecatedBuiltinCode = 148, 127


@pytest.mark.parametrize(
    ("change", "count", "said"),
    [
        (compiled, 2, "is compiled for the Edge TPU already"),
        (open_sizes, 2, "has open dimensions"),
        (chance, 2, "RANDOM_UNIFORM"),
        (None, 1, "two segments or more"),
    ],
    ids=["compiled", "open", "chance", "one"],
)
def test_what_cannot_be_cut_is_refused(tmp_path: Path, change: object, count: int, said: str) -> None:
    model = separable()
    if callable(change):
        change(model)
    path = model.write(tmp_path / "model.tflite")
    with pytest.raises(BadInput, match=said):
        segments.split(SegmentOrder(str(path), count, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_files_own_faults_come_first(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(BadInput, match="not a TFLite file"):
        segments.split(SegmentOrder(str(path), 2))
    model = separable().write(tmp_path / "model.tflite")
    with pytest.raises(BadInput, match=r"^rpi4: has no Edge TPU"):
        segments.split(SegmentOrder(str(model), 2, target="rpi4"))
    with pytest.raises(NothingToDo, match="cannot be cut into 9 segments"):
        segments.split(SegmentOrder(str(model), 9, out=tmp_path / "out"))


@pytest.mark.processes
def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    model, out = separable().write(tmp_path / "model.tflite"), tmp_path / "out"
    out.mkdir()
    theirs = out / "model_segment_0_of_2.tflite"
    theirs.write_text("mine")
    with pytest.raises(BadInput, match="was not made by edgeship"):
        segments.split(SegmentOrder(str(model), 2, out=out))
    assert theirs.read_text() == "mine"
    theirs.unlink()
    made = segments.split(SegmentOrder(str(model), 2, out=out))
    again = segments.split(SegmentOrder(str(model), 2, out=out))
    assert made == again
    assert sorted(path.name for path in out.iterdir()) == [*(part.file for part in made.segments), "segments.json"]
    assert made.warnings
    assert made.check.examples == 8
    told = segments.contract(made)
    assert told["segments"][1]["inputs"][0]["origin"] == "0"
    assert told["segments"][0]["outputs"][0]["readers"] == ["1"]


def test_published_latencies_come_out_within_a_third() -> None:
    usb = targets.read("coral-usb").accelerator
    assert usb is not None
    over = chip(usb)
    # MACs, parameters: arXiv:1704.04861 and 1602.07261; latencies: google-coral/pycoral benchmarks/reference, x86_64.
    for macs, weights, edge, published_ms in (
        (569e6, 4_200_000, 151_529, 2.17),
        (300e6, 3_400_000, 151_529, 2.29),
        (1550e6, 6_600_000, 151_529, 3.06),
        (12.27e9, 42_700_000, 269_204, 84.25),
    ):
        assert over.latency_ms(int(macs), weights, edge) == pytest.approx(published_ms, rel=0.33)


def test_the_slowest_sets_the_pace() -> None:
    pace = schedule(TINY_CHIP, [2.0, 5.0, 3.0], 9.0)
    assert (pace.slowest_ms, pace.latency_ms, pace.throughput_per_s) == (5.0, 10.0, 200.0)
    assert "not a measurement" in pace.caveat


def test_every_link_has_a_source() -> None:
    usb = targets.read("coral-usb").accelerator
    assert usb is not None
    speeds = [chip(usb, link).bytes_per_s for link in ("usb2", "pcie", "usb3")]
    assert speeds == sorted(speeds)
