"""What runs on an Edge TPU, for people on stdout: the forecast, and what a compiled file holds."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgeship.report import edgetpu_figures
from edgeship.report.terminal import size
from edgeship.run_edgetpu import CompiledFile, Forecast, Placement

_BAR = 40
_COLORS = {"certain": "green", "likely": "yellow", "unknown": "red"}


class EdgeTpuTerminal:
    """Prints one result; owns stdout."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def forecast(self, path: str, target: str, found: Forecast) -> None:
        """Print a forecast: how much maps, what does not and why, and what to change."""
        mapped = sum(entry.on == "edgetpu" for entry in found.operators)
        beside = "what the compiler made stands below" if found.compiler is not None else "made without the compiler"
        self.console.print(
            f"{_verdict(found)} {escape(path)} for {escape(target)}, Edge TPU runtime {found.runtime}: a forecast, {beside}"
        )
        self.console.print(
            f"  {_bar(found.edgetpu_share)} {mapped} of {len(found.operators)} operations ({found.edgetpu_share:.0%}), "
            f"{found.mac_share:.1%} of the work, {edgetpu_figures.parts(found)}"
        )
        self.console.print(f"  [dim]parameters[/]  {size(found.parameter_bytes)}, {edgetpu_figures.memory(found)}")
        if found.refused:
            self.console.print(f"  [bold red]the compiler would refuse this file[/]: {escape(found.refused)}")
        self._table(found.operators)
        for text in found.suggestions:
            self.console.print(f"  [bold]→[/] {escape(text)}")

    def compiled(self, found: CompiledFile, segments: Sequence[CompiledFile] = ()) -> None:
        """Print what a compiled file holds: its packages, what stayed on the CPU, and the model's other segments."""
        left = ", ".join(f"{count} {name}" for name, count in found.cpu_operators.items()) or "nothing"
        count = len(found.packages)
        rows = [("compiled", f"for the Edge TPU, {count} part{'s' * (count != 1)}"), ("on the CPU", left)]
        if found.cached_bytes is not None and found.streamed_bytes is not None:
            rows.append(
                ("weights", f"{size(found.cached_bytes)} cached on the chip, {size(found.streamed_bytes)} streamed")
            )
        if found.instruction_bytes is not None:
            rows.append(("instructions", f"{size(found.instruction_bytes)}, for runtime {found.min_runtime} or newer"))
        elif count:
            rows.append(
                ("package", f"{size(sum(one.size_bytes for one in found.packages))}, of a form that is not known")
            )
        if found.segment is not None:
            lacking = f"; missing beside it: {', '.join(found.segment.missing)}" if found.segment.missing else ""
            rows.append(("segment", f"{found.segment.number} of {found.segment.of} of {found.segment.stem}{lacking}"))
        for one in segments:
            rows.append((f"segment {one.segment.number if one.segment else ''}", _segment(one)))
        width = max(len(name) for name, _ in rows)
        for name, text in rows:
            self.console.print(f"  [dim]{name:<{width}}[/]  {escape(text)}")

    def _table(self, operators: Sequence[Placement]) -> None:
        """Print a row a kind of operation and fate, as the compiler's own log has it."""
        table = Table(
            "  operation", "count", "runs on", "confidence", "why", box=None, header_style="dim", pad_edge=False
        )
        for row in edgetpu_figures.rows(operators):
            color = "yellow" if row.where == "CPU" else "green"
            table.add_row(
                f"  {escape(row.name)}", str(row.count), f"[{color}]{row.where}[/]",
                f"[{_COLORS[row.confidence]}]{row.confidence}[/]", escape(row.why),
            )  # fmt: skip
        self.console.print(table)


def _bar(share: float) -> str:
    full = round(share * _BAR)
    return f"[green]{'█' * full}[/][dim]{'░' * (_BAR - full)}[/]"


def _verdict(found: Forecast) -> str:
    if found.refused or not found.subgraphs:
        return "[bold white on red] CPU ONLY [/]"
    return "[bold white on green] ALL MAPS [/]" if not found.cpu_operators else "[bold black on yellow] IN PART [/]"


def _segment(found: CompiledFile) -> str:
    weights = "" if found.cached_bytes is None else f", {size(found.cached_bytes)} of weights cached"
    streamed = f", {size(found.streamed_bytes)} streamed" if found.streamed_bytes else ""
    left = sum(found.cpu_operators.values())
    return f"{size(found.size_bytes)}{weights}{streamed}, {left} operation{'s' * (left != 1)} on the CPU"
