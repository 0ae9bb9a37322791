"""The command about Edge TPUs: parse, call, print."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from edgeship.options import ModelArgument, names_from, target_names

if TYPE_CHECKING:
    from edgeship.front import Front


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
) -> None:
    """Say which operations of an 8-bit model run on an Edge TPU, which stay on the CPU, and what to change."""
    from edgeship import edgetpu as edgetpus
    from edgeship.report.edgetpu_terminal import EdgeTpuTerminal

    answer = edgetpus.examine(edgetpus.Question(model, target, runtime, several_subgraphs))
    table = {"model": answer.model, "path": answer.path, "target": answer.target, **asdict(answer.forecast)}
    screen: Front = context.obj
    screen.show(table, lambda terminal: EdgeTpuTerminal().forecast(answer.path, answer.target, answer.forecast))


def add_to(app: typer.Typer) -> None:
    """Give the command line this command."""
    app.command()(edgetpu)
