"""Writing a build's folder: whole or not at all, and never over a file that edgeship did not make."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgeship import scratch
from edgeship.errors import BadInput
from edgeship.store import no_space_named, write_whole

ARTIFACT, MANIFEST, REPORT = "model.tflite", "manifest.json", "report.html"
UNFINISHED = b'{"edgeship": "unfinished"}\n'
_AT_FDCWD, _EXCHANGE = -100, 2


def check_writable(out: Path, names: Iterable[str], manifest: str = MANIFEST) -> None:
    """Refuse an out folder that cannot be written, or where the names are taken by the user's own files, before any work.

    Raises:
        BadInput: it, or what stands where its parent should be, is not a writable folder; or a file there is not ours.
    """
    try:  # asking the permission bits is not enough for root, read-only mounts and the like
        if out.is_symlink() and not out.exists():
            raise BadInput(f"{out}: is a link to {out.readlink()}, which is not there")
        if out.exists() and not out.is_dir():
            raise BadInput(f"{out}: is a file; --out names a folder")
        nearest = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
        if not nearest.is_dir():
            raise BadInput(f"{nearest}: is a file; --out {out} needs a folder there")
        _check_ours(out, names, manifest)
        with scratch.folder(_beside(out) if out.exists() else nearest):
            pass
    except OSError as error:
        raise BadInput(f"{out}: cannot be written: {error.strerror}", hint="choose another folder with --out") from None


def _beside(out: Path) -> Path:
    """Return the folder where the new content is put together: beside `out`, or in it where that is another file
    system (a mounted volume) or a place we may not write."""
    if not out.exists():
        return out.parent
    parent = out.resolve().parent
    same = parent.stat().st_dev == out.stat().st_dev
    return parent if same and os.access(parent, os.W_OK) else out


def _check_ours(out: Path, names: Iterable[str], manifest: str) -> None:
    """Refuse to write over files of ours' names where no manifest of ours stands beside them."""
    taken = [name for name in names if (out / name).exists()]
    if not taken:
        return
    try:
        table = json.loads((out / manifest).read_bytes())
    except (OSError, ValueError):
        table = None
    if not (isinstance(table, dict) and "edgeship" in table):
        raise BadInput(
            f"{out / taken[0]}: is there already and was not made by edgeship", hint="choose another folder with --out"
        )


def write(out: Path, files: Mapping[str, Path | bytes], manifest: str = MANIFEST) -> None:
    """Put the files into the folder; the manifest is the one of them that says that the folder is ours.

    A new folder, or one that holds nothing but an earlier build, changes in one step. In a folder with other files
    each of ours is renamed into its place, the manifest last, and the others are left alone.

    Raises:
        BadInput: the folder cannot be written, or holds files of these names that are not ours.
        StageFailed: there is no space left.
    """
    try:
        with no_space_named(out):
            _check_ours(out, files, manifest)
            out.parent.mkdir(parents=True, exist_ok=True)
            with scratch.folder(_beside(out)) as fresh:
                _fill(fresh, files)
                _place(fresh, out, set(files), manifest)
    except OSError as error:
        raise BadInput(f"{out}: cannot be written: {error.strerror}", hint="choose another folder with --out") from None


def _fill(folder: Path, files: Mapping[str, Path | bytes]) -> None:
    folder.chmod(0o755)
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            shutil.copyfile(content, folder / name)


def _place(fresh: Path, out: Path, ours: set[str], manifest: str) -> None:
    (fresh / scratch.LOCK).unlink()
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
    write_whole(out / manifest, UNFINISHED)  # what a kill leaves here is known as ours, and as no build
    for name in sorted(ours, key=lambda name: name == manifest):
        (fresh / name).replace(out / name)


def _exchanged(fresh: Path, out: Path) -> bool:
    """Swap two folders in one step (Linux renameat2); say whether the system could."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    names = [os.fsencode(path) for path in (fresh, out)]
    return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE) == 0)
