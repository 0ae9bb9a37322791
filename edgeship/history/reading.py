"""Queries: figures come from narrow rows and are quick; samples and conditions are loaded for those runs that are asked for."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, Row, Select, select

from edgeship.errors import unknown
from edgeship.gate import Verdict
from edgeship.history import packing, schema
from edgeship.history.figures import DeviceHealth, Level
from edgeship.nightly_record import Case, Fault, Finding, HealthEvent, NightRecord, Run

_BATCH = 200
_CASE = (schema.cases.c.model, schema.cases.c.target, schema.cases.c.recipe, schema.cases.c.device)


def cases(connection: Connection, pattern: str | None = None) -> dict[Case, int]:
    """Return the cases whose name, model or device a pattern (`*`, `?`) fits, in order, with their numbers."""
    found = connection.execute(select(schema.cases.c.id, *_CASE))
    told = sorted((Case(*row[1:]), row.id) for row in found)
    return {case: number for case, number in told if pattern is None or _fits(case, pattern)}


def case_number(connection: Connection, case: Case) -> int | None:
    """Return the number of a case, or None where nothing was ever planned for it."""
    values = (case.model, case.target, case.recipe, case.device)
    same = [column == value for column, value in zip(_CASE, values, strict=True)]
    found: int | None = connection.execute(select(schema.cases.c.id).where(*same)).scalar()
    return found


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
    with packing.read(f"the options of night {night_id}"):
        options = json.loads(row.options)
    join = schema.night_cases.join(schema.cases)
    planned = select(*_CASE).select_from(join).where(schema.night_cases.c.night_id == night_id)
    health = select(schema.health).where(schema.health.c.night_id == night_id).order_by(schema.health.c.at_s)
    return NightRecord(
        id=row.id, suite=row.suite, began=row.began, ended=row.ended,
        cases=tuple(Case(*case) for case in connection.execute(planned.order_by(schema.night_cases.c.place))),
        runs=tuple(runs(connection, schema.runs.c.night_id == night_id)),
        findings=findings(connection, schema.findings.c.night_id == night_id),
        health=tuple(_event(each) for each in connection.execute(health)),
        options=options,
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


def runs(connection: Connection, *where: ColumnElement[bool]) -> Iterator[Run]:
    """Give whole runs, in the order in which they were made, a batch at a time."""
    loaded: dict[str | None, Any] = {None: None}
    for row in rows(connection, *where):
        sha = row.manifest_sha256
        if sha not in loaded:
            loaded[sha] = manifest(connection, sha)
        yield _run(row, loaded[sha])


def rows(connection: Connection, *where: ColumnElement[bool]) -> Iterator[Row[Any]]:
    """Give runs as they are stored, with all that lies beside them but for manifests, in the order in which they were made."""
    table = schema.runs
    chosen = select(table.c.id).where(*where).order_by(table.c.at_s, table.c.night_id, table.c.case_id, table.c.ordinal)
    names = list(connection.execute(chosen).scalars())
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        found = {row.id: row for row in connection.execute(_whole().where(table.c.id.in_(batch)))}
        yield from (found[name] for name in batch)


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
        with packing.read(f"run {row.id}"):
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
    return _manifest(sha256, found)


def manifests(connection: Connection, sha256s: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Give those manifests that are there, with their sha256, a batch at a time."""
    table, named = schema.manifests, sorted(sha256s)
    for start in range(0, len(named), _BATCH):
        asked = select(table.c.sha256, table.c.body).where(table.c.sha256.in_(named[start : start + _BATCH]))
        yield from ((row.sha256, _manifest(row.sha256, row.body)) for row in connection.execute(asked))


def _manifest(sha256: str, body: bytes) -> Any:
    with packing.read(f"manifest {sha256}"):
        return packing.from_blob(body)


def findings(connection: Connection, *where: ColumnElement[bool]) -> tuple[Finding, ...]:
    """Return verdicts, by night, case and metric."""
    table = schema.findings
    join = table.join(schema.cases).join(schema.nights)
    asked = select(table, *_CASE).select_from(join).where(*where)
    rows = connection.execute(asked.order_by(schema.nights.c.began_s, *_CASE, table.c.metric))
    return tuple(_finding(row, Case(row.model, row.target, row.recipe, row.device)) for row in rows)


def findings_of_case(connection: Connection, case: Case, case_id: int, metric: str | None) -> tuple[Finding, ...]:
    """Return the verdicts of a case, by night and metric: on one of them, or on all."""
    table, night = schema.findings, schema.nights
    asked = select(table).where(table.c.case_id == case_id)
    if metric is not None:
        asked = asked.where(table.c.metric == metric)
    began = {name: (began_s, name) for name, began_s in connection.execute(select(night.c.id, night.c.began_s))}
    rows = sorted(connection.execute(asked).all(), key=lambda row: (began[row.night_id], row.metric))
    return tuple(_finding(row, case) for row in rows)


def _finding(row: Row[Any], case: Case) -> Finding:
    with packing.read(f"the verdict of night {row.night_id} on the {row.metric} of {case.name}"):
        verdict = _verdicts().validate_json(row.verdict)
    return Finding(row.night_id, case, verdict, row.baseline_sha256, row.artifact_sha256)


@cache
def _verdicts() -> TypeAdapter[Verdict]:
    return TypeAdapter(Verdict)


def levels(connection: Connection, case: Case, case_id: int) -> tuple[Level, ...]:
    """Return what was accepted for a case, oldest first."""
    table = schema.levels
    rows = connection.execute(select(table).where(table.c.case_id == case_id).order_by(table.c.number))
    return tuple(Level(case, row.number, row.artifact_sha256, row.at) for row in rows)


def device_health(connection: Connection, device: str) -> DeviceHealth:
    """Return what happened to a device, newest first."""
    table = schema.health
    rows = connection.execute(select(table).where(table.c.device == device).order_by(table.c.at_s.desc()))
    events = tuple(_event(row) for row in rows)
    standing = next((event for event in events if event.event in ("quarantined", "released")), None)
    return DeviceHealth(device, standing if standing and standing.event == "quarantined" else None, events)


def _event(row: Row[Any]) -> HealthEvent:
    return HealthEvent(row.night_id, row.device, row.at, row.event, row.reason)
