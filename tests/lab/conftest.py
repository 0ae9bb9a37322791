"""Fixtures that several files of the lab use; each comes from the file that knows its far end."""

from tests.lab.android import adb_server, android_board, android_device, android_root, bridge
from tests.lab.postgresql import postgresql, postgresql_server
from tests.lab.real_sshd import board, desk
from tests.lab.virtual import (
    fast_rpi4,
    running_home,
    running_lab,
    running_rpi4,
    virtual_device,
    virtual_home,
    virtual_lab,
    virtual_rpi4,
    virtual_rpi5,
)

__all__ = [
    "adb_server", "android_board", "android_device", "android_root", "board", "bridge", "desk", "fast_rpi4", "postgresql", "postgresql_server", "running_home", "running_lab", "running_rpi4",
    "virtual_device", "virtual_home", "virtual_lab", "virtual_rpi4", "virtual_rpi5",
]  # fmt: skip
