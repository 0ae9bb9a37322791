"""The drawer of devices: what is in it, what is found nearby, and whether a board is what its entry says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from edgeship import attempt, digest, edgetpu_delegate, inventory, target, toml_file
from edgeship.device import Device
from edgeship.devices import adb, ssh
from edgeship.errors import BadInput, EdgeshipError, MissingTool, NothingToDo
from edgeship.measurement import Board
from edgeship.remote import quote
from edgeship.run_devices import DeviceCheck, DeviceRow, FoundDevice, Mismatch
from edgeship.target import Target

LOW_SPACE_MIB = 256


def rows(inventory_file: Path | None) -> list[DeviceRow]:
    """Return every device of the inventory, sorted by name, after `local`."""
    place = inventory.place(inventory_file)
    named = sorted(inventory.read(place).values(), key=lambda entry: entry.name)
    with contextlib.suppress(BadInput):  # this machine may be of no kind that there is a target for
        named = [inventory.find("local", place), *named]
    return [DeviceRow(entry.name, entry.target, entry.transport, _address(entry), entry.tags) for entry in named]


def _address(entry: Device) -> str | None:
    if entry.address is None:
        return None
    user = f"{entry.user}@" if entry.user else ""
    return f"{user}{entry.address}" + (f":{entry.port}" if entry.port else "")


def scan(inventory_file: Path | None) -> list[FoundDevice]:
    """Return the devices that could be added: those of adb, and the hosts of the user's ssh config.

    Raises:
        BadInput: the ssh config cannot be read.
    """
    known = {entry.address: entry.name for entry in inventory.read(inventory.place(inventory_file)).values()}
    found = [FoundDevice(name, "ssh", address, "in the ssh config", known.get(address)) for name, address in ssh.scan()]
    with contextlib.suppress(MissingTool):  # who has no adb has no adb devices
        found += [
            FoundDevice(one.model or one.serial, "adb", one.serial, one.state, known.get(one.serial))
            for one in adb.scan()
        ]
    return found


def entry(fields: dict[str, Any], benchmark_model: Path | None) -> Device:
    """Return the entry for a new device, its transport and the sums of its files filled in.

    Raises:
        BadInput: a field does not fit, or the binary is not there.
    """
    kind = target.read(fields["target"])
    remote = "adb" if kind.platform.system == "android" else "ssh"
    fields = {"transport": remote if "address" in fields else kind.transports[0], **fields}
    if benchmark_model is not None:
        if not benchmark_model.is_file():
            raise BadInput(f"{benchmark_model}: no such file", hint="--benchmark-model names the binary for this board")
        fields |= {
            "benchmark_model": str(benchmark_model.resolve()),
            "benchmark_model_sha256": digest.of_file(benchmark_model),
        }
    if "identity" in fields:  # relative to where the user stands, not to the devices file
        fields["identity"] = str(Path(fields["identity"]).expanduser().absolute())
    return toml_file.parse(fields, Device, where=f"edgeship devices add {fields['name']}")


def remove(name: str, inventory_file: Path | None) -> Path:
    """Take a device out of the inventory; return the file.

    Raises:
        BadInput: there is no such entry.
    """
    place = inventory.place(inventory_file)
    inventory.remove(place, name)
    return place


def check_all(names: Sequence[str], inventory_file: Path | None, *, wait_s: int = 0) -> list[DeviceCheck]:
    """Return the check of each device named, else of every one in the file; devices are asked at the same time."""
    wanted = list(names) or sorted(inventory.read(inventory.place(inventory_file)))
    if not wanted:
        raise NothingToDo("there are no devices yet", hint="edgeship devices scan finds some; edgeship devices add")
    with ThreadPoolExecutor(len(wanted)) as pool:
        return list(pool.map(lambda name: check(name, inventory_file, wait_s=wait_s), wanted))


def check(name: str, inventory_file: Path | None, *, wait_s: int = 0) -> DeviceCheck:
    """Connect, ask the board what it is, and name each thing in which it is not what its target says.

    Raises:
        BadInput: no such device.
    """
    entry = inventory.find(name, inventory.place(inventory_file))
    kind = target.read(entry.target)
    try:
        with attempt.leased(entry, kind, wait_s=wait_s) as (session, simulated):
            board = session.board
    except EdgeshipError as error:
        notes = (error.message, *((error.hint,) if error.hint else ()))
        return DeviceCheck(name, kind.name, False, None, (), notes)
    found = mismatches(board, kind, simulated=simulated)
    return DeviceCheck(name, kind.name, True, board, found, tuple(_notes(board, kind, found)))


def clean(name: str, inventory_file: Path | None, *, wait_s: int = 0) -> int:
    """Empty edgeship's cache on a board; return how many MiB were freed."""
    entry = inventory.find(name, inventory.place(inventory_file))
    with attempt.leased(entry, target.read(entry.target), wait_s=wait_s) as (session, _):
        size = f"cd {quote(session.root)} && set -- $(du -sk blobs trees | while read -r kib rest; do echo $kib; done) && echo $(($1 + $2))"
        before = int(session.checked(size).text or 0)
        session.trim(cap_mib=0, spare_minutes=0)
        return (before - int(session.checked(size).text or 0)) // 1024


def mismatches(board: Board, kind: Target, *, simulated: bool = False) -> tuple[Mismatch, ...]:
    """Return each thing in which a board is not what its target says; what either does not say is no mismatch."""
    found: list[Mismatch] = []
    platform = kind.platform
    if platform.architecture == "aarch64" and board.architecture == "aarch64" and board.word_bits == 32:
        found.append(Mismatch("userland", "64-bit", "32-bit, under a 64-bit kernel"))
    elif platform.architecture and board.architecture and not _same_machine(platform.architecture, board):
        found.append(Mismatch("architecture", platform.architecture, board.architecture))
    if platform.abi and board.abi and platform.abi != board.abi:
        found.append(Mismatch("ABI", platform.abi, board.abi))
    identity = kind.board.identity if kind.board else None
    if identity and not simulated:
        if board.model is None:
            found.append(Mismatch("model", identity, "the board names none (no /proc/device-tree/model)"))
        elif not fnmatchcase(board.model, identity):
            found.append(Mismatch("model", identity, board.model))
    if kind.cpu and kind.cpu.cores and board.cores and board.cores != kind.cpu.cores and not simulated:
        found.append(Mismatch("cores", str(kind.cpu.cores), str(board.cores)))
    lacking = [
        name for name in (kind.cpu.features if kind.cpu else ()) if board.features and name not in board.features
    ]
    if lacking:
        found.append(Mismatch("CPU features", ", ".join(lacking), "not among those of the board"))
    memory = kind.board.memory_mib if kind.board else None
    # Firmware and a GPU take their part of what is soldered on.
    if memory and board.memory_mib and board.memory_mib < 0.75 * memory:
        found.append(Mismatch("memory", f"{memory} MiB", f"{board.memory_mib} MiB"))
    found += _runtime_mismatches(board, kind)
    found += _chip_mismatches(board, kind)
    return tuple(found)


def _same_machine(architecture: str, board: Board) -> bool:
    if architecture == "armv7l":  # a 32-bit userland runs under a 64-bit kernel, and uname tells of the kernel
        return board.architecture in ("armv7l", "armv8l") or (board.architecture == "aarch64" and board.word_bits == 32)
    return board.architecture == architecture


def _runtime_mismatches(board: Board, kind: Target) -> list[Mismatch]:
    wanted = kind.runtimes[0]
    there = board.runtimes.get(wanted.name)
    if there and wanted.version and there != wanted.version:
        return [Mismatch(f"runtime {wanted.name}", wanted.version, there)]
    return []


def _chip_mismatches(board: Board, kind: Target) -> Iterator[Mismatch]:
    """Name what keeps a target's Edge TPU from running models there: absent, not ours to open, or without its library."""
    chip = kind.accelerator
    if chip is None:
        return
    places = {"usb": "on USB (1a6e:089a, after its first use 18d1:9302)", "pcie": "on PCIe (/dev/apex_0)"}
    mine = [one for one in board.edgetpus if one.attachment == chip.attachment]
    if not mine:
        others = ", ".join(f"one {places[one.attachment].partition(' (')[0]}" for one in board.edgetpus)
        yield Mismatch("Edge TPU", places[chip.attachment], others or "none found")
    elif not any(one.writable for one in mine):
        group = {"usb": "plugdev", "pcie": "apex"}[chip.attachment]
        yield Mismatch("Edge TPU", "one that this user may write to", f"{mine[0].name}, not allowed (group {group})")
    wanted = next((one for one in kind.runtimes if one.delegate), None)
    if wanted is None or wanted.delegate is None:
        return
    told = f"{wanted.delegate} {wanted.delegate_version or ''}".strip()
    if board.libedgetpu is None:
        yield Mismatch("library", told, "not installed")
    elif (
        board.libedgetpu
        and wanted.delegate_version
        and not edgetpu_delegate.same(board.libedgetpu, wanted.delegate_version)
    ):
        yield Mismatch("library", told, board.libedgetpu)


def _notes(board: Board, kind: Target, found: tuple[Mismatch, ...]) -> Iterator[str]:
    """Say what is no mismatch and yet good to know."""
    if kind.platform.system == "linux":
        if board.python is None:
            yield "no Python on the board: apt-get install -y python3 there"
        elif not any(name in board.runtimes for name in ("ai-edge-litert", "tflite-runtime")):
            yield f"no runtime in the board's Python {board.python}: the first bench brings one into edgeship's own folder"
    if board.free_mib is not None and board.free_mib < LOW_SPACE_MIB:
        yield f"only {board.free_mib} MiB free: edgeship devices clean, or `folder` in the entry"
    if board.governor in ("ondemand", "powersave", "schedutil", "conservative"):
        yield f'governor {board.governor}: the clock moves with the load; `governor = "performance"` in the entry sets it for each run (root)'
    if found:
        fitting = [other.name for other in target.read_all() if _fits(board, other, kind)]
        if fitting:
            yield f"the board looks like target {' or '.join(fitting)}"


def _fits(board: Board, other: Target, kind: Target) -> bool:
    identified = other.board is not None and other.board.identity is not None and board.model is not None
    return other.name != kind.name and identified and not mismatches(board, other)
