"""Figures drawn with characters: a line of bars, dots on a shared axis, a small chart of points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BARS = "▁▂▃▄▅▆▇█"
_DOTS = "·•●"
LEAST_SHARE = 0.05  # of the middle: noise below it is drawn flat, not blown up


@dataclass(frozen=True)
class Scale:
    """A stretch of figures that a drawing shows; figures outside are drawn at its ends."""

    low: float
    high: float

    def place(self, value: float, steps: int) -> int:
        """Return which of so many steps a figure stands on, from 0."""
        share = (value - self.low) / (self.high - self.low)
        return min(max(int(share * steps), 0), steps - 1)


def scale(values: Iterable[float | None], *, least_share: float = LEAST_SHARE) -> Scale | None:
    """Return the stretch that shows all finite figures, at least so wide as a share of their middle; None without any."""
    told = [value for value in values if value is not None and math.isfinite(value)]
    if not told:
        return None
    low, high = min(told), max(told)
    middle = (low + high) / 2
    least = least_share * abs(middle) or 1.0
    if high - low < least:
        low, high = middle - least / 2, middle + least / 2
    return Scale(low, high)


def bars(values: Sequence[float | None], shown: Scale | None = None) -> str:
    """Return a character a figure, higher for more; a space where there is none."""
    shown = shown or scale(values)
    return "".join(
        " " if shown is None or value is None or not math.isfinite(value) else BARS[shown.place(value, len(BARS))]
        for value in values
    )


def dots(values: Iterable[float], shown: Scale, width: int) -> str:
    """Return figures as dots on an axis of so many characters, thicker where several fall together."""
    counts = [0] * width
    for value in values:
        counts[shown.place(value, width)] += 1
    return "".join(" " if not count else _DOTS[min(count, len(_DOTS)) - 1] for count in counts)


def rows(values: Sequence[float | None], shown: Scale, height: int) -> list[list[bool]]:
    """Return a grid of so many rows, the highest first, that says where each figure's point falls."""
    at = [None if value is None else height - 1 - shown.place(value, height) for value in values]
    return [[place == row for place in at] for row in range(height)]
