"""Writing: every function works inside the transaction it is given, so that it all is kept, or nothing of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from numbers import Real
from typing import Any

from sqlalchemy import Connection, Table, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from edgeship import digest
from edgeship.errors import BadInput
from edgeship.history import packing, schema
from edgeship.measurement import BenchRecord
from edgeship.nightly_record import Case, Finding, HealthEvent, NightRecord, Run


def begin(connection: Connection, night: NightRecord) -> bool:
    """Keep a night's plan; return False when it is there already."""
    row = {
        "id": night.id, "suite": night.suite, "began": night.began, "began_s": seconds(night.began), "ended": night.ended,
        "options": json.dumps(packing.plain(night.options)),
    }  # fmt: skip
    if not _insert(connection, schema.nights, row):
        return False
    numbers = case_numbers(connection, night.cases)
    for place, case in enumerate(night.cases):
        row = {"night_id": night.id, "case_id": numbers[case], "place": place}
        _insert(connection, schema.night_cases, row)
    return True


def end(connection: Connection, night_id: str, at: str) -> None:
    """Keep when a night ended; the first time stands.

    Raises:
        BadInput: there is no such night.
    """
    _require_night(connection, night_id)
    nights = schema.nights
    connection.execute(update(nights).where(nights.c.id == night_id, nights.c.ended.is_(None)).values(ended=at))


def keep(connection: Connection, runs: Sequence[Run]) -> int:
    """Keep runs with all that belongs to them; return how many were not there before.

    Rows that several runs share are written first and in order, so that two workstations never wait for one another.

    Raises:
        BadInput: a run is of a night that was never begun.
    """
    for night_id in sorted({run.night for run in runs}):
        _require_night(connection, night_id)
    numbers = case_numbers(connection, (run.case for run in runs))
    for night_id, case_id in sorted({(run.night, numbers[run.case]) for run in runs}):
        _insert(connection, schema.night_cases, {"night_id": night_id, "case_id": case_id, "place": case_id + 10**6})
    named = _keep_manifests(connection, [run.manifest for run in runs])
    return sum(_keep_run(connection, run, numbers[run.case], named) for run in sorted(runs, key=lambda run: run.id))


def _keep_manifests(connection: Connection, given: Iterable[Mapping[str, Any] | None]) -> dict[int, str]:
    """Write each manifest once; return `id` of the object → sha256 of its canonical form."""
    named: dict[int, str] = {}
    bodies: dict[str, Any] = {}
    for manifest in given:
        if manifest is not None and id(manifest) not in named:
            table = packing.plain(manifest)
            sha = digest.of_bytes(json.dumps(table, sort_keys=True, separators=(",", ":")).encode())
            named[id(manifest)], bodies[sha] = sha, table
    for sha in sorted(bodies):
        _insert(connection, schema.manifests, {"sha256": sha, "body": packing.as_blob(bodies[sha])})
    return named


def _keep_run(connection: Connection, run: Run, case_id: int, manifests: Mapping[int, str]) -> bool:
    row = {
        "id": run.id, "night_id": run.night, "case_id": case_id, "suite": run.suite, "role": run.role,
        "ordinal": run.ordinal, "at": run.at, "at_s": seconds(run.at), "artifact_sha256": run.artifact_sha256,
        "manifest_sha256": None if run.manifest is None else manifests[id(run.manifest)],
        "fault": None if run.fault is None else run.fault.cause, **_figures(run),
    }  # fmt: skip
    if not _insert(connection, schema.runs, row):
        return False
    if run.fault is not None:
        fault = run.fault
        row = {"cause": fault.cause, "message": fault.message, "exit_code": fault.exit_code, "tries": fault.tries}
        _insert(connection, schema.faults, {"run_id": run.id, **row})
    if run.bench is not None:
        packed = packing.pack(run.bench)
        blobs = {"samples": packed.samples, "starts": packed.starts, "warmup": packed.warmup}
        _insert(connection, schema.records, {"run_id": run.id, "body": packed.body, **blobs})
        _insert(connection, schema.conditions, {"run_id": run.id, "body": packed.conditions})
    return True


def _beside(bench: BenchRecord) -> dict[str, Any]:
    """Return what a run tells of the artifact that it was made in turns with, by the start of its sha256."""
    if bench.beside is None:
        return {}
    return {
        "beside": bench.beside.artifact_sha256[:12], "ratio": _number(bench.beside.ratio),
        "pace_ms": _number(bench.beside.ms),
    }  # fmt: skip


def _figures(run: Run) -> dict[str, Any]:
    """Return the figures that queries read, those that a run has: of a manifest the size, and what quality it told."""
    manifest = run.manifest or {}
    size, built = _whole(manifest.get("size_bytes")), manifest.get("quality")
    quality, metric = (built.get("got"), built.get("metric")) if isinstance(built, Mapping) else (None, None)
    bench = run.bench
    if bench is None:
        return {"size_bytes": size, "quality": _number(quality)}
    latency = bench.latency_ms
    low, high = latency.ci95 or (None, None)
    return {
        "valid": bench.valid, "simulated": bench.simulated,
        "latency_ms": _number(bench.typical_ms),
        **_beside(bench),
        "latency_low_ms": _number(low), "latency_high_ms": _number(high),
        "p90_ms": _number(latency.p90), "cv": _number(latency.cv), "samples": latency.runs,
        "memory_mib": None if bench.memory is None else _number(bench.memory.peak_rss_mib),
        "size_bytes": size, "quality": _number(_measured_quality(bench, quality, metric)),
        "hottest_c": packing.hottest_c(bench.conditions),
    }  # fmt: skip


def _measured_quality(bench: BenchRecord, built: Any, metric: Any) -> Any:
    """Return what the device reached where that was measured, and by the build's metric; else what the build told."""
    told = bench.quality
    return built if told is None or metric not in (None, told.metric) else told.got


def _number(value: Any) -> float | None:
    """Return a finite number, or None: what is none has no place among figures, wherever a manifest came from."""
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and abs(number) < 2**63 else None


def keep_findings(connection: Connection, findings: Sequence[Finding]) -> None:
    """Keep verdicts; one on the same metric, case and night takes the place of the earlier one.

    Raises:
        BadInput: one is of a night that was never begun.
    """
    for night_id in sorted({finding.night for finding in findings}):
        _require_night(connection, night_id)
    numbers = case_numbers(connection, (finding.case for finding in findings))
    order = sorted(findings, key=lambda one: (one.night, numbers[one.case], one.verdict.metric))
    for finding in order:
        key = {"night_id": finding.night, "case_id": numbers[finding.case], "metric": finding.verdict.metric}
        told = {
            "decision": finding.verdict.decision, "verdict": json.dumps(packing.plain(finding.verdict)),
            "effect": _number(finding.verdict.effect),
            "baseline_sha256": finding.baseline_sha256, "artifact_sha256": finding.artifact_sha256,
        }  # fmt: skip
        _insert(connection, schema.findings, {**key, **told}, instead=tuple(told))


def keep_health(connection: Connection, events: Sequence[HealthEvent]) -> None:
    """Keep what happened to devices; the same event again changes nothing.

    Raises:
        BadInput: one is of a night that was never begun.
    """
    for night_id in sorted({event.night for event in events}):
        _require_night(connection, night_id)
    for event in sorted(events, key=lambda one: (one.night, one.device, one.at, one.event)):
        row = {"night_id": event.night, "device": event.device, "at": event.at, "event": event.event}
        _insert(connection, schema.health, {**row, "at_s": seconds(event.at), "reason": event.reason})


def accept(connection: Connection, case: Case, artifact_sha256: str, at: str) -> int:
    """Make an artifact the level that a case is held against from now on; return its number, 1 for the first.

    The same artifact again is a new level too once nights lie between: the device is what has changed then.
    """
    case_id = case_numbers(connection, [case])[case]
    levels = schema.levels
    # Whoever else accepts for this case waits here.
    connection.execute(select(schema.cases.c.id).where(schema.cases.c.id == case_id).with_for_update())
    last = select(levels.c.number, levels.c.artifact_sha256, levels.c.at_s).where(levels.c.case_id == case_id)
    found = connection.execute(last.order_by(levels.c.number.desc()).limit(1)).one_or_none()
    again = found is not None and found.artifact_sha256 == artifact_sha256
    if found is not None and again and not _nights_between(connection, case_id, found.at_s, seconds(at)):
        return int(found.number)
    number = 1 if found is None else int(found.number) + 1
    row = {"case_id": case_id, "number": number, "artifact_sha256": artifact_sha256, "at": at, "at_s": seconds(at)}
    _insert(connection, levels, row)
    return number


def _nights_between(connection: Connection, case_id: int, first_s: float, last_s: float) -> bool:
    nights, planned = schema.nights, schema.night_cases
    theirs = select(func.count()).select_from(planned.join(nights)).where(planned.c.case_id == case_id)
    return bool(connection.execute(theirs.where(nights.c.began_s.between(first_s, last_s))).scalar())


def case_numbers(connection: Connection, cases: Iterable[Case]) -> dict[Case, int]:
    """Return the number of each case, which is given to those that have none."""
    numbers: dict[Case, int] = {}
    table = schema.cases
    for case in sorted(set(cases)):
        row = {"model": case.model, "target": case.target, "recipe": case.recipe, "device": case.device}
        same = [table.c[name] == value for name, value in row.items()]
        found = connection.execute(select(table.c.id).where(*same)).scalar()
        if found is None:
            _insert(connection, table, row)
            found = connection.execute(select(table.c.id).where(*same)).scalar_one()
        numbers[case] = found
    return numbers


def seconds(at: str) -> float:
    """Return an ISO 8601 time, of UTC where it names no zone, as seconds since 1970."""
    moment = datetime.fromisoformat(at)
    return (moment if moment.tzinfo else datetime.fromisoformat(f"{at}+00:00")).timestamp()


def _require_night(connection: Connection, night_id: str) -> None:
    nights = schema.nights
    if connection.execute(select(func.count()).where(nights.c.id == night_id)).scalar() == 0:
        raise BadInput(f"night {night_id}: never begun in this history", hint="was it kept in another one (--url)?")


def _insert(connection: Connection, table: Table, row: Mapping[str, Any], *, instead: Sequence[str] = ()) -> bool:
    """Write a row unless its key is taken; then only the columns `instead` are written. Return whether one was."""
    of = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = of(table).values(dict(row))
    if instead:
        key = [column.name for column in table.primary_key]
        changes = {name: statement.excluded[name] for name in instead}
        statement = statement.on_conflict_do_update(index_elements=key, set_=changes)
    else:
        statement = statement.on_conflict_do_nothing()
    written = statement.returning(next(iter(table.primary_key)))  # a count of rows is not told by every driver
    return connection.execute(written).first() is not None
