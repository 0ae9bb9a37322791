"""Scratch folders that nobody has to clean up after: each holds a lock, and one whose lock is free is swept away.

The kernel frees a lock when its holder dies, in whatever container or on whatever host; a process number says nothing
across those. Only folders with our name and our lock file inside are ever removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".edgeship-"
LOCK = ".edgeship-lock"


@contextlib.contextmanager
def folder(parent: Path) -> Iterator[Path]:
    """Give an empty folder (but for its lock) below `parent`; it is gone afterwards, also if it was renamed meanwhile."""
    sweep(parent)
    made = Path(tempfile.mkdtemp(dir=parent, prefix=PREFIX))
    lock = os.open(made / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (made / "lock").rename(made / LOCK)  # it gets the name that a sweep looks for when it is held already
        yield made
    finally:
        _remove(made)
        os.close(lock)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process holds a lock file, and hold it; the kernel frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sweep(parent: Path) -> None:
    """Remove the scratch folders below `parent` whose holders are gone."""
    for left in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(left / LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
            finally:
                os.close(lock)


def _remove(made: Path) -> None:
    """Remove a scratch folder, its lock last: what an orphan of its holder still writes there can be swept later."""
    with contextlib.suppress(OSError):
        for entry in made.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name not in (LOCK, "lock"):
                entry.unlink()
        if not any(entry.name not in (LOCK, "lock") for entry in made.iterdir()):
            shutil.rmtree(made)


def contents(made: Path) -> list[Path]:
    """Return the files that were put into a scratch folder."""
    return sorted(path for path in made.iterdir() if path.is_file() and path.name != LOCK)
