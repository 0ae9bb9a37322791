"""What goes to a board: an artifact with what its manifest says, and the raw arrays that feed it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import digest, examples, flatbuffer, interpret
from edgeship.artifact import TensorSpec
from edgeship.errors import BadInput
from edgeship.examples import Examples, Preparation
from edgeship.flatbuffer import Graph
from edgeship.measurement import Feed, OutputSpec
from edgeship.out_folder import ARTIFACT, MANIFEST


@dataclass(frozen=True, eq=False)
class Deliverable:
    """A TFLite file, its graph, and the preparation of its inputs and the target as its manifest has them."""

    path: Path
    sha256: str
    graph: Graph
    manifest: Path | None
    target: str | None
    preparation: Mapping[str, Preparation]

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """Return the outputs as they lie in memory."""
        return tuple(OutputSpec(spec.name, whole(spec.shape), spec.dtype) for spec in self.graph.interface.outputs)


def find(argument: str) -> Deliverable:
    """Return the artifact that a command line names: a .tflite file, or the folder of a build.

    Raises:
        BadInput: there is none, or the manifest beside it is of another file.
    """
    path = Path(argument)
    if path.is_dir():
        if not (path / ARTIFACT).is_file():
            raise BadInput(f"{path}: holds no {ARTIFACT}", hint="name a .tflite file or the out folder of a build")
        path = path / ARTIFACT
    if not path.is_file():
        raise BadInput(f"{path}: no such file", hint="edgeship build makes one: build/<model>/<target>/<recipe>")
    graph = flatbuffer.read(path)
    sha = digest.of_file(path)
    manifest = path.parent / MANIFEST
    said = _manifest(manifest, sha) if manifest.is_file() else None
    if said is None:
        return Deliverable(path, sha, graph, None, None, {})
    return Deliverable(path, sha, graph, manifest, said.get("target"), _preparation(said))


def _manifest(path: Path, sha: str) -> dict[str, Any] | None:
    """Return the manifest beside an artifact if it is of this very file; one of another file says nothing of ours."""
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and said.get("sha256") == sha else None


def _preparation(said: Mapping[str, Any]) -> dict[str, Preparation]:
    found: dict[str, Preparation] = {}
    for port in said.get("inputs", ()):
        how = port.get("preprocessing")
        if how:
            limits = how.get("range")
            found[port["name"]] = Preparation(
                tuple(how.get("scale", (1.0,))),
                tuple(how.get("offset", (0.0,))),
                None if limits is None else (float(limits[0]), float(limits[1])),
                how.get("layout"),
            )
    return found


def feed(given: Examples, graph: Graph, how: Mapping[str, Preparation]) -> Feed:
    """Return examples as the model's inputs store them, one whole input tensor an example.

    Raises:
        BadInput: the model's batch is fixed and there are fewer examples.
    """
    inputs = graph.interface.inputs
    ready = examples.prepared(given, inputs, how)
    arrays = tuple(_batched(stored(ready[spec.name], spec), spec, given.origin) for spec in inputs)
    return Feed(tuple(spec.name for spec in inputs), arrays)


def seeded(graph: Graph, how: Mapping[str, Preparation], *, count: int, seed: int = 0) -> Feed:
    """Return made-up inputs, scaled to each input's declared or quantized range."""
    batch = max((whole(spec.shape) or (1,))[0] for spec in graph.interface.inputs)
    return feed(examples.seeded(graph.interface.inputs, how, seed=seed, count=count * batch), graph, how)


def real_outputs(raw: Sequence[NDArray[Any]], graph: Graph) -> dict[str, NDArray[Any]]:
    """Return raw outputs of shape (examples, *output) as real values by name, the batch axis folded into the first."""
    found: dict[str, NDArray[Any]] = {}
    for array, spec in zip(raw, graph.interface.outputs, strict=True):
        real = interpret.real(array, {"quantization": (spec.scale or 0.0, spec.zero_point or 0)})
        found[spec.name] = real.reshape(-1, *real.shape[2:]) if real.ndim > 1 else real
    return found


def whole(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape with every open axis as 1."""
    return tuple(max(size, 1) for size in shape)


def stored(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Return real values as a tensor stores them: quantized by its scale where it has one."""
    return interpret.stored(array, {"quantization": (spec.scale or 0.0, spec.zero_point or 0), "dtype": spec.dtype})


def _batched(array: NDArray[Any], spec: TensorSpec, where: str) -> NDArray[Any]:
    batch = whole(spec.shape)[0] if spec.shape else 1
    count = len(array) // batch
    if not count:
        raise BadInput(f"{where}: the model takes {batch} examples at once; there are {len(array)}")
    return np.ascontiguousarray(array[: count * batch].reshape(count, batch, *array.shape[1:]))
