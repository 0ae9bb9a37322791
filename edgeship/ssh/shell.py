"""A board behind sshd: one connection, many programs on it. Uses paramiko."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import paramiko

from edgeship.device import Device
from edgeship.errors import DeviceFault
from edgeship.remote import Simulation
from edgeship.ssh import config as ssh_config
from edgeship.ssh.config import Host, Spot
from edgeship.ssh.route import HANDSHAKE_TIMEOUT_S, Route, Transport

ASK_EVERY_S = 3.5  # while a board says nothing, it is asked for a sign of life
SILENT_TURNS = 4  # so a silent board is given up after 14 to 18 s
PIECE_BYTES = 1 << 18
_PACKET_BYTES = 1 << 15
_BEGINS = b"edgeship-begins\n"
_ODD = re.compile(rb"[^A-Za-z0-9 ./:=_,+@%-]")


def connect(device: Device, *, known_hosts: Path | None = None) -> SecureShell:
    """Return an open connection to a device at a host or an alias of the user's ssh config.

    Args:
        known_hosts: the file that vouches for a board of our own making. Then the user's ssh config, known_hosts and agent
            have no say, and the device names its key.

    Raises:
        DeviceFault: `unreachable`, `host-key`, `auth`, `failed`; the hint is the command that mends it.
        BadInput: the user's ssh config cannot be read.
    """
    asked = ssh_config.spot(device.address or device.name)
    asked = Spot(asked.host, device.user or asked.user, device.port or asked.port)
    if known_hosts:
        host = Host(asked.host, asked.host, asked.port or 22, asked.user or "root", (), True, identities_only=True)
        host = replace(host, known_hosts=(known_hosts,))
    else:
        host = ssh_config.look_up(asked)
    if device.identity:
        host = replace(host, identities=(Path(device.identity).expanduser(),), named=True, identities_only=True)
    route = Route(device.name)
    try:
        return SecureShell(device.name, host, route.open(host), route)
    except (paramiko.SSHException, EOFError) as fault:  # a line that breaks between two steps of the login
        route.close()
        raise DeviceFault(f"{device.name}: the connection broke in the login: {fault}", fault="unreachable") from None
    except BaseException:
        route.close()
        raise


class SecureShell:
    """An open connection.

    What a login shell's start-up files print is dropped from a program's output (not from its error output). sshd lets
    ten programs run at once on a connection (MaxSessions). Closing a program's ends gives it no signal: a script that has
    to end with its connection must watch its standard input.
    """

    def __init__(self, name: str, host: Host, transport: Transport, route: Route) -> None:
        self.name, self.host = name, host
        self.simulation: Simulation | None = None
        self._transport, self._route = transport, route
        self._closing = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def start(self, script: str) -> Program:
        """Run a POSIX sh script there, whatever the login shell is."""
        try:
            channel = self._transport.open_session(timeout=HANDSHAKE_TIMEOUT_S)
            channel.exec_command(_for_any_shell(script))
        except paramiko.ChannelException:
            raise DeviceFault(
                f"{self.name}: its sshd lets no more programs run on this connection",
                fault="failed",
                hint="raise MaxSessions in its /etc/ssh/sshd_config",
            ) from None
        except (paramiko.SSHException, EOFError, OSError):
            raise self.lost() from None
        return Program(self, channel)

    def lost(self) -> DeviceFault:
        """Make the refusal of a connection that broke."""
        where = f"{self.host.hostname}:{self.host.port}"
        return DeviceFault(f"{self.name}: the connection to {where} was lost", fault="lost")

    def close(self) -> None:
        """Close the connection and what it leads over."""
        self._closing.set()
        self._transport.close()
        self._route.close()

    def _watch(self) -> None:
        """End the connection when nothing at all comes any more, though the board was asked."""
        heard, silent = -1, 0
        while not self._closing.wait(ASK_EVERY_S) and self._transport.is_active():
            silent = silent + 1 if self._transport.line.heard == heard else 0
            heard = self._transport.line.heard
            if silent >= SILENT_TURNS:
                self._transport.close()
            elif silent == 1:  # not from here: a line that takes nothing more holds whoever writes
                threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self._transport.global_request("keepalive@openssh.com", wait=True)


class Program:
    """The ends of a program on the board, as `remote.Pipe` has them."""

    def __init__(self, connection: SecureShell, channel: paramiko.Channel) -> None:
        self._connection, self._channel = connection, channel
        self._noise: bytes | None = b""  # what came before the script began
        self._ended = False

    def write(self, data: bytes) -> None:
        """Hand it input."""
        left = memoryview(data)
        while left:
            try:
                taken = self._channel.send(bytes(left[:_PACKET_BYTES]))
            except (paramiko.SSHException, EOFError, OSError):
                taken = 0
            if taken == 0:
                raise BrokenPipeError
            left = left[taken:]

    def end_input(self) -> None:
        """Close its standard input."""
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self._channel.shutdown_write()

    def read(self) -> bytes:
        """Return some of its output."""
        while piece := self._received(self._channel.recv):
            if self._noise is None:
                return piece
            before, found, piece = (self._noise + piece).partition(_BEGINS)
            self._noise = None if found else before
            if piece:
                return piece
        self._ended = True
        return b""

    def read_error(self) -> bytes:
        """Return some of its error output."""
        return self._received(self._channel.recv_stderr)

    def _received(self, receive: Callable[[int], bytes]) -> bytes:
        try:
            return receive(PIECE_BYTES)
        except (paramiko.SSHException, EOFError, OSError):
            return b""

    def wait(self) -> int:
        """Return its exit code."""
        code = self._channel.recv_exit_status()
        if code < 0:
            raise self._connection.lost()
        if self._ended and self._noise is not None:
            said = self._noise.decode(errors="replace").strip().splitlines() or [f"it ended with exit code {code}"]
            raise DeviceFault(
                f"{self._connection.name}: the login shell of {self._connection.host.user} runs no commands: {said[-1][:300]}",
                fault="failed",
            )
        return code

    def close(self) -> None:
        """Let go of it."""
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self._channel.close()


def _for_any_shell(script: str) -> bytes:
    """Return the command line that makes any login shell run a script by sh.

    Shells differ in what they see in quotes (csh: `!` and line ends; fish: backslashes), so odd bytes go in octal.
    """
    plain = _ODD.sub(lambda odd: b"\\0%03o" % odd[0][0], script.encode(errors="surrogateescape"))
    return b"exec sh -c 'echo " + _BEGINS.strip() + b'; eval "$(printf %b "' + plain + b'")"\''
