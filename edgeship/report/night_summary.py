"""What a night comes to: its verdict in words, its comparisons with the worst first, and the cases that brought nothing."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from edgeship.gate import Verdict
from edgeship.night import LATENCY, MEMORY, QUALITY, SIZE, Metric, at_one_pace
from edgeship.nightly_record import Case, Fault, NightRecord, Role, Run
from edgeship.report import figures

Kind = Literal["missed", "doubtful", "passed"]
METRICS: dict[str, Metric] = {metric.name: metric for metric in (LATENCY, MEMORY, SIZE, QUALITY)}
_ORDER = (*METRICS, "golden")
_BUDGET = " budget"
_MINUS = "\N{MINUS SIGN}"
# The worst first; each decision → what a mark is coloured by.
COLOUR = {"slower": "bad", "cannot-tell": "doubt", "faster": "good", "same": ""}
CAUSES = {
    "mistake": "a mistake in what was given", "device": "the device or the way to it", "timeout": "took too long",
    "conditions": "conditions that were not valid", "stage": "a stage of the build",
}  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """The verdict on one metric of one case, with the night's own figures: medians of the valid runs, None without any.

    Beside metrics (`latency`, `memory`, `size`, `quality`) there are limits (`latency budget`, …) and `golden`: whether the
    device's outputs were right.
    """

    case: Case
    verdict: Verdict
    new: float | None
    old: float | None
    simulated: bool

    @property
    def kind(self) -> Literal["regression", "budget", "wrong-outputs"]:
        """Return what an alarm of it would be called."""
        if self.metric == "golden":
            return "wrong-outputs"
        return "budget" if self.metric.endswith(_BUDGET) else "regression"

    @property
    def metric(self) -> str:
        """Return the metric's name."""
        return self.verdict.metric

    @property
    def word(self) -> str:
        """Return the decision in the metric's own word."""
        return decision_word(self.verdict.metric, self.verdict.decision)

    @property
    def why(self) -> str:
        """Return the reason; of a limit it names the metric itself."""
        return f"{self.metric} {self.verdict.reason}" if self.kind == "regression" else self.verdict.reason

    @property
    def colour(self) -> str:
        """Return what the mark is coloured by."""
        return COLOUR[self.verdict.decision]

    @property
    def tolerance(self) -> float | None:
        """Return the change that would still be the same; None for a limit."""
        return METRICS[self.metric].tolerance if self.metric in METRICS else None

    @property
    def change(self) -> str:
        """Return the change against the baseline, or against the limit; nothing where it is not known."""
        known = self.metric.removesuffix(_BUDGET)
        return "" if self.verdict.effect is None or known not in METRICS else change(known, self.verdict.effect)

    @property
    def interval(self) -> str:
        """Return the interval of the change, or nothing."""
        known = self.verdict.ci95 is not None and self.metric in METRICS
        return change_interval(self.metric, self.verdict.ci95) if known and self.verdict.ci95 else ""

    @property
    def figure(self) -> str:
        """Return the baseline's figure, where it ran tonight, and tonight's."""
        if self.new is None:
            return ""
        metric, now = self.metric.removesuffix(_BUDGET), value(self.metric.removesuffix(_BUDGET), self.new)
        if self.old is None or self.kind != "regression":
            return now
        before, unit = value(metric, self.old), now.rpartition(" ")[2] if " " in now else ""
        return f"{before.removesuffix(f' {unit}') if unit else before} → {now}"


@dataclass(frozen=True)
class Lost:
    """A case that brought no figure tonight, and why; `fault` is None where nothing was tried."""

    case: Case
    fault: Fault | None
    words: str


@dataclass(frozen=True)
class Summary:
    """A night as all its reports tell it.

    Attributes:
        kind: missed: a regression or a budget; doubtful: something was not measured; passed: neither.
        comparisons: the worst first.
        overcome: faults after which the case was measured all the same.
    """

    kind: Kind
    title: str
    sentence: str
    comparisons: tuple[Comparison, ...]
    lost: tuple[Lost, ...]
    overcome: tuple[tuple[Case, Fault], ...]


def summarize(night: NightRecord) -> Summary:
    """Return what a night comes to."""
    by_case: dict[Case, list[Run]] = {case: [] for case in night.cases}
    for run in night.runs:
        by_case.setdefault(run.case, []).append(run)
    places = {name: place for place, name in enumerate(_ORDER)}
    comparisons = sorted(
        _comparisons(night, by_case),
        key=lambda one: (
            list(COLOUR).index(one.verdict.decision),
            places.get(one.metric.removesuffix(_BUDGET), len(places)),
            -abs(one.verdict.effect or 0),
        ),
    )
    lost = [one for case, runs in by_case.items() if (one := _lost(night, case, runs, by_case)) is not None]
    gone = {one.case for one in lost}
    overcome = [(run.case, run.fault) for run in night.runs if run.fault is not None and run.case not in gone]
    kind, title = _verdict(comparisons, lost, night)
    sentence = " ".join(_sentences(night, comparisons, lost, len(by_case)))
    return Summary(kind, title, sentence, tuple(comparisons), tuple(lost), tuple(overcome))


def measured(runs: Iterable[Run]) -> bool:
    """Say whether a case's own artifact was measured, under conditions that hold."""
    return any(run.role == "new" and run.bench is not None and run.bench.valid for run in runs)


def decision_word(metric: str, decision: str) -> str:
    """Return a decision in the metric's own word: a size is larger, a quality worse."""
    if metric == "golden":
        return "right outputs" if decision == "same" else "wrong outputs"
    if metric.endswith(_BUDGET):
        return "in budget" if decision == "same" else "over budget"
    known = METRICS[metric]
    return {"slower": known.worse, "faster": known.better, "cannot-tell": "cannot tell"}.get(decision, decision)


def change(metric: str, effect: float) -> str:
    """Return a change as people read it: a percentage, or a difference in the metric's unit; up is more of it."""
    known = METRICS[metric]
    shown = -effect if known.higher_is_better else effect
    if not known.relative:
        return f"{shown:+.4f}".replace("-", _MINUS) if abs(shown) >= 5e-5 else "0"
    percentage = 100 * shown
    if abs(percentage) < 0.005:
        return "0 %"
    if percentage >= 1000:
        return f"{1 + shown:,.3g} times"
    return f"{percentage:+.{1 if abs(percentage) >= 1 else 2}f} %".replace("-", _MINUS)


def change_interval(metric: str, ends: tuple[float, float]) -> str:
    """Return an interval of a change, the lower end first."""
    low, high = (change(metric, end) for end in ends)
    if METRICS[metric].higher_is_better:
        low, high = high, low
    return f"{low.removesuffix(' %')} to {high}"


def value(metric: str, number: float) -> str:
    """Return a figure with its unit."""
    if metric == "latency":
        return f"{figures.number(number)} ms" if number >= 1 else f"{figures.number(1e3 * number)} µs"
    if metric == "memory":
        return figures.mib(number)
    return figures.size(number) if metric == "size" else f"{number:.4f}"


def figure(run: Run, metric: str) -> float | None:
    """Return what a run says of a metric: its p50 (the mean where a tool tells no p50), peak memory, size, quality."""
    if metric == "latency":
        return None if run.bench is None else figures.middle(run.bench.latency_ms)[1]
    if metric == "memory":
        return None if run.bench is None or run.bench.memory is None else run.bench.memory.peak_rss_mib
    manifest = run.manifest or {}
    if metric == "size":
        size = manifest.get("size_bytes")
        return None if size is None else float(size)
    reached = getattr(run.bench.quality, "got", None) if run.bench is not None else None
    built = manifest.get("quality") or {}
    return built.get("got") if reached is None else reached


def _comparisons(night: NightRecord, by_case: dict[Case, list[Run]]) -> Iterator[Comparison]:
    for finding in night.findings:
        runs, metric = by_case.get(finding.case, []), finding.verdict.metric.removesuffix(_BUDGET)
        new, old = _medians(runs, metric, limit=metric != finding.verdict.metric) if metric in METRICS else (None, None)
        yield Comparison(
            finding.case, finding.verdict, new, old, any(run.bench and run.bench.simulated for run in runs)
        )


def _medians(runs: Iterable[Run], metric: str, *, limit: bool) -> tuple[float | None, float | None]:
    """Return what the new and the old artifact's runs tell in the middle: times at one pace, as verdicts but those on limits see them."""
    chosen = [run for run in runs if run.role != "reference" and (run.bench is None or run.bench.valid)]
    told = [(run, number) for run in chosen if (number := figure(run, metric)) is not None]
    values = tuple(number for _, number in told)
    if metric == "latency" and not limit:
        turns = [run.bench.beside if run.bench else None for run, _ in told]
        beside = [None if one is None else (one.artifact_sha256, one.ratio, one.ms) for one in turns]
        values, _ = at_one_pace(values, beside)
    by_role: dict[Role, list[float]] = {"new": [], "old": []}
    for (run, _), number in zip(told, values, strict=True):
        by_role[run.role].append(number)
    new, old = (statistics.median(each) if each else None for each in by_role.values())
    return new, old


def _lost(night: NightRecord, case: Case, runs: list[Run], every: dict[Case, list[Run]]) -> Lost | None:
    """Return why a case came to no good end; None if it did. What was judged before a fault ended it still counts."""
    own = [run for run in runs if run.role != "reference"]
    faults = [run.fault for run in own if run.fault is not None]
    fault = next((each for each in reversed(faults) if each.cause != "conditions"), None)
    if fault is None and measured(runs):
        return None
    fault = fault or next((run.fault for run in reversed(runs) if run.fault is not None), None)
    if fault is not None:
        tries = f", tried {fault.tries} times" if fault.tries > 1 else ""
        return Lost(case, fault, f"{fault.message} ({CAUSES[fault.cause]}{tries})")
    reasons = dict.fromkeys(reason for run in own if run.bench is not None for reason in run.bench.reasons)
    if reasons:
        return Lost(case, Fault("conditions", "; ".join(reasons), 6), f"not valid: {'; '.join(reasons)}")
    pool = night.options.get("pools", {}).get(case.name, ())
    if any(measured(every.get(replace(case, device=device), ())) for device in pool):
        return None  # any device of a kind was asked for, and another one measured it
    kept_out = [event.reason for event in night.health if event.device == case.device and event.event == "quarantined"]
    return Lost(case, None, f"quarantined: {kept_out[-1]}" if kept_out else "nothing was run")


def _verdict(comparisons: list[Comparison], lost: list[Lost], night: NightRecord) -> tuple[Kind, str]:
    alarms = Counter(one.kind for one in comparisons if one.verdict.alarm)
    if alarms:
        words = {"regression": "regression", "budget": "budget missed", "wrong-outputs": "model with wrong outputs"}
        plural = {"regression": "regressions", "budget": "budgets missed", "wrong-outputs": "models with wrong outputs"}
        told = [
            f"{count} {words[kind] if count == 1 else plural[kind]}"
            for kind, count in sorted(alarms.items(), reverse=True)
        ]
        return "missed", ", ".join(told)
    if lost:
        return "doubtful", f"{len(lost)} case{'s' * (len(lost) != 1)} not measured"
    if night.ended is None:
        return "doubtful", "Not finished"
    if not any(one.verdict.effect is not None for one in comparisons):
        return "passed", "Nothing to compare with yet"
    return "passed", "No regression"


def _sentences(night: NightRecord, comparisons: list[Comparison], lost: list[Lost], cases: int) -> Iterator[str]:
    devices = len({case.device for case in night.cases})
    counted = Counter(one.word for one in comparisons)
    told = ", ".join(f"{count} {word}" for word, count in counted.items())
    over = f"{cases} case{'s' * (cases != 1)} on {devices} device{'s' * (devices != 1)}"
    yield f"{len(comparisons)} comparison{'s' * (len(comparisons) != 1)} over {over}{f': {told}' if told else ''}."
    if lost:
        yield f"{len(lost)} case{'s' * (len(lost) != 1)} brought no figure."
    if night.ended is None:
        yield "The night has not come to its end: edgeship nightly … --resume goes on with it."
