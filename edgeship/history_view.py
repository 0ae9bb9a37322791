"""What the commands about the history show: cases with their last nights, as records that a terminal or JSON can take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeship import bench_manifest
from edgeship.errors import BadInput, near_miss
from edgeship.history import CaseHistory, CaseNight, History, Level
from edgeship.nightly_record import Case, Finding, NightRecord, Run


@dataclass(frozen=True)
class CaseView:
    """One case whole: its nights by one metric, what was accepted, and tonight's verdicts on every metric."""

    shown: CaseHistory
    levels: tuple[Level, ...]
    findings: tuple[Finding, ...]

    @property
    def case(self) -> Case:
        """Return the case."""
        return self.shown.case


def one_case(kept: History, name: str) -> Case:
    """Return the one case that a name or pattern fits.

    Raises:
        BadInput: none or several do.
    """
    known = kept.cases()
    found = [case for case in known if case.name == name] or list(kept.cases(name))
    if len(found) == 1:
        return found[0]
    if not found:
        words = {word for case in known for word in (case.name, case.model, case.device)}
        guess = near_miss(name, sorted(words))
        question = f"; did you mean '{guess}'?" if guess else ""
        raise BadInput(f"{kept.where}: no case '{name}'{question}", hint="edgeship history lists all")
    names = ", ".join(case.name for case in found[:4])
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    raise BadInput(f"'{name}' fits {len(found)} cases: {names}{more}", hint=f"name one: {found[0].name}")


def view(kept: History, case: Case, metric: str, limit: int | None) -> CaseView:
    """Return a case with its last nights, oldest first.

    Raises:
        BadInput: there is no such metric.
    """
    from edgeship.history.figures import UNIT

    nights = kept.nights(case, metric, limit)
    last = nights[-1].night if nights else None
    findings = tuple(finding for finding in kept.findings(case) if finding.night == last)
    return CaseView(CaseHistory(case, metric, UNIT[metric], nights), kept.levels(case), findings)


def accept(kept: History, case: Case, artifact: str | None) -> tuple[str, int]:
    """Accept an artifact, by default the newest that was measured, as what a case is held against from now on.

    Returns its sha256 and the number of the level.

    Raises:
        BadInput: the case was never measured with such an artifact, or the prefix fits several.
    """
    told = [night.new_sha256 for night in kept.nights(case) if night.figures.new and night.new_sha256]
    seen = list(dict.fromkeys(reversed(told)))
    fitting = [sha for sha in seen if sha.startswith(artifact.lower())] if artifact else seen[:1]
    if len(fitting) != 1:
        known = ", ".join(sha[:12] for sha in seen[:5]) or "none"
        text = f"{case.name}: {'several artifacts begin' if fitting else 'no artifact was measured that begins'}"
        if artifact is None:
            raise BadInput(f"{case.name}: nothing was measured yet", hint="edgeship nightly SUITE.toml")
        raise BadInput(f"{text} with {artifact}", hint=f"measured, newest first: {known}")
    return fitting[0], kept.accept(case, fitting[0])


def night(kept: History, name: str) -> NightRecord | None:
    """Return the night of a name, None where there is none."""
    if any(each in name for each in "/@*?"):
        return None
    try:
        return kept.night(name)
    except BadInput:
        return None


def night_table(night: NightRecord) -> dict[str, Any]:
    """Return a night as JSON has it: runs without their samples."""
    return {
        "night": night.id, "suite": night.suite, "began": night.began, "ended": night.ended,
        "cases": [case.name for case in night.cases],
        "findings": [
            {"case": each.case.name, "baseline_sha256": each.baseline_sha256, "artifact_sha256": each.artifact_sha256,
             **bench_manifest.plain(each.verdict)} for each in night.findings
        ],
        "runs": [_run(run) for run in night.runs], "health": bench_manifest.plain(night.health),
    }  # fmt: skip


def _run(run: Run) -> dict[str, Any]:
    bench = run.bench
    return {
        "run": run.id, "case": run.case.name, "role": run.role, "ordinal": run.ordinal, "at": run.at,
        "artifact_sha256": run.artifact_sha256, "valid": None if bench is None else bench.valid,
        "latency_ms": None if bench is None else bench_manifest.plain(bench.latency_ms),
        "memory": None if bench is None else bench_manifest.plain(bench.memory),
        "fault": bench_manifest.plain(run.fault),
    }  # fmt: skip


def table(shown: CaseHistory) -> dict[str, Any]:
    """Return a case's history as JSON has it."""
    return {
        "case": shown.case.name, "model": shown.case.model, "target": shown.case.target, "recipe": shown.case.recipe,
        "device": shown.case.device, "metric": shown.metric, "unit": shown.unit,
        "nights": [_night(night) for night in shown.nights],
    }  # fmt: skip


def _night(night: CaseNight) -> dict[str, Any]:
    figures = night.figures
    return {
        "night": night.night, "suite": night.suite, "began": night.began, "new": list(figures.new), "old": list(figures.old),
        "reference": list(figures.reference), "level": figures.era, "decision": night.decision, "effect": night.effect,
        "new_sha256": night.new_sha256, "old_sha256": night.old_sha256, "runs": night.runs, "faults": night.faults,
        "invalid": night.invalid,
    }  # fmt: skip
