"""Talking to a running QEMU: its monitor for orders to the machine, the board's console for orders to the system in it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MONITOR, CONSOLE, CONSOLE_LOG = "monitor.sock", "console.sock", "console.log"
READY = b"edgeship ready"
_DONE = re.compile(rb"edgeship done (\d+)\r?\n")
_PAUSE_S = 0.02


class NoAnswer(Exception):
    """The machine or the system in it does not answer, or says no; the text says which."""


class Monitor:
    """QEMU's monitor (QMP). Use it with `with`."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._stream = link.makefile("rwb")

    def __enter__(self) -> Monitor:
        self._answer()  # its greeting: from then on the machine is whole, its snapshot loaded
        self.order("qmp_capabilities")
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()
        self._link.close()

    def order(self, name: str, **arguments: Any) -> Any:
        """Give one order and return its answer.

        Raises:
            NoAnswer: QEMU refused it, or is gone.
        """
        try:
            self._stream.write(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
            self._stream.flush()
        except OSError as error:
            raise NoAnswer(f"QEMU is gone: {error.strerror}") from None
        while True:
            said = self._answer()
            if "error" in said:
                raise NoAnswer(f"{name}: {said['error']['desc']}")
            if "return" in said:
                return said["return"]

    def say(self, line: str) -> str:
        """Give one order in the words that a person types, and return what is printed."""
        return str(self.order("human-monitor-command", **{"command-line": line}))

    def ports(self) -> dict[int, int]:
        """Return the board's open ports: port there → port on 127.0.0.1 here."""
        rows = (line.split() for line in self.say("info usernet").splitlines() if "HOST_FORWARD" in line)
        return {int(row[5]): int(row[3]) for row in rows}

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._stream.readline()
        except OSError:
            line = b""
        if not line:
            raise NoAnswer("QEMU is gone or does not answer")
        said = json.loads(line)
        assert isinstance(said, dict)
        return said


def monitor(folder: Path, *, timeout_s: float, alive: Callable[[], bool] = lambda: True) -> Monitor:
    """Return the monitor of the machine in a folder.

    Raises:
        NoAnswer: nothing answers there in time, or `alive` says that nothing will.
    """
    return Monitor(_link(folder, MONITOR, timeout_s, alive))


@contextlib.contextmanager
def console(folder: Path, *, timeout_s: float) -> Iterator[Console]:
    """Give the console of the board in a folder; only one may be open at a time.

    Raises:
        NoAnswer: nothing answers there in time.
    """
    link = _link(folder, CONSOLE, timeout_s, lambda: True)
    try:
        yield Console(link)
    finally:
        link.close()


class Console:
    """The board's serial console, which runs each line as a script of root's."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._heard = b""

    def wait_ready(self, *, timeout_s: float) -> None:
        """Wait until the system there is up.

        Raises:
            NoAnswer: it is not, in time.
        """
        self._until(lambda heard: READY in heard, timeout_s)

    def run(self, script: str, *, timeout_s: float) -> None:
        """Run a script of one line there, as root.

        Raises:
            NoAnswer: it failed, or takes longer.
        """
        self._heard = b""
        self._link.sendall(script.encode() + b"\n")
        self._until(lambda heard: _DONE.search(heard) is not None, timeout_s)
        done = _DONE.search(self._heard)
        if done is None or done[1] != b"0":
            raise NoAnswer(f"the board's console: {self._heard.decode(errors='replace').strip()[-300:]}")

    def _until(self, heard_enough: Callable[[bytes], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not heard_enough(self._heard):
            self._link.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                piece = self._link.recv(4096)
            except TimeoutError:
                piece = b""
            if not piece:
                raise NoAnswer(f"the board's system did not answer within {timeout_s:.0f} s")
            self._heard += piece


def wait_banner(port: int, *, timeout_s: float) -> None:
    """Wait until an ssh server greets at a port of 127.0.0.1.

    Raises:
        NoAnswer: none does, in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        left = max(0.1, deadline - time.monotonic())
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), left) as link:
            if link.recv(4) == b"SSH-":
                return
        if time.monotonic() > deadline:
            raise NoAnswer(f"no ssh server answered within {timeout_s:.0f} s")
        time.sleep(_PAUSE_S)


def _link(folder: Path, name: str, timeout_s: float, alive: Callable[[], bool]) -> socket.socket:
    deadline = time.monotonic() + timeout_s
    # A socket's path may have 107 bytes; through the folder's descriptor it is short whatever the folder.
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            link = socket.socket(socket.AF_UNIX)
            link.settimeout(timeout_s)
            try:
                link.connect(f"/proc/self/fd/{place}/{name}")
            except OSError:
                link.close()
                if time.monotonic() > deadline or not alive():
                    raise NoAnswer("QEMU ended" if not alive() else "QEMU does not answer") from None
                time.sleep(_PAUSE_S)
            else:
                return link
    finally:
        os.close(place)
