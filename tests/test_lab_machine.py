"""What is known of a virtual board without starting one: its record, who holds its folder, room and programs for it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship import lab
from edgeship.errors import BadInput, MissingTool, NothingToDo, StageFailed
from edgeship.lab import image, machine
from edgeship.lab.machine import Machine

BOARD = Machine(
    "rpi4", "rpi4", "linux", Path("/a b/machines/rpi4"), Path("/a b/id"), 77, 40022, 40555, True, ("x",), "cortex-a72",
    1024, "0" * 64, 1.0,
)  # fmt: skip


def test_the_way_in_is_one_line_for_a_shell() -> None:
    assert BOARD.ssh_command == (
        "ssh -F none -i '/a b/id' -o 'UserKnownHostsFile=/a b/machines/rpi4/known_hosts' -p 40022 pi@127.0.0.1"
    )


def test_a_machine_id_is_always_the_same_and_another_for_another_name() -> None:
    assert machine.machine_id("lab", "rpi4") == machine.machine_id("lab", "rpi4")
    assert machine.machine_id("lab", "rpi4") != machine.machine_id("lab", "rpi5")
    assert len(machine.machine_id("x")) == 32


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "rpi4"}'])
def test_a_record_that_was_cut_off_is_no_board(tmp_path: Path, content: str) -> None:
    (tmp_path / machine.STATE).write_text(content)
    assert machine.read(tmp_path) is None


def test_a_number_in_a_file_is_no_running_board(tmp_path: Path) -> None:
    (tmp_path / machine.PID).write_text(f"{os.getpid()}\n")
    assert machine.holder(tmp_path) is None
    assert replace(BOARD, folder=tmp_path, pid=os.getpid()).state == "dead"
    machine.kill(tmp_path)  # and so this process lives on


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    assert lab.running(lab=tmp_path) == []
    with pytest.raises(NothingToDo, match="rpi4: no virtual board of it runs"):
        lab.down("rpi4", lab=tmp_path)
    with pytest.raises(BadInput, match="no such target 'rpi44'; did you mean 'rpi4'"):
        lab.up("rpi44", lab=tmp_path)


def test_a_disk_without_room_is_named_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(StageFailed) as caught:
        image.require_space(tmp_path, 1 << 40)
    assert caught.value.message.startswith(f"{tmp_path}: no space left on its disk: ")
    assert caught.value.hint is not None and "EDGESHIP_HOME" in caught.value.hint


def test_missing_programs_are_brought_by_one_line() -> None:
    with pytest.raises(MissingTool) as caught:
        image.require_programs(
            {"no-such-a": "package-b", "no-such-b": "package-a", "no-such-c": "package-b", "sh": "x"}
        )
    assert caught.value.hint == "apt-get install --no-install-recommends package-a package-b"


def test_the_images_key_follows_the_runtime() -> None:
    assert image.key_of("2.3.0") == image.key_of("2.3.0") != image.key_of("2.4.0")


def test_what_nobody_used_for_long_is_forgotten(tmp_path: Path) -> None:
    long_ago = time.time() - (image.KEPT_DAYS + 1) * 86400
    for name, marker, touched in (
        ("images/old", "image.json", long_ago),
        ("images/new", "image.json", time.time()),
        ("images/run", "image.json", long_ago),
        ("snapshots/old", "disk.qcow2", long_ago),
        ("snapshots/new", "disk.qcow2", time.time()),
        ("machines/rpi4", machine.STATE, long_ago),
    ):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / marker).write_text('{"image": "runs on"}')
        os.utime(tmp_path / name / marker, (touched, touched))
    image._forget_unused(tmp_path)
    assert [path.name for path in sorted(tmp_path.glob("images/*"))] == ["new", "run"]
    assert [path.name for path in sorted(tmp_path.glob("snapshots/*"))] == ["new"]
