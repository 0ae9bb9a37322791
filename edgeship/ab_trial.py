"""compare(): two artifacts take turns on one device until it is known whether the second is slower, larger or worse."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from edgeship import (
    alternation,
    attempt,
    benchmarking,
    comparisons,
    deliverable,
    devices,
    history,
    inventory,
    metrics,
    nightly_bench,
    noise,
    resources,
)
from edgeship import run_trial as records
from edgeship.alternation import Figures, Question, Side
from edgeship.attempt import Assignment
from edgeship.benchmarking import BenchOrder
from edgeship.deliverable import Deliverable
from edgeship.device import Device
from edgeship.errors import BadInput, VerdictNegative, unknown
from edgeship.gate import Verdict
from edgeship.history import History
from edgeship.measurement import BenchRecord
from edgeship.night import Metric, Prior
from edgeship.progress import Listener, StageTold
from edgeship.run_trial import Contestant, TrialRecord, TrialRun
from edgeship.store import Store, home

# Twice a night's runs: there is no history that knows the noise.
REPEATS = 8
_NIGHTS = 60  # of each of a device's models that tell of its noise
_LETTER: Mapping[Side, str] = {"old": "A", "new": "B"}


@dataclass(frozen=True, kw_only=True)
class TrialOrder:
    """What the user asked to compare: `b` is judged by `a`. `bench` names the device and how each run is done.

    Attributes:
        repeats: runs of each at the most.
        gates: metrics by which B can fail.
        smallest: a share below which a change of time is not worth telling; None: the gate's own.
        require_valid: runs whose conditions broke do not count.
        reference: run the reference workload before and after.
    """

    a: str
    b: str
    bench: BenchOrder
    repeats: int = REPEATS
    gates: tuple[str, ...] = ()
    smallest: float | None = None
    require_valid: bool = False
    reference: bool = True


@dataclass
class _Trial:
    """A trial under way: what each side is given, and what its runs brought."""

    device: Device
    order: TrialOrder
    sides: Mapping[Side, Assignment]
    listener: Listener
    made: list[tuple[Side, BenchRecord, bool]] = field(default_factory=list)

    def run(self, side: Side, ordinal: int) -> Figures | None:
        """Measure one side once.

        Raises:
            VerdictNegative: its outputs are wrong on the device: no time is worth telling.
        """
        given = self.sides[side]
        began = time.monotonic()
        bench = attempt.bench(self.device, given, self.listener.on_progress)
        if bench.golden.failed:
            text = f"{given.deliverable.path}: its outputs on {self.device.name} are not those of this machine"
            raise VerdictNegative(f"{text}: {bench.golden.why}", hint=f"edgeship bench {given.deliverable.path}")
        counts = bench.valid or not self.order.require_valid
        self.made.append((side, bench, counts))
        self.listener.on_stage(_told(f"run {ordinal + 1}", f"{_LETTER[side]} {_line(bench)}", began))
        return alternation.figures(bench, size_bytes=_size(given), companion=_companion(given)) if counts else None

    def end(self) -> None:
        """Close every connection; nothing is tried again."""
        for given in self.sides.values():
            given.ending.end()

    def looked(self, verdicts: Sequence[Verdict]) -> None:
        """Tell what is known so far."""
        for verdict in verdicts:
            if verdict.runs_wanted:
                self.listener.on_stage(StageTold("so far", "ran", "", 0.0, f"{verdict.metric}: {verdict.reason}"))


def compare(order: TrialOrder, listener: Listener) -> TrialRecord:
    """Return the verdicts on B by A: both run in turn (A B B A …) on one device.

    Raises:
        BadInput: an artifact, the device, or a metric cannot be used; nothing was measured.
        DeviceFault: the device was lost, and could not be found again.
        StageFailed: an artifact does not run on this machine.
        VerdictNegative: an artifact's outputs on the device are wrong.
    """
    began = time.monotonic()
    gates = _gates(order.gates)
    if order.repeats < 2:
        raise BadInput(f"--repeats {order.repeats}: one run of each says nothing of noise: 2 at the least")
    device = inventory.find(order.bench.devices[0], inventory.place(order.bench.inventory))
    found: dict[Side, Deliverable] = {"old": deliverable.find(order.a), "new": deliverable.find(order.b)}
    with Store(home()) as store, ExitStack() as held:
        given = {
            side: replace(benchmarking.assignment(order.bench, each, store), beside=found["old"])
            for side, each in found.items()
        }
        trial = _Trial(device, order, given, listener)
        held.callback(trial.end)
        known = held.enter_context(_leased(trial))
        held.enter_context(devices.kept(device, listener.on_progress))
        # Only a run tells whether a virtual board counts; where it does, nothing drifts.
        first = _reference(trial, store, "before") if order.reference or device.transport == "virtual" else None
        counted = first is not None and first.conditions.counted
        settled = alternation.settle(
            _questions(trial, known, counted=counted),
            trial.run,
            reference=() if first is None else (alternation.figures(first),),
            on_verdicts=trial.looked,
        )
        last = _reference(trial, store, "after") if order.reference and not counted else None
    verdicts = comparisons.correct(settled.verdicts)
    around = _times((first, last))
    return _record(trial, gates, verdicts, around, whole=settled.whole, seconds=time.monotonic() - began)


@contextmanager
def _leased(trial: _Trial) -> Iterator[Mapping[str, Prior]]:
    """Hold the device as a night holds it, where there is a history; give what that says of the device's noise, by metric.

    Raises:
        DeviceFault: `busy`, with who holds it.
    """
    if not (os.environ.get("EDGESHIP_HISTORY") or (home() / "history.sqlite").is_file()):
        yield {}
        return
    holder = f"compare on {platform.node()} (process {os.getpid()})"
    with history.open() as kept:
        key = nightly_bench.key_of(trial.device)
        with kept.lease(key, holder=holder, wait_s=trial.order.bench.wait_s, on_lost=trial.end):
            found = {name: believed(kept, trial.device, name) for name in ("latency", "memory")}
            yield {name: prior for name, prior in found.items() if prior is not None}


def believed(kept: History, device: Device, name: str) -> Prior | None:
    """Return how the models of a device vary from run to run, None where too few nights tell."""
    cases = [each for each in kept.cases(device.name) if each.device == device.name][: noise.SISTERS]
    nights = ([each.figures for each in kept.nights(case, name, _NIGHTS) if each.figures.new] for case in cases)
    return noise.believed(nights, alternation.METRICS[name])


def metric_of(name: str, quality: str | None, *, counted: bool) -> tuple[Metric, Prior | None]:
    """Return a metric as a trial judges it; where quality is of an error, more of it is worse."""
    metric, prior = alternation.metric(name, counted=counted)
    if name == "quality" and quality is not None:
        metric = replace(metric, higher_is_better=metrics.find(quality).higher_is_better)
    return metric, prior


def _gates(named: Sequence[str]) -> tuple[str, ...]:
    for name in named:
        if name not in alternation.METRICS:
            raise unknown("metric", name, alternation.METRICS, where="--gate")
    return tuple(dict.fromkeys(named)) or tuple(alternation.METRICS)


def _questions(trial: _Trial, known: Mapping[str, Prior], *, counted: bool) -> tuple[Question, ...]:
    """Return what is asked: each metric with as many runs as the order allows; of what is counted one run says all."""
    order = trial.order
    asked = []
    for name in alternation.METRICS:
        if name == "quality" and trial.sides["new"].judge is None:
            continue
        metric, prior = metric_of(name, trial.sides["new"].metric, counted=counted)
        smallest = order.smallest if name == "latency" else None
        if metric.runs_most > 1 and not counted:
            first = min(max(order.repeats // 2, 2), order.repeats)
            metric = replace(metric, runs_first=first, runs_most=order.repeats)
        metric = alternation.with_limits(metric, smallest=smallest)
        asked.append(Question(metric, prior=prior or known.get(name), baseline=trial.sides["old"].deliverable.sha256))
    return tuple(asked)


def _reference(trial: _Trial, store: Store, when: str) -> BenchRecord:
    """Run the reference workload: what moves between before and after is the device."""
    began, workload = time.monotonic(), str(resources.data("reference"))
    plain = replace(trial.order.bench, data=None, metric=None, scale=None, offset=None, batch=1)
    given = benchmarking.assignment(plain, deliverable.find(workload), store)
    bench = attempt.bench(trial.device, given, trial.listener.on_progress)
    trial.listener.on_stage(_told("reference", f"{when}: {_line(bench)}", began))
    return bench


def _times(benches: Sequence[BenchRecord | None]) -> tuple[float, ...]:
    """Return the times of runs in ms, of those that tell one."""
    told = [alternation.figures(bench).get("latency") for bench in benches if bench is not None]
    return tuple(time_ms for time_ms in told if time_ms is not None)


def _record(
    trial: _Trial, gates: tuple[str, ...], verdicts: tuple[Verdict, ...], around: tuple[float, ...], *, whole: bool, seconds: float
) -> TrialRecord:  # fmt: skip
    decision = records.decide(verdicts, gates)
    benches = [bench for _, bench, _ in trial.made]
    same = trial.sides["old"].deliverable.sha256 == trial.sides["new"].deliverable.sha256
    doubts, times = dict.fromkeys(doubt for bench in benches for doubt in bench.doubts), _at_one_pace(trial)
    said = ("A and B are the same file: what is seen is noise",) if same else ()
    return TrialRecord(
        device=trial.device.name, target=trial.device.target, transport=trial.device.transport,
        simulated=any(bench.simulated for bench in benches), decision=decision, passed=decision not in ("worse", "mixed"),
        a=_contestant(trial, "old", times), b=_contestant(trial, "new", times), verdicts=verdicts, gates=gates,
        runs=tuple(_run(number, *made, times.get(number)) for number, made in enumerate(trial.made)),
        reference_ms=around, whole=whole, seconds=seconds, doubts=(*said, *doubts),
    )  # fmt: skip


def _at_one_pace(trial: _Trial) -> dict[int, float]:
    """Return by ordinal the times in ms of the runs that count, as the verdict sees them."""
    companion = _companion(trial.sides["old"])
    told = [
        (number, alternation.figures(bench, companion=companion))
        for number, (_, bench, counts) in enumerate(trial.made)
        if counts
    ]
    timed = [(number, figures) for number, figures in told if "latency" in figures]
    levelled, _ = alternation.levelled([figures for _, figures in timed], "latency")
    return dict(zip((number for number, _ in timed), levelled, strict=True))


def _contestant(trial: _Trial, side: Side, times: Mapping[int, float]) -> Contestant:
    given = trial.sides[side]
    runs = [
        {**alternation.figures(bench), **({"latency": times[number]} if number in times else {})}
        for number, (which, bench, counts) in enumerate(trial.made)
        if which == side and counts
    ]
    middle = {
        name: statistics.median(told) if (told := [run[name] for run in runs if name in run]) else None
        for name in alternation.METRICS
    }
    return Contestant(
        str(given.deliverable.path), given.deliverable.sha256, _size(given), len(runs), middle["latency"],
        middle["memory"], middle["quality"],
    )  # fmt: skip


def _run(ordinal: int, side: Side, bench: BenchRecord, counts: bool, time_ms: float | None) -> TrialRun:
    """Return a run; its interval is as wide a part of its time at the common pace as of its own."""
    told, after, ci95 = alternation.figures(bench), bench.conditions.after, bench.latency_ms.ci95
    own_ms = told.get("latency")
    if time_ms is not None and own_ms and ci95 is not None:
        ci95 = ci95[0] * time_ms / own_ms, ci95[1] * time_ms / own_ms
    return TrialRun(
        "a" if side == "old" else "b", ordinal, bench.made, own_ms if time_ms is None else time_ms, ci95,
        told.get("memory"), None if after is None else after.load, bench.valid, counts, bench.reasons,
        own_ms, None if bench.beside is None else bench.beside.ratio,
    )  # fmt: skip


def _companion(given: Assignment) -> str | None:
    return None if given.beside is None else given.beside.sha256


def _size(given: Assignment) -> int:
    return given.deliverable.path.stat().st_size


def _line(bench: BenchRecord) -> str:
    told = alternation.figures(bench)
    time_ms, memory_mib = told.get("latency"), told.get("memory")
    words = [f"{time_ms:.4g} ms" if time_ms is not None else "no time"]
    words += [f"{memory_mib:.1f} MiB"] if memory_mib is not None else []
    words += [] if bench.valid else [f"not valid: {'; '.join(bench.reasons)}"]
    return ", ".join(words)


def _told(stage: str, text: str, began: float) -> StageTold:
    return StageTold(stage, "ran", "", time.monotonic() - began, text)
