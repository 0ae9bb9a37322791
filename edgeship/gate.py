"""Did it get slower? The verdict on one metric of one model on one device, by what its own history says of its noise.

The question is put to the runs themselves, on a scale on which noise adds up (`night.Metric`): of every night one location
of the new and one of the old artifact (`noise.location`), and a history of what such nights do.

*Estimate.* new - old, plus what the history says of the old: if runs of a night share nothing, twenty nights of history are a
better baseline than tonight's four old runs; if they share much, only tonight's old runs are one. In between, the best linear
weight follows from the variance within and between nights (Searle, Casella, McCulloch 1992, ch. 7). The reference moves the
expected level as far as it went with it in the history. Where the old runs and the reference together lie off what the history
lets one expect, tonight or over the trial, the device may have drifted: then the difference must also be beyond chance
without what these show of the device (an intersection-union test: Berger 1982, doi:10.1080/00401706.1982.10487790), and
where they lie off by far, only that one counts (`chance.shifted`). Without old runs, always both.

*Pace.* Runs that were made in turns with the same other artifact come at one pace (`night.at_one_pace`): what neighbours on a host
do falls on both. Bulej et al. 2020 (doi:10.1145/3358960.3379132) run both side by side for it, which needs cores to spare and lets
them disturb each other; turns need neither. Within such nights runs vary less, so the noise is learned from nights of tonight's
kind; between nights the machine is believed to move at least as its pace does within them.

*Noise.* Not assumed normal, nor equal for devices: residuals of the history are drawn again through the whole estimate
(`chance.by_chance`), so heavy tails, two modes and the uncertainty of a short history are in the p-value.

*Looks and alpha.* `alpha` is the probability that an unchanged comparison raises anything: four fifths of it for slower, one for
faster, since a slowdown that is missed costs more. 10 % are kept back, for twenty nights do not show the noise exactly. Of
the rest, 6/10 go to tonight alone, 3/10 to the last three nights of the trial
together, 1/10 to change points in the history (`creep`); parts that cannot be used go to the others in proportion. Within a
night there are two looks, and the first spends nothing: it can only end the night as `same`, or ask for more runs. A verdict of a
change is given when all runs of the night are made. The number of comparisons in a suite is for `comparisons.correct`.

*Assumed.* Runs of a night are exchangeable (alternate A B B A: a straight drift within the night falls on both alike); nights
are, but for what the reference and the old runs show; noise has the same shape for both artifacts; the history holds nights on the
baseline's level (`Night.era` begins anew where a change was accepted). A device whose noise grew tonight may raise a false
alarm; that its runs spread more is seen only as far as tonight's own residuals are part of the noise. Without old runs and
without a reference a device that drifts cannot be told from a model that got slower.

Why not a flat percentage, and why alternate: Chen and Revels 2016 (arXiv:1608.04295) and Kalibera and Jones 2013
(doi:10.1145/2491894.2464160) on variance between runs; Daly et al. 2020 (doi:10.1145/3358960.3375791) on change points in CI.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from edgeship import chance, creep
from edgeship.chance import Design
from edgeship.creep import Creep
from edgeship.night import LATENCY, Metric, Night, Prior
from edgeship.noise import Noise, centre, estimate, reference
from edgeship.resampling import Array

Decision = Literal["slower", "same", "faster", "cannot-tell"]
ALPHA = 0.01
_WINDOW = 3  # nights of a trial that are judged together
_TONIGHT, _TOGETHER, _CREEP = 0.6, 0.3, 0.1
_SPENT = 0.9
_SLOWER = 0.8  # of alpha: a slowdown that is missed costs more than a gain that is missed
_SUSPECT = 0.2  # two-sided: tonight is measured again
_EXCLUDES = 0.005  # one-sided: before all runs are made, `same` must exclude the tolerance this surely
_EXCLUDES_AT_LAST = 0.05
_OUTSIDE = 0.025
_DRIFTED = 3.0  # standard deviations
# Of the two differences, which ones must be beyond chance when the device is off its history.
_ESTIMATES = {"no": slice(0, 1), "perhaps": slice(0, 2), "surely": slice(1, 2)}


@dataclass(frozen=True)
class Verdict:
    """What is known of one metric tonight.

    Attributes:
        effect: change against the baseline, > 0 is worse: +0.05 is 5 % slower, or 0.05 of a metric that is not relative.
        ci95: its interval.
        p: two-sided, for all ways in which it was looked at together; a change is told where it is at most `alpha`.
        reason: in words.
        runs_wanted: further runs of each artifact tonight, alternated, before this is final; 0: it is.
        nights: over how many nights the effect was seen.
        creeping: it is a change point in the history, that many nights back, not a step tonight.
        drift: how far the device itself is off its history tonight, where that is unusual.
        spread: standard deviation of a run, relative or in the metric's unit; `shared` is the part of its variance that
            all runs of a night have in common.
    """

    metric: str
    decision: Decision
    effect: float | None
    ci95: tuple[float, float] | None
    p: float | None
    alpha: float
    reason: str
    runs_wanted: int
    nights: int
    creeping: int | None
    drift: float | None
    spread: float
    shared: float

    @property
    def alarm(self) -> bool:
        """Say whether this fails a night."""
        return self.decision == "slower"


@dataclass(frozen=True)
class _Look:
    """The last nights of a trial together: differences from the baseline and what chance would have made of them, in order."""

    nights: int
    differences: tuple[float, ...]
    replicates: tuple[Array, ...]

    @cached_property
    def difference(self) -> float:
        """Return the difference nearest to none."""
        return min(self.differences, key=abs)

    @cached_property
    def p(self) -> float:
        """Return the p-value for both sides: a change is beyond chance in every estimate, and to the same side."""
        above = max(map(chance.exceeds, self.replicates, self.differences))
        below = max(
            chance.exceeds(-drawn[::-1], -seen) for drawn, seen in zip(self.replicates, self.differences, strict=True)
        )
        return min(1.0, above / _SLOWER, below / (1 - _SLOWER))

    def interval(self, outside: float) -> tuple[float, float]:
        """Return the interval with so much of probability outside of it on each side."""
        ends = []
        for seen, ordered in zip(self.differences, self.replicates, strict=True):
            last = ordered.size - 1
            ends.append(
                (seen - float(ordered[round((1 - outside) * last)]), seen - float(ordered[round(outside * last)]))
            )
        return min(low for low, _ in ends), max(high for _, high in ends)


@dataclass(frozen=True)
class _Case:
    """All that the decision is made of."""

    metric: Metric
    noise: Noise
    tonight: Night
    looks: tuple[_Look, ...]
    creep: Creep | None
    drift: float | None
    alpha: float
    final: bool


@dataclass(frozen=True)
class _Finding:
    """The strongest sign of a change: its p-value with all ways of looking counted, and which way it was."""

    p: float
    look: _Look
    difference: float
    creep: Creep | None


def judge(
    history: Sequence[Night], trial: Sequence[Night], metric: Metric = LATENCY, *,
    prior: Prior | None = None, alpha: float = ALPHA, final: bool = False,
) -> Verdict:  # fmt: skip
    """Return the verdict on the last night of a trial.

    Args:
        history: nights, oldest first, whose `new` was not told apart from the baseline: it and `old` are on one level.
        trial: the nights since, oldest first, in which `new` is the candidate; the last one is tonight.
        prior: what is believed of such devices.
        alpha: probability of any false alarm, slower or faster, of this comparison.
        final: no more runs can be had tonight.

    Raises:
        ValueError: the trial is empty, or a figure is not one that the metric can have.
    """
    if not trial:
        raise ValueError(f"{metric.name}: there is no night to judge")
    tonight = trial[-1]
    noise = estimate(history, trial, metric, prior or Prior())
    if not tonight.new:
        return _unknown(metric, noise, alpha, "nothing was measured tonight", 0 if final else metric.runs_first)
    if noise.level is None and not tonight.old:
        return _unknown(metric, noise, alpha, "no history and no baseline beside it: nothing to compare with", 0)
    looks, drift = _look([night for night in trial[-_WINDOW:] if night.paced == tonight.paced], noise, metric)
    nights = [night for night in (*history, *trial) if night.era == tonight.era]
    return _decide(_Case(metric, noise, tonight, looks, creep.find(nights, noise, metric), drift, alpha, final))


def _look(trial: Sequence[Night], noise: Noise, metric: Metric) -> tuple[tuple[_Look, ...], float | None]:
    """Return tonight alone and, if there are several nights, the last ones together; and how far the device is off."""
    usable = [night for night in trial if night.new and (night.old or noise.level is not None)]
    designs, rows = [], []
    for night in usable:
        new = centre(metric, night.new, noise.clip)
        old = centre(metric, night.old, noise.clip) if night.old else 0.0
        at = reference(night)
        shift, _, moved = chance.expected(noise, at)
        level = old if noise.level is None else noise.level + shift
        designs.append(chance.design(noise, len(night.new), len(night.old), at))
        rows.append((new - level, old - level if night.old else 0.0, moved))
    seen, drawn = chance.Seen(*np.array(rows).T), chance.by_chance(noise, designs)
    looks = []
    for last in sorted({1, len(usable)}):
        used = _ESTIMATES[chance.shifted(designs, seen, last)]
        found = tuple(float(one) for one in chance.differences(designs, seen, last))
        replicates = tuple(np.sort(one) for one in chance.differences(designs, drawn, last)[used])
        looks.append(_Look(last, found[used], replicates))
    return tuple(looks), _drift(designs[-1], rows[-1], metric)


def _drift(night: Design, row: tuple[float, float, float], metric: Metric) -> float | None:
    """Return how far the old runs, else the reference, are off their history, where that is unusual."""
    _, off, moved = row
    if night.off_sd and abs(off) > _DRIFTED * night.off_sd:
        return metric.change(off)
    return float(np.expm1(moved)) if night.moved_sd and abs(moved) > _DRIFTED * night.moved_sd else None


def _decide(case: _Case) -> Verdict:
    metric, last, found = case.metric, case.looks[0], _finding(case)
    effect = metric.change(found.difference)
    told = found.p <= case.alpha and abs(effect) >= metric.smallest
    missing = 0 if case.final else _missing(case, told)
    if missing:
        decision: Decision = "cannot-tell"
    elif told:
        decision = "slower" if effect > 0 else "faster"
    else:
        decision = "same" if _excludes(case, last, _EXCLUDES_AT_LAST) else "cannot-tell"
    creeping = found.creep if told else None
    look = found.look if told else last
    if not told:
        effect = metric.change(last.difference)
    low, high = (metric.change(end) for end in look.interval(_OUTSIDE))
    if creeping:
        low, high = effect + low - metric.change(look.difference), effect + high - metric.change(look.difference)
    return Verdict(
        metric.name, decision, effect, (low, high), found.p, case.alpha,
        _reason(case, decision, effect, (low, high), found, missing), missing, look.nights,
        creeping.since if creeping else None, case.drift, case.noise.spread, case.noise.shared,
    )  # fmt: skip


def _finding(case: _Case) -> _Finding:
    parts = [_TONIGHT, _TOGETHER][: len(case.looks)]
    whole = (sum(parts) + _CREEP) / _SPENT
    p, look = min(
        ((look.p * whole / part, look) for part, look in zip(parts, case.looks, strict=True)), key=lambda way: way[0]
    )
    if case.creep and case.creep.p * whole / _CREEP < p:
        return _Finding(case.creep.p * whole / _CREEP, look, case.creep.difference, case.creep)
    return _Finding(min(p, 1.0), look, look.difference, None)


def _missing(case: _Case, told: bool) -> int:
    """Return how many runs of each are missing before the verdict may stand."""
    metric, tonight, last = case.metric, case.tonight, case.looks[0]
    made = min(len(tonight.new), len(tonight.old) or len(tonight.new))
    if made < metric.runs_first:
        return metric.runs_first - made
    suspect = told or last.p < _SUSPECT or not _excludes(case, last, _EXCLUDES)
    return max(metric.runs_most - made, 0) if suspect else 0


def _excludes(case: _Case, look: _Look, outside: float) -> bool:
    """Say whether a change of the tolerance is excluded."""
    low, high = look.interval(outside)
    return case.metric.change(high) < case.metric.tolerance and case.metric.change(low) > -case.metric.tolerance


def _reason(
    case: _Case, decision: Decision, effect: float, ci95: tuple[float, float], found: _Finding, missing: int
) -> str:  # fmt: skip
    """Return the verdict in words."""
    metric = case.metric
    size = f"{_told(metric, effect)} (95 % interval {_told(metric, ci95[0])} … {_told(metric, ci95[1])})"
    noise = f"runs spread {_told(metric, case.noise.spread, sign=False)}"
    drift = "" if case.drift is None else f"; the device itself is {_told(metric, case.drift)} off its history"
    if missing:
        return f"{size} so far, p {found.p:.2g}: {missing} more of each wanted before the verdict{drift}"
    if decision in ("slower", "faster"):
        word = metric.worse if decision == "slower" else metric.better
        since = f"crept {word} since {found.creep.since} nights" if found.creep else f"{word} than the baseline"
        over = f" over {found.look.nights} nights" if found.look.nights > 1 and not found.creep else ""
        return f"{since}{over}: {size}, p {found.p:.2g} where {case.alpha:g} is allowed; {noise}{drift}"
    if decision == "same":
        return f"no change of {_told(metric, metric.tolerance, sign=False)}: {size}; {noise}{drift}"
    return f"a change of {_told(metric, metric.tolerance, sign=False)} is not excluded: {size}; {noise}{drift}"


def _told(metric: Metric, change: float, *, sign: bool = True) -> str:
    figure = change * 100 if metric.relative else change
    return f"{figure:{'+' if sign else ''}.3g}{' %' if metric.relative else ''}"


def _unknown(metric: Metric, noise: Noise, alpha: float, reason: str, wanted: int) -> Verdict:
    return Verdict(
        metric.name, "cannot-tell", None, None, None, alpha, reason, wanted, 0, None, None, noise.spread, noise.shared
    )  # fmt: skip
