"""The virtual boards there are: those that `up` leaves running in the background, and those held by one process.

Below `$EDGESHIP_HOME/lab`: `images/<key>`, `snapshots/<key>`, `machines/<name>` (left running), `held/<anything>`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from edgeship import scratch, store
from edgeship.command import ProgramPipe
from edgeship.errors import NothingToDo
from edgeship.lab import hardware, machine, snapshot
from edgeship.lab import image as image_module
from edgeship.lab.hardware import Hardware
from edgeship.lab.image import Image
from edgeship.lab.machine import ADB_PORT, SSH_PORT, Machine, Who
from edgeship.progress import OnProgress, silent
from edgeship.target import Target
from edgeship.target import read as read_target


def folder() -> Path:
    """Return where virtual boards lie: `lab` in edgeship's home."""
    return (store.home() / "lab").resolve()


def up(
    target: str, *, counted: bool = True, mirror: str | None = None, on_progress: OnProgress = silent,
    lab: Path | None = None,
) -> Machine:  # fmt: skip
    """Return the running board of a target, started in the background if it does not run; it then stays.

    Args:
        counted: latency repeats, on one core; otherwise all of this machine's cores are used and times mean nothing.
        mirror: address of a Debian mirror to make the image from, the first time.
        lab: where virtual boards lie; default: `folder()`.

    Raises:
        BadInput: no such target, or QEMU has nothing for it.
        MissingTool: programs are missing; the hint is the one command that brings them all.
        StageFailed: the image cannot be made.
        DeviceFault: the board does not start; the text ends with the path of what it said.
    """
    lab, kind, wanted = _wanted(lab, target, counted)
    name = name_of(target, counted=counted)
    place = lab / "machines" / name
    with store.no_space_named(lab), image_module.locked(lab / "machines" / f"{name}.lock"):
        found = machine.read(place)
        if found is not None and found.state == "running":
            return found
        _remove(place)
        place.mkdir(mode=0o700)
        try:
            made = snapshot.image(lab, kind, mirror, on_progress)
            return snapshot.start(lab, place, _who(lab, kind, name), wanted, made, on_progress)[0]
        except BaseException:
            _remove(place)
            raise


class Held:
    """A board that lives no longer than this process. Use it with `with`, or close it."""

    def __init__(self, lab: Path, kind: Target, wanted: Hardware, on_progress: OnProgress, *, sleeping: bool) -> None:
        self._kind, self._wanted, self._lab = kind, wanted, lab
        with store.no_space_named(lab), contextlib.ExitStack() as stack:
            self._image = snapshot.image(lab, kind, None, on_progress)
            (lab / "held").mkdir(mode=0o700, exist_ok=True)
            name = stack.enter_context(_free_name(lab / "held", name_of(kind.name, counted=wanted.counted)))
            place = stack.enter_context(scratch.folder(lab / "held"))
            self._who = _who(lab, kind, name)
            self._pipe: ProgramPipe | None = None
            stack.callback(self._end, place)
            self.machine, self._pipe = snapshot.start(
                lab, place, self._who, wanted, self._image, on_progress, lifeline=True, sleeping=sleeping
            )
            self._stack = stack.pop_all()

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def power_cycle(self) -> None:
        """Cut its power and start it again from what its disk holds, on the same ports; `machine` is then the new one.

        Raises:
            DeviceFault: it does not come up again.
        """
        place = self.machine.folder
        machine.kill(place)
        self._end(place)
        self._pipe = None
        with snapshot.named(self._who, place, self._lab):
            self.machine, self._pipe = machine.start(
                place, self._image, self._wanted, self._who, snapshot=None, lifeline=True, ports=_ports(self.machine)
            )

    def close(self) -> None:
        """End the board and remove its folder; calling it again does nothing."""
        self._stack.close()

    def _end(self, place: Path) -> None:
        machine.end(place, self._pipe)


def hold(
    target: str, *, counted: bool = True, on_progress: OnProgress = silent, lab: Path | None = None,
    sleeping: bool = True,
) -> Held:  # fmt: skip
    """Start a board of a target for this process alone; several of one target may run at a time. Raises as `up` does.

    Args:
        sleeping: wake it from its snapshot; otherwise it starts cold.
    """
    lab, kind, wanted = _wanted(lab, target, counted)
    return Held(lab, kind, wanted, on_progress, sleeping=sleeping)


def running(target: str | None = None, *, lab: Path | None = None) -> list[Machine]:
    """Return the boards that `up` left running, dead ones too, sorted by name; only those of one target when it is given."""
    lab = lab or folder()
    found = (machine.read(place) for place in _places(lab))
    return [one for one in found if one is not None and target in (None, one.target)]


def down(target: str | None = None, *, lab: Path | None = None) -> list[Machine]:
    """End the boards of a target, or all of them, and remove their disks; return what was ended, dead ones too.

    Raises:
        NothingToDo: none of that target runs.
        DeviceFault: one does not end.
    """
    lab = lab or folder()
    found = running(target, lab=lab)
    names = {one.name for one in found}
    # What a killed `up` left half started has no record yet, but may have a QEMU.
    names |= {place.name for place in _places(lab) if target in (None, place.name) and machine.read(place) is None}
    if not names:
        others = sorted({one.target for one in running(lab=lab)})
        raise NothingToDo(
            f"{target}: no virtual board of it runs" if target else "no virtual board runs",
            hint=f"running: {', '.join(others)}" if others else None,
        )
    for name in sorted(names):
        with image_module.locked(lab / "machines" / f"{name}.lock"):
            _remove(lab / "machines" / name)
    return found


def power_cycle(board: Machine, *, lab: Path | None = None) -> Machine:
    """Cut the power of a board that `up` left running and start it again from what its disk holds, on the same ports.

    Raises:
        DeviceFault: it does not come up again.
    """
    lab, kind, wanted = _wanted(lab, board.target, board.counted)
    with image_module.locked(lab / "machines" / f"{board.name}.lock"):
        machine.kill(board.folder)
        machine.end(board.folder, None)
        made, who = Image(board.image, board.identity.parent), _who(lab, kind, board.name)
        with snapshot.named(who, board.folder, lab):
            return machine.start(board.folder, made, wanted, who, snapshot=None, ports=_ports(board))[0]


def name_of(target: str, *, counted: bool) -> str:
    """Return the name of a target's board, which is also its host name."""
    return target if counted else f"{target}-fast"


def _wanted(lab: Path | None, target: str, counted: bool) -> tuple[Path, Target, Hardware]:
    kind = read_target(target)
    wanted = hardware.of_target(kind, counted=counted)
    image_module.require_programs(image_module.RUNNING)
    lab = lab or folder()
    lab.mkdir(mode=0o700, parents=True, exist_ok=True)  # keys and memories of boards lie there
    return lab, kind, wanted


def _places(lab: Path) -> list[Path]:
    return sorted(place for place in lab.glob("machines/*") if place.is_dir())


def _remove(place: Path) -> None:
    machine.end(place, None)
    shutil.rmtree(place, ignore_errors=True)


def _ports(board: Machine) -> dict[int, int]:
    return {SSH_PORT: board.ssh_port, ADB_PORT: board.adb_port}


def _who(lab: Path, target: Target, name: str) -> Who:
    """Return who a board is: the same each time it has the same name in the same lab."""
    mark = lab / "id"
    with image_module.locked(lab / "lock"):
        if not mark.is_file():
            mark.write_text(uuid4().hex)
        identity = machine.machine_id(mark.read_text(), name)
    return Who(name, target.name, identity, target.platform.system, hardware.model(target))


@contextlib.contextmanager
def _free_name(held: Path, name: str) -> Iterator[str]:
    """Give the first free name for another board of a target: the same ones again and again, never two at a time."""
    number = 1
    while True:
        descriptor = os.open(held / f"{name}-{number}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            number += 1
            continue
        try:
            yield f"{name}-{number}"
        finally:
            os.close(descriptor)
        return
