"""Figures over time: the nights of cases as the gate looks at them, and every run as a page draws it; no samples are loaded.

A few queries for all cases together, whose rows come from an index that holds all they need (`runs_of_case`) in the order in
which they are wanted: a hundred thousand runs take a second or two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import Connection, Select, Subquery, and_, func, select

from edgeship.history import schema
from edgeship.history.figures import COLUMN, GOLDEN, CaseNight, Point
from edgeship.night import Night, at_one_pace

_BATCH = 2000
_ROLES = ("new", "old", "reference")
_Eras = Mapping[int, Sequence[tuple[float, str]]]


_Values = dict[str, list[float]]  # by role
_Beside = dict[str, list[tuple[str, float, float] | None]]


@dataclass
class _Figures:
    """The runs of one case in one night, as they are added up; `values` has a table for each metric."""

    values: tuple[_Values, ...]
    artifacts: dict[str, str] = field(default_factory=dict)  # by role: the first one
    runs: int = 0
    faults: int = 0
    invalid: int = 0
    paces: tuple[float, ...] = ()


def nights(
    connection: Connection, case_ids: Collection[int], metrics: Sequence[str], limit: int | None
) -> dict[tuple[int, str], tuple[CaseNight, ...]]:
    """Return the last nights of each case for each metric, oldest first."""
    chosen = _chosen(case_ids, limit)
    order = (chosen.c.case_id, chosen.c.began_s, chosen.c.night_id)
    rows = connection.execute(select(chosen).order_by(*order)).all()
    figures = _figures(connection, _runs(case_ids, metrics, None if limit is None else chosen), metrics)
    verdicts, eras = _verdicts(connection, case_ids, (*metrics, GOLDEN)), _eras(connection, case_ids)
    nothing = _Figures(tuple(_no_values() for _ in metrics))
    found: dict[tuple[int, str], list[CaseNight]] = {(number, metric): [] for number in case_ids for metric in metrics}
    for number, night, suite, began, began_s in rows:
        its = figures.get((number, night), nothing)
        new_sha256, old_sha256 = its.artifacts.get("new"), its.artifacts.get("old")
        era, wrong = _era(eras[number], began_s), verdicts.get((number, night, GOLDEN), ("same", None))[0] != "same"
        for metric, values in zip(metrics, its.values, strict=True):
            new, old, reference = map(tuple, values.values())
            decision, effect = verdicts.get((number, night, metric), (None, None))
            found[number, metric].append(
                CaseNight(
                    night, suite, began, Night(new, old, reference, era, old_sha256, its.paces if metric == "latency" else ()), new_sha256, old_sha256, its.runs,
                    its.faults, its.invalid, decision, effect, wrong,
                )
            )  # fmt: skip
    return {key: tuple(each) for key, each in found.items()}


def points(connection: Connection, case_id: int, metric: str) -> tuple[Point, ...]:
    """Return every run of a case, oldest first."""
    run, night = schema.runs, schema.nights
    columns = (
        run.c.id, run.c.night_id, run.c.role, run.c.ordinal, run.c.at, run.c.at_s, run.c[COLUMN[metric]],
        run.c.latency_low_ms, run.c.latency_high_ms, run.c.p90_ms, run.c.cv, run.c.samples, run.c.valid, run.c.simulated,
        run.c.hottest_c, run.c.artifact_sha256, run.c.manifest_sha256, run.c.fault,
    )  # fmt: skip
    eras = _eras(connection, [case_id])[case_id]
    theirs = select(schema.night_cases.c.night_id).where(schema.night_cases.c.case_id == case_id)
    began = connection.execute(select(night.c.id, night.c.began_s).where(night.c.id.in_(theirs)))
    era = {name: _era(eras, began_s) for name, began_s in began}
    rows = _stream(connection, select(*columns).where(run.c.case_id == case_id))
    found = [Point(*(*row, era.get(row[1], ""))) for row in rows]
    return tuple(sorted(found, key=attrgetter("at_s", "ordinal")))  # quicker than by the database: almost in order


def _chosen(case_ids: Collection[int], limit: int | None) -> Subquery:
    """Return the query of the nights for which cases were planned, of each case the last ones."""
    night, planned = schema.nights, schema.night_cases
    columns = (planned.c.case_id, planned.c.night_id, night.c.suite, night.c.began, night.c.began_s)
    newest = (night.c.began_s.desc(), night.c.id.desc())
    rank = func.row_number().over(partition_by=planned.c.case_id, order_by=newest).label("rank")
    every = select(*columns, rank).select_from(planned.join(night)).where(planned.c.case_id.in_(case_ids)).subquery()
    told = select(*(every.c[column.name] for column in columns))
    return (told if limit is None else told.where(every.c.rank <= limit)).subquery()


def _runs(case_ids: Collection[int], metrics: Sequence[str], chosen: Subquery | None) -> Select[Any]:
    """Return the query of the runs' figures in the order of the index: of all nights, or of those chosen."""
    run = schema.runs
    order = (run.c.case_id, run.c.night_id, run.c.at_s, run.c.ordinal)
    values = (run.c[COLUMN[metric]] for metric in metrics)
    columns = (
        run.c.case_id, run.c.night_id, run.c.role, run.c.valid, run.c.fault, run.c.artifact_sha256, run.c.beside,
        run.c.ratio, run.c.pace_ms, *values,
    )  # fmt: skip
    asked = select(*columns).order_by(*order)
    if chosen is None:
        return asked.where(run.c.case_id.in_(case_ids))
    return asked.join(chosen, and_(chosen.c.case_id == run.c.case_id, chosen.c.night_id == run.c.night_id))


def _figures(connection: Connection, asked: Select[Any], metrics: Sequence[str]) -> dict[tuple[int, str], _Figures]:
    """Return what the runs of each case and night brought."""
    found: dict[tuple[int, str], _Figures] = {}
    timed = metrics.index("latency") if "latency" in metrics else None
    for key, rows in groupby(_stream(connection, asked), key=itemgetter(0, 1)):
        its = found[key] = _Figures(tuple(_no_values() for _ in metrics))
        beside: _Beside = {"new": [], "old": [], "reference": []}
        for _, _, role, valid, fault, artifact, which, ratio, pace_ms, *told in rows:
            its.runs += 1
            its.faults += fault is not None
            its.invalid += valid is False
            if artifact is not None and role not in its.artifacts:
                its.artifacts[role] = artifact
            if valid and role in _ROLES:
                for values, value in zip(its.values, told, strict=True):
                    if value is not None:
                        values[role].append(float(value))
                if timed is not None and told[timed] is not None:
                    beside[role].append(None if which is None else (which, ratio, pace_ms))
        if timed is not None:
            its.paces = _at_one_pace(its.values[timed], beside)
    return found


def _at_one_pace(values: _Values, beside: _Beside) -> tuple[float, ...]:
    """Put the times of both roles at the pace that the machine had that night; return the paces of its runs."""
    times, paces = at_one_pace([*values["new"], *values["old"]], [*beside["new"], *beside["old"]])
    count = len(values["new"])
    values["new"], values["old"] = list(times[:count]), list(times[count:])
    return paces


def _no_values() -> _Values:
    return {"new": [], "old": [], "reference": []}


def _verdicts(
    connection: Connection, case_ids: Collection[int], metrics: Sequence[str]
) -> dict[tuple[int, str, str], tuple[str, float | None]]:
    """Return the decision and the effect of each verdict on these metrics."""
    table = schema.findings
    asked = select(table.c.case_id, table.c.night_id, table.c.metric, table.c.decision, table.c.effect)
    rows = _stream(connection, asked.where(table.c.case_id.in_(case_ids), table.c.metric.in_(metrics)))
    return {(number, night, metric): (decision, effect) for number, night, metric, decision, effect in rows}


def _eras(connection: Connection, case_ids: Collection[int]) -> _Eras:
    """Return from when on, newest first, which level held: nights that began before it was accepted lie on another."""
    table, found = schema.levels, defaultdict(list)
    asked = select(table.c.case_id, table.c.at_s, table.c.number).where(table.c.case_id.in_(case_ids))
    for number, since_s, level in connection.execute(asked.order_by(table.c.number.desc())):
        found[number].append((since_s, str(level)))
    return found


def _era(eras: Sequence[tuple[float, str]], began_s: float) -> str:
    return next((era for since_s, era in eras if since_s <= began_s), "")


def _stream(connection: Connection, asked: Select[Any]) -> Iterator[Any]:
    """Give rows, many at a time: that is quicker than one by one, and takes less space than all."""
    batches: Iterable[Sequence[Any]] = connection.execute(asked).partitions(_BATCH)
    return chain.from_iterable(batches)
