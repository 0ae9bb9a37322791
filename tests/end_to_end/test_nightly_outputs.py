"""A night whose report has no place any more, as a user runs it."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import CommandLine
from tests.end_to_end.test_nightly import night, suite
from tests.tiny_tflite import separable


def test_a_report_that_cannot_be_written_hides_no_verdict(cli: CommandLine, tmp_path: Path) -> None:
    """The folder of the one is the file of the other: the rest is written, the answer is whole, and 7 wins over 2."""
    separable().write(tmp_path / "model.tflite")
    reports = ("--junit", "out/junit.xml", "--markdown", "out", "--html", "site")
    suite(tmp_path)
    kept = night(cli, *reports)
    assert (kept.code, kept.table["exit"]) == (2, 2) and kept.table["verdicts"]
    assert kept.table["not_written"] == ["out: cannot be written: Is a directory"]
    assert "out: cannot be written" in kept.stderr

    (tmp_path / "out" / "junit.xml").unlink()
    (tmp_path / "out").rmdir()
    suite(tmp_path, tables="[[budget]]\nsize_bytes = 10")
    missed = night(cli, *reports)
    assert (missed.code, missed.table["exit"]) == (7, 7) and missed.table["not_written"]
    assert (tmp_path / "out" / "junit.xml").exists() and (tmp_path / "site" / "index.html").exists()
