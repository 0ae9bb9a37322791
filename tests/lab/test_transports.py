"""Every transport is asked the same: programs with their input, output and end, on a real far end."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship import devices, remote
from edgeship.device import Device
from edgeship.errors import DeviceFault
from edgeship.remote import Connection
from tests.lab.real_sshd import Desk, Sshd

# To add a transport: a fixture that returns the entry of a running board, and its line here.
FAR_ENDS = {
    "adb": "android_device",
    "local": "local_far_end",
    "ssh": "ssh_far_end",
    "virtual": "virtual_device",
}
SOON_S = 5.0
BLOB = bytes(range(256)) * 12_000  # 3 MB, every byte at every place of a line


@pytest.fixture
def local_far_end() -> Device:
    return Device(name="board", target="linux-x86_64", transport="local")


@pytest.fixture
def ssh_far_end(board: Sshd, desk: Desk) -> Device:
    return desk.meet(board)


@pytest.fixture(params=FAR_ENDS)
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """Give an open connection over each transport in turn."""
    device = request.getfixturevalue(FAR_ENDS[request.param])
    assert device.transport == request.param
    opened = devices.connect(device)
    yield opened
    opened.close()
    opened.close()  # a second time does nothing


def pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), remote.PIECE_BYTES):
        yield data[start : start + remote.PIECE_BYTES]


def alive(connection: Connection, mark: str) -> int:
    """Return how many processes there carry a mark in their command line."""
    script = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null && echo; done"
    said = remote.run(connection, script, timeout_s=60).text
    return sum(line.startswith(f"sleep {mark}") for line in said.splitlines())


def gone(connection: Connection, mark: str) -> bool:
    deadline = time.monotonic() + SOON_S
    while alive(connection, mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_a_transport_that_is_not_asked_is_missing_here() -> None:
    assert list(FAR_ENDS) == sorted(FAR_ENDS)
    assert set(FAR_ENDS) == set(devices.TRANSPORTS)


@pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
def test_exit_codes_come_back(connection: Connection, code: int) -> None:
    assert remote.run(connection, f"exit {code}", timeout_s=20).exit_code == code


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("SEGV", 139), ("TERM", 143)])
def test_a_signal_is_128_and_its_number(connection: Connection, name: str, code: int) -> None:
    assert remote.run(connection, f"kill -{name} $$; sleep 5", timeout_s=20).exit_code == code
    assert remote.run(connection, f"sh -c 'kill -{name} $$'", timeout_s=20).exit_code == code


def test_every_byte_goes_there_and_comes_back(connection: Connection) -> None:
    found = remote.run(connection, "cat", timeout_s=60, stdin=pieces(BLOB))
    assert (found.exit_code, found.errors) == (0, b"")
    assert hashlib.sha256(found.output).hexdigest() == hashlib.sha256(BLOB).hexdigest()


def test_the_two_outputs_stay_apart_and_neither_waits_for_the_other(connection: Connection) -> None:
    script = "cat >&2; head -c 2000000 /dev/zero | tr '\\0' x; echo >&2; echo end >&2; exit 6"
    found = remote.run(connection, script, timeout_s=60, stdin=pieces(BLOB))
    assert found.exit_code == 6
    assert found.errors == BLOB + b"\nend\n"
    assert found.output == b"x" * 2_000_000
    assert found.complaint == "end"


def test_lines_come_as_they_are_said(connection: Connection) -> None:
    came: list[tuple[str, float]] = []
    script = "echo one; sleep 1; echo two; printf 'three\\r\\nwithout end'"
    found = remote.run(connection, script, timeout_s=20, on_line=lambda line: came.append((line, time.monotonic())))
    assert [line for line, _ in came] == ["one", "two", "three"]
    assert came[1][1] - came[0][1] > 0.7
    assert found.text == "one\ntwo\nthree\r\nwithout end"


def test_lines_are_answered_while_it_runs(connection: Connection) -> None:
    """What reads its input line by line gets each line when it is sent, and not when the input ends."""
    heard = threading.Event()

    def input_() -> Iterator[bytes]:
        yield b"ping\n"
        assert heard.wait(SOON_S), "the line did not come back"
        yield b"bye\n"

    script = "while read -r line; do echo got $line; done"
    found = remote.run(connection, script, timeout_s=20, stdin=input_(), on_line=lambda _: heard.set())
    assert found.text == "got ping\ngot bye\n"


def test_without_input_a_program_sees_its_end(connection: Connection) -> None:
    assert remote.run(connection, "cat; echo over", timeout_s=20).text == "over\n"


def test_a_program_may_leave_its_input_unread(connection: Connection) -> None:
    found = remote.run(connection, "head -c 3; exit 4", timeout_s=60, stdin=pieces(b"abcdef" * 2_000_000))
    assert (found.text, found.exit_code) == ("abc", 4)


def test_trouble_with_the_input_is_told_and_ends_the_program(connection: Connection) -> None:
    def broken() -> Iterator[bytes]:
        yield b"some"
        raise OSError(5, "the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        remote.run(connection, "cat > /dev/null; echo whole", timeout_s=20, stdin=broken())


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("printf '%s|' 'a  b' \"it's\" '\"' '$HOME' '\\n' '!x' '%d' '*'", "a  b|it's|\"|$HOME|\\n|!x|%d|*|"),
        ("echo 'ümläut 日本'", "ümläut 日本\n"),
        ("cat <<'X'\n$a `b` \\\n\n\tc\nX\n", "$a `b` \\\n\n\tc\n"),
        ("# only a comment\n\n: \n", ""),
        ("a=1; if [ $a -eq 1 ]; then\n echo yes\nfi\n\n", "yes\n"),
        ("echo " + "long" * 5000, "long" * 5000 + "\n"),
    ],
)
def test_a_script_arrives_as_it_was_written(connection: Connection, script: str, said: str) -> None:
    assert remote.run(connection, script, timeout_s=20).output.decode() == said


def test_a_script_that_is_no_script_is_its_shells_complaint(connection: Connection) -> None:
    found = remote.run(connection, "if then", timeout_s=20)
    assert found.exit_code != 0 and found.complaint


def test_what_takes_too_long_is_ended_there_with_its_children(connection: Connection) -> None:
    began = time.monotonic()
    with pytest.raises(DeviceFault) as caught:
        remote.run(connection, "sleep 7654 & (sleep 7654 & wait) & sleep 7654", timeout_s=1)
    assert time.monotonic() - began < 1 + SOON_S
    assert caught.value.fault == "timeout"
    assert caught.value.message == f"{connection.name}: a command there took longer than 1 s and was ended"
    assert gone(connection, "7654")


def test_what_talks_all_the_time_takes_too_long_all_the_same(connection: Connection) -> None:
    with pytest.raises(DeviceFault) as caught:
        remote.run(connection, "while :; do echo on; sleep 0.1; done", timeout_s=1)
    assert caught.value.fault == "timeout"


def test_many_programs_run_at_once_and_keep_apart(connection: Connection) -> None:
    found: dict[int, bytes] = {}

    def work(number: int) -> None:
        mine = bytes([number]) * 300_000
        found[number] = remote.run(connection, "cat", timeout_s=60, stdin=pieces(mine)).output

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {number: bytes([number]) * 300_000 for number in range(8)}


def test_closing_a_program_ends_what_waits_for_it(connection: Connection) -> None:
    pipe = connection.start("echo up; exec sleep 8765")
    assert pipe.read() == b"up\n"
    ended = threading.Event()

    def wait() -> None:
        try:
            while pipe.read():
                pass
        except (OSError, DeviceFault):
            pass
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    time.sleep(0.2)
    pipe.close()
    assert ended.wait(SOON_S)
    remote.run(connection, "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' < $p/cmdline 2>/dev/null) in "
               "'sleep 8765 ') kill -9 ${p#/proc/};; esac; done", timeout_s=20)  # fmt: skip  # no transport promises a signal
    assert gone(connection, "8765")


def test_a_program_that_ended_takes_no_more(connection: Connection) -> None:
    pipe = connection.start("exec 0<&-; echo closed")
    assert pipe.read() == b"closed\n" and pipe.read() == b"" and pipe.read_error() == b""
    assert pipe.wait() == 0
    with pytest.raises(BrokenPipeError):
        for _ in range(100):
            pipe.write(bytes(remote.PIECE_BYTES))
    pipe.end_input()
    pipe.close()
    pipe.close()


def test_a_push_through_cat_arrives_whole(connection: Connection, tmp_path: Path) -> None:
    script = 'd=${TMPDIR:-/tmp}; f=$d/edgeship-contract-$$; cat > "$f"; sha256sum < "$f"; rm "$f"'
    said = remote.run(connection, script, timeout_s=60, stdin=pieces(BLOB)).text
    assert said.split()[0] == hashlib.sha256(BLOB).hexdigest()
