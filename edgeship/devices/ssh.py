"""A board behind sshd, at a host or an alias of the user's ssh config."""

from __future__ import annotations

import re

from edgeship.device import Device
from edgeship.progress import OnProgress, silent
from edgeship.remote import Connection


def connect(device: Device, on_progress: OnProgress = silent) -> Connection:
    """Return an open connection."""
    from edgeship.ssh import shell as secure_shell

    return secure_shell.connect(device)


def scan() -> list[tuple[str, str]]:
    """Return what the user's ssh config knows: names fit for an entry, and addresses.

    Raises:
        BadInput: the config cannot be read; the text starts with the file.
    """
    from edgeship.ssh import config as ssh_config

    return [(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"), name) for name in ssh_config.names()]
