"""What edgetpu_compiler's words mean, and the next move: data, from `data/edgetpu/statuses.toml`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from pydantic import Field

from edgeship import resources, toml_file
from edgeship.toml_file import Record


class Status(Record):
    """What the compiler says of an operation."""

    text: str
    mapped: bool = False
    meaning: str = Field(min_length=10)
    suggestion: str | None = None
    threads: tuple[int, ...] = Field(min_length=1, description="public issues where the text stands")


class Failure(Record):
    """What the compiler says of a whole model that it refuses: a pattern over one line."""

    pattern: str
    meaning: str = Field(min_length=10)
    suggestion: str = Field(min_length=10)
    threads: tuple[int, ...] = Field(min_length=1)


class Reasons(Record):
    """The whole file; the most telling failures stand first."""

    source: str = Field(min_length=10)
    date: str
    statuses: tuple[Status, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Refused:
    """A line of the compiler's, what it means and what to do."""

    line: str
    meaning: str
    suggestion: str


@cache
def read() -> Reasons:
    """Return the data.

    Raises:
        BadInput: the file does not fit.
    """
    return toml_file.read(resources.data("edgetpu") / "statuses.toml", Reasons)


def of_status(text: str) -> Status | None:
    """Return what is known of an operation's status, None for one that nothing is known of."""
    return next((one for one in read().statuses if one.text == text), None)


def of_lines(lines: Iterable[str]) -> Refused | None:
    """Return the most telling of some lines with its meaning, None where nothing is known of any."""
    told = list(lines)
    for failure in read().failures:
        for line in told:
            if fnmatchcase(line, failure.pattern):
                return Refused(line, failure.meaning, failure.suggestion)
    return None
