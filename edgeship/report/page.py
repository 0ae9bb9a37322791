"""The templates of pages, ready to fill: everything put into them is escaped, and a name they lack is an error."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemBytecodeCache, PackageLoader, StrictUndefined

from edgeship.report.figures import FILTERS


@cache
def environment(compiled: Path | None) -> Environment:
    """Return the templates.

    Args:
        compiled: a folder of the user's own that keeps the compiled templates for the next process; most of the time
            that a page takes goes into compiling them.
    """
    if compiled is not None:
        compiled.mkdir(parents=True, exist_ok=True)
    made = Environment(
        loader=PackageLoader("edgeship.report"),
        autoescape=True,
        undefined=StrictUndefined,
        bytecode_cache=FileSystemBytecodeCache(str(compiled)) if compiled is not None else None,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= FILTERS
    return made
