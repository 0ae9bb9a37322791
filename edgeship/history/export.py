"""A history as a file: JSON with all there is, CSV with the figures, Parquet with figures and samples; a batch at a time."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Connection, Row, Select, select

from edgeship import tools
from edgeship.errors import BadInput, NothingToDo
from edgeship.history import packing, reading, schema
from edgeship.store import no_space_named

_KINDS = (".json", ".csv", ".parquet")
_BATCH = 500
# The columns of CSV and Parquet, in order; → what they are in Arrow's words.
COLUMNS: dict[str, str] = {
    "night": "string", "suite": "string", "night_began": "string", "run": "string",
    "model": "string", "target": "string", "recipe": "string", "device": "string", "role": "string", "ordinal": "int32",
    "at": "string", "artifact_sha256": "string", "manifest_sha256": "string", "valid": "bool", "simulated": "bool",
    "latency_ms": "float64", "latency_low_ms": "float64", "latency_high_ms": "float64", "p90_ms": "float64",
    "cv": "float64", "samples": "int32", "memory_mib": "float64", "size_bytes": "int64", "quality": "float64",
    "hottest_c": "float64", "beside": "string", "ratio": "float64", "pace_ms": "float64", "fault": "string", "fault_message": "string", "fault_exit_code": "int32", "fault_tries": "int32",
}  # fmt: skip
_LISTS = ("samples_ms", "starts_ms", "warmup_ms")


def export(connection: Connection, path: Path, pattern: str | None) -> int:
    """Write all runs of the cases that a pattern fits; the file is there whole or not at all. Return their number.

    Raises:
        BadInput: the file's ending is none that can be written, or the file cannot be written.
        NothingToDo: there is no run to write.
        MissingTool: Parquet, without pyarrow.
        StageFailed: no space is left.
    """
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise BadInput(
            f"{path}: its ending has to be one of {', '.join(_KINDS)}", hint=f"{path.stem or 'history'}.json"
        )
    if kind == ".parquet":
        tools.versions(("pyarrow",))
    numbers = set(reading.cases(connection, pattern).values())
    if not numbers:
        raise NothingToDo(f"{path}: no case to write" + (f" fits '{pattern}'" if pattern else ": the history is empty"))
    with _beside(path) as beside:
        match kind:
            case ".json":
                return _json(connection, beside, numbers)
            case ".csv":
                return _csv(connection, beside, numbers)
        return _parquet(connection, beside, numbers)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give a path beside the file, which takes the file's place when the block ends well."""
    if path.is_dir():
        raise BadInput(f"{path}: a folder; a file is expected")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with no_space_named(path):
            yield beside
            beside.replace(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _flat() -> Select[Any]:
    """Return the query of `COLUMNS`."""
    run, night, fault, case = schema.runs, schema.nights, schema.faults, schema.cases
    named = {
        **{name: run.c[name] for name in COLUMNS if name in run.c},
        "night": night.c.id, "night_began": night.c.began, "run": run.c.id,
        **{name: case.c[name] for name in ("model", "target", "recipe", "device")},
        "fault": fault.c.cause, "fault_message": fault.c.message,
        "fault_exit_code": fault.c.exit_code, "fault_tries": fault.c.tries,
    }  # fmt: skip
    join = run.join(night).join(case, case.c.id == run.c.case_id).outerjoin(fault).outerjoin(schema.records)
    asked = select(*(named[name].label(name) for name in COLUMNS)).select_from(join)
    return asked.order_by(night.c.began_s, night.c.id, run.c.at_s, run.c.ordinal)


def _csv(connection: Connection, path: Path, numbers: set[int]) -> int:
    written = 0
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(COLUMNS)
        asked = _flat().where(schema.runs.c.case_id.in_(numbers))
        for row in connection.execute(asked.execution_options(yield_per=_BATCH)):
            table.writerow(row)
            written += 1
    return written


def _parquet(connection: Connection, path: Path, numbers: set[int]) -> int:
    """Write figures and, as lists, the raw samples; one row group a batch."""
    import pyarrow as arrow
    from pyarrow import parquet

    record = schema.records
    asked = _flat().add_columns(record.c.samples, record.c.starts, record.c.warmup)
    asked = asked.where(schema.runs.c.case_id.in_(numbers))
    kinds = {name: arrow.type_for_alias(kind) for name, kind in COLUMNS.items()}
    form = arrow.schema({**kinds, **{name: arrow.list_(arrow.float64()) for name in _LISTS}})
    written = 0
    with parquet.ParquetWriter(path, form, compression="zstd") as table:
        for rows in connection.execute(asked.execution_options(yield_per=_BATCH)).partitions():
            table.write_batch(arrow.RecordBatch.from_pylist([_with_samples(row) for row in rows], schema=form))
            written += len(rows)
    return written


def _with_samples(row: Row[Any]) -> dict[str, Any]:
    table = dict(zip(COLUMNS, row[: len(COLUMNS)], strict=True))
    with packing.read(f"run {table['run']}"):
        return table | dict(zip(_LISTS, map(packing.unpack_ms, row[len(COLUMNS) :]), strict=True))


def _json(connection: Connection, path: Path, numbers: set[int]) -> int:
    """Write one object: nights with their verdicts and health events, each manifest once, and the runs."""
    runs, planned, night = schema.runs, schema.night_cases, schema.nights
    theirs = select(planned.c.night_id).where(planned.c.case_id.in_(numbers))
    nights = select(night.c.id, night.c.suite, night.c.began, night.c.ended, night.c.options)
    health = select(schema.health).where(schema.health.c.night_id.in_(theirs)).order_by(schema.health.c.at_s)
    named = select(runs.c.manifest_sha256).distinct().where(runs.c.case_id.in_(numbers))
    chosen = reading.rows(connection, runs.c.case_id.in_(numbers))
    asked = nights.where(night.c.id.in_(theirs)).order_by(night.c.began_s, night.c.id)
    with path.open("w", encoding="utf-8") as stream:
        stream.write('{"nights": ')
        _list(stream, (dict(row._mapping) | {"options": json.loads(row.options)} for row in connection.execute(asked)))
        stream.write(',\n"findings": ')
        _list(stream, map(packing.plain, reading.findings(connection, schema.findings.c.case_id.in_(numbers))))
        stream.write(',\n"health": ')
        _list(stream, (dict(row._mapping) for row in connection.execute(health)))
        stream.write(',\n"manifests": ')
        every = {sha for sha in connection.execute(named).scalars() if sha is not None}
        _list(stream, ({"sha256": sha, "manifest": made} for sha, made in reading.manifests(connection, every)))
        stream.write(',\n"runs": ')
        written = _list(stream, map(_of_run, chosen))
        stream.write("}\n")
    return written


def _of_run(row: Row[Any]) -> dict[str, Any]:
    """Return a run with its record as they are stored: nothing is checked, so nothing of an older edgeship's is lost."""
    fault = {"cause": row.cause, "message": row.message, "exit_code": row.exit_code, "tries": row.tries}
    return {
        "id": row.id, "night": row.night_id, "suite": row.suite,
        "case": {name: row._mapping[name] for name in ("model", "target", "recipe", "device")},
        "role": row.role, "ordinal": row.ordinal, "at": row.at, "artifact_sha256": row.artifact_sha256,
        "bench": None if row.body is None else _of_bench(row), "fault": None if row.cause is None else fault,
        "manifest_sha256": row.manifest_sha256,
    }  # fmt: skip


def _of_bench(row: Row[Any]) -> dict[str, Any]:
    with packing.read(f"run {row.id}"):
        told = {
            "samples_ms": packing.unpack_ms(row.samples), "starts_ms": packing.unpack_ms(row.starts),
            "warmup_ms": packing.unpack_ms(row.warmup) or (), "conditions": packing.from_blob(row.around),
        }  # fmt: skip
        return {**packing.from_blob(row.body), **told}


def _list(stream: TextIO, tables: Iterable[Any]) -> int:
    """Write a JSON list, a line each, and return its length; what is no number becomes null, as JSON has it."""
    written = 0
    stream.write("[")
    for table in tables:
        stream.write("\n" if written == 0 else ",\n")
        stream.write(_line(table))
        written += 1
    stream.write("]")
    return written


def _line(table: Any) -> str:
    try:
        return json.dumps(table, ensure_ascii=False, allow_nan=False)
    except ValueError:  # few are like that, and looking at every number takes longer than writing it
        return json.dumps(_finite(table), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case float() if not math.isfinite(value):
            return None
    return value
