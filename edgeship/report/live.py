"""Progress while a command works: a bar for what runs, a line for each stage that has ended, all on stderr."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from edgeship.artifact import Advice
from edgeship.progress import Listener, StageTold
from edgeship.progress import Progress as Step
from edgeship.report.terminal import stderr


@contextlib.contextmanager
def live(*, quiet: bool, verbose: bool) -> Iterator[Listener]:
    """Give callbacks that show progress; without a terminal only the stages' lines are printed."""
    console = stderr()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task: TaskID = bar.add_task("starting", total=None, text="")
        shown: set[str] = set()

        def step(told: Step) -> None:
            bar.update(
                task,
                description=escape(told.stage),
                completed=told.done,
                total=told.total or None,
                text=escape(told.text),
            )

        def stage(told: StageTold) -> None:
            if quiet:
                return
            took = "cached" if told.outcome == "cached" else f"{told.seconds:.1f} s"
            why = f"  [dim]{escape(told.why)}[/]" if verbose or told.why not in ("unchanged", "first build") else ""
            console.print(
                f"[green]✓[/] {told.stage:<9} {escape(told.text)}  [dim]{took}[/]{why}", highlight=False, soft_wrap=True
            )
            bar.reset(task, description="", total=None, text="")

        def advise(advice: Advice) -> None:
            if advice.text in shown or (quiet and advice.level == "note"):
                return
            shown.add(advice.text)
            mark = "[bold yellow]warning:[/]" if advice.level == "warning" else "[blue]note:[/]"
            console.print(f"{mark} {escape(advice.text)}", highlight=False, soft_wrap=True)

        yield Listener(step, stage, advise)
