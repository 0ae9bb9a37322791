"""A trial of two artifacts for people at a terminal: the verdict, the figures side by side, every run as a dot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgeship.gate import Verdict
from edgeship.report import sparkline
from edgeship.report.night_summary import METRICS, change, decision_word, value
from edgeship.run_trial import Contestant, TrialRecord, TrialRun

_WIDTH = 44
_BADGES = {
    "worse": "[bold white on red] B IS WORSE [/]", "mixed": "[bold white on red] B IS WORSE AND BETTER [/]",
    "better": "[bold white on green] B IS BETTER [/]", "same": "[bold white on green] NO DIFFERENCE [/]",
    "cannot-tell": "[bold black on yellow] CANNOT TELL [/]",
}  # fmt: skip
_COLOURS = {"slower": "bold red", "faster": "bold green", "same": "green", "cannot-tell": "yellow"}
_PLACE: dict[str, Callable[[Contestant], float | None]] = {
    "latency": lambda one: one.latency_ms, "memory": lambda one: one.memory_mib,
    "size": lambda one: float(one.size_bytes), "quality": lambda one: one.quality,
}  # fmt: skip


class TrialTerminal:
    """Prints one trial; owns stdout. Whatever a board or a file said is shown as it is."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def trial(self, record: TrialRecord) -> None:
        """Print a trial."""
        simulated = " [bold blue]simulated[/]" if record.simulated else ""
        self.console.print(
            f"{_BADGES[record.decision]} on {_shown(record.device)} ({_shown(record.target)}){simulated}"
        )
        for letter, one in (("A", record.a), ("B", record.b)):
            self.console.print(
                f"  [bold]{letter}[/] {_shown(one.artifact)} [dim]{one.sha256[:12]}, {_runs(one.runs)}[/]"
            )
        self.console.print(_table(record))
        self._dots(record.runs)
        for verdict in record.verdicts:
            if verdict.decision != "same" or record.decision in ("same", "cannot-tell"):
                self.console.print(f"  [{_COLOURS[verdict.decision]}]{verdict.metric}[/]: {_shown(verdict.reason)}")
        self._around(record)

    def _dots(self, runs: Sequence[TrialRun]) -> None:
        """Print every run's time as a dot, A and B on one axis."""
        told = {
            side: [run.latency_ms for run in runs if run.side == side and run.counts and run.latency_ms is not None]
            for side in ("a", "b")
        }
        shown = sparkline.scale([*told["a"], *told["b"]], least_share=1e-3)
        if shown is None:
            return
        for side, colour in (("a", "cyan"), ("b", "magenta")):
            drawn = sparkline.dots(told[side], shown, _WIDTH)
            self.console.print(f"  [{colour}]{side.upper()}[/] [dim]▏[/][{colour}]{drawn}[/][dim]▕[/]")
        low, high = value("latency", shown.low), value("latency", shown.high)
        self.console.print(f"    [dim] {low}{high:>{max(_WIDTH - len(low), len(high) + 1)}}[/]")

    def _around(self, record: TrialRecord) -> None:
        """Print what stood around the runs."""
        if len(record.reference_ms) == 2:
            before, after = record.reference_ms
            moved = change("latency", after / before - 1)
            self.console.print(
                f"  [dim]reference[/] {value('latency', before)} before, {value('latency', after)} after ({moved})"
            )
        elif record.reference_ms:
            self.console.print(f"  [dim]reference[/] {value('latency', record.reference_ms[0])}")
        invalid = [run for run in record.runs if not run.valid]
        for reason, count in _counted([reason for run in invalid for reason in run.reasons[:1]]):
            kept = "all the same in the figures" if any(run.counts for run in invalid) else "left out"
            self.console.print(f"  [yellow]not valid[/]: {count} of {len(record.runs)} runs, {kept}: {_shown(reason)}")
        if not record.whole:
            self.console.print("  [yellow]not whole[/]: the runs that the verdict wanted could not be had")
        for doubt, count in _counted(record.doubts):
            alike = f" (and {count - 1} like it)" if count > 1 else ""
            self.console.print(f"  [dim]doubt: {_shown(doubt)}{alike}[/]")
        self.console.print(f"  [dim]took {record.seconds:.0f} s, {_runs(len(record.runs))} in turn[/]")


def _table(record: TrialRecord) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=True, collapse_padding=True)
    for head in ("metric", "A", "B", "change", "95 % interval", "verdict"):
        table.add_column(head, no_wrap=True, justify="left" if head in ("metric", "verdict") else "right")
    for verdict in record.verdicts:
        read = _PLACE[verdict.metric]
        cells = [_value(verdict.metric, read(side)) for side in (record.a, record.b)]
        word = decision_word(verdict.metric, verdict.decision)
        aside = "" if verdict.metric in record.gates else " [dim](not gated)[/]"
        table.add_row(
            verdict.metric, *cells, "-" if verdict.effect is None else change(verdict.metric, verdict.effect),
            _interval(verdict), f"[{_COLOURS[verdict.decision]}]{word}[/]{aside}",
        )  # fmt: skip
    return table


def _interval(verdict: Verdict) -> str:
    if verdict.ci95 is None:
        return "-"
    ends = [change(verdict.metric, end) for end in verdict.ci95]
    if METRICS[verdict.metric].higher_is_better:
        ends.reverse()
    return " … ".join((ends[0].removesuffix(" %"), ends[1]))


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _value(metric: str, number: float | None) -> str:
    return "not told" if number is None else value(metric, number)


def _counted(reasons: Sequence[str]) -> list[tuple[str, int]]:
    """Return one of each kind of reason, kinds being told apart by their first words, with how many there are."""
    kinds: dict[str, list[str]] = {}
    for reason in reasons:
        start = "".join(each for each in reason if not each.isdigit()).strip()[:20]
        kinds.setdefault(start, []).append(reason)
    return [(alike[-1], len(alike)) for alike in kinds.values()]


def _shown(text: str) -> str:
    """Return text with its markup and its control characters made harmless: what a board says may move no cursor."""
    return escape("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text))
