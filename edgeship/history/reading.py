"""Queries: figures come from narrow rows and are quick; samples and conditions are loaded for those runs that are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, select

from edgeship.errors import unknown
from edgeship.gate import Verdict
from edgeship.history import packing, schema
from edgeship.history.figures import COLUMN, CaseNight, DeviceHealth, Level, Point
from edgeship.night import Night
from edgeship.nightly_record import Case, Fault, Finding, HealthEvent, NightRecord, Run

_BATCH = 200
_CASE = (schema.cases.c.model, schema.cases.c.target, schema.cases.c.recipe, schema.cases.c.device)
_ROLES = ("new", "old", "reference")


def cases(connection: Connection, pattern: str | None = None) -> dict[Case, int]:
    """Return the cases whose name, model or device a pattern (`*`, `?`) fits, in order, with their numbers."""
    found = connection.execute(select(schema.cases.c.id, *_CASE))
    told = sorted((Case(*row[1:]), row.id) for row in found)
    return {case: number for case, number in told if pattern is None or _fits(case, pattern)}


def _fits(case: Case, pattern: str) -> bool:
    return any(fnmatchcase(word, pattern) for word in (case.name, case.model, case.device))


def night_record(connection: Connection, night_id: str) -> NightRecord:
    """Return a night with all its runs, samples and conditions included.

    Raises:
        BadInput: there is no such night.
    """
    nights = schema.nights
    row = connection.execute(select(nights).where(nights.c.id == night_id)).first()
    if row is None:
        raise unknown("night", night_id, connection.execute(select(nights.c.id)).scalars())
    join = schema.night_cases.join(schema.cases)
    planned = select(*_CASE).select_from(join).where(schema.night_cases.c.night_id == night_id)
    health = select(schema.health).where(schema.health.c.night_id == night_id).order_by(schema.health.c.at_s)
    return NightRecord(
        id=row.id, suite=row.suite, began=row.began, ended=row.ended,
        cases=tuple(Case(*case) for case in connection.execute(planned.order_by(schema.night_cases.c.place))),
        runs=tuple(runs(connection, schema.runs.c.night_id == night_id)),
        findings=findings(connection, schema.findings.c.night_id == night_id),
        health=tuple(_event(each) for each in connection.execute(health)),
        options=json.loads(row.options),
    )  # fmt: skip


def newest_night(connection: Connection, suite: str) -> tuple[str, str | None] | None:
    """Return the newest night of a suite, as its id and when it ended, or None where there is none."""
    found = connection.execute(_newest(suite)).first()
    return None if found is None else (found.id, found.ended)


def newest_ended(connection: Connection, suite: str) -> str | None:
    """Return the newest night of a suite that came to its end."""
    found = connection.execute(_newest(suite).where(schema.nights.c.ended.is_not(None))).first()
    return None if found is None else str(found.id)


def _newest(suite: str) -> Select[Any]:
    nights = schema.nights
    mine = select(nights.c.id, nights.c.ended).where(nights.c.suite == suite)
    return mine.order_by(nights.c.began_s.desc(), nights.c.id.desc()).limit(1)


def runs(connection: Connection, *where: ColumnElement[bool], manifests: bool = True) -> Iterator[Run]:
    """Give whole runs, in the order in which they were made, a batch at a time; on request without their manifests."""
    table = schema.runs
    chosen = select(table.c.id).where(*where).order_by(table.c.at_s, table.c.night_id, table.c.case_id, table.c.ordinal)
    names = list(connection.execute(chosen).scalars())
    loaded: dict[str | None, Any] = {None: None}
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        rows = {row.id: row for row in connection.execute(_whole().where(table.c.id.in_(batch)))}
        for name in batch:
            sha = rows[name].manifest_sha256 if manifests else None
            if sha is not None and sha not in loaded:
                loaded[sha] = manifest(connection, sha)
            yield _run(rows[name], loaded[sha])


def _whole() -> Select[Any]:
    """Return the query of runs with everything beside them but for manifests."""
    run, record, around, fault = schema.runs, schema.records, schema.conditions, schema.faults
    join = run.join(schema.cases).outerjoin(record).outerjoin(around).outerjoin(fault)
    return select(
        run.c.id, run.c.night_id, run.c.suite, run.c.role, run.c.ordinal, run.c.at, run.c.artifact_sha256,
        run.c.manifest_sha256, *_CASE, record.c.body, record.c.samples, record.c.starts, record.c.warmup,
        around.c.body.label("around"), fault.c.cause, fault.c.message, fault.c.exit_code, fault.c.tries,
    ).select_from(join)  # fmt: skip


def _run(row: Row[Any], told: Any) -> Run:
    bench = None
    if row.body is not None:
        bench = packing.unpack(packing.Packed(row.body, row.around, row.samples, row.starts, row.warmup))
    return Run(
        id=row.id, night=row.night_id, suite=row.suite, case=Case(row.model, row.target, row.recipe, row.device),
        role=row.role, ordinal=row.ordinal, at=row.at, artifact_sha256=row.artifact_sha256, bench=bench,
        fault=None if row.cause is None else Fault(row.cause, row.message, row.exit_code, row.tries),
        manifest=told,
    )  # fmt: skip


def manifest(connection: Connection, sha256: str) -> Any:
    """Return a manifest by the sha256 of its canonical form.

    Raises:
        BadInput: there is no such manifest.
    """
    table = schema.manifests
    found = connection.execute(select(table.c.body).where(table.c.sha256 == sha256)).scalar()
    if found is None:
        raise unknown("manifest", sha256, ())
    return packing.from_blob(found)


def findings(connection: Connection, *where: ColumnElement[bool]) -> tuple[Finding, ...]:
    """Return verdicts, by night, case and metric."""
    table = schema.findings
    join = table.join(schema.cases).join(schema.nights)
    asked = select(table, *_CASE).select_from(join).where(*where)
    rows = connection.execute(asked.order_by(schema.nights.c.began_s, *_CASE, table.c.metric))
    adapter = TypeAdapter(Verdict)
    return tuple(
        Finding(
            row.night_id,
            Case(row.model, row.target, row.recipe, row.device),
            adapter.validate_python(json.loads(row.verdict)),
            row.baseline_sha256,
            row.artifact_sha256,
        )
        for row in rows
    )


def levels(connection: Connection, case: Case, case_id: int) -> tuple[Level, ...]:
    """Return what was accepted for a case, oldest first."""
    table = schema.levels
    rows = connection.execute(select(table).where(table.c.case_id == case_id).order_by(table.c.number))
    return tuple(Level(case, row.number, row.artifact_sha256, row.at) for row in rows)


def case_nights(connection: Connection, case_id: int, metric: str, limit: int | None) -> tuple[CaseNight, ...]:
    """Return the last nights of a case, oldest first; the runs' figures only, no samples."""
    night, planned, found = schema.nights, schema.night_cases, schema.findings
    judged = and_(found.c.night_id == night.c.id, found.c.case_id == case_id, found.c.metric == metric)
    asked = (
        select(night.c.id, night.c.suite, night.c.began, night.c.began_s, found.c.decision, found.c.verdict)
        .select_from(planned.join(night).outerjoin(found, judged))
        .where(planned.c.case_id == case_id)
        .order_by(night.c.began_s.desc(), night.c.id.desc())
        .limit(limit)
    )
    nights = connection.execute(asked).all()[::-1]
    eras = _eras(connection, case_id)
    by_night: dict[str, list[Row[Any]]] = {row.id: [] for row in nights}
    for row in connection.execute(_run_figures(case_id, metric, nights[0].began_s if nights and limit else None)):
        if row.night_id in by_night:
            by_night[row.night_id].append(row)
    return tuple(_case_night(row, by_night[row.id], eras) for row in nights)


def _run_figures(case_id: int, metric: str, since_s: float | None) -> Select[Any]:
    run, fault = schema.runs, schema.faults
    asked = select(
        run.c.night_id, run.c.role, run.c.valid, run.c.artifact_sha256, run.c[COLUMN[metric]].label("value"), fault.c.cause
    ).select_from(run.outerjoin(fault))  # fmt: skip
    asked = asked.where(run.c.case_id == case_id)
    if since_s is not None:
        began = schema.nights.c.began_s >= since_s
        asked = asked.where(run.c.night_id.in_(select(schema.nights.c.id).where(began)))
    return asked.order_by(run.c.at_s, run.c.ordinal)


def _case_night(row: Any, runs: Sequence[Row[Any]], eras: Sequence[tuple[float, str]]) -> CaseNight:
    figures: dict[str, list[float]] = {role: [] for role in _ROLES}
    artifacts: dict[str, str] = {}
    for run in runs:
        if run.artifact_sha256 is not None:
            artifacts.setdefault(run.role, run.artifact_sha256)
        if run.valid and run.value is not None and run.role in figures:
            figures[run.role].append(float(run.value))
    era = _era(eras, row.began_s)
    new, old, reference = (tuple(figures[role]) for role in _ROLES)
    return CaseNight(
        night=row.id, suite=row.suite, began=row.began,
        figures=Night(new, old, reference, era, artifacts.get("old")),
        new_sha256=artifacts.get("new"), old_sha256=artifacts.get("old"), runs=len(runs),
        faults=sum(run.cause is not None for run in runs), invalid=sum(run.valid is False for run in runs),
        decision=row.decision, effect=None if row.verdict is None else json.loads(row.verdict).get("effect"),
    )  # fmt: skip


def points(connection: Connection, case_id: int, metric: str) -> tuple[Point, ...]:
    """Return every run of a case as a page draws it, oldest first."""
    run, fault, night = schema.runs, schema.faults, schema.nights
    columns = (
        run.c.id, run.c.night_id, run.c.role, run.c.ordinal, run.c.at, run.c.at_s, run.c[COLUMN[metric]],
        run.c.latency_low_ms, run.c.latency_high_ms, run.c.p90_ms, run.c.cv, run.c.samples, run.c.valid, run.c.simulated,
        run.c.hottest_c, run.c.artifact_sha256, run.c.manifest_sha256, fault.c.cause, night.c.began_s,
    )  # fmt: skip
    asked = select(*columns).select_from(run.join(night).outerjoin(fault)).where(run.c.case_id == case_id)
    eras = _eras(connection, case_id)
    rows: Iterable[Any] = connection.execute(asked.order_by(run.c.at_s, run.c.ordinal))
    return tuple(Point(*(*row[:-1], _era(eras, row[-1]))) for row in rows)


def _eras(connection: Connection, case_id: int) -> list[tuple[float, str]]:
    """Return from when on, newest first, which level held: nights that began before it was accepted lie on another."""
    table = schema.levels
    asked = select(table.c.at_s, table.c.number).where(table.c.case_id == case_id).order_by(table.c.number.desc())
    return [(row.at_s, str(row.number)) for row in connection.execute(asked)]


def _era(eras: Sequence[tuple[float, str]], began_s: float) -> str:
    return next((era for since_s, era in eras if since_s <= began_s), "")


def device_health(connection: Connection, device: str) -> DeviceHealth:
    """Return what happened to a device, newest first."""
    table = schema.health
    rows = connection.execute(select(table).where(table.c.device == device).order_by(table.c.at_s.desc()))
    events = tuple(_event(row) for row in rows)
    standing = next((event for event in events if event.event in ("quarantined", "released")), None)
    return DeviceHealth(device, standing if standing and standing.event == "quarantined" else None, events)


def _event(row: Row[Any]) -> HealthEvent:
    return HealthEvent(row.night_id, row.device, row.at, row.event, row.reason)
