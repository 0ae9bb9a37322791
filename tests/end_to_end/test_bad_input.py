"""Bad input through the command line: each one clear line that names the file, the right exit code, nothing half-written."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeship import resources, store
from edgeship.digest import of_file
from edgeship.store import Store
from tests.conftest import Answer, CommandLine
from tests.tiny_tflite import TinyModel, separable

DIGITS = resources.folder("models") / "digits"
Here = Callable[..., Answer]
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Return a small float TFLite file that takes images of 16x16x3 and knows 10 classes."""
    return separable().write(tmp_path / "tiny.tflite")


def refused(answer: Answer, code: int, *words: str | Path) -> None:
    """Hold a refusal against its exit code and words, and see that nothing was written."""
    assert answer.code == code, answer.stderr
    for word in words:
        assert str(word) in answer.message
    assert answer.stdout == ""
    assert not Path("out").exists()
    assert not Path("build").exists()
    assert not list(Path().glob(".*"))


def pickled() -> bytes:
    return pickle.dumps({"weights": [1, 2, 3]})


def npy() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, image=IMAGES)
    return stream.getvalue()


MODELS: list[tuple[str, bytes | Path, str]] = [
    ("a.tflite", b"", "the file is empty"),
    ("a.keras", b"", "the file is empty"),
    ("a.tflite", b"<html><body>404</body></html>", "it is HTML or XML"),
    ("a.h5", b"version https://git-lfs.github.com/spec/v1\noid", "a git-lfs pointer"),
    ("a.keras", pickled(), "a Python pickle"),
    ("a.tflite", DIGITS / "digits.keras", "it is a zip archive"),
    ("a.h5", DIGITS / "digits.keras", "it is a zip archive"),
    ("a.keras", DIGITS / "data.npz", "a.keras"),
    ("a.keras", separable().content(), "it is a TFLite file"),
    ("a.onnx", b"\x08\x07\x12\x07pytorch", "damaged ONNX file: it holds no graph"),
    ("a.txt", b"hello", "not a model that edgeship reads; it is text"),
    ("a.tflite", separable().content()[:300], "damaged TFLite file"),
    ("a.tflite", b"\x00\x00\x00\x00TFL3", "damaged TFLite file"),
]


@pytest.mark.parametrize(("name", "content", "said"), MODELS)
@pytest.mark.parametrize("command", [("build", "-t", "rpi4", "--out", "out"), ("inspect",)])
def test_a_file_that_is_no_model(
    here: Here, command: tuple[str, ...], name: str, content: bytes | Path, said: str
) -> None:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    refused(here(command[0], name, *command[1:]), 2, name, said)


def test_models_that_are_not_there(here: Here, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, said in (
        ("gone.tflite", "no such file or folder"),
        ("folder", "a folder without saved_model.pb or model.toml"),
        ("digitz", "did you mean 'digits'"),
        ("pipe", "neither a file nor a folder"),
        ("x" * 300, "File name too long"),
    ):
        refused(here("build", name, "-t", "rpi4", "--out", "out"), 2, name, said)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--target", "rpi44", "no such target 'rpi44'; did you mean 'rpi4'?"),
        ("--target", "gone.toml", "gone.toml: no such file"),
        ("--recipe", "int-8", "no such recipe 'int-8'; did you mean 'int8'?"),
        ("--recipe", "mine.toml", "mine.toml: no such key 'quantise'; did you mean 'quantize'?"),
        ("--recipe", "gone.toml", "gone.toml: no such file"),
        ("--recipe", "prune2x1", "prune2x1 means 2 zeros in every 1"),
        ("--metric", "acc", "no such metric 'acc'"),
        ("--metric", "top1", "the metric top1 needs 'labels'"),
        ("--metric", "gone:f", "--metric gone:f: ModuleNotFoundError"),
        ("--shape", "image:1,8,8,3", "which --shape 1,8,8,3 does not fit"),
        ("--shape", "photo:1,16,16,3", "--shape photo"),
        ("--scale", "1,2", "2 values for input 'image', which has 3 channels"),
    ],
)
def test_options_that_mean_nothing(here: Here, tiny: Path, option: str, value: str, said: str) -> None:
    Path("mine.toml").write_text('base = "int8"\n[quantise]\nskip = []\n')
    np.savez("data.npz", image=IMAGES)
    base = ("build", tiny, *(() if option == "--target" else ("-t", "rpi4")), "--data", "data.npz", "--out", "out")
    refused(here(*base, option, value), 2, said)


def test_a_recipe_that_the_target_refuses(here: Here, tiny: Path) -> None:
    answer = here("build", tiny, "-t", "coral-usb", "-r", "float16", "--out", "out")
    refused(answer, 2, "coral-usb refuses the recipe 'float16'", "only fully 8-bit models")
    assert "its default is 'int8'" in answer.stderr


WITH_NAN = IMAGES.astype(np.float32)
WITH_NAN[7, 0, 0, 0] = np.nan
LABELS = np.arange(20) % 10
DATA: list[tuple[dict[str, Any], str]] = [
    ({"image": IMAGES[:, :8]}, "'image' has examples of shape 8x16x3; the model's input is 16x16x3"),
    ({"picture": IMAGES}, "no array 'image' for the model's input; found picture"),
    ({"image": IMAGES, "mask": IMAGES}, "'mask' is no input of the model"),
    ({"image": WITH_NAN}, "'image' holds NaN or infinity, first in example 7"),
    ({"image": IMAGES.astype(np.complex64)}, "'image' has the dtype complex64"),
    ({"image": np.array(["a"] * 20)}, "'image' has the dtype <U1"),
    ({"image": np.array([{}] * 20, dtype=object)}, "holds pickled objects, which may run code"),
    ({"image": IMAGES, "labels": LABELS + 1}, "'labels' run from 1 to 10, but the model has 10 classes (0 to 9)"),
    ({"image": IMAGES, "labels": LABELS - 1}, "'labels' run from -1 to 8"),
    ({"image": IMAGES, "labels": LABELS[:5]}, "different numbers of examples: image 20, labels 5"),
    ({"image": IMAGES, "groups": np.zeros(20, int)}, "too few examples or groups"),
    ({"image": IMAGES[:1]}, "too few examples or groups"),
    ({"image": IMAGES[:0]}, "holds no examples"),
    ({"labels": LABELS}, "holds no inputs"),
]


@pytest.mark.parametrize(("arrays", "said"), DATA)
def test_examples_that_do_not_fit(here: Here, tiny: Path, arrays: dict[str, Any], said: str) -> None:
    np.savez("data.npz", **arrays)
    refused(here("build", tiny, "-t", "rpi4", "--data", "data.npz", "--out", "out"), 2, "data.npz: ", said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an npz file"),
        (b"1,2,3\n4,5,6\n", "not an npz file"),
        (pickled(), "not an npz file"),
        (npy()[:2000], "damaged npz file"),
        (npy().replace(b"NUMPY", b"NUNPY"), "data.npz: "),
        (DIGITS / "digits.keras", "not an npz file: 'metadata.json' in it is no array"),
    ],
)
def test_examples_that_are_no_npz(here: Here, tiny: Path, content: bytes | Path, said: str) -> None:
    Path("data.npz").write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    for option in ("--data", "--calibration"):
        refused(here("build", tiny, "-t", "rpi4", option, "data.npz", "--out", "out"), 2, "data.npz: ", said)


def test_a_target_of_float_labels_that_do_not_fit_names_the_file(here: Here, tiny: Path) -> None:
    np.savez("data.npz", image=IMAGES, labels=np.ones((20, 3)))
    answer = here("build", tiny, "-t", "rpi4", "--data", "data.npz", "--metric", "mse", "--out", "out")
    refused(answer, 2, "data.npz: ", "'labels' have shape")


def test_open_dimensions_have_to_be_given(here: Here, tmp_path: Path) -> None:
    model = TinyModel()
    image = model.input("image", (1, 1, 1, 3))
    model.tensors[image].shapeSignature = [1, -1, -1, 3]
    axes = model.constant("axes", np.array([1, 2], np.int32))
    model.outputs.append(model.operator("MEAN", [image, axes], model.tensor("mean", (1, 3))))
    path = model.write(tmp_path / "open.tflite")
    answer = here("build", path, "-t", "rpi4", "-r", "float32", "--out", "out")
    refused(answer, 2, path, "open dimensions (1, ?, ?, 3); give them")
    assert "--shape image:1,224,224,3" in answer.stderr
    given_shape = here("build", path, "-t", "rpi4", "-r", "float32", "--out", "out", "--shape", "image:1,8,8,3")
    assert given_shape.code == 0, given_shape.stderr


def test_two_models_of_different_inputs_cannot_be_compared(here: Here, tiny: Path, float_digits: Path) -> None:
    refused(here("verify", tiny, float_digits), 2, f"{float_digits}: input 'image' is (1, 28, 28, 1)")


def test_a_model_that_gives_no_numbers_is_not_built(here: Here, tmp_path: Path) -> None:
    model = TinyModel()
    source = model.input("x", (1, 4))
    model.outputs.append(model.operator("LOG", [source], model.tensor("y", (1, 4))))
    path = model.write(tmp_path / "log.tflite")
    refused(here("build", path, "-t", "rpi4", "--out", "out"), 5, path)


@pytest.mark.parametrize(("kind", "code"), [("CUMSUM", 2), ("FULLY_CONNECTED", 5)])
def test_a_model_that_the_runtime_refuses(here: Here, tmp_path: Path, kind: str, code: int) -> None:
    path = unloadable(kind).write(tmp_path / "odd.tflite")
    refused(here("build", path, "-t", "rpi4", "--out", "out"), code, path, "the runtime cannot load it")


def unloadable(kind: str) -> TinyModel:
    """Return a model that can be read and counted, and that the runtime refuses."""
    model = TinyModel()
    source = model.input("x", (1, 4))
    if kind == "CUMSUM":  # its axis is missing
        model.outputs.append(model.operator(kind, [source], model.tensor("y", (1, 4))))
    else:  # its weights are for five values
        model.outputs.append(model.dense(source, "dense", np.eye(3, 5)))
    return model


DAMAGE = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.floats(0, 1, exclude_max=True), st.integers(0, 7)),
        st.tuples(st.just("cut"), st.floats(0, 1), st.just(0)),
    ),
    min_size=1,
    max_size=4,
)


def damaged(damage: list[tuple[str, float, int]]) -> bytes:
    content = bytearray(separable().content())
    for kind, share, bit in damage:
        place = int(share * len(content))
        if kind == "cut":
            del content[place:]
        elif content:
            content[min(place, len(content) - 1)] ^= 1 << bit
    return bytes(content)


MANY = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@settings(MANY, max_examples=60)
@given(DAMAGE)
def test_a_damaged_file_is_inspected_or_refused(
    here: Here, tmp_path: Path, damage: list[tuple[str, float, int]]
) -> None:
    path = tmp_path / "damaged.tflite"
    path.write_bytes(damaged(damage))
    answer = here("inspect", path, "--target", "rpi4")
    assert answer.code in (0, 2), answer.stderr
    if answer.code:
        assert answer.message.startswith(f"{path}: ")


@settings(MANY, max_examples=10)
@given(DAMAGE)
def test_a_damaged_file_is_built_or_refused(here: Here, tmp_path: Path, damage: list[tuple[str, float, int]]) -> None:
    path = tmp_path / "damaged.tflite"
    path.write_bytes(damaged(damage))
    out = tmp_path / "built"
    for file in (*out.glob("*"),):
        file.unlink()
    answer = here("build", path, "-t", "rpi4", "-r", "float32", "--out", out)
    assert answer.code in (0, 2, 5), answer.stderr
    if answer.code:
        assert str(path) in answer.message
        assert not list(out.glob("*"))


def test_out_folders_that_cannot_be(here: Here, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out, said in (("file", "is a file"), ("file/deep", "needs a folder there"), ("/proc/out", "cannot be written")):
        refused(here("build", tiny, "-t", "rpi4", "--out", out), 2, out, said)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("limit_bytes", [3_000, 70_000])
def test_files_that_cannot_be_written_whole_leave_nothing(
    cli: CommandLine, float_digits: Path, tmp_path: Path, limit_bytes: int
) -> None:
    run = dataclasses.replace(cli, home=tmp_path / "store")
    command = ("build", float_digits, "-t", "rpi4", "--out", tmp_path / "out")
    answer = run(*command, file_limit_bytes=limit_bytes)
    assert answer.code == 5, answer.stderr
    assert "file too large" in answer.message.lower()
    assert not (tmp_path / "out").exists()
    assert run("store", "list").code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 300 KiB, less than a build of the digits takes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        text = f"mounting a small disk needs rights: {mounted.stderr.strip()}"
        if os.environ.get("EDGESHIP_REQUIRE_LAB") == "1":
            pytest.fail(text)
        pytest.skip(text)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_and_leaves_nothing(
    cli: CommandLine, float_digits: Path, small_disk: Path, tmp_path: Path
) -> None:
    command = ("build", float_digits, "-t", "rpi4", "--out")
    full_store = dataclasses.replace(cli, home=small_disk / "store")(*command, tmp_path / "out")
    assert full_store.code == 5, full_store.stderr
    assert "no space left" in full_store.message.lower()
    assert not (tmp_path / "out").exists()
    (small_disk / "filler").write_bytes(b"x" * 280 * 1024)
    full_out = cli(*command, small_disk / "out")
    assert full_out.code == 5, full_out.stderr
    assert full_out.message.startswith(str(small_disk))  # not what was copied there
    assert "no space left" in full_out.message.lower()
    assert not (small_disk / "out").exists()


@pytest.fixture
def built(here: Here, tiny: Path, own_store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Build the small model once in a store of its own; return how to build it again."""
    monkeypatch.setenv("EDGESHIP_HOME", str(own_store))

    def again(*more: str) -> Answer:
        return here("build", tiny, "-t", "rpi4", "--out", "out", *more)

    assert again().code == 0
    return again


def test_a_damaged_object_in_the_store_is_made_again(built: Callable[..., Answer], own_store: Path) -> None:
    sha = of_file(Path("out/model.tflite"))
    path = Store(own_store).path(sha)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    answer = built("--json")
    assert answer.code == 0, answer.stderr
    stages = {stage["stage"]: (stage["outcome"], stage["why"]) for stage in answer.table["stages"]}
    assert stages["quantize"] == ("ran", "its stored model.tflite was missing or damaged")
    assert stages["import"][0] == stages["verify"][0] == "cached"
    assert of_file(path) == sha == of_file(Path("out/model.tflite"))


def test_a_result_that_does_not_load_again_leaves_the_out_folder_as_it_was(
    built: Callable[..., Answer], own_store: Path, tmp_path: Path
) -> None:
    """The quantizer's stored result is put in place of one that the runtime refuses, as a broken quantizer would."""
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    model = TinyModel()
    image = model.input("image", (1, 16, 16, 3))
    model.outputs.append(model.operator("CUMSUM", [image], model.tensor("softmax", (1, 10))))
    with Store(own_store) as opened:
        sha = opened.keep(model.write(tmp_path / "bad"))
        (entry,) = [found for found in opened.entries() if found.stage == "quantize"]
        place = opened.stages / f"{entry.key}.json"
        record = store._read_sealed(place)
        assert record is not None
        store.write_whole(place, store._sealed({**record, "files": {"model.tflite": sha}}))
        (whole,) = [found for found in opened.entries() if found.stage == "build"]
        (opened.stages / f"{whole.key}.json").unlink()  # else the build is known to be unchanged, and no stage is asked
    answer = built()
    assert answer.code == 5, answer.stderr
    assert "tiny.tflite after int8: the runtime cannot load it" in answer.message
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
    fresh = built("--fresh")
    assert fresh.code == 0, fresh.stderr
