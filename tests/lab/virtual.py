"""Virtual boards for tests: real QEMU machines on real Debian images. `conftest.py` hands the fixtures out.

The image and the snapshots are made once: in the folder `$EDGESHIP_TEST_LAB` if that is set, which may live as long as
one likes, else once for the run; the workers of one run share them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship import lab, remote
from edgeship.device import Device
from edgeship.errors import MissingTool
from edgeship.lab import image
from edgeship.lab.image import MAKING
from edgeship.remote import Connection
from edgeship.ssh import shell as secure_shell


@pytest.fixture(scope="session")
def virtual_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which this run's virtual boards lie."""
    try:
        image.require_programs(MAKING)
    except MissingTool as missing:
        if os.environ.get("EDGESHIP_REQUIRE_LAB"):
            raise
        pytest.skip(f"{missing.message}: {missing.hint}")
    named = os.environ.get("EDGESHIP_TEST_LAB")
    if named:
        return Path(named).resolve()
    run = tmp_path_factory.getbasetemp()
    return (run.parent if os.environ.get("PYTEST_XDIST_WORKER") else run) / "virtual-lab"


@pytest.fixture
def virtual_home(virtual_lab: Path, own_store: Path) -> Path:
    """Let this test's edgeship, also on its command line, find the run's virtual boards; return its home."""
    own_store.mkdir(parents=True, exist_ok=True)
    virtual_lab.mkdir(parents=True, exist_ok=True)
    (own_store / "lab").symlink_to(virtual_lab)
    return own_store


@pytest.fixture(scope="session")
def virtual_rpi4(virtual_lab: Path) -> Iterator[lab.Held]:
    """Give a virtual Raspberry Pi 4 that counts instructions; the tests of a worker share it."""
    with lab.hold("rpi4", lab=virtual_lab) as held:
        yield held


@pytest.fixture(scope="session")
def virtual_rpi5(virtual_lab: Path) -> Iterator[lab.Held]:
    """Give a virtual Raspberry Pi 5 that counts instructions; the tests of a worker share it."""
    with lab.hold("rpi5", lab=virtual_lab) as held:
        yield held


@pytest.fixture(scope="session")
def fast_rpi4(virtual_lab: Path) -> Iterator[lab.Held]:
    """Give a virtual Raspberry Pi 4 on all of this machine's cores, whose times mean nothing; the tests of a worker share it."""
    with lab.hold("rpi4", counted=False, lab=virtual_lab) as held:
        yield held


@pytest.fixture(scope="session")
def running_lab(virtual_lab: Path) -> Path:
    """Return a lab with the same image for the boards that this worker leaves running: `down` there ends nobody else's."""
    folder = virtual_lab.with_name(f"{virtual_lab.name}-running-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}")
    folder.mkdir(parents=True, exist_ok=True)
    (virtual_lab / "images").mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # another worker was first
        (folder / "images").symlink_to(virtual_lab / "images")
    return folder


@pytest.fixture
def running_home(running_lab: Path, own_store: Path) -> Path:
    """Let this test's edgeship find the boards of that lab; return its home."""
    own_store.mkdir(parents=True, exist_ok=True)
    (own_store / "lab").symlink_to(running_lab)
    return own_store


@pytest.fixture(scope="session")
def running_rpi4(running_lab: Path) -> Iterator[lab.Machine]:
    """Give a virtual Raspberry Pi 4 on all of this machine's cores, left running as `edgeship lab up` leaves it."""
    machine = lab.up("rpi4", counted=False, lab=running_lab)
    yield machine
    lab.down("rpi4", lab=running_lab)


@pytest.fixture
def virtual_device(running_home: Path, running_rpi4: lab.Machine) -> Device:
    """Return a running virtual board as an entry of an inventory."""
    return Device(name="pi", target=running_rpi4.target, transport="virtual")


def device(machine: lab.Machine, name: str = "board") -> Device:
    """Return the entry by which a running virtual board is reached over ssh; its known_hosts file is the machine's."""
    return Device(
        name=name, target=machine.target, transport="ssh", address="127.0.0.1", port=machine.ssh_port,
        user=machine.user, identity=str(machine.identity),
    )  # fmt: skip


def connect(machine: lab.Machine) -> Connection:
    """Return a connection over ssh to a running virtual board."""
    return secure_shell.connect(device(machine), known_hosts=machine.known_hosts)


def said(machine: lab.Machine, script: str, stdin: bytes = b"") -> str:
    """Return what a script prints on a running virtual board, over a connection of its own; it has to succeed."""
    connection = connect(machine)
    try:
        done = remote.run(connection, script, timeout_s=120, stdin=[stdin])
    finally:
        connection.close()
    assert done.exit_code == 0, done.complaint
    return done.text
