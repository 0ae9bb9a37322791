"""Refusals by class, and what a night's exit code makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import nightly_faults, nightly_health, nightly_outcome
from edgeship.errors import BadInput, DeviceFault, EdgeshipError, MissingTool, StageFailed
from edgeship.errors import Fault as Kind
from edgeship.nightly_faults import TimeUp
from edgeship.nightly_questions import settled
from edgeship.nightly_record import Case, Cause, Fault, Finding, HealthEvent, NightRecord, Run

CASE = Case("m", "rpi4", "int8", "pi")


@pytest.mark.parametrize(
    ("error", "cause", "again", "elsewhere", "counts"),
    [
        (BadInput("x"), "mistake", False, False, False),
        (MissingTool("x"), "mistake", False, False, False),
        (StageFailed("x"), "stage", False, False, False),
        (DeviceFault("x", fault="unreachable"), "device", True, True, True),
        (DeviceFault("x", fault="lost"), "device", True, True, True),
        (DeviceFault("x", fault="auth"), "device", False, True, True),
        (DeviceFault("x", fault="full"), "device", False, True, True),
        (DeviceFault("x", fault="busy"), "device", True, True, False),
        (DeviceFault("x", fault="killed"), "device", True, True, False),
        (DeviceFault("x", fault="timeout"), "timeout", True, True, True),
        (TimeUp("x"), "timeout", False, False, False),
    ],
    ids=range(11),
)
def test_each_class_has_its_own_way(
    error: EdgeshipError, cause: Cause, again: bool, elsewhere: bool, counts: bool
) -> None:
    """A mistake is not retried, a device's fault is, elsewhere too, and counts against it."""
    assert nightly_faults.cause(error) == cause
    assert nightly_faults.again(error) is again
    assert nightly_faults.elsewhere(error) is elsewhere
    assert nightly_faults.infrastructure(error) is counts


def test_every_fault_of_a_device_has_a_class() -> None:
    """None is forgotten when one is added."""
    from typing import get_args

    for kind in get_args(Kind):
        assert nightly_faults.fault(DeviceFault("x", fault=kind)).cause in ("device", "timeout")


def test_a_fault_is_kept_with_its_hint_and_its_log() -> None:
    """Who reads the report in the morning has nothing else; what stands in the message is not said again."""
    whole = StageFailed("x: broke", hint="edgeship build x", log=Path("x.log"))
    assert nightly_faults.fault(whole, 2) == Fault("stage", "x: broke; hint: edgeship build x; log: x.log", 5, 2)
    assert nightly_faults.fault(BadInput("x: see x.log", log=Path("x.log"))).message == "x: see x.log"
    assert nightly_faults.fault(BadInput("x: install y", hint="install y")).message == "x: install y"


def test_waits_double_up_to_a_limit() -> None:
    """However often it failed."""
    assert [nightly_faults.backoff_s(10, tries) for tries in (1, 2, 3, 40)] == [10, 20, 40, 600]


def test_faults_in_a_row_are_counted_since_the_device_last_worked() -> None:
    """Newest first, as the history tells them."""
    names = ["unhealthy", "power-cycled", "unhealthy", "released", "unhealthy"]
    events = [HealthEvent("n", "pi", str(number), name, "") for number, name in enumerate(names)]  # type: ignore[arg-type]
    assert nightly_health.in_a_row(events) == 2
    assert nightly_health.in_a_row([]) == 0


def run(cause: Cause | None, code: int = 6, *, case: Case = CASE, role: str = "new", ordinal: int = 0) -> Run:
    """Return a run that ended with a fault."""
    fault = None if cause is None else Fault(cause, "x", code)
    return Run(f"{case.name}{role}{ordinal}", "n", "s", case, role, ordinal, "2026-01-01", None, fault=fault)  # type: ignore[arg-type]


def night(*runs: Run, findings: tuple[Finding, ...] = ()) -> NightRecord:
    """Return a night of such runs."""
    return NightRecord("n", "s", "2026-01-01", None, (CASE,), runs, findings)


def test_a_negative_verdict_wins_over_faults_and_of_faults_the_device() -> None:
    """7, then 6, 5, 2, 4."""
    other = Case("o", "rpi4", "int8", "pi")
    missed = Finding("n", CASE, settled("latency budget", "x", alarm=True), None, None)
    kept = Finding("n", CASE, settled("latency budget", "x", alarm=False), None, None)
    assert nightly_outcome.exit_code(night()) == 0
    assert nightly_outcome.exit_code(night(run("device"), findings=(missed,))) == 7
    assert nightly_outcome.exit_code(night(findings=(kept,))) == 0
    assert nightly_outcome.exit_code(night(run("mistake", 2), run("stage", 5, case=other))) == 5
    assert nightly_outcome.exit_code(night(run("mistake", 2), run("mistake", 4, case=other))) == 2
    assert nightly_outcome.exit_code(night(run("mistake", 4))) == 4
    assert nightly_outcome.exit_code(night(run("timeout", 6), run("mistake", 2, case=other))) == 6


def test_a_reference_workload_that_a_device_refuses_is_no_fault_of_the_night() -> None:
    """Its own model may well run there."""
    assert nightly_outcome.exit_code(night(run("mistake", 2, role="reference"))) == 0


def test_conditions_count_only_where_no_run_was_valid() -> None:
    """Nothing is known of the case then."""
    assert nightly_outcome.exit_code(night(run("conditions"))) == 6
