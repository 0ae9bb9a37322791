"""What one release of a TFLite runtime is: where its wheels run, and what it takes, from `data/runtimes/*.toml`.

To add a release: 1. write `data/runtimes/<name>-<major.minor>.toml` (copy the nearest one); 2. run `tests/lab/test_wheels.py`: it
asks the real runtime for every fact in the file and says which differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from pydantic import Field

from edgeship import resources, toml_file
from edgeship.toml_file import Record


@dataclass(frozen=True)
class Refusal:
    """Why something cannot be done on a board, and the user's next move."""

    reason: str
    hint: str


class Wheels(Record):
    """The wheels of a release: architecture → glibc, and Python → the numpy that goes with it.

    `tag` is the glibc that a wheel's name claims, which decides what an installer accepts; `needs` the newest one whose symbols its
    libraries really ask for. They differ, both ways.
    """

    tag: Mapping[str, str]
    needs: Mapping[str, str]
    numpy: Mapping[str, str] = Field(description="the keys are all the Pythons that there are wheels for")
    board_numpy: Mapping[str, str] = Field(
        default_factory=dict, description="architectures without numpy wheels → the command that brings numpy there"
    )
    keep: tuple[str, ...] = Field(min_length=1, description="patterns of the files that running a model needs")


class Wrong(Record):
    """A kind of operation that the release loads and gets wrong, or does not load although it knows its version.

    Every condition that is given has to hold.
    """

    operators: tuple[str, ...] = Field(min_length=1, description="patterns of names")
    reason: str = Field(min_length=10, description="follows the operation's name in a sentence")
    inputs: tuple[str, ...] = Field((), description="type of the first input")
    outputs: tuple[str, ...] = Field((), description="type of the first output")
    weights: tuple[str, ...] = Field((), description="type of a constant input")
    scales: Literal["one", "several"] | None = Field(None, description="of that constant")
    grouped: bool = Field(False, description="the kernel is less deep than the input")
    bias: Literal["absent"] | None = Field(None, description="the third input")
    product: bool = Field(False, description="of matrices: several rows of input, or fewer than four outputs")
    architectures: tuple[str, ...] = Field((), description="on which it is so; without one, on all")


class Release(Record):
    """One release of a runtime."""

    name: str
    version: str
    source: str = Field(min_length=10)
    wheels: Wheels
    types: tuple[str, ...] = Field(description="tensor types that it loads")
    custom: tuple[str, ...] = Field(description="custom operations that it brings")
    lowest: Mapping[str, int] = Field(default_factory=dict, description="operation → its lowest version, where not 1")
    versions: Mapping[str, tuple[str, ...]] = Field(description="version → the operations of which it is the highest")
    wrong: tuple[Wrong, ...] = ()

    @property
    def title(self) -> str:
        """Return its name and version."""
        return f"{self.name} {self.version}"

    def highest(self) -> dict[str, int]:
        """Return the highest version of each operation that it takes."""
        return {name: int(version) for version, names in self.versions.items() for name in names}


@cache
def read_all() -> tuple[Release, ...]:
    """Return every release in the data, the newest of each name first, ai-edge-litert before tflite-runtime.

    Raises:
        BadInput: one of the files does not fit.
    """
    found = [toml_file.read(path, Release) for path in resources.data("runtimes").glob("*.toml")]
    return tuple(sorted(sorted(found, key=lambda one: numbers(one.version), reverse=True), key=lambda one: one.name))


def find(name: str, version: str | None) -> Release | None:
    """Return the release of a runtime whose major and minor numbers are those of `version`."""
    if version is None:
        return None
    wanted = numbers(version)[:2]
    return next((one for one in read_all() if one.name == name and numbers(one.version)[:2] == wanted), None)


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, to compare by: `2.5.0.post1` is (2, 5, 0)."""
    parts: list[int] = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        parts.append(int(part))
    return tuple(parts)
