"""The history for people at a terminal: a line a case with its last nights as bars; one case as a chart with its verdicts."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgeship.history.figures import CaseHistory, CaseNight
from edgeship.history_view import CaseView
from edgeship.night import LATENCY
from edgeship.nightly_record import Case
from edgeship.report import expectation, sparkline
from edgeship.report.expectation import Change, Course
from edgeship.report.night_summary import change, decision_word, value

_BARS_SHOWN = 30
_NIGHTS_SHOWN = 10
_HEIGHT, _WIDTH = 9, 72
_COLOURS = {"slower": "bold red", "faster": "bold green", "same": "green", "cannot-tell": "yellow", None: "dim"}
_NO_FIGURE, _LEVEL = "·", "╎"


class HistoryTerminal:
    """Prints the history; owns stdout. Whatever a board or a file said is shown as it is."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def cases(self, where: str, histories: Sequence[CaseHistory]) -> None:
        """Print a line a case: where it stands now, its last nights as bars, and how it was judged; alarms first."""
        if not histories:
            self.console.print(f"{_shown(where)}: no nights yet: edgeship nightly SUITE.toml makes the first")
            return
        nights = {night.night for shown in histories for night in shown.nights}
        last = max((night.began for shown in histories for night in shown.nights), default="")
        self.console.print(
            f"[bold]{_shown(where)}[/]: {_count(len(histories), 'case')}, {_count(len(nights), 'night')} shown, last {_moment(last)}"
        )
        table = Table(box=None, header_style="dim", pad_edge=True, collapse_padding=True)
        for head in ("model", "recipe", "device", histories[0].metric, "last nights", "change", "verdict"):
            right = head in (histories[0].metric, "change")
            folds = head in ("model", "recipe", "device")
            table.add_column(head, overflow="fold", no_wrap=not folds, justify="right" if right else "left")
        several = _several([shown.case for shown in histories])
        for shown in sorted(histories, key=lambda one: (_last(one) != "slower", one.case)):
            table.add_row(*_line(shown, with_target=shown.case in several))
        self.console.print(table)
        alarms = [shown.case.name for shown in histories if _last(shown) == "slower"]
        if alarms:
            self.console.print(f"  [dim]what happened: edgeship history show {_shown(_quoted(alarms[0]))}[/]")

    def case(self, told: CaseView) -> None:
        """Print one case: its chart, where its level changed, tonight's verdicts, its last nights."""
        shown, nights = told.shown, told.shown.nights
        self.console.print(f"[bold]{_shown(told.case.model)}[/] {_shown(_where(told.case))}")
        if not any(night.figures.new for night in nights):
            self.console.print("  [dim]no run of it brought a figure[/]")
        course = _course(shown)
        self._chart(shown, course)
        for each in _telling(course):
            self.console.print(f"  [magenta]change point[/] {_change_point(nights, each)}")
        for level in told.levels[-3:]:
            self.console.print(
                f"  [blue]accepted[/] {level.artifact_sha256[:12]} {_moment(level.at)} [dim](level {level.number})[/]"
            )
        for finding in told.findings:
            verdict = finding.verdict
            word = decision_word(verdict.metric, verdict.decision) if verdict.metric in _METRICS else verdict.decision
            self.console.print(
                f"  [{_COLOURS[verdict.decision]}]{_shown(verdict.metric)} {word}[/] {_shown(verdict.reason)}"
            )
        if nights:
            self.console.print(_nights(shown, nights[-_NIGHTS_SHOWN:]))

    def _chart(self, shown: CaseHistory, course: Course | None) -> None:
        """Print every night as a point, coloured by its verdict, above the band in which it was to be expected."""
        nights = shown.nights[-_WIDTH:]
        middles = [_middle(night.figures.new) for night in nights]
        bands = (course.bands if course else (None,) * len(shown.nights))[-_WIDTH:]
        ends = [end for band in bands if band for end in band]
        drawn = sparkline.scale([*middles, *ends], least_share=0.002)
        if drawn is None:
            return
        names = [value(shown.metric, end) for end in (drawn.high, (drawn.high + drawn.low) / 2, drawn.low)]
        width = max(map(len, names))
        changed = {each.place - (len(shown.nights) - len(nights)) for each in _telling(course)}
        points = sparkline.rows(middles, drawn, _HEIGHT)
        for row in range(_HEIGHT):
            label = {0: names[0], _HEIGHT // 2: names[1], _HEIGHT - 1: names[2]}.get(row, "")
            cells = [
                _cell(night, points[row][place], _inside(bands[place], drawn, row), place in changed)
                for place, night in enumerate(nights)
            ]
            self.console.print(f"  [dim]{label:>{width}} ┤[/]{''.join(cells)}")
        first, last = _moment(nights[0].began)[:10], _moment(nights[-1].began)[:10]
        gap = max(len(nights) - len(first) - len(last), 2)
        self.console.print(f"  [dim]{'':>{width}}  {first}{'':{gap}}{last}[/]")


_METRICS = ("latency", "memory", "size", "quality")


def _several(cases: Sequence[Case]) -> set[Case]:
    """Return the cases that only their target tells apart."""
    kinds = Counter((case.model, case.recipe, case.device) for case in cases)
    return {case for case in cases if kinds[case.model, case.recipe, case.device] > 1}


def _line(shown: CaseHistory, *, with_target: bool) -> tuple[str, ...]:
    nights = shown.nights[-_BARS_SHOWN:]
    now = next((night for night in reversed(nights) if night.figures.new), None)
    middle = None if now is None else _middle(now.figures.new)
    decision = _last(shown)
    word = "-" if decision is None else decision_word(shown.metric, decision)
    effect = nights[-1].effect if nights else None
    lost = f", [yellow]{_count(nights[-1].faults, 'fault')}[/]" if nights and nights[-1].faults else ""
    target = f" [dim]for {_shown(shown.case.target)}[/]" if with_target else ""
    return (
        f"[bold]{_shown(shown.case.model)}[/]",
        f"{_shown(shown.case.recipe)}{target}",
        _shown(shown.case.device),
        "-" if middle is None else value(shown.metric, middle),
        _bars(nights),
        "-" if effect is None else change(shown.metric, effect),
        f"[{_COLOURS[decision]}]{word}[/]{lost}",
    )


def _bars(nights: Sequence[CaseNight]) -> str:
    """Return a bar a night in the colour of its verdict, and a mark where a level was accepted."""
    middles = [_middle(night.figures.new) for night in nights]
    drawn = sparkline.scale(middles)
    parts = []
    for place, (night, middle) in enumerate(zip(nights, middles, strict=True)):
        if place and night.figures.era != nights[place - 1].figures.era:
            parts.append(f"[blue]{_LEVEL}[/]")
        bar = f"[yellow]{_NO_FIGURE}[/]" if middle is None else sparkline.bars([middle], drawn)
        colour = {"slower": "bold red", "faster": "green"}.get(night.decision or "", "")
        parts.append(f"[{colour}]{bar}[/]" if colour and middle is not None else bar)
    return "".join(parts)


def _cell(night: CaseNight, here: bool, expected: bool, changed: bool) -> str:
    if here:
        colour = {"slower": "bold red", "faster": "bold green", "cannot-tell": "yellow"}.get(night.decision or "", "")
        return f"[{colour}]●[/]" if colour else "●"
    if changed:
        return "[magenta]╎[/]"
    return "[dim]░[/]" if expected else " "


def _inside(band: tuple[float, float] | None, drawn: sparkline.Scale, row: int) -> bool:
    if band is None:
        return False
    low, high = (_HEIGHT - 1 - drawn.place(end, _HEIGHT) for end in band)
    return high <= row <= low


def _course(shown: CaseHistory) -> Course | None:
    """Return the bands and change points; the gate's expectation is made of latencies."""
    if shown.metric != "latency" or not shown.nights:
        return None
    return expectation.course(shown.nights, counted=shown.case.device.startswith("virtual"))


def _telling(course: Course | None) -> list[Change]:
    """Return the change points that are worth telling: a long history tells apart what nobody would ask for."""
    return [each for each in course.changes if abs(each.effect) >= LATENCY.smallest] if course else []


def _change_point(nights: Sequence[CaseNight], each: Change) -> str:
    night = nights[each.place]
    since = len(nights) - each.place
    before, after = value("latency", each.before), value("latency", each.after)
    return f"{_moment(night.began)[:10]}: {before} → {after} ({change('latency', each.effect)}), {_count(since, 'night')} ago [dim]{_shown(night.night)}[/]"


def _nights(shown: CaseHistory, nights: Sequence[CaseNight]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=True, collapse_padding=True)
    for head in ("night", "new", "baseline", "change", "verdict", "artifact", "runs"):
        right = head in ("new", "baseline", "change")
        table.add_column(head, overflow="fold", no_wrap=head != "night", justify="right" if right else "left")
    for night in reversed(nights):
        new, old = _middle(night.figures.new), _middle(night.figures.old)
        word = "-" if night.decision is None else decision_word(shown.metric, night.decision)
        lost = [_count(night.faults, "fault")] * bool(night.faults) + [f"{night.invalid} not valid"] * bool(
            night.invalid
        )
        aside = f" [yellow]({', '.join(lost)})[/]" if lost else ""
        table.add_row(
            _shown(night.night),
            "-" if new is None else value(shown.metric, new),
            "-" if old is None else value(shown.metric, old),
            "-" if night.effect is None else change(shown.metric, night.effect),
            f"[{_COLOURS[night.decision]}]{word}[/]",
            (night.new_sha256 or "-")[:12],
            f"{night.runs}{aside}",
        )
    return table


def _last(shown: CaseHistory) -> str | None:
    return shown.nights[-1].decision if shown.nights else None


def _middle(figures: Sequence[float]) -> float | None:
    return statistics.median(figures) if figures else None


def _where(case: Case) -> str:
    return f"{case.recipe} for {case.target} on {case.device}"


def _moment(at: str) -> str:
    """Return a time as people read it, in UTC."""
    return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M") if at else "-"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name


def _shown(text: str) -> str:
    """Return text with its markup and its control characters made harmless: what a board says may move no cursor."""
    return escape("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text))
