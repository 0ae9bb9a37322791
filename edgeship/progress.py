"""What a lower row tells the one above while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
