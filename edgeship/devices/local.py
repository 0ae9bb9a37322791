"""This machine as a board: programs run under /bin/sh, everything else is as on a board far away."""

from __future__ import annotations

from edgeship.command import ProgramPipe
from edgeship.device import Device
from edgeship.progress import OnProgress, silent
from edgeship.remote import Pipe, Simulation


class Local:
    """A connection to this machine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.simulation: Simulation | None = None
        self._pipes: list[ProgramPipe] = []

    def start(self, script: str) -> Pipe:
        """Run a script with /bin/sh."""
        pipe = ProgramPipe(["/bin/sh", "-c", script])
        self._pipes = [*(one for one in self._pipes if one.process.poll() is None), pipe]
        return pipe

    def close(self) -> None:
        """Say to all that still run that nobody is there any more; a warden ends the rest, and cleans up."""
        for pipe in self._pipes:
            pipe.end_input()


def connect(device: Device, on_progress: OnProgress = silent) -> Local:
    """Return the connection; it cannot fail."""
    return Local(device.name)
