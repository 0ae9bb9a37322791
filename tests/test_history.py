"""What a history is kept in, named by people; samples come back to the last bit."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeship import history, history_view
from edgeship.errors import BadInput, EdgeshipError
from edgeship.gate import Verdict
from edgeship.history import packing
from edgeship.nightly_record import Case, Fault, Finding, NightRecord, Run
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
        (
            "postgresql://host:port/x?user=me&password=hidden",
            "postgresql://host:port/x.user=me&password=\\*\\*\\*: not the URL",
        ),
        ("postgresql://me:x@hidden@host/x", "^a password with @, / or : in it is not understood"),
        ("postgresql://me/x:hidden@host/x", "^a password with @, / or : in it is not understood"),
        ("mysql://me:x@hidden@host/x", "^a password with @, / or : in it is not understood"),
        ("sqlite:///x.sqlite?key=hidden", "x.sqlite.key=\\*\\*\\*: an SQLite file takes no options"),
        ("sqlite://", "a history is a file, not memory"),
        ("sqlite:///x.sqlite?mode=ro", "an SQLite file takes no options"),
        ("file:x.sqlite", "file:…: not the URL of a database"),
        ("postgresql:me:hidden@host/x", "postgresql:…: not the URL of a database"),
        ("x" * 300, "its folder cannot be made: File name too long"),
        ("/dev/null", "/dev/null: no ordinary file"),
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


def one_night(path: Path) -> Path:
    """Return the file of a history of one run."""
    case = Case("resnet8", "rpi4", "int8", "kitchen")
    at, sha = "2026-11-20T01:00:00+00:00", "a" * 64
    verdict = Verdict("latency", "same", 0.0, None, 0.5, 0.01, "why", 0, 1, None, None, 0.01, 0.3)
    with history.open(str(path)) as kept:
        kept.begin(NightRecord("n1", "drawer", at, None, (case,)))
        kept.keep(
            Run("n1/1", "n1", "drawer", case, "new", 1, at, sha, sample_bench.record(), manifest={"size_bytes": 9})
        )
        kept.keep_findings(Finding("n1", case, verdict, None, None))
    return path


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE records SET body = x'01ff'", "run n1/1 cannot be read: Error -3 while decompressing"),
        ("UPDATE records SET samples = x'6effff'", "run n1/1 cannot be read: Error -3"),
        ("UPDATE records SET samples = x''", "run n1/1 cannot be read"),
        ("UPDATE conditions SET body = (SELECT body FROM manifests)", "run n1/1 cannot be read: .* validation error"),
        ("UPDATE manifests SET body = x'01'", "manifest [0-9a-f]{64} cannot be read"),
        ("UPDATE nights SET options = '{'", "the options of night n1 cannot be read"),
        (
            "UPDATE findings SET verdict = '{}'",
            "the verdict of night n1 on the latency of resnet8/rpi4/int8@kitchen cannot be",
        ),
        ("DROP TABLE conditions", "no such table: conditions: its tables are not as edgeship made them"),
    ],
)
def test_what_is_damaged_is_named(damage: str, words: str, tmp_path: Path) -> None:
    path = one_night(tmp_path / "history.sqlite")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute(damage)
    with history.open(str(path)) as kept, pytest.raises(BadInput, match=rf"history\.sqlite: {words}") as refused:
        kept.night("n1")
    assert refused.value.hint


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_damaged_files_are_refused_in_words_or_read(data: st.DataObject) -> None:
    whole = _whole_file()
    start = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=200))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "history.sqlite"
        path.write_bytes(whole[:start] + noise + whole[start + len(noise) :])
        with contextlib.suppress(EdgeshipError), history.open(str(path)) as kept:
            kept.night("n1")
            kept.histories()
            kept.export(Path(name) / "out.json")


@cache
def _whole_file() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        return one_night(Path(name) / "history.sqlite").read_bytes()


@pytest.mark.parametrize("size", [math.nan, math.inf, "many", 10**30, None, [], True, 12.5])
def test_figures_of_any_manifest_are_kept(size: object, tmp_path: Path) -> None:
    path = one_night(tmp_path / "history.sqlite")
    bench = sample_bench.record()
    odd = replace(
        bench,
        samples_ms=(math.nan, math.inf, 1.0),
        latency_ms=replace(bench.latency_ms, p50=math.nan, mean=math.inf, ci95=(-math.inf, math.nan)),
    )
    with history.open(str(path)) as kept:
        (case,) = kept.cases()
        manifest = {"size_bytes": size, "quality": {"got": size}}
        at = "2026-11-20T01:01:00+00:00"
        assert kept.keep(Run("n1/2", "n1", "drawer", case, "new", 2, at, None, odd, manifest=manifest)) == 1
        assert kept.points(case)[1].value is None and len(kept.nights(case)[0].figures.new) == 1
        (_, found) = kept.find(night="n1")
        assert found.bench is not None and repr(found.bench.samples_ms) == "(nan, inf, 1.0)"
        for ending in ("json", "csv", "parquet"):
            assert kept.export(tmp_path / f"out.{ending}") == 2


def test_the_history_lies_beside_the_store(own_store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with history.open() as kept:
        assert kept.where == str(own_store / "history.sqlite") and kept.cases() == ()
    with sqlite3.connect(own_store / "history.sqlite") as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    monkeypatch.setenv("EDGESHIP_HISTORY", f"sqlite:///{tmp_path}/other.sqlite")
    with history.open() as kept:
        assert kept.where == f"{tmp_path}/other.sqlite"


def _night(kept: history.History, number: int, run: Run | None = None) -> NightRecord:
    """Keep a night of one case."""
    at = f"2026-11-{number:02}T01:00:00+00:00"
    night = NightRecord(f"n{number}", "drawer", at, None, (Case("resnet8", "rpi4", "int8", "kitchen"),))
    kept.begin(night)
    if run is not None:
        kept.keep(run)
    return night


def test_what_was_never_measured_cannot_be_accepted(tmp_path: Path) -> None:
    """An artifact whose runs all ended with a fault, or under broken conditions, is no level."""
    case, bench = Case("resnet8", "rpi4", "int8", "kitchen"), sample_bench.record()
    fault = Fault("device", "kitchen: nothing answers", 6)
    with history.open(str(tmp_path / "history.sqlite")) as kept:
        _night(kept, 1, Run("n1/1", "n1", "drawer", case, "new", 1, "2026-11-01T01:00:00+00:00", "a" * 64, bench))
        _night(kept, 2, Run("n2/1", "n2", "drawer", case, "new", 1, "2026-11-02T01:00:00+00:00", "b" * 64, fault=fault))
        with pytest.raises(BadInput, match="no artifact was measured that begins with bbb"):
            history_view.accept(kept, case, "bbb")
        assert history_view.accept(kept, case, None) == ("a" * 64, 1)


def test_the_same_artifact_is_accepted_again_where_nights_lie_between(tmp_path: Path) -> None:
    """A system update made the same bytes slower, and that is accepted; twice at once it is one level."""
    case, sha = Case("resnet8", "rpi4", "int8", "kitchen"), "a" * 64
    with history.open(str(tmp_path / "history.sqlite")) as kept:
        _night(kept, 1)
        assert kept.accept(case, sha, at="2026-11-01T09:00:00+00:00") == 1
        assert kept.accept(case, sha, at="2026-11-01T09:00:01+00:00") == 1
        _night(kept, 2)
        assert kept.accept(case, sha, at="2026-11-02T09:00:00+00:00") == 2
        assert [level.at[:10] for level in kept.levels(case)] == ["2026-11-01", "2026-11-02"]
