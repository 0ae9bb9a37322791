"""The charts of a case's page: its latency and what was to be expected of it, its change, its device, its other metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from edgeship.history.figures import CaseNight, Point
from edgeship.report import case_charts, expectation
from edgeship.report.case_charts import Line, Mark, Panel
from edgeship.report.night_summary import value
from edgeship.report.story import Story, middle

CHARTED, _OVERVIEW = 120, 240  # nights in a chart · points of the chart of all nights
_OTHERS = {"memory": "Peak memory, MiB", "size": "Size, KiB", "quality": "Quality"}
_KIB = 1024.0
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Chart:
    """A drawing with its title, and what its signs mean."""

    title: str
    drawn: Markup
    key: Sequence[tuple[str, str]] = ()


def charts(story: Story, course: expectation.Course, rows: Sequence[Row]) -> Iterator[Chart]:
    """Yield the charts of the latency; `rows` are the table's, one a night."""
    skipped = max(len(story.nights) - CHARTED, 0)
    nights, shown, labels = story.nights[skipped:], rows[skipped:], _labels(rows[skipped:])
    rules = _rules(nights, [each.place - skipped for each in course.changes if each.place > skipped])
    marks = [_mark(middle(night.figures.new), row) for night, row in zip(nights, shown, strict=True)]
    baseline = [middle(night.figures.old) for night in nights]
    scale, unit = _times(nights)
    latency = Panel(
        f"p50 of each night in {unit}", marks, [night.figures.new for night in nights], course.bands[skipped:],
        lines=[Line(baseline, "old")], rules=rules, labels=labels, scale=scale,
    )  # fmt: skip
    signs = {
        "new": "median of a night", "band": "95 % of unchanged nights", "old": "the baseline beside it",
        "change": "level changed", "accepted": "level accepted", "none": "no figure",
    }  # fmt: skip
    there = {"new", *(kind for _, kind in rules)}
    there |= {"band"} if any(course.bands[skipped:]) else set()
    there |= {"old"} if any(baseline) else set()
    there |= {"none"} if any(mark.value is None for mark in marks) else set()
    title = f"Latency, {unit}{f', the last {CHARTED} nights' if skipped else ''}"
    yield Chart(
        title, Markup(case_charts.draw(latency)), [(kind, words) for kind, words in signs.items() if kind in there]
    )
    if skipped:
        yield Chart(
            f"Latency, {_times(story.nights)[1]}, all {len(rows)} nights",
            Markup(case_charts.draw(_overview(story, rows))),
        )
    if any(night.night in story.verdicts for night in nights):
        yield _effects(story, nights, shown, rules)


def panels(story: Story, rows: Sequence[Row], by_night: Mapping[str, Sequence[Point]]) -> tuple[list[Chart], list[str]]:
    """Return the small charts (what the device did, and the other metrics), and in words what never changed."""
    nights, shown = story.nights[-CHARTED:], rows[-CHARTED:]
    reference = [middle(night.figures.reference) for night in nights]
    warmth = [
        max((p.hottest_c for p in by_night[night.night] if p.hottest_c is not None), default=None) for night in nights
    ]
    scale, unit = _scale(reference)
    told: list[tuple[str, Sequence[float | None], str]] = [
        (f"Reference workload on this device, {unit}", reference, "latency"), ("Hottest sensor, °C", warmth, ""),
    ]  # fmt: skip
    for metric, title in _OTHERS.items():
        others = {night.night: middle(night.figures.new) for night in story.others.get(metric, ())}
        told.append((title, [others.get(night.night) for night in nights], metric))
    drawn, still = [], []
    for title, values, metric in told:
        known = {each for each in values if each is not None}
        if len(known) == 1:
            (only,) = known
            still.append(f"{title.partition(',')[0].lower()} {value(metric, only) if metric else f'{only:.0f} °C'}")
        elif known:
            marks = [_mark(each, row, plain=True) for each, row in zip(values, shown, strict=True)]
            times = {"size": 1 / _KIB, "latency": scale}.get(metric, 1.0)
            panel = Panel(
                title, marks, labels=_labels(shown, 3), height="low", least=0.0 if metric else 1.0, scale=times
            )
            drawn.append(Chart(title, Markup(case_charts.draw(panel))))
    return drawn, still


def _rules(nights: Sequence[CaseNight], changed: Sequence[int]) -> list[tuple[int, str]]:
    eras = [night.figures.era for night in nights]
    accepted = [place for place in range(1, len(eras)) if eras[place] != eras[place - 1]]
    return [(place, "accepted") for place in accepted] + [
        (place, "change") for place in changed if place not in accepted
    ]


def _effects(story: Story, nights: Sequence[CaseNight], rows: Sequence[Row], rules: Sequence[tuple[int, str]]) -> Chart:
    verdicts = [story.verdicts.get(night.night) for night in nights]
    effects = [None if each is None or each.effect is None else 100 * each.effect for each in verdicts]
    bars = [
        None if each is None or each.ci95 is None else (100 * each.ci95[0], 100 * each.ci95[1]) for each in verdicts
    ]
    marks = [
        _mark(effect, row, silent=bool(night.figures.new))
        for effect, row, night in zip(effects, rows, nights, strict=True)
    ]
    panel = Panel(
        "Change against the baseline in percent", marks, bars=bars, zero=0.0, rules=rules, labels=_labels(rows), least=2.0,
        height="low",
    )  # fmt: skip
    return Chart("Change against the baseline, %, with its 95 % interval", Markup(case_charts.draw(panel)))


def _overview(story: Story, rows: Sequence[Row]) -> Panel:
    """Return the chart of all nights: where there are very many, a point stands for several."""
    each = -(-len(rows) // _OVERVIEW)
    starts = range(0, len(rows), each)
    chosen = [
        [figure for night in story.nights[start : start + each] for figure in night.figures.new] for start in starts
    ]
    marks = [_mark(middle(figures), rows[start]) for start, figures in zip(starts, chosen, strict=True)]
    labels = _labels([rows[start] for start in starts])
    scale, unit = _times(story.nights)
    return Panel(f"p50 of all nights in {unit}", marks, labels=labels, height="low", scale=scale)


def _mark(told: float | None, row: Row, *, plain: bool = False, silent: bool = False) -> Mark:
    colour = row["colour"] if row["colour"] != "doubt" and not plain else ""
    return Mark(told, row["anchor"], row["words"], colour, silent)


def _times(nights: Sequence[CaseNight]) -> tuple[float, str]:
    return _scale([figure for night in nights for figure in (*night.figures.new, *night.figures.old)])


def _scale(times_ms: Sequence[float | None]) -> tuple[float, str]:
    """Return what milliseconds are multiplied by where they are written, and the unit: microseconds if all are few."""
    longest = max((each for each in times_ms if each is not None), default=1.0)
    return (1.0, "ms") if longest >= 1 else (1e3, "µs")


def _labels(rows: Sequence[Row], about: int = 7) -> list[tuple[int, str]]:
    """Return some nights' days, evenly apart; with the year where the nights span more than one."""
    days = [row["day"] for row in rows]
    pattern = "%b %Y" if (days[-1] - days[0]).days > 300 else "%d %b"
    step = max(len(rows) // about, 1)
    return [(place, f"{days[place]:{pattern}}") for place in range(step // 2, len(rows), step)]
