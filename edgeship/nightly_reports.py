"""The files that a night leaves for others: JUnit XML, a Markdown summary, the site; each written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeship.errors import BadInput, EdgeshipError
from edgeship.history import History
from edgeship.nightly_record import NightRecord
from edgeship.report import junit, markdown, site
from edgeship.store import no_space_named, write_whole


@dataclass(frozen=True)
class Files:
    """Where the user wants them; None: not wanted."""

    junit: Path | None = None
    markdown: Path | None = None
    html: Path | None = None


def check(files: Files) -> None:
    """Refuse places that cannot be written, before anything is measured.

    Raises:
        BadInput: a file's folder, or the folder of the site, cannot be written.
    """
    for option, path in (("--junit", files.junit), ("--markdown", files.markdown)):
        if path is not None and (path.is_dir() or not _writable(path.absolute().parent)):
            raise BadInput(f"{path}: cannot be written", hint=f"{option} names a file in a folder of yours")
    if files.html is not None:
        site.check(files.html)


def write(files: Files, kept: History, night: NightRecord) -> tuple[EdgeshipError, ...]:
    """Write what is wanted, of a night that may not have come to its end; return why any of it could not be written."""
    ways: list[tuple[Path | None, Callable[[Path], object]]] = [
        (files.junit, lambda path: _write(path, junit.render(night))),
        (files.markdown, lambda path: _write(path, markdown.render(night).encode(errors="backslashreplace"))),
        (files.html, lambda folder: site.write(kept, folder, night=night)),
    ]
    troubles = list[EdgeshipError]()
    for path, way in ways:
        try:
            if path is not None:
                way(path)
        except EdgeshipError as error:
            troubles.append(error)
        except OSError as error:
            troubles.append(BadInput(f"{path}: cannot be written: {error.strerror}"))
    return tuple(troubles)


def _write(path: Path, content: bytes) -> None:
    with no_space_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)


def _writable(folder: Path) -> bool:
    nearest = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path("/"))
    return nearest.is_dir() and os.access(nearest, os.W_OK)
