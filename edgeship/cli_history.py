"""The commands about figures of many runs: `compare` now, `history` of all nights. Parse, call, print, exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from edgeship import front
from edgeship.options import (
    BatchOption,
    DataOption,
    GovernorOption,
    HistoryOption,
    InventoryOption,
    MetricOption,
    MinSecondsOption,
    OffsetOption,
    OneDeviceOption,
    RunsOption,
    ScaleOption,
    SeedOption,
    ThreadsOption,
    WaitOption,
    WarmupOption,
    names_from,
)  # fmt: skip

if TYPE_CHECKING:
    from edgeship.front import Front

METRICS = ["latency", "memory", "size", "quality"]


class Listing(TyperGroup):
    """The group of commands about the history; without one of them it lists the cases."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` in front of what is none of the commands."""
        if not {"--help", *self.commands}.intersection(args[:1]):
            args = ["list", *args]
        return super().parse_args(ctx, args)


history_app = typer.Typer(
    cls=Listing, rich_markup_mode=None, help="All nights: cases with their last nights; one case whole; what is accepted.",
    epilog="Without a command: edgeship history [PATTERN] lists the cases.",
)  # fmt: skip


def case_names() -> list[str]:
    """Return the names of the cases in the usual history."""
    from edgeship import history
    from edgeship.errors import EdgeshipError

    try:
        with history.open(new=False) as kept:
            return [case.name for case in kept.cases()]
    except EdgeshipError:
        return []


MetricShown = Annotated[
    str, typer.Option("--metric", help="latency, memory, size or quality.", autocompletion=names_from(lambda: METRICS))
]
NightsOption = Annotated[int, typer.Option("--nights", "-n", min=1, help="How many of the last nights.")]
CaseArgument = Annotated[
    str,
    typer.Argument(
        help="MODEL/TARGET/RECIPE@DEVICE, or a pattern that fits one.", autocompletion=names_from(case_names)
    ),
]


def compare(
    context: typer.Context,
    a: Annotated[str, typer.Argument(help="What is known: a .tflite file, or the out folder of a build.")],
    b: Annotated[str, typer.Argument(help="What is judged by it.")],
    *,
    device: OneDeviceOption,
    repeats: Annotated[int, typer.Option("--repeats", min=2, max=100, help="Runs of each, at the most.")] = 8,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            help="A metric by which B can fail: latency, memory, size, quality; repeat for more; default: all.",
            autocompletion=names_from(lambda: METRICS),
        ),
    ] = None,
    smallest: Annotated[
        float | None,
        typer.Option("--smallest", min=0, max=0.9, help="A change of time below this share is not worth telling: 0.02"),
    ] = None,
    runs: RunsOption = None,
    min_seconds: MinSecondsOption = None,
    warmup_seconds: WarmupOption = None,
    threads: ThreadsOption = None,
    batch: BatchOption = 1,
    data: DataOption = None,
    scale: ScaleOption = None,
    offset: OffsetOption = None,
    metric: MetricOption = None,
    governor: GovernorOption = None,
    require_valid: Annotated[
        bool, typer.Option("--require-valid", help="Runs whose conditions broke do not count.")
    ] = False,
    reference: Annotated[
        bool, typer.Option("--reference/--no-reference", help="Run the fixed reference workload before and after.")
    ] = True,
    seed: SeedOption = 0,
    devices: InventoryOption = None,
    wait: WaitOption = 0,
) -> None:
    """Let two artifacts take turns on a device (A B B A …) until it is known whether B is worse; exit 7 if it is."""
    from edgeship import ab_trial, bench_manifest
    from edgeship.benchmarking import BenchOrder

    order = ab_trial.TrialOrder(
        a=a, b=b, repeats=repeats, gates=tuple(gate or ()), smallest=smallest, require_valid=require_valid, reference=reference,
        bench=BenchOrder(
            artifact=b, devices=(device,), inventory=devices, runs=runs, min_seconds=min_seconds, warmup_seconds=warmup_seconds,
            threads=threads, batch=batch, data=data, scale=front.numbers("--scale", scale), offset=front.numbers("--offset", offset),
            metric=metric, governor=governor, wait_s=wait, seed=seed,
        ),
    )  # fmt: skip
    screen: Front = context.obj
    with screen.listening() as listener:
        record = ab_trial.compare(order, listener)

    def draw(_: object) -> None:
        from edgeship.report.trial_terminal import TrialTerminal

        TrialTerminal().trial(record)

    screen.show(bench_manifest.plain(record), draw)
    if not record.passed:
        raise typer.Exit(7)


@history_app.command("list")
def history_list(
    context: typer.Context,
    pattern: Annotated[
        str | None, typer.Argument(help="A case's name, a model or a device; * and ? stand for anything.")
    ] = None,
    metric: MetricShown = "latency",
    nights: NightsOption = 30,
    history: HistoryOption = None,
) -> None:
    """List the cases with their last nights as bars, those that got slower first."""
    from edgeship import history as histories
    from edgeship import history_view

    screen: Front = context.obj
    with histories.open(history, new=False) as kept:
        found, where = kept.histories(pattern, metric, nights), kept.where

    def draw(_: object) -> None:
        from edgeship.report.history_terminal import HistoryTerminal

        HistoryTerminal().cases(where, found)

    screen.show({"history": where, "cases": [history_view.table(each) for each in found]}, draw)


@history_app.command("show")
def history_show(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(help="A case (or a pattern that fits one), or a night.", autocompletion=names_from(case_names)),
    ],
    metric: MetricShown = "latency",
    nights: NightsOption = 60,
    history: HistoryOption = None,
) -> None:
    """Show one case whole: its chart, where its level changed, its verdicts; or one night with all its cases."""
    from edgeship import bench_manifest, history_view
    from edgeship import history as histories

    screen: Front = context.obj
    with histories.open(history, new=False) as kept:
        night = history_view.night(kept, name)
        told = None if night else history_view.view(kept, history_view.one_case(kept, name), metric, nights)
    if night is not None:

        def draw_night(_: object) -> None:
            from edgeship.report.night_terminal import NightTerminal

            NightTerminal().night(night)

        screen.show(history_view.night_table(night), draw_night)
        return
    assert told is not None

    def draw(_: object) -> None:
        from edgeship.report.history_terminal import HistoryTerminal

        HistoryTerminal().case(told)

    more = {"levels": bench_manifest.plain(told.levels), "findings": bench_manifest.plain(told.findings)}
    screen.show({**history_view.table(told.shown), **more}, draw)


@history_app.command("accept")
def history_accept(
    context: typer.Context,
    case: CaseArgument,
    artifact: Annotated[
        str | None, typer.Option("--artifact", help="Its sha256 or the start of it; default: the newest measured.")
    ] = None,
    history: HistoryOption = None,
) -> None:
    """Make an artifact the level that a case is held against from the next night on."""
    from edgeship import history as histories
    from edgeship import history_view

    screen: Front = context.obj
    with histories.open(history, new=False) as kept:
        chosen = history_view.one_case(kept, case)
        sha256, number = history_view.accept(kept, chosen, artifact)
    table = {"case": chosen.name, "artifact_sha256": sha256, "level": number}
    screen.show(table, lambda terminal: typer.echo(f"{chosen.name} is held against {sha256[:12]} now (level {number})"))


@history_app.command("export")
def history_export(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="A .json (all there is), .csv (figures) or .parquet (with samples) file.")
    ],
    pattern: Annotated[str | None, typer.Argument(help="Only the cases that it fits.")] = None,
    history: HistoryOption = None,
) -> None:
    """Write the runs of the history to a file for other tools."""
    from edgeship import history as histories

    screen: Front = context.obj
    with histories.open(history, new=False) as kept:
        count = kept.export(file, pattern)
    screen.show({"file": str(file), "runs": count}, lambda terminal: typer.echo(f"{file}: {count} runs"))


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.command()(compare)
    app.add_typer(history_app, name="history")
