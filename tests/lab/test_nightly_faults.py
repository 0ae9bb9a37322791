"""A night with what goes wrong in one: boards that are gone, held by others, too slow; real boards behind sshd."""

from __future__ import annotations

import shlex
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship import history, nightly, nightly_outcome, nightly_plan
from edgeship import suite as suites
from edgeship.history import History
from edgeship.nightly_record import NightRecord
from edgeship.progress import Listener
from tests.lab.drawer import Drawer, drawer
from tests.tiny_tflite import separable

SUITE = """
models = ["tiny.tflite"]
recipes = ["float32"]
repeats = 1
backoff = "1s"
lease = "3s"
boot = "2m"
[gates]
memory = false
[bench]
runs = 16
min_seconds = 0.1
warmup_seconds = 0.05
shared_machine = true
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Drawer]:
    """Give a drawer with two boards, both tagged."""
    with drawer(2) as made:
        for board in made.boards:
            made.change(board, tags=["desk"])
        yield made


@pytest.fixture
def kept(tmp_path: Path, lab: Drawer, monkeypatch: pytest.MonkeyPatch) -> Iterator[History]:
    """Give a history of the test's own."""
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    for board in lab.boards:
        board.stop()
        board.start()
    with history.open(str(tmp_path / "history.sqlite")) as opened:
        yield opened


def night(kept: History, folder: Path, text: str, *, resume: bool = False) -> NightRecord:
    """Do a night of a suite."""
    separable().write(folder / "tiny.tflite")
    path = folder / "suite.toml"
    head, _, tables = SUITE.partition("[gates]")
    path.write_text(f"{head}{text}\n[gates]{tables}")
    return nightly.run(nightly_plan.plan(suites.read(path)), kept, Listener(), resume=resume)


def test_a_board_that_is_gone_is_tried_again_then_quarantined(kept: History, lab: Drawer, tmp_path: Path) -> None:
    """The other board's case is measured all the same; three faults in a row, over nights too, and nothing is tried any more."""
    lab.boards[0].stop()
    first = night(kept, tmp_path, 'devices = ["board-1", "board-2"]\nretries = 1')
    (lost,) = [run for run in first.runs if run.fault is not None]
    assert lost.fault is not None
    assert (lost.case.device, lost.fault.cause, lost.fault.tries, lost.fault.exit_code) == ("board-1", "device", 2, 6)
    assert any(run.case.device == "board-2" and run.role == "new" and run.bench for run in first.runs)
    assert nightly_outcome.exit_code(first) == 6 and first.ended is not None
    assert [event.event for event in first.health] == ["unhealthy", "unhealthy"]

    second = night(kept, tmp_path, 'devices = ["board-1"]\nretries = 1')
    assert [event.event for event in second.health][:2] == ["unhealthy", "quarantined"]
    assert kept.health("board-1").quarantined is not None
    third = night(kept, tmp_path, 'devices = ["board-1"]\nretries = 5')
    assert third.runs[0].fault is not None and "quarantined since" in third.runs[0].fault.message

    lab.boards[0].start()
    fourth = night(kept, tmp_path, 'devices = ["board-1"]')
    assert [event.event for event in fourth.health] == ["released"]
    assert nightly_outcome.exit_code(fourth) == 0 and any(run.role == "new" for run in fourth.runs)


def test_a_hook_power_cycles_a_quarantined_board(kept: History, lab: Drawer, tmp_path: Path) -> None:
    """It gets the device's name, the board comes back, and the night goes on with it."""
    asked = tmp_path / "asked"
    lab.boards[0].stop()

    def switch() -> None:
        until = time.monotonic() + 200
        while not asked.exists() and time.monotonic() < until:
            time.sleep(0.2)
        lab.boards[0].start()
        over.wait()  # the board's first process ends with the thread that started it

    over = threading.Event()
    person = threading.Thread(target=switch, daemon=True)
    person.start()
    script = f"echo $1 $2 > {shlex.quote(str(asked))}"
    hook = f'hook = ["sh", "-c", "{script}", "hook", "{{device}}", "{{event}}"]'
    done = night(kept, tmp_path, f'devices = ["board-1"]\nretries = 3\n{hook}')
    over.set()
    person.join()
    assert asked.read_text() == "board-1 power-cycle\n"
    events = [event.event for event in done.health]
    assert events[:5] == ["unhealthy", "unhealthy", "unhealthy", "quarantined", "power-cycled"] and "released" in events
    assert nightly_outcome.exit_code(done) == 0
    assert any(run.role == "new" and run.bench is not None for run in done.runs)


def test_a_case_moves_to_another_board_of_its_pool(kept: History, lab: Drawer, tmp_path: Path) -> None:
    """`any:desk` is measured once; where its board is gone, on the other; next time there first."""
    first = night(kept, tmp_path, 'devices = ["any:desk"]')
    assert len({run.case for run in first.runs}) == len(first.cases) == 1
    there = first.cases[0].device
    again = night(kept, tmp_path, 'devices = ["any:desk"]')
    assert again.cases == first.cases
    lab.boards[int(there[-1]) - 1].stop()
    moved = night(kept, tmp_path, 'devices = ["any:desk"]\nretries = 0')
    assert nightly_outcome.exit_code(moved) == 0
    assert [case.device for case in moved.cases] == [{"board-1": "board-2", "board-2": "board-1"}[there]]


def test_a_board_that_others_hold_is_waited_for(kept: History, lab: Drawer, tmp_path: Path) -> None:
    """While another night holds its lease nothing runs there; when that is over, the case is measured."""
    name = f"lease:{tomllib.loads(lab.inventory.read_text())['board-1']['lease']}"
    with kept.lease(name, holder="another night", seconds=5):
        busy = night(kept, tmp_path, 'devices = ["board-1"]\nwait = "1s"')
    (lost,) = busy.runs
    assert lost.fault is not None and "another night" in lost.fault.message and lost.fault.exit_code == 6
    assert not busy.health

    def hold() -> None:
        with kept.lease(name, holder="another night", seconds=60):
            held.set()
            time.sleep(8)

    held = threading.Event()
    other = threading.Thread(target=hold)
    other.start()
    held.wait(20)
    done = night(kept, tmp_path, 'devices = ["board-1"]\nwait = "60s"')
    other.join()
    assert nightly_outcome.exit_code(done) == 0 and any(run.role == "new" and run.bench for run in done.runs)


def test_time_is_limited(kept: History, lab: Drawer, tmp_path: Path) -> None:
    """A run that takes too long is ended and told as a timeout; a night whose time is up ends with a report."""
    slow = night(kept, tmp_path, 'devices = ["board-1"]\nretries = 0\nrun_limit = "0.2s"')
    (lost,) = [run for run in slow.runs if run.fault is not None]
    assert lost.fault is not None and lost.fault.cause == "timeout" and "took longer than 0.2 s" in lost.fault.message
    short = night(kept, tmp_path, 'devices = ["board-2"]\ntime_limit = "0.1s"')
    (lost,) = short.runs
    assert lost.fault is not None and "the night's 0.1s were up" in lost.fault.message and short.ended is not None
