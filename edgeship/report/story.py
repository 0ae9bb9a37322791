"""What was read of one case, from which its pages and charts are made."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from edgeship.gate import Verdict
from edgeship.history.figures import CaseNight, Point
from edgeship.measurement import BenchRecord
from edgeship.nightly_record import Case


@dataclass(frozen=True)
class Story:
    """All that was read of one case; `others` are its nights by the metrics beside latency, `verdicts` by night."""

    case: Case
    nights: tuple[CaseNight, ...]
    others: Mapping[str, tuple[CaseNight, ...]]
    points: tuple[Point, ...]
    verdicts: Mapping[str, Verdict]
    bench: BenchRecord | None = None

    @property
    def simulated(self) -> bool:
        """Say whether its figures are of a simulator."""
        return any(point.simulated for point in self.points[-20:])


def middle(figures: Sequence[float]) -> float | None:
    """Return the median, or None of nothing."""
    return statistics.median(figures) if figures else None


def moment(at: str) -> datetime:
    """Return an ISO 8601 time in UTC."""
    found = datetime.fromisoformat(at)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
