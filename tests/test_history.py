"""What a history is kept in, named by people; samples come back to the last bit."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship import history
from edgeship.errors import BadInput
from edgeship.history import packing
from tests import sample_bench


@given(st.lists(st.floats(allow_nan=False)) | st.lists(st.integers(0, 10**13).map(lambda ns: ns / 1e6)))
def test_samples_come_back_to_the_last_bit(values: list[float]) -> None:
    found = packing.unpack_ms(packing.pack_ms(tuple(values)))
    assert found is not None and [value.hex() for value in found] == [value.hex() for value in values]


@pytest.mark.parametrize("number", range(4))
def test_a_record_comes_back(number: int) -> None:
    bench = sample_bench.every()[number]
    assert packing.unpack(packing.pack(bench)) == bench


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://me:hidden@host/x", "mysql://me:\\*\\*\\*@host/x: a history cannot be kept in mysql"),
        ("postgresql://me:hidden@host:port/x", "postgresql://\\*\\*\\*@host:port/x: not the URL of a database"),
        ("sqlite://", "a history is a file, not memory"),
    ],
)
def test_urls_that_name_no_history(url: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as refused:
        history.open(url)
    assert "hidden" not in f"{refused.value.message} {refused.value.hint}"


def test_files_that_are_no_history(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a folder; the file of a history is expected"):
        history.open(str(tmp_path))
    (tmp_path / "text").write_text("no database at all, but text that is long enough to look at" * 20)
    with pytest.raises(BadInput, match="text: damaged, or no SQLite file"):
        history.open(str(tmp_path / "text")).__enter__()
    with pytest.raises(BadInput, match="its folder cannot be made"):
        history.open(str(tmp_path / "text" / "history.sqlite"))


def test_the_history_lies_beside_the_store(own_store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with history.open() as kept:
        assert kept.where == str(own_store / "history.sqlite") and kept.cases() == ()
    with sqlite3.connect(own_store / "history.sqlite") as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    monkeypatch.setenv("EDGESHIP_HISTORY", f"sqlite:///{tmp_path}/other.sqlite")
    with history.open() as kept:
        assert kept.where == f"{tmp_path}/other.sqlite"
