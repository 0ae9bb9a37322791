"""What the Edge TPU compiler maps, as data: `data/edgetpu/operations.toml`, and what a compiler reads: `data/edgetpu/compiler-*.toml`.

To add a rule: write it into `operations.toml`, with where it is known from, since which runtime, and how sure it is. A condition
that is not there yet is a function in `edgetpu_conditions.py`.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from edgeship import resources, toml_file
from edgeship.edgetpu_conditions import CONDITIONS, LIMITED, Case
from edgeship.errors import BadInput, near_miss
from edgeship.run_edgetpu import Confidence
from edgeship.toml_file import Record

NEWEST = 10**6


class Known(Record):
    """Where something is known from; what is left out stands at the head of the file."""

    source: str | None = Field(None, min_length=10)
    date: datetime.date | None = None
    confidence: Confidence | None = None
    cure: str | None = Field(None, min_length=10, description="what to change so that it maps")


class Need(Known):
    """A condition that an operation has to meet between two runtimes, both included."""

    condition: str
    limit: int | None = Field(None, ge=0)
    otherwise: Literal["cpu", "doubt"] = "cpu"
    since: int = 0
    until: int = NEWEST

    @field_validator("condition")
    @classmethod
    def _there(cls, name: str) -> str:
        known = {*CONDITIONS, *LIMITED}
        if name not in known:
            guess = near_miss(name, known)
            raise ValueError("no such condition" + (f"; did you mean '{guess}'?" if guess else ""))
        return name

    @model_validator(mode="after")
    def _with_its_number(self) -> Need:
        if (self.condition in LIMITED) != (self.limit is not None):
            raise ValueError(f"{self.condition} takes {'a' if self.condition in LIMITED else 'no'} 'limit'")
        return self


class Rule(Known):
    """Operations that map from a runtime on, and what they need for it; several rules may name one operation."""

    operations: tuple[str, ...] = Field(min_length=1)
    since: int = 0
    needs: tuple[Need, ...] = ()


class Refused(Known):
    """Operations that are known not to map."""

    operations: tuple[str, ...] = Field(min_length=1)


class Table(Record):
    """The whole file; `every` holds what all operations need."""

    source: str = Field(min_length=10)
    date: datetime.date
    confidence: Confidence
    runtimes: tuple[int, ...] = Field(min_length=1)
    every: tuple[Need, ...]
    rule: tuple[Rule, ...]
    refused: tuple[Refused, ...]


class Compiler(Record):
    """One release of the compiler: the newest operations that it reads, and the runtime that it compiles for."""

    name: str
    version: str
    runtime: int
    source: str = Field(min_length=10)
    date: datetime.date
    confidence: Confidence
    custom: tuple[str, ...]
    versions: Mapping[str, tuple[str, ...]] = Field(description="version → the operations of which it is the highest")

    def highest(self) -> dict[str, int]:
        """Return the highest version of each operation that it reads."""
        return {name: int(version) for version, names in self.versions.items() for name in names}


@dataclass(frozen=True)
class Finding:
    """What a rule says of an operation: `maps` False keeps it on the CPU; True with a `rule` is a doubt."""

    maps: bool
    rule: str
    reason: str
    confidence: Confidence
    source: str
    cure: str | None = None


@cache
def read() -> Table:
    """Return the rules that ship with edgeship.

    Raises:
        BadInput: the file does not fit.
    """
    return read_file(resources.data("edgetpu") / "operations.toml")


def read_file(path: Path) -> Table:
    """Return the rules in a file.

    Raises:
        BadInput: it cannot be read, or does not fit (near miss offered); the text starts with the file.
    """
    return toml_file.read(path, Table)


@cache
def compiler() -> Compiler:
    """Return the newest release of the compiler that is known.

    Raises:
        BadInput: a file does not fit.
    """
    found = [toml_file.read(path, Compiler) for path in resources.data("edgetpu").glob("compiler-*.toml")]
    return max(found, key=lambda one: [int(part) for part in one.version.split(".")])


def runtime(number: int | None) -> int:
    """Return the runtime to forecast for: the newest that is known, unless one is named.

    Raises:
        BadInput: nothing is known of that runtime.
    """
    known = read().runtimes
    if number is None:
        return max(known)
    if number not in known:
        raise BadInput(f"runtime {number}: nothing is known of it", hint=f"known: {', '.join(map(str, known))}")
    return number


def findings(case: Case, runtime: int, table: Table | None = None) -> Iterator[Finding]:
    """Yield what the rules say of an operation: first what keeps it on the CPU, then doubts, then that it maps.

    Args:
        case: the operation in its graph.
        runtime: that the file is compiled for.
        table: the rules; by default those that ship with edgeship.
    """
    table = table or read()
    name = case.operator.name
    for refused in table.refused:
        if name in refused.operations:
            yield _finding(table, refused, maps=False, rule="refused", reason="the Edge TPU has no such operation")
    rules = [rule for rule in table.rule if name in rule.operations]
    if case.operator.custom:
        yield _finding(
            table, Known(), maps=False, rule="custom", reason="a custom operation has no place on the Edge TPU"
        )
    elif not rules:
        yield _finding(
            table, Known(confidence="likely"), maps=False, rule="not_listed", reason="not among the operations that the Edge TPU is said to have",
            cure=f"write {name} with operations that the Edge TPU has (coral.ai/docs/edgetpu/models-intro), or compute it in the app",
        )  # fmt: skip
    held = [_held(table, need, case) for need in _needs(table, rules) if need.since <= runtime <= need.until]
    yield from (finding for finding in held if finding is not None and not finding.maps)
    for rule in rules:
        if rule.since > runtime:
            reason = f"mapped from runtime {rule.since} on, not by {runtime}"
            cure = f"compile for runtime {rule.since} or newer"
            yield _finding(table, rule, maps=False, rule="since", reason=reason, cure=cure)
    yield from (finding for finding in held if finding is not None and finding.maps)
    for rule in rules:
        yield _finding(table, rule, maps=True, rule="", reason="maps")


def _needs(table: Table, rules: list[Rule]) -> Iterator[Need]:
    yield from table.every
    for rule in rules:
        for need in rule.needs:
            said = {field: getattr(need, field) or getattr(rule, field) for field in ("source", "date", "confidence")}
            yield need.model_copy(update=said)


def _held(table: Table, need: Need, case: Case) -> Finding | None:
    """Return what a need finds against an operation, or None where it is met."""
    limit = need.limit
    reason = CONDITIONS[need.condition](case) if limit is None else LIMITED[need.condition](case, limit)
    if reason is None:
        return None
    return _finding(table, need, maps=need.otherwise == "doubt", rule=need.condition, reason=reason)


def _finding(table: Table, known: Known, *, maps: bool, rule: str, reason: str, cure: str | None = None) -> Finding:
    source, said = known.source or table.source, known.date or table.date
    return Finding(maps, rule, reason, known.confidence or table.confidence, f"{source} ({said})", cure or known.cure)
