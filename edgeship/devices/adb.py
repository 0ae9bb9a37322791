"""Android boards over adb, by USB or TCP; the adb program does the talking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeship.device import Device
from edgeship.progress import OnProgress, silent
from edgeship.remote import Connection

if TYPE_CHECKING:
    from edgeship.android.bridge import Attached


def connect(device: Device, on_progress: OnProgress = silent) -> Connection:
    """Return an open connection to the serial that the entry's `address` names."""
    from edgeship.android import bridge as android_bridge

    return android_bridge.connect(device)


def scan() -> tuple[Attached, ...]:
    """Return what is attached to adb, ready or not, each with serial, state and model.

    Raises:
        MissingTool: there is no adb program.
        DeviceFault: `failed`, its server does not start.
    """
    from edgeship.android import bridge as android_bridge

    return android_bridge.attached()
