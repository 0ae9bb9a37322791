"""Charts of a history: as wide as the page is, one place a night, each night a link to its row.

The drawing is stretched to the page's width and its strokes are not; words stand beside it as HTML, so that they are as large
on a phone as on a desk. No script: what a point says is its title, and its row in the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import escape

from edgeship.report.drawing import Axis

_WIDE, _HIGH = 1000.0, 100.0
Value = float | None


@dataclass(frozen=True)
class Mark:
    """One night's point: its anchor in the page, what is said when it is pointed at, its colour.

    Without a value a dotted line goes up, unless it is `silent`.
    """

    value: Value
    anchor: str
    words: str
    colour: str = ""
    silent: bool = False


@dataclass(frozen=True)
class Line:
    """A line through the nights, in a colour of the page's."""

    values: Sequence[Value]
    colour: str


@dataclass(frozen=True)
class Panel:
    """All that one drawing shows; everything has one entry a night.

    Attributes:
        name: what is read out, and stands over it.
        marks: the nights' own points.
        scattered: single runs.
        bands: low and high of what was to be expected.
        bars: low and high of an interval.
        lines: others' lines.
        zero: a value at which a line goes across.
        rules: place → kind (`change`, `accepted`): lines that go up.
        labels: place → words under the axis.
        least: the smallest range that is shown.
        height: class of its height.
        scale: what values are multiplied by where their figures are written.
    """

    name: str
    marks: Sequence[Mark]
    scattered: Sequence[Sequence[float]] = ()
    bands: Sequence[tuple[float, float] | None] = ()
    bars: Sequence[tuple[float, float] | None] = ()
    lines: Sequence[Line] = ()
    zero: float | None = None
    rules: Sequence[tuple[int, str]] = ()
    labels: Sequence[tuple[int, str]] = ()
    least: float = 0.0
    height: str = ""
    scale: float = 1.0


def draw(panel: Panel) -> str:
    """Return a panel as HTML; its words are escaped."""
    found = list(_values(panel))
    if not found:
        return ""
    low, high = min(found), max(found)
    margin = max(0.08 * (high - low), (panel.least - (high - low)) / 2, 1e-4 * abs(high), 1e-9)
    y = Axis(low - margin if low < 0 else max(low - margin, 0.0), high + margin, _HIGH, 0.0)
    written = Axis(y.low * panel.scale, y.high * panel.scale, _HIGH, 0.0)
    ticks = written.ticks(3 if panel.height else 4)
    drawn = "".join((*_behind(panel, y, [tick / panel.scale for tick in ticks]), *_points(panel, y)))
    shown = "".join(
        f'<span class="y" style="top:{written.at(tick):.1f}%">{written.label(tick)}</span>' for tick in ticks
    )
    under = "".join(
        f'<span class="x{" fine" if number % 2 else ""}" style="left:{_across(panel, place) / 10:.1f}%">{escape(words)}</span>'
        for number, (place, words) in enumerate(panel.labels)
    )
    svg = f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label="{escape(panel.name)}">{drawn}</svg>'
    return (
        f'<div class="plot {panel.height}"><div class="area">{shown}{svg}</div><div class="under">{under}</div></div>'
    )


def spark(values: Sequence[Value], colour: str) -> str:
    """Return a small line through the last nights, the last one marked."""
    told = [(place, value) for place, value in enumerate(values) if value is not None]
    if not told:
        return ""
    low, high = min(value for _, value in told), max(value for _, value in told)
    margin = max(0.15 * (high - low), 0.02 * abs(high), 1e-9)
    x, y = Axis(0, max(len(values) - 1, 1), 2, 98), Axis(low - margin, high + margin, 30, 2)
    points = [(x.at(place), y.at(value)) for place, value in told]
    line = "M" + "L".join(f"{across:.1f} {up:.1f}" for across, up in points)
    across, up = points[-1]
    end = f'<path class="dot {colour}" d="M{across:.1f} {up:.1f}h.01"/>'
    return f'<svg class="spark" viewBox="0 0 100 32" preserveAspectRatio="none" aria-hidden="true"><path class="new" d="{line}"/>{end}</svg>'


def interval(effect: float, ends: tuple[float, float], tolerance: float, colour: str) -> str:
    """Return a change and its interval beside what would still be the same: between the two thin lines."""
    x = Axis(-2.5 * tolerance, 2.5 * tolerance, 1, 99)
    low, high = (x.at(end) for end in ends)
    limits = "".join(f"M{x.at(side * tolerance):.1f} 2V14" for side in (-1, 1))
    return (
        f'<svg class="ci" viewBox="0 0 100 16" preserveAspectRatio="none" aria-hidden="true"><path class="grid" d="{limits}"/>'
        f'<path class="zero" d="M{x.at(0):.1f} 0V16"/><path class="bar {colour}" d="M{low:.1f} 8H{max(high, low + 0.01):.2f}"/>'
        f'<path class="dot {colour}" d="M{x.at(effect):.1f} 8h.01"/></svg>'
    )


def _values(panel: Panel) -> Iterator[float]:
    """Yield all that the axis has to hold."""
    yield from (mark.value for mark in panel.marks if mark.value is not None)
    for runs in panel.scattered:
        yield from runs
    for ends in (*panel.bands, *panel.bars):
        yield from ends or ()
    for line in panel.lines:
        yield from (value for value in line.values if value is not None)
    if panel.zero is not None:
        yield panel.zero


def _across(panel: Panel, place: float) -> float:
    return (place + 0.5) * _WIDE / len(panel.marks)


def _behind(panel: Panel, y: Axis, ticks: Iterable[float]) -> Iterator[str]:
    """Yield what lies behind the points: grid, band, rules, intervals, lines."""
    grid = "".join(f"M0 {y.at(tick):.1f}H1000" for tick in ticks)
    yield f'<path class="grid" d="{grid}"/>'
    breaks = [place for place, kind in panel.rules if kind == "accepted"]
    for first, last in _stretches([band is not None for band in panel.bands], breaks):
        ends = [
            (_across(panel, place), band) for place, band in enumerate(panel.bands) if first <= place < last and band
        ]
        half = 0.5 * _WIDE / len(panel.marks)
        upper = [
            (ends[0][0] - half, ends[0][1][1]),
            *((x, band[1]) for x, band in ends),
            (ends[-1][0] + half, ends[-1][1][1]),
        ]
        lower = [
            (ends[0][0] - half, ends[0][1][0]),
            *((x, band[0]) for x, band in ends),
            (ends[-1][0] + half, ends[-1][1][0]),
        ]
        outline = "L".join(f"{x:.1f} {y.at(value):.2f}" for x, value in (*upper, *reversed(lower)))
        yield f'<path class="band" d="M{outline}Z"/>'
    if panel.zero is not None:
        yield f'<path class="zero" d="M0 {y.at(panel.zero):.1f}H1000"/>'
    for place, kind in panel.rules:
        x = _across(panel, place - 0.5)
        yield f'<path class="{kind}" d="M{x:.1f} 0V100"/>'
    bars = "".join(
        f"M{_across(panel, place):.1f} {y.at(ends[0]):.1f}V{y.at(ends[1]):.1f}"
        for place, ends in enumerate(panel.bars)
        if ends
    )
    if bars:
        yield f'<path class="bars" d="{bars}"/>'
    for line in panel.lines:
        yield _line(panel, y, line.values, line.colour)


def _points(panel: Panel, y: Axis) -> Iterator[str]:
    runs = "".join(
        f"M{_across(panel, place):.1f} {y.at(value):.1f}h.01"
        for place, values in enumerate(panel.scattered)
        for value in values
    )
    if runs:
        yield f'<path class="runs" d="{runs}"/>'
    yield _line(panel, y, [mark.value for mark in panel.marks], "new")
    for place, mark in enumerate(panel.marks):
        if mark.value is None and mark.silent:
            continue
        x = _across(panel, place)
        shape = (
            f'class="none" d="M{x:.1f} 4V96"'
            if mark.value is None
            else f'class="dot {mark.colour}" d="M{x:.1f} {y.at(mark.value):.1f}h.01"'
        )
        yield f'<a href="#{mark.anchor}"><title>{escape(mark.words)}</title><path {shape}/></a>'


def _line(panel: Panel, y: Axis, values: Sequence[Value], colour: str) -> str:
    """Return a line that is broken where a night has no value."""
    parts = []
    for first, last in _stretches([value is not None for value in values]):
        points = [
            f"{_across(panel, place):.1f} {y.at(value):.1f}"
            for place, value in enumerate(values)
            if first <= place < last and value is not None
        ]
        parts.append("M" + "L".join(points))
    return f'<path class="{colour}" d="{"".join(parts)}"/>' if parts else ""


def _stretches(there: Sequence[bool], breaks: Sequence[int] = ()) -> Iterator[tuple[int, int]]:
    """Yield where something begins and ends to be there; at a break it ends and begins again."""
    since: int | None = None
    for place, told in enumerate((*there, False)):
        if since is not None and (not told or place in breaks):
            yield since, place
            since = None
        if told and since is None:
            since = place
