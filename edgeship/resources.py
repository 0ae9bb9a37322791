"""Where the data that ships with edgeship lies: in the wheel, or at the top of a checkout."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """Return the folder `targets` or `models`: inside an installed wheel, else beside the package in a checkout."""
    installed = PACKAGE / name
    return installed if installed.is_dir() else PACKAGE.parent / name


def data(name: str) -> Path:
    """Return a file or folder of the package's own `data/`."""
    return PACKAGE / "data" / name


def board(name: str) -> Path:
    """Return a program that runs on boards."""
    return PACKAGE / "board" / name


def checkout() -> Path | None:
    """Return the folder of the checkout that runs, or None when edgeship was installed from a wheel."""
    above = PACKAGE.parent
    return above if (above / "pyproject.toml").is_file() else None
