"""One case in one night: the reference workload, then old and new in turn until the gate has its verdicts; every run is
kept at once, so that a night that was killed goes on with the next one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from edgeship import (
    alternation,
    deliverable,
    nightly_artifacts,
    nightly_faults,
    nightly_quality,
    nightly_questions,
    nightly_run,
)
from edgeship.alternation import Figures, Outing, Side
from edgeship.attempt import Assignment
from edgeship.deliverable import Deliverable
from edgeship.device import Device
from edgeship.errors import BadInput, DeviceFault, EdgeshipError
from edgeship.gate import Verdict
from edgeship.history import History
from edgeship.history.figures import GOLDEN
from edgeship.history.lease import Lease
from edgeship.measurement import BenchRecord
from edgeship.nightly_artifacts import Artifacts, Measurable
from edgeship.nightly_faults import Stopped, TimeUp
from edgeship.nightly_plan import Artifact
from edgeship.nightly_questions import Baseline
from edgeship.nightly_record import Case, Fault, Finding, NightRecord, Role, Run, now
from edgeship.nightly_run import Endings
from edgeship.progress import Listener, StageTold
from edgeship.suite import Suite, seconds

_AWHILE_S = 20.0  # until other load on a board, or a step of its clock, may have passed


@dataclass(frozen=True, eq=False)
class Tonight:
    """What all work of one night shares. `until` is the end of its time, by `time.monotonic`."""

    record: NightRecord
    suite: Suite
    kept: History
    artifacts: Artifacts
    listener: Listener
    until: float
    endings: Endings = field(default_factory=Endings)
    stopping: threading.Event = field(default_factory=threading.Event)

    def pause(self, pause_s: float) -> bool:
        """Wait; return whether to give up: the night was stopped, or its time is up."""
        return self.stopping.wait(max(min(pause_s, self.until - time.monotonic()), 0)) or time.monotonic() >= self.until

    def check(self, device: Device) -> None:
        """Refuse to begin anything more.

        Raises:
            Stopped: the user ended the night.
            TimeUp: its time is up.
        """
        if self.stopping.is_set():
            raise Stopped(f"{device.name}: the night was stopped")
        if time.monotonic() >= self.until:
            raise TimeUp(f"{device.name}: the night's {self.suite.time_limit} were up before it was measured")


class CaseNight:
    """The runs of one case tonight: those that were kept before, then those that are made."""

    def __init__(self, tonight: Tonight, artifact: Artifact, device: Device, new: Measurable) -> None:
        self.tonight, self.artifact, self.device, self.new = tonight, artifact, device, new
        self.case: Case = artifact.case(device)
        self.runs = list(tonight.kept.find(night=tonight.record.id, case=self.case))
        self.held: Baseline = nightly_questions.baseline(tonight.kept, tonight.record, self.case)
        other = None if self.held.sha256 == new.sha256 else self.held.sha256
        self.old = nightly_artifacts.find(other) if other else None
        self.lacking = other[:12] if other and self.old is None else None
        self._replay = [outing for outing in map(self._outing, self._of("new", "old")) if outing is not None]
        self._lease: Lease | None = None

    @property
    def ended(self) -> bool:
        """Say whether a fault ended it before."""
        return any(run.fault is not None and run.fault.cause != "conditions" for run in self._of("new", "old"))

    def measure(self, lease: Lease) -> tuple[Finding, ...]:
        """Have the case measured and judged; keep and return what was found.

        Raises:
            DeviceFault, BadInput, StageFailed: a run brought nothing; those before it are kept.
        """
        self._lease = lease
        reference = () if self.ended else self._reference()
        return self._judged(reference, self._run)

    def give_up(self, error: EdgeshipError, tries: int) -> tuple[Finding, ...]:
        """Keep the fault that ended the case, and judge what was measured before it."""
        if not self.ended:
            self._keep("new", self.new, None, nightly_faults.fault(error, tries), now())
        kept = tuple(map(alternation.figures, self._references()))
        return self._judged(kept, lambda side, ordinal: self._replayed(side))

    def _judged(
        self, reference: tuple[Figures, ...], run: Callable[[Side, int], Figures | None]
    ) -> tuple[Finding, ...]:
        suite, counted = self.tonight.suite, self._counted()
        asked = nightly_questions.questions(
            self.tonight.kept, self.tonight.record, self.case, suite.gates, self.held, self.new.sha256,
            alternated=self.old is not None, counted=counted, judged=self.new.judged,
        )  # fmt: skip
        nights = max(len(question.history) + len(question.trial) for question in asked)
        settled = alternation.settle(
            asked, run, alternated=self.old is not None, repeats=1 if counted else suite.repeats,
            first=nights, reference=reference, alpha=suite.gates.alpha,
        )  # fmt: skip
        if any(outing.side == "new" and outing.figures for outing in settled.runs):
            found = (*settled.verdicts, *self._limits(settled.runs))
        else:  # of what was not measured only that is told which is wrong whatever a device may say
            built = alternation.built(size_bytes=self.new.size_bytes, quality=self.new.quality)
            found = tuple(one for one in self._limits((Outing("new", built),)) if one.alarm)
        findings = tuple(
            Finding(self.tonight.record.id, self.case, verdict, self.held.sha256, self.new.sha256)
            for verdict in map(self._explained, found)
        )
        self.tonight.kept.keep_findings(*findings)
        return findings

    def _limits(self, made: Sequence[Outing]) -> tuple[Verdict, ...]:
        suite = self.tonight.suite
        found = list(nightly_questions.budgets(suite.budget_of(self.case), made, suite.gates.alpha, self.new.judged))
        missed = self.new.budget_missed
        if missed is not None and not any(one.metric == "quality budget" and one.alarm for one in found):
            reason = f"the build missed its budget: {missed}"
            found = [one for one in found if one.metric != "quality budget"]  # one night, one verdict of a name
            found.append(nightly_questions.settled("quality budget", reason, alarm=True))
        wrong = next((run.bench.golden for run in self._of("new") if run.bench and run.bench.golden.failed), None)
        if wrong is not None:
            reason = f"its outputs on the device are not this machine's: {wrong.why}"
            found.append(nightly_questions.settled(GOLDEN, reason, alarm=True))
        return tuple(found)

    def _explained(self, verdict: Verdict) -> Verdict:
        """Say in the verdict's reason when the baseline could not run beside it."""
        if self.lacking is None or verdict.p is None:
            return verdict
        told = f"the baseline {self.lacking} is not on this workstation, so it could not run beside it"
        return replace(verdict, reason=f"{verdict.reason}; {told}")

    def _reference(self) -> tuple[Figures, ...]:
        """Return the figures of the reference workload tonight; nothing where the device cannot run it.

        Raises:
            DeviceFault: the device computes it wrongly.
        """
        benches = self._references()
        if not benches and not any(run.fault is not None for run in self._of("reference")):
            one = self.tonight.artifacts.reference()
            try:
                made = self._valid("reference", one, None)
            except BadInput as error:
                self._keep("reference", one, None, nightly_faults.fault(error), now())
                made = None
            benches = [] if made is None else [made]
        for bench in benches:
            if bench.golden.failed:
                raise DeviceFault(
                    f"{self.device.name}: computes the reference workload wrongly: {bench.golden.why}",
                    fault="failed",
                    hint=f"edgeship devices check {self.device.name}",
                )
        return tuple(map(alternation.figures, benches))

    def _references(self) -> list[BenchRecord]:
        """Return the runs of the reference workload that were kept; one that was wrong is made again."""
        kept = (run.bench for run in self._of("reference"))
        return [bench for bench in kept if bench is not None and bench.valid and not bench.golden.failed]

    def _replayed(self, side: Side) -> Figures | None:
        """Return the next run of a side that was kept before; None where there is none, or it ended with a fault."""
        found = next((outing for outing in self._replay if outing.side == side), None)
        if found is None:
            return None
        self._replay.remove(found)
        return found.figures

    def _run(self, side: Side, ordinal: int) -> Figures | None:
        """Return the figures of the next run: the one that was kept before, else one that is made now."""
        if self.ended or any(outing.side == side for outing in self._replay):
            return self._replayed(side)
        one = self.new if side == "new" or self.old is None else self.old
        bench = self._valid(side, one, self.artifact.measured_data)
        return None if bench is None else self._figures(side, bench)

    def _valid(self, role: Role, one: Measurable, data: Path | None) -> BenchRecord | None:
        """Return a run under conditions that hold, after as many tries as the suite allows; None without one."""
        suite, device = self.tonight.suite, self.device
        for left in range(suite.retries, -1, -1):
            self.tonight.check(device)
            began = now()
            limit_s = min(seconds(suite.run_limit), max(self.tonight.until - time.monotonic(), 1.0))
            given = self.tonight.artifacts.assignment(one, data)
            if role != "reference":
                given = replace(given, beside=self._companion)
            bench = self._measured(given, limit_s)
            bench = nightly_run.tolerated(bench) if suite.bench.shared_machine else bench
            tries = suite.retries - left + 1
            broken = None if bench.valid or left else Fault("conditions", "; ".join(bench.reasons), 6, tries)
            self._keep(role, one, bench, broken, began)
            if bench.valid:
                return bench
            if left:
                self._wait_for_better(bench)
        return None

    @cached_property
    def _companion(self) -> Deliverable:
        """Return what every run of tonight is made in turns with: the baseline, else the artifact itself."""
        return deliverable.find(str((self.old or self.new).folder))

    def _measured(self, given: Assignment, limit_s: float) -> BenchRecord:
        """Return a run.

        Raises:
            TimeUp: the night's end cut it; that the run was too long is not known then.
        """
        tonight = self.tonight
        try:
            return nightly_run.measure(
                self.device, given, tonight.endings, limit_s=limit_s, on_progress=tonight.listener.on_progress
            )
        except DeviceFault as fault:
            if fault.fault == "timeout":
                tonight.check(self.device)
            raise

    def _wait_for_better(self, bench: BenchRecord) -> None:
        """Wait for the board to cool, or for whatever else broke the conditions to pass."""
        began, device = time.monotonic(), self.device
        if nightly_run.warm(bench):
            longest_s = seconds(self.tonight.suite.cool)
            on_progress = self.tonight.listener.on_progress
            words = nightly_run.cool_down(
                device, longest_s=longest_s, stopped=self.tonight.pause, on_progress=on_progress
            )
        else:
            self.tonight.pause(min(_AWHILE_S, seconds(self.tonight.suite.backoff)))
            words = "again"
        text = f"{self.case.name}: conditions: {'; '.join(bench.reasons)}; {words}"
        self.tonight.listener.on_stage(StageTold("waited", "ran", "", time.monotonic() - began, text))

    def _keep(self, role: Role, one: Measurable, bench: BenchRecord | None, fault: Fault | None, at: str) -> None:
        """Keep a run.

        Raises:
            DeviceFault: the lease was lost meanwhile: the run may have been disturbed.
        """
        ordinal = 1 + max((run.ordinal for run in self.runs), default=-1)
        record = self.tonight.record
        run = Run(
            id=f"{record.id}/{self.case.name}/{role}/{ordinal}", night=record.id, suite=record.suite, case=self.case,
            role=role, ordinal=ordinal, at=at, artifact_sha256=one.sha256, bench=bench, fault=fault, manifest=one.manifest,
        )  # fmt: skip
        self.tonight.kept.keep(run, lease=self._lease)
        self.runs.append(run)

    def _of(self, *roles: Role) -> list[Run]:
        return [run for run in self.runs if run.role in roles]

    def _outing(self, run: Run) -> Outing | None:
        """Return a kept run as a turn; one under broken conditions that was tried again was none."""
        side: Side = "new" if run.role == "new" else "old"
        if run.bench is not None and run.bench.valid:
            return Outing(side, self._figures(side, run.bench))
        return None if run.fault is None else Outing(side, None)

    def _figures(self, side: Role, bench: BenchRecord) -> Figures:
        one = self.old if side == "old" and self.old is not None else self.new
        metric = nightly_quality.name(self.new.manifest)
        quality = one.quality if nightly_quality.name(one.manifest) == metric else None
        return alternation.figures(
            bench, size_bytes=one.size_bytes, quality=quality, metric=metric, companion=(self.old or self.new).sha256
        )

    def _counted(self) -> bool:
        return any(run.bench is not None and run.bench.conditions.counted for run in self.runs)
