"""Boards that sleep: an image is started once, put to sleep with its memory warm, and every board of it wakes from there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgeship import command, digest, scratch
from edgeship.command import ProgramPipe
from edgeship.errors import DeviceFault
from edgeship.lab import hardware as hardware_module
from edgeship.lab import image as image_module
from edgeship.lab import machine as machine_module
from edgeship.lab import monitor
from edgeship.lab.hardware import Hardware
from edgeship.lab.image import Image
from edgeship.lab.machine import Machine, Who
from edgeship.lab.monitor import NoAnswer
from edgeship.progress import OnProgress, Progress
from edgeship.target import Target

_SETTLE_TIMEOUT_S = 600.0
_DISK = "disk.qcow2"
_DEFAULT_RUNTIME = "2.3.0"  # on a board whose target has another one
_NEEDED_MIB = 600  # a snapshot, and the disk of a board that woke from it


def image(lab: Path, target: Target, mirror: str | None, on_progress: OnProgress) -> Image:
    """Return the image for a target, made if it is not there; see `image.make` for what it raises."""
    versions = [one.version for one in target.runtimes if one.name == image_module.RUNTIME and one.version]
    runtime = versions[0] if versions else _DEFAULT_RUNTIME
    return image_module.make(lab, runtime=runtime, mirror=mirror, settle=_settle, on_progress=on_progress)


def start(
    lab: Path, place: Path, who: Who, wanted: Hardware, made: Image, on_progress: OnProgress,
    *, lifeline: bool = False, sleeping: bool = True,
) -> tuple[Machine, ProgramPipe | None]:  # fmt: skip
    """Start a board in an empty folder from its snapshot, made now if need be; one that does not wake is made again.

    Args:
        sleeping: False starts it cold.

    Raises:
        DeviceFault: it does not start, cold neither; the text ends with the path of what it said.
    """
    with named(who, place, lab):
        for _ in range(2 if sleeping else 0):
            disk = _disk(lab, made, wanted, on_progress)
            on_progress(Progress("board", 1, 2, f"{who.name} wakes up"))
            try:
                return machine_module.start(place, made, wanted, who, snapshot=disk, lifeline=lifeline)
            except NoAnswer:
                shutil.rmtree(disk.parent, ignore_errors=True)
                (place / machine_module.OVERLAY).unlink(missing_ok=True)
        on_progress(Progress("board", 1, 2, f"{who.name} starts"))
        return machine_module.start(place, made, wanted, who, snapshot=None, lifeline=lifeline)


@contextlib.contextmanager
def named(who: Who, place: Path, lab: Path) -> Iterator[None]:
    """Name the board when it does not start, and keep what it said."""
    try:
        yield
    except NoAnswer as why:
        log = lab / "logs" / f"{who.name}-console.log"
        log.parent.mkdir(exist_ok=True)
        said = [path.read_bytes() for path in (place / "qemu.log", place / monitor.CONSOLE_LOG) if path.is_file()]
        log.write_bytes(b"\n".join(said))
        raise DeviceFault(
            f"{who.name}: the virtual board does not start: {why}; full log: {log}", fault="unreachable", log=log
        ) from None


def where(lab: Path, made: Image, wanted: Hardware) -> Path:
    """Return where the disk with the sleeping system of some hardware lies, once it is made."""
    version = command.call(machine_module.QEMU, "--version", timeout_s=60).output.splitlines()[0]
    code = digest.of_file(Path(machine_module.__file__))
    return lab / "snapshots" / digest.of_value([made.key, wanted.words, version, code])[:16] / _DISK


def _disk(lab: Path, made: Image, wanted: Hardware, on_progress: OnProgress) -> Path:
    """Return that disk, made if it is not there."""
    disk = where(lab, made, wanted)
    if disk.is_file():
        image_module.used(disk)
        return disk
    snapshots = lab / "snapshots"
    with image_module.locked(snapshots / f"{disk.parent.name}.lock"):
        if not disk.is_file():
            image_module.require_space(snapshots, _NEEDED_MIB)
            on_progress(Progress("board", 0, 2, f"the first start of a {wanted.cpu}"))
            with scratch.folder(snapshots) as place:
                _sleep(place, made, wanted, lab)
                ready = place / "ready"
                ready.mkdir()
                (place / machine_module.OVERLAY).rename(ready / _DISK)
                ready.rename(disk.parent)
    return disk


def _sleep(place: Path, made: Image, wanted: Hardware, lab: Path) -> None:
    """Start a board cold in an empty folder and put it to sleep with its memory warm."""
    with _nobody(place, made, wanted, lab):
        machine_module.as_root(place, "/usr/lib/edgeship/settle", timeout_s=_SETTLE_TIMEOUT_S)
        with monitor.monitor(place, timeout_s=10) as qemu:
            qemu.order("stop")
            complaint = qemu.say(f"savevm {machine_module.SNAPSHOT}").strip()
        if complaint:
            raise NoAnswer(complaint)


def _settle(made: Image, place: Path, lab: Path) -> None:
    """Start a new image once, at full speed, and let it keep the compiled form of what a bench imports."""
    fast = Hardware(hardware_module.PLAIN_CPU, hardware_module.PLAIN_MEMORY_MIB, os.cpu_count() or 1, counted=False)
    place.mkdir()
    script = "/usr/lib/edgeship/settle && rm -f /etc/machine-id && sync && mount -o remount,ro /"
    with _nobody(place, made, fast, lab):
        machine_module.as_root(place, script, timeout_s=_SETTLE_TIMEOUT_S)
    command.call("qemu-img", "commit", "-q", place / machine_module.OVERLAY, timeout_s=120)


@contextlib.contextmanager
def _nobody(place: Path, made: Image, wanted: Hardware, lab: Path) -> Iterator[None]:
    """Give a board that is nobody yet, started cold; it has ended afterwards, its disk stays."""
    who = Who("board", "", machine_module.machine_id("board"), "linux", "board")
    with named(who, place, lab):
        _, pipe = machine_module.start(place, made, wanted, who, snapshot=None, lifeline=True)
        try:
            yield
        finally:
            machine_module.end(place, pipe)
