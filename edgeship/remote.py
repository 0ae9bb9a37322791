"""Talking to a board: one program there at a time or several, with its input, its output and its end.

A transport gives the blocking ends of a program (`Pipe`); timeouts, the end of what hangs, and the pumping of input
and output are the same for all and live here. Scripts are POSIX sh, for dash, busybox and Android's toybox alike.
"""

from __future__ import annotations

import contextlib
import queue
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from edgeship.errors import DeviceFault

PIECE_BYTES = 1 << 16
_KILL_TIMEOUT_S = 15.0
_GROUP = re.compile(rb"edgeship-group (\d+)\r?\n")
# $$ leads no group everywhere (a login shell may stand between), so the kernel is asked.
_TELL_GROUP = "read -r _ _ _ _ edgeship_group _ < /proc/$$/stat; echo edgeship-group $edgeship_group >&2; "


class Pipe(Protocol):
    """The ends of one program on a board; every call blocks, each end is used by one thread."""

    def write(self, data: bytes) -> None:
        """Hand it input; raises BrokenPipeError when it takes no more."""

    def end_input(self) -> None:
        """Close its standard input."""

    def read(self) -> bytes:
        """Return some of its output, b"" at the end."""

    def read_error(self) -> bytes:
        """Return some of its error output, b"" at the end."""

    def wait(self) -> int:
        """Return its exit code once both outputs have ended (a signal as 128 + its number).

        Raises:
            DeviceFault: `lost`, the connection ended before the program did.
        """

    def close(self) -> None:
        """Let go of this side, whatever state it is in; the other calls return at once then."""


@dataclass(frozen=True)
class Simulation:
    """What a board that is no real one is: whether its time is counted in instructions, and what it knows nothing of."""

    counted: bool
    unmodelled: tuple[str, ...]


class Connection(Protocol):
    """A way to a board that stands open. Closing it is the job of whoever opened it."""

    name: str  # the board, as the user calls it, for messages
    simulation: Simulation | None  # None: a real board

    def start(self, script: str) -> Pipe:
        """Run a POSIX sh script there; `script` may hold anything.

        Raises:
            DeviceFault: `lost`, or `unreachable`.
        """

    def close(self) -> None:
        """Close it; calling it again does nothing."""


@dataclass(frozen=True)
class Finished:
    """How a script on a board ended."""

    exit_code: int
    output: bytes
    errors: bytes

    @property
    def text(self) -> str:
        """Return its output as text."""
        return self.output.decode(errors="replace")

    @property
    def complaint(self) -> str:
        """Return the last line that it complained with."""
        lines = self.errors.decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else ""


def run(
    connection: Connection,
    script: str,
    *,
    timeout_s: float,
    stdin: Iterable[bytes] = (),
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    """Run a script on the board to its end.

    Args:
        stdin: pieces of its input, taken as fast as the board takes them.
        on_line: called with each whole line of its output as it comes.

    Raises:
        DeviceFault: `timeout` (the program and all its children there have been killed), or `lost`.
    """
    pipe = connection.start(_TELL_GROUP + script)
    heard: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
    failures: list[BaseException] = []
    _thread(_feed, pipe, stdin, failures)
    for stream, read in (("output", pipe.read), ("errors", pipe.read_error)):
        _thread(_drain, stream, read, heard)
    found = _Gathered(on_line)
    deadline = time.monotonic() + timeout_s
    try:
        while found.open:
            try:
                found.take(*heard.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                _kill(connection, found.group)
                raise DeviceFault(
                    f"{connection.name}: a command there took longer than {timeout_s:g} s and was ended",
                    fault="timeout",
                ) from None
        for failure in failures:  # ours, and nothing that the board did
            raise failure
        code = pipe.wait()
    finally:
        pipe.close()
    return Finished(code, bytes(found.output), found.complaints)


def quote(text: object) -> str:
    """Return text as one word of sh."""
    return shlex.quote(str(text))


class _Gathered:
    """What a program has said so far; `open` counts the streams that go on."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self.on_line = on_line
        self.output, self.errors, self.line = bytearray(), bytearray(), b""
        self.open = 2

    def take(self, stream: str, piece: bytes) -> None:
        if not piece:
            self.open -= 1
        elif stream == "errors":
            self.errors += piece
        elif self.on_line is None:
            self.output += piece
        else:
            self.output += piece
            *lines, self.line = (self.line + piece).split(b"\n")
            for line in lines:
                self.on_line(line.decode(errors="replace").rstrip("\r"))

    @property
    def group(self) -> int | None:
        found = _GROUP.search(self.errors)
        return int(found[1]) if found else None

    @property
    def complaints(self) -> bytes:
        return _GROUP.sub(b"", bytes(self.errors), count=1)


def _thread(work: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()


def _feed(pipe: Pipe, stdin: Iterable[bytes], failures: list[BaseException]) -> None:
    try:
        for piece in stdin:
            pipe.write(piece)
        pipe.end_input()
    except (BrokenPipeError, DeviceFault):
        pass  # it took no more: its exit code, or the connection's end, says why
    except Exception as fault:  # noqa: BLE001  # raised in the caller's thread
        failures.append(fault)
        pipe.close()


def _drain(stream: str, read: Callable[[], bytes], heard: queue.SimpleQueue[tuple[str, bytes]]) -> None:
    piece = b"first"
    while piece:
        try:
            piece = read()
        except (OSError, DeviceFault):
            piece = b""
        heard.put((stream, piece))


def _kill(connection: Connection, group: int | None) -> None:
    """End a group of processes there, as far as the board still listens."""
    if group is None:
        return
    try:
        pipe = connection.start(f"kill -9 -{group}")  # dash knows no `--` here
    except DeviceFault:
        return
    ended = threading.Event()
    _thread(_until_end, pipe, ended)
    ended.wait(_KILL_TIMEOUT_S)
    pipe.close()


def _until_end(pipe: Pipe, ended: threading.Event) -> None:
    with contextlib.suppress(OSError, DeviceFault):
        while pipe.read():
            pass
        pipe.wait()
    ended.set()
