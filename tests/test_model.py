"""What the user calls a model: files, folders, samples, and a `model.toml` that has to be right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeship import digest, model
from edgeship.errors import BadInput
from edgeship.examples import Preparation


def entry(folder: Path, text: str = "", *, source: str = "net.tflite", sha: str | None = None) -> Path:
    """Write a model folder; `text` comes after the two keys that have to be there."""
    folder.mkdir(exist_ok=True)
    (folder / "net.tflite").write_bytes(b"content")
    found = sha or digest.of_bytes(b"content")
    (folder / "model.toml").write_text(f'source = "{source}"\nsha256 = "{found}"\n{text}')
    return folder


def test_a_file_is_itself(tmp_path: Path) -> None:
    (tmp_path / "net.v2.tflite").write_bytes(b"content")
    found = model.find(str(tmp_path / "net.v2.tflite"))
    assert (found.name, found.source) == ("net.v2", tmp_path / "net.v2.tflite")
    assert found.sha256 == digest.of_bytes(b"content")
    assert (found.data, found.metric, found.max_drop, found.labels) == (None, None, None, ())


def test_a_folder_with_an_entry_says_it_all_once(tmp_path: Path) -> None:
    text = (
        'labels = ["cat", "dog"]\n[inputs.image]\nscale = 2\noffset = [1, 2.5, 3]\nrange = [0, 1]\n'
        '[data]\nfile = "data.npz"\n[quality]\nmetric = "top1"\nmax_drop = 0.02\n'
    )
    entry(tmp_path / "net", text)
    (tmp_path / "net" / "data.npz").touch()
    found = model.find(str(tmp_path / "net"))
    assert found.name == "net"
    assert found.data == tmp_path / "net" / "data.npz"
    assert found.calibration is None
    assert found.preparation == {"image": Preparation((2.0,), (1.0, 2.5, 3.0), (0.0, 1.0))}
    assert (found.metric, found.max_drop, found.labels) == ("top1", 0.02, ("cat", "dog"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[data]\nfile = "gone.npz"', "its data file 'gone.npz' is not there"),
        ("[quality]\nmaxdrop = 1", "no such key 'quality.maxdrop'; did you mean 'max_drop'?"),
        ("[inputs.image]\nscal = 1", "no such key 'inputs.image.scal'; did you mean 'scale'?"),
        ("[quality]\nmax_drop = -1", "'quality.max_drop'"),
        ("[inputs.image]\nscale = nan", "inputs.image.scale"),
        ('[inputs.image]\nlayout = "HWC"', "inputs.image.layout"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused(tmp_path: Path, text: str, said: str) -> None:
    entry(tmp_path / "net", text)
    with pytest.raises(BadInput) as refusal:
        model.find(str(tmp_path / "net"))
    assert refusal.value.message.startswith(str(tmp_path / "net" / "model.toml"))
    assert said in refusal.value.message


def test_an_entry_whose_file_is_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"net\.tflite: sha256 is .*, but .*model\.toml says a{64}"):
        model.find(str(entry(tmp_path / "net", sha="a" * 64)))
    with pytest.raises(BadInput, match=r"its source 'gone\.tflite' is not there"):
        model.find(str(entry(tmp_path / "net", source="gone.tflite")))


def test_every_sample_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert model.DEFAULT in model.samples()
    for name in model.samples():
        found = model.find(name)
        assert found.name == name
        assert found.source.exists()


def test_a_sample_is_found_beside_a_folder_of_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert model.find("digits").source.is_file()


def test_a_saved_model_counts_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "net" / "variables").mkdir(parents=True)
    (tmp_path / "net" / "saved_model.pb").write_bytes(b"graph")
    before = model.find(str(tmp_path / "net"))
    (tmp_path / "net" / "variables" / "data").write_bytes(b"weights")
    assert model.find(str(tmp_path / "net")).sha256 != before.sha256
    assert before.name == "net"


def test_what_is_no_model_is_refused_without_reading_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.tflite").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    said = {
        "empty.tflite": "the file is empty",
        "folder": "a folder without saved_model.pb or model.toml",
        "pipe": "neither a file nor a folder",
        "gone.tflite": "no such file or folder",
        "x" * 300: "cannot be read",
    }
    for name, words in said.items():
        with pytest.raises(BadInput) as refusal:
            model.find(str(tmp_path / name))
        assert refusal.value.message.startswith(str(tmp_path / name))
        assert words in refusal.value.message
    monkeypatch.setattr(digest, "of_path", lambda path: pytest.fail(f"{path} was read whole"))
    for name in ("/", "", "."):
        with pytest.raises(BadInput, match=r"without saved_model\.pb"):
            model.find(name)


def test_a_misspelt_sample_has_a_near_miss() -> None:
    with pytest.raises(BadInput, match="no such model 'digit'; did you mean 'digits'"):
        model.find("digit")
