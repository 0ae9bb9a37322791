"""Damaged and hostile model files: one clear refusal each, no hang, and whatever happens inside stays in the child."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeship import child, keras_file
from edgeship.errors import BadInput, EdgeshipError
from edgeship.importers import IMPORTERS, Imported, Request, recognize
from edgeship.progress import OnProgress
from tests import tiny_keras

BATCH = 40  # damaged files read in one process
TIMEOUT_S = 240
FEW = settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
DAMAGE = st.lists(
    st.one_of(
        st.tuples(st.just("cut"), st.floats(0, 1), st.just(0)),
        st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 7)),
        st.tuples(st.just("fill"), st.floats(0, 1), st.sampled_from([0x00, 0x7F, 0xFF])),
    ),
    min_size=1,
    max_size=4,
)
Damage = list[tuple[str, float, int]]


def damaged(content: bytes, damage: Damage) -> bytes:
    """Return the content cut short, with bits flipped, or with four bytes overwritten, at places given as shares."""
    made = bytearray(content)
    for kind, share, detail in damage:
        place = int(share * max(len(made) - 1, 0))
        if kind == "cut":
            del made[place:]
        elif not made:
            break
        elif kind == "flip":
            made[place] ^= 1 << detail
        else:
            made[place : place + 4] = bytes([detail]) * len(made[place : place + 4])
    return bytes(made)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    child.run(partial(tiny_keras.make_all, folder=folder), log=folder / "log.txt", timeout_s=600)
    return folder


def described(on_progress: OnProgress, paths: list[Path]) -> list[str]:
    """Return for each file what reading it said; anything but a refusal of bad input is raised."""
    answers: list[str] = []
    for path in paths:
        try:
            answers.append(keras_file.describe(path).flavour)
        except BadInput as refusal:
            assert refusal.message.startswith(str(path))
            answers.append("refused")
    return answers


@pytest.mark.parametrize("source", ["keras.keras", "tf_keras.keras", "tf_keras.h5", "keras.h5"])
@FEW
@given(damages=st.lists(DAMAGE, min_size=BATCH, max_size=BATCH))
def test_reading_damaged_keras_files_refuses_or_succeeds(source: str, damages: list[Damage], folder: Path) -> None:
    content = (folder / source).read_bytes()
    paths = []
    for number, damage in enumerate(damages):
        path = folder / f"{number}-{source}"
        path.write_bytes(damaged(content, damage))
        paths.append(path)
    try:
        answers = child.run(partial(described, paths=paths), log=folder / "log.txt", timeout_s=20, memory_gib=4)
        assert len(answers) == BATCH
    except child.ChildCrashed:  # HDF5 aborted, or never returned: each alone, as the importer does it
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(described_alone, paths))


def described_alone(path: Path) -> None:
    try:
        keras_file.describe_apart(path)
    except BadInput as refusal:
        assert refusal.message.startswith(str(path))
        assert "\n" not in refusal.message


def bring_damaged(request: Request) -> str:
    """Import one file as a build does and return "brought" or the kind of refusal, which must be 2 or 5 in one line."""
    try:
        importer = IMPORTERS[recognize(request.source)]
        log = request.source.with_suffix(".log")
        child.run(partial(importer.bring, request=request), log=log, timeout_s=TIMEOUT_S, memory_gib=8)
    except EdgeshipError as refusal:
        assert refusal.exit_code in (2, 5)
        assert "\n" not in refusal.message
        assert "Traceback" not in refusal.message
        return type(refusal).__name__
    return "brought"


@settings(FEW, max_examples=40)
@given(damage=DAMAGE)
def test_damaged_tflite_files_are_refused_or_run(damage: Damage, folder: Path) -> None:
    path = folder / "damaged.tflite"
    path.write_bytes(damaged((folder / "float.tflite").read_bytes(), damage))
    bring_damaged(Request(path, folder / "out.tflite", folder / "out.npz"))


@settings(FEW, max_examples=2)
@given(damages=st.lists(DAMAGE, min_size=8, max_size=8))
def test_damaged_models_that_reach_tensorflow_are_refused_or_brought(damages: list[Damage], folder: Path) -> None:
    requests = []
    for number, damage in enumerate(damages):
        source = ("keras.keras", "tf_keras.h5", "saved_model", "saved_model")[number % 4]
        path = folder / f"damaged-{number}-{source}"
        if source == "saved_model":
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(folder / source, path)
            file = path / ("saved_model.pb", "variables/variables.index")[number // 4]
        else:
            shutil.copyfile(folder / source, path)
            file = path
        file.write_bytes(damaged(file.read_bytes(), damage))
        requests.append(Request(path, folder / "out.tflite", folder / "out.npz"))
    try:
        answers = child.run(
            partial(tiny_keras.bring_all, requests=requests), log=folder / "log.txt", timeout_s=TIMEOUT_S, memory_gib=8
        )
    except child.ChildCrashed:  # one of them ended the process; alone each gets its own answer
        for request in requests:
            bring_damaged(request)
        return
    for answer in answers:
        assert isinstance(answer, Imported) or (answer.exit_code in (2, 5) and "\n" not in answer.message)


def test_missing_parts_of_a_saved_model_are_named(folder: Path) -> None:
    requests = []
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        path = folder / f"without-{Path(name).name}"
        shutil.copytree(folder / "saved_model", path)
        (path / name).write_bytes(b"")
        requests.append(Request(path, folder / "out.tflite", folder / "out.npz"))
    answers = child.run(partial(tiny_keras.bring_all, requests=requests), log=folder / "log.txt", timeout_s=TIMEOUT_S)
    assert [type(answer) for answer in answers] == [BadInput] * 3


def test_open_sizes_are_asked_for_and_set(folder: Path) -> None:
    shapes: list[dict[str, tuple[int, ...]]] = [{}, {"photo": (1, 20, 24, 1)}, {"photo": (1, 20, 24, 3)}]
    requests = [
        Request(folder / f"{package}-open.h5", folder / "out.tflite", folder / "out.npz", shapes=shape)
        for package in ("keras", "tf_keras")
        for shape in shapes
    ]
    answers = child.run(partial(tiny_keras.bring_all, requests=requests), log=folder / "log.txt", timeout_s=TIMEOUT_S)
    for asked, brought, misfit in (answers[:3], answers[3:]):
        assert isinstance(asked, BadInput) and asked.hint == "--shape photo:1,224,224,1"
        assert isinstance(brought, Imported) and brought.input_names == ("photo",)
        assert isinstance(misfit, BadInput) and "does not fit" in misfit.message
