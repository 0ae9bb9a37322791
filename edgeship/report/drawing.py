"""Strokes of a plain chart, as SVG that takes its colours and its typeface from the page's own style."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A range of values laid over a range of the drawing's units."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return where a value lies; what is outside lies on the edge."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        share = (self._scaled(min(max(value, self.low), self.high)) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, about: int = 4) -> list[float]:
        """Return values to mark: powers of ten on a logarithmic axis, else about so many round ones."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            marked = [10.0**power for power in powers]
            if len(marked) > 2:
                return marked
            finer = (factor * 10.0**power for power in range(powers.start - 1, powers.stop) for factor in (1, 2, 5))
            return [value for value in finer if self.low <= value <= self.high]
        found = self._round_ones(about)
        return found if len(found) > 1 else self._round_ones(2 * about)

    def _round_ones(self, about: int) -> list[float]:
        rough = (self.high - self.low) / about
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(count * step, 12) for count in range(first, last + 1)]

    def label(self, value: float) -> str:
        """Return a tick's figure, with as many digits as tell it from the next."""
        top, span = max(abs(self.low), abs(self.high)), self.high - self.low
        digits = math.ceil(math.log10(top / span)) + 3 if top > 0 else 6
        return f"{value:,.{max(digits, 6)}g}"


def frame(x: Axis, y: Axis, across: str, up: str, *, whole: bool = False) -> list[str]:
    """Return grid lines, figures at the ticks, and the axes' names; `whole` marks whole numbers only along x."""
    parts = levels(x, y, up)
    for value in x.ticks():
        if whole and value != int(value):
            continue
        if not whole:
            parts.append(line([(x.at(value), y.start), (x.at(value), y.end)], "line", 1))
        parts.append(text(x.at(value), y.start + 18, x.label(value), "middle"))
    parts.append(text((x.start + x.end) / 2, y.start + 37, across, "middle"))
    return parts


def levels(x: Axis, y: Axis, up: str, about: int = 4) -> list[str]:
    """Return the lines across and their figures, and the name of what goes up."""
    parts = []
    for value in y.ticks(about):
        parts.append(line([(x.start, y.at(value)), (x.end, y.at(value))], "line", 1))
        parts.append(text(x.start - 7, y.at(value) + 4, y.label(value), "end"))
    parts.append(text(2, y.end - 9, up, "start"))
    return parts


def line(points: Sequence[Point], colour: str, width: float, *, dashed: bool = False) -> str:
    """Return a line through points, in a colour of the page's."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = "; stroke-dasharray: 2 4" if dashed else ""
    style = f"fill: none; stroke: var(--{colour}); stroke-width: {width:g}; stroke-linejoin: round{dash}"
    return f'<polyline points="{path}" style="{style}"/>'


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    """Return a filled rectangle, from its upper left corner."""
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(width, 0):.2f}" height="{max(height, 0):.2f}" style="fill: var(--{colour})"/>'


def text(x: float, y: float, words: str, anchor: str, *, colour: str = "muted") -> str:
    """Return words at a place; they have to be ours, for nothing is escaped here."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill: var(--{colour})">{words}</text>'


def svg(width: int, height: int, parts: Iterable[str], *, name: str = "") -> str:
    """Return the whole drawing; one with a name is read out by it, one without is passed over."""
    told = f'role="img" aria-label="{name}"' if name else 'aria-hidden="true"'
    return f'<svg viewBox="0 0 {width} {height}" {told}>{"".join(parts)}</svg>'
