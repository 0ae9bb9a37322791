"""Fixtures: pure tests get no network and no process, every test a store of its own, end-to-end tests one a session."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest
from typer.testing import CliRunner

# How long an example takes says more of the machine's other work than of the code. What decides whether a change lands
# tries the same examples every time; whoever works on it tries others, and keeps what they find as a test.
hypothesis.settings.register_profile("edgeship", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("EDGESHIP_REQUIRE_LAB") == "1" else "edgeship")
HERE = Path(__file__).parent
TIMEOUT_S = 300.0


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker for the few tests in this folder that need a process."""
    config.addinivalue_line("markers", "processes: may start processes, although it stands among the pure tests")


class Blocked(AssertionError):
    """A test that has to be pure reached for the network or for a process."""


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point edgeship's store into the test's own folder."""
    home = tmp_path / "edgeship-home"
    monkeypatch.setenv("EDGESHIP_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def pure(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block sockets and processes for the tests that stand directly in this folder."""
    if request.path.parent != HERE or request.node.get_closest_marker("processes"):
        return

    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise Blocked("a pure test opened a socket or started a process")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "posix_spawn", refuse)
    monkeypatch.setattr(os, "fork", refuse)


@dataclass(frozen=True)
class Answer:
    """What a command line said."""

    code: int
    stdout: str
    stderr: str

    @property
    def table(self) -> dict[str, Any]:
        """Return the one JSON object on stdout."""
        found = json.loads(self.stdout)
        assert isinstance(found, dict)
        return found

    @property
    def message(self) -> str:
        """Return the text of a refusal, which has to be one line, with neither traceback nor an apology for a bug."""
        assert "Traceback" not in self.stderr, self.stderr
        assert "this is a bug" not in self.stderr, self.stderr
        told = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        assert len(told) == 1, self.stderr
        return told[0].removeprefix("error: ")


@dataclass(frozen=True)
class CommandLine:
    """Runs the real command line in processes of its own; owns a store."""

    home: Path
    cwd: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables: this checkout's code, this store."""
        return {**os.environ, "PYTHONPATH": str(HERE.parent), "EDGESHIP_HOME": str(self.home), **self.variables}

    def start(self, *arguments: str | Path, file_limit_bytes: int | None = None) -> subprocess.Popen[str]:
        """Start a command line, which may be kept from writing any file larger than a limit."""
        prepared = partial(_as_from_a_terminal, file_limit_bytes)
        return subprocess.Popen(
            [sys.executable, "-m", "edgeship.cli", *map(str, arguments)], preexec_fn=prepared,
            cwd=self.cwd, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, *arguments: str | Path, file_limit_bytes: int | None = None) -> Answer:
        """Run a command line to its end."""
        return finish(self.start(*arguments, file_limit_bytes=file_limit_bytes))

    def kill_after(self, seconds: float, *arguments: str | Path) -> int:
        """Start a command line, kill its process (not its children) after some seconds, and return its exit code."""
        process = self.start(*arguments)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=TIMEOUT_S)
        return process.returncode


def _as_from_a_terminal(file_limit_bytes: int | None) -> None:
    """Let Ctrl-C reach the program, which it does not where the tests themselves run in the background of a script."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if file_limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit_bytes, file_limit_bytes))


def finish(process: subprocess.Popen[str]) -> Answer:
    """Wait for a command line and return what it said."""
    try:
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    return Answer(process.returncode, stdout, stderr)


@pytest.fixture(scope="session")
def session_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the store that all end-to-end tests of a session share, so that TensorFlow imports digits only once.

    The converters' environments, which take minutes to make, are those of all workers, and of the next session too
    where EDGESHIP_TEST_ENVIRONMENTS names a folder for them.
    """
    made = tmp_path_factory.mktemp("session-store")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    environments = Path(os.environ.get("EDGESHIP_TEST_ENVIRONMENTS") or shared / "environments")
    environments.mkdir(parents=True, exist_ok=True)
    (made / "environments").symlink_to(environments.resolve())
    return made


@pytest.fixture
def cli(session_store: Path, tmp_path: Path) -> CommandLine:
    """Return the real command line on the session's store, working in the test's own folder."""
    return CommandLine(session_store, tmp_path)


@pytest.fixture
def here(session_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Return the command line in this process, which is faster, on the session's store and in the test's own folder."""
    from edgeship.cli import app

    monkeypatch.setenv("EDGESHIP_HOME", str(session_store))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Answer:
        found = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return Answer(found.exit_code, found.stdout, found.stderr)

    return run


@pytest.fixture(scope="session")
def digits_build(session_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Answer, Path]:
    """Build the sample model once, int8 for rpi4; return what the command line said, and its out folder."""
    folder = tmp_path_factory.mktemp("digits")
    run = CommandLine(session_store, folder)
    return run("build", "--target", "rpi4", "--json", "--out", folder / "out"), folder / "out"


@pytest.fixture(scope="session")
def float_digits(
    digits_build: tuple[Answer, Path], session_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the digits' float reference as a TFLite file: builds from it need no TensorFlow."""
    manifest = json.loads((digits_build[1] / "manifest.json").read_text())
    sha = manifest["input_hashes"]["reference"]
    return Path(
        shutil.copyfile(session_store / "objects" / sha[:2] / sha, tmp_path_factory.mktemp("float") / "digits.tflite")
    )


@pytest.fixture(scope="session")
def int8_digits(digits_build: tuple[Answer, Path]) -> Path:
    """Return the digits' int8 artifact."""
    return digits_build[1] / "model.tflite"
