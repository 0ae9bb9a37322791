"""What a night comes to as an exit code: a negative verdict first, then the faults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgeship.nightly_record import Fault, NightRecord, Run

NEGATIVE = 7
_ORDER = (6, 5, 2, 4, 3, 1)


def exit_code(night: NightRecord) -> int:
    """Return 7 after a regression, a missed budget or wrong outputs; else the code of a fault that stands; else 0."""
    if any(finding.verdict.alarm for finding in night.findings):
        return NEGATIVE
    found = {fault.exit_code for fault in standing(night)}
    return next((code for code in _ORDER if code in found), 0)


def standing(night: NightRecord) -> Iterator[Fault]:
    """Give the faults that ended a case, or left it without any figure."""
    cases: dict[object, list[Run]] = {}
    for run in night.runs:
        if run.role != "reference":
            cases.setdefault(run.case, []).append(run)
    for runs in cases.values():
        well = any(run.role == "new" and run.bench is not None and run.bench.valid for run in runs)
        yield from _of_case(runs, well=well)


def _of_case(runs: Iterable[Run], *, well: bool) -> Iterator[Fault]:
    for run in runs:
        if run.fault is not None and (run.fault.cause != "conditions" or not well):
            yield run.fault
