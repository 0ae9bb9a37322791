"""Scratch folders: gone afterwards, swept when their holder is, and nobody else's folder is ever touched."""

from __future__ import annotations

from pathlib import Path

from edgeship import scratch


def test_a_folder_is_empty_and_gone_afterwards(tmp_path: Path) -> None:
    with scratch.folder(tmp_path) as made:
        assert scratch.contents(made) == []
        (made / "a").write_text("1")
        assert [path.name for path in scratch.contents(made)] == ["a"]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_renamed_stays(tmp_path: Path) -> None:
    with scratch.folder(tmp_path) as made:
        (made / "a").write_text("1")
        made.rename(tmp_path / "kept")
    assert (tmp_path / "kept" / "a").read_text() == "1"


def test_what_nobody_holds_is_swept_and_what_is_held_stays(tmp_path: Path) -> None:
    left = tmp_path / f"{scratch.PREFIX}left"
    left.mkdir()
    (left / scratch.LOCK).touch()  # as a killed process leaves it: the lock file is there, the lock is not
    (left / "model.tflite").touch()
    with scratch.folder(tmp_path) as held:
        assert not left.exists()
        scratch.sweep(tmp_path)
        assert held.exists()


def test_other_folders_are_never_swept(tmp_path: Path) -> None:
    unlocked = tmp_path / f"{scratch.PREFIX}notes"
    other = tmp_path / ".out.123.x"
    for folder in (unlocked, other):
        folder.mkdir()
        (folder / "thesis.txt").touch()
    (other / scratch.LOCK).touch()
    scratch.sweep(tmp_path)
    assert (unlocked / "thesis.txt").exists()
    assert (other / "thesis.txt").exists()
