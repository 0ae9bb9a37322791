"""Python packages for the board's Python, installed by uv or pip of this machine into the board's own folder."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from edgeship import command
from edgeship.errors import MissingTool

_TIMEOUT_S = 900.0
_PLATFORM = "aarch64-unknown-linux-gnu"  # uv's word for any Linux on 64-bit Arm with a current C library
_TAGS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")  # pip's, newest first


def install(package: str, root: Path, *, log: Path) -> None:
    """Install a package and what it needs below `root`, where the Python there finds it; only ready-made wheels are taken.

    Raises:
        MissingTool: this machine has neither uv nor pip.
        StageFailed: a wheel cannot be had; the text ends with the path of the log.
    """
    version = next((root / "usr/bin").glob("python3.*[0-9]")).name.removeprefix("python")
    target = root / f"usr/local/lib/python{version}/dist-packages"
    target.mkdir(parents=True, exist_ok=True)
    line = [*_installer(version), "--target", str(target), "--python-version", version, "--only-binary", ":all:"]
    command.call(*line, package, timeout_s=_TIMEOUT_S, log=log)


def _installer(version: str) -> list[str]:
    uv = shutil.which("uv")
    if uv or importlib.util.find_spec("uv"):
        first = [uv] if uv else [sys.executable, "-m", "uv"]
        return [*first, "pip", "install", "--quiet", "--python-platform", _PLATFORM]
    if importlib.util.find_spec("pip"):
        tags = [word for tag in _TAGS for word in ("--platform", f"{tag}_aarch64")]
        return [sys.executable, "-m", "pip", "install", "--quiet", "--implementation", "cp", *tags]
    raise MissingTool("installing the board's Python packages takes uv or pip", hint="python -m ensurepip")
