"""What an Android board says, read: from recorded output of the real shell, and from a transcribed phone's."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.android.facts import CoreGroup, core_groups, read_conditions, read_facts

DATA = Path(__file__).parent / "data" / "android"


def lines(name: str) -> list[str]:
    """Return a file's lines."""
    return (DATA / f"{name}.txt").read_text().splitlines()


def test_the_recorded_board() -> None:
    """Its kernel's figures are those of the machine it was recorded on."""
    board = read_facts(lines("facts-recorded-mksh-toybox-0.8.9-x86_64"))
    assert (board.machine_id, board.serial) == ("EDGESHIP012084001", "EDGESHIP012084001")
    assert board.boot_id == "d022ca5f-807b-4702-8772-8070d2818c28"
    assert (board.kernel, board.architecture, board.abi, board.word_bits) == ("6.18.44-fc-v669", "x86_64", "x86_64", 64)
    assert (board.cores, board.core_names) == (2, ("Intel(R) Xeon(R) Processor",) * 2)
    assert "avx512_vnni" in board.features
    assert (board.memory_mib, board.free_mib, board.page_bytes) == (24105, 511, 4096)
    assert (board.libc, board.python, board.runtimes) == (None, None, {})


def test_the_recorded_board_s_conditions() -> None:
    """A sensor that is not fitted is left out, and so is what the thermal service only remembers."""
    snapshot = read_conditions(lines("conditions-recorded-mksh-toybox-0.8.9-x86_64"))
    assert snapshot is not None
    assert (snapshot.at_s, snapshot.wall_s) == (13366.39, 1795322275.835938235)
    assert (snapshot.clock_mhz, snapshot.governor) == ((1800.0, 2850.0), ("schedutil",))
    assert snapshot.temperature_c == {"cpu-0-0": 38.2, "CPU0": 36.5, "SKIN": 31.25}
    assert (snapshot.load, snapshot.swapped_pages, snapshot.swap_used_kib) == (4.52, 0, 0)
    assert (snapshot.available_kib, snapshot.thermal_status, snapshot.throttled) == (23210400, 0, None)
    assert snapshot.battery == {"level": 100.0, "temperature_c": 27.4, "status": "full"}


def test_a_phone() -> None:
    """Cores by their names, in the phone's order; the disk is that of the folder, not of the first line."""
    board = read_facts(lines("phone-facts-transcribed"))
    assert board.model == "Google Pixel 8 Pro (Tensor G3)"
    assert board.system == (
        "Android 14 (API level 34), google/husky/husky:14/UD1A.230803.041/10808477:user/release-keys"
    )
    assert (board.abi, board.word_bits, board.libc) == ("arm64-v8a", 64, "bionic")
    assert board.core_names == ("Cortex-A510",) * 4 + ("Cortex-A715",) * 4 + ("Cortex-X3",)
    assert {"asimddp", "i8mm", "fphp"} <= set(board.features)
    assert (board.memory_mib, board.free_mib) == (11580, 83054)
    assert (board.governor, board.clock_mhz, board.cores) == ("sched_pixel", 1704.0, 9)


def test_a_phone_s_cores_in_groups() -> None:
    """The fastest first, with the mask that `taskset` takes there."""
    groups = core_groups(lines("phone-facts-transcribed"))
    assert groups == (
        CoreGroup((8,), 2914.0, 1024),
        CoreGroup((4, 5, 6, 7), 2367.0, 718),
        CoreGroup((0, 1, 2, 3), 1704.0, 264),
    )
    assert [group.mask for group in groups] == ["100", "f0", "f"]
    assert core_groups(["core=0 - -", "core=1 - -"]) == ()  # a board that does not tell its cores apart
    assert core_groups(["core=0 1800000 -", "core=1 2000000 -"])[0].cpus == (1,)


def test_a_phone_s_conditions() -> None:
    """Zones in degrees and in millidegrees; what nobody can read is left out; the battery's log of old values is not it."""
    snapshot = read_conditions(lines("phone-conditions-transcribed"))
    assert snapshot is not None
    assert snapshot.temperature_c == {"soc_max": 45.0, "BIG": 51.0, "BIG 2": 51.5, "AP": 25.6, "LRB": 24.7}
    assert snapshot.thermal_status == 2
    assert snapshot.battery == {"level": 75.0, "temperature_c": 35.7, "status": "charging"}
    assert (snapshot.swap_used_kib, snapshot.swapped_pages) == (2097152, 470146)
    assert len(snapshot.clock_mhz) == 9
    assert snapshot.clock_mhz[8] == 1457.0


def test_what_the_thermal_service_remembers_counts_where_nothing_newer_is() -> None:
    """Android 10's first builds, and a phone whose HAL is not ready."""
    base = ["uptime=1.0 1.0", "wall=1"]
    remembered = [
        "thermalservice=Cached temperatures:",
        "thermalservice=  Temperature{mValue=71.3, mType=0, mName=AP, mStatus=0}",
    ]
    found = read_conditions([*base, *remembered])
    assert found is not None
    assert found.temperature_c == {"AP": 71.3}
    nothing_now = read_conditions([*base, *remembered, "thermalservice=Current temperatures from HAL:"])
    assert nothing_now is not None
    assert nothing_now.temperature_c == {"AP": 71.3}


@pytest.mark.parametrize(
    "given", [[], ["edgeship ready", "uptime=", "=x", "noise"], ["uptime=abc", "wall=1"], ["wall=1.N"]]
)
def test_a_board_that_says_little_is_a_board_of_which_little_is_known(given: list[str]) -> None:
    """Everything is None or empty then; without a clock there is no snapshot."""
    board = read_facts(given)
    assert (board.machine_id, board.cores, board.core_names, board.memory_mib, board.word_bits) == (
        None,
        None,
        (),
        None,
        None,
    )
    assert read_conditions(given) is None


def test_a_date_without_nanoseconds() -> None:
    """Some tools print the letter N."""
    found = read_conditions(["uptime=12.5 3.0", "wall=1795322275.N"])
    assert found is not None
    assert (found.at_s, found.wall_s, found.battery, found.thermal_status, found.load) == (
        12.5,
        1795322275.0,
        None,
        None,
        None,
    )


def test_mixed_governors_and_a_core_that_is_off() -> None:
    """A core that is off tells nothing; governors that differ are told each."""
    found = read_conditions(
        ["uptime=1 1", "wall=1", "core=10 900000 performance", "core=2 - -", "core=1 600000 powersave"]
    )
    assert found is not None
    assert found.clock_mhz == (600.0, 900.0)
    assert found.governor == ("powersave", "performance")


def test_a_32_bit_phone() -> None:
    """Its /proc/cpuinfo has a model name beside the part; an unknown part is told as it is."""
    given = ["abi=armeabi-v7a", "cpuinfo=processor : 0", "cpuinfo=model name : ARMv7 Processor rev 4 (v7l)",
             "cpuinfo=CPU implementer : 0x41", "cpuinfo=CPU part : 0xc07"]  # fmt: skip
    board = read_facts(given)
    assert (board.word_bits, board.cores, board.core_names) == (32, 1, ("0x41 0xc07",))
