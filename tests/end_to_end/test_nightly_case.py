"""One case on this very machine: what ends its runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgeship import history, inventory, nightly_faults
from edgeship import suite as suites
from edgeship.errors import DeviceFault
from edgeship.nightly_artifacts import Artifacts
from edgeship.nightly_case import CaseNight, Tonight
from edgeship.nightly_faults import TimeUp
from edgeship.nightly_plan import Artifact
from edgeship.nightly_record import NightRecord
from edgeship.plan import Order
from edgeship.progress import Listener

LONG = """
models = ["digits"]
devices = ["local"]
time_limit = "2s"
[bench]
runs = 500000
min_seconds = 100
"""


def test_a_run_that_the_nights_end_cuts_is_no_fault_of_the_device(own_store: Path, tmp_path: Path) -> None:
    """It would have been quarantined after three such nights."""
    path = tmp_path / "suite.toml"
    path.write_text(LONG)
    suite, device = suites.read(path), inventory.find("local", tmp_path / "devices.toml")
    artifact = Artifact("digits", device.target, "int8", Order("digits", device.target))
    record = NightRecord("n1", "s", "2026-11-20T01:00:00+00:00", None, (artifact.case(device),))
    with history.open(str(tmp_path / "history.sqlite")) as kept:
        kept.begin(record)
        artifacts = Artifacts(suite, Listener())
        artifacts.assignment(artifacts.reference())
        with kept.lease("this", holder="a test") as lease:
            while True:
                tonight = Tonight(record, suite, kept, artifacts, Listener(), time.monotonic() + 2)
                with pytest.raises(DeviceFault) as cut:
                    CaseNight(tonight, artifact, device, artifacts.reference()).measure(lease)
                if not nightly_faults.busy(cut.value):
                    break
                time.sleep(1)  # another test measures on this machine
    assert isinstance(cut.value, TimeUp) and "the night's 2s were up" in cut.value.message
    assert not nightly_faults.infrastructure(cut.value)
