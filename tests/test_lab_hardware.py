"""Which targets have a virtual board, and what machine it is."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from edgeship import target
from edgeship.errors import BadInput
from edgeship.lab import hardware


@pytest.mark.parametrize(
    ("name", "cpu", "memory_mib"),
    [
        ("rpi3", "cortex-a53", 1024),
        ("rpi4", "cortex-a72", 1024),
        ("rpi5", "cortex-a76", 1024),
        ("rpi-zero2w", "cortex-a53", 512),
        ("linux-arm64", "cortex-a72", 1024),
        ("android-arm64", "cortex-a72", 1024),
    ],
)
def test_the_machine_has_the_targets_core_and_memory(name: str, cpu: str, memory_mib: int) -> None:
    found = hardware.of_target(target.read(name), counted=True)
    assert (found.cpu, found.memory_mib, found.cores) == (cpu, memory_mib, 1)
    assert "no caches: memory answers at once" in found.unmodelled


def test_counting_is_one_thread_and_one_nanosecond_an_instruction() -> None:
    counted = hardware.of_target(target.read("rpi4"), counted=True).words
    assert counted[-4:] == ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=on"]
    fast = hardware.of_target(target.read("rpi4"), counted=False)
    assert "-icount" not in fast.words and fast.unmodelled != hardware.COUNTED


@pytest.mark.parametrize("name", ["linux-x86_64", "android-x86_64", "coral-usb", "coral-dev-board", "rpi4-32bit"])
def test_other_targets_are_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        hardware.of_target(target.read(name), counted=True)
    assert caught.value.message.startswith(f"{name}: no virtual board: ")
    assert caught.value.hint == "there are: android-arm64, linux-arm64, rpi-zero2w, rpi3, rpi4, rpi5"


def test_every_target_is_either_made_or_refused_in_words() -> None:
    for one in target.read_all():
        assert hardware.refusal(one) or hardware.of_target(one, counted=True).cpu.startswith("cortex-")


def test_the_model_fits_the_targets_pattern_and_says_simulated() -> None:
    for one in target.read_all():
        model = hardware.model(one)
        assert model.endswith("(simulated)")
        assert one.board is None or one.board.identity is None or fnmatchcase(model, one.board.identity)
