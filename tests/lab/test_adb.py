"""adb as a transport, with the real adb program, its real server, and the real adbd on a board of its own."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeship import remote
from edgeship.android.bridge import LONGEST_SCRIPT_BYTES, AndroidBridge
from edgeship.command import call
from edgeship.device import Device
from edgeship.devices import adb
from edgeship.errors import DeviceFault, MissingTool
from edgeship.remote import Connection
from tests.lab.android import PORT, AdbServer, AndroidBoard

ALL_BYTES = bytes(range(256)) * 16384  # 4 MiB
SOON_S = 3.0


def pieces(data: bytes) -> Iterator[bytes]:
    """Return data as a push would send it."""
    for start in range(0, len(data), remote.PIECE_BYTES):
        yield data[start : start + remote.PIECE_BYTES]


def named(address: str, **more: object) -> Device:
    """Return an entry of an inventory with some serial."""
    return Device.model_validate(
        {"name": "phone", "target": "android-x86_64", "transport": "adb", "address": address} | more
    )


def refusal(work: Callable[[], object]) -> DeviceFault:
    """Return the fault that something raises; it names the device first."""
    with pytest.raises(DeviceFault) as caught:
        work()
    assert caught.value.message.startswith("phone: "), caught.value.message
    return caught.value


def test_exit_codes_outputs_and_bytes_arrive_as_they_are(bridge: AndroidBridge) -> None:
    """Codes 0 to 255, a signal, both outputs apart, every byte value both ways, a script of any text."""
    for code in (0, 1, 7, 126, 255):
        assert remote.run(bridge, f"exit {code}", timeout_s=10).exit_code == code
    assert remote.run(bridge, "kill -9 $$", timeout_s=10).exit_code == 137
    assert remote.run(bridge, "kill -9 0", timeout_s=10).exit_code == 137  # its whole group, the teller of the end too
    apart = remote.run(bridge, "echo out; echo err >&2; printf '%s\n' 'wait \"$?\" \\t %s ä'", timeout_s=10)
    assert (apart.text, apart.errors) == ('out\nwait "$?" \\t %s ä\n', b"err\n")
    there_and_back = remote.run(bridge, "cat", timeout_s=60, stdin=pieces(ALL_BYTES))
    assert (there_and_back.exit_code, there_and_back.output == ALL_BYTES, there_and_back.errors) == (0, True, b"")
    assert remote.run(bridge, "cat >&2", timeout_s=60, stdin=pieces(ALL_BYTES)).errors == ALL_BYTES
    assert remote.run(bridge, "echo (", timeout_s=10).exit_code == 1
    assert (
        remote.run(bridge, "head -c 3", timeout_s=10, stdin=pieces(ALL_BYTES)).output == b"\0\1\2"
    )  # the rest is not taken


def test_a_push_is_not_slower_than_adb_s_own(bridge: AndroidBridge, adb_server: AdbServer, tmp_path: Path) -> None:
    """`cat` at the far end takes at most five times as long as `adb push`: nothing beside a phone's cable."""
    data = os.urandom(48 << 20)
    (tmp_path / "data").write_bytes(data)
    started = time.monotonic()
    adb_server("-s", bridge.serial, "push", str(tmp_path / "data"), "/data/local/tmp/pushed")
    pushed_s = time.monotonic() - started
    started = time.monotonic()
    assert remote.run(bridge, "cat > /data/local/tmp/sent", timeout_s=60, stdin=pieces(data)).exit_code == 0
    sent_s = time.monotonic() - started
    same = "cd /data/local/tmp && cmp pushed sent; rm pushed sent"
    assert remote.run(bridge, same, timeout_s=20).exit_code == 0
    assert sent_s < 5 * pushed_s + 0.5, f"{48 / sent_s:.0f} MiB/s against {48 / pushed_s:.0f} MiB/s"


def test_a_full_disk_is_told_by_the_command(bridge: AndroidBridge) -> None:
    """The board's /data has 512 MiB."""
    done = remote.run(
        bridge, "cat /dev/zero > /data/local/tmp/full; e=$?; rm -f /data/local/tmp/full; exit $e", timeout_s=60
    )
    assert done.exit_code != 0
    assert "No space left" in done.complaint


def test_a_command_out_of_time_is_ended_there_with_all_its_children(
    bridge: AndroidBridge, android_board: AndroidBoard
) -> None:
    """Also one that takes no input while much is waiting."""
    script = "sleep 600 & (sleep 601; true) & sleep 602"
    started = time.monotonic()
    for stdin in ((), pieces(ALL_BYTES * 8)):
        assert refusal(lambda stdin=stdin: remote.run(bridge, script, timeout_s=0.7, stdin=stdin)).fault == "timeout"  # type: ignore[misc]
    assert time.monotonic() - started < 2 * SOON_S
    assert_nothing_runs(android_board)


def assert_nothing_runs(board: AndroidBoard) -> None:
    """Wait a moment for the board to fall silent."""
    deadline = time.monotonic() + SOON_S
    while board.processes() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert board.processes() == []


def lost_in_the_run(bridge: Connection, harm: Callable[[], object], *, stdin: Iterator[bytes]) -> DeviceFault:
    """Return the fault of a run that is harmed after it began; it has to come soon."""
    begun = threading.Event()
    found: list[DeviceFault] = []

    def work() -> None:
        try:
            remote.run(
                bridge,
                "echo begun; cat > /dev/null; sleep 600",
                timeout_s=60,
                stdin=stdin,
                on_line=lambda _: begun.set(),
            )
        except DeviceFault as fault:
            found.append(fault)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert begun.wait(10)
    harm()
    thread.join(SOON_S)
    assert not thread.is_alive(), "the loss is not noticed"
    assert found, "a lost connection passed for a command that did well"
    return found[0]


def forever() -> Iterator[bytes]:
    """Return input without end."""
    while True:
        yield b"x" * remote.PIECE_BYTES


HARMS: dict[str, Callable[[AndroidBoard, AdbServer], object]] = {
    "adbd killed": lambda board, server: board.kill_adbd(),
    "server killed": lambda board, server: server.kill(),
    "server ended": lambda board, server: server("kill-server"),
    "disconnected": lambda board, server: server("disconnect", board.serial),
}


@pytest.mark.parametrize("when", ["waiting", "pushing"])
@pytest.mark.parametrize("harm", sorted(HARMS))
def test_what_breaks_the_connection_is_told_as_lost_and_it_can_be_made_again(
    harm: str, when: str, android_board: AndroidBoard, adb_server: AdbServer
) -> None:
    """adb itself leaves with 0 and no word in most of these cases."""
    bridge = adb.connect(android_board.device)
    stdin = forever() if when == "pushing" else iter(())
    fault = lost_in_the_run(bridge, lambda: HARMS[harm](android_board, adb_server), stdin=stdin)
    assert fault.fault == "lost", fault.message
    android_board.await_adbd()
    again = adb.connect(android_board.device)
    assert remote.run(again, "echo back", timeout_s=10).text == "back\n"


def test_a_cable_that_is_out_is_told_when_the_connection_is_closed(android_board: AndroidBoard) -> None:
    """Nobody is told of it by the network: whoever misses a sign of life closes the connection."""
    bridge = adb.connect(android_board.device)
    with pytest.raises(AssertionError, match="not noticed"):
        lost_in_the_run(bridge, android_board.cut, stdin=iter(()))
    bridge.close()
    android_board.mend()
    bridge = adb.connect(android_board.device)
    assert lost_in_the_run(bridge, bridge.close, stdin=forever()).fault == "lost"


def test_a_command_on_a_connection_whose_device_went_away_is_lost(bridge: AndroidBridge, adb_server: AdbServer) -> None:
    """The server knows nothing of it any more."""
    adb_server("disconnect")
    fault = refusal(lambda: remote.run(bridge, "true", timeout_s=10))
    assert fault.fault == "lost"
    assert "attached no more" in fault.message


def test_a_board_that_falls_silent_is_noticed_by_the_next_connection(android_board: AndroidBoard) -> None:
    """adb still lists it as ready; nobody is told that the cable is out."""
    adb.connect(android_board.device)
    with android_board.stopped_adbd():
        started = time.monotonic()
        fault = refusal(lambda: adb.connect(android_board.device))
    assert fault.fault == "unreachable"
    assert "nothing came back within 10 s" in fault.message
    assert time.monotonic() - started < 14
    adb.connect(android_board.device)


def test_who_does_not_answer_at_the_address_is_unreachable(adb_server: AdbServer, android_board: AndroidBoard) -> None:
    """A closed port, an unknown host, a port that is none, a board whose adbd hangs (adb gives up after 10 s)."""
    closed = refusal(lambda: adb.connect(named("127.0.0.1:16999")))
    assert closed.fault == "unreachable"
    assert "Connection refused" in closed.message
    assert "adb tcpip" in (closed.hint or "")
    assert refusal(lambda: adb.connect(named("nobody.invalid:16555"))).fault == "unreachable"
    assert refusal(lambda: adb.connect(named("127.0.0.1:99999"))).fault == "mismatch"
    with android_board.stopped_adbd():
        hanging = refusal(lambda: adb.connect(android_board.device))
    assert hanging.fault == "unreachable"


def test_an_unknown_serial_is_told_with_the_nearest_that_is_there(bridge: AndroidBridge) -> None:
    """With nothing near it, what is attached stands in the hint."""
    serial = bridge.serial
    near = refusal(lambda: adb.connect(named(serial[:-1])))  # adb takes it for an address: a closed port
    assert near.fault == "unreachable"
    unlike = refusal(lambda: adb.connect(named("R58M123ABC")))
    assert unlike.fault == "unreachable"
    assert "no device 'R58M123ABC' is attached" in unlike.message
    assert serial in (unlike.hint or "")
    typo = refusal(lambda: adb.connect(named(serial.replace(":", "."))))
    assert f"did you mean '{serial}'?" in typo.message


def test_without_a_serial_the_only_device_is_meant(
    android_board: AndroidBoard, android_root: Path, adb_server: AdbServer, tmp_path: Path
) -> None:
    """None and two are refused; the address may also be a host, with the port apart."""
    nobody = Device(name="phone", target="android-x86_64", transport="adb")
    none = refusal(lambda: adb.connect(nobody))
    assert none.fault == "unreachable"
    assert "USB debugging" in (none.hint or "")
    adb.connect(named(android_board.theirs, port=PORT))
    assert (
        remote.run(adb.connect(nobody), "getprop ro.serialno", timeout_s=10).text.strip() == android_board.serial_number
    )
    with AndroidBoard(android_root, tmp_path / "second.log") as second:
        adb.connect(second.device)
        several = refusal(lambda: adb.connect(nobody))
        assert several.fault == "mismatch"
        assert android_board.serial in (several.hint or "")
        found = {each.serial: each.state for each in adb.scan()}
    assert found == {android_board.serial: "device", second.serial: "device"}


def test_an_authorization_that_is_not_given_is_told_with_the_dialog(adb_server: AdbServer) -> None:
    """The far end is a stand-in for adbd's first words: Debian's adbd asks nobody for authorization."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=_never_authorize, args=(door,), daemon=True).start()
        fault = refusal(lambda: adb.connect(named(f"127.0.0.1:{door.getsockname()[1]}")))
    assert fault.fault == "auth"
    assert "Allow USB debugging?" in (fault.hint or "")
    assert "not authorized" in fault.message


def _never_authorize(door: socket.socket) -> None:
    """Speak adb's protocol (its documentation: protocol.txt) as far as asking for another key each time."""
    connect, auth, token, signature = 0x4E584E43, 0x48545541, 1, 2
    challenge = b"x" * 20
    asking = struct.pack("<6I", auth, token, 0, len(challenge), sum(challenge), auth ^ 0xFFFFFFFF) + challenge
    caller, _ = door.accept()
    with caller, caller.makefile("rb") as heard:
        while len(head := heard.read(24)) == 24:
            command, argument, _, length, _, _ = struct.unpack("<6I", head)
            heard.read(length)
            if command == connect or (command == auth and argument == signature):
                caller.sendall(asking)


def test_a_server_that_cannot_start_is_told(adb_server: AdbServer) -> None:
    """Another program holds its port."""
    with socket.create_server(("127.0.0.1", adb_server.port)) as door:
        threading.Thread(target=_hang_up, args=(door,), daemon=True).start()
        fault = refusal(lambda: adb.connect(named("R58M123ABC")))
    assert fault.fault == "failed"
    assert "adb start-server" in (fault.hint or "")


def _hang_up(door: socket.socket) -> None:
    while True:
        try:
            door.accept()[0].close()
        except OSError:
            return


def test_without_adb_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For a connection and for a scan."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for work in (lambda: adb.connect(named("R58M123ABC")), adb.scan):
        with pytest.raises(MissingTool) as caught:
            work()
        assert caught.value.hint == "apt-get install -y adb"


def test_the_server_that_adb_starts_holds_none_of_our_pipes(android_device: Device, adb_server: AdbServer) -> None:
    """So nobody who waits for our output waits for the server; and it does not hold a folder of ours."""
    started = time.monotonic()
    call("adb", "devices", timeout_s=20, folder=Path("/"))
    adb.connect(android_device)
    assert time.monotonic() - started < SOON_S
    (server,) = adb_server.pids()
    ours = {str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}
    held = {str(entry.readlink()) for entry in Path(f"/proc/{server}/fd").iterdir()}
    assert not {name for name in ours & held if name.startswith("pipe:")}
    assert Path(f"/proc/{server}/cwd").readlink() == Path("/")
    assert os.getsid(server) != os.getsid(0)


def test_a_script_too_long_for_adb_is_our_bug_and_not_the_board_s(bridge: AndroidBridge) -> None:
    """The longest that passes does."""
    longest = "#" * (LONGEST_SCRIPT_BYTES - 400)
    assert remote.run(bridge, f"echo here\n{longest}", timeout_s=10).text == "here\n"
    with pytest.raises(ValueError, match="at most"):
        bridge.start("#" * LONGEST_SCRIPT_BYTES)


def test_twenty_connections_at_once(android_device: Device) -> None:
    """Each adb program talks to the one server."""
    adb.connect(android_device)
    said: list[str] = []

    def work(number: int) -> None:
        said.append(remote.run(adb.connect(android_device), f"sleep 0.2; echo {number}", timeout_s=20).text)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(map(int, said)) == list(range(20))
    assert time.monotonic() - started < 10
