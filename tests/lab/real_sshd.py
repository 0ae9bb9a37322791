"""A real OpenSSH sshd as a board: an account, processes, host keys and, if wanted, a network of its own.

As root, the board is a process namespace whose first process dies with the tests, and an /etc/passwd that only it sees:
nothing on the machine changes, nothing outlives the test, and whatever runs on the board is what the test has started.
sshd itself and all logins run as an unprivileged user. Without root, the account is the one that runs the tests.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from edgeship.device import Device

SSHD = "/usr/sbin/sshd"
UID = 64123
START_TIMEOUT_S = 20.0
# The board's first process: it stays root so that the end of its parent still reaches it, and its own end ends the board.
FIRST = """
mount --bind "$1" /etc/passwd && ip link set lo up || exit 70
shift
setpriv --reuid="$0" --regid="$0" --clear-groups -- "$@" &
wait
"""
CONFIG = """
ListenAddress 0.0.0.0
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
AuthorizedKeysFile {folder}/authorized_keys
Subsystem sftp internal-sftp
"""


def need(*programs: str) -> None:
    """Skip the test without these programs, or fail it where the lab has to be complete."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing and os.environ.get("EDGESHIP_REQUIRE_LAB") == "1":
        pytest.fail(f"the lab needs {', '.join(missing)}")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


def need_root() -> None:
    """Skip the test for an ordinary user, or fail it where the lab has to be complete."""
    if os.geteuid() == 0:
        return
    if os.environ.get("EDGESHIP_REQUIRE_LAB") == "1":
        pytest.fail("the lab needs root here")
    pytest.skip("needs root: a network or an account of the board's own")


def keygen(path: Path, kind: str = "ed25519", *, passphrase: str = "") -> Path:
    """Make a key pair and return its private file."""
    words = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, timeout=60)
    return path


def free_port() -> int:
    """Return a port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Network:
    """A cable between this machine and the board: two addresses, nothing else on it."""

    number: int

    @property
    def link(self) -> str:
        """Return our end's name."""
        return f"es{os.getpid() % 100000}n{self.number}"

    @property
    def ours(self) -> str:
        """Return our address."""
        return self._address(1)

    @property
    def theirs(self) -> str:
        """Return the board's address."""
        return self._address(2)

    def _address(self, end: int) -> str:
        """Return an address that no other test process gives at the same time."""
        pid = os.getpid()
        return f"10.{64 + pid % 128}.{pid // 128 % 256}.{4 * self.number + end}"


class Sshd:
    """A board behind sshd; owns its folder and its processes."""

    def __init__(
        self,
        *,
        shell: str = "/bin/sh",
        options: Sequence[str] = (),
        host_keys: Sequence[str] = ("ed25519",),
        network: Network | None = None,
    ) -> None:
        need(SSHD, "ssh-keygen", "unshare", "setpriv")
        self.network = network
        self.address = network.theirs if network else "127.0.0.1"
        self.port = 2222 if network else free_port()
        self.root = os.geteuid() == 0
        self.user = "edgeship-lab" if self.root else pwd.getpwuid(os.getuid()).pw_name
        self.folder = Path(
            tempfile.mkdtemp(prefix="edgeship-sshd-", dir="/tmp")
        )  # not pytest's: others may not look in there
        self.folder.chmod(0o711)
        self.home = self.folder / "home"
        self.home.mkdir()
        self.host_keys = [keygen(self.folder / f"host_{kind}", kind) for kind in host_keys]
        self.authorized = self.folder / "authorized_keys"
        self.authorized.touch()
        keys = [f"HostKey {path}" for path in self.host_keys]
        lines = [CONFIG.format(folder=self.folder), f"Port {self.port}", *keys, *options]
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")
        self.passwd = self.folder / "passwd"
        kept = Path("/etc/passwd").read_text()
        self.passwd.write_text(f"{kept}{self.user}:x:{UID}:{UID}::{self.home}:{shell}\n")
        self.log = self.folder / "sshd.log"
        for path in (self.home, self.authorized, *self.host_keys, self.folder / "sshd_config"):
            if self.root:
                os.chown(path, UID, UID)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_name(f"edgeship-{self.folder.name}.lease").unlink(missing_ok=True)

    def start(self) -> None:
        """Boot the board and wait until it answers."""
        server = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        spaces = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
        if self.network:
            spaces.append("--net")
        if self.root:
            first = ["unshare", *spaces, "sh", "-c", FIRST, str(UID), str(self.passwd), *server]
        else:
            first = ["unshare", "--map-current-user", *spaces, *server]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *first], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if self.network:
            self._plug_in(self.network)
        self._await_answer()

    def _plug_in(self, network: Network) -> None:
        """Lay the cable; it goes with the board."""
        assert self.process is not None
        ours = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:  # the process that carries the namespace is our grandchild's parent: the one that unshared
            with contextlib.suppress(OSError):
                if Path(f"/proc/{self.process.pid}/ns/net").readlink() != ours:
                    break
            assert time.monotonic() < deadline, "the board's network does not come"
            time.sleep(0.01)
        end = f"{network.link}b"
        inside = ["nsenter", "--net", "--target", str(self.process.pid)]
        for words in (
            ["ip", "link", "add", network.link, "type", "veth", "peer", "name", end, "netns", str(self.process.pid)],
            ["ip", "addr", "add", f"{network.ours}/30", "dev", network.link],
            ["ip", "link", "set", network.link, "up"],
            [*inside, "ip", "addr", "add", f"{network.theirs}/30", "dev", end],
            [*inside, "ip", "link", "set", end, "up"],
        ):
            subprocess.run(words, check=True, timeout=20)

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            assert self.process is not None and self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), timeout=2) as probe:
                if probe.recv(4) == b"SSH-":
                    return
            time.sleep(0.02)
        raise AssertionError(f"sshd does not answer:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Pull the plug: every process of the board is gone afterwards."""
        if self.process is None:
            return
        below = _below(self.process.pid)
        for pid in below[:1] or [self.process.pid]:  # the board's first process takes all others with it
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(20)
        self.process = None
        if self.network:  # the kernel takes it away too, but later
            words = ["ip", "link", "del", self.network.link]
            subprocess.run(words, check=False, timeout=20, stderr=subprocess.DEVNULL)

    def cut(self) -> None:
        """Pull the network cable."""
        assert self.network
        subprocess.run(["ip", "link", "set", self.network.link, "down"], check=True, timeout=20)

    def sessions(self) -> list[int]:
        """Return the processes of sshd that hold a connection each and have a user logged in."""
        assert self.process is not None
        found = []
        for pid in _below(self.process.pid):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_text()
                if words.startswith(f"sshd: {self.user}") and "[priv]" not in words:
                    found.append(pid)
        return found

    def processes(self) -> list[str]:
        """Return the command lines of what runs on the board beside sshd."""
        assert self.process is not None
        lines = []
        for pid in _below(self.process.pid)[1:]:
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if words and not words.startswith(("sshd: ", SSHD)):
                    lines.append(words)
        return lines

    def admit(self, key: Path) -> None:
        """Let a key in."""
        with self.authorized.open("a") as stream:
            stream.write(key.with_name(key.name + ".pub").read_text())

    def fingerprint(self, number: int = 0) -> str:
        """Return a host key's fingerprint, as OpenSSH prints it."""
        words = ["ssh-keygen", "-l", "-f", f"{self.host_keys[number]}.pub"]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=20).stdout.split()[1]

    def known_line(self, number: int = 0, *, name: str | None = None) -> str:
        """Return the line of known_hosts that vouches for a host key."""
        where = name or (self.address if self.port == 22 else f"[{self.address}]:{self.port}")
        kind, key = self.host_keys[number].with_name(self.host_keys[number].name + ".pub").read_text().split()[:2]
        return f"{where} {kind} {key}\n"

    def device(self, name: str = "board", **changes: Any) -> Device:
        """Return the entry of devices.toml that leads here."""
        entry = {
            "name": name, "target": "linux-x86_64", "transport": "ssh",
            "address": self.address, "port": self.port, "user": self.user,
            "lease": self.folder.name,  # all boards here have this machine's id
        }  # fmt: skip
        return Device.model_validate({**entry, **changes})


def _below(pid: int) -> list[int]:
    """Return the processes below one, nearest first."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    return found + [deeper for child in found for deeper in _below(child)]


class Desk:
    """The user's side: a home folder with keys, known_hosts and an ssh config; no agent."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.ssh = home / ".ssh"
        self.ssh.mkdir(parents=True, mode=0o700)
        self.known_hosts = self.ssh / "known_hosts"
        self.config = self.ssh / "config"
        self.key = keygen(self.ssh / "id_ed25519")
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        monkeypatch.delenv("EDGESHIP_SSH_PASSPHRASE", raising=False)

    def meet(self, board: Sshd) -> Device:
        """Let the board know our key and us know its host keys; return its entry."""
        board.admit(self.key)
        self.trust(board)
        return board.device()

    def trust(self, board: Sshd) -> None:
        """Note all of the board's host keys."""
        with self.known_hosts.open("a") as stream:
            stream.writelines(board.known_line(number) for number in range(len(board.host_keys)))


@contextlib.contextmanager
def boards(count: int) -> Iterator[list[Sshd]]:
    """Give boards that each have a network of their own; all are gone afterwards."""
    need_root()
    need("ip", "nsenter")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Sshd(network=Network(number))) for number in range(1, count + 1)]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Return a fresh home for the user's side."""
    return Desk(tmp_path / "user", monkeypatch)


@pytest.fixture(scope="module")
def board() -> Iterator[Sshd]:
    """Return a board that stands for the whole file."""
    with Sshd() as running:
        yield running
