"""One database by its URL: an SQLite file or a PostgreSQL server, and their failures in words without any password.

Reading and writing are transactions of their own. SQLite: write-ahead log, so that nobody who reads waits; a writer takes
its lock at once (BEGIN IMMEDIATE), since one that begins by reading could only fail when another wrote meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from edgeship import store, tools
from edgeship.errors import BadInput, EdgeshipError, StageFailed, near_miss
from edgeship.history import packing

FILE = "history.sqlite"
WAIT_S = 30  # for a lock that another holds
CONNECT_S = 10
CACHE_KIB = 65_536  # of an SQLite file: a case's rows lie far apart, and pages are read once for all of them
_SCHEMES = "sqlite:///FILE or postgresql://USER@HOST/DATABASE"
_NO_PATH = re.compile(r"(file|sqlite|postgres(ql)?)(\+\w+)?:(?!//)")  # a URL that lacks its slashes
_SECRET = re.compile(r"pass|secret|key", re.IGNORECASE)


class Database:
    """A pool of connections to one database; `where` names it as messages may.

    Args:
        new: a file that was asked for may be made; the usual one always may.
    """

    def __init__(self, url: str | None, *, new: bool = True) -> None:
        given = url or os.environ.get("EDGESHIP_HISTORY")
        self.url = _url(given or str(store.home() / FILE))
        self.where = _shown(self.url)
        self.lite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite(Path(self.url.database or ""), new or not given) if self.lite else _postgresql(self.url)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a transaction that writes nothing.

        Raises:
            EdgeshipError: what the database refused, in words.
        """
        with self._told(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a transaction that is kept whole when the block ends, and not at all when it raises.

        Raises:
            EdgeshipError: what the database refused, in words.
        """
        with self._told(), self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise (_of_sqlite if self.lite else _of_postgresql)(error, self) from None
        except packing.Unreadable as error:
            raise BadInput(
                f"{self.where}: {error}",
                hint="if a newer edgeship wrote it, upgrade this one; else it was damaged: take the database from a copy",
            ) from None
        except (ValueError, TypeError, LookupError):  # what cannot be: of a damaged file, or a fault of ours
            if self.lite and (said := _damage(self.where)):
                raise _damaged(self.where, said) from None
            raise

    def hidden(self, text: str) -> str:
        """Return a text without the password, should it stand in it."""
        secrets = [self.url.password, *(value for key, value in self.url.query.items() if _SECRET.search(key))]
        for secret in secrets:
            if isinstance(secret, str) and secret:
                text = text.replace(secret, "***")
        return text


def _url(text: str) -> URL:
    """Return what a text names: a URL, or the path of an SQLite file."""
    if _NO_PATH.match(text) or "\0" in text:
        raise BadInput(f"{text.partition(':')[0]}:…: not the URL of a database", hint=f"a path, {_SCHEMES}")
    if "://" not in text:
        return _file(text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise BadInput(f"{_masked(text)}: not the URL of a database", hint=f"a path, {_SCHEMES}") from None
    backend = url.get_backend_name()
    if backend != "sqlite" and ("@" in (url.host or "") or re.search(":.*@", url.database or "")):
        said = f"a password with @, / or : in it is not understood as it stands in the URL of {backend}"
        raise BadInput(said, hint="in a URL @ is written %40, / %2F and : %3A")  # which part is secret is not known
    match backend:
        case "sqlite":
            if not url.database or url.database == ":memory:":
                raise BadInput(f"{text}: a history is a file, not memory", hint=_SCHEMES)
            if url.query:
                raise BadInput(f"{_masked(text)}: an SQLite file takes no options", hint=f"sqlite:///{url.database}")
            return _file(url.database)
        case "postgresql" | "postgres":
            return url.set(drivername="postgresql+psycopg")
        case other:
            raise BadInput(f"{_shown(url)}: a history cannot be kept in {other}", hint=f"a path, {_SCHEMES}")


def _masked(text: str) -> str:
    """Return what may be no URL at all as people may see it."""
    text = re.sub(r"(\w*(?:pass|secret|key)\w*=)[^&]*", r"\1***", text, flags=re.IGNORECASE)
    return re.sub(r"(?<=://).*@", "***@", text, flags=re.DOTALL)


def _file(text: str) -> URL:
    with contextlib.suppress(RuntimeError):  # the home of a user who is none
        text = str(Path(text).expanduser())
    return URL.create("sqlite", database=text)


def _shown(url: URL) -> str:
    """Return a URL or path as people may see it."""
    if url.get_backend_name() == "sqlite":
        return url.database or ""
    query = {key: "***" if _SECRET.search(key) else value for key, value in url.query.items()}
    shown = url.set(drivername=url.get_backend_name(), query=query)
    return shown.render_as_string(hide_password=True)


def _sqlite(path: Path, new: bool) -> Engine:
    """Return the pool of an SQLite file; a new one's folder is made."""
    try:
        if path.is_dir():
            raise BadInput(f"{path}: a folder; the file of a history is expected", hint=f"{path / FILE}")
        if path.exists() and not path.is_file():
            raise BadInput(f"{path}: no ordinary file, which a history has to be", hint="name another file")
        if not (new or path.exists()):
            raise _not_there(path)
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # a name that no file can have
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{str(path)!r}: its folder cannot be made: {said}", hint="name another file") from None
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": WAIT_S})

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _record: object) -> None:
        raw.isolation_level = None  # transactions are begun below, by us
        _write_ahead(raw)
        raw.execute("PRAGMA synchronous = FULL")  # what was kept is kept, also through a power cut
        raw.execute("PRAGMA foreign_keys = ON")
        raw.execute(f"PRAGMA cache_size = -{CACHE_KIB}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _not_there(path: Path) -> BadInput:
    guess = near_miss(path.name, sorted(one.name for one in path.parent.iterdir())) if path.parent.is_dir() else None
    question = f"; did you mean '{guess}'?" if guess else ""
    return BadInput(f"{path}: no such file{question}", hint=f"edgeship nightly SUITE.toml --history {path} makes it")


def _write_ahead(raw: Any) -> None:
    """Turn the write-ahead log on, once in the file's life; SQLite does not wait here for others by itself."""
    import sqlite3

    until = time.monotonic() + WAIT_S
    while raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            raw.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname not in {"SQLITE_BUSY", "SQLITE_LOCKED"} or time.monotonic() > until:
                raise
        else:
            return  # also where the file system cannot do it: then the journal is the older one
        time.sleep(0.05)


def _postgresql(url: URL) -> Engine:
    """Return the pool of a PostgreSQL server. A workstation that died lets go of what it locked within a minute."""
    tools.versions(("psycopg",))
    engine = create_engine(
        url, pool_pre_ping=True, connect_args={"connect_timeout": CONNECT_S, "client_encoding": "utf8"}
    )

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _record: object) -> None:
        with raw.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = '{WAIT_S}s'")
            for name, value in (("idle", 20), ("interval", 5), ("count", 4)):
                cursor.execute(f"SET tcp_keepalives_{name} = {value}")
        raw.commit()

    return engine


def _of_sqlite(error: DBAPIError, database: Database) -> EdgeshipError:
    """Return what SQLite refused, in words."""
    name: str = getattr(error.orig, "sqlite_errorname", "")
    where = database.where
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StageFailed(
            f"{where}: locked by another program for {WAIT_S} s", hint="end what writes to it, then again"
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or str(error.orig).startswith("Could not decode"):
        return _damaged(where, str(error.orig))
    if name == "SQLITE_FULL" or name.startswith("SQLITE_IOERR"):
        said = "no space left" if name == "SQLITE_FULL" else str(error.orig)
        return StageFailed(f"{where}: not written: {said}", hint="free some space; what was kept before is whole")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        hint = "copy it to a folder of yours, or name another file: who reads it has to write beside it as well"
        return BadInput(f"{where}: cannot be written: {error.orig}", hint=hint)
    if re.match("no such (table|column)", str(error.orig)):
        return _other_tables(f"{where}: {error.orig}")
    return StageFailed(f"{where}: {error.orig}")


def _damaged(where: str, said: str) -> BadInput:
    return BadInput(
        f"{where}: damaged, or no SQLite file: {' '.join(said.split())}",
        hint=f"move it away, or save what is readable: sqlite3 {where} .recover",
    )


def _damage(file: str) -> str | None:
    """Return the first thing that SQLite finds wrong with a file, or None."""
    import sqlite3

    try:
        with contextlib.closing(sqlite3.connect(file, timeout=WAIT_S)) as raw:
            found = str(raw.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except (sqlite3.Error, UnicodeDecodeError):  # also its own words may be damaged
        return "its tables cannot be read"
    return None if found == "ok" else found


def _other_tables(said: str) -> BadInput:
    return BadInput(
        f"{said}: its tables are not as edgeship made them", hint="take it from a copy, or name another database"
    )


# SQLSTATE → what it means here; PostgreSQL's appendix A.
_MEANS = {
    "28P01": "the user or the password is not taken",
    "28000": "this user may not connect",
    "3D000": "there is no such database",
    "42501": "this user may not write there",
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "53300": "it takes no more connections",
    "55P03": f"locked by another program for {WAIT_S} s",
    "25006": "it is read-only",
    "57P01": "it was shut down",
    "57P03": "it is starting up or shutting down",
}
_USERS = {"28P01", "28000", "3D000", "42501"}


def _of_postgresql(error: DBAPIError, database: Database) -> EdgeshipError:
    """Return what PostgreSQL refused, in words; at connecting it gives no code, only a sentence."""
    said = database.hidden(" ".join(str(error.orig).split()))
    state: str = getattr(error.orig, "sqlstate", None) or _guessed(said)
    where = database.where
    if state in _USERS:
        hint = "check user, password (~/.pgpass or PGPASSWORD also hold it) and database; make one with createdb"
        return BadInput(f"{where}: {_MEANS[state]}: {said}", hint=hint)
    if state in _MEANS:
        return StageFailed(f"{where}: {_MEANS[state]}: {said}", hint="what was kept before is whole; try again")
    if state == "22P05":
        hint = "make one that holds any text: createdb --template template0 --encoding UTF8 NAME"
        return BadInput(f"{where}: its encoding lacks a character: {said}", hint=hint)
    if re.match("(connection is bad: )?invalid ", said):
        return BadInput(f"{where}: {said}", hint="postgresql://USER@HOST:PORT/DATABASE")
    if state in {"42P01", "42703"}:
        return _other_tables(f"{where}: {said}")
    if not state or state.startswith("08"):
        return StageFailed(f"{where}: cannot be reached: {said}", hint="is the server running, host and port right?")
    return StageFailed(f"{where}: {said}")


def _guessed(said: str) -> str:
    if "password" in said:
        return "28P01"
    if re.search(r"(role|user) .* does not exist|no pg_hba.conf entry", said):
        return "28000"
    return "3D000" if re.search(r"database .* does not exist", said) else ""
