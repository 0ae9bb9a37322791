"""Progress while a command works: a bar for what runs, a line for each stage that has ended, all on stderr."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape

from edgeship.artifact import Advice
from edgeship.progress import Listener, OnProgress, StageTold, silent
from edgeship.progress import Progress as Step
from edgeship.report.terminal import stderr


@contextlib.contextmanager
def live(*, quiet: bool, verbose: bool) -> Iterator[Listener]:
    """Give callbacks that show progress; without a terminal only the stages' lines are printed."""
    console = stderr()
    shown: set[str] = set()
    with (
        _bar(console) if console.is_terminal and not quiet else contextlib.nullcontext((silent, _nothing)) as (
            step,
            clear,
        )
    ):

        def stage(told: StageTold) -> None:
            if quiet:
                return
            took = "cached" if told.outcome == "cached" else f"{told.seconds:.1f} s"
            why = f"  [dim]{escape(told.why)}[/]" if verbose or told.why not in ("unchanged", "first build") else ""
            line = f"[green]✓[/] {told.stage:<9} {escape(told.text)}  [dim]{took}[/]{why}"
            console.print(line, highlight=False, soft_wrap=True)
            clear()

        def advise(advice: Advice) -> None:
            if advice.text in shown or (quiet and advice.level == "note"):
                return
            shown.add(advice.text)
            mark = "[bold yellow]warning:[/]" if advice.level == "warning" else "[blue]note:[/]"
            console.print(f"{mark} {escape(advice.text)}", highlight=False, soft_wrap=True)

        yield Listener(step, stage, advise)


def _nothing() -> None:
    """Clear no bar."""


@contextlib.contextmanager
def _bar(console: Console) -> Iterator[tuple[OnProgress, Callable[[], None]]]:
    """Show a bar; give the callback that moves it and the one that empties it for the next stage."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None, text="")

        def step(told: Step) -> None:
            total = told.total or None
            bar.update(task, description=escape(told.stage), completed=told.done, total=total, text=escape(told.text))

        yield step, lambda: bar.reset(task, description="", total=None, text="")
