"""Figures over time: the nights of cases as the gate looks at them, and every run as a page draws it; no samples are loaded.

A few queries for all cases together, whose rows come from an index that holds all they need (`runs_of_case`) in the order in
which they are wanted: a hundred thousand runs take a second or two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Select, Subquery, and_, func, select

from edgeship.history import schema
from edgeship.history.figures import COLUMN, CaseNight, Point
from edgeship.night import Night

_BATCH = 2000
_ROLES = ("new", "old", "reference")
_Eras = Mapping[int, Sequence[tuple[float, str]]]


@dataclass
class _Figures:
    """The runs of one case in one night, as they are added up."""

    values: dict[str, list[float]] = field(default_factory=lambda: {role: [] for role in _ROLES})
    artifacts: dict[str, str] = field(default_factory=dict)  # by role: the first one
    runs: int = 0
    faults: int = 0
    invalid: int = 0


def nights(
    connection: Connection, case_ids: Collection[int], metric: str, limit: int | None
) -> dict[int, tuple[CaseNight, ...]]:
    """Return the last nights of each case, oldest first."""
    chosen = _chosen(case_ids, limit)
    order = (chosen.c.case_id, chosen.c.began_s, chosen.c.night_id)
    rows = _stream(connection, select(chosen).order_by(*order))
    figures = _figures(connection, _runs(case_ids, metric, None if limit is None else chosen))
    verdicts, eras = _verdicts(connection, case_ids, metric), _eras(connection, case_ids)
    found: dict[int, list[CaseNight]] = {number: [] for number in case_ids}
    for number, night, suite, began, began_s in rows:
        its, (decision, effect) = (
            figures.get((number, night)) or _Figures(),
            verdicts.get((number, night), (None, None)),
        )
        new, old, reference = (tuple(its.values[role]) for role in _ROLES)
        era, old_sha256 = _era(eras[number], began_s), its.artifacts.get("old")
        found[number].append(
            CaseNight(
                night=night, suite=suite, began=began, figures=Night(new, old, reference, era, old_sha256),
                new_sha256=its.artifacts.get("new"), old_sha256=old_sha256, runs=its.runs, faults=its.faults,
                invalid=its.invalid, decision=decision, effect=effect,
            )
        )  # fmt: skip
    return {number: tuple(each) for number, each in found.items()}


def points(connection: Connection, case_ids: Collection[int], metric: str) -> dict[int, tuple[Point, ...]]:
    """Return every run of each case, oldest first."""
    run, night = schema.runs, schema.nights
    columns = (
        run.c.case_id, night.c.began_s,
        run.c.id, run.c.night_id, run.c.role, run.c.ordinal, run.c.at, run.c.at_s, run.c[COLUMN[metric]],
        run.c.latency_low_ms, run.c.latency_high_ms, run.c.p90_ms, run.c.cv, run.c.samples, run.c.valid, run.c.simulated,
        run.c.hottest_c, run.c.artifact_sha256, run.c.manifest_sha256, run.c.fault,
    )  # fmt: skip
    asked = select(*columns).select_from(run.join(night)).where(run.c.case_id.in_(case_ids))
    eras = _eras(connection, case_ids)
    found: dict[int, list[Point]] = {number: [] for number in case_ids}
    for number, began_s, *row in _stream(connection, asked.order_by(run.c.at_s, run.c.ordinal)):
        found[number].append(Point(*(*row, _era(eras[number], began_s))))
    return {number: tuple(each) for number, each in found.items()}


def _chosen(case_ids: Collection[int], limit: int | None) -> Subquery:
    """Return the query of the nights for which cases were planned, of each case the last ones."""
    night, planned = schema.nights, schema.night_cases
    columns = (planned.c.case_id, planned.c.night_id, night.c.suite, night.c.began, night.c.began_s)
    newest = (night.c.began_s.desc(), night.c.id.desc())
    rank = func.row_number().over(partition_by=planned.c.case_id, order_by=newest).label("rank")
    every = select(*columns, rank).select_from(planned.join(night)).where(planned.c.case_id.in_(case_ids)).subquery()
    told = select(*(every.c[column.name] for column in columns))
    return (told if limit is None else told.where(every.c.rank <= limit)).subquery()


def _runs(case_ids: Collection[int], metric: str, chosen: Subquery | None) -> Select[Any]:
    """Return the query of the runs' figures in the order of the index: of all nights, or of those chosen."""
    run = schema.runs
    order = (run.c.case_id, run.c.night_id, run.c.at_s, run.c.ordinal)
    asked = select(
        run.c.case_id, run.c.night_id, run.c.role, run.c.valid, run.c.fault, run.c.artifact_sha256, run.c[COLUMN[metric]]
    ).order_by(*order)  # fmt: skip
    if chosen is None:
        return asked.where(run.c.case_id.in_(case_ids))
    return asked.join(chosen, and_(chosen.c.case_id == run.c.case_id, chosen.c.night_id == run.c.night_id))


def _figures(connection: Connection, asked: Select[Any]) -> dict[tuple[int, str], _Figures]:
    """Return what the runs of each case and night brought."""
    found: dict[tuple[int, str], _Figures] = {}
    for key, rows in groupby(_stream(connection, asked), key=itemgetter(0, 1)):
        its = found[key] = _Figures()
        for _, _, role, valid, fault, artifact, value in rows:
            its.runs += 1
            its.faults += fault is not None
            its.invalid += valid is False
            if artifact is not None:
                its.artifacts.setdefault(role, artifact)
            if valid and value is not None and role in its.values:
                its.values[role].append(float(value))
    return found


def _verdicts(
    connection: Connection, case_ids: Collection[int], metric: str
) -> dict[tuple[int, str], tuple[str, float | None]]:
    """Return the decision and the effect of each verdict on a metric."""
    table = schema.findings
    asked = select(table.c.case_id, table.c.night_id, table.c.decision, table.c.effect)
    rows = _stream(connection, asked.where(table.c.case_id.in_(case_ids), table.c.metric == metric))
    return {(number, night): (decision, effect) for number, night, decision, effect in rows}


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
