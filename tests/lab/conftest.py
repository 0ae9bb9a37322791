"""Fixtures that several files of the lab use; each comes from the file that knows its far end."""

from tests.lab.real_sshd import board, desk

__all__ = ["board", "desk"]
