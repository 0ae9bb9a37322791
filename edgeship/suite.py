"""A suite: what a night measures and what that is held to; one TOML file of the user's, read strictly."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from edgeship import digest, toml_file
from edgeship.errors import BadInput
from edgeship.nightly_record import Case
from edgeship.toml_file import Record

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """Return the seconds in `90s`, `30m`, `1.5h`, `1d`.

    Raises:
        ValueError: it is none of these, or nothing.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise ValueError(f'expected a time above zero, such as "90s", "30m" or "2h"; got "{text}"')
    return float(found[1]) * _SECONDS[found[2]]


def _is_duration(text: str) -> str:
    seconds(text)
    return text


def _has_unit(given: object) -> object:
    if isinstance(given, int | float) and not isinstance(given, bool):
        raise ValueError(f'a time has its unit, as in "{given}s"')
    return given


Duration = Annotated[str, BeforeValidator(_has_unit), AfterValidator(_is_duration)]


class Pattern(Record):
    """Which cases are meant: globs; what is left out fits all."""

    model: str = "*"
    target: str = "*"
    recipe: str = "*"
    device: str = "*"

    def fits(self, case: Case) -> bool:
        """Say whether a case is meant."""
        return all(
            fnmatchcase(getattr(case, part), getattr(self, part)) for part in ("model", "target", "recipe", "device")
        )


class Budget(Pattern):
    """`[[budget]]`: absolute limits for the cases that it fits; what is not said is not limited."""

    latency_ms: float | None = Field(None, gt=0, description="the median of the night's runs")
    memory_mib: float | None = Field(None, gt=0)
    size_bytes: int | None = Field(None, gt=0)
    quality: float | None = Field(
        None,
        description="at least this, of the metric that the build was judged by; at most, where less of it is better",
    )


class Smallest(Record):
    """`[gates.smallest]`: a change below it is not worth telling. A share, of quality the metric's own unit."""

    latency: float | None = Field(None, gt=0, lt=1)
    memory: float | None = Field(None, gt=0, lt=1)
    size: float | None = Field(None, gt=0, lt=1)
    quality: float | None = Field(None, gt=0)


class Gates(Record):
    """`[gates]`: what is judged, how small a change counts, and how rarely an unchanged comparison may raise an alarm."""

    latency: bool = True
    memory: bool = True
    size: bool = True
    quality: bool = True
    alpha: float = Field(0.01, gt=0, lt=0.5)
    smallest: Smallest = Smallest()

    @property
    def on(self) -> tuple[str, ...]:
        """Return the metrics that are judged."""
        return tuple(name for name in ("latency", "memory", "size", "quality") if getattr(self, name))

    @model_validator(mode="after")
    def _one_at_least(self) -> Gates:
        if not self.on:
            raise ValueError("all gates are off: nothing would be judged")
        return self


class Measuring(Record):
    """`[bench]`: how each run is done, as the options of `edgeship bench`."""

    runs: int | None = Field(None, ge=8)
    min_seconds: float | None = Field(None, ge=0)
    warmup_seconds: float | None = Field(None, ge=0)
    threads: PositiveInt | None = None
    batch: PositiveInt = 1
    governor: str | None = None
    shared_machine: bool = Field(
        False,
        description="others work on these devices too: that they loaded the cores, or that the times never became steady, "
        "is a doubt and no reason against a run; the gate learns what it does to the times",
    )


class ModelOptions(Record):
    """`[model.NAME]`: what `build` has to be told of a model. Files are relative to the suite's folder.

    Attributes:
        source: what `build` takes; the name itself if it is left out.
        measured_data: npz by which quality is measured on the device too, as `bench --data`.
    """

    source: str | None = None
    data: str | None = None
    calibration: tuple[str, ...] = ()
    scale: tuple[float, ...] | None = None
    offset: tuple[float, ...] | None = None
    shapes: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    keep_layout: bool = False
    metric: str | None = None
    max_drop: float | None = Field(None, ge=0)
    seed: int = Field(0, ge=0, le=2**32 - 2)
    trust: tuple[str, ...] = ()
    measured_data: str | None = None


class Suite(Record):
    """A suite, whole; `path` is its file and `sha256` that of its content.

    Attributes:
        models: whatever `build` takes, or names of `[model.NAME]` tables.
        targets: globs; only devices of these kinds.
        recipes: none: each target's default.
        devices: names and globs of the devices file, `local`, `virtual:<target>`, `tag:WORD` for all with that tag, and
            `any:WORD` for one of them, whichever is free.
        include: if there are any, only cases that one of them fits; `exclude` takes cases out.
        repeats: runs of each artifact before the first verdict; the gate may want more.
        time_limit: of the whole night; `run_limit` of one run; `wait`: for a device that somebody else holds.
        retries: how often a run is tried again after a fault, `backoff` the first wait between.
        cool: the longest wait for a board to cool.
        hook: words of a command; `{device}` and `{event}` (power-cycle) are filled in.
        boot: how long a board may take after a power-cycle.
        lease: how long a device stays taken after the process that held it has died.
    """

    name: str = Field("suite", pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")
    models: tuple[str, ...] = Field(min_length=1)
    targets: tuple[str, ...] = ("*",)
    recipes: tuple[str, ...] = ()
    devices: tuple[str, ...] = Field(min_length=1)
    include: tuple[Pattern, ...] = ()
    exclude: tuple[Pattern, ...] = ()
    tags: tuple[str, ...] = ()
    repeats: int = Field(2, ge=1, le=50)
    time_limit: Duration = "8h"
    run_limit: Duration = "15m"
    wait: Duration = "30m"
    retries: int = Field(2, ge=0, le=20)
    backoff: Duration = "10s"
    cool: Duration = "10m"
    boot: Duration = "2m"
    lease: Duration = "60s"
    hook: tuple[str, ...] = ()
    gates: Gates = Gates()
    budget: tuple[Budget, ...] = ()
    bench: Measuring = Measuring()
    model: dict[str, ModelOptions] = Field(default_factory=dict)
    path: Path = Path()
    sha256: str = ""

    @property
    def folder(self) -> Path:
        """Return the folder that files named in it are relative to."""
        return self.path.parent

    def options_of(self, model: str) -> ModelOptions:
        """Return what is said of a model."""
        return self.model.get(model, ModelOptions())

    def wants(self, case: Case) -> bool:
        """Say whether a case of the matrix is to be measured."""
        if not any(fnmatchcase(case.target, each) for each in self.targets):
            return False
        included = not self.include or any(each.fits(case) for each in self.include)
        return included and not any(each.fits(case) for each in self.exclude)

    def budget_of(self, case: Case) -> Budget:
        """Return the limits of a case: of each the last one that fits it."""
        limits = {
            name: value
            for each in self.budget
            if each.fits(case)
            for name in ("latency_ms", "memory_mib", "size_bytes", "quality")
            if (value := getattr(each, name)) is not None
        }
        return Budget(**limits)


def read(path: Path) -> Suite:
    """Return the suite in a file.

    Raises:
        BadInput: it cannot be read or does not fit; the text starts with the file and offers the near miss.
    """
    if path.is_dir():
        raise BadInput(f"{path}: a folder; the suite's TOML file is expected")
    table = toml_file.read_table(path)
    for taken in ("path", "sha256"):
        if taken in table:
            raise BadInput(f"{path}: no such key '{taken}'")
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("-._") or "suite"
    found = toml_file.parse({"name": stem, **table}, Suite, where=str(path))
    _check(found, path)
    return found.model_copy(update={"path": path.absolute(), "sha256": digest.of_file(path)})


def _check(found: Suite, path: Path) -> None:
    for key in ("models", "recipes", "devices", "targets"):
        twice = _repeated(getattr(found, key))
        if twice is not None:
            raise BadInput(f"{path}: '{key}': '{twice}' stands twice")
    for name in found.model:
        if name not in found.models:
            from edgeship.errors import unknown

            raise unknown("model", name, found.models, where=f"{path}: [model.{name}]")
    for word in found.hook:
        if not _fillable(word):
            raise BadInput(
                f"{path}: 'hook': {word!r}: only {{device}} and {{event}} can be filled in",
                hint="a brace is written {{",
            )


def _fillable(word: str) -> bool:
    """Say whether a word's fields are those of the hook, plain: nothing of theirs, no form."""
    try:
        fields = [found for found in Formatter().parse(word) if found[1] is not None]
    except ValueError:  # a brace alone
        return False
    return all(name in ("device", "event") and not form and kind is None for _, name, form, kind in fields)


def _repeated(words: Iterable[Any]) -> Any:
    seen = set()
    for word in words:
        if word in seen:
            return word
        seen.add(word)
    return None
