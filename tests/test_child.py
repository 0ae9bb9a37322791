"""Work in a process of its own: its answer, its refusals and every way to die come back as what they are."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgeship import child
from edgeship.child import ChildCrashed
from edgeship.errors import BadInput, EdgeshipError, StageFailed
from edgeship.progress import OnProgress, Progress

pytestmark = pytest.mark.processes


def answers(on_progress: OnProgress, number: int) -> list[int]:
    sys.stdout.write("noise on stdout\n")
    for step in range(3):
        on_progress(Progress("count", step, 3))
    return [number, os.getpid()]


def refuses(on_progress: OnProgress) -> None:
    raise BadInput("a.npz: damaged", hint="copy it")


def breaks(on_progress: OnProgress) -> None:
    raise ZeroDivisionError("first line\nsecond line")


def aborts(on_progress: OnProgress) -> None:
    os.abort()


def exits(on_progress: OnProgress) -> None:
    os._exit(3)


def dies_while_answering(on_progress: OnProgress) -> None:
    os.write(int(sys.argv[1]), b"\x00\x00\x10\x00half")
    os._exit(3)


def sleeps(on_progress: OnProgress) -> None:
    time.sleep(60)


def eats_memory(on_progress: OnProgress) -> int:
    return int(np.ones(2 << 30, np.uint8).sum())


def test_the_answer_comes_back_and_noise_goes_to_the_log(tmp_path: Path) -> None:
    steps: list[Progress] = []
    number, process = child.run(partial(answers, number=42), log=tmp_path / "a.log", on_progress=steps.append)
    assert number == 42
    assert process != os.getpid()
    assert [step.done for step in steps] == [0, 1, 2]
    assert "noise on stdout" in (tmp_path / "a.log").read_text()


@pytest.mark.parametrize(
    ("work", "kind", "said"),
    [
        (refuses, BadInput, "a.npz: damaged"),
        (breaks, StageFailed, "ZeroDivisionError: first line; full log: "),
        (aborts, ChildCrashed, f"the process ended by {signal.SIGABRT.name}; full log: "),
        (exits, ChildCrashed, "the process ended with exit code 3; full log: "),
        (dies_while_answering, ChildCrashed, "the process ended with exit code 3; full log: "),
        (sleeps, ChildCrashed, "stopped after 4 s without an answer; full log: "),
        (eats_memory, ChildCrashed, "ran out of memory; full log: "),
    ],
)
def test_every_end_is_told_in_one_line(
    tmp_path: Path, work: Callable[[OnProgress], object], kind: type[EdgeshipError], said: str
) -> None:
    log = tmp_path / "a.log"
    limit = 4 if work is sleeps else 60
    with pytest.raises(kind) as refusal:
        child.run(work, log=log, timeout_s=limit, memory_gib=1)
    assert refusal.value.message.startswith(said)
    assert refusal.value.message in (said, f"{said}{log}")
    assert type(refusal.value) is kind


def test_the_traceback_of_a_crash_is_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(StageFailed):
        child.run(breaks, log=tmp_path / "a.log")
    assert "second line" in (tmp_path / "a.log").read_text()
