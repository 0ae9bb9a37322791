"""What the user calls a model: a file, a SavedModel folder, a folder with a `model.toml`, or the name of a sample."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from edgeship import digest, onnx_external, resources, toml_file
from edgeship.errors import BadInput, unknown
from edgeship.examples import Preparation
from edgeship.toml_file import Record

MANIFEST = "model.toml"
SAVED_MODEL = "saved_model.pb"
DEFAULT = "digits"
_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
# A file of any other name may hold an ONNX model; one of these names is refused where it does.
_NOT_ONNX = frozenset({".keras", ".h5", ".hdf5", ".pt2", ".tflite", ".py"})


class InputEntry(Record):
    """`[inputs.<name>]`: how stored values become what the model eats."""

    scale: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0
    layout: Literal["NHWC", "NCHW"] | None = None
    range: tuple[float, float] | None = Field(None, description="what the model eats lies in it")


class DataEntry(Record):
    """`[data]`: labelled examples to judge by, others to calibrate with, and the licence of both."""

    file: str | None = None
    calibration: str | None = None
    licence: str | None = None


class QualityEntry(Record):
    """`[quality]`: the metric and the drop that is allowed."""

    metric: str | None = None
    max_drop: float | None = Field(None, ge=0)


class ModelEntry(Record):
    """A `model.toml`: a model and all that is needed to judge it, said once."""

    source: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    summary: str = ""
    licence: str | None = None
    inputs: dict[str, InputEntry] = Field(default_factory=dict)
    data: DataEntry = DataEntry()
    quality: QualityEntry = QualityEntry()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """One model to work on. `name` is the folder's or the file's; `sha256` is that of the source's content.

    `entry` is `module:function` where the source is the user's own Python file: it runs, since the command line names it.
    """

    name: str
    source: Path
    sha256: str
    data: Path | None = None
    calibration: Path | None = None
    preparation: Mapping[str, Preparation] = field(default_factory=dict)
    metric: str | None = None
    max_drop: float | None = None
    labels: tuple[str, ...] = ()
    entry: str | None = None


def samples() -> list[str]:
    """Return the names of the sample models."""
    return sorted(entry.parent.name for entry in resources.folder("models").glob(f"*/{MANIFEST}"))


def find(argument: str) -> Model:
    """Return the model that a command line names.

    Raises:
        BadInput: there is no such file, folder or sample (near miss offered), or its `model.toml` does not fit.
    """
    path, known = Path(argument), samples()
    try:
        if path.is_dir() and (path / MANIFEST).is_file():
            return _from_entry(path)
        if path.is_dir() and not (path / SAVED_MODEL).is_file() and argument not in known:
            raise BadInput(
                f"{path}: a folder without {SAVED_MODEL} or {MANIFEST}", hint=f"sample models: {', '.join(known)}"
            )
        if path.is_file() and path.suffix == ".py":
            raise BadInput(
                f"{path}: Python code; name the function in it that returns (model, example inputs)",
                hint=f"{'.'.join(path.with_suffix('').parts)}:function",
            )
        if path.is_file() or (path / SAVED_MODEL).is_file():
            return Model(name=path.resolve().stem, source=path, sha256=address(path))
        if path.exists() and not path.is_dir():
            raise BadInput(f"{path}: neither a file nor a folder")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    if argument in known:
        return _from_entry(resources.folder("models") / argument)
    if _ENTRY.fullmatch(argument):
        return _from_code(argument)
    if path.suffix or "/" in argument:
        raise BadInput(f"{argument}: no such file or folder", hint=f"sample models: {', '.join(known)}")
    raise unknown("model", argument, known)


def address(path: Path) -> str:
    """Return the sha256 of a model's file or folder; of an ONNX file and those that hold its weights, of all of them.

    Raises:
        BadInput: it is empty or cannot be read.
    """
    try:
        if path.is_file() and not path.stat().st_size:
            raise BadInput(f"{path}: the file is empty", hint="export or copy the model again")
        beside = onnx_external.companions(path) if path.is_file() and path.suffix.lower() not in _NOT_ONNX else ()
        whole = digest.of_path(path)
        return digest.of_value([whole, *map(digest.of_file, beside)]) if beside else whole
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None


def _from_code(argument: str) -> Model:
    """Return the model that a function of a Python file below the current folder returns; nothing is run yet."""
    module, _, function = argument.partition(":")
    stem = Path(*module.split("."))
    source = next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)
    if source is None:
        raise BadInput(
            f"{argument}: there is no {stem.with_suffix('.py')} here",
            hint="run edgeship in the folder that holds the module; a function is named my_module:function",
        )
    return Model(name=f"{stem.name}-{function}", source=source, sha256=address(source), entry=argument)


def _from_entry(folder: Path) -> Model:
    where = folder / MANIFEST
    entry = toml_file.read(where, ModelEntry)
    source = folder / entry.source
    if not source.exists():
        raise BadInput(f"{where}: its source '{entry.source}' is not there")
    found = address(source)
    if found != entry.sha256:
        raise BadInput(
            f"{source}: sha256 is {found}, but {where} says {entry.sha256}",
            hint="restore the file, or correct model.toml",
        )
    return Model(
        name=folder.resolve().name,
        source=source,
        sha256=found,
        data=_beside(folder, entry.data.file),
        calibration=_beside(folder, entry.data.calibration),
        preparation={name: _preparation(item) for name, item in entry.inputs.items()},
        metric=entry.quality.metric,
        max_drop=entry.quality.max_drop,
        labels=entry.labels,
    )


def _beside(folder: Path, name: str | None) -> Path | None:
    if name is None:
        return None
    if not (folder / name).is_file():
        raise BadInput(f"{folder / MANIFEST}: its data file '{name}' is not there")
    return folder / name


def _preparation(entry: InputEntry) -> Preparation:
    scale = (entry.scale,) if isinstance(entry.scale, float) else entry.scale
    offset = (entry.offset,) if isinstance(entry.offset, float) else entry.offset
    return Preparation(scale, offset, entry.range, entry.layout)
