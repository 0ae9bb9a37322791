"""uv, the installer of Python packages: where it is, and what it says when it fails."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
from pathlib import Path

from edgeship.command import Called, call

INSTALL_UV = "pip install uv"
_ASK_TIMEOUT_S = 30.0


def uv() -> str | None:
    """Return the program uv, found on PATH or as a package beside edgeship, or None."""
    found = shutil.which("uv")
    if found is None and importlib.util.find_spec("uv"):
        with contextlib.suppress(ImportError, FileNotFoundError):
            from uv import find_uv_bin  # type: ignore[import-not-found, unused-ignore]

            return str(find_uv_bin())
    return found


def folders_of_wheels() -> dict[str, str]:
    """Return the variable that tells uv of the folders of wheels which pip is configured with: uv reads nothing of pip's.

    A CPU build of torch that lies in one is a third of the registry's, and needs no CUDA.
    """
    pip = shutil.which("pip") or shutil.which("pip3")
    if "UV_FIND_LINKS" in os.environ or pip is None:
        return {}
    told = call(pip, "config", "list", timeout_s=_ASK_TIMEOUT_S, check=False).output
    places = re.findall(r"^(?:global|install|:env:)\.find-links='(.*)'$", told, re.MULTILINE)
    named = dict.fromkeys(place for line in places for place in line.replace("\\n", " ").split())
    folders = [place for place in named if Path(place).is_dir()]
    return {"UV_FIND_LINKS": ",".join(folders)} if folders else {}


def complaint(done: Called) -> str:
    """Return what an installer says is wrong, and the deepest cause it names; its last line is often advice."""
    text = done.errors or done.output
    wrong = re.findall(r"^\W*error:?\s*(.+)$", text, re.IGNORECASE | re.MULTILINE)
    causes = re.findall(r"^\W*(?:cause|caused by):\s*(.+)$", text, re.IGNORECASE | re.MULTILINE)
    return ": ".join([*wrong[:1], *causes[-1:]])[:400] or done.complaint
