"""The user's ssh keys: what the agent holds, key files, and the passphrases of those."""

from __future__ import annotations

import base64
import binascii
import contextlib
import getpass
import os
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import paramiko
from paramiko.agent import AgentSSH
from paramiko.pkey import UnknownKeyType

from edgeship.ssh.config import Host

PASSPHRASE = "EDGESHIP_SSH_PASSPHRASE"
_asking = threading.Lock()  # one question at a time, however many boards want the answer
_answers: dict[Path, str] = {}


class KeyRing:
    """The keys to try on a host, in the order in which to try them; holds the agent's line while open.

    First those that the entry or the ssh config names, then the agent's others (as servers close after some wrong keys),
    and last those that need a passphrase: it comes from the variable EDGESHIP_SSH_PASSPHRASE, or is asked on a terminal.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.tried: list[str] = []
        self.locked: list[Path] = []  # files whose passphrase nobody gave
        self.unusable: list[str] = []
        self._agent = _Agent(host.agent) if host.agent else None

    def __enter__(self) -> KeyRing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._agent:
            self._agent.hang_up()

    def __iter__(self) -> Iterator[paramiko.PKey]:
        """Give each key once."""
        held = {key.asbytes(): key for key in (self._agent.get_keys() if self._agent else ())}
        locked: list[Path] = []
        for path in self.host.identities:
            if key := held.pop(_public(path) or b"", None):
                yield self._told(key, f"{path} (agent)")
            elif found := self._loaded(path, None, locked):
                held.pop(found.asbytes(), None)
                yield self._told(found, str(path))
        if not self.host.identities_only:
            for key in held.values():
                yield self._told(key, f"{key.comment or key.get_name()} (agent)")
        for path in locked:
            passphrase = _passphrase(path)
            if passphrase and (found := self._loaded(path, passphrase, self.locked)):
                yield self._told(found, str(path))
            elif path not in self.locked:
                self.locked.append(path)

    def _told(self, key: paramiko.PKey, name: str) -> paramiko.PKey:
        self.tried.append(name)
        return key

    def _loaded(self, path: Path, passphrase: str | None, locked: list[Path]) -> paramiko.PKey | None:
        try:
            given = passphrase.encode() if passphrase else None  # bytes, whatever the stubs say
            return paramiko.PKey.from_path(path, password=given)  # type: ignore[arg-type]
        except FileNotFoundError:
            if self.host.named:
                self.unusable.append(f"{path} does not exist")
        except OSError as fault:
            self.unusable.append(f"{path}: {fault.strerror or fault}")
        except (TypeError, paramiko.PasswordRequiredException):
            locked.append(path)
        except (ValueError, UnknownKeyType, paramiko.SSHException) as fault:
            if passphrase:
                _answers.pop(path, None)
                locked.append(path)  # a wrong passphrase looks like a damaged file
            elif _public(path) is None:
                self.unusable.append(f"{path}: {fault}")
        return None

    @property
    def hint(self) -> str | None:
        """Return the command that makes the locked keys usable."""
        return f"ssh-add {shlex.join(map(str, self.locked))}" if self.locked else None


class _Agent(AgentSSH):
    """An agent at a socket of its own: paramiko's looks only where SSH_AUTH_SOCK points."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.line.connect(path)
            self._connect(self.line)  # type: ignore[attr-defined]  # the stubs leave it out
        except (OSError, paramiko.SSHException):  # a variable that points to an agent long gone is common
            self.line.close()

    def hang_up(self) -> None:
        """Close the line."""
        self.line.close()


def _public(path: Path) -> bytes | None:
    """Return the public part that lies beside a key file, or is the file."""
    for file in (path.with_name(path.name + ".pub"), path):
        with contextlib.suppress(OSError, IndexError, binascii.Error, UnicodeDecodeError):
            return base64.b64decode(file.read_text().split()[1], validate=True)
    return None


def _passphrase(path: Path) -> str | None:
    """Return what opens a key file: the variable, else what the user types, once for each file."""
    if told := os.environ.get(PASSPHRASE):
        return told
    with _asking:
        if path not in _answers and sys.stdin is not None and sys.stdin.isatty():
            with contextlib.suppress(EOFError):
                _answers[path] = getpass.getpass(f"Passphrase of {path}: ")
        return _answers.get(path)
