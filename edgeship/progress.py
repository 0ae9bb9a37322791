"""What a lower row tells the one above while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeship.artifact import Advice


@dataclass(frozen=True)
class Progress:
    """One step of long work: `done` of `total` (0 when unknown), with a short text such as the loss."""

    stage: str
    done: int
    total: int
    text: str = ""


OnProgress = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Drop the step: the callback of callers that show nothing."""


@dataclass(frozen=True)
class StageTold:
    """A stage that has ended: how, why it ran, how long it took, and its result in words."""

    stage: str
    outcome: str
    why: str
    seconds: float
    text: str


@dataclass(frozen=True)
class Listener:
    """The callbacks of one build; each may be left out."""

    on_progress: OnProgress = silent
    on_stage: Callable[[StageTold], None] = lambda told: None
    on_advice: Callable[[Advice], None] = lambda advice: None
