"""What a kind of machine is: its facts, each group with its source, read from `targets/<name>.toml`.

To add a target: write `targets/<name>.toml` (`docs/targets.md` explains the keys; copy the nearest board's file).
A fact without a public source is left out and reads as None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from edgeship import resources, toml_file
from edgeship.errors import BadInput, unknown
from edgeship.toml_file import Record

Architecture = Literal["aarch64", "armv7l", "x86_64"]
System = Literal["linux", "android"]
Transport = Literal["local", "ssh", "adb"]


class Sourced(Record):
    """A group of facts and the public document that states them; a derived figure's source shows the derivation."""

    source: str = Field(min_length=10)


class Platform(Sourced):
    """The software side of the machine, as it names itself."""

    system: System
    architecture: Architecture | None = Field(
        None, description="None: that of the host the accelerator is plugged into"
    )
    abi: str | None = Field(
        None, description="what `dpkg --print-architecture` prints; on Android, ro.product.cpu.abi; never from uname"
    )


class Board(Sourced):
    """The board that the target stands for."""

    identity: str | None = Field(None, description="pattern that /proc/device-tree/model matches on this board")
    memory_mib: PositiveInt | None = Field(None, description="RAM of the smallest variant: more than a model may use")


class Cpu(Sourced):
    """The processor cores that run the model."""

    core: str | None = Field(None, description="the vendor's name of the core")
    cores: PositiveInt | None = None
    clock_mhz: PositiveInt | None = Field(None, description="highest stock clock of any revision of the board")
    features: tuple[str, ...] = Field((), description="what /proc/cpuinfo is sure to list; asimddp: int8 dot product")


class Peak(Sourced):
    """The roofs of a roofline: upper bounds from clocks and widths, not promises."""

    fp32_gflops: PositiveFloat | None = None
    int8_gops: PositiveFloat | None = None
    memory_gb_per_s: PositiveFloat | None = None


class Accelerator(Sourced):
    """A chip beside the CPU that runs compiled models."""

    kind: Literal["edgetpu"]
    attachment: Literal["usb", "pcie"]
    int8_tops: PositiveFloat
    on_chip_mib: PositiveFloat


class Runtime(Sourced):
    """What runs a model there, by its name in `edgeship/runtimes`, and the library it loads for an accelerator."""

    name: str
    version: str | None = Field(None, description="None: whatever the user has installed; the record then says which")
    delegate: str | None = None
    delegate_version: str | None = None
    delegate_library: str | None = Field(
        None, description="the delegate's file: a name that the loader finds, or a path"
    )
    delegate_options: Mapping[str, str] = Field(
        default_factory=dict, description="what the library is told when loaded"
    )
    delegate_runtime: PositiveInt | None = Field(
        None, description="the number that the library gives its runtime: what is compiled for a newer one is refused"
    )


class Gates(Sourced):
    """What a compiled file has to keep to; a limit that is not named is none. Broken by it, a build's verdict is negative."""

    streamed_bytes: NonNegativeInt | None = Field(None, description="weights fetched from the host at every inference")
    cpu_operators: NonNegativeInt | None = Field(None, description="operations that stay on the CPU")


class Target(Record):
    """A kind of machine, whole."""

    name: str
    summary: str
    platform: Platform
    transports: tuple[Transport, ...] = Field(min_length=1)
    threads: PositiveInt
    default_recipe: str
    max_drop: float | None = Field(
        None, ge=0, description="the target's own quality limit, for its default recipe only"
    )
    board: Board | None = None
    cpu: Cpu | None = None
    peak: Peak | None = None
    accelerator: Accelerator | None = None
    gates: Gates | None = None
    runtimes: tuple[Runtime, ...] = Field(min_length=1, description="the first is the one used unless another is named")
    refuses: Mapping[str, str] = Field(
        default_factory=dict, description="from a pattern over the parts of a recipe to the reason in words"
    )


def names() -> list[str]:
    """Return the names of the targets that ship with edgeship, sorted."""
    return sorted(path.stem for path in resources.folder("targets").glob("*.toml"))


def read(name_or_file: str) -> Target:
    """Return a target by its name, or from a user's own TOML file.

    Raises:
        BadInput: no target has that name (near miss offered), or the file does not fit.
    """
    if name_or_file.endswith(".toml"):
        return _from_file(Path(name_or_file))
    known = names()
    if name_or_file not in known:
        raise unknown("target", name_or_file, known)
    return _from_file(resources.folder("targets") / f"{name_or_file}.toml")


def read_all() -> list[Target]:
    """Return every target that ships with edgeship, sorted by name.

    Raises:
        BadInput: one of the files does not fit.
    """
    return [read(name) for name in names()]


def refusal(target: Target, parts: Sequence[str]) -> str | None:
    """Return the reason why a target refuses a recipe of these parts (`Recipe.parts`), or None when it takes it."""
    for pattern, reason in target.refuses.items():
        if any(fnmatchcase(part, pattern) for part in parts):
            return reason
    return None


def _from_file(path: Path) -> Target:
    target = toml_file.read(path, Target)
    if target.name != path.stem:
        raise BadInput(f"{path}: 'name' is the file's own: expected '{path.stem}'; got '{target.name}'")
    return target
