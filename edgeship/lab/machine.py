"""One virtual board: started cold or from its snapshot, told who it is, and ended. Its folder is all there is of it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

from edgeship import command
from edgeship.command import ProgramPipe
from edgeship.errors import DeviceFault, StageFailed
from edgeship.lab import monitor
from edgeship.lab.hardware import Hardware
from edgeship.lab.image import USER, Image
from edgeship.lab.monitor import NoAnswer

QEMU = "qemu-system-aarch64"
OVERLAY, PID, STATE, KNOWN_HOSTS = "overlay.qcow2", "qemu.pid", "machine.json", "known_hosts"
SNAPSHOT = "ready"
SSH_PORT, ADB_PORT = 22, 5555
_START_TIMEOUT_S, _COLD_TIMEOUT_S, _WAKE_TIMEOUT_S, _END_TIMEOUT_S = 60.0, 300.0, 60.0, 10.0
KERNEL = (
    "console=ttyAMA0 quiet loglevel=3 panic=1 mitigations=off random.trust_cpu=on",
    # The same addresses in every process and at every start: times repeat, and what was translated once stays good.
    "nokaslr norandmaps",
)


@dataclass(frozen=True)
class Who:
    """Who a board is: its name, the target it stands for, the 32 hex digits of its machine id, its system and model."""

    name: str
    target: str
    machine_id: str
    system: str
    model: str

    @property
    def words(self) -> tuple[str, str, str, str]:
        """Return the arguments of the board's `identify`."""
        return self.machine_id, self.name, self.system, self.model.replace(" ", "_")


@dataclass(frozen=True)
class Machine:
    """A virtual board as its users see it; `pid` is QEMU's. Its numbers are simulated, always.

    `counted`: one instruction is one nanosecond there, so latency repeats. `unmodelled` says what it knows nothing of.
    """

    name: str
    target: str
    system: str
    folder: Path
    identity: Path
    pid: int
    ssh_port: int
    adb_port: int
    counted: bool
    unmodelled: tuple[str, ...]
    cpu: str
    memory_mib: int
    image: str
    started: float
    user: str = USER
    simulated: bool = True

    @property
    def known_hosts(self) -> Path:
        """Return the file that holds the board's host key, for its port."""
        return self.folder / KNOWN_HOSTS

    @property
    def state(self) -> Literal["running", "dead"]:
        """Return whether it runs; a dead one was ended by something else than `down`."""
        return "running" if holder(self.folder) == self.pid else "dead"

    @property
    def ssh_command(self) -> str:
        """Return the command line that logs in there."""
        options = (
            "-F",
            "none",
            "-i",
            self.identity,
            "-o",
            f"UserKnownHostsFile={self.known_hosts}",
            "-p",
            self.ssh_port,
        )
        return shlex.join(["ssh", *map(str, options), f"{self.user}@127.0.0.1"])


def machine_id(*parts: str) -> str:
    """Return a machine id that is always the same for the same words."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def start(
    folder: Path, image: Image, hardware: Hardware, who: Who, *, snapshot: Path | None,
    lifeline: bool = False, ports: Mapping[int, int] | None = None,
) -> tuple[Machine, ProgramPipe | None]:  # fmt: skip
    """Start the board of a folder and return it once its ssh server greets.

    Args:
        folder: empty, or with the disk that an earlier start left, which is taken as it is.
        snapshot: the disk with the sleeping system that it wakes from; without it, it starts cold.
        lifeline: it ends with this process; the pipe that is returned then ends it when closed.
        ports: port there → port here; others are free ones.

    Raises:
        NoAnswer: it does not start, or nothing in it answers; it has been ended.
    """
    if snapshot is not None:
        try:
            shutil.copyfile(snapshot, folder / OVERLAY)
        except FileNotFoundError:
            raise NoAnswer("its snapshot is gone") from None
    elif not (folder / OVERLAY).exists():
        new_disk(folder / OVERLAY, image.disk)
    words = _words(image, hardware, who, ports or {})
    pipe = None
    try:
        pipe = launch(folder, [*words, *(("-loadvm", SNAPSHOT) if snapshot else ())], lifeline=lifeline)
        with monitor.monitor(folder, timeout_s=_START_TIMEOUT_S, alive=lambda: _alive(folder, pipe)) as qemu:
            found = qemu.ports()
        _tell_who(folder, who, cold=snapshot is None)
        monitor.wait_banner(found[SSH_PORT], timeout_s=_WAKE_TIMEOUT_S)
        pid = holder(folder)
        if pid is None:
            raise NoAnswer("QEMU ended")
    except BaseException:
        end(folder, pipe)
        raise
    made = Machine(
        who.name, who.target, who.system, folder, image.identity, pid, found[SSH_PORT], found[ADB_PORT], hardware.counted,
        hardware.unmodelled, hardware.cpu, hardware.memory_mib, image.key, time.time(),
    )  # fmt: skip
    made.known_hosts.write_text(f"[127.0.0.1]:{made.ssh_port} {image.host_key}\n")
    table = {**asdict(made), "folder": str(folder), "identity": str(made.identity)}
    (folder / STATE).write_text(json.dumps(table, indent=1))
    return made, pipe


def read(folder: Path) -> Machine | None:
    """Return the board of a folder as its start left it, or None when no start there was finished."""
    try:
        table = json.loads((folder / STATE).read_text())
        table["unmodelled"] = tuple(table["unmodelled"])
        return Machine(**{**table, "folder": folder, "identity": Path(table["identity"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def launch(folder: Path, words: Sequence[str], *, lifeline: bool) -> ProgramPipe | None:
    """Start QEMU in a folder; with a lifeline, under a keeper that ends it with this process.

    Raises:
        NoAnswer: it refuses its options, or its snapshot.
    """
    (folder / PID).unlink(missing_ok=True)
    if lifeline:
        keeper = Path(__file__).with_name("keeper.py")
        return ProgramPipe([sys.executable, "-IS", str(keeper), str(folder), QEMU, *words])
    try:
        command.call(QEMU, *words, "-daemonize", timeout_s=_START_TIMEOUT_S, log=folder / "qemu.log", folder=folder)
    except StageFailed as failed:
        raise NoAnswer(failed.message) from None
    return None


def end(folder: Path, pipe: ProgramPipe | None) -> None:
    """End the board of a folder: by QEMU's own order to quit, else by the kernel's.

    Raises:
        DeviceFault: it does not end.
    """
    if holder(folder) is not None:
        with contextlib.suppress(NoAnswer), monitor.monitor(folder, timeout_s=2) as qemu:
            qemu.order("quit")
    deadline = time.monotonic() + _END_TIMEOUT_S
    while (pid := holder(folder)) is not None and time.monotonic() < deadline:
        if deadline - time.monotonic() < _END_TIMEOUT_S - 3:
            kill(folder)
        time.sleep(0.02)
    if pipe is not None:
        pipe.close()
        pipe.stdout.close()
        pipe.stderr.close()
    if pid is not None:
        raise DeviceFault(f"{folder.name}: QEMU (process {pid}) does not end", fault="timeout")


def kill(folder: Path) -> None:
    """End the board of a folder as a power cut would: what its system had not written to its disk is gone."""
    pid = holder(folder)
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            if holder(folder) == pid:  # still ours: between the two looks the number may have gone to another
                signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)


def as_root(folder: Path, script: str, *, timeout_s: float) -> None:
    """Run a script of one line as root on the board of a folder, through its console.

    Raises:
        NoAnswer: it failed, or takes longer.
    """
    with monitor.console(folder, timeout_s=_WAKE_TIMEOUT_S) as board:
        board.run(script, timeout_s=timeout_s)


def holder(folder: Path) -> int | None:
    """Return the process number of the QEMU that runs in a folder, or None: it holds a lock on the file with its number."""
    try:
        descriptor = os.open(folder / PID, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        said = os.read(descriptor, 32).strip()
        return int(said) if said else None
    finally:
        os.close(descriptor)
    return None


def new_disk(overlay: Path, base: Path) -> None:
    """Make a disk that holds what is written over `base`, by a relative name so that both can be moved together."""
    behind = os.path.relpath(base, overlay.parent)
    command.call("qemu-img", "create", "-q", "-f", "qcow2", "-b", behind, "-F", "raw", overlay, timeout_s=60)


def _words(image: Image, hardware: Hardware, who: Who, ports: Mapping[int, int]) -> list[str]:
    names = zip(("id", "name", "system", "model"), who.words, strict=True)
    kernel = " ".join((*KERNEL, *(f"edgeship.{name}={word}" for name, word in names)))
    forwards = ",".join(f"hostfwd=tcp:127.0.0.1:{ports.get(port, 0)}-10.0.2.15:{port}" for port in (SSH_PORT, ADB_PORT))
    return [
        *hardware.words,
        "-nodefaults", "-no-user-config", "-display", "none", "-pidfile", PID,
        "-chardev", f"socket,id=console,path={monitor.CONSOLE},server=on,wait=off,logfile={monitor.CONSOLE_LOG}",
        "-serial", "chardev:console",
        "-qmp", f"unix:{monitor.MONITOR},server=on,wait=off",
        "-kernel", str(image.folder / "vmlinuz"), "-initrd", str(image.folder / "initrd.img"), "-append", kernel,
        # report: a full disk here is an error there; otherwise QEMU stops the board, without a word.
        "-drive", f"if=none,id=disk,file={OVERLAY},format=qcow2,werror=report,rerror=report",
        "-device", "virtio-blk-device,drive=disk",
        "-netdev", f"user,id=net,restrict=on,{forwards}", "-device", "virtio-net-device,netdev=net",
        "-device", "virtio-rng-device",
    ]  # fmt: skip


def _tell_who(folder: Path, who: Who, *, cold: bool) -> None:
    with monitor.console(folder, timeout_s=_START_TIMEOUT_S) as board:
        if cold:
            board.wait_ready(timeout_s=_COLD_TIMEOUT_S)
        else:
            words = shlex.join((*who.words, str(uuid4())))
            order = f"date -u -s @{time.time():.0f} >/dev/null && /usr/lib/edgeship/identify {words}"
            board.run(order, timeout_s=_WAKE_TIMEOUT_S)


def _alive(folder: Path, pipe: ProgramPipe | None) -> bool:
    return pipe.process.poll() is None if pipe is not None else holder(folder) is not None
