"""Fixtures that several files of the lab use; each comes from the file that knows its far end."""

from tests.lab.android import adb_server, android_board, android_device, android_root, bridge
from tests.lab.real_sshd import board, desk

__all__ = ["adb_server", "android_board", "android_device", "android_root", "board", "bridge", "desk"]
