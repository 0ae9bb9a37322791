"""Which packages are installed, in which version, and the command that installs what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

from edgeship import resources
from edgeship.errors import MissingTool

# Each package → the extra that brings it; what is not here belongs to the core.
EXTRA: Mapping[str, str] = {
    "alembic": "nightly",
    "litert-quantizer": "build",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "keras": "train",
    "psycopg": "nightly",
    "pyarrow": "parquet",
    "ruptures": "nightly",
    "scipy": "nightly",
    "sqlalchemy": "nightly",
    "tensorflow": "train",
    "tensorflow-model-optimization": "train",
    "tf-keras": "train",
}

# What the two kinds of passes run on; their versions are part of each result's cache key.
QUANTIZING = ("litert-quantizer", "ai-edge-litert", "numpy")
TRAINING = ("tensorflow", "tf-keras", "keras", "tensorflow-model-optimization", "numpy")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package.

    Raises:
        MissingTool: one is absent; the hint is the command that installs it.
    """
    return {package: _version(package) for package in packages}


def installed(package: str) -> str | None:
    """Return a package's version, or None when it is absent."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def install_command(package: str) -> str:
    """Return the command that brings a package."""
    extra = EXTRA.get(package, "train")
    checkout = resources.checkout()
    return f"pip install '{checkout}[{extra}]'" if checkout else f"pip install 'edgeship[{extra}]'"


def _version(package: str) -> str:
    found = installed(package)
    if found is None:
        raise MissingTool(f"the package {package} is needed and not installed", hint=install_command(package))
    return found
