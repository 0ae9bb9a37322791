"""What a night leaves behind: runs with their raw samples or their faults, and what the gate found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from edgeship.gate import Verdict
from edgeship.measurement import BenchRecord

Role = Literal["new", "old", "reference"]
Cause = Literal["mistake", "device", "timeout", "conditions", "stage"]


def now() -> str:
    """Return this moment as records have it: ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, order=True)
class Case:
    """One model by one recipe for one target on one device: what has a history of its own."""

    model: str
    target: str
    recipe: str
    device: str

    @property
    def name(self) -> str:
        """Return it in one word, as `--only` and the pages have it."""
        return f"{self.model}/{self.target}/{self.recipe}@{self.device}"


@dataclass(frozen=True)
class Fault:
    """Why a run brought no figure: its cause, the words, the exit code, and how often it was tried."""

    cause: Cause
    message: str
    exit_code: int
    tries: int = 1


@dataclass(frozen=True)
class Run:
    """One artifact measured once on one device, or the fault that it ended with; kept whole or not at all.

    Attributes:
        id: made of night, case, role and ordinal, so that no run is kept twice.
        ordinal: place in the order in which the case's runs were made that night.
        at: when it began, ISO 8601 in UTC.
        bench: None when it ended with a fault.
        manifest: the build's manifest behind the artifact.
    """

    id: str
    night: str
    suite: str
    case: Case
    role: Role
    ordinal: int
    at: str
    artifact_sha256: str | None
    bench: BenchRecord | None = None
    fault: Fault | None = None
    manifest: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Finding:
    """The gate's verdict on one metric of one case in one night."""

    night: str
    case: Case
    verdict: Verdict
    baseline_sha256: str | None
    artifact_sha256: str | None


@dataclass(frozen=True)
class HealthEvent:
    """What happened to a device: quarantined, released, power-cycled; and why."""

    night: str
    device: str
    at: str
    event: Literal["quarantined", "released", "power-cycled", "unhealthy"]
    reason: str


@dataclass(frozen=True)
class NightRecord:
    """One run of a suite, from its plan to its end; `ended` is None while it runs, or after it was killed."""

    id: str
    suite: str
    began: str
    ended: str | None
    cases: tuple[Case, ...]
    runs: tuple[Run, ...] = ()
    findings: tuple[Finding, ...] = ()
    health: tuple[HealthEvent, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
