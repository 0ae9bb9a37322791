"""Examples: distrusted on the way in, matched to the model's inputs, prepared, and split so that nothing is judged twice."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeship import examples
from edgeship.artifact import TensorSpec
from edgeship.errors import BadInput
from edgeship.examples import EVERY_INPUT, Examples, Preparation

IMAGE = TensorSpec("image", (1, 4, 4, 3), "float32")
SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def made(count: int = 12, **arrays: NDArray[Any]) -> Examples:
    """Return examples with one distinct pixel value each."""
    images = np.arange(count, dtype=np.float32)[:, None, None, None] * np.ones((4, 4, 3), np.float32)
    return Examples({"image": images}, arrays.get("labels"), arrays.get("groups"), "a.npz", "0" * 64)


def written(folder: Path, **arrays: Any) -> Path:
    path = folder / "a.npz"
    np.savez(path, **arrays)
    return path


def test_what_is_in_the_file_is_read(tmp_path: Path) -> None:
    images = np.arange(5 * 48, dtype=np.uint8).reshape(5, 4, 4, 3)
    path = written(tmp_path, image=images, labels=np.arange(5)[:, None], groups=np.array([0, 0, 1, 1, 2]))
    found = examples.read(path)
    assert found.count == 5
    assert found.origin == str(path)
    assert np.array_equal(found.inputs["image"], images)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2, 3, 4]
    assert found.groups is not None
    assert found.groups.tolist() == [0, 0, 1, 1, 2]


IMAGES = np.zeros((5, 4, 4, 3), np.float32)
WITH_NAN = IMAGES.copy()
WITH_NAN[3, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"image": WITH_NAN}, "'image' holds NaN or infinity, first in example 3"),
        ({"image": IMAGES, "labels": np.array([1, 2, np.inf, 0, 0])}, "'labels' holds NaN"),
        ({"image": IMAGES, "labels": np.arange(4)}, "different numbers of examples: image 5, labels 4"),
        ({"image": IMAGES, "groups": np.ones(5)}, "'groups' must be one integer an example"),
        ({"image": IMAGES, "groups": np.ones((5, 2), int)}, "'groups' must be one integer an example"),
        ({"image": IMAGES.astype(complex)}, "'image' has the dtype complex128"),
        ({"image": np.array(["a", "b"])}, "'image' has the dtype <U1"),
        ({"image": np.float32(3)}, "'image' is a single value"),
        ({"image": IMAGES[:0]}, "holds no examples"),
        ({"labels": np.arange(5)}, "holds no inputs"),
        ({}, "holds no inputs"),
        ({"image": np.array([{"a": 1}, None], dtype=object)}, "holds pickled objects, which may run code"),
    ],
)
def test_arrays_of_no_use_are_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    path = written(tmp_path, **arrays)
    with pytest.raises(BadInput) as refusal:
        examples.read(path)
    assert refusal.value.message.startswith(f"{path}: ")
    assert said in refusal.value.message


def test_a_pickle_never_runs(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = written(tmp_path, image=np.array([Evil()], dtype=object))
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Evil()))
    for file in (path, tmp_path / "bare.npz"):
        with pytest.raises(BadInput):
            examples.read(file)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as made:
        made.writestr("readme.txt", "hello")
    (tmp_path / "empty.npz").touch()
    (tmp_path / "html.npz").write_text("<html>")
    (tmp_path / "folder.npz").mkdir()
    np.save(tmp_path / "one.npy", IMAGES)
    said = {
        "text.npz": "not an npz file: 'readme.txt'", "empty.npz": "not an npz file", "html.npz": "not an npz file",
        "folder.npz": "a folder", "one.npy": "not an npz file", "gone.npz": "no such file", "x" * 300: "too long",
    }  # fmt: skip
    for name, words in said.items():
        with pytest.raises(BadInput) as refusal:
            examples.read(tmp_path / name)
        assert refusal.value.message.startswith(str(tmp_path / name))
        assert words in refusal.value.message


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    """Return the bytes of an npz file, stored and compressed."""
    arrays: dict[str, Any] = {"image": np.arange(480, dtype=np.float32).reshape(10, 4, 4, 3), "labels": np.arange(10)}
    found = {}
    for name, save in (("stored", np.savez), ("compressed", np.savez_compressed)):
        stream = io.BytesIO()
        save(stream, **arrays)
        found[name] = stream.getvalue()
    return found


@settings(SHARED_FOLDER, max_examples=300)
@given(
    kind=st.sampled_from(["stored", "compressed"]),
    cut=st.none() | st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=6),
)
def test_a_damaged_npz_is_read_or_refused(
    tmp_path: Path,
    whole: dict[str, bytes],
    kind: str,
    cut: float | None,
    flips: list[tuple[float, int]],
) -> None:
    content = bytearray(whole[kind])
    for share, bit in flips:
        content[int(share * len(content))] ^= 1 << bit
    if cut is not None:
        del content[int(cut * len(content)) :]
    path = tmp_path / "damaged.npz"
    path.write_bytes(content)
    try:
        found = examples.read(path)
    except BadInput as refusal:
        assert refusal.message.startswith(f"{path}: ")
    else:
        assert all(np.isfinite(array).all() for array in found.inputs.values())


def test_examples_are_matched_by_name_or_as_the_only_input() -> None:
    images = np.zeros((2, 4, 4, 3), np.float32)
    for name in ("image", "inputs"):
        found = examples.matched(Examples({name: images}, None, None, "a.npz", ""), [IMAGE])
        assert list(found.inputs) == ["image"]
    with pytest.raises(BadInput, match=r"a\.npz: no array 'image'.*found imaeg; did you mean 'imaeg'"):
        examples.matched(Examples({"imaeg": images}, None, None, "a.npz", ""), [IMAGE])
    with pytest.raises(BadInput, match="'extra' is no input of the model"):
        examples.matched(Examples({"image": images, "extra": images}, None, None, "a.npz", ""), [IMAGE])


@pytest.mark.parametrize(
    ("stored", "declared"),
    [
        ((4, 5, 3), (1, 4, 5, 3)),
        ((4, 5, 3), (1, 3, 4, 5)),
        ((4, 5), (1, 4, 5, 1)),
        ((1, 4, 5, 3), (1, 4, 5, 3)),
        ((4, 5, 3), (1, -1, -1, 3)),
        ((7,), (1, 7)),
    ],
)
def test_shapes_that_can_only_mean_one_thing_are_fitted(stored: tuple[int, ...], declared: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 255, (2, *stored))
    found = examples.matched(Examples({"x": array}, None, None, "a", ""), [TensorSpec("x", declared, "float32")])
    shape = found.inputs["x"].shape[1:]
    assert all(want in (-1, size) for size, want in zip(shape, declared[1:], strict=True))
    assert sorted(found.inputs["x"].ravel()) == sorted(array.ravel())
    if declared[1] == stored[-1] != declared[-1]:
        assert np.array_equal(found.inputs["x"].transpose(0, 2, 3, 1), array)


@pytest.mark.parametrize("stored", [(4, 4), (4, 4, 4), (5, 4, 3), (48,), (2, 4, 4, 3)])
def test_other_shapes_are_refused(stored: tuple[int, ...]) -> None:
    array = np.zeros((2, *stored), np.float32)
    with pytest.raises(BadInput, match=r"a\.npz: 'image' has examples of shape .*; the model's input is 4x4x3"):
        examples.matched(Examples({"image": array}, None, None, "a.npz", ""), [IMAGE])


def test_values_are_prepared_per_channel_in_either_layout() -> None:
    how = {"image": Preparation((2.0, 3.0, 4.0), (0.0, 0.0, 1.0))}
    array = np.ones((2, 4, 4, 3), np.uint8)
    nhwc = examples.prepared(Examples({"image": array}, None, None, "a", ""), [IMAGE], how)["image"]
    assert nhwc.dtype == np.float32
    assert nhwc[0, 0, 0].tolist() == [2.0, 3.0, 5.0]
    spec = TensorSpec("image", (1, 3, 4, 4), "float32")
    nchw = examples.prepared(Examples({"image": array.transpose(0, 3, 1, 2)}, None, None, "a", ""), [spec], how)
    assert np.array_equal(nchw["image"].transpose(0, 2, 3, 1), nhwc)
    with pytest.raises(BadInput, match="2 values for input 'image', which has 3 channels"):
        examples.prepared(
            Examples({"image": array}, None, None, "a", ""), [IMAGE], {EVERY_INPUT: Preparation((1.0, 2.0))}
        )


def test_token_numbers_keep_their_values() -> None:
    spec = TensorSpec("tokens", (1, 4), "int32")
    array = np.array([[1, 2, 3, 2_000_000_001]])
    found = examples.prepared(
        Examples({"tokens": array}, None, None, "a", ""), [spec], {EVERY_INPUT: Preparation((0.5,))}
    )
    assert found["tokens"].dtype == np.int32
    assert found["tokens"].tolist() == array.tolist()


def test_made_up_inputs_are_reproducible_and_stay_in_their_range() -> None:
    specs = [
        IMAGE,
        TensorSpec("quantized", (1, 5), "int8", 0.5, 3),
        TensorSpec("tokens", (1, 6), "int32"),
        TensorSpec("flag", (1, 2), "bool"),
    ]
    how = {"image": Preparation(range=(0.0, 1.0))}
    first, again, other = (examples.seeded(specs, how, seed=seed) for seed in (1, 1, 2))
    assert first.synthetic
    assert first.count == examples.SEEDED_EXAMPLES
    assert all(np.array_equal(first.inputs[name], again.inputs[name]) for name in first.inputs)
    assert not np.array_equal(first.inputs["image"], other.inputs["image"])
    assert first.sha256 == again.sha256 != other.sha256
    assert 0 <= first.inputs["image"].min() < 0.1
    assert 0.9 < first.inputs["image"].max() <= 1
    assert first.inputs["quantized"].min() >= (-128 - 3) * 0.5
    assert first.inputs["quantized"].max() <= (127 - 3) * 0.5
    assert set(first.inputs["tokens"].ravel()) == {0, 1}
    assert first.inputs["flag"].dtype == np.bool_


@st.composite
def data_with_groups(draw: st.DrawFn) -> Examples:
    count = draw(st.integers(1, 60))
    values = draw(st.lists(st.integers(0, 2 * count), min_size=count, max_size=count))
    groups = draw(st.none() | st.lists(st.integers(0, 12), min_size=count, max_size=count))
    kind = draw(st.sampled_from(["int64", "uint8", "uint64"]))
    spread = 1 << 60 if kind == "uint64" else 1
    return Examples(
        {"x": np.array(values, np.float32)[:, None]},
        np.arange(count),
        None if groups is None else np.array(groups).astype(kind) * np.array(spread).astype(kind),
        "a.npz",
        "0" * 64,
    )


@settings(deadline=None, max_examples=300)
@given(data=data_with_groups(), seed=st.integers(0, 2**63))
def test_no_example_and_no_group_stands_in_both_parts(data: Examples, seed: int) -> None:
    try:
        found, again = (examples.parts(data, None, seed=seed) for _ in range(2))
    except BadInput as refusal:
        assert refusal.message.startswith("a.npz: ")
        return
    assert found.calibration is not None
    assert found.evaluation is not None
    assert found.calibration.count
    assert found.evaluation.count
    for name in ("labels", "groups"):  # the labels here number the examples
        ours, theirs = getattr(found.calibration, name), getattr(found.evaluation, name)
        assert ours is None or not set(ours.tolist()) & set(theirs.tolist())
    values = [set(part.inputs["x"].ravel().tolist()) for part in (found.calibration, found.evaluation)]
    assert not values[0] & values[1]
    assert again.calibration is not None
    assert again.evaluation is not None
    assert np.array_equal(again.calibration.inputs["x"], found.calibration.inputs["x"])
    assert np.array_equal(again.evaluation.inputs["x"], found.evaluation.inputs["x"])
    assert (again.calibration.sha256, again.evaluation.sha256) == (found.calibration.sha256, found.evaluation.sha256)


@pytest.mark.parametrize(("count", "apart"), [(2, 1), (10, 2), (100, 20), (2500, 500), (4000, 500)])
def test_a_fifth_is_set_apart_and_said(count: int, apart: int) -> None:
    data = Examples({"x": np.arange(count)[:, None]}, None, None, "a.npz", "")
    found = examples.parts(data, None, seed=0)
    assert found.calibration is not None
    assert found.evaluation is not None
    assert (found.calibration.count, found.evaluation.count) == (apart, count - apart)
    assert f"{apart} of {count} examples were set apart" in found.notes[0]


def test_a_group_larger_than_the_fifth_is_passed_over() -> None:
    groups = np.array([0] * 1000 + [1] * 30 + [2] * 30 + [3] * 40)
    data = Examples({"x": np.arange(1100)[:, None]}, None, groups, "a.npz", "")
    for seed in range(8):
        calibration = examples.parts(data, None, seed=seed).calibration
        assert calibration is not None
        assert calibration.count == 100


def test_one_example_or_one_group_cannot_be_split() -> None:
    for data in (made(1), made(12, groups=np.zeros(12, int))):
        with pytest.raises(BadInput, match="too few examples or groups"):
            examples.parts(data, None, seed=0)


def test_what_stands_in_both_files_is_not_judged() -> None:
    data = made(12)
    seen = Examples({"image": data.inputs["image"][4:6].astype(np.uint8)}, None, None, "b.npz", "")
    found = examples.parts(data, seen, seed=0)
    assert found.calibration is seen
    assert found.evaluation is not None
    assert found.evaluation.count == 10
    assert "2 examples stand among those that calibrate" in found.doubts[0]
    with pytest.raises(BadInput, match=r"every example stands in b\.npz too"):
        examples.parts(data.chosen(np.array([4, 5])), seen, seed=0)


def test_one_hot_labels_become_classes_and_float_ones_stay(tmp_path: Path) -> None:
    inputs = np.zeros((3, 2), np.float32)
    one_hot = np.eye(3, dtype=np.int64)[[2, 0, 1]]

    def read(labels: NDArray[Any]) -> list[Any]:
        found = examples.read(written(tmp_path, inputs=inputs, labels=labels)).labels
        assert found is not None
        return list(found.tolist())

    assert read(one_hot) == [2, 0, 1]
    several = np.ones((3, 3), np.int64)
    assert read(several) == several.tolist()
    assert read(np.array([True, False, True])) == [1, 0, 1]
    targets = np.eye(3, dtype=np.float32)
    assert read(targets) == targets.tolist()
