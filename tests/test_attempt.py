"""A bench that is ended by somebody else ends, whatever it is doing at that moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeship import attempt, devices
from edgeship.attempt import Assignment, Ending
from edgeship.device import Device
from edgeship.errors import DeviceFault
from edgeship.progress import silent

BOARD = Device(name="board-1", target="rpi4", transport="ssh", address="10.0.0.9")


class Connected:
    """A connection that is only opened and closed."""

    simulation = None
    name = "board-1"

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def given(ending: Ending) -> Assignment:
    """Return an assignment that nobody comes to read."""
    unread: dict[str, Any] = dict.fromkeys(
        (
            "deliverable", "golden", "expected", "data", "judge", "metric", "runs", "min_seconds", "warmup_seconds", "threads",
            "batch", "wait_s", "governor",
        )
    )  # fmt: skip
    return Assignment(**unread, home=Path(), log=Path(), ending=ending)


def test_what_was_ended_while_it_connected_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection comes up after the end: it is closed at once, and nothing is tried on it."""
    ending, connection = Ending(), Connected()

    def connect(*_: object) -> Connected:
        ending.end()
        return connection

    monkeypatch.setattr(devices, "connect", connect)
    monkeypatch.setattr(attempt, "_on", lambda *_, **__: pytest.fail("it was measured"))
    with pytest.raises(DeviceFault, match="board-1: ended before it was measured"):
        attempt.bench(BOARD, given(ending), silent)
    assert connection.closed


def test_what_was_ended_while_it_reconnects_tries_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that is away for long is not waited for once nobody wants its answer."""
    ending, tries = Ending(), 0

    def connect(*_: object) -> Connected:
        nonlocal tries
        tries += 1
        if tries == 1:
            return Connected()
        if tries == 2:
            ending.end()
        raise DeviceFault("board-1: no route", fault="unreachable")

    def broken(*_: object, **__: object) -> None:
        raise DeviceFault("board-1: the connection broke", fault="lost")

    monkeypatch.setattr(devices, "connect", connect)
    monkeypatch.setattr(attempt, "_on", broken)
    with pytest.raises(DeviceFault, match="no route"):
        attempt.bench(BOARD, given(ending), silent)
    assert tries == 2
