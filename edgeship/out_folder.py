"""Writing a build's folder: whole or not at all, and never over a file that edgeship did not make."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edgeship.errors import BadInput
from edgeship.store import no_space_named

MANIFEST = "manifest.json"
_AT_FDCWD, _EXCHANGE = -100, 2


def check_writable(out: Path) -> None:
    """Refuse an out folder that cannot be written, before any work.

    Raises:
        BadInput: it, or what stands where its parent should be, is not a writable folder.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: is a file; --out names a folder")
    nearest = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    if not nearest.is_dir():
        raise BadInput(f"{nearest}: is a file; --out {out} needs a folder there")
    try:  # asking the permission bits is not enough for root, read-only mounts and the like
        with tempfile.TemporaryDirectory(dir=nearest, prefix=".edgeship-"):
            pass
    except OSError as error:
        raise BadInput(f"{out}: cannot be written: {error.strerror}", hint="choose another folder with --out") from None


def write(out: Path, files: Mapping[str, Path | bytes]) -> None:
    """Put the files into the folder.

    A new folder, or one that holds nothing but an earlier build, changes in one step. In a folder with other files
    each of ours is renamed into its place, the manifest last, and the others are left alone.

    Raises:
        BadInput: the folder cannot be written.
        StageFailed: there is no space left.
    """
    try:
        with no_space_named(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
            try:
                _fill(fresh, files)
                _place(fresh, out, set(files))
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise BadInput(f"{out}: cannot be written: {error.strerror}", hint="choose another folder with --out") from None


def _fill(folder: Path, files: Mapping[str, Path | bytes]) -> None:
    folder.chmod(0o755)
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            shutil.copyfile(content, folder / name)


def _place(fresh: Path, out: Path, ours: set[str]) -> None:
    if not out.exists():
        try:
            fresh.rename(out)
            return
        except OSError:  # another build made it in the meantime
            if not out.is_dir():
                raise
    others = {path.name for path in out.iterdir()} - ours
    if not others and not out.is_symlink() and _exchanged(fresh, out):
        return
    (out / MANIFEST).unlink(missing_ok=True)  # no manifest, no build: what a kill leaves here cannot be taken for one
    for name in sorted(ours, key=lambda name: name == MANIFEST):
        (fresh / name).replace(out / name)


def _exchanged(fresh: Path, out: Path) -> bool:
    """Swap two folders in one step (Linux renameat2); say whether the system could."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    names = [os.fsencode(path) for path in (fresh, out)]
    return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE) == 0)
