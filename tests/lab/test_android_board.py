"""What an Android board says of itself, asked of the real shell and tools; and the lab's board itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from edgeship import remote, resources
from edgeship.android import facts as android_facts
from edgeship.android.bridge import AndroidBridge
from edgeship.measurement import Snapshot
from tests.lab.android import HOST_PYTHON, AndroidBoard

SOON_S = 3.0


def test_the_board_is_as_near_to_a_phone_as_debian_comes(bridge: AndroidBridge) -> None:
    """Its sh is mksh, its tools are toybox, its user is `shell`, and it has no Python."""
    script = (
        'echo "$KSH_VERSION"; id -u; readlink /system/bin/sha256sum; command -v python3; getprop ro.product.cpu.abi'
    )
    told = remote.run(bridge, script, timeout_s=10).text.splitlines()
    assert "MIRBSD KSH" in told[0]
    assert told[1:] == ["2000", "toybox", "x86_64"]


def script(name: str) -> str:
    """Return a script of the package's own."""
    return (resources.PACKAGE / "board" / name).read_text()


def test_the_board_tells_what_it_is(bridge: AndroidBridge, android_board: AndroidBoard) -> None:
    """Read from the real shell and tools; the properties and the cores are the fixture's."""
    done = remote.run(bridge, f"folder=/data/local/tmp\n{script('android_facts.sh')}", timeout_s=20)
    assert done.errors == b""
    board = android_facts.read_facts(done.text.splitlines())
    cores = os.cpu_count() or 1
    assert (board.machine_id, board.serial) == (android_board.serial_number, android_board.serial_number)
    assert (board.abi, board.word_bits, board.python, board.runtimes) == ("x86_64", 64, None, {})
    assert board.model == "edgeship namespace phone (namespace)"
    assert board.system and board.system.startswith("Android 14 (API level 34), edgeship/namespace/")
    assert (board.cores, len(board.core_names)) == (cores, cores)
    assert "sse2" in board.features
    assert board.free_mib == 511
    assert board.memory_mib and board.memory_mib > 500
    assert (board.page_bytes, board.governor, board.clock_mhz) == (os.sysconf("SC_PAGESIZE"), "schedutil", 1800.0)
    assert board.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    groups = android_facts.core_groups(done.text.splitlines())
    assert [group.capacity for group in groups] == [1024, 250][-len(groups) :]
    assert groups[-1].cpus == tuple(range(0, cores, 2))


def test_the_board_tells_its_conditions_and_how_they_change(bridge: AndroidBridge, android_board: AndroidBoard) -> None:
    """Clocks, sensors and the battery are the fixture's; load, memory and time are the kernel's."""

    def snapshot() -> Snapshot:
        done = remote.run(bridge, script("android_conditions.sh"), timeout_s=20)
        assert done.errors == b""
        found = android_facts.read_conditions(done.text.splitlines())
        assert found is not None
        return found

    before = snapshot()
    assert abs(before.wall_s - time.time()) < SOON_S
    assert before.governor == ("schedutil",)
    assert before.clock_mhz[:2] == (1800.0, 2850.0)[: os.cpu_count()]
    assert before.temperature_c == {"cpu-0-0": 38.2, "CPU0": 36.5, "SKIN": 31.25}
    assert (before.thermal_status, before.battery) == (0, {"level": 100.0, "temperature_c": 27.4, "status": "full"})
    assert before.load is not None and before.available_kib and before.swap_used_kib is not None
    services = android_board.path("/data/services")
    (services / "thermalservice").write_text("Thermal Status: 3\nHAL Ready: false\n")
    (services / "battery").write_text("Current Battery Service state:\n  present: false\n")
    after = snapshot()
    assert (after.thermal_status, after.battery, after.temperature_c) == (3, None, {"cpu-0-0": 38.2})
    assert after.at_s > before.at_s


def test_facts_in_the_warden_s_shell_leave_the_heartbeats_alone(bridge: AndroidBridge) -> None:
    """The warden reads its beats after the facts, on the same input."""
    whole = f"folder=/data/local/tmp\n{script('android_facts.sh')}\n{script('android_conditions.sh')}\ncat"
    done = remote.run(bridge, whole, timeout_s=20, stdin=[b"all of it\n"])
    assert done.text.endswith("all of it\n")


def test_this_machine_s_python_runs_there_for_stand_ins(bridge: AndroidBridge) -> None:
    """A stand-in for `benchmark_model` really runs the model that way."""
    import numpy

    done = remote.run(
        bridge, f"{HOST_PYTHON} -c 'import ai_edge_litert, numpy; print(numpy.__version__)'", timeout_s=60
    )
    assert done.text.strip() == numpy.__version__, done.errors


def test_nothing_of_ours_outlives_the_tests(android_root: Path, tmp_path: Path) -> None:
    """Neither a board whose tests were killed, nor its network cable."""
    code = f"""
import os, sys
from pathlib import Path
from tests.lab.android import AndroidBoard
board = AndroidBoard(Path({str(android_root)!r}), Path({str(tmp_path / "board.log")!r}))
board.start()
print(board.process.pid, board.link, flush=True)
os.kill(os.getpid(), 9)
"""
    here = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": here},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout, done.stderr
    pid, link = done.stdout.split()
    deadline = time.monotonic() + SOON_S
    while time.monotonic() < deadline and (Path(f"/proc/{pid}").exists() or Path(f"/sys/class/net/{link}").exists()):
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(f"/sys/class/net/{link}").exists()
