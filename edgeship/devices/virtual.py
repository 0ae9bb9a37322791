"""A board that QEMU simulates on this machine, as `edgeship.lab` makes it; reached as a real one of its kind would be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeship.device import Device
from edgeship.progress import OnProgress, silent
from edgeship.remote import Connection, Pipe, Simulation

if TYPE_CHECKING:
    from edgeship.lab import Machine

_ADB_TIMEOUT_S = 30.0
_KEPT: dict[str, Machine] = {}  # by target, the boards that this process keeps for several connections


class Virtual:
    """A connection to a virtual board, which ends with it unless `edgeship lab up` started the board."""

    def __init__(self, name: str, machine: Machine, inner: Connection, owned: contextlib.ExitStack) -> None:
        self.name, self.machine = name, machine
        self.simulation: Simulation | None = Simulation(machine.counted, machine.unmodelled)
        self._inner, self._owned = inner, owned

    def start(self, script: str) -> Pipe:
        """Run a POSIX sh script there."""
        return self._inner.start(script)

    def close(self) -> None:
        """Close it, and end the board if it was started for this connection."""
        self._owned.close()


def connect(device: Device, on_progress: OnProgress = silent) -> Virtual:
    """Return an open connection to the board of the device's target: the one that runs, else one started for this.

    Raises:
        BadInput: the target has no virtual board.
        StageFailed: a board's image cannot be made.
    """
    from edgeship import lab

    with contextlib.ExitStack() as owned:
        running = next((one for one in _left_running(device) if one.state == "running"), None)
        machine = running or _KEPT.get(device.target)
        if machine is None:
            machine = owned.enter_context(lab.hold(device.target, on_progress=on_progress)).machine
        inner = _reach(device, machine, owned)
        owned.callback(inner.close)
        return Virtual(device.name, machine, inner, owned.pop_all())


@contextlib.contextmanager
def kept(device: Device, on_progress: OnProgress = silent) -> Iterator[None]:
    """Keep one board of the device's target for all connections until the block ends, unless one was left running.

    Raises:
        As `connect`.
    """
    from edgeship import lab

    if device.target in _KEPT or any(one.state == "running" for one in _left_running(device)):
        yield
        return
    with lab.hold(device.target, on_progress=on_progress) as held:
        _KEPT[device.target] = held.machine
        try:
            yield
        finally:
            del _KEPT[device.target]


def _left_running(device: Device) -> list[Machine]:
    """Return the boards of the target, those that count instructions first."""
    from edgeship import lab

    return sorted(lab.running(device.target), key=lambda one: not one.counted)


def _reach(device: Device, machine: Machine, owned: contextlib.ExitStack) -> Connection:
    """Return a connection over the transport that a real board of the target has."""
    there: dict[str, object]
    if machine.system == "android":
        from edgeship.android import bridge as android_bridge
        from edgeship.command import call

        serial = f"127.0.0.1:{machine.adb_port}"
        # The adb server would keep the name of a board that is gone.
        owned.callback(call, "adb", "disconnect", serial, timeout_s=_ADB_TIMEOUT_S, check=False)
        there = {"transport": "adb", "address": serial}
        return android_bridge.connect(device.model_copy(update=there))
    from edgeship.ssh import shell as secure_shell

    there = {
        "transport": "ssh",
        "address": "127.0.0.1",
        "port": machine.ssh_port,
        "user": machine.user,
        "identity": str(machine.identity),
    }
    return secure_shell.connect(device.model_copy(update=there), known_hosts=machine.known_hosts)
