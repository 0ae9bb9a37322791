"""A night, on one page: build each artifact once, measure every case on its device, judge, and keep all of it.

A device is a thread that takes tasks from one queue. Each run is kept when it is made, under an id made of night, case, role
and place, so a night that was killed at any moment goes on where it was (`resume`), with no run lost and none kept twice.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from edgeship import comparisons, nightly_artifacts, nightly_plan, nightly_questions
from edgeship.errors import DeviceFault, EdgeshipError
from edgeship.history import History
from edgeship.history.lease import Lease
from edgeship.nightly_artifacts import Artifacts
from edgeship.nightly_bench import Bench, holder
from edgeship.nightly_case import Tonight
from edgeship.nightly_faults import fault
from edgeship.nightly_plan import NightPlan, Task
from edgeship.nightly_queue import Queue
from edgeship.nightly_record import Case, Finding, NightRecord, Run, now
from edgeship.progress import Listener, StageTold
from edgeship.suite import Suite, seconds

_MARGIN_S = 2.0
OnBegin = Callable[[NightRecord], None]


def run(
    planned: NightPlan, kept: History, listener: Listener, *, resume: bool = False, on_begin: OnBegin = lambda night: None
) -> NightRecord:  # fmt: skip
    """Do a night's work and return what it left behind; faults of cases are in it, and no errors here.

    Args:
        resume: go on with the suite's newest night if that came to no end, nobody works on it, and suite, choice of cases
            and artifacts are still the same; else a new one begins, and the listener is told why.
        on_begin: is told the night before anything is done, and the new one too where the first cannot be gone on with.
    """
    suite = planned.suite
    artifacts = Artifacts(suite, listener)
    with contextlib.ExitStack() as stack:
        record = _resumed(planned, kept, artifacts, listener, on_begin, stack) if resume else None
        if record is None:
            record = _begun(planned, kept)
            stack.enter_context(_held(record, suite, kept))
            on_begin(record)
        until = time.monotonic() + seconds(suite.time_limit)
        tonight = Tonight(record, suite, kept, artifacts, listener, until)
        _measured(tonight, planned, _built(tonight, planned))
        _corrected(tonight)
        kept.end(record.id)
    _tidied(tonight)
    return kept.night(record.id)


def _held(record: NightRecord, suite: Suite, kept: History, *, wait_s: float = 0.0) -> AbstractContextManager[Lease]:
    """Have a night worked on by this process alone."""
    return kept.lease(f"night:{record.id}", holder=holder(record), seconds=seconds(suite.lease), wait_s=wait_s)


def _resumed(
    planned: NightPlan, kept: History, artifacts: Artifacts, listener: Listener, on_begin: OnBegin,
    stack: contextlib.ExitStack,
) -> NightRecord | None:  # fmt: skip
    """Return the night to go on with, held until the stack is closed; one that nobody can go on with is ended."""
    suite = planned.suite
    found = kept.unfinished(suite.name)
    if found is None:
        return None
    with contextlib.ExitStack() as taken:
        try:
            # The lease of a process that was killed stands for so long.
            taken.enter_context(_held(found, suite, kept, wait_s=seconds(suite.lease) + _MARGIN_S))
        except DeviceFault as busy:
            _tell(listener, f"{found.id} is under way: {busy.message}")
            return None
        found = kept.night(found.id)
        if found.ended is not None:
            _tell(listener, f"{found.id} was brought to its end by another process meanwhile")
            return None
        changed = _replanned(planned, found)
        if changed is None:
            on_begin(found)
            changed = _rebuilt(planned, found, artifacts)
        if changed is None:
            stack.push(taken.pop_all())
            return found
        kept.end(found.id)
    _tell(listener, f"{found.id} was not finished, and is ended as it is: {changed}")
    return None


def _tell(listener: Listener, why: str) -> None:
    listener.on_stage(StageTold("resume", "ran", "", 0.0, f"{why}; a new night begins"))


def _begun(planned: NightPlan, kept: History) -> NightRecord:
    """Begin a night. Cases that may be measured on one of several devices are not in it before they are."""
    moment = datetime.now(UTC)
    record = NightRecord(
        id=f"{planned.suite.name}-{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}", suite=planned.suite.name,
        began=moment.isoformat(timespec="milliseconds"), ended=None,
        cases=tuple(task.case for task in planned.tasks if len(task.devices) == 1),
        options=nightly_plan.options(planned),
    )  # fmt: skip
    kept.begin(record)
    return record


def _replanned(planned: NightPlan, night: NightRecord) -> str | None:
    """Return in words why a night's plan is not the one it began with; None: it is."""
    if night.options.get("suite_sha256") != planned.suite.sha256:
        return f"{planned.suite.path} was changed since it began"
    if night.options.get("only") != planned.only:
        return (
            f"it began with --only {night.options['only']}" if night.options.get("only") else "it began without --only"
        )
    return None


def _rebuilt(planned: NightPlan, night: NightRecord, artifacts: Artifacts) -> str | None:
    """Return in words which artifact is not the one that a night has measured; None: all are."""
    for artifact in planned.artifacts:
        made = artifacts.build(artifact)
        if isinstance(made, EdgeshipError):
            continue
        for run in night.runs:
            same = (run.case.model, run.case.target, run.case.recipe) == (
                artifact.model,
                artifact.target,
                artifact.recipe,
            )
            if same and run.role == "new" and run.artifact_sha256 not in (None, made.sha256):
                return f"{artifact.name} is another artifact than the one that it has measured"
    return None


def _built(tonight: Tonight, planned: NightPlan) -> list[Task]:
    """Build everything, before anything is measured (a build would disturb runs on this machine); return what can be."""
    ready = []
    for task in planned.tasks:
        made = tonight.artifacts.build(task.artifact)
        if isinstance(made, EdgeshipError):
            _keep_trouble(tonight, task, made)
            continue
        ready.append(task)
    return ready


def _keep_trouble(tonight: Tonight, task: Task, error: EdgeshipError) -> None:
    record, case = tonight.record, task.case
    lost = Run(
        id=f"{record.id}/{case.name}/new/0", night=record.id, suite=record.suite, case=case, role="new", ordinal=0,
        at=now(), artifact_sha256=None, fault=fault(error),
    )  # fmt: skip
    tonight.kept.keep(lost)


def _measured(tonight: Tonight, planned: NightPlan, tasks: Sequence[Task]) -> None:
    """Have every device work through its tasks, all at the same time."""
    done = _done(tonight.record)
    settled = frozenset(case.name for case in tonight.kept.cases())
    queue = Queue((_preferred(task, settled) for task in tasks if not _is_done(task, done)), settled)
    with ThreadPoolExecutor(max(len(planned.devices), 1)) as pool:
        working = [pool.submit(Bench(tonight, queue, device).work) for device in planned.devices]
        try:
            _await(working)
        except BaseException:  # the user has had enough, or one has a bug: nobody waits for boards that measure on
            tonight.stopping.set()
            queue.stop()
            tonight.endings.end()
            raise
    for job in queue.left():
        Bench(tonight, queue, job.device).out_of_time(job)


def _await(working: Sequence[Future[None]]) -> None:
    for future in wait(working, return_when=FIRST_EXCEPTION).done:
        future.result()


def _done(record: NightRecord) -> frozenset[Case]:
    """Return the cases of a resumed night that have their verdict, or the fault that ended them."""
    judged = {finding.case for finding in record.findings}
    ended = {
        run.case for run in record.runs
        if run.fault is not None and run.fault.cause != "conditions" and run.role != "reference"
    }  # fmt: skip
    return frozenset(judged | ended)


def _is_done(task: Task, done: frozenset[Case]) -> bool:
    return any(task.artifact.case(device) in done for device in task.devices)


def _preferred(task: Task, settled: frozenset[str]) -> Task:
    """Return a task with the device first that has measured the case before."""
    known = [device for device in task.devices if task.artifact.case(device).name in settled]
    return Task(task.artifact, (*known, *(device for device in task.devices if device not in known)))


def _corrected(tonight: Tonight) -> None:
    """Hold the verdicts of the whole night together: the more is compared, the more chance finds."""
    findings = tonight.kept.night(tonight.record.id).findings
    verdicts = comparisons.correct([finding.verdict for finding in findings])
    changed = [
        Finding(one.night, one.case, verdict, one.baseline_sha256, one.artifact_sha256)
        for one, verdict in zip(findings, verdicts, strict=True)
        if verdict != one.verdict
    ]
    if changed:
        tonight.kept.keep_findings(*changed)


def _tidied(tonight: Tonight) -> None:
    """Forget artifacts that no case is held against and nobody measured for long."""
    if not nightly_artifacts.idle():  # as on most nights: then no history is read for it
        return
    needed = {level.artifact_sha256 for case in tonight.kept.cases() for level in tonight.kept.levels(case)[-1:]}
    held = {nightly_questions.baseline(tonight.kept, tonight.record, case).sha256 for case in tonight.kept.cases()}
    nightly_artifacts.prune(frozenset(needed | {sha for sha in held if sha is not None}))
