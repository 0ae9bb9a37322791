"""Programs over ssh, against real sshd: any login shell, noise, many at once, broken connections, and what it costs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeship import remote
from edgeship.device import Device
from edgeship.devices import ssh
from edgeship.errors import DeviceFault
from edgeship.remote import Finished
from edgeship.ssh import shell as secure_shell
from tests.lab.real_sshd import Desk, Sshd, boards, keygen, need, need_root

LOST_WITHIN_S = 20.0


def run(device: Device, script: str, **options: Any) -> Finished:
    connection = ssh.connect(device)
    try:
        return remote.run(connection, script, timeout_s=30, **options)
    finally:
        connection.close()


def entry(address: str) -> Device:
    return Device(name="board", target="rpi4", transport="ssh", address=address)


# --- what runs there


SHELLS = ("bash", "busybox", "dash", "fish", "tcsh")
HARD = "printf '%s|' 'it''s' \"$HOME\" '\\\\ \\n \\'; echo \"a!b\" `echo c` # end\n: $(echo '\n\n')\ncat >&2; exit 9\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_any_login_shell_will_do(desk: Desk, shell: str, tmp_path: Path) -> None:
    need_root()
    need(shell)
    path = shutil.which(shell)
    assert path is not None
    if shell == "busybox":
        wrapper = Path(f"/tmp/edgeship-{os.getpid()}-ash")  # a login shell has no arguments; busybox goes by its name
        wrapper.symlink_to(path)
        path = str(wrapper.rename(wrapper.with_name("ash")))
    try:
        with Sshd(shell=path) as other:
            found = run(desk.meet(other), HARD, stdin=[b"\0\xff\n"])
            assert found.output.decode() == f"its|{other.home}|\\\\ \\n \\|a!b c\n"
            assert (found.errors, found.exit_code) == (b"\0\xff\n", 9)
    finally:
        if shell == "busybox":
            Path(path).unlink()


def test_what_start_up_files_print_is_not_output(desk: Desk) -> None:
    need_root()
    need("bash")
    with Sshd(shell="/bin/bash", options=["Banner /etc/passwd"]) as noisy:
        (noisy.home / ".bashrc").write_text("echo Welcome; printf 'no line end'; echo oops >&2\n")
        found = run(desk.meet(noisy), "printf 'a\\0b'; exit 4")
        assert (found.output, found.exit_code) == (b"a\0b", 4)
        assert found.errors == b"oops\n"


def test_an_account_without_a_shell_is_named(desk: Desk) -> None:
    need_root()
    need("/usr/sbin/nologin")
    with Sshd(shell="/usr/sbin/nologin") as closed:
        with pytest.raises(DeviceFault, match="runs no commands: This account is currently not available") as caught:
            run(desk.meet(closed), "echo")
        assert caught.value.fault == "failed"


def test_many_programs_at_once_and_the_first_too_many(desk: Desk) -> None:
    with Sshd(options=["MaxSessions 20"]) as busy:
        connection = ssh.connect(desk.meet(busy))
        pipes = [connection.start(f"cat; echo {number}") for number in range(20)]
        with pytest.raises(DeviceFault, match="lets no more programs run") as caught:
            connection.start("echo")
        assert caught.value.hint is not None and "MaxSessions" in caught.value.hint
        for pipe in pipes:
            pipe.end_input()
        for number, pipe in enumerate(pipes):
            assert pipe.read() == f"{number}\n".encode() and pipe.read() == b"" and pipe.wait() == 0
            pipe.close()
        assert remote.run(connection, "echo", timeout_s=9).exit_code == 0
        connection.close()


def test_keys_are_renewed_amid_transfers(desk: Desk) -> None:
    with Sshd(options=["RekeyLimit 2M"]) as fresh:
        connection = ssh.connect(desk.meet(fresh))
        blob = os.urandom(12_000_000)
        found = []
        work = [
            threading.Thread(target=lambda: found.append(remote.run(connection, "cat", timeout_s=60, stdin=[blob])))
            for _ in range(3)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join(60)
        assert [one.output == blob for one in found] == [True] * 3
        connection.close()


# --- what ends a connection


def lost_after(one: Sshd, device: Device, act: Callable[[], object], script: str = "echo up; sleep 100") -> float:
    """Return the seconds from an act to the news that the connection is lost, in the run and afterwards."""
    connection = ssh.connect(device)
    began = 0.0

    def done(line: str) -> None:
        nonlocal began
        began = time.monotonic()
        act()

    try:
        with pytest.raises(DeviceFault) as caught:
            remote.run(connection, script, timeout_s=60, on_line=done)
        seconds = time.monotonic() - began
        assert caught.value.fault == "lost", caught.value
        assert caught.value.message == f"board: the connection to {one.address}:{one.port} was lost"
        with pytest.raises(DeviceFault) as caught:
            connection.start("echo")
        assert caught.value.fault == "lost"
    finally:
        connection.close()
    return seconds


def kill(one: Sshd) -> None:
    for pid in one.sessions():
        os.kill(pid, signal.SIGKILL)


def test_sshd_killed_in_a_run_is_lost_at_once(board: Sshd, desk: Desk) -> None:
    device = desk.meet(board)
    assert lost_after(board, device, lambda: kill(board)) < 2


def test_a_board_that_loses_power_is_lost(desk: Desk) -> None:
    with Sshd() as one:
        assert lost_after(one, desk.meet(one), one.stop) < LOST_WITHIN_S


def test_a_board_that_freezes_is_lost_in_bounded_time(board: Sshd, desk: Desk) -> None:
    device = desk.meet(board)
    frozen: list[int] = []

    def freeze() -> None:
        frozen.extend(board.sessions())
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)

    try:
        assert 10 < lost_after(board, device, freeze) < LOST_WITHIN_S
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGKILL)


def test_a_cable_cut_in_a_push_is_lost_in_bounded_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secure_shell, "ASK_EVERY_S", 0.5)
    with boards(1) as (one,):
        device = desk.meet(one)
        connection = ssh.connect(device)
        cut_at = 0.0

        def endless() -> Iterator[bytes]:
            nonlocal cut_at
            for number in range(1_000_000):
                if number == 300:
                    one.cut()
                    cut_at = time.monotonic()
                yield bytes(1 << 16)

        with pytest.raises(DeviceFault) as caught:
            remote.run(connection, "cat > /dev/null", timeout_s=100, stdin=endless())
        assert caught.value.fault == "lost"
        assert time.monotonic() - cut_at < 4
        began = time.monotonic()
        connection.close()
        assert time.monotonic() - began < 5


def test_a_board_that_only_works_is_not_lost(board: Sshd, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats go in, nothing comes back, for longer than a silent board is given."""
    monkeypatch.setattr(secure_shell, "ASK_EVERY_S", 0.5)
    connection = ssh.connect(desk.meet(board))

    def heartbeats() -> Iterator[bytes]:
        for _ in range(20):
            time.sleep(0.2)
            yield b"\n"

    assert remote.run(connection, "cat > /dev/null; echo done", timeout_s=60, stdin=heartbeats()).text == "done\n"
    connection.close()


# --- what it costs


def test_twenty_boards_at_once_in_little_memory(desk: Desk) -> None:
    code = """
import sys, threading
from pathlib import Path
from edgeship import remote
from edgeship.device import Device
from edgeship.devices import ssh
entries = [Device.model_validate_json(line) for line in sys.stdin]
open_, blob = [], bytes(1 << 20)
def work(entry):
    connection = ssh.connect(entry)
    open_.append(connection)
    assert remote.run(connection, "cat > blob; cat blob", timeout_s=60, stdin=[blob] * 5).output == blob * 5
threads = [threading.Thread(target=work, args=(entry,)) for entry in entries]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(open_) == 20
# not ru_maxrss: that of a process which was forked off a large one begins with the large one's
print(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024)
[connection.close() for connection in open_]
"""
    with boards(20) as many:
        lines = "\n".join(desk.meet(one).model_copy(update={"name": f"board{number}"}).model_dump_json()
                          for number, one in enumerate(many))  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            [sys.executable, "-c", code], input=lines, capture_output=True, text=True, timeout=120, env=environment
        )
        assert done.returncode == 0 and done.stderr == ""
        assert int(done.stdout) < 400


def test_connections_leave_nothing_behind(board: Sshd, desk: Desk) -> None:
    device = desk.meet(board)
    run(device, "echo")
    time.sleep(0.5)
    before = board.processes()
    files, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(20):
        run(device, "echo")
    deadline = time.monotonic() + 10
    while len(list(Path("/proc/self/fd").iterdir())) > files or threading.active_count() > threads:
        assert time.monotonic() < deadline, "files or threads stay"
        time.sleep(0.1)
    assert board.processes() == before


def test_failures_leave_nothing_on_stderr(board: Sshd, desk: Desk) -> None:
    code = (
        "import sys; from edgeship.device import Device; from edgeship.devices import ssh\n"
        "from edgeship.errors import DeviceFault\n"
        "for line in sys.stdin:\n"
        "    try: ssh.connect(Device.model_validate_json(line))\n"
        "    except DeviceFault as fault: print(fault.fault)\n"
    )
    desk.trust(board)
    stranger = keygen(desk.home / "stranger")
    entries = [entry("127.0.0.1:1"), entry("no-such-host.invalid"), board.device(identity=str(stranger))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(one.model_dump_json() for one in entries), capture_output=True,
        text=True, timeout=60, env=environment,
    )  # fmt: skip
    assert done.stdout.split() == ["unreachable", "unreachable", "auth"]
    assert done.stderr == ""
