"""libedgetpu beside a TFLite runtime: how it is asked for, which pairs crash, and what its failures mean.

Facts are data: `data/edgetpu/delegate.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Literal

from pydantic import Field

from edgeship import resources, toml_file
from edgeship.runtime_release import Refusal, numbers
from edgeship.target import Runtime
from edgeship.toml_file import Record


class Pair(Record):
    """The newest release of a runtime that a release of the library works with."""

    delegate: str
    delegate_version: str
    runtime: str
    newest: str
    reason: str = Field(min_length=10)
    threads: tuple[int, ...] = Field(min_length=1)


class Fault(Record):
    """A failure by its words (a pattern): what it means and the next move."""

    pattern: str
    fault: Literal["missing", "mismatch"]
    meaning: str = Field(min_length=10)
    move: str = Field(min_length=10)
    threads: tuple[int, ...] = Field(min_length=1)


class Known(Record):
    """The whole file; the most telling faults stand first."""

    source: str = Field(min_length=10)
    date: str
    pairs: tuple[Pair, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Asked:
    """The library to load on a board, and its options; in both spellings that runtimes take."""

    library: str
    options: Mapping[str, str]

    def request(self) -> dict[str, Any]:
        """Return what the runner is told."""
        return {"library": self.library, "options": dict(self.options)}

    def flags(self) -> tuple[str, ...]:
        """Return benchmark_model's flags; within an option the tool takes no colon (`usb:0`)."""
        told = ";".join(f"{key}:{value}" for key, value in self.options.items())
        return (f"--external_delegate_path={self.library}", *([f"--external_delegate_options={told}"] if told else []))


@cache
def read() -> Known:
    """Return the data.

    Raises:
        BadInput: the file does not fit.
    """
    return toml_file.read(resources.data("edgetpu") / "delegate.toml", Known)


def asked(runtime: Runtime) -> Asked | None:
    """Return the library that a target's runtime loads, None for one that loads none."""
    return Asked(runtime.delegate_library, runtime.delegate_options) if runtime.delegate_library else None


def pair_refusal(wanted: Runtime, *, name: str, version: str | None, library: str | None) -> Refusal | None:
    """Return why a runtime on a board must not load the target's library, or None when nothing is known against it.

    Args:
        name: of the runtime on the board, and its `version`.
        library: the library's version as the board tells it; None where it does not: then the target's.
    """
    if wanted.delegate is None:
        return None
    own = library or wanted.delegate_version or ""
    for pair in read().pairs:
        mine = (pair.delegate, pair.runtime) == (wanted.delegate, name) and same(own, pair.delegate_version)
        if mine and version is not None and numbers(version) > numbers(pair.newest):
            reason = f"{name} {version} cannot be used with {pair.delegate} {pair.delegate_version}: {pair.reason}"
            return Refusal(
                reason, f"the target's pair is {wanted.name} {wanted.version}, with at most {pair.newest} known to work"
            )
    return None


def explained(*lines: str) -> Fault | None:
    """Return what a failure means by the most telling of its lines, None for words that nobody has seen."""
    return next((fault for fault in read().faults if any(fnmatchcase(line, fault.pattern) for line in lines)), None)


def same(version: str, other: str) -> bool:
    """Say whether a package's version (`16.0`, `16.0-1`) is a release; rebuilt ones (`16.0tf2.17`) are others."""
    return version == other or version.startswith(f"{other}-")
