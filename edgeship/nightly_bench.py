"""One device's place in a night: it takes tasks from the queue, under a lease, and sees to what goes wrong."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import time
from pathlib import Path

from edgeship import attempt, devices, nightly_faults, nightly_health, target
from edgeship.device import Device
from edgeship.errors import DeviceFault, EdgeshipError
from edgeship.nightly_artifacts import Measurable
from edgeship.nightly_case import CaseNight, Tonight
from edgeship.nightly_faults import Stopped, TimeUp
from edgeship.nightly_queue import Job, Queue
from edgeship.nightly_record import Finding, NightRecord
from edgeship.progress import StageTold
from edgeship.suite import seconds

_PATIENCE_S = 5.0  # for somebody else's lease, before other tasks may go first
_MACHINE = Path("/etc/machine-id")


class Bench:
    """A device with the queue that it works through; used by one thread."""

    def __init__(self, tonight: Tonight, queue: Queue, device: Device) -> None:
        self.tonight, self.queue, self.device = tonight, queue, device
        self._key: str | None = None
        self._out: EdgeshipError | None = None
        self._kept: contextlib.ExitStack | None = None

    def work(self) -> None:
        """Take tasks until there are none for this device."""
        try:
            self._work()
        finally:
            self._let_go()

    def _work(self) -> None:
        if nightly_health.quarantined(self.tonight, self.device) is not None:
            self._heal(waiting=True)
        while (job := self.queue.take(self.device, until=self.tonight.until)) is not None:
            if self._out is not None:
                self._failed(job, self._out)
                continue
            began = time.monotonic()
            try:
                findings = self._measure(job)
            except Stopped:
                self.queue.done(job)
            except EdgeshipError as error:
                self._failed(job, error)
            else:
                nightly_health.worked(self.tonight, self.device)
                self._tell(job, findings, time.monotonic() - began)
                self.queue.done(job)

    def out_of_time(self, job: Job) -> None:
        """Keep that there was no time left for a task."""
        self._give_up(
            job, TimeUp(f"{self.device.name}: the night's {self.tonight.suite.time_limit} were up before its turn")
        )

    def _measure(self, job: Job) -> tuple[Finding, ...]:
        """Measure one case under the device's lease."""
        self.tonight.check(self.device)
        if self._key is None:
            self._key = key_of(self.device)
        lost = self.device.name
        with self.tonight.kept.lease(
            self._key, holder=holder(self.tonight.record), seconds=seconds(self.tonight.suite.lease), wait_s=_PATIENCE_S,
            on_lost=lambda: self.tonight.endings.end(lost),
        ) as lease:  # fmt: skip
            self._keep_on()
            case = self._case(job)
            before = len(case.runs)
            try:
                return case.measure(lease)
            except DeviceFault as fault:
                if len(case.runs) > before:  # it was free meanwhile
                    job.busy_since = None
                if lease.held:
                    raise
                text = f"{self.device.name}: its lease was lost: the history could not be reached, or this machine stood still"
                raise DeviceFault(text, fault="busy") from fault

    def _keep_on(self) -> None:
        """Have a virtual board started once for all that is measured on it."""
        if self._kept is None:
            with contextlib.ExitStack() as stack:
                stack.enter_context(devices.kept(self.device, self.tonight.listener.on_progress))
                self._kept = stack.pop_all()

    def _let_go(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _case(self, job: Job) -> CaseNight:
        made = self.tonight.artifacts.build(job.artifact)
        assert isinstance(made, Measurable)
        return CaseNight(self.tonight, job.artifact, self.device, made)

    def _failed(self, job: Job, error: EdgeshipError) -> None:
        """See what a refusal means: later, elsewhere, or the end of this case."""
        suite = self.tonight.suite
        if self.tonight.stopping.is_set():
            self.queue.done(job)
            return
        if nightly_faults.busy(error):
            job.busy_since, job.busy = job.busy_since or time.monotonic(), error.message
            if time.monotonic() - job.busy_since < seconds(suite.wait):
                self.queue.later(job, 1.0)
                return
        elif self._out is None:
            job.tries += 1
            if nightly_faults.infrastructure(error):
                self._let_go()
            if nightly_faults.infrastructure(error) and nightly_health.failed(self.tonight, self.device, error):
                self._heal()
            if nightly_faults.again(error) and job.tries <= suite.retries and self._out is None:
                wait_s = nightly_faults.backoff_s(seconds(suite.backoff), job.tries)
                self._say(job, f"{error.message}; again in {wait_s:g} s")
                job.busy_since = None
                self.queue.later(job, wait_s)
                return
        if self.tonight.stopping.is_set():  # while its power was cut
            self.queue.done(job)
            return
        if nightly_faults.elsewhere(error) and self.queue.elsewhere(job):
            self._say(job, f"{error.message}; elsewhere: {job.device.name}")
            return
        self._give_up(job, error)
        self.queue.done(job)

    def _heal(self, *, waiting: bool = False) -> None:
        """Try to get a quarantined device back; else it is out for tonight. `waiting`: it has been since an earlier night."""
        standing = nightly_health.quarantined(self.tonight, self.device)
        if standing is not None and not nightly_health.heal(self.tonight, self.device, waiting=waiting):
            text = f"{self.device.name}: quarantined since {standing.at[:16]}: {standing.reason}"
            hint = f"edgeship devices check {self.device.name}; it is released by the next night in which it is well"
            self._out = DeviceFault(text, fault="failed", hint=hint)

    def _give_up(self, job: Job, error: EdgeshipError) -> None:
        if isinstance(error, TimeUp) and job.busy_since is not None:
            error = TimeUp(f"{error.message}; {job.busy}")
        findings = self._case(job).give_up(error, max(job.tries, 1))
        self._say(job, error.message)
        if findings:
            self._tell(job, findings, 0.0)

    def _say(self, job: Job, text: str) -> None:
        name = job.artifact.case(self.device).name
        self.tonight.listener.on_stage(StageTold("fault", "ran", "", 0.0, f"{name}: {text}"))

    def _tell(self, job: Job, findings: tuple[Finding, ...], spent_s: float) -> None:
        told = [f"{one.verdict.metric} {one.verdict.decision}" for one in findings]
        text = f"{job.artifact.case(self.device).name}: {', '.join(told) or 'no figure'}"
        self.tonight.listener.on_stage(StageTold("judge", "ran", "", spent_s, text))


def key_of(device: Device) -> str:
    """Return what one board is leased by, the same on every workstation: its lease name, else its machine id.

    Boards whose cards were copied share a machine id, and wait for one another: `lease` in the entry tells them apart.

    Raises:
        DeviceFault: it has to be asked, and does not answer.
    """
    if device.lease:
        return f"lease:{device.lease}"
    here = _MACHINE.read_text().strip() if _MACHINE.is_file() else platform.node()
    if device.transport == "local":
        return f"machine:{here}"
    if device.transport == "virtual":
        return f"virtual:{device.target}@{here}"
    with attempt.leased(device, target.read(device.target)) as (session, _):
        told = session.board.machine_id or session.board.serial
    return f"machine:{told}" if told else f"{device.transport}:{device.address}:{device.port or ''}"


def holder(record: NightRecord) -> str:
    """Return who holds a lease, in words for those who wait."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "somebody"
    return f"{user}@{platform.node()} (process {os.getpid()}, night {record.id})"
