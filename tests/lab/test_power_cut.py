"""Deploying to a virtual board whose power is cut at any moment: what an app reads is always there and whole."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship import deployment, digest, inventory, lab
from edgeship.device import Device
from edgeship.errors import DeviceFault
from edgeship.progress import Listener, Progress
from tests.lab.virtual import said
from tests.tiny_tflite import separable

ROUNDS = 2
TO = "/home/pi/app/model"


@pytest.fixture
def machine(
    running_home: Path, running_lab: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[lab.Machine]:
    """Give a board of this test's own, named `pi` in the inventory."""
    running = lab.up("rpi3", counted=False, lab=running_lab)
    file = tmp_path / "devices.toml"
    inventory.add(file, Device(name="pi", target="rpi3", transport="virtual"))
    monkeypatch.setenv("EDGESHIP_DEVICES", str(file))
    yield running
    lab.down("rpi3", lab=running_lab)


def test_the_model_is_whole_after_a_power_cut(machine: lab.Machine, running_lab: Path, tmp_path: Path) -> None:
    """Either the version before or the new one, each with its manifest; the next deploy works."""
    models = [separable(seed=seed).write(tmp_path / f"{seed}.tflite") for seed in range(ROUNDS + 2)]
    sums = [digest.of_file(model) for model in models]
    deployment.deploy(str(models[0]), "pi", TO, Listener())
    before = sums[0]
    for number in range(1, ROUNDS + 1):
        begun = threading.Event()

        def hear(told: Progress, begun: threading.Event = begun) -> None:
            begun.set()

        def work(model: Path = models[number], hear: object = hear) -> None:
            with contextlib.suppress(DeviceFault):
                deployment.deploy(str(model), "pi", TO, Listener(on_progress=hear))  # type: ignore[arg-type]

        worker = threading.Thread(target=work)
        worker.start()
        begun.wait(60)
        time.sleep(random.Random(number).uniform(0, 6))
        machine = lab.power_cycle(machine, lab=running_lab)
        worker.join(180)
        assert not worker.is_alive()
        found = said(machine, f"sha256sum < {TO}/model.tflite && grep -o 'sha256.*' {TO}/manifest.json")
        assert found.split()[0] in (before, sums[number])
        assert found.split()[0] in found.split("\n", 1)[1], "a manifest of another model"
        before = found.split()[0]
    last = deployment.deploy(str(models[-1]), "pi", TO, Listener(), wait_s=60)
    assert last.artifact_sha256 == sums[-1]
    assert "new-" not in said(machine, f"ls -a {TO}.versions")
