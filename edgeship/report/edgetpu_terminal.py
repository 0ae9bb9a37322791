"""What runs on an Edge TPU, for people on stdout: the forecast, and what a compiled file holds."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgeship.report.terminal import size
from edgeship.run_edgetpu import CompiledFile, Forecast, Placement, weakest

_BAR = 40
_CONSEQUENCES = frozenset({"behind", "other_part"})
_COLORS = {"certain": "green", "likely": "yellow", "unknown": "red"}


class EdgeTpuTerminal:
    """Prints one result; owns stdout."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def forecast(self, path: str, target: str, found: Forecast) -> None:
        """Print a forecast: how much maps, what does not and why, and what to change."""
        mapped = sum(entry.on == "edgetpu" for entry in found.operators)
        self.console.print(
            f"{_verdict(found)} {escape(path)} for {escape(target)}, Edge TPU runtime {found.runtime}: a forecast, made without the compiler"
        )
        self.console.print(
            f"  {_bar(found.edgetpu_share)} {mapped} of {len(found.operators)} operations ({found.edgetpu_share:.0%}), "
            f"{found.mac_share:.1%} of the work, {_parts(found)}"
        )
        self.console.print(f"  [dim]parameters[/]  {size(found.parameter_bytes)}, {_memory(found)}")
        if found.refused:
            self.console.print(f"  [bold red]the compiler would refuse this file[/]: {escape(found.refused)}")
        self._table(found.operators)
        for text in found.suggestions:
            self.console.print(f"  [bold]→[/] {escape(text)}")

    def compiled(self, found: CompiledFile) -> None:
        """Print what a compiled file holds: its packages, and what stayed on the CPU."""
        left = ", ".join(f"{count} {name}" for name, count in found.cpu_operators.items()) or "nothing"
        rows = [
            ("compiled", f"for the Edge TPU, {len(found.packages)} part{'s' * (len(found.packages) != 1)}"),
            ("on the CPU", left),
        ]
        if found.cached_bytes is not None and found.streamed_bytes is not None:
            rows.append(
                ("parameters", f"{size(found.cached_bytes)} cached on the chip, {size(found.streamed_bytes)} streamed")
            )
        if found.instruction_bytes is not None:
            rows.append(("instructions", f"{size(found.instruction_bytes)}, runtime {found.min_runtime} or newer"))
        if found.segment is not None:
            rows.append(("segment", f"{found.segment.number} of {found.segment.of} of {found.segment.stem}"))
        for name, text in rows:
            self.console.print(f"  [dim]{name:<12}[/]  {escape(text)}")

    def _table(self, operators: Sequence[Placement]) -> None:
        """Print a row a kind of operation and fate, the CPU's first, as the compiler's own log has it."""
        table = Table(
            "operation", "count", "runs on", "confidence", "why", box=None, header_style="dim", pad_edge=False
        )
        for group in _grouped(operators):
            first, sure = group[0], weakest(*(entry.confidence for entry in group))
            where = "[green]Edge TPU[/]" if first.on == "edgetpu" else "[yellow]CPU[/]"
            table.add_row(
                f"  {escape(first.name)}", str(len(group)), where, f"[{_COLORS[sure]}]{sure}[/]", escape(_why(group))
            )
        self.console.print(table)


def _grouped(operators: Sequence[Placement]) -> list[list[Placement]]:
    groups: dict[tuple[str, ...], list[Placement]] = {}
    for entry in operators:
        doubt = entry.confidence if entry.on == "edgetpu" else entry.rule
        groups.setdefault((entry.on, entry.name, doubt), []).append(entry)
    return [
        groups[key]
        for key in sorted(groups, key=lambda key: (key[0], groups[key][0].rule in _CONSEQUENCES, groups[key][0].index))
    ]


def _why(group: Sequence[Placement]) -> str:
    first = group[0]
    if first.on == "edgetpu":
        return first.reason if first.confidence != "certain" else ""
    reasons = list(dict.fromkeys(entry.reason for entry in group))
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}"


def _bar(share: float) -> str:
    full = round(share * _BAR)
    return f"[green]{'█' * full}[/][dim]{'░' * (_BAR - full)}[/]"


def _verdict(found: Forecast) -> str:
    if found.refused or not found.subgraphs:
        return "[bold white on red] CPU ONLY [/]"
    return "[bold white on green] ALL MAPS [/]" if not found.cpu_operators else "[bold black on yellow] IN PART [/]"


def _parts(found: Forecast) -> str:
    more = found.possible_subgraphs - found.subgraphs
    parts = f"{found.subgraphs} part{'s' * (found.subgraphs != 1)}"
    return f"{parts} ({more} more with -a)" if more else parts


def _memory(found: Forecast) -> str:
    if found.fits_on_chip is None:
        return "not known whether all are cached on the chip"
    return "cached on the chip" if found.fits_on_chip else "more than the chip holds: streamed at every inference"
