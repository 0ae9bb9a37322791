"""The history where something fails for real: writers that are killed, a full disk, a server that ends its connections."""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
import time
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, inspect, text

from edgeship import history
from edgeship.errors import BadInput, EdgeshipError, StageFailed
from edgeship.history import keeping, revision, schema
from edgeship.history.database import Database
from tests.lab.test_history import CASE, NIGHT, run, url

__all__ = ["url"]  # a fixture
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["edgeship.history.keeping", "edgeship.history.revision", "alembic.command"])
_TOGETHER = 3


def _stop_in_the_middle(url: str, ready: Any) -> None:
    database = Database(url)
    with database.writing() as connection:
        keeping.keep(connection, [run(1), run(2)])
        ready.set()
        time.sleep(120)


def test_a_writer_killed_in_the_middle_leaves_nothing_and_bars_nobody(url: str) -> None:
    with history.open(url) as kept:
        kept.begin(NIGHT)
        ready = _PROCESSES.Event()
        process = _PROCESSES.Process(target=_stop_in_the_middle, args=(url, ready))
        process.start()
        assert ready.wait(120)
        assert kept.find(night="n1") == ()
        process.kill()
        process.join()
        assert kept.keep(run(1)) == 1
        assert [one.id for one in kept.find(night="n1")] == ["n1/1"]


def _write_on(url: str, writer: str, writing: Any) -> None:
    with history.open(url) as kept:
        kept.begin(NIGHT)
        for number in count():
            kept.keep(*(run(part, id=f"{writer}-{number}-{part}") for part in range(_TOGETHER)))
            writing.set()


def test_two_writers_killed_again_and_again_leave_whole_keeps(url: str) -> None:
    chance = random.Random(0)
    for turn in range(4):
        writing = [_PROCESSES.Event() for _ in range(2)]
        names = [f"{turn}{side}" for side in "ab"]
        processes = [
            _PROCESSES.Process(target=_write_on, args=(url, name, begun))
            for name, begun in zip(names, writing, strict=True)
        ]
        for process in processes:
            process.start()
        for begun, process in zip(writing, processes, strict=True):
            assert begun.wait(120)
            time.sleep(chance.uniform(0, 0.2))
            process.kill()
            process.join()
    database = Database(url)
    with database.reading() as connection:
        for table in ("runs", "records", "conditions"):
            column = "id" if table == "runs" else "run_id"
            keeps = Counter(
                name.rpartition("-")[0] for name in connection.execute(text(f"SELECT {column} FROM {table}")).scalars()
            )
            assert len(keeps) >= 8 and set(keeps.values()) == {_TOGETHER}, table
    database.close()


def _open_at_once(url: str, barrier: Any) -> None:
    barrier.wait()
    with history.open(url) as kept:
        assert kept.accept(CASE, "b" * 64) == 1


def test_two_processes_upgrade_an_old_database_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    upgrade = command.upgrade
    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
        with history.open(url) as kept:
            kept.begin(NIGHT)
    barrier = _PROCESSES.Barrier(2)
    processes = [_PROCESSES.Process(target=_open_at_once, args=(url, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    with history.open(url) as kept:
        assert len(kept.levels(CASE)) == 1 and kept.night("n1").cases == (CASE,)


def test_an_upgrade_that_fails_leaves_the_old_tables(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    upgrade = command.upgrade
    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, "0002"))
        with history.open(url) as kept:
            kept.begin(NIGHT)
    database = Database(url)
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE findings ADD COLUMN effect FLOAT"))
    with pytest.raises(EdgeshipError, match="effect"):
        revision.upgrade(database)
    with database.writing() as connection:
        assert connection.execute(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")).scalar() == "0002"
        assert "fault" not in {column["name"] for column in inspect(connection).get_columns("runs")}
        connection.execute(text("ALTER TABLE findings DROP COLUMN effect"))
    revision.upgrade(database)
    database.close()


def test_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with history.open(str(path)) as kept:
        kept.begin(NIGHT)
    with history.open(str(path)) as kept:
        kept._database.close()  # the connection that looked at the tables

        @event.listens_for(kept._database.engine, "connect")
        def limit(raw: Any, _record: object) -> None:
            raw.execute("PRAGMA max_page_count = 80")

        number = 0
        with pytest.raises(StageFailed, match=r"history\.sqlite: not written: no space left") as refused:
            for number in range(500):
                kept.keep(run(number % 60, id=f"n1/{number}"), run(number % 60, id=f"n1/{number}b"))
        assert refused.value.hint == "free some space; what was kept before is whole"
        assert number and len(kept.find(night="n1")) == 2 * number
    with history.open(str(path)) as kept:
        assert kept.keep(run(1, id="n1/later")) == 1
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_databases_of_another_encoding(postgresql: str, encoding: str) -> None:
    name = f"other_{encoding.lower()}"
    template = "TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    admin = Database(postgresql)
    with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
        connection.execute(text(f"CREATE DATABASE {name} ENCODING '{encoding}' {template}"))
    other = admin.url.set(database=name).render_as_string(hide_password=False)
    admin.close()
    night = replace(NIGHT, suite="Küche", cases=(replace(CASE, device="wärmer ☃"),))
    with history.open(other) as kept:
        if encoding == "SQL_ASCII":
            assert kept.begin(night) and kept.night("n1").cases == night.cases
        else:
            with pytest.raises(BadInput, match="its encoding lacks a character"):
                kept.begin(night)
            assert kept.begin(NIGHT)


def test_a_server_that_ends_its_connections(postgresql: str) -> None:
    with history.open(postgresql) as kept, kept.lease("kitchen", holder="desk-1", seconds=2) as lease:
        kept.begin(NIGHT)
        assert kept.keep(run(1)) == 1
        _end_connections(postgresql)
        assert kept.keep(run(2)) == 1  # by a new connection
        with (
            pytest.raises(StageFailed, match="it was shut down: terminating connection"),
            kept._database.writing() as connection,
        ):
            keeping.keep(connection, [run(3)])
            _end_connections(postgresql)
            keeping.keep(connection, [run(4)])
        assert len(kept.find(night="n1")) == 2
        time.sleep(2)
        lease.check()  # renewed by new connections as well


def _end_connections(url: str) -> None:
    database = Database(url)
    with database.reading() as connection:
        mine = "datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}"))
    database.close()


def test_options_that_no_server_knows(postgresql: str) -> None:
    with pytest.raises(BadInput, match="invalid connection option") as refused:
        history.open(f"{postgresql}&nonsense=1").__enter__()
    assert refused.value.hint == "postgresql://USER@HOST:PORT/DATABASE"
