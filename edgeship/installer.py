"""uv, the installer of Python packages: where it is, and what it says when it fails."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil

from edgeship.command import Called

INSTALL_UV = "pip install uv"


def uv() -> str | None:
    """Return the program uv, found on PATH or as a package beside edgeship, or None."""
    found = shutil.which("uv")
    if found is None and importlib.util.find_spec("uv"):
        with contextlib.suppress(ImportError, FileNotFoundError):
            from uv import find_uv_bin  # type: ignore[import-not-found, unused-ignore]

            return str(find_uv_bin())
    return found


def complaint(done: Called) -> str:
    """Return what an installer says is wrong, and the deepest cause it names; its last line is often advice."""
    text = done.errors or done.output
    wrong = re.findall(r"^\W*error:?\s*(.+)$", text, re.IGNORECASE | re.MULTILINE)
    causes = re.findall(r"^\W*(?:cause|caused by):\s*(.+)$", text, re.IGNORECASE | re.MULTILINE)
    return ": ".join([*wrong[:1], *causes[-1:]])[:400] or done.complaint
