"""Which machine QEMU is to be for a target, and what of the real one it does not model."""

from __future__ import annotations

import os
from dataclasses import dataclass

from edgeship.errors import BadInput
from edgeship.target import Target, read_all

# Where a target names no core: 64-bit Arm with nothing that not every such machine has.
PLAIN_CPU = "cortex-a72"
PLAIN_MEMORY_MIB = 1024
LARGEST_MEMORY_MIB = 1024
COUNTED = (
    "no pipeline: every instruction takes one nanosecond, whatever it does",
    "no caches: memory answers at once",
    "no changing clock, no heat, no throttling",
    "one core",
    "the board's clock stands behind this machine's while it computes",
)
UNCOUNTED = (
    "times are those of this machine's emulation, not of the board",
    "no changing clock, no heat, no throttling of the board",
)


@dataclass(frozen=True)
class Hardware:
    """A machine for QEMU: `counted` makes one instruction one nanosecond of the board's time, on one core."""

    cpu: str
    memory_mib: int
    cores: int
    counted: bool

    @property
    def unmodelled(self) -> tuple[str, ...]:
        """Return what it does not model, in words."""
        return COUNTED if self.counted else UNCOUNTED

    @property
    def words(self) -> list[str]:
        """Return QEMU's options for it."""
        words = ["-M", "virt,gic-version=3", "-cpu", self.cpu, "-m", str(self.memory_mib), "-smp", str(self.cores)]
        if not self.counted:
            return [*words, "-accel", "tcg,thread=multi"]
        # sleep=off would let the board's time run away while it waits for the network: ssh then times out.
        return [*words, "-accel", "tcg,thread=single", "-icount", "shift=0,sleep=on"]


def of_target(target: Target, *, counted: bool) -> Hardware:
    """Return the machine that stands for a target.

    Raises:
        BadInput: QEMU has nothing for it; the hint names the targets that have a virtual board.
    """
    reason = refusal(target)
    if reason is not None:
        able = [one.name for one in read_all() if refusal(one) is None]
        raise BadInput(f"{target.name}: no virtual board: {reason}", hint=f"there are: {', '.join(able)}")
    core = target.cpu.core if target.cpu else None
    memory = (target.board.memory_mib if target.board else None) or PLAIN_MEMORY_MIB
    of_board = (target.cpu.cores if target.cpu else None) or 4
    cores = 1 if counted else max(1, min(of_board, os.cpu_count() or 1))
    return Hardware(core.lower() if core else PLAIN_CPU, min(memory, LARGEST_MEMORY_MIB), cores, counted)


def refusal(target: Target) -> str | None:
    """Return why a target has no virtual board, or None when it has one."""
    if target.platform.architecture != "aarch64":
        return f"only 64-bit Arm machines are simulated, and it is {target.platform.architecture or 'any machine'}"
    if target.accelerator is not None:
        return "its accelerator is not simulated"
    return None


def model(target: Target) -> str:
    """Return what the board says it is, which fits the target's own pattern and says that it is simulated."""
    pattern = target.board.identity if target.board else None
    return f"{(pattern or 'QEMU virtual machine').rstrip('*').strip()} (simulated)"
