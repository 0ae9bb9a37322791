"""Keras files, both containers (.keras, .h5) of both generations: what is inside, and loading without running its code.

A model's configuration may name any class or function of any module, hold Python bytecode, or point at other files.
All of it is read as JSON first, and refused unless the user names the module to trust.
"""

from __future__ import annotations

import importlib
import json
import os
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from edgeship import child
from edgeship.errors import BadInput
from edgeship.keras_code import LAMBDA, ForeignCode, foreign_code
from edgeship.progress import OnProgress

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"
DESCRIBE_TIMEOUT_S = 30  # a whole one takes 0.1 s
DESCRIBE_MEMORY_GIB = 4
MAX_CONFIG_BYTES = 256 * 1024**2
MAX_WEIGHT_BYTES = 8 * 1024**3  # a TFLite file ends at 2 GiB; an optimizer's state may be stored beside the weights
MAX_ZIP_RATIO = 1100  # deflate cannot do better than 1032

Flavour = Literal["keras", "tf_keras"]

# Damaged files make Keras, h5py and zipfile raise any of these; TensorFlow's own tree is added where it is imported.
LOAD_FAULTS: tuple[type[Exception], ...] = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, NameError, OSError,
    RuntimeError, TypeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class KerasFile:
    """What a Keras file says of itself: `layers` are class names in order, `refused` what loading it could run."""

    flavour: Flavour
    version: str
    layers: tuple[str, ...]
    refused: tuple[ForeignCode, ...]


@dataclass(frozen=True)
class LoadedKeras:
    """A model, loaded without its training state, and the package it belongs to."""

    model: Any
    flavour: Flavour


def describe(path: Path) -> KerasFile:
    """Return what a Keras file holds, from its configuration alone; no code of the model runs.

    HDF5 may end the process on a damaged file, or keep it for ever: call it in a child, or use `describe_apart`.

    Raises:
        BadInput: not a Keras model, damaged, or made to do harm (compression bombs, links to other files).
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    with path.open("rb") as stream:
        magic = stream.read(8)
    try:
        if magic == HDF5_MAGIC:
            config, version = _read_hdf5_model(path)
        elif magic.startswith(ZIP_MAGIC):
            config, version = _read_zip(path)
        else:
            raise BadInput(f"{path}: neither HDF5 nor a .keras archive, though its name says Keras")
    except LOAD_FAULTS as fault:
        raise BadInput(f"{path}: damaged or not a Keras model: {_first_line(fault)}") from fault
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise BadInput(f"{path}: holds no model, weights only perhaps", hint="save the whole model: model.save(...)")
    config.pop("compile_config", None)  # never loaded, so its losses and metrics may be anyone's
    flavour: Flavour = "keras" if _major(path, version) >= 3 else "tf_keras"
    return KerasFile(flavour, version, tuple(_layers(config)), tuple(foreign_code(config)))


def describe_apart(path: Path) -> KerasFile:
    """Return what `describe` does, from a process of its own: HDF5 1.14 aborts or never returns on some damaged files.

    Raises:
        BadInput: as `describe`, or the reading did not come to an end.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            return child.run(
                partial(_describe, path=path),
                log=Path(folder) / "log.txt",
                timeout_s=DESCRIBE_TIMEOUT_S,
                memory_gib=DESCRIBE_MEMORY_GIB,
            )
        except child.ChildCrashed as crash:
            reason = crash.message.split("; full log")[0]
            raise BadInput(f"{path}: damaged: HDF5 cannot read it ({reason})") from None


def _describe(on_progress: OnProgress, path: Path) -> KerasFile:
    return describe(path)


def _major(path: Path, version: str) -> int:
    major = version.split(".")[0]
    if not major.isdecimal():
        raise BadInput(f"{path}: 'keras_version' is not a version: {version[:40]!r}")
    return int(major)


def _read_zip(path: Path) -> tuple[Any, str]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            _check_member(path, member)
        names = [member.filename for member in members]
        if len(set(names)) != len(names):
            raise BadInput(f"{path}: the archive holds two files of one name")
        if sum(member.file_size for member in members) > MAX_WEIGHT_BYTES:
            raise BadInput(f"{path}: says it unpacks to more than {MAX_WEIGHT_BYTES // 1024**3} GiB")
        if "config.json" not in names:
            raise BadInput(f"{path}: an archive without config.json is not a Keras model")
        config = json.loads(_read_member(path, archive, "config.json"))
        about = json.loads(_read_member(path, archive, "metadata.json")) if "metadata.json" in names else {}
        if "model.weights.h5" in names:
            with archive.open("model.weights.h5") as weights:
                _check_hdf5(path, weights)
    return config, str(about.get("keras_version", "3"))


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    name = PurePosixPath(member.filename)
    if name.is_absolute() or ".." in name.parts or "\\" in member.filename or (member.external_attr >> 28) == 0xA:
        raise BadInput(f"{path}: the archive's '{member.filename}' points outside of it")
    if name.name.endswith((".npz", ".pkl", ".pickle")):
        raise BadInput(f"{path}: '{member.filename}' may hold pickled objects, which run code when read")
    if member.file_size > MAX_ZIP_RATIO * max(member.compress_size, 1):
        raise BadInput(
            f"{path}: '{member.filename}' says it unpacks to {member.file_size} bytes, more than is possible"
        )


def _read_member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MAX_CONFIG_BYTES:
        raise BadInput(f"{path}: {name} is larger than {MAX_CONFIG_BYTES // 1024**2} MiB")
    return archive.read(name)


def _read_hdf5_model(path: Path) -> tuple[Any, str]:
    import h5py

    with path.open("rb") as stream:
        _check_hdf5(path, stream)
    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
        if config is None:
            return None, "2"
        return json.loads(config), _text(file.attrs.get("keras_version", "2"))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _check_hdf5(path: Path, stream: IO[bytes]) -> None:
    """Refuse HDF5 whose data lies in other files, or whose declared size no model has."""
    import h5py

    with h5py.File(stream, "r") as file:
        declared_bytes = 0
        groups, seen = [file["/"]], set()
        while groups:
            group = groups.pop()
            if group.id.__hash__() in seen:
                continue
            seen.add(group.id.__hash__())
            for name in group:
                if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                    raise BadInput(f"{path}: '{name}' is a link to another file")
                member = group[name]
                if isinstance(member, h5py.Group):
                    groups.append(member)
                elif isinstance(member, h5py.Dataset):
                    if member.external or member.is_virtual:
                        raise BadInput(f"{path}: the data of '{name}' lies in another file")
                    declared_bytes += member.nbytes
        if declared_bytes > MAX_WEIGHT_BYTES:
            raise BadInput(f"{path}: declares {declared_bytes / 1024**3:.0f} GiB of weights")


def _layers(config: dict[str, Any]) -> Iterator[str]:
    inner = config.get("config")
    layers = inner.get("layers", ()) if isinstance(inner, dict) else inner
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict):
            yield str(layer.get("class_name"))


def load(path: Path, trust: tuple[str, ...]) -> LoadedKeras:
    """Return the model of a Keras file, not compiled, by the package that wrote it.

    Args:
        path: the file; described first, in a process of its own.
        trust: modules whose code may run (looked for in the current folder too); "lambda" lets bytecode run.

    Raises:
        BadInput: the file is damaged, or uses code that is not trusted.
    """
    file = describe_apart(path)
    refuse_untrusted(path, file, trust)
    try:
        custom_objects = _custom_objects(path, file, trust)
        model = _load(path, file.flavour, custom_objects, safe=LAMBDA not in trust)
    except LOAD_FAULTS as fault:
        raise BadInput(
            f"{path}: {file.flavour} cannot load it: {_first_line(fault)}", hint=_next_move(path, file.flavour, fault)
        ) from fault
    return LoadedKeras(model, file.flavour)


def refuse_untrusted(path: Path, file: KerasFile, trust: tuple[str, ...]) -> None:
    """Raise BadInput for the first foreign code of a file that no trusted module can stand for."""
    modules = tuple(name for name in trust if name != LAMBDA)
    for code in file.refused:
        if code.trusted_by == LAMBDA and LAMBDA in trust:
            continue
        if code.trusted_by not in (None, LAMBDA) and modules:
            continue  # whether one of them defines it is known once they are imported
        hint = f"if you trust it: --trust {code.trusted_by}" if code.trusted_by else None
        if code.trusted_by == "MODULE":
            hint = f"--trust MODULE, where MODULE is the Python module that defines '{code.name}'"
        raise BadInput(f"{path}: {code.reason}", hint=hint)


def _custom_objects(path: Path, file: KerasFile, trust: tuple[str, ...]) -> dict[str, Any]:
    """Import the trusted modules and return what they define; raise BadInput when that leaves something unknown."""
    found: dict[str, Any] = {}
    modules = [name for name in trust if name != LAMBDA]
    if not modules:
        return found
    keras = _keras(file.flavour)
    sys.path.append(str(Path.cwd()))
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError as fault:
            raise BadInput(f"--trust {name}: cannot be imported: {fault}") from fault
        found |= {key: value for key, value in vars(module).items() if getattr(value, "__module__", None) == name}
    registered = {**keras.saving.get_custom_objects(), **found}
    for code in file.refused:
        if code.trusted_by == LAMBDA or code.key in registered:
            continue
        if code.module is None or not any(
            code.module == name or code.module.startswith(name + ".") for name in modules
        ):
            raise BadInput(
                f"{path}: {code.reason}, and not defined by {', '.join(modules)}", hint="--trust that module too"
            )
    return found


def _keras(flavour: Flavour) -> Any:
    if flavour == "keras":
        os.environ["KERAS_BACKEND"] = "tensorflow"
    else:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"  # TensorFlow then does not import Keras 3: 2 s less
    return importlib.import_module(flavour)


def _load(path: Path, flavour: Flavour, custom_objects: dict[str, Any], *, safe: bool) -> Any:
    keras = _keras(flavour)
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, path.open("rb") as stream:
        is_zip = stream.read(4) == ZIP_MAGIC
        link = Path(folder) / ("model.keras" if is_zip else "model.h5")  # Keras goes by the suffix alone
        link.symlink_to(path.resolve())
        try:
            return keras.models.load_model(str(link), custom_objects=custom_objects, compile=False, safe_mode=safe)
        except tf.errors.OpError as fault:
            raise ValueError(_first_line(fault)) from fault


def _first_line(fault: BaseException) -> str:
    lines = [line for line in str(fault).strip().splitlines() if line.strip()]
    return lines[0].strip()[:300] if lines else type(fault).__name__


def _next_move(path: Path, flavour: Flavour, fault: BaseException) -> str | None:
    text = str(fault)
    if "Unknown layer" in text or "Could not locate class" in text or "Unknown object" in text:
        return "a layer of your own: --trust MODULE, where MODULE is the Python module that defines it"
    if flavour == "keras" and path.suffix != ".keras" and "positional arguments" in text:
        # Keras 3.15 writes an operation (x + 3) to .h5 under the name of the layer Add, and cannot read it back.
        return "Keras 3 cannot read operations back from .h5: save the model as .keras"
    return None
