"""Virtual boards: machines of QEMU with a target's CPU, made of Debian packages, on this machine's own ports.

Everything measured there is simulated and says so; see `hardware` for what is not modelled.
"""

from __future__ import annotations

from edgeship.lab.machine import Machine
from edgeship.lab.shelf import Held, down, folder, hold, power_cycle, running, up

__all__ = ["Held", "Machine", "down", "folder", "hold", "power_cycle", "running", "up"]
