"""The commands about figures of many runs: `compare` now, `history` of all nights. Parse, call, print, exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgeship import front
from edgeship.options import (
    BatchOption,
    DataOption,
    GovernorOption,
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
FileArgument = Annotated[str, typer.Argument(help="A .tflite file, or the out folder of a build.")]


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


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.command()(compare)
