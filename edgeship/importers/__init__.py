"""Source formats: each importer turns one of them into the float32 TFLite reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgeship.progress import OnProgress


@dataclass(frozen=True)
class Request:
    """What an importer needs beside the source.

    Attributes:
        source: the model file or folder.
        reference: where the float32 TFLite file is to be written (its folder exists).
        check: where the check's arrays are to be written, as npz: `input:<name>` (float32 or the input's dtype, what the
            model eats, with the batch axis first) and `output:<name>` (what the source's own runtime gives for them).
        examples: npz of at most a few real inputs (`<name>` → array, batch axis first, scale and layout already
            applied), or None: then seeded standard normal inputs of the model's shapes are made by the importer.
        shapes: input name → full shape, as the user typed it; overrides what the model declares.
        trust: modules that the user allows to be imported, for models with code of their own.
    """

    source: Path
    reference: Path
    check: Path
    examples: Path | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    trust: tuple[str, ...] = ()
    seed: int = 0


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

    To add a format: 1. write `importers/<format>.py` with the three names below; 2. add its line to `IMPORTERS`;
    3. the contract test asks it the same questions as every other.
    """

    SUMMARY: str
    PACKAGES: tuple[str, ...]  # distributions whose versions decide the result, and that must be installed

    def recognizes(self, source: Path) -> bool:
        """Say whether the file's content (not its name alone) is of this format; cheap, loads no heavy library."""

    def bring(self, on_progress: OnProgress, request: Request) -> Imported:
        """Write the reference and the check file. Runs in a child process; heavy libraries are imported inside.

        Raises:
            BadInput: the source is damaged, holds code that is not trusted, or has shapes that must be given.
            StageFailed: the converter refused.
        """
