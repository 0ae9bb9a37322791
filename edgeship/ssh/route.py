"""The route to a host behind sshd: jump hosts, host keys, login. Uses paramiko.

Every host on the way, jump hosts too, has to show a key that the user's known_hosts vouches for; this is never off.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import signal
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_REQUEST

from edgeship.command import ProgramPipe
from edgeship.errors import DeviceFault
from edgeship.ssh import config as ssh_config
from edgeship.ssh import host_keys
from edgeship.ssh.config import Host, Spot
from edgeship.ssh.keys import KeyRing

CONNECT_TIMEOUT_S = 10.0
HANDSHAKE_TIMEOUT_S = 20.0
_MOST_JUMPS = 8
_WRONG_KEYS = 3  # after fewer, no sshd hangs up
# An RSA key signs in several ways.
_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else its complaints land on stderr


class _Line:
    """A socket, or what stands for one, that counts what it heard."""

    def __init__(self, line: Any) -> None:
        self._line = line
        self.heard = 0

    def recv(self, size: int) -> bytes:
        piece: bytes = self._line.recv(size)
        self.heard += 1
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)


def _note_signal(channel: paramiko.Channel, message: paramiko.Message) -> None:
    """Take the news of a program that a signal ended, which paramiko passes over, as exit code 128 + n."""
    news = paramiko.Message(message.get_remainder())
    if news.get_text() == "exit-signal":
        news.get_boolean()
        number = getattr(signal, f"SIG{news.get_text()}", 0)
        channel.exit_status = 128 + int(number)
        channel.status_event.set()
    else:
        channel._handle_request(message)  # type: ignore[attr-defined]  # the stubs leave it out


class Transport(paramiko.Transport):
    """A connection to one host, its line at hand."""

    _channel_handler_table = {  # noqa: RUF012  # as paramiko has it
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]  # the stubs leave it out
        MSG_CHANNEL_REQUEST: _note_signal,
    }

    def __init__(self, line: Any) -> None:
        self.line = _Line(line)
        super().__init__(self.line)  # type: ignore[arg-type]  # what it needs of a socket, it has
        self.banner_timeout = self.auth_timeout = HANDSHAKE_TIMEOUT_S
        options = self.get_security_options()
        options.ciphers = _CIPHERS


@dataclass
class Route:
    """What a connection leads over: jump hosts, a program; closed together, the far end first."""

    name: str  # the device, for messages
    opened: list[Transport | ProgramPipe] = field(default_factory=list)

    def close(self) -> None:
        for part in reversed(self.opened):
            part.close()
        self.opened.clear()

    def open(self, host: Host, *, told: list[Spot] | None = None, depth: int = 0) -> Transport:
        """Connect to a host, over its jump hosts, and log in.

        Args:
            told: the jump hosts that lead there, nearest first; without, the host's own.
            depth: how many hosts lie behind this one.
        """
        if depth > _MOST_JUMPS:
            raise DeviceFault(f"{self.name}: its jump hosts lead in a circle", fault="unreachable")
        if told is None:
            told = [ssh_config.spot(word.strip()) for word in (host.jump or "").split(",") if word.strip()]
        transport = Transport(self._line(host, told, depth))
        self.opened.append(transport)
        self._shake_hands(transport, host)
        _log_in(self.name, transport, host)
        return transport

    def _line(self, host: Host, jumps: list[Spot], depth: int) -> Any:
        if jumps:
            last = ssh_config.look_up(jumps[-1])
            before = self.open(last, told=jumps[:-1] or None, depth=depth + 1)
            try:
                return before.open_channel(
                    "direct-tcpip", (host.hostname, host.port), ("127.0.0.1", 0), timeout=CONNECT_TIMEOUT_S
                )
            except (paramiko.SSHException, EOFError, OSError) as fault:
                why = getattr(fault, "text", None) or "no answer"
                message = f"the jump host {last.alias} cannot reach {host.hostname}:{host.port}: {why}"
                raise DeviceFault(f"{self.name}: {message}", fault="unreachable") from None
        if host.proxy:
            program = ProgramPipe(["/bin/sh", "-c", f"exec {host.proxy}"])
            self.opened.append(program)
            return _through(program)
        return self._dial(host)

    def _dial(self, host: Host) -> socket.socket:
        timeout_s = host.connect_timeout_s or CONNECT_TIMEOUT_S
        where = f"{host.hostname}:{host.port}"
        try:
            line = socket.create_connection((host.hostname, host.port), timeout=timeout_s)
        except socket.gaierror:
            message, hint = f"no address is known for {host.hostname}", f"getent hosts {shlex.quote(host.hostname)}"
        except TimeoutError:
            message, hint = f"{where} did not answer in {timeout_s:.0f} s", f"ping {shlex.quote(host.hostname)}"
        except ConnectionRefusedError:
            message, hint = f"nothing listens at {where}", "on the board: sudo systemctl enable --now ssh"
        except OSError as fault:
            message, hint = f"{where}: {fault.strerror or fault}", f"ping {shlex.quote(host.hostname)}"
        else:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return line
        raise DeviceFault(f"{self.name}: {message}", fault="unreachable", hint=hint)

    def _shake_hands(self, transport: Transport, host: Host) -> None:
        """Agree on keys with a host and make sure that it is the one."""
        known = host_keys.find(host.known_hosts, host.known_name)
        options = transport.get_security_options()
        first = [name for entry in known for name in _ALGORITHMS.get(entry.kind, (entry.kind,)) if not entry.revoked]
        options.key_types = tuple(  # what is known first, as OpenSSH does: a board has keys of several types
            dict.fromkeys([*(name for name in first if name in options.key_types), *options.key_types])
        )
        where = f"{host.hostname}:{host.port}"
        try:
            transport.start_client(timeout=HANDSHAKE_TIMEOUT_S)
            shown = transport.get_remote_server_key()  # of a line that broke just now, there is none any more
        except paramiko.ssh_exception.IncompatiblePeer as fault:
            raise DeviceFault(f"{self.name}: no common way to talk with {where}: {fault}", fault="failed") from None
        except (paramiko.SSHException, EOFError, OSError):
            complaint = self._complaint()
            raise DeviceFault(
                f"{self.name}: what answers at {where} does not talk ssh{complaint}", fault="unreachable"
            ) from None
        _check(self.name, host, known, shown.get_name(), shown.asbytes())

    def _complaint(self) -> str:
        """Return what the program that connects has said at its end."""
        for part in self.opened:
            if isinstance(part, ProgramPipe) and part.process.poll() is not None:
                said = part.read_error().decode(errors="replace").strip().splitlines()
                return f": ProxyCommand: {said[-1][:300]}" if said else ": its ProxyCommand ended"
        return ""


def _through(program: ProgramPipe) -> socket.socket:
    """Return a socket that is a program's input and output."""
    ours, theirs = socket.socketpair()

    def inward() -> None:
        with contextlib.suppress(OSError):
            while piece := theirs.recv(1 << 16):
                program.write(piece)
        program.end_input()

    def outward() -> None:
        with contextlib.suppress(OSError):
            while piece := program.read():
                theirs.sendall(piece)
        theirs.close()

    for work in (inward, outward):
        threading.Thread(target=work, daemon=True).start()
    return ours


def _check(name: str, host: Host, known: list[host_keys.Known], kind: str, shown: bytes) -> None:
    """Refuse a host key that the user's files do not vouch for."""
    if host.port != 22 and not known and not host.key_alias:  # as OpenSSH: a key noted without its port will do
        known = [entry for entry in host_keys.find(host.known_hosts, host.hostname) if entry.key == shown]
    same = [entry for entry in known if entry.kind == kind]
    if any(entry.revoked and entry.key == shown for entry in known):
        raise DeviceFault(
            f"{name}: the host key of {host.known_name} is revoked: {_shown(kind, shown)}", fault="host-key"
        )
    if any(entry.key == shown for entry in same):
        return
    if same:
        old = same[0]
        raise DeviceFault(
            f"{name}: the host key of {host.known_name} is not what it was: it shows {_shown(kind, shown)}, "
            f"{old.file}:{old.line} has {host_keys.fingerprint(old.key)}",
            fault="host-key",
            hint=f"if the board was set up anew: ssh-keygen -f {shlex.quote(str(old.file))} -R {shlex.quote(host.known_name)}",
        )
    own = f"ssh_host_{kind.removeprefix('ssh-').partition('-')[0]}_key.pub"
    raise DeviceFault(
        f"{name}: the host key of {host.known_name} is not known: {_shown(kind, shown)}",
        fault="host-key",
        hint=f"if the board says the same (ssh-keygen -lf /etc/ssh/{own}): {_acceptance(host)}",
    )


def _shown(kind: str, key: bytes) -> str:
    return f"{kind} {host_keys.fingerprint(key)}"


def _acceptance(host: Host) -> str:
    """Return the command that notes a host's keys."""
    if host.jump or host.proxy or host.key_alias:  # ssh-keyscan goes no such ways
        return f"ssh -o StrictHostKeyChecking=ask -p {host.port} {shlex.quote(f'{host.user}@{host.alias}')} exit"
    file = shlex.quote(str(host.known_hosts[0])).replace(str(Path.home()), "~", 1)
    return f"ssh-keyscan -p {host.port} {shlex.quote(host.hostname)} >> {file}"


def _log_in(name: str, transport: Transport, host: Host) -> None:
    """Try the user's keys."""
    with KeyRing(host) as ring:
        try:
            if _opens(transport, host, ring):
                return
        except (paramiko.SSHException, EOFError, OSError):
            pass  # it hung up
    who = f"{host.user}@{host.hostname}"
    if not transport.is_active() and len(ring.tried) < _WRONG_KEYS:
        raise DeviceFault(f"{name}: {who} ended the connection during the login", fault="unreachable")
    tried = (
        f"takes none of our keys (tried {', '.join(ring.tried)})" if ring.tried else "asks for a key and we have none"
    )
    notes = [*ring.unusable, *(f"{path} needs its passphrase" for path in ring.locked)]
    if not transport.is_active():
        notes.append("it hung up after so many: name the right one as `identity` of the device")
    port = f"-p {host.port} " if host.port != 22 else ""
    file = f"-i {shlex.quote(str(host.identities[0]))} " if host.named and host.identities else ""
    raise DeviceFault(
        f"{name}: {who} {'; '.join([tried, *notes])}",
        fault="auth",
        hint=ring.hint or f"ssh-copy-id {file}{port}{shlex.quote(f'{host.user}@{host.alias}')}",
    )


def _opens(transport: Transport, host: Host, ring: KeyRing) -> bool:
    with contextlib.suppress(paramiko.BadAuthenticationType):
        if not transport.auth_none(host.user):  # some let in whom the network vouches for
            return True
    return any(transport.is_active() and _taken(transport, host.user, key) for key in ring)


def _taken(transport: Transport, user: str, key: paramiko.PKey) -> bool:
    """Say whether a key opens; one with a certificate is tried without, too."""
    for attempt in range(2):
        if attempt:
            if key.public_blob is None:
                return False
            key.public_blob = None
        try:
            return not transport.auth_publickey(user, key)
        except (paramiko.AuthenticationException, ValueError):
            continue
    return False
