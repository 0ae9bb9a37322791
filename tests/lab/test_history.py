"""The history on real databases: SQLite files and a PostgreSQL server, with processes that are killed."""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text

from edgeship import history
from edgeship.errors import BadInput, DeviceFault, EdgeshipError, NothingToDo, StageFailed
from edgeship.gate import Verdict
from edgeship.history import revision, schema
from edgeship.history.database import Database
from edgeship.measurement import Beside
from edgeship.nightly_record import Case, Fault, Finding, HealthEvent, NightRecord, Run
from tests import sample_bench
from tests.lab.postgresql import PASSWORD

ROOT = Path(__file__).parent.parent.parent
CASE = Case("resnet8", "rpi4", "int8", "kitchen")
NIGHT = NightRecord("n1", "drawer", "2026-11-20T01:00:00+00:00", None, (CASE,), options={"repeats": 3})
VERDICT = Verdict("latency", "slower", 0.05, (0.04, 0.06), 0.001, 0.01, "why", 0, 1, None, None, 0.01, 0.3)
MANIFEST = {"size_bytes": 95_000, "quality": {"got": 0.76}}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where a new history may be kept."""
    if request.param == "sqlite":
        return str(tmp_path / "history.sqlite")
    found: str = request.getfixturevalue("postgresql")
    return found


def run(number: int, **changes: Any) -> Run:
    made = Run(
        f"n1/{number}", "n1", "drawer", CASE, "new", number, f"2026-11-20T01:{number:02}:00+00:00", "a" * 64,
        sample_bench.record(), manifest=MANIFEST,
    )  # fmt: skip
    return replace(made, **changes)


def test_a_night_comes_back_as_it_was_kept(url: str) -> None:
    runs = [run(n, bench=bench) for n, bench in enumerate((*sample_bench.every()[:4], sample_bench.mean_only()))]
    words = Fault("device", "lost \0 in caf\udce9", 6, 3)
    runs.append(run(9, bench=None, manifest=None, role="old", fault=words))
    finding = Finding("n1", CASE, VERDICT, "b" * 64, "a" * 64)
    event = HealthEvent("n1", "kitchen", "2026-11-20T01:31:00+00:00", "quarantined", "three faults")
    with history.open(url) as kept:
        assert kept.begin(NIGHT) and not kept.begin(NIGHT)
        assert kept.keep(*runs) == 6
        assert kept.keep(*runs, run(0, role="old")) == 0  # the same id again changes nothing
        for _ in range(2):
            kept.keep_findings(finding)
            kept.keep_health(event)
        found = kept.unfinished("drawer")
        assert found is not None and kept.latest("drawer") is None
        assert found.runs[:5] == tuple(runs[:5])
        assert found.runs[5].fault == replace(words, message="lost \\x00 in caf\\udce9")
        assert (found.findings, found.health, found.options) == ((finding,), (event,), {"repeats": 3})
        assert kept.health("kitchen").quarantined == event
        kept.end("n1", "2026-11-20T02:00:00+00:00")
        kept.end("n1")  # the first time stands
        ended = kept.latest("drawer")
        assert ended is not None and ended.ended == "2026-11-20T02:00:00+00:00" and kept.unfinished("drawer") is None
        (point, *_) = kept.points(CASE)
        assert kept.manifest(point.manifest_sha256 or "") == MANIFEST
        (night,) = kept.nights(CASE)
        assert night.figures.new == tuple(p.value for p in kept.points(CASE) if p.valid and p.role == "new")
        assert (night.runs, night.faults, night.invalid, night.decision, night.effect) == (6, 1, 1, "slower", 0.05)


def test_times_of_runs_in_turns_are_read_at_one_pace(url: str) -> None:
    """A machine that was half as quick in two of four runs: what the gate reads is without that, every run's own time is kept."""
    told = [("old", 1.0, 10.0), ("new", 1.1, 20.0), ("new", 1.1, 10.0), ("old", 1.0, 20.0)]
    plain = sample_bench.record()
    with history.open(url) as kept:
        kept.begin(NIGHT)
        for number, (role, ratio, pace_ms) in enumerate(told):
            ms = replace(plain.latency_ms, p50=ratio * pace_ms)
            bench = replace(plain, latency_ms=ms, beside=Beside("b" * 64, ratio, pace_ms, 20))
            kept.keep(run(number, role=role, bench=bench))
        kept.keep(run(4, role="reference"))
        (night,) = kept.nights(CASE)
        assert night.figures.new == pytest.approx((16.5, 16.5)) and night.figures.paced
        assert night.figures.old == pytest.approx((15.0, 15.0))
        assert night.figures.reference == (plain.latency_ms.p50,)
        assert [point.value for point in kept.points(CASE)][:4] == pytest.approx([10.0, 22.0, 11.0, 20.0])
        (first, *_) = kept.find(night="n1", case=CASE)
        assert first.bench is not None and first.bench.beside == Beside("b" * 64, 1.0, 10.0, 20)


def test_an_accepted_level_begins_an_era(url: str) -> None:
    with history.open(url) as kept:
        for day in (20, 21, 22):
            kept.begin(replace(NIGHT, id=f"n{day}", began=f"2026-11-{day}T01:00:00+00:00"))
            kept.keep(run(day, night=f"n{day}", at=f"2026-11-{day}T01:05:00+00:00"))
        assert kept.accept(CASE, "b" * 64, at="2026-11-20T12:00:00+00:00") == 1
        assert kept.accept(CASE, "b" * 64, at="2026-11-20T12:00:01+00:00") == 1
        assert kept.accept(CASE, "c" * 64, at="2026-11-21T12:00:00+00:00") == 2
        assert [night.figures.era for night in kept.nights(CASE)] == ["", "1", "2"]
        assert [night.night for night in kept.nights(CASE, limit=2)] == ["n21", "n22"]
        assert kept.nights(CASE, "size")[0].figures.new == (95_000.0,)
        assert [level.artifact_sha256[0] for level in kept.levels(CASE)] == ["b", "c"]
        assert len(kept.histories("res*")) == 1
        with pytest.raises(BadInput, match="no case 'resnet9'; did you mean 'resnet8'"):
            kept.histories("resnet9")
        with pytest.raises(BadInput, match="no such metric 'latencies'; did you mean 'latency'"):
            kept.nights(CASE, "latencies")


def test_a_run_is_kept_whole_or_not_at_all(url: str) -> None:
    with history.open(url) as kept:
        with pytest.raises(BadInput, match="night n1: never begun"):
            kept.keep(run(1))
        kept.begin(NIGHT)
        with pytest.raises(ValueError, match="isoformat"):
            kept.keep(run(1), run(2, at="yesterday"))
        assert kept.find(night="n1") == ()
        database = Database(url)
        with pytest.raises(RuntimeError), database.writing() as connection:
            from edgeship.history import keeping

            keeping.keep(connection, [run(1)])
            raise RuntimeError
        assert kept.find(night="n1") == ()
        database.close()


def test_many_write_at_once(url: str) -> None:
    with history.open(url) as kept:
        kept.begin(NIGHT)
        new: list[int] = []
        cases = [replace(CASE, device=f"board{n}") for n in range(4)]
        runs = [run(n, case=cases[n % 4], bench=None, fault=Fault("timeout", "late", 6)) for n in range(16)]

        def write(order: list[Run]) -> None:
            new.append(kept.keep(*order))

        threads = [threading.Thread(target=write, args=(runs[:: 1 if n % 2 else -1],)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(new) == 16 and len(kept.find(night="n1")) == 16


def _opened(url: str) -> None:
    with history.open(url) as kept:
        kept.begin(NIGHT)


def test_several_processes_open_a_new_database_at_once(url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_opened, args=(url,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]


@pytest.mark.parametrize("version", ["0001", "0002"])
def test_old_databases_are_upgraded_with_what_is_in_them(
    url: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import command

    upgrade = command.upgrade
    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, version))
        with history.open(url) as kept:
            kept.begin(NIGHT)
    row = {"night_id": "n1", "case_id": 1}
    run_row = {"id": "n1/1", "suite": "drawer", "role": "new", "ordinal": 1, "at": "2026-11-20T01:01:00", "at_s": 1.0}
    told = {"metric": "latency", "decision": "slower", "verdict": json.dumps(asdict(replace(VERDICT, p=math.nan)))}
    fault = {"run_id": "n1/1", "cause": "device", "message": "lost", "exit_code": 6, "tries": 2}
    database = Database(url)
    with database.writing() as connection:
        for table, values in (("runs", row | run_row), ("faults", fault), ("findings", row | told)):
            names = ", ".join(f":{name}" for name in values)
            connection.execute(text(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({names})"), values)
    database.close()
    with history.open(url) as kept:
        assert kept.accept(CASE, "b" * 64) == 1  # a table that version 0001 lacks
        assert kept.night("n1").options == NIGHT.options
        (night,) = kept.nights(CASE)
        assert (night.runs, night.faults, night.decision, night.effect) == (1, 1, "slower", 0.05)
        assert [point.fault for point in kept.points(CASE)] == ["device"]


def test_newer_databases_are_refused(url: str) -> None:
    database = Database(url)
    revision.upgrade(database)
    with database.writing() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(BadInput, match=rf"by a newer edgeship \(tables 9999, this one knows up to {schema.VERSION}\)"):
        history.open(url).__enter__()
    database.close()


def test_migrations_make_what_the_queries_expect(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = Database(url)
    revision.upgrade(database)
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, schema.METADATA) == []
        assert set(inspect(connection).get_table_names()) == {*schema.METADATA.tables, schema.VERSION_TABLE}
    database.close()


def test_a_lease_has_one_holder(url: str) -> None:
    with history.open(url) as kept:
        with kept.lease("kitchen", holder="night 7 on desk-1") as lease:
            assert lease.held
            with pytest.raises(DeviceFault, match="kitchen: busy: held by night 7 on desk-1 since 20") as refused:
                kept.lease("kitchen", holder="desk-2").__enter__()
            assert refused.value.fault == "busy"
            with kept.lease("attic", holder="desk-2"):
                pass
        assert kept.holding("kitchen") is None
        with kept.lease("kitchen", holder="desk-2") as again:
            assert again.token > lease.token
            kept.begin(NIGHT)
            with pytest.raises(DeviceFault, match="kitchen: the lease was lost"):
                kept.keep(run(1), lease=lease)  # an earlier holder writes no more
            assert kept.keep(run(1), lease=again) == 1


def test_a_lease_is_renewed_as_long_as_it_is_held(url: str) -> None:
    with history.open(url) as kept, kept.lease("kitchen", holder="desk-1", seconds=2) as lease:
        time.sleep(3)
        lease.check()
        with pytest.raises(DeviceFault, match="busy"):
            kept.lease("kitchen", holder="desk-2").__enter__()


def _hold(url: str, ready: Any, told: Any) -> None:
    with history.open(url) as kept, kept.lease("kitchen", holder="stopped", seconds=1) as lease:
        ready.set()
        while lease.held:
            time.sleep(0.02)
        told.set()


def test_a_holder_that_stood_still_knows_that_its_lease_is_lost(url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, told = spawn.Event(), spawn.Event()
    process = spawn.Process(target=_hold, args=(url, ready, told))
    process.start()
    try:
        assert ready.wait(120)
        os.kill(process.pid or 0, signal.SIGSTOP)
        with history.open(url) as kept, kept.lease("kitchen", holder="next", seconds=60, wait_s=30):
            os.kill(process.pid or 0, signal.SIGCONT)
            assert told.wait(60)
            found = kept.holding("kitchen")
            assert found is not None and found.holder == "next"
    finally:
        process.kill()
        process.join()


def test_killed_holders_never_share_a_device(url: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "bench_leases.py"), "--attempts", "16", "--url", url],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_export(url: str, tmp_path: Path) -> None:
    with history.open(url) as kept:
        with pytest.raises(NothingToDo, match="the history is empty"):
            kept.export(tmp_path / "out.json")
        kept.begin(NIGHT)
        kept.keep(run(0), run(1, bench=sample_bench.garbage()), run(2, bench=None, fault=Fault("device", "lost", 6)))
        assert [kept.export(tmp_path / f"out.{kind}") for kind in ("json", "csv", "parquet")] == [3, 3, 3]
        with pytest.raises(BadInput, match=r"out\.xml: its ending has to be one of \.json, \.csv, \.parquet"):
            kept.export(tmp_path / "out.xml")
        with pytest.raises(BadInput, match="cannot be written"):
            kept.export(tmp_path / "no" / "out.csv")
        with pytest.raises(NothingToDo, match="no case to write fits 'x'"):
            kept.export(tmp_path / "out.csv", "x")
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["runs"][0]["bench"]["samples_ms"] == list(sample_bench.record().samples_ms or ())
    assert told["runs"][1]["bench"]["golden"]["max_abs_error"] is None  # it was no number
    assert [one["manifest"] for one in told["manifests"]] == [MANIFEST]
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [row["fault"] for row in rows] == ["", "", "device"]
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert tuple(table[0]["samples_ms"]) == sample_bench.record().samples_ms and table[2]["samples_ms"] is None
    assert sorted(path.name for path in tmp_path.glob("*out*")) == ["out.csv", "out.json", "out.parquet"]


def test_refusals_of_a_server_tell_no_password(postgresql: str) -> None:
    secret = postgresql.partition("edge:")[2].partition("@")[0]
    wrong = {
        postgresql.replace(secret, "another-secret"): "the user or the password is not taken",
        postgresql.replace("/test_", "/nowhere_"): "there is no such database",
        f"postgresql://edge:{secret}@127.0.0.1:1/x": "cannot be reached",
        f"postgresql://edge@/x?host=/nonexistent&password={secret}": "cannot be reached",
    }
    for url, words in wrong.items():
        with pytest.raises(EdgeshipError, match=words) as refused:
            history.open(url).__enter__()
        told = f"{refused.value.message} {refused.value.hint}"
        assert not any(word in told for word in (secret, PASSWORD, "another-secret")), told


def test_a_file_that_is_locked_full_or_foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeship.history.database.WAIT_S", 0.2)
    path = tmp_path / "history.sqlite"
    with history.open(str(path)) as kept:
        kept.begin(NIGHT)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StageFailed, match=r"history\.sqlite: locked by another program"):
            kept.keep(run(1))
        assert kept.find(night="n1") == ()  # who reads does not wait
        other.execute("ROLLBACK")
        other.close()
    foreign = sqlite3.connect(tmp_path / "foreign.sqlite")
    foreign.execute("CREATE TABLE cookies (id INTEGER)")
    foreign.close()
    with pytest.raises(BadInput, match="a database of something else: it has tables cookies"):
        history.open(str(tmp_path / "foreign.sqlite")).__enter__()
