"""A PostgreSQL of the test session's own: made by initdb, reached by a socket in its folder, gone with the session."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

PASSWORD = "s3cr:t/p@ss"  # all that a URL has to escape
_PR_SET_PDEATHSIG = 1


def _programs() -> Path | None:
    """Return the folder of the newest server programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    if found:
        return found[-1].parent
    named = shutil.which("initdb")
    return Path(named).resolve().parent if named else None


def _user() -> str | None:
    """Return who runs the server: it refuses root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Start a server and return the start of its URLs; the database's name and `?host=` are still to come."""
    programs = _programs()
    if programs is None:
        if os.environ.get("EDGESHIP_REQUIRE_LAB"):
            pytest.fail("PostgreSQL is missing: apt-get install postgresql")
        pytest.skip("PostgreSQL is missing")
    user = _user()
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if user is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        made = [programs / "initdb", "-D", folder / "data", "-U", "edge", "-A", "scram-sha-256", "--pwfile", folder / "password"]  # fmt: skip
        subprocess.run([*map(str, made), "-N"], user=user, check=True, capture_output=True, cwd=folder)
        process = _started(programs, folder, user)
        try:
            yield str(folder)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            finally:
                process.kill()


def _started(programs: Path, folder: Path, user: str | None) -> subprocess.Popen[bytes]:
    """Start the server as our own child, which ends with us, and wait until it answers."""
    libc = ctypes.CDLL(None)
    settings = {
        "fsync": "off",
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        "shared_buffers": "16MB",
    }
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    process = subprocess.Popen(
        [str(programs / "postgres"), "-D", str(folder / "data"), *options], user=user, cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT),
    )  # fmt: skip
    until = time.monotonic() + 60
    ready = [str(programs / "pg_isready"), "-h", str(folder), "-q"]
    while subprocess.run(ready, check=False).returncode != 0:
        assert process.poll() is None and time.monotonic() < until, "PostgreSQL did not start"
        time.sleep(0.1)
    return process


@pytest.fixture
def postgresql(postgresql_server: str, request: pytest.FixtureRequest) -> str:
    """Return the URL of a new, empty database."""
    import psycopg

    name = f"test_{abs(hash(request.node.nodeid)):x}"
    with psycopg.connect(
        host=postgresql_server, user="edge", password=PASSWORD, dbname="postgres", autocommit=True
    ) as made:
        made.execute(f"DROP DATABASE IF EXISTS {name}")
        made.execute(f"CREATE DATABASE {name}")
    return f"postgresql://edge:{quote(PASSWORD, safe='')}@/{name}?host={postgresql_server}"
