"""What commands about devices find and leave: the records that `--json` and the terminal are made from."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.errors import EdgeshipError
from edgeship.measurement import Board, Golden


@dataclass(frozen=True)
class DeviceRow:
    """One device of the inventory, as `devices list` shows it."""

    name: str
    target: str
    transport: str
    address: str | None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mismatch:
    """One thing in which a board is not what its target says."""

    what: str
    expected: str
    found: str


@dataclass(frozen=True)
class DeviceCheck:
    """What a device said when asked, against its target; `board` is None when it could not be reached, and `notes` say why."""

    device: str
    target: str
    reachable: bool
    board: Board | None
    mismatches: tuple[Mismatch, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundDevice:
    """One device that a scan came upon. `state` is in the transport's word; `known_as` its name in the inventory, if any."""

    name: str
    transport: str
    address: str
    state: str
    known_as: str | None = None


@dataclass(frozen=True)
class LabMachine:
    """One virtual board: whether it runs, and how it is reached."""

    target: str
    state: str
    pid: int | None = None
    ssh_port: int | None = None
    adb_port: int | None = None
    counted: bool = False
    ssh_command: str | None = None


@dataclass(frozen=True)
class Deployed:
    """A model left at a path on a board, or put back there; `previous` is the version that stood there before."""

    device: str
    path: str
    version: str
    artifact_sha256: str
    previous: str | None
    golden: Golden | None


@dataclass(frozen=True)
class Failed:
    """A device of several that brought nothing back, and why."""

    device: str
    error: EdgeshipError
