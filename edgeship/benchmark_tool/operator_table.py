"""Reads the table of operations that TFLite's profiler prints, as text or as CSV."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from edgeship.measurement import Operator

_NUMBER = r"-?(?:[0-9]+\.?[0-9]*(?:e[-+]?[0-9]+)?|nan|inf)"
_REGULAR = "Operator-wise Profiling Info for Regular Benchmark Runs:"
_HEADER = re.compile(r"\[node type\]|^node type\s*,", re.IGNORECASE)
_TIMINGS = re.compile(rf"Timings \(microseconds\): count=[0-9]+ .*?(?:avg|curr)=({_NUMBER})(?!.*avg=)")


@dataclass(frozen=True)
class _Row:
    kind: str
    name: str
    ms: float
    percent: float
    sum_percent: float
    calls: int


@dataclass(frozen=True)
class _Table:
    internal: bool  # of a delegate's inside, where it tells of it
    rows: tuple[_Row, ...]
    total_ms: float | None

    def operators(self) -> list[tuple[_Row, float]]:
        """Return each row with its milliseconds in one inference.

        The percents also weigh what runs in some inferences only; those of 2019's builds are of all runs together, so
        they are used where they add up.
        """
        if self.total_ms is None or not self.rows or abs(self.rows[-1].sum_percent - 100) > 1:
            return [(row, row.ms * max(1, row.calls)) for row in self.rows]
        return [(row, row.percent / 100 * self.total_ms) for row in self.rows]


def operators(text: str) -> tuple[Operator, ...] | None:
    """Return the operations of the timed runs in the order they ran, from a text or CSV table; None when there is none.

    A delegate that tells what happens inside it is replaced by what it tells.
    """
    _, mark, regular = text.rpartition(_REGULAR)
    tables = list(_tables(regular if mark else text))
    primary = next((table for table in tables if not table.internal), None)
    if primary is None:
        return None
    found = primary.operators()
    inside = next((table for table in tables if table.internal), None)
    if inside is not None:
        found = [one for one in found if "delegate" not in one[0].kind.lower()] + inside.operators()
    total = sum(ms for _, ms in found)
    return tuple(Operator(_name(row), ms, ms / total if total else 0.0) for row, ms in found)


def _tables(text: str) -> Iterator[_Table]:
    """Give each "Run Order" table, with the total that stands below it."""
    sections = re.split(r"=+ Run Order =+", text)
    for before, section in itertools.pairwise(sections):
        heading = next((line for line in reversed(before.splitlines()) if line.strip()), "")
        lines = section.splitlines()
        start = next((at for at, line in enumerate(lines) if _HEADER.search(line)), None)
        if start is None:
            continue
        pattern = _row_pattern(lines[start])
        rows = []
        for line in lines[start + 1 :]:
            found = pattern.match(line)
            if found is None:
                break
            rows.append(_row(found))
        total = _TIMINGS.search(section)
        yield _Table("Delegate internal" in heading, tuple(rows), float(total[1]) / 1000 if total else None)


def _row(found: re.Match[str]) -> _Row:
    kind, ms, percent, sum_percent, calls, name = found.groups()
    return _Row(kind.strip(), name.strip(), float(ms), float(percent), float(sum_percent), int(calls))


def _row_pattern(header: str) -> re.Pattern[str]:
    """Return the pattern of a table's rows: type, average, percent, sum of percents, calls, name.

    Read from the right, since a type may hold commas and blanks; older tables have a [start] column before [first].
    """
    gap = r"\s*,\s*" if "," in header else r"\s+"
    lead = rf"{_NUMBER}{gap}" * (2 if "start" in header else 1)
    cells = gap.join([rf"({_NUMBER})", rf"({_NUMBER})%", rf"({_NUMBER})%", _NUMBER, r"([0-9]+)", "(.*)"])
    return re.compile(rf"\s*(\S.*?){gap}{lead}{cells}$")


def _name(row: _Row) -> str:
    """Return what a reader tells an operation by: its kind, and the first tensor that it makes."""
    if row.name.startswith("Delegate/"):
        return row.name.removeprefix("Delegate/").replace("\t", ",")
    if not row.name.startswith("["):
        return row.kind
    tensor = row.name[1:].partition("]")[0].partition(",")[0].partition(";")[0]
    return f"{row.kind} {tensor}".strip()
