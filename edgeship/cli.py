"""The command line: parse, call, print, exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from io import TextIOWrapper
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from edgeship import __version__, cli_devices, cli_edgetpu, cli_history, cli_nightly, front
from edgeship.options import (
    BatchOption,
    CalibrationOption,
    DataOption,
    DeviceOption,
    DropOption,
    FreshOption,
    GovernorOption,
    InventoryOption,
    LayoutOption,
    MetricOption,
    MinSecondsOption,
    ModelArgument,
    OffsetOption,
    OutOption,
    RecipeOption,
    RequireValidOption,
    RunsOption,
    ScaleOption,
    SeedOption,
    ShapeOption,
    TargetOption,
    ThreadsOption,
    TrustOption,
    WaitOption,
    WarmupOption,
    names_from,
    target_names,
)  # fmt: skip

if TYPE_CHECKING:
    from edgeship.front import Front
    from edgeship.report.terminal import Terminal


class Edgeship(TyperGroup):
    """The group of commands: global options may stand anywhere, and every refusal leaves by one door."""

    def main(  # type: ignore[override]  # whoever calls it, it ends in SystemExit: standalone_mode has no say
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run a command line; always ends in SystemExit with the contract's exit code."""
        given = front.globals_first(list(sys.argv[1:] if args is None else args))
        extra["standalone_mode"] = False
        run = partial(super().main, given, prog_name or "edgeship", **extra)
        flags = given[: given.index("--")] if "--" in given else given
        sys.exit(front.guarded(run, json="--json" in flags, traceback="--traceback" in flags))


app = typer.Typer(
    name="edgeship",
    cls=Edgeship,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its renderer alone takes longer to import than `--help` may take
    epilog="--json, --quiet, --verbose and --traceback may stand anywhere. Exit codes: 0 done · 2 bad input · "
    "3 nothing to do · 4 missing tool · 5 a stage failed · 6 device · 7 finished, verdict negative · 1 our bug.",
)
store_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What builds have left in the store.")
app.add_typer(store_app, name="store")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgeship {__version__}")
        raise typer.Exit


@app.callback()
def edgeship(
    context: typer.Context,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout; the rest goes to stderr.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes; warnings stay.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say why each stage ran, and with which tools.")
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the Python traceback of a refusal.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn a trained model into a smaller, faster one for a board, proved to be the same model.

    Start with: edgeship build --target rpi4 (the sample model digits, quantized to int8).
    """
    context.obj = front.Front(json=json, quiet=quiet, verbose=verbose)


@app.command()
def build(
    context: typer.Context,
    model: ModelArgument = "digits",
    *,
    target: TargetOption,
    recipe: RecipeOption = None,
    data: DataOption = None,
    calibration: CalibrationOption = None,
    scale: ScaleOption = None,
    offset: OffsetOption = None,
    shape: ShapeOption = None,
    keep_layout: LayoutOption = False,
    metric: MetricOption = None,
    max_drop: DropOption = None,
    seed: SeedOption = 0,
    trust: TrustOption = None,
    fresh: FreshOption = False,
    out: OutOption = None,
) -> None:
    """Make a smaller model for a target, and prove that it is the same one."""
    from edgeship import manifest, pipeline

    order = pipeline.Order(
        model=model, target=target, recipe=recipe, data=data, calibration=tuple(calibration or ()), scale=front.numbers("--scale", scale),
        offset=front.numbers("--offset", offset), shapes=front.shapes(shape or []), keep_layout=keep_layout, metric=metric, max_drop=front.not_negative("--max-drop", max_drop),
        seed=seed, trust=tuple(trust or ()), fresh=fresh, out=front.folder("--out", out),
    )  # fmt: skip
    screen: Front = context.obj
    with screen.listening() as listener:
        made = pipeline.build(order, listener)
    screen.show(manifest.contract(made), lambda terminal: terminal.build(made))
    _leave(made.passed)


@app.command()
def ship(
    context: typer.Context,
    model: ModelArgument = "digits",
    *,
    target: TargetOption,
    device: DeviceOption,
    recipe: RecipeOption = None,
    data: DataOption = None,
    calibration: CalibrationOption = None,
    scale: ScaleOption = None,
    offset: OffsetOption = None,
    shape: ShapeOption = None,
    keep_layout: LayoutOption = False,
    metric: MetricOption = None,
    max_drop: DropOption = None,
    seed: SeedOption = 0,
    trust: TrustOption = None,
    fresh: FreshOption = False,
    out: OutOption = None,
    runs: RunsOption = None,
    min_seconds: MinSecondsOption = None,
    warmup_seconds: WarmupOption = None,
    threads: ThreadsOption = None,
    batch: BatchOption = 1,
    governor: GovernorOption = None,
    require_valid: RequireValidOption = False,
    stop: Annotated[bool, typer.Option("--stop", help="Do not measure what has missed its quality budget.")] = False,
    devices: InventoryOption = None,
    wait: WaitOption = 0,
) -> None:
    """Build, deliver to devices, measure there: one page with everything."""
    from edgeship import bench_manifest, benchmarking, manifest, pipeline

    order = pipeline.Order(
        model=model, target=target, recipe=recipe, data=data, calibration=tuple(calibration or ()), scale=front.numbers("--scale", scale),
        offset=front.numbers("--offset", offset), shapes=front.shapes(shape or []), keep_layout=keep_layout, metric=metric, max_drop=front.not_negative("--max-drop", max_drop),
        seed=seed, trust=tuple(trust or ()), fresh=fresh, out=front.folder("--out", out),
    )  # fmt: skip
    measuring = benchmarking.BenchOrder(
        artifact="", devices=tuple(device), inventory=devices, runs=runs, min_seconds=min_seconds, warmup_seconds=warmup_seconds,
        threads=threads, batch=batch, governor=governor, wait_s=wait, seed=seed, data=data,
        scale=front.numbers("--scale", scale), offset=front.numbers("--offset", offset), metric=metric,
    )  # fmt: skip
    screen: Front = context.obj
    with screen.listening() as listener:
        made, results = pipeline.ship(order, measuring, listener, stop=stop)

    def draw(terminal: Terminal) -> None:
        terminal.build(made)
        cli_devices.show_benches(results)

    screen.show(
        {"build": manifest.contract(made), "bench": bench_manifest.of_several(results)},
        draw,
    )
    code = cli_devices.exit_code(results, require_valid=require_valid)
    _leave(made.passed and code != 7, otherwise=code)


@app.command()
def verify(
    context: typer.Context,
    a: Annotated[str, typer.Argument(help="The model that is right: any model that build takes.")],
    b: Annotated[str, typer.Argument(help="The model to judge by it.")],
    data: DataOption = None,
    scale: ScaleOption = None,
    offset: OffsetOption = None,
    shape: ShapeOption = None,
    keep_layout: LayoutOption = False,
    metric: MetricOption = None,
    max_drop: DropOption = None,
    seed: SeedOption = 0,
    trust: TrustOption = None,
) -> None:
    """Compare two models: quality on the same examples, and the error layer by layer."""
    from edgeship import comparison

    question = comparison.Question(
        a=a, b=b, data=data, scale=front.numbers("--scale", scale), offset=front.numbers("--offset", offset),
        shapes=front.shapes(shape or []), keep_layout=keep_layout, metric=metric, max_drop=front.not_negative("--max-drop", max_drop), seed=seed, trust=tuple(trust or ()),
    )  # fmt: skip
    screen: Front = context.obj
    with screen.listening() as listener:
        answer = comparison.compare(question, listener)
    screen.show(asdict(answer), lambda terminal: terminal.comparison(answer))
    _leave(answer.quality.passed)


@app.command()
def inspect(
    context: typer.Context,
    model: ModelArgument,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", help="Say also how it would do there.", autocompletion=names_from(target_names)),
    ] = None,
    shape: ShapeOption = None,
    trust: TrustOption = None,
) -> None:
    """Show what a model is made of: parameters, work, inputs, operations."""
    from edgeship import inspection

    screen: Front = context.obj
    with screen.listening() as listener:
        found = inspection.inspect(model, target, front.shapes(shape or []), tuple(trust or ()), listener)
    screen.show(asdict(found), lambda terminal: cli_edgetpu.show_inspection(terminal, found))


@app.command()
def targets(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Show this one whole.", autocompletion=names_from(target_names))
    ] = None,
) -> None:
    """List the kinds of machines that edgeship builds for."""
    from edgeship import target

    screen: Front = context.obj
    if name is not None:
        one = target.read(name)
        screen.show(one.model_dump(mode="json"), lambda terminal: terminal.target(one))
        return
    every = target.read_all()
    screen.show({"targets": [one.model_dump(mode="json") for one in every]}, lambda terminal: terminal.targets(every))


@app.command()
def doctor(context: typer.Context) -> None:
    """Say what is installed, what is missing, and the command that installs it."""
    from edgeship import checkup

    screen: Front = context.obj
    found = checkup.examine()
    screen.show(asdict(found), lambda terminal: terminal.checkup(found))


@store_app.command("list")
def store_list(context: typer.Context) -> None:
    """List the stage results in the store, newest first."""
    from edgeship.store import Store, home

    screen: Front = context.obj
    with Store(home()) as store:
        entries = store.entries()
        place = str(store.root)
    screen.show(
        {"store": place, "entries": [asdict(entry) for entry in entries]},
        lambda terminal: terminal.store(place, entries),
    )


@store_app.command("prune")
def store_prune(
    context: typer.Context,
    days: Annotated[
        float, typer.Option("--days", min=0, help="Keep results younger than this; 0 empties the store.")
    ] = 30,
) -> None:
    """Remove old stage results, every artifact that no result names, and converters' environments of other versions."""
    from edgeship import environment
    from edgeship.store import Store, home

    screen: Front = context.obj
    with Store(home()) as store:
        pruned = store.prune(keep_days=days)
        count, freed = environment.prune()
    pruned = replace(pruned, environments=count, freed_bytes=pruned.freed_bytes + freed)
    screen.show(asdict(pruned), lambda terminal: terminal.pruned(pruned))


cli_devices.add_to(app)
cli_edgetpu.add_to(app)
cli_history.add_to(app)
cli_nightly.add_to(app)


def _leave(passed: bool, *, otherwise: int = 0) -> None:
    if not passed or otherwise:
        raise typer.Exit(otherwise if passed else 7)


def main() -> NoReturn:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name may hold what no encoding can tell
            stream.reconfigure(errors="backslashreplace")
    app()
    raise SystemExit  # the group has left already


if __name__ == "__main__":
    main()
