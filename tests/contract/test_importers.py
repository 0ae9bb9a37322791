"""Every importer is asked the same: bring a small model, name its inputs and outputs, give what the model itself gives."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from edgeship import child, flatbuffer, interpret
from edgeship.importers import IMPORTERS, Imported, Request, recognize
from tests import tiny_keras, tiny_onnx

SOURCES = {
    "onnx": ("image_and_vector.onnx",),
    "keras": ("keras.keras", "tf_keras.keras", "tf_keras.h5", "keras.h5"),
    "pytorch": ("two_inputs-recorded-torch-2.13.0.pt2",),
    "saved_model": ("saved_model",),
    "tflite": ("float.tflite",),
}
CASES = [(name, source) for name, sources in SOURCES.items() for source in sources]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    child.run(partial(tiny_keras.make_all, folder=folder), log=folder / "log.txt", timeout_s=600)
    tiny_onnx.save(tiny_onnx.two_inputs(), folder / "image_and_vector.onnx")
    for program in SOURCES["pytorch"]:
        shutil.copyfile(Path(__file__).parent.parent / "data" / "torch" / program, folder / program)
    return folder


@pytest.fixture(scope="module")
def brought(folder: Path, session_store: Path) -> dict[str, tuple[Request, Imported]]:
    requests = [Request(folder / source, folder / f"{source}.out", folder / f"{source}.npz") for _, source in CASES]
    home = {"EDGESHIP_HOME": str(session_store)}
    bring = partial(tiny_keras.bring_all, requests=requests)
    answers = child.run(bring, log=folder / "log.txt", timeout_s=1800, environment=home)
    found = {}
    for request, answer in zip(requests, answers, strict=True):
        assert isinstance(answer, Imported), answer
        found[request.source.name] = (request, answer)
    return found


def test_every_importer_is_asked_and_the_dict_is_sorted() -> None:
    assert list(IMPORTERS) == sorted(IMPORTERS)
    assert set(SOURCES) == set(IMPORTERS)


def test_recognizing_loads_no_heavy_library() -> None:
    code = "import sys, edgeship.importers; print([n for n in ('tensorflow', 'h5py', 'keras', 'ai_edge_litert', 'onnx', 'onnxruntime') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", IMPORTERS)
def test_it_introduces_itself(name: str) -> None:
    importer = IMPORTERS[name]
    assert importer.SUMMARY and "\n" not in importer.SUMMARY
    assert all(version(package) for package in importer.PACKAGES)


@pytest.mark.parametrize(("name", "source"), CASES)
def test_it_recognizes_its_own_and_no_other(name: str, source: str, folder: Path) -> None:
    assert [other for other in IMPORTERS if IMPORTERS[other].recognizes(folder / source)] == [name]
    assert recognize(folder / source) == name


@pytest.mark.parametrize(("name", "source"), CASES)
def test_the_reference_gives_what_the_source_gives(
    name: str, source: str, brought: dict[str, tuple[Request, Imported]], tmp_path: Path
) -> None:
    request, imported = brought[source]
    (ran,) = interpret.outputs([interpret.Job(request.reference, request.check)], log=tmp_path / "log.txt")
    with np.load(request.check) as check:
        assert {key for key in check.files if key.startswith("input:")} == {f"input:{n}" for n in imported.input_names}
        for output in imported.output_names:
            expected = check[f"output:{output}"]
            assert len(expected) == imported.examples >= 8
            assert np.ptp(expected) > 1e-3
            assert np.abs(ran.outputs[output] - expected).max() <= max(1e-4 * np.ptp(expected), 1e-6)


@pytest.mark.parametrize(("name", "source"), CASES)
def test_the_reference_is_float_with_a_batch_of_one_and_the_source_s_names(
    name: str, source: str, brought: dict[str, tuple[Request, Imported]]
) -> None:
    request, imported = brought[source]
    interface = flatbuffer.read(request.reference).interface
    shapes = {spec.name: spec.shape for spec in interface.inputs}
    assert set(imported.input_names) == set(shapes) == {"image", "extra"}
    if name != "tflite":  # a TFLite file is the reference as it is
        assert shapes == {"image": (1, 8, 8, 3), "extra": (1, 4)}
    assert set(imported.output_names) == {spec.name for spec in interface.outputs} == {"scores", "angle"}
    assert {spec.dtype for spec in (*interface.inputs, *interface.outputs)} == {"float32"}
    assert imported.checked_against and imported.tools
    assert imported.trainable == (name == "keras")
