"""Content addresses: full sha256 of files, folders, values and of the code that a stage runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
_IMPORT = re.compile(
    r"^[ \t]*(?:import (edgeship[\w.]*)|from (edgeship[\w.]*) import (\([^)]*\)|[^\n]*))", re.MULTILINE
)


def of_bytes(content: bytes) -> str:
    """Return the sha256 of some bytes, as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def of_file(path: Path) -> str:
    """Return the sha256 of a file's content, as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def of_path(path: Path) -> str:
    """Return the sha256 of a file, or of a folder: its sorted relative names with each file's sha256.

    Links are followed, to folders too, but for those that lead back to where they stand.
    """
    if path.is_file():
        return of_file(path)
    return of_value([(member.relative_to(path).as_posix(), of_file(member)) for member in sorted(_files(path))])


def _files(folder: Path) -> Iterator[Path]:
    # Not rglob: before Python 3.13 it does not enter linked folders.
    for name, inner, files in os.walk(folder, followlinks=True):
        here = Path(name)
        above = {ancestor.resolve() for ancestor in (here, *here.parents)}
        inner[:] = [one for one in inner if (here / one).resolve() not in above]
        yield from (here / file for file in files if (here / file).is_file())


def of_value(value: object) -> str:
    """Return the sha256 of a JSON value in its one canonical form (sorted keys, no spaces)."""
    return of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


@cache
def of_code(module: str) -> str:
    """Return the sha256 of a module's source and of every edgeship module that it imports, however deep.

    Lazy imports inside functions count too: what matters is which code can run.
    """
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        source = _source(name)
        if source is None or name in seen:
            continue
        text = source.read_bytes()
        seen[name] = of_bytes(text)
        waiting += _imported(text.decode())
    return of_value(seen)


def _source(module: str) -> Path | None:
    parts = module.split(".")
    if parts[0] != PACKAGE.name:
        return None
    stem = PACKAGE.joinpath(*parts[1:])
    for candidate in (stem.with_suffix(".py"), stem / "__init__.py"):
        if candidate.is_file() and candidate != PACKAGE / "__init__.py":
            return candidate
    return None


def _imported(text: str) -> list[str]:
    """Return the edgeship modules that a source names in its imports; read as text, since parsing takes ten times longer."""
    names: list[str] = []
    for plain, base, members in _IMPORT.findall(text):
        if plain:
            names.append(plain)
        else:
            names += [base, *(f"{base}.{member}" for member in re.findall(r"(\w+)(?: as \w+)?", members))]
    return names
