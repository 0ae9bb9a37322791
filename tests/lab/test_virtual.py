"""Virtual boards: real machines of QEMU, made, woken, found again, cut from power and ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeship import benchmarking, devices, digest, inventory, lab, remote, standin, target
from edgeship.benchmarking import BenchOrder
from edgeship.device import Device
from edgeship.devices.virtual import Virtual
from edgeship.errors import MissingTool, NothingToDo
from edgeship.lab import hardware, machine, snapshot
from edgeship.lab.image import Image
from edgeship.measurement import BenchRecord
from edgeship.progress import Listener
from tests.lab import virtual
from tests.tiny_tflite import TinyModel, separable

CHECKOUT = Path(__file__).parent.parent.parent
SPREAD = 0.0005  # of the median latency, over separate starts
GONE_S = 10.0
TIMES = """
import json, statistics, sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(model_content=sys.stdin.buffer.read(), num_threads=1)
model.allocate_tensors()
port = model.get_input_details()[0]
model.set_tensor(port["index"], np.ones(port["shape"], port["dtype"]))
times = []
for _ in range(50):
    began = time.perf_counter_ns(); model.invoke(); times.append(time.perf_counter_ns() - began)
print(json.dumps(statistics.median(times[20:])))
"""


@pytest.fixture(scope="module")
def model() -> bytes:
    """Return a small model of about a millisecond: the board's clock goes in steps of 16 ns."""
    tiny, numbers = TinyModel(), np.random.default_rng(1)
    last = tiny.input("image", (1, 16, 16, 16))
    for depth in range(3):
        last = tiny.conv(last, f"conv{depth}", numbers.normal(size=(16, 3, 3, 16)), (16, 16))
    tiny.outputs = [last]
    return tiny.content()


def median_ns(board: lab.Machine, model: bytes) -> float:
    found = json.loads(virtual.said(board, f"python3 -c {remote.quote(TIMES)}", stdin=model))
    assert isinstance(found, int | float)
    return found


def until(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + GONE_S
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


def gone(pid: int) -> bool:
    """Say whether a process has ended; what nobody has waited for yet still has its number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def program(home: Path, source: str) -> subprocess.Popen[str]:
    """Start a program of edgeship's in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "EDGESHIP_HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)], env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def left_running(virtual_home: Path) -> Iterator[None]:
    """End what a test left in the background."""
    yield
    with contextlib.suppress(NothingToDo):
        lab.down()


def test_the_board_says_who_it_is_and_that_it_is_simulated(virtual_rpi4: lab.Held) -> None:
    board = virtual_rpi4.machine
    assert board.simulated and board.counted and board.unmodelled
    script = """
    tr -d '\\0' < /proc/device-tree/model; echo; cat /etc/machine-id; hostname; id -un; nproc; dpkg --print-architecture
    date +%s; grep -m 1 Features /proc/cpuinfo; find / -xdev ! -user root ! -path "/home/pi*" | wc -l; stat -c %U ~/.ssh
    """
    model, machine_id, name, user, cores, abi, clock, features, foreign, home = virtual.said(board, script).splitlines()
    assert model == "Raspberry Pi 4 Model B (simulated)"
    assert len(machine_id) == 32 and int(machine_id, 16)
    assert (name, user, cores, abi, home) == (board.name, "pi", "1", "arm64", "pi")
    assert foreign == "0"
    assert "asimd" in features and "asimddp" not in features
    assert abs(int(clock) - time.time()) < 60  # while it computes, its clock is slower than ours


def test_the_disk_has_a_journal_and_the_runtime(virtual_rpi4: lab.Held) -> None:
    script = "ls /sys/fs/ext4/vda/journal_task; python3 -c 'from importlib.metadata import version; print(version(\"ai-edge-litert\"))'"
    journal, runtime = virtual.said(virtual_rpi4.machine, script).splitlines()
    assert journal == "/sys/fs/ext4/vda/journal_task"
    assert runtime == "2.3.0"


def test_a_raspberry_pi_5_has_the_dot_product(virtual_rpi5: lab.Held) -> None:
    assert "asimddp" in virtual.said(virtual_rpi5.machine, "cat /proc/cpuinfo; tr -d '\\0' < /proc/device-tree/model")


def test_latency_repeats_over_starts_cold_and_woken(virtual_rpi4: lab.Held, virtual_lab: Path, model: bytes) -> None:
    found, took = [median_ns(virtual_rpi4.machine, model)], []
    for sleeping in (True, False):
        began = time.monotonic()
        with lab.hold("rpi4", lab=virtual_lab, sleeping=sleeping) as held:
            virtual.said(held.machine, "true")
            took.append(time.monotonic() - began)
            assert held.machine.name != virtual_rpi4.machine.name
            found.append(median_ns(held.machine, model))
    assert took[0] < 0.8 * took[1], "a board that is woken answers sooner than one that boots"
    assert (max(found) - min(found)) / statistics.median(found) < SPREAD, found


def test_boards_of_one_target_are_different_boards_and_stay_who_they_are(
    virtual_rpi4: lab.Held, virtual_lab: Path
) -> None:
    ask = "cat /etc/machine-id /proc/sys/kernel/random/boot_id"
    first, again = (virtual.said(virtual_rpi4.machine, ask).split() for _ in range(2))
    assert first == again
    others = []
    for _ in range(2):
        with lab.hold("rpi4", lab=virtual_lab) as held:
            others.append(virtual.said(held.machine, ask).split())
    assert first[0] != others[0][0] == others[1][0]
    assert len({first[1], others[0][1], others[1][1]}) == 3


def test_a_power_cut_leaves_what_was_written_to_the_disk(virtual_rpi4: lab.Held) -> None:
    before = virtual_rpi4.machine
    boot = virtual.said(before, "echo kept > kept && sync && cat /proc/sys/kernel/random/boot_id")
    virtual_rpi4.power_cycle()
    after = virtual_rpi4.machine
    assert (after.ssh_port, after.name) == (before.ssh_port, before.name) and after.pid != before.pid
    kept, new_boot = virtual.said(after, "cat kept /proc/sys/kernel/random/boot_id").splitlines()
    assert kept == "kept" and new_boot != boot.strip()
    virtual.said(after, "rm kept")


def test_a_held_board_ends_with_a_process_that_is_killed(virtual_rpi4: lab.Held, virtual_home: Path) -> None:
    holder = program(virtual_home, """
        import time
        from edgeship import lab
        held = lab.hold("rpi4")
        print(held.machine.pid, held.machine.folder, flush=True)
        time.sleep(600)
    """)  # fmt: skip
    assert holder.stdout is not None
    pid, folder = holder.stdout.readline().split()
    assert machine.holder(Path(folder)) == int(pid)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert until(lambda: gone(int(pid)))
    assert until(lambda: not Path(folder).exists())


def test_a_held_board_ends_with_a_keeper_that_is_killed(virtual_rpi4: lab.Held, virtual_lab: Path) -> None:
    with lab.hold("rpi4", lab=virtual_lab) as held:
        keeper = int(Path(f"/proc/{held.machine.pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        assert b"keeper.py" in Path(f"/proc/{keeper}/cmdline").read_bytes()
        os.kill(keeper, signal.SIGKILL)
        assert until(lambda: gone(held.machine.pid))
    assert not held.machine.folder.exists()


@pytest.mark.usefixtures("left_running")
def test_a_board_left_running_is_made_once_found_again_and_ended(virtual_rpi4: lab.Held, virtual_home: Path) -> None:
    source = "from edgeship import lab; print(lab.up('rpi4').pid)"
    both = [program(virtual_home, source) for _ in range(2)]
    first, second = (one.communicate(timeout=300)[0].strip() for one in both)
    assert first == second
    [board] = lab.running()
    assert (str(board.pid), board.state, board.target) == (first, "running", "rpi4")
    assert not set(range(5555, 5586)) & {board.ssh_port, board.adb_port}
    assert (
        subprocess.run(["sh", "-c", f"{board.ssh_command} hostname"], capture_output=True, text=True).stdout == "rpi4\n"
    )

    opened = devices.connect(Device(name="v", target="rpi4", transport="virtual"))
    assert isinstance(opened, Virtual) and opened.machine.pid == board.pid
    assert opened.simulation and opened.simulation.counted and opened.simulation.unmodelled
    assert remote.run(opened, "hostname", timeout_s=30).text == "rpi4\n"
    opened.close()
    assert board.state == "running"  # it was not started for the connection

    assert [one.pid for one in lab.down("rpi4")] == [board.pid]
    assert gone(board.pid) and not board.folder.exists()
    with pytest.raises(NothingToDo):
        lab.down("rpi4")


@pytest.mark.usefixtures("left_running")
def test_a_board_that_died_is_recognised_and_started_again(virtual_rpi4: lab.Held, virtual_home: Path) -> None:
    board = lab.up("rpi4")
    os.kill(board.pid, signal.SIGKILL)
    assert until(lambda: lab.running()[0].state == "dead")
    again = lab.up("rpi4")
    assert again.pid != board.pid and again.state == "running"
    os.kill(again.pid, signal.SIGKILL)
    assert until(lambda: again.state == "dead")
    # The number in a dead board's record may belong to anyone by now.
    (again.folder / machine.PID).write_text(f"{os.getpid()}\n")
    assert [one.state for one in lab.running()] == ["dead"]
    lab.down("rpi4")
    assert lab.running() == []


def test_a_connection_starts_a_board_and_ends_it(virtual_rpi4: lab.Held, virtual_home: Path) -> None:
    opened = devices.connect(Device(name="v", target="rpi4", transport="virtual"))
    assert isinstance(opened, Virtual)
    assert opened.name == "v"
    assert remote.run(opened, "exit 5", timeout_s=30).exit_code == 5
    opened.close()
    opened.close()
    assert opened.machine.state == "dead" and not opened.machine.folder.exists()


@pytest.mark.skipif(shutil.which("adb") is None and "EDGESHIP_REQUIRE_LAB" not in os.environ, reason="adb is missing")
def test_an_android_board_answers_adb_and_is_measured(
    virtual_rpi4: lab.Held, virtual_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vendor's benchmark_model cannot be had here: a stand-in really runs the model there."""
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "5047")
    tool = standin.benchmark_model(tmp_path, python="/usr/bin/python3")
    named = {"benchmark_model": str(tool), "benchmark_model_sha256": digest.of_file(tool)}
    phone = Device(name="phone", target="android-arm64", transport="virtual").model_copy(update=named)
    monkeypatch.setenv("EDGESHIP_DEVICES", str(tmp_path / "devices.toml"))
    inventory.add(tmp_path / "devices.toml", phone)
    try:
        opened = devices.connect(phone)
        script = "getprop ro.product.cpu.abi; getprop ro.build.version.sdk; cat /etc/machine-id; exit 3"
        done = remote.run(opened, script, timeout_s=60)
        opened.close()
        assert done.exit_code == 3 and done.text.split()[:2] == ["arm64-v8a", "34"]
        assert "127.0.0.1" not in subprocess.run(["adb", "devices"], capture_output=True, text=True).stdout
        model = separable().write(tmp_path / "tiny.tflite")
        order = BenchOrder(artifact=str(model), devices=("phone",), runs=10, min_seconds=0.1, warmup_seconds=0.05)
        (made,) = benchmarking.bench(order, Listener())
        assert isinstance(made, BenchRecord), made
        assert made.golden.word == "passed" and made.simulated and made.conditions.board.architecture == "aarch64"
        assert made.runtime.name == "benchmark_model" and made.latency_ms.mean
    finally:
        subprocess.run(["adb", "kill-server"], check=False)


def test_a_snapshot_that_does_not_wake_is_made_again(virtual_rpi5: lab.Held, virtual_lab: Path) -> None:
    made = Image(virtual_rpi5.machine.image, virtual_rpi5.machine.identity.parent)
    disk = snapshot.where(virtual_lab, made, hardware.of_target(target.read("rpi5"), counted=True))
    disk.unlink()
    machine.new_disk(disk, made.disk)  # with no sleeping system on it
    with lab.hold("rpi5", lab=virtual_lab) as held:
        assert virtual.said(held.machine, "hostname") == f"{held.machine.name}\n"
    assert disk.stat().st_size > 50 << 20


def test_missing_programs_are_told_in_one_line(virtual_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingTool) as caught:
        lab.up("rpi4")
    assert caught.value.hint == "apt-get install --no-install-recommends qemu-system-arm qemu-utils"
