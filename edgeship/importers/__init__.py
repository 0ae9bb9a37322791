"""Source formats: each importer turns one of them into the float32 TFLite reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgeship.check_inputs import RealInputs
from edgeship.errors import BadInput
from edgeship.progress import OnProgress


@dataclass(frozen=True)
class Request:
    """What an importer needs beside the source.

    Attributes:
        source: the model file or folder.
        reference: where the float32 TFLite file is to be written (its folder exists).
        check: where the check's arrays are to be written, as npz: `input:<name>` (float32 or the input's dtype, what the
            model eats, with the batch axis first) and `output:<name>` (what the source's own runtime gives for them).
        examples: a few real inputs and how they are prepared, or None: then seeded standard normal inputs of the
            model's shapes are made by the importer.
        shapes: input name → full shape, as the user typed it; overrides what the model declares.
        trust: modules that the user allows to be imported, for models with code of their own.
        keep_layout: images keep the axis that the source has their channels on; otherwise they end with them.
        log: gets what programs that take part print; None: it is lost.
        entry: `module:function` of a source that is the user's own code, which the user named on the command line.
    """

    source: Path
    reference: Path
    check: Path
    examples: RealInputs | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    trust: tuple[str, ...] = ()
    seed: int = 0
    keep_layout: bool = False
    log: Path | None = None
    entry: str | None = None


@dataclass(frozen=True)
class Imported:
    """What an importer says of its work.

    Attributes:
        checked_against: the source's own runtime and its version, such as "tf_keras 2.21.0 predict".
        input_names: the reference's signature inputs, in order.
        output_names: its outputs, in order: `output:<name>` in the check file.
        examples: how many inputs stand in the check file.
        trainable: whether training passes can start from the source itself (a Keras model).
        notes: what the user should know, such as weights that were already int8.
        tools: package → version of everything that took part.
    """

    checked_against: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    examples: int
    trainable: bool
    notes: tuple[str, ...] = ()
    tools: dict[str, str] = field(default_factory=dict)


class Importer(Protocol):
    """One source format, satisfied by a module.

    To add a format: 1. write `importers/<format>.py` with the names below; 2. add its line to `IMPORTERS`;
    3. the contract test asks it the same questions as every other.
    """

    SUMMARY: str
    PACKAGES: tuple[str, ...]  # distributions whose versions decide the result, and that must be installed
    ENVIRONMENTS: tuple[
        str, ...
    ]  # those of `edgeship.environment` that it converts in; they are ready when it is asked

    def recognizes(self, source: Path) -> bool:
        """Say whether the file's content (not its name alone) is of this format; cheap, loads no heavy library."""

    def bring(self, on_progress: OnProgress, request: Request) -> Imported:
        """Write the reference and the check file. Runs in a child process; heavy libraries are imported inside.

        Raises:
            BadInput: the source is damaged, holds code that is not trusted, or has shapes that must be given.
            StageFailed: the converter refused.
        """


# The plugs need the names above, so they are imported below them.
from edgeship.importers import keras, onnx, pytorch, saved_model, tflite  # noqa: E402

IMPORTERS: dict[str, Importer] = {
    "keras": keras,
    "onnx": onnx,
    "pytorch": pytorch,
    "saved_model": saved_model,
    "tflite": tflite,
}

_SUFFIXES = {
    ".keras": "keras",
    ".h5": "keras",
    ".hdf5": "keras",
    ".onnx": "onnx",
    ".pt2": "pytorch",
    ".tflite": "tflite",
}
_MAGIC = {
    b"PK\x03\x04": "a zip archive",
    b"\x89HDF": "HDF5",
    b"\x80\x04": "a Python pickle",
    b"\x80\x02": "a Python pickle",
    b"\x1f\x8b": "gzip",
    b"<": "HTML or XML",
    b"version https://git-lfs": "a git-lfs pointer, not the file that it stands for",
}
SUPPORTED = ".keras, .h5, .onnx, .pt2, .tflite, SavedModel folders and my_module:function (PyTorch)"


def recognize(source: Path) -> str:
    """Return the name of the importer for a file or folder, by what is inside; reads a few bytes.

    Raises:
        BadInput: missing, empty, of a kind that no importer takes, or not what its name says.
    """
    try:
        if not source.exists():
            raise BadInput(f"{source}: no such file or folder")
        if source.is_file() and source.stat().st_size == 0:
            raise BadInput(f"{source}: the file is empty")
        found = next((name for name, importer in IMPORTERS.items() if importer.recognizes(source)), None)
        head = b"" if source.is_dir() else _head(source)
    except OSError as fault:
        raise BadInput(f"{source}: cannot be read: {fault.strerror or fault}") from fault
    suffix = source.suffix.lower()
    said = _SUFFIXES.get(suffix) if source.is_file() else found
    if found and said in (found, None) and not (suffix in (".h5", ".hdf5") and head.startswith(b"PK")):
        return found
    if source.is_dir():
        raise BadInput(f"{source}: a folder without saved_model.pb", hint=f"models are {SUPPORTED}")
    content = found_kind(head)
    if said:
        raise BadInput(
            f"{source}: content is not what its name says: it is {content}", hint="was the download complete?"
        )
    raise BadInput(f"{source}: not a model that edgeship reads; it is {content}", hint=f"models are {SUPPORTED}")


def _head(source: Path) -> bytes:
    with source.open("rb") as stream:
        return stream.read(64)


def found_kind(head: bytes) -> str:
    """Return in words what a file with this beginning is."""
    if head[4:8] == b"TFL3":
        return "a TFLite file"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    return "text" if head.isascii() and b"\0" not in head else "of an unknown kind"
