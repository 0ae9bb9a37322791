"""What a board says, held against its target: each mismatch by name, and nothing where either is silent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeship import board_facts, drawer, target
from edgeship.measurement import Board

PI4 = """machine_id=8d1c
model=Raspberry Pi 4 Model B Rev 1.4
system=Debian GNU/Linux 12 (bookworm)
kernel=6.6.51+rpt-rpi-v8
architecture=aarch64
abi=arm64
word_bits=64
cores=4
features= fp asimd evtstrm crc32 cpuid
memory_kib=3883748
free_kib=20000000
python=3.11.2
governor=ondemand
clock_khz=600000
package=numpy 1.24.2
package=ai-edge-litert 2.3.0
package=numpy 1.19.5
"""


@pytest.fixture
def pi4() -> Board:
    """Return a Raspberry Pi 4 that is all that its target says."""
    return board_facts.read(PI4.splitlines())


def words(board: Board, name: str) -> list[str]:
    """Return what the board and the target differ in."""
    return [one.what for one in drawer.mismatches(board, target.read(name))]


def test_facts_are_read_and_the_first_package_counts(pi4: Board) -> None:
    """The first on Python's path is what is imported; noise between the lines is skipped."""
    noisy = board_facts.read(["Welcome!", "", "= =", *PI4.splitlines(), "cores="])
    assert noisy == pi4
    assert pi4.runtimes == {"numpy": "1.24.2", "ai-edge-litert": "2.3.0"}
    assert (pi4.memory_mib, pi4.cores, pi4.clock_mhz) == (3792, 4, 600.0)


def test_a_board_that_is_its_target_has_no_mismatch(pi4: Board) -> None:
    """Nothing is named where all fits, and nothing of what the board does not say."""
    assert words(pi4, "rpi4") == []
    silent = replace(board_facts.read([]), model=pi4.model)
    assert words(silent, "rpi4") == []


def test_a_32_bit_userland_under_a_64_bit_kernel_is_told_apart(pi4: Board) -> None:
    """uname says aarch64 on both; getconf and dpkg do not."""
    old = replace(pi4, word_bits=32, abi="armhf")
    assert words(old, "rpi4")[0] == "userland"
    assert "architecture" not in words(old, "rpi4-32bit")


def test_each_mismatch_is_named(pi4: Board) -> None:
    """Another model, fewer cores, a missing feature, less memory, another runtime."""
    other = replace(pi4, model="Raspberry Pi 3 Model B Plus Rev 1.3", cores=2, memory_mib=512)
    assert words(other, "rpi4") == ["model", "cores", "memory"]
    assert "CPU features" in words(pi4, "rpi5")
    assert words(replace(pi4, runtimes={"ai-edge-litert": "1.4.0"}), "rpi4") == ["runtime ai-edge-litert"]


def test_a_simulated_board_is_not_asked_for_its_model(pi4: Board) -> None:
    """QEMU names no board and has one core when it counts."""
    machine = replace(pi4, model=None, cores=1)
    assert drawer.mismatches(machine, target.read("rpi4"), simulated=True) == ()
