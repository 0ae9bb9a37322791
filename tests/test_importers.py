"""What a file is, is told by its first bytes; shapes that a model leaves open are asked for, ready to type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeship import check_inputs
from edgeship.check_inputs import InputSpec
from edgeship.errors import BadInput
from edgeship.importers import recognize

SOURCE = Path("m.h5")
PHOTO = InputSpec("photo", (None, None, None, 3), "float32")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("m.h5", b"", "is empty"),
        ("m.h5", b"hello world", "is text"),
        ("m.h5", b"PK\x03\x04" + bytes(30) + b"config.json", "zip archive"),
        ("m.keras", b"PK\x03\x04" + bytes(99), "zip archive"),
        ("m.tflite", b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
        ("m.tflite", b"version https://git-lfs.github.com/spec/v1", "git-lfs pointer"),
        ("m.keras", b"<html>", "HTML"),
        ("m.h5", b"\x80\x04\x95" + bytes(99), "pickle"),
        ("m.onnx", b"\x08\x07" + bytes(99), "content is not what its name says"),
        ("m.pt2", b"PK\x03\x04" + bytes(99), "table of contents"),
        ("m.bin", bytes(99), "not a model"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(name: str, content: bytes, word: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput, match=word) as refusal:
        recognize(path)
    assert refusal.value.message.startswith(str(path))
    assert refusal.value.exit_code == 2


def test_missing_files_and_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        recognize(tmp_path / "m.h5")
    with pytest.raises(BadInput, match=r"without saved_model\.pb"):
        recognize(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "importer"),
    [
        ("m.h5", b"\x89HDF\r\n\x1a\n", "keras"),
        ("old.keras", b"\x89HDF\r\n\x1a\n", "keras"),  # what Keras 2 up to 2.11 wrote under that name
        ("m.keras", b"PK\x03\x04" + bytes(26) + b"metadata.json", "keras"),
        ("noname", b"\x1c\0\0\0TFL3", "tflite"),
    ],
)
def test_the_content_decides(name: str, content: bytes, importer: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert recognize(path) == importer


def test_the_batch_is_one_and_other_open_sizes_are_asked_for() -> None:
    fixed = InputSpec("image", (None, 8, 8, 3), "float32")
    assert check_inputs.full_shapes(SOURCE, [fixed], {}) == {"image": (1, 8, 8, 3)}
    with pytest.raises(BadInput, match=r"m.h5: input 'photo' has open dimensions \(\?, \?, \?, 3\)") as refusal:
        check_inputs.full_shapes(SOURCE, [PHOTO], {})
    assert refusal.value.hint == "--shape photo:1,224,224,3"
    assert check_inputs.full_shapes(SOURCE, [PHOTO], {"photo": (1, 32, 48, 3)}) == {"photo": (1, 32, 48, 3)}


@pytest.mark.parametrize("shape", [(32, 32, 3), (1, 32, 32, 1), (2, 32, 32, 3), (1, 0, 32, 3), (1, -1, 32, 3), ()])
def test_a_shape_that_does_not_fit_is_refused_with_one_that_does(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="does not fit") as refusal:
        check_inputs.full_shapes(SOURCE, [PHOTO], {"photo": shape})
    assert refusal.value.hint == "--shape photo:1,224,224,3"


def test_a_shape_for_no_input_is_refused() -> None:
    with pytest.raises(BadInput, match="no such input; it has photo"):
        check_inputs.full_shapes(SOURCE, [PHOTO], {"foto": (1, 8, 8, 3)})


def test_seeded_inputs_are_the_same_every_time_and_indices_stay_in_range() -> None:
    specs = [InputSpec("x", (None, 4), "float32"), InputSpec("ids", (None, 5), "int32", limit=3)]
    shapes = check_inputs.full_shapes(SOURCE, specs, {})
    one, two = (check_inputs.arrays(SOURCE, specs, shapes, None, 5) for _ in range(2))
    assert {name: array.shape for name, array in one.items()} == {"x": (8, 4), "ids": (8, 5)}
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert one["ids"].max() < 3
