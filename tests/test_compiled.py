"""Files that the Edge TPU compiler wrote: what they hold, which segments belong together, and what damage does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from edgeship import compiled, edgetpu_package, flatbuffer
from edgeship.errors import BadInput
from tests import tiny_edgetpu
from tests.tiny_edgetpu import CACHING, EXECUTION, STAND_ALONE, EightBit, executable, options
from tests.tiny_tflite import separable

CACHED = options(
    executable(EXECUTION, parameters=0, instructions=(100, 28), scratch=64), executable(CACHING, parameters=4096), runtime=13
)  # fmt: skip


def test_a_compiled_file_is_told_from_others(tmp_path: Path) -> None:
    assert compiled.is_compiled(flatbuffer.read(tiny_edgetpu.compiled(tmp_path)))
    assert not compiled.is_compiled(separable().graph(tmp_path))
    with pytest.raises(BadInput, match="not compiled for the Edge TPU"):
        compiled.read(separable().write(tmp_path / "plain.tflite"))


def test_a_builtin_of_that_name_does_not_exist(tmp_path: Path) -> None:
    model = EightBit().source()
    model.custom("edgetpu-custom-op-2", [model.last], (1, 4))
    assert not compiled.is_compiled(model.read(tmp_path))


def test_what_stayed_on_the_cpu_is_listed(tmp_path: Path) -> None:
    found = compiled.read(tiny_edgetpu.compiled(tmp_path, "m_edgetpu.tflite", CACHED, "RELU", "SOFTMAX", "RELU"))
    assert found.cpu_operators == {"RELU": 2, "SOFTMAX": 1}
    assert [package.operator for package in found.packages] == [0]
    assert found.segment is None


def test_the_package_is_described(tmp_path: Path) -> None:
    found = compiled.read(tiny_edgetpu.compiled(tmp_path, "m_edgetpu.tflite", CACHED))
    assert (found.cached_bytes, found.streamed_bytes, found.instruction_bytes) == (4096, 0, 144)
    assert found.min_runtime == 13
    (package,) = found.packages
    assert package.compiler == "cl/1" and package.size_bytes == len(CACHED)
    assert [(one.kind, one.chip, one.instruction_bytes, one.scratch_bytes) for one in package.executables] == [
        ("execution", "beagle", 128, 64),
        ("caching", "beagle", 16, 0),
    ]


def test_weights_that_stand_beside_the_instructions_are_streamed(tmp_path: Path) -> None:
    given_options = options(executable(STAND_ALONE, parameters=9000))
    found = compiled.read(tiny_edgetpu.compiled(tmp_path, given=given_options))
    assert (found.cached_bytes, found.streamed_bytes) == (0, 9000)


@pytest.mark.parametrize("content", [b"", b"\x00", b"DWN1" * 9, CACHED[:-1], CACHED[: len(CACHED) // 2]])
def test_of_a_package_that_cannot_be_read_only_the_size_is_known(content: bytes, tmp_path: Path) -> None:
    found = compiled.read(tiny_edgetpu.compiled(tmp_path, "m_edgetpu.tflite", content, "RELU"))
    assert found.cpu_operators == {"RELU": 1}
    assert (found.cached_bytes, found.streamed_bytes, found.instruction_bytes, found.min_runtime) == (None,) * 4
    assert found.packages[0].size_bytes == len(content)


@settings(max_examples=300, deadline=None)
@given(some.integers(0, len(CACHED) - 1), some.integers(0, 255))
def test_no_damaged_package_is_more_than_unreadable(place: int, byte: int) -> None:
    content = bytearray(CACHED)
    content[place] = byte
    found = edgetpu_package.read(0, memoryview(bytes(content)))
    assert found.size_bytes == len(CACHED)
    assert found.streamed_bytes is None or found.streamed_bytes >= 0


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tiny_edgetpu.compiled(tmp_path, given=CACHED)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadInput, match="damaged TFLite file"):
        compiled.read(path)


def pieces(
    folder: Path, count: int = 3, *, suffix: str = "_edgetpu", shape: tuple[int, ...] = (1, 8, 8, 4)
) -> list[Path]:
    """Write segments that hand one tensor on: x → t1 → t2 → …"""
    paths = []
    for number in range(count):
        model = EightBit()
        model.input("x" if not number else f"t{number}", shape, "int8", scale=0.1)
        model.last = model.inputs[0]
        if suffix:
            model.custom("edgetpu-custom-op", [model.last], shape, given=CACHED)
        else:
            model.chain("RELU")
        model.tensors[model.last].name = f"t{number + 1}"
        paths.append(model.ends().write(folder / f"net.v1_segment_{number}_of_{count}{suffix}.tflite"))
    return paths


@pytest.mark.parametrize("suffix", ["_edgetpu", ""])
def test_segments_are_put_together_from_any_of_them(suffix: str, tmp_path: Path) -> None:
    paths = pieces(tmp_path, suffix=suffix)
    for path in paths:
        found = compiled.segments(path)
        assert found.files == tuple(paths)
        assert found.stem == "net.v1"
        assert [spec.name for spec in found.inputs] == ["x"]
        assert [spec.name for spec in found.outputs] == ["t3"]


def test_more_than_ten_segments_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    paths = pieces(tmp_path, 12)
    assert compiled.segments(paths[11]).files == tuple(paths)


def test_a_segment_says_which_it_is_and_what_is_missing(tmp_path: Path) -> None:
    paths = pieces(tmp_path)
    paths[2].unlink()
    found = compiled.read(paths[1])
    assert found.segment is not None
    assert (found.segment.stem, found.segment.number, found.segment.of) == ("net.v1", 1, 3)
    assert found.segment.missing == (paths[2].name,)
    assert compiled.siblings(paths[1]) == ()
    with pytest.raises(BadInput, match=r"one of 3 segments; missing beside it: net.v1_segment_2_of_3_edgetpu.tflite"):
        compiled.segments(paths[1])


def test_siblings_are_described_in_order(tmp_path: Path) -> None:
    paths = pieces(tmp_path)
    assert [one.path for one in compiled.siblings(paths[1])] == [str(path) for path in paths]


def test_segments_that_do_not_fit_are_told(tmp_path: Path) -> None:
    paths = pieces(tmp_path)
    paths[1].write_bytes(paths[2].read_bytes())  # wants t2, which nothing has made yet
    with pytest.raises(BadInput, match="no segment before it makes its input 't2'"):
        compiled.segments(paths[0])


def test_segments_of_another_shape_are_told(tmp_path: Path) -> None:
    paths = pieces(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    paths[2].write_bytes(pieces(other, shape=(1, 4, 4, 4))[2].read_bytes())
    with pytest.raises(
        BadInput, match=r"its input 't2' is int8 \(1, 4, 4, 4\), but int8 \(1, 8, 8, 4\) is made before it"
    ):
        compiled.segments(paths[0])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("net_edgetpu.tflite", "not a segment"),
        ("net_segment_3_of_3_edgetpu.tflite", "they count from 0"),
        ("net_segment_0_of_0_edgetpu.tflite", "they count from 0"),
        ("net_segment_1_of_999999999999_edgetpu.tflite", "missing beside it"),
    ],
)
def test_names_that_say_something_else(name: str, said: str, tmp_path: Path) -> None:
    path = tiny_edgetpu.compiled(tmp_path, name)
    with pytest.raises(BadInput, match=said):
        compiled.segments(path)
    compiled.read(path)
