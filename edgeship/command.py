"""The one door to outside programs: a list of words, never a shell string; timed out, its output kept."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeship.errors import DeviceFault, MissingTool, StageFailed

_CLOSE_TIMEOUT_S = 5.0
_LOOK_EVERY_S = 0.2
MOMENT_S = 10.0  # for a program that is told to stop: a switch between off and on


@dataclass(frozen=True)
class Called:
    """How a program ended, and what it said."""

    exit_code: int
    output: str
    errors: str

    @property
    def complaint(self) -> str:
        """Return the last line that it complained with."""
        lines = (self.errors.strip() or self.output.strip()).splitlines()
        return lines[-1].strip()[:300] if lines else ""


def call(
    *words: str | Path,
    timeout_s: float,
    log: Path | None = None,
    check: bool = True,
    install: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: bytes | None = None,
    stopped: threading.Event | None = None,
) -> Called:
    """Run a program to its end and return what it said.

    Args:
        log: gets the command line first, then everything the program prints.
        check: a program that fails is an error.
        install: the command that brings the program, for the message when it is missing.
        environment: variables set for it besides ours.
        folder: where it runs.
        stdin: its whole input; without it, it gets none.
        stopped: once it is set, a program without input is ended, after a moment in which it may end by itself.

    Raises:
        MissingTool: there is no such program.
        StageFailed: it failed (with `check`), took too long or was stopped; the text ends with the log's path where there is one.
    """
    line = [str(word) for word in words]
    try:
        process = _started(line, environment, folder)
    except FileNotFoundError:
        raise MissingTool(f"the program {line[0]} is needed and not installed", hint=install) from None
    try:
        output, errors = _said(process, line[0], stdin, timeout_s, stopped)
    except subprocess.TimeoutExpired:
        _end(process)
        output, errors = process.communicate()
        _note(log, line, output, errors)
        where = f"; full log: {log}" if log else ""
        raise StageFailed(f"{line[0]} took longer than {timeout_s:.0f} s and was ended{where}", log=log) from None
    except BaseException:
        _end(process)
        process.communicate()
        raise
    _note(log, line, output, errors)
    done = Called(process.returncode, output.decode(errors="replace"), errors.decode(errors="replace"))
    if check and done.exit_code != 0:
        where = f"; full log: {log}" if log else ""
        raise StageFailed(f"{line[0]} failed (exit {done.exit_code}): {done.complaint}{where}", log=log)
    return done


def _said(
    process: subprocess.Popen[bytes], name: str, stdin: bytes | None, timeout_s: float, stopped: threading.Event | None
) -> tuple[bytes, bytes]:
    """Return what a program said until its end.

    Raises:
        subprocess.TimeoutExpired: it took too long.
        StageFailed: it was told to stop, and did not end by itself.
    """
    if stopped is None:
        return process.communicate(stdin, timeout=timeout_s)
    until, told = time.monotonic() + timeout_s, False
    while True:
        try:
            return process.communicate(timeout=_LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            if not told and stopped.is_set():
                until, told = min(until, time.monotonic() + MOMENT_S), True
            if time.monotonic() < until:
                continue
            if told:
                raise StageFailed(f"{name} was ended: it was told to stop") from None
            raise


def _started(
    line: Sequence[str], environment: Mapping[str, str] | None, folder: Path | None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        line,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        cwd=folder,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _note(log: Path | None, line: Sequence[str], output: bytes, errors: bytes) -> None:
    if log is None:
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        stream.write(f"$ {shlex.join(line)}\n".encode(errors="backslashreplace") + output + errors)


class ProgramPipe:
    """The ends of a program on this machine, as `edgeship.remote.Pipe` wants them; it ends with us."""

    def __init__(
        self, words: Sequence[str], *, install: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        try:
            self.process = _started(list(words), environment, None)
        except FileNotFoundError:
            raise MissingTool(f"the program {words[0]} is needed and not installed", hint=install) from None
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.stdin, self.stdout, self.stderr = self.process.stdin, self.process.stdout, self.process.stderr

    def write(self, data: bytes) -> None:
        """Hand it input."""
        try:
            self.stdin.write(data)
            self.stdin.flush()
        except ValueError:  # closed meanwhile
            raise BrokenPipeError from None

    def end_input(self) -> None:
        """Close its standard input."""
        with contextlib.suppress(OSError, ValueError):
            self.stdin.close()

    def read(self) -> bytes:
        """Return some of its output."""
        return os.read(self.stdout.fileno(), 1 << 16)

    def read_error(self) -> bytes:
        """Return some of its error output."""
        return os.read(self.stderr.fileno(), 1 << 16)

    def wait(self) -> int:
        """Return its exit code, a signal as 128 + its number."""
        code = self.process.wait()
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        """End the program and all it started, if it still runs; close our ends."""
        if self.process.poll() is None:
            _end(self.process)  # first, for a writer may be stuck in a full pipe and hold its lock
        self.end_input()
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            _end(self.process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
        if self.process.poll() is None:
            raise DeviceFault(f"the process {self.process.pid} does not end", fault="timeout")
