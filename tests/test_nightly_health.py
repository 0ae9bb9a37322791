"""What becomes of a quarantined device when the user ends the night."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from edgeship import command, history, nightly_health
from edgeship import suite as suites
from edgeship.device import Device
from edgeship.errors import StageFailed
from edgeship.nightly_artifacts import Artifacts
from edgeship.nightly_case import Tonight
from edgeship.nightly_record import NightRecord
from edgeship.progress import Listener

DEVICE = Device(name="pi", target="rpi4", transport="ssh", address="pi")
SUITE = 'models = ["m.tflite"]\ndevices = ["pi"]\nhook = ["sh", "-c", "{}"]\n'


@pytest.mark.processes
@pytest.mark.parametrize(("script", "cycled"), [("exec sleep 100", False), ("sleep 0.6", True)], ids=["slow", "soon"])
def test_a_hook_keeps_nobody_who_ends_the_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, cycled: bool
) -> None:
    """It gets a moment, for a board must not be left without power; and nothing is said against the board."""
    monkeypatch.setattr(command, "MOMENT_S", 3.0)
    (tmp_path / "suite.toml").write_text(SUITE.format(script))
    suite = suites.read(tmp_path / "suite.toml")
    night = NightRecord("n", "suite", "2026-01-01T00:00:00+00:00", None, ())
    with history.open(str(tmp_path / "history.sqlite")) as kept:
        kept.begin(night)
        tonight = Tonight(night, suite, kept, Artifacts(suite, Listener()), Listener(), time.monotonic() + 1000)
        threading.Timer(0.2, tonight.stopping.set).start()
        began = time.monotonic()
        assert not nightly_health.heal(tonight, DEVICE)
        assert time.monotonic() - began < 60
        assert [event.event for event in kept.night("n").health] == ["power-cycled"] * cycled


@pytest.mark.processes
def test_a_program_that_was_told_to_stop_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it said is whole where it ends by itself."""
    monkeypatch.setattr(command, "MOMENT_S", 0.0)
    stopped = threading.Event()
    done = command.call("sh", "-c", "seq 5000; sleep 0.5; seq 5000", timeout_s=100, stopped=stopped)
    assert len(done.output.split()) == 10_000
    stopped.set()
    with pytest.raises(StageFailed, match="sleep was ended"):
        command.call("sleep", "100", timeout_s=100, stopped=stopped)
    with pytest.raises(StageFailed, match="took longer than 1 s"):
        command.call("sleep", "100", timeout_s=0.6, stopped=threading.Event())
