"""What the gate is asked of a case tonight: its baseline, the nights before, and what is believed of such devices."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgeship import alternation, nightly_quality, noise
from edgeship.alternation import Question
from edgeship.gate import Verdict
from edgeship.history import CaseNight, History
from edgeship.night import Night
from edgeship.nightly_quality import Judged
from edgeship.nightly_record import Case, NightRecord
from edgeship.suite import Budget, Gates

SEEN = 60  # nights on the level, and as many on trial, that are looked at
_TRIAL = 2  # nights before tonight that are judged together with it, where the artifact is the baseline itself
BUDGET = "budget"
UNKNOWN = Judged()


@dataclass(frozen=True)
class Baseline:
    """What a case is held against; `sha256` is None in its first night. `accepted` since a level was."""

    sha256: str | None
    era: str
    accepted: bool = False


def baseline(kept: History, night: NightRecord, case: Case) -> Baseline:
    """Return what a case is held against tonight: the accepted level, else the first artifact that was measured well."""
    accepted = [level for level in kept.levels(case) if level.at <= night.began]
    if accepted:
        return Baseline(accepted[-1].artifact_sha256, str(accepted[-1].number), accepted=True)
    told = (each.new_sha256 for each in _before(kept.nights(case, "latency"), night) if each.new_sha256)
    return Baseline(next(told, None), "")


def questions(
    kept: History, night: NightRecord, case: Case, gates: Gates, held: Baseline, new_sha256: str, *,
    alternated: bool, counted: bool, judged: Judged = UNKNOWN,
) -> tuple[Question, ...]:  # fmt: skip
    """Return what is asked of a case tonight, one question a metric; `judged`: what quality is of."""
    found = []
    asked = [(name, *alternation.metric(name, counted=counted)) for name in gates.on]
    every = kept.by_metric(case)
    sisters = _sisters(kept, case) if any(prior is None for _, _, prior in asked) else []
    for name, metric, prior in asked:
        # What is counted repeats: another run would take minutes and say the same.
        most = 1 if counted else None
        metric = alternation.with_limits(metric, smallest=getattr(gates.smallest, name), runs_most=most)
        nights = _before(every[name], night)
        if name == "quality":
            metric = replace(metric, higher_is_better=judged.higher_is_better)
            nights = nightly_quality.of_metric(kept, case, nights, judged.metric)
        before, trial = split(nights, held, new_sha256)
        prior = prior or noise.believed(
            ([each.figures for each in _before(sister[name], night)][-SEEN:] for sister in sisters), metric
        )
        found.append(Question(metric, before, trial, prior, held.era, held.sha256 if alternated else None))
    return tuple(found)


def split(nights: Sequence[CaseNight], held: Baseline, new_sha256: str) -> tuple[tuple[Night, ...], tuple[Night, ...]]:
    """Return the nights on the baseline's level, and those after them in which tonight's artifact stood trial.

    A night that was told apart is on no level, and stands trial only with its own artifact: one that was mended since must
    not be held to what was wrong with the one before. Of other levels only the noise is learned. However many nights there
    were since, the last ones on the level are what a case is held to: else it would become what it has slowly turned into.
    """
    told = [each for each in nights if _told(each)]
    mine = [each for each in told if each.figures.era == held.era]
    level = [each for each in mine if _on_level(each, held)]
    if new_sha256 == held.sha256:
        trying = level[-_TRIAL:] if len(level) > _TRIAL else []
        level = level[: len(level) - len(trying)]
    else:
        trying = []
    last = mine.index(level[-1]) if level else -1
    trial = [each for each in mine[last + 1 :] if each in trying or _stands(each, new_sha256)]
    level = level[-SEEN:]
    others = [each for each in told if each.figures.era != held.era]
    others = others[max(len(others) + len(level) - SEEN, 0) :]
    return (
        tuple(each.figures for each in sorted((*others, *level), key=told.index)),
        tuple(each.figures for each in trial[-SEEN:]),
    )


def _on_level(each: CaseNight, held: Baseline) -> bool:
    if each.decision in ("slower", "faster"):
        return False
    return each.new_sha256 == held.sha256 or each.decision == "same"


def _stands(each: CaseNight, new_sha256: str) -> bool:
    return each.new_sha256 == new_sha256 or each.decision not in ("slower", "faster")


def _before(nights: Iterable[CaseNight], night: NightRecord) -> list[CaseNight]:
    """Return the nights before tonight that tell something."""
    return [each for each in nights if each.night != night.id and each.began <= night.began and _told(each)]


def _told(each: CaseNight) -> bool:
    """Say whether a night brought figures; those of wrong outputs are none."""
    return bool(each.figures.new) and not each.wrong


def _sisters(kept: History, case: Case) -> list[Mapping[str, Sequence[CaseNight]]]:
    """Return the nights of the device's other models by metric: they tell of its noise."""
    others = [one for one in kept.cases(case.device) if one.device == case.device and one != case]
    return [kept.by_metric(other) for other in others[: noise.SISTERS]]


def budgets(
    limits: Budget, made: Sequence[alternation.Outing], alpha: float, judged: Judged = UNKNOWN
) -> tuple[Verdict, ...]:  # fmt: skip
    """Return the verdicts on absolute limits: one a limit that was set and can be told of."""
    found = []
    for metric, limit, unit in (
        ("latency", limits.latency_ms, " ms"), ("memory", limits.memory_mib, " MiB"),
        ("size", limits.size_bytes, " bytes"), ("quality", limits.quality, ""),
    ):  # fmt: skip
        told = [each.figures[metric] for each in made if each.side == "new" and each.figures and metric in each.figures]
        if limit is None or not told:
            continue
        got = statistics.median(told)
        least = metric == "quality" and judged.higher_is_better
        missed = got < limit if least else got > limit
        worse = limit - got if least else got - limit
        effect = worse if metric == "quality" else got / limit - 1
        word = "misses" if missed else "keeps"
        reason = f"{metric} {got:.6g}{unit} {word} the budget of {limit:g}{unit}"
        found.append(settled(f"{metric} {BUDGET}", reason, alarm=missed, effect=effect, alpha=alpha))
    return tuple(found)


def settled(
    metric: str, reason: str, *, alarm: bool, effect: float | None = None, alpha: float = 0.0
) -> Verdict:  # fmt: skip
    """Return a verdict that no statistics stand behind: a limit that was kept or missed, outputs that were right or wrong."""
    decision = "slower" if alarm else "same"
    return Verdict(metric, decision, effect, None, None, alpha, reason, 0, 1, None, None, 0.0, 0.0)  # type: ignore[arg-type]
