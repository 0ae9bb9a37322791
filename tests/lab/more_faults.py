"""Faults that need a board of another kind: a real adbd whose server goes, a virtual board that reboots or whose clock jumps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeship import benchmarking, digest, inventory, lab, remote, standin
from edgeship.benchmarking import BenchOrder
from edgeship.device import Device
from edgeship.errors import EdgeshipError
from edgeship.lab import machine as machines
from edgeship.progress import Listener
from edgeship.run_devices import Failed
from edgeship.ssh import shell as secure_shell
from tests.lab.android import HOST_PYTHON, AdbServer, AndroidBoard
from tests.lab.android_root import make_root
from tests.lab.faults import Outcome, Trigger, artifact


def adb_server_restarted(count: int) -> Iterator[Outcome]:
    """The adb server is killed while the model runs; adb starts another."""
    with tempfile.TemporaryDirectory() as named, pytest.MonkeyPatch.context() as patch:
        folder = Path(named)
        server = AdbServer(folder / "adb-home")
        for name, value in server.variables.items():
            patch.setenv(name, value)
        binary = standin.benchmark_model(folder, python=HOST_PYTHON)
        with AndroidBoard(make_root(folder / "root"), folder / "board.log") as board:
            changes = {"benchmark_model": str(binary), "benchmark_model_sha256": digest.of_file(binary)}
            file = folder / "devices.toml"
            inventory.add(file, board.device.model_copy(update={"name": "phone", **changes}))
            patch.setenv("EDGESHIP_DEVICES", str(file))
            patch.setenv("EDGESHIP_HOME", str(folder / "edgeship"))
            try:

                def kill() -> None:
                    time.sleep(0.5)
                    server.kill()

                for _ in range(count):
                    trigger = Trigger("measure", kill)
                    yield _bench("phone", artifact(folder), trigger, lambda: not board.processes())
            finally:
                server.end()


def rebooted(count: int) -> Iterator[Outcome]:
    """The power of a virtual board is cut while the model runs, and comes back."""
    yield from _virtual(count, "rpi3", lambda machine: lambda: (lab.power_cycle(machine), None)[1])


def clock_jumped(count: int) -> Iterator[Outcome]:
    """The wall clock of a virtual board is set an hour back while the model runs."""
    script = "date -s @$(($(date +%s) - 3600)) > /dev/null"
    yield from _virtual(count, "rpi4", lambda machine: lambda: machines.as_root(machine.folder, script, timeout_s=30))


# Fault → its rounds, how each has to end, and whether it has to have been tried again.
MORE: dict[str, tuple[Callable[[int], Iterator[Outcome]], str, bool]] = {
    "adb server restarted": (adb_server_restarted, "measured", True),
    "board rebooted (virtual)": (rebooted, "measured", True),
    "clock jumping (virtual)": (clock_jumped, "not valid", False),
}


def _virtual(count: int, target: str, act: Callable[[lab.Machine], Callable[[], None]]) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as named, pytest.MonkeyPatch.context() as patch:
        folder = Path(named)
        machine = lab.up(target, counted=False)
        try:
            # Over the user's own ssh, as a board on a desk: another connection has to lead to the same board.
            (folder / ".ssh").mkdir(mode=0o700)
            (folder / ".ssh" / "config").write_text(
                f"Host pi\n  HostName 127.0.0.1\n  Port {machine.ssh_port}\n  User {machine.user}\n"
                f"  IdentityFile {machine.identity}\n  UserKnownHostsFile {machine.known_hosts}\n"
            )
            file = folder / "devices.toml"
            inventory.add(file, Device(name="pi", target=target, transport="ssh", address="pi"))
            home = str(lab.folder().parent)
            for name, value in {"EDGESHIP_DEVICES": str(file), "HOME": str(folder), "EDGESHIP_HOME": home}.items():
                patch.setenv(name, value)
            for _ in range(count):
                trigger = Trigger("measure", act(machine))
                yield _bench("pi", artifact(folder), trigger, lambda: _clean(machine))
        finally:
            lab.down(target)


def _clean(machine: lab.Machine) -> bool:
    script = "ls ~/.edgeship/runs ~/.edgeship/runs/.new* ~/.edgeship/*/*.part 2>/dev/null | grep -v '^/.*:$'; grep -ls EDGESHIP_RUN= /proc/[0-9]*/environ"
    entry = Device(
        name="pi", target=machine.target, transport="ssh", address="127.0.0.1", port=machine.ssh_port, user=machine.user,
        identity=str(machine.identity),
    )  # fmt: skip
    connection = secure_shell.connect(entry, known_hosts=machine.known_hosts)
    try:
        return remote.run(connection, script, timeout_s=60).text.strip() == ""
    finally:
        connection.close()


def _bench(name: str, model: Path, trigger: Trigger, clean: Callable[[], bool]) -> Outcome:
    order = BenchOrder(artifact=str(model), devices=(name,), runs=8, min_seconds=3.0, warmup_seconds=0.1)
    began = time.monotonic()
    try:
        (made,) = benchmarking.bench(order, Listener(on_progress=trigger))
        if isinstance(made, Failed):
            raise made.error
        moved = any("clock" in reason for reason in made.reasons)
        word, told = "not valid" if moved else "measured", "; ".join((*made.reasons, *made.doubts))
    except EdgeshipError as error:
        word, told = str(getattr(error, "fault", type(error).__name__)), error.message
    seconds = time.monotonic() - began
    trigger.join()
    deadline = time.monotonic() + 60
    while not (found := clean()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return Outcome(word, "repeated after" in told, found, seconds, told)
