"""The command about Edge TPUs: parse, call, print."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from edgeship import front
from edgeship.errors import EdgeshipError
from edgeship.options import (
    DataOption,
    ModelArgument,
    OffsetOption,
    ScaleOption,
    SeedOption,
    names_from,
    target_names,
)

if TYPE_CHECKING:
    from edgeship.front import Front
    from edgeship.report.terminal import Terminal
    from edgeship.run import Inspection


def edgetpu(
    context: typer.Context,
    model: ModelArgument,
    *,
    target: Annotated[
        str,
        typer.Option("--target", "-t", help="A target with an Edge TPU.", autocompletion=names_from(target_names)),
    ] = "coral-usb",
    runtime: Annotated[
        int | None,
        typer.Option("--runtime", min=1, help="Edge TPU runtime to forecast for; default: the target's."),
    ] = None,
    several_subgraphs: Annotated[
        bool,
        typer.Option("--several-subgraphs", "-a", help="As if the compiler may make several parts (its option -a)."),
    ] = False,
    segments: Annotated[
        int | None,
        typer.Option("--segments", "-n", min=2, help="Cut the file into this many, for as many Edge TPUs in a row."),
    ] = None,
    link: Annotated[
        str | None,
        typer.Option("--link", help="usb3, usb2 or pcie, for the segments' estimate; default: the target's."),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option("--with", help="Compile this file together with it, to share the chip's memory; repeat for more."),
    ] = None,
    data: DataOption = None,
    scale: ScaleOption = None,
    offset: OffsetOption = None,
    seed: SeedOption = 0,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Keeps what the compiler made, and segments (usually in build/…/segments-N)."),
    ] = None,
) -> None:
    """Say which operations of an 8-bit model run on an Edge TPU, which stay on the CPU, and what to change.

    Where edgetpu_compiler is installed it compiles the file too, and --out names the folder that keeps what it makes.
    """
    from edgeship import edgetpu as edgetpus
    from edgeship import segments as segmenting
    from edgeship.report.compilation_terminal import CompilationTerminal
    from edgeship.report.edgetpu_terminal import EdgeTpuTerminal
    from edgeship.report.segments_terminal import SegmentsTerminal

    screen: Front = context.obj
    kept, order = front.folder("--out", out), None
    if segments is not None:
        order = segmenting.SegmentOrder(
            str(edgetpus.tflite_file(model)), segments, target, link=segmenting.link(link), data=data,
            scale=front.numbers("--scale", scale), offset=front.numbers("--offset", offset), seed=seed, out=kept,
        )  # fmt: skip
        kept = segmenting.folder(order)
    question = edgetpus.Question(
        model, target, runtime, several_subgraphs, segments or 1, tuple(beside or ()), out=kept
    )
    with screen.listening() as listener:
        answer = edgetpus.examine(question, listener.on_progress)
    table = {"model": answer.model, "path": answer.path, "target": answer.target, **asdict(answer.forecast)}
    made = None
    if order is not None:
        try:
            with screen.listening() as listener:
                made = segmenting.split(order, listener.on_progress)
        except EdgeshipError:
            edgetpus.withdraw(answer)
            raise
        table["segments"] = segmenting.contract(made)
    screen.show(table, lambda terminal: EdgeTpuTerminal().forecast(answer.path, answer.target, answer.forecast))
    if answer.compiled is not None and not screen.json:
        CompilationTerminal().compiled(answer.compiled)
    if made is not None and not screen.json:
        SegmentsTerminal().segments(made)


def show_inspection(terminal: Terminal, found: Inspection) -> None:
    """Print what a model is made of, and what an Edge TPU's compiler has made of it."""
    from edgeship.report.edgetpu_terminal import EdgeTpuTerminal

    terminal.inspection(found)
    if found.compiled is not None:
        EdgeTpuTerminal().compiled(found.compiled, found.segments)


def add_to(app: typer.Typer) -> None:
    """Give the command line this command."""
    app.command()(edgetpu)
