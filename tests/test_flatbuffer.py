"""Reading TFLite with distrust: a damaged file is a refusal or a graph that can be counted, soon, and never a crash."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeship import complexity, flatbuffer, quantized
from edgeship.errors import BadInput
from tests.tiny_tflite import TinyModel, separable

LONGEST_S = 2.0


def read_soon(path: Path) -> None:
    """Read a file and count all that `inspect` counts; anything but a refusal that names the file is raised."""
    began = time.monotonic()
    try:
        graph = flatbuffer.read(path)
        complexity.complexity(graph)
        quantized.coverage(graph)
        quantized.already_quantized(graph)
        for tensor in graph.main.tensors:
            flatbuffer.values(tensor)
    except BadInput as refusal:
        assert refusal.message.startswith(f"{path}: ")
        assert "\n" not in refusal.message
    assert time.monotonic() - began < LONGEST_S


@pytest.fixture(scope="module")
def whole() -> bytes:
    """Return a small file with convolutions, a quantized tensor and an int4 one."""
    model = separable()
    model.constant("packed", np.array([[1, -2], [3, -4]]), "int4", scale=[0.5, 0.25])
    model.constant("bytes", np.arange(6, dtype=np.int8).reshape(2, 3), scale=0.5, zero_point=3)
    return model.content()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400, deadline=None)
@given(
    cut=st.none() | st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=5),
    words=st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0, 1, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])), max_size=2),
)  # fmt: skip
def test_a_damaged_file_is_refused_or_counted(
    tmp_path: Path, whole: bytes, cut: float | None, flips: list[tuple[float, int]], words: list[tuple[float, int]]
) -> None:
    content = bytearray(whole)
    for share, bit in flips:
        content[int(share * len(content))] ^= 1 << bit
    for share, word in words:
        place = int(share * (len(content) - 4)) // 4 * 4
        content[place : place + 4] = struct.pack("<I", word)
    if cut is not None:
        del content[int(cut * len(content)) :]
    path = tmp_path / "damaged.tflite"
    path.write_bytes(content)
    read_soon(path)


def test_every_vector_grown_to_the_files_size_is_refused_or_counted_soon(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "grown.tflite"
    for place in range(0, len(whole) - 4, 4):
        if 0 < struct.unpack_from("<I", whole, place)[0] <= 64:  # the lengths of vectors, among others
            path.write_bytes(whole[:place] + struct.pack("<I", len(whole)) + whole[place + 4 :])
            read_soon(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a TFLite file"),
        (b"TFL3", "not a TFLite file"),
        (b"PK\x03\x04" + b"\0" * 100, "not a TFLite file"),
        (b"\x1c\0\0\0TFL3", "damaged TFLite file"),
        (b"\xff\xff\xff\xffTFL3" + b"\0" * 40, "damaged TFLite file"),
    ],
)
def test_what_is_no_tflite_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=rf"a\.tflite: {said}"):
        flatbuffer.read(path)
    with pytest.raises(BadInput, match="cannot be read"):
        flatbuffer.read(tmp_path / "gone.tflite")
    with pytest.raises(BadInput, match="cannot be read"):
        flatbuffer.read(tmp_path)


def test_a_file_without_a_graph_is_refused(tmp_path: Path) -> None:
    model = schema.ModelT()
    model.version = 3
    builder = flatbuffers.Builder(64)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    (tmp_path / "a.tflite").write_bytes(bytes(builder.Output()))
    with pytest.raises(BadInput, match="it holds no graph"):
        flatbuffer.read(tmp_path / "a.tflite")


def test_a_graph_is_read_as_it_was_made(tmp_path: Path) -> None:
    graph = separable().graph(tmp_path)
    names = [operator.name for operator in graph.main.operators]
    assert names[:3] == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D"]
    assert names[-1] == "SOFTMAX"
    assert graph.interface.inputs[0].name == "image"
    assert graph.interface.inputs[0].shape == (1, 16, 16, 3)
    assert graph.interface.outputs[0].shape == (1, 10)
    assert graph.signature is None
    assert graph.main.operators[0].options["StrideH"] == 2
    assert graph.size_bytes == (tmp_path / "tiny.tflite").stat().st_size


def test_packed_and_quantized_constants_have_their_real_values(tmp_path: Path) -> None:
    model = TinyModel()
    packed = model.constant("packed", np.array([[1, -2, 7], [3, -4, -8]]), "int4", scale=[0.5, 2.0])
    plain = model.constant("plain", np.array([[1, 2], [3, 4]], np.int8), scale=0.5, zero_point=1)
    model.inputs.append(model.tensor("x", (1, 1)))
    tensors = model.graph(tmp_path).main.tensors
    found = [flatbuffer.values(tensors[index]) for index in (packed, plain)]
    assert found[0] is not None
    assert found[0].tolist() == [[0.5, -1.0, 3.5], [6.0, -8.0, -16.0]]
    assert found[1] is not None
    assert found[1].tolist() == [[0.0, 0.5], [1.0, 1.5]]
    assert flatbuffer.values(tensors[model.inputs[0]]) is None


def test_a_single_value_with_several_scales_has_no_axis_for_them(tmp_path: Path) -> None:
    """Found by bytes at random."""
    model = TinyModel()
    model.input("x", (1, 4))
    odd = model.constant("odd", np.array(3, np.int8), scale=[0.5, 0.25])
    assert flatbuffer.values(model.graph(tmp_path).main.tensors[odd]) == 3


def test_zero_points_are_as_many_as_scales(tmp_path: Path) -> None:
    model = TinyModel()
    model.input("x", (1, 4), "int8", scale=[0.5, 0.25, 0.125])
    model.tensors[0].quantization.zeroPoint = np.zeros(2, np.int64)
    with pytest.raises(BadInput, match="has 3 scales and 2 zero points"):
        model.graph(tmp_path)
