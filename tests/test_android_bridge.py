"""What adb prints, and what it means; the real program stands in tests/lab/test_adb.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.android.bridge import STATES, Attached, meaning_of, read_devices
from edgeship.errors import PASSING

DATA = Path(__file__).parent / "data" / "android"


def test_what_adb_lists_as_recorded() -> None:
    """States of devices over TCP."""
    found = read_devices((DATA / "adb-devices-recorded-adb-29.0.6.txt").read_text())
    assert {each.serial: each.state for each in found} == {
        "10.212.121.10:16555": "offline", "10.212.121.6:16555": "device", "127.0.0.1:42373": "unauthorized",
    }  # fmt: skip
    assert {each.model for each in found} == {None}


def test_what_adb_lists_of_usb_ports_as_transcribed() -> None:
    """A state of two words, a serial of question marks, a name of wireless debugging, lines that are none."""
    found = read_devices((DATA / "adb-devices-transcribed.txt").read_text())
    assert [(each.serial, each.state, each.model) for each in found] == [
        ("R58M123ABCD", "device", "SM G973F"),
        ("emulator-5554", "offline", None),
        ("0123456789ABCDEF", "no permissions", None),
        ("????????????", "no permissions", None),
        ("adb-38071FDH2000-AbCdEf._adb-tls-connect._tcp", "device", "Pixel 8 Pro"),
        ("HT0000000001", "unauthorized", None),
        ("HT0000000002", "recovery", "Pixel"),
        ("192.168.1.50:37099", "authorizing", None),
    ]
    assert all(each.state == "device" or each.state in STATES for each in found)
    assert found[2].detail.startswith("(user in plugdev group; are your udev rules wrong?)")
    assert read_devices("List of devices attached\n\n") == ()
    assert read_devices("X device") == (Attached("X", "device", None, ""),)


@pytest.mark.parametrize(
    ("complaint", "fault", "hint"),
    [
        # recorded from adb 29.0.6
        ("error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", "auth", "Allow USB debugging?"),
        ("failed to authenticate to 127.0.0.1:16777", "auth", "Allow USB debugging?"),
        ("error: device offline", "unreachable", "adb reconnect offline"),
        ("error: device '10.231.7.2:16555' not found", "lost", "attach it again"),
        ("failed to connect to '10.231.7.2:16999': Connection refused", "unreachable", "adb tcpip"),
        ("failed to connect to 10.231.7.2:16555", "unreachable", "adb tcpip"),
        ("failed to resolve host: 'nosuch.invalid': Name or service not known", "unreachable", "address"),
        ("bad port number 'notaport' in '10.231.7.2:notaport'", "mismatch", "host:port"),
        ("* failed to start daemon\nerror: cannot connect to daemon", "failed", "adb start-server"),
        ("adb: failed to check server version: cannot connect to daemon", "failed", "adb start-server"),
        ("adb: failed to check server version: protocol fault (couldn't read status)", "failed", "adb start-server"),
        # read in adb's source
        (
            "error: insufficient permissions for device: user in plugdev group; are your udev rules wrong?",
            "auth",
            "udev",
        ),
        ("error: USB permission failure: udev requires plugdev group membership.", "auth", "udev"),
        ("error: device still authorizing", "auth", "Allow USB debugging?"),
        ("error: device still connecting", "unreachable", "attach it again"),
        ("error: no devices/emulators found", "lost", "attach it again"),
        ("error: target doesn't support PTY args -Tt", "missing", "Android 7"),
    ],
)
def test_what_adb_complains_of_has_a_meaning_and_a_next_move(complaint: str, fault: str, hint: str) -> None:
    """The hint is what mends it."""
    meaning = meaning_of(complaint)
    assert meaning is not None
    assert meaning.fault == fault
    assert hint in meaning.hint


def test_what_a_program_on_the_board_complains_of_has_none() -> None:
    """Only adb's own words are known."""
    assert meaning_of("sh: nosuch: inaccessible or not found") is None
    assert meaning_of("error: closed") is None


def test_what_the_user_has_to_mend_is_not_tried_again() -> None:
    """A dialog, a rule of udev, a bootloader: waiting helps nothing."""
    again = {state for state, meaning in STATES.items() if meaning.fault in PASSING}
    assert again == {"connecting", "offline"}
