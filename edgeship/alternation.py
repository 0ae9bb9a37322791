"""Which artifact runs next on a device, and when enough is known: old and new in turn (A B B A), until the gate has its verdicts.

Alternated, what drifts in a night falls on both alike (Chen and Revels 2016, arXiv:1608.04295). Nothing is measured here:
the caller's `run` does that, so that a night over a drawer of devices and a single comparison go the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Literal

from edgeship import gate
from edgeship.gate import Verdict
from edgeship.measurement import BenchRecord
from edgeship.night import COUNTED_LATENCY, EXACT, LATENCY, MEMORY, QUALITY, SIZE, Metric, Night, Prior, at_one_pace

Side = Literal["old", "new"]
Figures = Mapping[str, float]
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (LATENCY, MEMORY, SIZE, QUALITY)}
# On a counted board it repeats to a few tenths of a percent, and a run takes half a minute: one of each, two in doubt.
COUNTED_MEMORY = replace(MEMORY, runs_first=1, runs_most=2)
COUNTED_MEMORY_PRIOR = Prior(spread=0.005, nights=5)
LOST_MOST = 2
# Figures that are no metrics: of a run to what ran in turns with it, and the time of that.
RATIO, PACE = "ratio", "pace_ms"
_ROUND: tuple[Side, ...] = ("old", "new", "new", "old")
_MIRRORED: Mapping[Side, Side] = {"old": "new", "new": "old"}


@dataclass(frozen=True)
class Question:
    """One metric that is to be judged tonight, and what is known of it from before (see `gate.judge`).

    Attributes:
        history: nights on the baseline's level, oldest first.
        trial: earlier nights of tonight's artifact, oldest first; tonight comes behind them.
        era: of tonight, as the history names it.
        baseline: sha256 of the old artifact, None where nothing is alternated.
    """

    metric: Metric
    history: tuple[Night, ...] = ()
    trial: tuple[Night, ...] = ()
    prior: Prior | None = None
    era: str = ""
    baseline: str | None = None


@dataclass(frozen=True)
class Outing:
    """One run that was made: of which artifact, and its figure of each metric; None where it brought none."""

    side: Side
    figures: Figures | None


@dataclass(frozen=True)
class Settled:
    """What was made of the questions, in their order.

    Attributes:
        runs: all that were made, earlier ones of tonight among them, in order.
        whole: all runs that the verdicts wanted could be had.
    """

    verdicts: tuple[Verdict, ...]
    runs: tuple[Outing, ...]
    whole: bool


def order(first: int = 0) -> Iterator[Side]:
    """Give the sides without end: old new new old …; with an odd `first` (such as the number of the night) mirrored."""
    return cycle(tuple(_MIRRORED[side] for side in _ROUND) if first % 2 else _ROUND)


def settle(
    questions: Sequence[Question], run: Callable[[Side, int], Figures | None], *, alternated: bool = True,
    repeats: int = 1, first: int = 0, made: Sequence[Outing] = (), reference: Sequence[Figures] = (),
    alpha: float = gate.ALPHA, on_verdicts: Callable[[tuple[Verdict, ...]], None] = lambda verdicts: None,
) -> Settled:  # fmt: skip
    """Have artifacts run until every question has its verdict, or no more runs can be had.

    Args:
        run: makes a run of a side, given its ordinal of tonight from 0 (`made` counts), and returns its figures by metric:
            those of a valid run; None when there are none, after all that could be tried again was. What it raises passes.
        alternated: both sides run; else only `new`, judged by the history.
        repeats: runs of each before the first verdict, if no metric wants more.
        made: runs of tonight that were kept before, in order: what a resumed night does not do again.
        reference: figures of the reference workload's runs tonight: each metric is held beside the same of the reference.
        on_verdicts: is told after every look.

    Raises:
        ValueError: there is no question, or a figure is none that its metric can have.
    """
    if not questions:
        raise ValueError("nothing is asked: no metric to judge")
    turn = _Turn(run, order(first) if alternated else cycle(("new",)), list(made))
    wanted = max(repeats, *(question.metric.runs_first for question in questions))
    most = max(repeats, *(question.metric.runs_most for question in questions))
    whole = turn.fill(("old", "new") if alternated else ("new",), wanted)
    while True:
        verdicts = tuple(_judged(question, turn.made, reference, alpha, final=not whole) for question in questions)
        on_verdicts(verdicts)
        more = max(verdict.runs_wanted for verdict in verdicts)
        if not more:
            return Settled(verdicts, tuple(turn.made), whole)
        wanted = min(wanted + more, most)
        whole = turn.fill(("old", "new") if alternated else ("new",), wanted)


class _Turn:
    """Whose turn it is; owns the list of what was made."""

    def __init__(self, run: Callable[[Side, int], Figures | None], sides: Iterator[Side], made: list[Outing]) -> None:
        self.made, self._run, self._sides = made, run, sides
        for _ in made:
            next(sides)

    def fill(self, sides: Sequence[Side], wanted: int) -> bool:
        """Make runs until each side has so many with figures; say whether they could be had."""
        lost = 0
        while lacking := [side for side in sides if self._told(side) < wanted]:
            side = next(self._sides)
            if side not in lacking:
                continue
            figures = self._run(side, len(self.made))
            self.made.append(Outing(side, figures))
            lost = lost + 1 if figures is None else 0
            if lost >= LOST_MOST:
                return False
        return True

    def _told(self, side: Side) -> int:
        return sum(outing.side == side and outing.figures is not None for outing in self.made)


def tonight(question: Question, made: Sequence[Outing], reference: Sequence[Figures] = ()) -> Night:
    """Return the night of one metric that so many runs make."""
    name = question.metric.name
    told = [(outing.side, outing.figures) for outing in made if outing.figures and name in outing.figures]
    values, paces = levelled([figures for _, figures in told], name)
    sided = [(side, value) for (side, _), value in zip(told, values, strict=True)]
    new, old = (tuple(value for side, value in sided if side == which) for which in ("new", "old"))
    beside = tuple(run[name] for run in reference if name in run)
    return Night(new, old, beside, question.era, question.baseline if old else None, paces)


def levelled(made: Sequence[Figures], name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return a metric of runs that all have it, times at the pace that the machine had in the middle of them; and their paces."""
    values = tuple(figures[name] for figures in made)
    if name != "latency":
        return values, ()
    return at_one_pace(values, [("", figures[RATIO], figures[PACE]) if RATIO in figures else None for figures in made])


def _judged(
    question: Question, made: Sequence[Outing], reference: Sequence[Figures], alpha: float, *, final: bool
) -> Verdict:
    """Judge one metric: finally where its most runs were made, or where runs do not tell of it."""
    night = tonight(question, made, reference)
    counts = [
        sum(each.side == side and each.figures is not None for each in made) for side in {each.side for each in made}
    ]
    final = final or not night.new or min(counts, default=0) >= question.metric.runs_most
    return gate.judge(
        question.history, (*question.trial, night), question.metric, prior=question.prior, alpha=alpha, final=final
    )


def figures(
    bench: BenchRecord, *, size_bytes: int | None = None, quality: float | None = None, metric: str | None = None,
    companion: str | None = None,
) -> Figures:  # fmt: skip
    """Return the figures of a run by metric: latency is its p50 in ms, else its mean; memory its peak in MiB.

    Args:
        size_bytes: of the artifact.
        quality: what the build reached; what the device reached takes its place where that was measured by the same metric.
        metric: what quality is of; None: whatever the device was judged by.
        companion: sha256 of what runs are made in turns with; one that was made in turns with another was made alone.
    """
    beside = bench.beside if bench.beside is not None and bench.beside.artifact_sha256 == companion else None
    if bench.quality is not None and metric in (None, bench.quality.metric):
        quality = bench.quality.got
    told = {
        "latency": bench.typical_ms,
        RATIO: None if beside is None else beside.ratio,
        PACE: None if beside is None else beside.ms,
        "memory": None if bench.memory is None else bench.memory.peak_rss_mib,
        **built(size_bytes=size_bytes, quality=quality),
    }
    return {name: float(value) for name, value in told.items() if value is not None}


def built(*, size_bytes: int | None = None, quality: float | None = None) -> Figures:
    """Return the figures by metric that are known of an artifact before any run."""
    told = {"size": size_bytes, "quality": quality}
    return {name: float(value) for name, value in told.items() if value is not None}


def metric(name: str, *, counted: bool = False) -> tuple[Metric, Prior | None]:
    """Return a metric by its name, and what is believed of it where all that counts is counted; None: nothing special."""
    if name == "latency":
        return (COUNTED_LATENCY, EXACT) if counted else (LATENCY, None)
    if name == "memory" and counted:
        return COUNTED_MEMORY, COUNTED_MEMORY_PRIOR
    return METRICS[name], EXACT if name in ("size", "quality") else None


def with_limits(known: Metric, *, smallest: float | None = None, runs_most: int | None = None) -> Metric:
    """Return a metric with the limits that the user set; those not given stay."""
    first = known.runs_first if runs_most is None else min(known.runs_first, runs_most)
    return replace(
        known, smallest=known.smallest if smallest is None else smallest, runs_first=first,
        runs_most=known.runs_most if runs_most is None else runs_most,
        tolerance=max(known.tolerance, smallest or 0.0),
    )  # fmt: skip
