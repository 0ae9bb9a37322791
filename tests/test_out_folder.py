"""The out folder: whole or not at all, and what the user keeps there stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import out_folder
from edgeship.errors import BadInput

NAMES = ("model.tflite", "manifest.json", "report.html")


def files(mark: str) -> dict[str, Path | bytes]:
    return {
        "model.tflite": f"model {mark}".encode(),
        "manifest.json": f'{{"edgeship": "1", "mark": "{mark}"}}'.encode(),
        "report.html": mark.encode(),
    }


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def expected(mark: str) -> dict[str, str]:
    return {name: value.decode() for name, value in files(mark).items() if isinstance(value, bytes)}


def test_a_new_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    out = tmp_path / "build" / "digits" / "rpi4"
    source = tmp_path / "stored"
    source.write_text("from the store")
    out_folder.write(out, {**files("a"), "model.tflite": source})
    assert content(out) == {**expected("a"), "model.tflite": "from the store"}
    assert source.read_text() == "from the store"
    assert out.stat().st_mode & 0o777 == 0o755
    assert names(out.parent) == ["rpi4"]


def test_an_earlier_build_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out_folder.write(out, files("a"))
    out_folder.write(out, {**files("b"), "model.edgetpu": b"more"})
    assert content(out) == {**expected("b"), "model.edgetpu": "more"}
    assert names(tmp_path) == ["out"]


def test_the_users_other_files_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "notes").mkdir(parents=True)
    (out / "notes" / "a.txt").write_text("mine")
    (out / "train.py").write_text("mine too")
    for mark in "ab":
        out_folder.write(out, files(mark))
        assert (out / "notes" / "a.txt").read_text() == "mine"
        assert (out / "train.py").read_text() == "mine too"
        assert {name: (out / name).read_text() for name in NAMES} == expected(mark)
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("taken", NAMES)
@pytest.mark.parametrize("beside", [(), ("train.py",)])
def test_the_users_own_files_of_our_names_are_never_written_over(
    tmp_path: Path, taken: str, beside: tuple[str, ...]
) -> None:
    for name in (taken, *beside):
        (tmp_path / name).write_text("{}")
    with pytest.raises(BadInput, match="is there already and was not made by edgeship"):
        out_folder.check_writable(tmp_path, NAMES)
    with pytest.raises(BadInput, match="is there already and was not made by edgeship"):
        out_folder.write(tmp_path, files("a"))
    assert content(tmp_path) == dict.fromkeys((taken, *beside), "{}")


def test_what_a_kill_left_half_written_is_ours_to_write_over(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(out_folder.UNFINISHED)
    (tmp_path / "model.tflite").write_text("new")
    (tmp_path / "train.py").write_text("mine")
    out_folder.check_writable(tmp_path, NAMES)
    out_folder.write(tmp_path, files("a"))
    assert content(tmp_path) == {**expected("a"), "train.py": "mine"}


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for mark in "ab":
        out_folder.write(tmp_path / "link", files(mark))
        assert content(tmp_path / "real") == expected(mark)
    assert (tmp_path / "link").is_symlink()


def test_a_file_that_cannot_be_had_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out_folder.write(out, files("a"))
    with pytest.raises(BadInput, match="cannot be written"):
        out_folder.write(out, {**files("b"), "model.tflite": tmp_path / "gone"})
    assert content(out) == expected("a")
    assert names(tmp_path) == ["out"]


def test_places_that_cannot_be_written_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    said = {
        tmp_path / "file": "is a file; --out names a folder",
        tmp_path / "file" / "deep" / "er": "needs a folder there",
        Path("/proc/none/out"): "cannot be written",
        tmp_path / ("x" * 300): "too long",
    }
    for out, words in said.items():
        with pytest.raises(BadInput, match=words):
            out_folder.check_writable(out, NAMES)
    assert content(tmp_path) == {"file": "mine"}


def test_checking_leaves_nothing(tmp_path: Path) -> None:
    out_folder.check_writable(tmp_path / "a" / "b", NAMES)
    assert names(tmp_path) == []


def test_folders_of_the_user_are_never_swept(tmp_path: Path) -> None:
    theirs = [tmp_path / name for name in (".out.2024.backup", ".out.4194999.x", ".edgeship-notes")]
    for folder in theirs:
        folder.mkdir()
        (folder / "thesis.txt").touch()
    out_folder.write(tmp_path / "out", files("new"))
    assert all((folder / "thesis.txt").exists() for folder in theirs)
    assert sorted(names(tmp_path)) == sorted(["out", *(folder.name for folder in theirs)])


def test_a_link_to_nowhere_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    with pytest.raises(BadInput, match="gone, which is not there"):
        out_folder.check_writable(tmp_path / "out", ("model.tflite",))
