"""What is installed here, what is missing, and the command that brings it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator

from edgeship import __version__, environment, tools
from edgeship.compilers import COMPILERS
from edgeship.errors import MissingTool
from edgeship.run import Checkup, Tool
from edgeship.store import home

CORE = ("ai-edge-litert", "jinja2", "numpy", "platformdirs", "pydantic", "rich", "typer")


def _compilers() -> Iterator[Tool]:
    """Yield the chips' compilers: the user's own programs."""
    for kind, compiler in COMPILERS.items():
        try:
            program = compiler.find()
        except MissingTool as missing:
            yield Tool(compiler.NAME, kind, None, f"{missing.message}; {compiler.INSTALL}")
        else:
            version = f"{program.version}{' (stand-in)' * program.stand_in}" if program else None
            yield Tool(compiler.NAME, kind, version, None if program else compiler.INSTALL)


def examine() -> Checkup:
    """Look at what is installed, without importing any of it."""
    found = [Tool(name, "core", tools.installed(name), None) for name in CORE]
    found += [Tool(name, extra, tools.installed(name), None) for name, extra in tools.EXTRA.items()]
    told = tuple(
        tool if tool.version else Tool(tool.name, tool.part, None, tools.install_command(tool.name)) for tool in found
    )
    told += (*environment.tools(), *_compilers())
    place = home()
    nearest = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir())
    parts = dict.fromkeys(tool.part for tool in told)
    return Checkup(
        edgeship=__version__,
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        cores=os.cpu_count() or 1,
        store=str(place),
        store_writable=os.access(nearest, os.W_OK),
        free_bytes=shutil.disk_usage(nearest).free,
        ready={part: all(tool.version for tool in told if tool.part == part) for part in parts},
        tools=told,
    )
