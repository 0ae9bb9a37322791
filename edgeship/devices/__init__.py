"""Ways to reach a board. Each gives a `remote.Connection`; what is done over it is the same for all."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from edgeship.device import Device
from edgeship.devices import adb, local, ssh, virtual
from edgeship.progress import OnProgress, silent
from edgeship.remote import Connection


class TransportModule(Protocol):
    """A way to reach a board, satisfied by a module.

    To add one: 1. write `devices/<transport>.py` with `connect`; 2. add its name to `device.Transport` and its line to
    `TRANSPORTS`; 3. give `tests/lab/` a real far end for it: the contract test over all transports then runs on it too.
    """

    def connect(self, device: Device, on_progress: OnProgress = silent) -> Connection:
        """Return an open connection; `on_progress` hears of what takes long, such as making a board.

        Raises:
            DeviceFault: `unreachable`, `auth`, `host-key` or `missing`; the text starts with the device's name, and the
                hint is the command that mends it.
            MissingTool: a program on this machine that it needs is absent.
        """


TRANSPORTS: dict[str, TransportModule] = {
    "adb": adb,
    "local": local,
    "ssh": ssh,
    "virtual": virtual,
}


def connect(device: Device, on_progress: OnProgress = silent) -> Connection:
    """Return an open connection to a device, over the transport that its entry names."""
    return TRANSPORTS[device.transport].connect(device, on_progress)


def kept(device: Device, on_progress: OnProgress = silent) -> AbstractContextManager[None]:
    """Return the block in which a device stays as it is between connections: a virtual board is started only once.

    Raises:
        As `connect`.
    """
    return virtual.kept(device, on_progress) if device.transport == "virtual" else nullcontext()
