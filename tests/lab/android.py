"""An Android board for tests: the real adbd of Debian trixie, with mksh as sh and toybox's tools, in namespaces of its own.

What is real: adbd (34.0.5) and its protocol, the shell that Android uses, toybox's commands, uid 2000, no Python on the
PATH, /data as a small disk of its own. What is not: bionic, the services behind dumpsys and pm (stand-ins here that print
what the real ones print), authentication (Debian takes it out), the cores and sensors below /sys (stand-ins as well).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from edgeship.android.bridge import AndroidBridge, connect
from edgeship.device import Device
from tests.lab.android_root import SHELL_UID, make_root, require

PORT = 16555  # adb looks for emulators on 5555-5585 and would list the board twice there
START_TIMEOUT_S = 20.0
HOST = "/system/host"  # where the board sees what this machine's Python needs
HOST_PYTHON = "/data/local/host-python"  # this Python with its packages, as a program there: for stand-ins of binaries

# The board's first process, root on a root of its own: waits for the cable, then keeps adbd alive as Android's init does.
FIRST = r"""
set -e
root=$1 port=$2 uid=$3 disk=$4 address=$5 serial=$6 link=$7 cores=$8; shift 8
mount --bind "$root" "$root"
mount -t tmpfs -o mode=771,size="$disk" data "$root/data"
mkdir -p "$root/data/local/tmp" "$root/data/services"
echo "ro.serialno=$serial" > "$root/data/property"
echo "ro.runtime.firstboot=$(date +%s%3N)" >> "$root/data/property"
printf '%s' "$PYTHON_LAUNCHER" > "$root/data/local/host-python"
chmod 755 "$root/data/local/host-python"; chmod 666 "$root/data/property"
chown "$uid:$uid" "$root/data/local/tmp" "$root/data/services"; chmod 771 "$root/data/local/tmp"
mount -t tmpfs -o mode=755 host "$root/system/host"
number=0
for folder in "$@"; do
    mkdir "$root/system/host/$number"; mount --bind "$folder" "$root/system/host/$number"
    mount -o remount,bind,ro "$root/system/host/$number"; number=$((number + 1))
done
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
stand_in=/sys/devices/system/cpu
mount -t tmpfs -o mode=755 cpu "$root$stand_in"
for list in online possible present; do echo "0-$((cores - 1))" > "$root$stand_in/$list"; done
core=0
while [ $core -lt "$cores" ]; do
    folder=$root$stand_in/cpu$core/cpufreq; mkdir -p "$folder"
    if [ $((core % 2)) -eq 0 ]; then most=1800000 capacity=250; else most=2850000 capacity=1024; fi
    echo $most > "$folder/cpuinfo_max_freq"; echo $most > "$folder/scaling_cur_freq"
    echo schedutil > "$folder/scaling_governor"; echo $capacity > "$root$stand_in/cpu$core/cpu_capacity"
    core=$((core + 1))
done
mount -t tmpfs -o mode=755 thermal "$root/sys/class/thermal"
mkdir "$root/sys/class/thermal/thermal_zone0" "$root/sys/class/thermal/thermal_zone1"
echo cpu-0-0 > "$root/sys/class/thermal/thermal_zone0/type"; echo 38200 > "$root/sys/class/thermal/thermal_zone0/temp"
echo modem > "$root/sys/class/thermal/thermal_zone1/type"; echo -273000 > "$root/sys/class/thermal/thermal_zone1/temp"
mount -t tmpfs -o mode=755 dev "$root/dev"
for node in null zero full random urandom tty; do touch "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
mkdir -p "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"; ln -s pts/ptmx "$root/dev/ptmx"
hostname localhost; ip link set lo up
until ip link show "$link" >/dev/null 2>&1; do sleep 0.01; done
ip addr add "$address/30" dev "$link"; ip link set "$link" up
while :; do
    chroot --userspec="$uid:$uid" --groups="$uid" "$root" /system/bin/env -i PATH=/system/bin HOME=/data \
        TMPDIR=/data/local/tmp ANDROID_ROOT=/system ANDROID_DATA=/data ADBD_PORT="$port" /usr/sbin/adbd || true
    sleep 0.2
done
"""
_numbers = itertools.count(1)


class AndroidBoard:
    """A board behind adbd; owns its processes and its network cable, which go when it or the tests end."""

    def __init__(self, root: Path, log: Path, *, disk_mib: int = 512) -> None:
        self.root, self.log, self.disk_mib = root, log, disk_mib
        number, pid = next(_numbers), os.getpid()
        self.link = f"ea{pid % 100000}n{number}"
        net = f"10.{192 + pid % 32}.{pid // 32 % 256}"  # of no other test process at the same time
        self.ours, self.theirs = f"{net}.{4 * (number % 64) + 1}", f"{net}.{4 * (number % 64) + 2}"
        self.serial = f"{self.theirs}:{PORT}"
        self.serial_number = f"EDGESHIP{pid:06d}{number:03d}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def device(self) -> Device:
        """Return the board as an entry of an inventory."""
        return Device(name="phone", target="android-x86_64", transport="adb", address=self.serial)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Boot the board and wait until its adbd takes connections."""
        spaces = ["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child", "--propagation", "private"]
        settings = [self.root, PORT, SHELL_UID, f"{self.disk_mib}m", self.theirs, self.serial_number, f"{self.link}b",
                    os.cpu_count() or 1]  # fmt: skip
        words = ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, "bash", "-c", FIRST, "board",
                 *map(str, settings), *_host_folders()]  # fmt: skip
        variables = {**os.environ, "PYTHON_LAUNCHER": _launcher()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables)
        first = self._first()
        for line in (
            ["ip", "link", "add", self.link, "type", "veth", "peer", "name", f"{self.link}b", "netns", str(first)],
            ["ip", "addr", "add", f"{self.ours}/30", "dev", self.link],
            ["ip", "link", "set", self.link, "up"],
        ):
            subprocess.run(line, check=True, timeout=20)
        self.await_adbd()

    def _first(self) -> int:
        """Return the board's first process, once it has a network of its own."""
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                for pid in below(self.process.pid)[:1]:
                    if Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink():
                        return pid
            time.sleep(0.01)
        raise AssertionError(f"the board does not start:\n{self.log.read_text()}")

    def await_adbd(self) -> None:
        """Wait until adbd takes connections."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            assert self.process is not None and self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
            with contextlib.suppress(OSError):
                if Path(f"/sys/class/net/{self.link}/operstate").read_text().strip() != "up":
                    continue  # who asks for its address too early has to wait a second before asking again
            with contextlib.suppress(OSError), socket.create_connection((self.theirs, PORT), timeout=0.1):
                return
        raise AssertionError(f"adbd does not answer:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Pull the plug: every process of the board is gone afterwards, and what it had on its disk."""
        if self.process is None:
            return
        for pid in below(self.process.pid)[:1] or [self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(20)
        self.process = None
        subprocess.run(["ip", "link", "del", self.link], check=False, timeout=20, stderr=subprocess.DEVNULL)

    def adbd(self) -> int:
        """Return adbd's process."""
        return next(pid for pid in self._pids() if _words(pid).startswith("/usr/sbin/adbd"))

    def processes(self) -> list[str]:
        """Return the command lines of all that runs there beside the board's own."""
        own = ("/usr/sbin/adbd", "bash -c", "sleep 0.2")
        return [words for pid in self._pids() if (words := _words(pid)) and not words.startswith(own)]

    def _pids(self) -> list[int]:
        assert self.process is not None
        return below(self.process.pid)

    def kill_adbd(self) -> None:
        """Kill adbd with all that hangs on its connections; the board starts another one soon."""
        os.kill(self.adbd(), signal.SIGKILL)

    @contextlib.contextmanager
    def stopped_adbd(self) -> Iterator[None]:
        """Keep adbd from answering for a while."""
        adbd = self.adbd()
        os.kill(adbd, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(adbd, signal.SIGCONT)

    def cut(self) -> None:
        """Pull the network cable: nothing comes through, and nobody is told."""
        subprocess.run(["ip", "link", "set", self.link, "down"], check=True, timeout=20)

    def mend(self) -> None:
        """Put the cable back."""
        subprocess.run(["ip", "link", "set", self.link, "up"], check=True, timeout=20)

    def path(self, path: str) -> Path:
        """Return a path of the board as this machine sees it."""
        return Path(f"/proc/{self._pids()[0]}/root{self.root}{path}")


def below(pid: int) -> list[int]:
    """Return a process' descendants, parents first."""
    with contextlib.suppress(OSError):
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
        return [*children, *(each for child in children for each in below(child))]
    return []


def _words(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _host_folders() -> list[str]:
    """Return what this Python needs to run elsewhere: itself first, the loader's folder, libraries, then its packages."""
    loader = Path("/lib64/ld-linux-x86-64.so.2").resolve().parent  # a link there would lead to the board's own
    libraries = [str(loader), "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"]
    packages = [path for path in sys.path if path and Path(path).is_dir() and not path.startswith(sys.base_prefix)]
    return [sys.base_prefix, *libraries, *packages]


def _launcher() -> str:
    """Return a program for the board that is this Python, with this machine's libraries and packages."""
    places = [f"{HOST}/{number}" for number in range(len(_host_folders()))]
    program = Path(sys.executable).resolve().relative_to(Path(sys.base_prefix).resolve())
    return f"""#!/system/bin/sh
export PYTHONHOME={HOST}/0 PYTHONPATH={":".join(places[4:])} PYTHONDONTWRITEBYTECODE=1
exec {HOST}/1/ld-linux-x86-64.so.2 --library-path {HOST}/0/lib:{HOST}/2:{HOST}/3 {HOST}/0/{program} "$@"
"""


class AdbServer:
    """An adb server of the tests' own, on a port of its own; owns it, whoever restarts it."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.home = home
        home.mkdir(parents=True, exist_ok=True)

    @property
    def variables(self) -> dict[str, str]:
        """Return what makes the adb program use this server; its key goes into a home of its own."""
        return {"ANDROID_ADB_SERVER_PORT": str(self.port), "HOME": str(self.home)}

    def __call__(self, *words: str) -> str:
        """Run the adb program and return what it printed."""
        done = subprocess.run(
            ["adb", *words], env={**os.environ, **self.variables}, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=60, cwd="/",
        )  # fmt: skip
        return done.stdout + done.stderr

    def pids(self) -> list[int]:
        """Return the server's processes."""
        mark = f"tcp:{self.port} "
        found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        return [pid for pid in found if (words := _words(pid)).startswith("adb -L") and mark in words + " "]

    def kill(self) -> None:
        """Kill the server without a word."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """End the server, if one runs."""
        self.kill()


@pytest.fixture(scope="session")
def android_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of Android boards, in the folder that EDGESHIP_TEST_LAB names, else in this run's own."""
    if os.geteuid() != 0:
        require("root: a network and a disk of the board's own")
    missing = [name for name in ("adb", "mmdebstrap", "unshare", "setpriv", "ip", "bash") if not shutil.which(name)]
    if missing:
        require(", ".join(missing))
    named = os.environ.get("EDGESHIP_TEST_LAB")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base  # the workers' folders lie side by side
    return make_root(Path(named) if named else shared / "lab")


@pytest.fixture
def adb_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdbServer]:
    """Return an adb server on a port of its own, which this test's commands use."""
    server = AdbServer(tmp_path / "adb-home")
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
    yield server
    server.end()


@pytest.fixture
def android_board(android_root: Path, adb_server: AdbServer, tmp_path: Path) -> Iterator[AndroidBoard]:
    """Return a running Android board."""
    with AndroidBoard(android_root, tmp_path / "board.log") as board:
        yield board


@pytest.fixture
def android_device(android_board: AndroidBoard) -> Device:
    """Return a running Android board as an entry of an inventory."""
    return android_board.device


@pytest.fixture
def bridge(android_device: Device) -> AndroidBridge:
    """Return a connection to a running board."""
    return connect(android_device)
