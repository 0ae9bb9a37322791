"""What a chip's compiler made, for people on stdout: the balance over its files, and what stayed on the CPU and why."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgeship import wording
from edgeship.compilation import Compilation, CompiledFiles, CompiledPart
from edgeship.report.terminal import size


class CompilationTerminal:
    """Prints one result; owns stdout."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def compiled(self, found: CompiledFiles) -> None:
        """Print a compilation: a row a file, then each reason why operations stay on the CPU."""
        made = found.made
        whose = " [yellow](edgeship's stand-in: no Edge TPU runs what it makes)[/]" if made.stand_in else ""
        self.console.print(f"[bold]{made.compiler}[/] {made.version}{whose}: {wording.compiled(made)}")
        self._balance(made)
        for line in (line for part in made.parts for line in part.statuses if not line.mapped):
            why = line.meaning or line.status
            self.console.print(f"  {line.count} {line.name} on the CPU: {escape(why)}")
            if line.suggestion:
                self.console.print(f"    [bold]→[/] {escape(line.suggestion)}")
        for path in found.files:
            self.console.print(f"  [dim]written[/]  {escape(str(path))}")

    def _balance(self, made: Compilation) -> None:
        """Print a table a model, under its name where there are several: beside figures, 80 columns have no room for names."""
        total = sum(part.parameter_bytes or 0 for part in made.parts)
        models = [(name, list(parts)) for name, parts in groupby(made.parts, key=lambda part: part.model)]
        for name, parts in models:
            if len(models) > 1:
                self.console.print(f"  {escape(name)}")
            self._parts(parts, total)

    def _parts(self, parts: Sequence[CompiledPart], total: int) -> None:
        table = Table(box=None, header_style="dim")
        for head in ("segment", "size", "weights", "share", "cached", "streamed", "chip", "CPU"):
            table.add_column(head, no_wrap=True)
        for part in parts:
            own = part.parameter_bytes
            share = f"{own / total:.0%}" if own is not None and total else "-"
            table.add_row(
                f"{part.segment + 1} of {part.of}", size(part.size_bytes), _size(own), share, _size(part.cached_bytes),
                _size(part.streamed_bytes), _count(part.chip_operators), str(sum(part.cpu_operators.values())),
            )  # fmt: skip
        self.console.print(table)


def _size(count: int | None) -> str:
    return "not told" if count is None else size(count)


def _count(count: int | None) -> str:
    return "not told" if count is None else str(count)
