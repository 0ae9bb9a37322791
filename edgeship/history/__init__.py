"""The history of all nights, in one database: `with history.open(url) as kept: kept.keep(run)`.

A run is kept whole or not at all, and once: the same id again changes nothing. Threads may share what `open` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from edgeship import tools
from edgeship.errors import BadInput, near_miss
from edgeship.history.figures import (
    COLUMN,
    UNIT,
    CaseHistory,
    CaseNight,
    DeviceHealth,
    Holding,
    Level,
    Point,
)
from edgeship.nightly_record import Case, Finding, HealthEvent, NightRecord, Run, now

if TYPE_CHECKING:
    from pathlib import Path

    from edgeship.history.lease import Lease

__all__ = ["METRICS", "CaseHistory", "CaseNight", "DeviceHealth", "History", "Holding", "Level", "Point", "open"]
METRICS = tuple(COLUMN)
LEASE_S = 60.0


def open(url: str | None = None, *, new: bool = True) -> History:
    """Return the history in a database; the tables are made, or brought up to date, when its with-block begins.

    Args:
        url: `postgresql://USER@HOST/DATABASE`, `sqlite:///FILE` or the path of a file; None: `$EDGESHIP_HISTORY`, else
            `history.sqlite` beside edgeship's store.
        new: False: a file that was asked for has to be there.

    Raises:
        MissingTool: SQLAlchemy, or PostgreSQL's driver, is not installed.
        BadInput: the URL names no database that a history can be kept in, or a file that is not there.
    """
    tools.versions(("sqlalchemy", "alembic"))
    return History(url, new=new)


class History:
    """A database of nights. Use it with `with`: that connects, upgrades its tables, and closes every connection."""

    def __init__(self, url: str | None = None, *, new: bool = True) -> None:
        from edgeship.history.database import Database

        self._database = Database(url, new=new)

    @property
    def where(self) -> str:
        """Name the database as messages may: without its password."""
        return self._database.where

    def __enter__(self) -> History:
        from edgeship.history import revision

        revision.upgrade(self._database)
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    # Writing

    def begin(self, night: NightRecord) -> bool:
        """Keep a night's plan: its suite, cases and options; return False when it was begun before."""
        from edgeship.history import keeping

        with self._database.writing() as connection:
            return keeping.begin(connection, night)

    def end(self, night_id: str, at: str | None = None) -> None:
        """Keep that a night came to its end, now unless told otherwise; the first time stands.

        Raises:
            BadInput: it was never begun.
        """
        from edgeship.history import keeping

        with self._database.writing() as connection:
            keeping.end(connection, night_id, at or now())

    def keep(self, *runs: Run, lease: Lease | None = None) -> int:
        """Keep runs, all of them or none; return how many are new: one whose id is there changes nothing.

        Args:
            lease: refuse when this lease is over: another may have had the device meanwhile.

        Raises:
            BadInput: a run is of a night that was never begun.
            DeviceFault: the lease was lost.
        """
        from edgeship.history import keeping
        from edgeship.history import lease as leasing

        with self._database.writing() as connection:
            if lease is not None:
                leasing.require(connection, lease)
            return keeping.keep(connection, runs)

    def keep_findings(self, *findings: Finding) -> None:
        """Keep verdicts; one on the same night, case and metric takes the place of the earlier one."""
        from edgeship.history import keeping

        with self._database.writing() as connection:
            keeping.keep_findings(connection, findings)

    def keep_health(self, *events: HealthEvent) -> None:
        """Keep what happened to devices; the same event again changes nothing."""
        from edgeship.history import keeping

        with self._database.writing() as connection:
            keeping.keep_health(connection, events)

    def accept(self, case: Case, artifact_sha256: str, *, at: str | None = None) -> int:
        """Make an artifact what a case is held against: nights that begin later are a new era. Return its number."""
        from edgeship.history import keeping

        with self._database.writing() as connection:
            return keeping.accept(connection, case, artifact_sha256, at or now())

    # Reading

    def night(self, night_id: str) -> NightRecord:
        """Return a night with its runs, samples included, its verdicts and health events.

        Raises:
            BadInput: there is no such night.
        """
        from edgeship.history import reading

        with self._database.reading() as connection:
            return reading.night_record(connection, night_id)

    def unfinished(self, suite: str) -> NightRecord | None:
        """Return the newest night of a suite if it did not come to its end."""
        from edgeship.history import reading

        with self._database.reading() as connection:
            found = reading.newest_night(connection, suite)
            return None if found is None or found[1] is not None else reading.night_record(connection, found[0])

    def latest(self, suite: str) -> NightRecord | None:
        """Return the newest night of a suite that came to its end."""
        from edgeship.history import reading

        with self._database.reading() as connection:
            found = reading.newest_ended(connection, suite)
            return None if found is None else reading.night_record(connection, found)

    def cases(self, pattern: str | None = None) -> tuple[Case, ...]:
        """Return the cases whose name, model or device a pattern (`*`, `?`) fits."""
        from edgeship.history import reading

        with self._database.reading() as connection:
            return tuple(reading.cases(connection, pattern))

    def find(
        self, *, night: str | None = None, case: Case | None = None, role: str | None = None, artifact: str | None = None
    ) -> tuple[Run, ...]:  # fmt: skip
        """Return whole runs, samples included, in the order in which they were made."""
        from edgeship.history import reading
        from edgeship.history.schema import runs

        with self._database.reading() as connection:
            where = [
                column == value
                for column, value in ((runs.c.night_id, night), (runs.c.role, role), (runs.c.artifact_sha256, artifact))
                if value is not None
            ]
            if case is not None:
                where.append(runs.c.case_id == reading.case_number(connection, case))
            return tuple(reading.runs(connection, *where))

    def nights(self, case: Case, metric: str = "latency", limit: int | None = None) -> tuple[CaseNight, ...]:
        """Return the last nights of a case, oldest first, as the gate looks at them; loads no samples.

        Raises:
            BadInput: there is no such metric.
        """
        from edgeship.history import reading, series

        _known_metric(metric)
        with self._database.reading() as connection:
            number = reading.case_number(connection, case)
            return () if number is None else series.nights(connection, [number], [metric], limit)[number, metric]

    def histories(
        self, pattern: str | None = None, metric: str = "latency", limit: int | None = None
    ) -> tuple[CaseHistory, ...]:
        """Return the last nights of every case that a pattern fits (name, model or device), cases in order.

        Raises:
            BadInput: there is no such metric, or no such case.
        """
        from edgeship.history import reading, series

        _known_metric(metric)
        with self._database.reading() as connection:
            found = reading.cases(connection, pattern)
            if pattern is not None and not found:
                raise self._no_case(pattern, reading.cases(connection))
            nights = series.nights(connection, list(found.values()), [metric], limit)
            return tuple(
                CaseHistory(case, metric, UNIT[metric], nights[number, metric]) for case, number in found.items()
            )

    def by_metric(self, case: Case, limit: int | None = None) -> Mapping[str, tuple[CaseNight, ...]]:
        """Return the last nights of a case for every metric, oldest first: what `nights` gives, all in one go."""
        from edgeship.history import reading, series

        with self._database.reading() as connection:
            number = reading.case_number(connection, case)
            if number is None:
                return dict.fromkeys(METRICS, ())
            found = series.nights(connection, [number], METRICS, limit)
            return {metric: found[number, metric] for metric in METRICS}

    def _no_case(self, pattern: str, known: Iterable[Case]) -> BadInput:
        names = sorted({word for case in known for word in (case.name, case.model, case.device)})
        guess = near_miss(pattern, names)
        question = f"; did you mean '{guess}'?" if guess else ""
        hint = "edgeship history lists all" if names else "run a suite first: edgeship nightly SUITE"
        return BadInput(f"{self.where}: no case '{pattern}'{question}", hint=hint)

    def points(self, case: Case, metric: str = "latency") -> tuple[Point, ...]:
        """Return every run of a case as a page draws it, oldest first; loads no samples.

        Raises:
            BadInput: there is no such metric.
        """
        from edgeship.history import reading, series

        _known_metric(metric)
        with self._database.reading() as connection:
            number = reading.case_number(connection, case)
            return () if number is None else series.points(connection, number, metric)

    def findings(self, case: Case, metric: str | None = None) -> tuple[Finding, ...]:
        """Return the verdicts of a case in all nights, oldest first; on one metric, or on all."""
        from edgeship.history import reading

        if metric is not None:
            _known_metric(metric)
        with self._database.reading() as connection:
            number = reading.case_number(connection, case)
            return () if number is None else reading.findings_of_case(connection, case, number, metric)

    def manifest(self, sha256: str) -> Mapping[str, Any]:
        """Return the manifest that a point names.

        Raises:
            BadInput: there is no such manifest.
        """
        from edgeship.history import reading

        with self._database.reading() as connection:
            found: Mapping[str, Any] = reading.manifest(connection, sha256)
            return found

    def manifests(self, sha256s: Iterable[str | None]) -> Mapping[str, Mapping[str, Any]]:
        """Return the manifests that points name, each once: sha256 → manifest; None, and what is not there, is left out."""
        from edgeship.history import reading

        with self._database.reading() as connection:
            return dict(reading.manifests(connection, {sha for sha in sha256s if sha is not None}))

    def levels(self, case: Case) -> tuple[Level, ...]:
        """Return what was accepted for a case, oldest first: the last one is what it is held against."""
        from edgeship.history import reading

        with self._database.reading() as connection:
            number = reading.case_number(connection, case)
            return () if number is None else reading.levels(connection, case, number)

    def health(self, device: str) -> DeviceHealth:
        """Return what happened to a device, and whether it is quarantined."""
        from edgeship.history import reading

        with self._database.reading() as connection:
            return reading.device_health(connection, device)

    def export(self, path: Path, pattern: str | None = None) -> int:
        """Write the runs of the cases that a pattern fits to a .json, .csv or .parquet file; return how many.

        Raises:
            BadInput: the file's ending is none of these, or it cannot be written there.
            NothingToDo: there is no run to write.
            MissingTool: Parquet, without pyarrow.
            StageFailed: no space is left.
        """
        from edgeship.history import export

        with self._database.reading() as connection:
            return export.export(connection, path, pattern)

    # Devices

    def lease(
        self, device_key: str, *, holder: str, seconds: float = LEASE_S, wait_s: float = 0.0,
        on_lost: Callable[[], None] | None = None,
    ) -> AbstractContextManager[Lease]:  # fmt: skip
        """Give a device to one holder: see `lease.hold`.

        Raises:
            DeviceFault: `busy`; it names the holder and since when.
        """
        from edgeship.history import lease

        return lease.hold(self._database, device_key, holder=holder, seconds=seconds, wait_s=wait_s, on_lost=on_lost)

    def holding(self, device_key: str) -> Holding | None:
        """Return who holds a device now, or None."""
        from edgeship.history import lease

        with self._database.reading() as connection:
            return lease.holding(connection, device_key)


def _known_metric(metric: str) -> None:
    if metric not in COLUMN:
        from edgeship.errors import unknown

        raise unknown("metric", metric, COLUMN)
