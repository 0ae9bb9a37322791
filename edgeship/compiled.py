"""Files that the Edge TPU compiler wrote: how they are told from others, what stayed on the CPU, and which segments belong together."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edgeship import edgetpu_package, flatbuffer
from edgeship.artifact import TensorSpec
from edgeship.errors import BadInput
from edgeship.flatbuffer import Graph
from edgeship.run_edgetpu import CompiledFile, Segment

CUSTOM_OPERATION = "edgetpu-custom-op"
SUFFIX = "_edgetpu"
_MOST_SEGMENTS = 64  # a name may say anything
_SEGMENT = re.compile(r"(?P<stem>.+)_segment_(?P<number>\d+)_of_(?P<of>\d+)(?P<suffix>_edgetpu)?\.tflite")


@dataclass(frozen=True)
class SegmentSet:
    """The files that a model was cut into, in the order in which they run, and what goes in and out of the whole."""

    stem: str
    files: tuple[Path, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def is_compiled(graph: Graph) -> bool:
    """Say whether a graph holds an operation that runs on the Edge TPU."""
    return any(operator.custom and operator.name == CUSTOM_OPERATION for operator in graph.main.operators)


def read(path: Path) -> CompiledFile:
    """Return what a compiled file holds.

    Raises:
        BadInput: it is missing, damaged, or not compiled for the Edge TPU.
    """
    graph = flatbuffer.read(path)
    if not is_compiled(graph):
        raise BadInput(f"{path}: not compiled for the Edge TPU (no {CUSTOM_OPERATION})")
    return described(graph, path)


def described(graph: Graph, path: Path) -> CompiledFile:
    """Return what a compiled file holds, from its graph; what the compiler mapped nothing of has no packages."""
    ours = [operator for operator in graph.main.operators if operator.custom and operator.name == CUSTOM_OPERATION]
    packages = tuple(edgetpu_package.read(operator.index, operator.custom_options) for operator in ours)
    left = Counter(operator.name for operator in graph.main.operators if operator not in ours)
    runtimes = [package.min_runtime for package in packages if package.min_runtime is not None]
    return CompiledFile(
        path=str(path),
        size_bytes=graph.size_bytes,
        packages=packages,
        cpu_operators=dict(left.most_common()),
        cached_bytes=_sum([package.cached_bytes for package in packages]),
        streamed_bytes=_sum([package.streamed_bytes for package in packages]),
        instruction_bytes=_sum(
            [sum(one.instruction_bytes for one in package.executables) or None for package in packages]
        ),
        min_runtime=max(runtimes, default=None),
        segment=segment(path),
    )


def segment(path: Path) -> Segment | None:
    """Return which segment of a model a file's name says that it is, and which others are not beside it; None for a whole model."""
    found = _SEGMENT.fullmatch(path.name)
    if found is None:
        return None
    missing = tuple(file.name for file in _set(path, found) if not file.is_file())
    return Segment(found["stem"], int(found["number"]), int(found["of"]), missing)


def segments(path: Path) -> SegmentSet:
    """Return all segments of the model that one of them belongs to, compiled ones for a compiled one.

    Raises:
        BadInput: the file is no segment, one is missing, or they do not fit together; the text starts with the file.
    """
    found = _SEGMENT.fullmatch(path.name)
    if found is None:
        raise BadInput(f"{path}: not a segment: expected <model>_segment_I_of_N{SUFFIX}.tflite")
    files = _set(path, found)
    if path.name not in [file.name for file in files]:
        raise BadInput(f"{path}: segment {found['number']} of {found['of']}: they count from 0")
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise BadInput(f"{path}: one of {len(files)} segments; missing beside it: {', '.join(missing)}")
    return _joined(found["stem"], files)


def _set(path: Path, found: re.Match[str]) -> tuple[Path, ...]:
    """Return the files that a segment's name speaks of."""
    count = min(int(found["of"]), _MOST_SEGMENTS)
    return tuple(
        path.with_name(f"{found['stem']}_segment_{number}_of_{found['of']}{found['suffix'] or ''}.tflite")
        for number in range(count)
    )


def siblings(path: Path) -> tuple[CompiledFile, ...]:
    """Return all segments of the model that a file is one of, in order; none where it is no segment, or others are missing.

    Raises:
        BadInput: the segments do not fit together.
    """
    found = segment(path)
    if found is None or found.missing:
        return ()
    return tuple(described(flatbuffer.read(file), file) for file in segments(path).files)


def _joined(stem: str, files: tuple[Path, ...]) -> SegmentSet:
    """Return the set, once every input of every segment is an output of an earlier one or of the whole."""
    interfaces = [flatbuffer.read(file).interface for file in files]
    made: dict[str, TensorSpec] = {spec.name: spec for spec in interfaces[0].inputs}
    inputs, used = list(interfaces[0].inputs), set[str]()
    for file, interface in zip(files, interfaces, strict=True):
        for spec in interface.inputs:
            before = made.get(spec.name)
            if before is None:
                if file != files[0] and not any(other.name == spec.name for other in inputs):
                    raise BadInput(f"{file}: no segment before it makes its input '{spec.name}'")
            elif (before.shape, before.dtype) != (spec.shape, spec.dtype):
                raise BadInput(
                    f"{file}: its input '{spec.name}' is {spec.dtype} {spec.shape}, but {before.dtype} {before.shape} is made before it"
                )
            used.add(spec.name)
        made.update({spec.name: spec for spec in interface.outputs})
    last = {spec.name for spec in interfaces[-1].outputs}
    outputs = [spec for one in interfaces for spec in one.outputs if spec.name in last or spec.name not in used]
    return SegmentSet(stem, files, tuple(inputs), tuple(outputs))


def _sum(found: list[int | None]) -> int | None:
    known = [one for one in found if one is not None]
    return sum(known) if len(known) == len(found) and found else None
