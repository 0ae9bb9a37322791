"""Options and arguments that several commands share, with what completes them in a shell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


def names_from(of: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """Return what a shell completes a name with."""
    return lambda incomplete: [name for name in of() if name.startswith(incomplete)]


def target_names() -> list[str]:
    """Return the names of the targets."""
    from edgeship import target

    return target.names()


def recipe_names() -> list[str]:
    """Return the names of the recipes."""
    from edgeship import recipe

    return recipe.names()


def model_names() -> list[str]:
    """Return the names of the sample models."""
    from edgeship import model

    return model.samples()


ModelArgument = Annotated[
    str,
    typer.Argument(
        help="A .keras, .h5, .onnx or .tflite file, a SavedModel folder, a folder with model.toml, or a sample model's name.",
        autocompletion=names_from(model_names),
    ),
]
TargetOption = Annotated[
    str,
    typer.Option(
        "--target", "-t", help="The kind of machine; see `edgeship targets`.", autocompletion=names_from(target_names)
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="npz to judge by: one array per input (or `inputs`), optional `labels`, `groups`."),
]
CalibrationOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--calibration",
        help="npz to calibrate and fine-tune with; again for more; else a fifth of --data is set apart.",
    ),
]
ScaleOption = Annotated[
    str | None, typer.Option("--scale", help="Stored values times this (one number, or one per channel: 1,1,1) …")
]
OffsetOption = Annotated[str | None, typer.Option("--offset", help="… plus this are what the model eats.")]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option("--shape", help="An input's shape, such as input:1,224,224,3; repeat for more inputs."),
]
LayoutOption = Annotated[
    bool, typer.Option("--keep-layout", help="Images keep their channels where the source has them (NCHW), not last.")
]
MetricOption = Annotated[
    str | None,
    typer.Option("--metric", help="top1, agreement, mse, sqnr, auc, or your own as package.module:function."),
]
DropOption = Annotated[
    float | None, typer.Option("--max-drop", help="How much worse the metric may get; more is exit 7.")
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 2, help="Decides splits, made-up inputs and training.")
]
TrustOption = Annotated[
    list[str] | None, typer.Option("--trust", help="A module that the model's own code may come from; repeat for more.")
]


def device_names() -> list[str]:
    """Return the names of the user's devices, those that always exist among them."""
    from edgeship import inventory

    return inventory.names(inventory.place(None))


DeviceOption = Annotated[
    list[str],
    typer.Option(
        "--device",
        "-d",
        help="A device of yours (`edgeship devices list`), local, or virtual:<target>; repeat for several at once.",
        autocompletion=names_from(device_names),
    ),
]
DeviceArgument = Annotated[
    str, typer.Argument(help="A device's name; see `edgeship devices list`.", autocompletion=names_from(device_names))
]
OneDeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        help="A device of yours (`edgeship devices list`), local, or virtual:<target>.",
        autocompletion=names_from(device_names),
    ),
]
InventoryOption = Annotated[
    Path | None,
    typer.Option("--devices", help="Your devices file; else $EDGESHIP_DEVICES, else the user's config folder."),
]
HistoryOption = Annotated[
    str | None,
    typer.Option(
        "--history",
        help="The database of all nights: a file, sqlite:///FILE or postgresql://USER@HOST/DATABASE; "
        "else $EDGESHIP_HISTORY, else history.sqlite in $EDGESHIP_HOME.",
    ),
]
WaitOption = Annotated[
    int, typer.Option("--wait", min=0, help="Seconds to wait for a device that somebody else measures on.")
]
RunsOption = Annotated[
    int | None, typer.Option("--runs", min=8, help="At least this many timed inferences; default 100 …")
]
MinSecondsOption = Annotated[
    float | None,
    typer.Option(
        "--min-seconds",
        min=0,
        help="… and for at least so long, in the board's own seconds; default 2 (0.2 on a counted virtual board).",
    ),
]
WarmupOption = Annotated[
    float | None,
    typer.Option(
        "--warmup-seconds",
        min=0,
        help="Warm up at least so long, and until the times are steady; default 0.5 (0.05 on a counted one).",
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads; default: the target's (1 on a counted virtual board).")
]
BatchOption = Annotated[int, typer.Option("--batch", min=1, help="Examples at once; the times are of a whole batch.")]
GovernorOption = Annotated[
    str | None,
    typer.Option("--governor", help="Set the CPU governor for the run and put it back after (needs root there)."),
]
RequireValidOption = Annotated[
    bool, typer.Option("--require-valid", help="Exit 6 when the conditions of the run broke.")
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "-r",
        help="A recipe's name, such as int8 or prune50-int8, or a TOML file; default: the target's.",
        autocompletion=names_from(recipe_names),
    ),
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Run every stage again.")]
OutOption = Annotated[
    str | None, typer.Option("--out", "-o", help="Folder for the result; default build/<model>/<target>/<recipe>.")
]
