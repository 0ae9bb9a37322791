"""A night for people at a terminal, on stdout: its plan before it, its verdicts after it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgeship.nightly_record import Case, NightRecord
from edgeship.report.night_summary import Comparison, summarize

_BADGES = {
    "missed": "[bold white on red] {} [/]", "doubtful": "[bold black on yellow] {} [/]", "passed": "[bold white on green] {} [/]",
}  # fmt: skip
_COLOURS = {"bad": "bold red", "doubt": "yellow", "good": "green", "": "dim"}
_MOST_SAME = 30


class NightTerminal:
    """Prints what a night is going to do and what it came to. Whatever a board or a file said is shown as it is."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def plan(self, night: NightRecord, *, artifacts: int, notes: Sequence[str] = ()) -> None:
        """Print what is going to be measured where.

        Args:
            artifacts: how many have to be built, or fetched from the store.
            notes: what else is worth knowing: devices left out, runs kept from before.
        """
        cases = sorted(night.cases, key=lambda case: (case.device, case.model, case.recipe, case.target))
        devices = len({case.device for case in cases})
        counts = ", ".join([_count(len(cases), "case"), _count(devices, "device"), _count(artifacts, "artifact")])
        begun = f"; night {_shown(night.id)}" if night.began else ""
        self.console.print(f"[bold]{_shown(night.suite)}[/]: {counts}{begun}")
        for device, on_it in groupby(cases, key=lambda case: case.device):
            self.console.print(f"  [bold]{_shown(device)}[/]")
            for case in on_it:
                self.console.print(f"    {_shown(case.model)} [dim]{_shown(case.recipe)} for {_shown(case.target)}[/]")
        for note in notes:
            self.console.print(f"  [dim]{_shown(note)}[/]")

    def night(self, night: NightRecord) -> None:
        """Print a night: the verdict first, then every comparison with the worst on top, then what was not measured."""
        summary = summarize(night)
        badge = _BADGES[summary.kind].format(_shown(summary.title.upper()))
        self.console.print(f"{badge} {_shown(night.suite)}, night {_shown(night.id)}")
        self.console.print(f"  {_shown(summary.sentence)}")
        same = [one for one in summary.comparisons if one.verdict.decision == "same"]
        shown = [one for one in summary.comparisons if one.verdict.decision != "same"] + same[:_MOST_SAME]
        if shown:
            self.console.print(_table(shown))
        if len(same) > _MOST_SAME:
            self.console.print(f"  [dim]and {len(same) - _MOST_SAME} more without a change[/]")
        for one in summary.comparisons:
            if one.verdict.decision in ("slower", "faster"):
                self.console.print(f"  [{_COLOURS[one.colour]}]{_case(one.case)}[/] {_shown(one.why)}")
        for lost in summary.lost:
            self.console.print(f"  [bold yellow]not measured[/] {_case(lost.case)}: {_shown(lost.words)}")
        for case, fault in summary.overcome:
            self.console.print(f"  [dim]overcome[/] {_case(case)}: {_shown(fault.message)}")
        for event in night.health:
            self.console.print(f"  [yellow]{event.event}[/] {_shown(event.device)}: {_shown(event.reason)}")


def _table(comparisons: Sequence[Comparison]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=True, collapse_padding=True)
    for head in ("case", "metric", "verdict", "change", "figure"):
        right = head == "change"
        table.add_column(head, overflow="fold", no_wrap=head != "case", justify="right" if right else "left")
    for one in comparisons:
        simulated = " [bold blue]simulated[/]" if one.simulated else ""
        table.add_row(
            _case(one.case), one.metric, f"[{_COLOURS[one.colour]}]{one.word}[/]", one.change or "-",
            f"{_shown(one.figure)}{simulated}",
        )  # fmt: skip
    return table


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _case(case: Case) -> str:
    return f"{_shown(case.model)} [dim]{_shown(case.recipe)}[/] @{_shown(case.device)}"


def _shown(text: str) -> str:
    """Return text with its markup and its control characters made harmless: what a board says may move no cursor."""
    return escape("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text))
