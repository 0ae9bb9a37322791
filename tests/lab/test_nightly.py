"""A suite of three models on three devices, end to end as a user runs it: a board behind sshd, one behind adbd, a virtual one."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import tomlkit

from edgeship import digest, history, lab, standin
from edgeship.nightly_record import NightRecord
from tests.conftest import Answer, CommandLine
from tests.lab.android import HOST_PYTHON, AndroidBoard
from tests.lab.drawer import PYTHON
from tests.lab.real_sshd import Desk, Sshd
from tests.tiny_tflite import separable

SUITE = """
models = ["small.tflite", "other.tflite", "third.tflite"]
recipes = ["float32"]
devices = ["pi", "phone", "virtual:rpi4"]
repeats = 1
retries = 1
lease = "3s"
backoff = "1s"
[gates]
latency = false
memory = false
[bench]
runs = 16
min_seconds = 0.05
warmup_seconds = 0.02
shared_machine = true
[[budget]]
device = "p*"
latency_ms = 1000
"""
TIMEOUT_S = 900.0  # where other tests use the same cores
DEVICES = ("pi", "phone", "virtual:rpi4")


@pytest.fixture
def suite(
    board: Sshd, desk: Desk, android_board: AndroidBoard, running_home: Path, running_rpi4: lab.Machine, tmp_path: Path
) -> tuple[CommandLine, Path]:
    """Return the command line of a user with these devices, and the suite's file."""
    binary = standin.benchmark_model(tmp_path, dialect="tflite-2025", python=HOST_PYTHON)
    entries: dict[str, Any] = {"pi": desk.meet(board), "phone": android_board.device}
    tables = {
        name: one.model_dump(exclude_none=True, exclude_defaults=True, mode="json") for name, one in entries.items()
    }
    tables["pi"] |= {"python": PYTHON, "lease": f"nightly-{tmp_path.name}"}
    tables["phone"] |= {"benchmark_model": str(binary), "benchmark_model_sha256": digest.of_file(binary)}
    for table in tables.values():
        table.pop("name", None)
    (tmp_path / "devices.toml").write_text(tomlkit.dumps(tables))
    for seed, name in enumerate(("small", "other", "third")):
        separable(seed=seed).write(tmp_path / f"{name}.tflite")
    (tmp_path / "suite.toml").write_text(SUITE)
    variables = {
        "EDGESHIP_DEVICES": str(tmp_path / "devices.toml"),
        "HOME": str(desk.home),
    }  # adb's server runs already
    return CommandLine(running_home, tmp_path, variables), tmp_path / "suite.toml"


def test_three_models_on_three_devices_killed_and_resumed(suite: tuple[CommandLine, Path], tmp_path: Path) -> None:
    """Killed in the middle, `--resume` does what is left: every case has its runs and verdicts, none has any twice.

    EDGESHIP_TEST_KILLS=30 kills so often, at moments drawn from the length of a night, over as many nights as that takes.
    """
    run, file = suite
    database, kept_before = tmp_path / "history.sqlite", dict[str, set[str]]()
    command = ("nightly", file, "--history", database, "--resume", "--json")
    for kill in range(int(os.environ.get("EDGESHIP_TEST_KILLS", "1"))):
        begun = run.start(*command)
        if kill == 0:
            _wait_for_some(database)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                begun.wait(random.Random(kill).uniform(0.5, 40))
        begun.send_signal(signal.SIGKILL)
        begun.communicate(timeout=60)
        for night in _nights(database):
            kept_before.setdefault(night.id, set()).update(one.id for one in night.runs)
    going_on = run.start(*command, "--junit", "junit.xml", "--markdown", "summary.md", "--html", "site")
    stdout, stderr = going_on.communicate(timeout=TIMEOUT_S)
    answer = Answer(going_on.returncode, stdout, stderr)
    assert answer.code == 0, answer.stderr
    nights = _nights(database)
    for night in nights:
        assert kept_before.get(night.id, set()) <= {one.id for one in night.runs}
        _check_whole(night)
    assert answer.table["exit"] == 0 and len(answer.table["verdicts"]) == 9 * 2 + 6
    assert len(ElementTree.parse(tmp_path / "junit.xml").getroot().findall(".//testcase")) >= 9
    assert "9 cases on 3 devices" in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "site" / "index.html").stat().st_size > 1000


def _check_whole(night: NightRecord) -> None:
    """Check that a night came to its end with every run that it wants, once, and their verdicts."""
    assert night.ended is not None and len(night.cases) == 9
    for case in night.cases:
        made = Counter((one.role, one.ordinal) for one in night.runs if one.case == case)
        assert made == {("reference", 0): 1, ("new", 1): 1}, case.name
        told = {finding.verdict.metric for finding in night.findings if finding.case == case}
        budget = {"latency budget"} if case.device.startswith("p") else set[str]()
        assert told == {"size", "quality"} | budget, case.name
    assert {one.case.device for one in night.runs} == set(DEVICES)
    assert all(one.bench is not None and not one.bench.golden.failed for one in night.runs)
    in_turns = {
        (one.case.device, one.role) for one in night.runs if one.bench is not None and one.bench.beside is not None
    }
    # Not the reference, and not by a tool that times one model. This virtual board runs already, so it counts nothing.
    assert in_turns == {("pi", "new"), ("virtual:rpi4", "new")}


def _nights(database: Path) -> list[NightRecord]:
    with history.open(str(database)) as kept:
        names = dict.fromkeys(night.night for case in kept.cases() for night in kept.nights(case))
        return [kept.night(name) for name in names]


def _wait_for_some(database: Path) -> None:
    """Wait until a night has kept some runs."""
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until:
        time.sleep(0.5)
        if database.exists():
            with history.open(str(database)) as kept:
                night = kept.unfinished("suite")
            if night is not None and len(night.runs) >= 2:
                return
    raise AssertionError("no run was kept")
