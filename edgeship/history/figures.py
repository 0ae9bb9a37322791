"""What queries give: figures without samples, ready for the gate, the terminal and the pages."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.night import Night
from edgeship.nightly_record import Case, HealthEvent

# Each metric → the column of `runs` that holds it.
COLUMN: dict[str, str] = {
    "latency": "latency_ms", "memory": "memory_mib", "size": "size_bytes", "quality": "quality",
}  # fmt: skip
# The verdict on outputs: kept where they were wrong, which no figure of that night may hide.
GOLDEN = "golden"
UNIT: dict[str, str] = {"latency": "ms", "memory": "MiB", "size": "bytes", "quality": ""}


@dataclass(frozen=True)
class CaseNight:
    """One case in one night: what the gate looks at, and which artifacts these runs were of.

    Attributes:
        figures: of each valid run its p50 (or memory, size, quality), in the order in which they were made, by role. Its
            `era` changes where a level was accepted; its `baseline` is the sha256 of the old artifact.
        runs: all that are kept, also those with a fault and those that are not valid.
        decision: of the metric asked for; None before there is one.
        effect: change against the baseline, as the verdict has it.
        wrong: its outputs on the device were wrong.
    """

    night: str
    suite: str
    began: str
    figures: Night
    new_sha256: str | None
    old_sha256: str | None
    runs: int
    faults: int
    invalid: int
    decision: str | None
    effect: float | None
    wrong: bool = False


@dataclass(frozen=True)
class CaseHistory:
    """One case as a list of cases shows it; `nights` are the last ones, oldest first."""

    case: Case
    metric: str
    unit: str
    nights: tuple[CaseNight, ...]


@dataclass(frozen=True)
class Point:
    """One run as pages draw it; `value` is None where it brought no such figure.

    Attributes:
        low: lower end of the 95 % interval of the p50, ms; latency only. `high` is its upper end.
        hottest_c: greatest temperature that any sensor told before, during or after.
        fault: the cause it ended with.
        era: the same in all nights on one accepted level.
    """

    run: str
    night: str
    role: str
    ordinal: int
    at: str
    at_s: float
    value: float | None
    low: float | None
    high: float | None
    p90_ms: float | None
    cv: float | None
    samples: int | None
    valid: bool | None
    simulated: bool | None
    hottest_c: float | None
    artifact_sha256: str | None
    manifest_sha256: str | None
    fault: str | None
    era: str


@dataclass(frozen=True)
class Level:
    """An artifact that was accepted as what a case is held against; `number` counts from 1."""

    case: Case
    number: int
    artifact_sha256: str
    at: str


@dataclass(frozen=True)
class DeviceHealth:
    """What happened to a device, newest first; `quarantined` is the event that still stands, or None."""

    device: str
    quarantined: HealthEvent | None
    events: tuple[HealthEvent, ...]


@dataclass(frozen=True)
class Holding:
    """Who holds a device since when (seconds since 1970 by the database's clock), and for how long if it is not renewed."""

    device_key: str
    holder: str
    token: int
    since_s: float
    left_s: float
