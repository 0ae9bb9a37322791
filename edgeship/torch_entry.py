"""A function of the user's that returns a PyTorch model and example inputs: called in a Python that has torch, and exported.

It runs the user's code, and only when the user named it on the command line: `edgeship build my_module:function`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from edgeship.command import call
from edgeship.converter import Converter, Refused
from edgeship.errors import BadInput, MissingTool, StageFailed

TIMEOUT_S, MEMORY_GIB = 800.0, 16.0
OLDEST, NEWEST = (2, 9), (2, 13)
_ASK_TIMEOUT_S = 30.0
_VERSION = "import importlib.metadata as m; print(m.version('torch'))"


def exported(source: Path, entry: str, folder: Path, python: Path, log: Path) -> Path:
    """Call `entry` of a Python file, export what it returns, and return the `.pt2` file, which is in the folder.

    It runs in the environment that is active, or the Python that runs edgeship, where one of them has a torch whose files
    the converter reads; else in the converter's own.

    Args:
        source: the Python file; its own folder, and the current one, are where it imports from.
        entry: `module:function`.
        python: the converter's own interpreter.

    Raises:
        BadInput: the code fails, or returns something else than (model, example inputs); the text has its own words.
    """
    module, _, function = entry.partition(":")
    chosen = next((one for one in _candidates() if _fits(one)), python)
    out = folder / "entry.pt2"
    order = {"module": module, "function": function, "file": str(source), "out": str(out)}
    order["root"] = str(_root(source, module))
    with Converter(entry, chosen, "torch_entry_runner.py", memory_gib=MEMORY_GIB, log=log) as tool:
        try:
            tool.ask(order, timeout_s=TIMEOUT_S)
        except Refused as refusal:
            raise BadInput(
                f"{source}: {function}: {str(refusal).strip()[:600]}; full log: {log}",
                hint=f"it ran in {chosen}; {function}() must return (model.eval(), (example input, ...))",
                log=log,
            ) from None
    return out


def _root(source: Path, module: str) -> Path:
    """Return the folder from which a module is imported: above its file by as many levels as its name has dots."""
    return source.resolve().parents[module.count(".")]


def _candidates() -> Iterator[Path]:
    active = os.environ.get("VIRTUAL_ENV")
    if active:
        yield Path(active) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    yield Path(sys.executable)


def _fits(python: Path) -> bool:
    """Say whether a Python has a torch whose exported programs the converter reads."""
    try:
        told = call(python, "-I", "-c", _VERSION, timeout_s=_ASK_TIMEOUT_S, check=False)
    except (MissingTool, StageFailed, OSError):
        return False
    version = re.match(r"(\d+)\.(\d+)", told.output) if told.exit_code == 0 else None
    return version is not None and OLDEST <= (int(version[1]), int(version[2])) <= NEWEST
