"""What goes to a board: an artifact with what its manifest says, and the raw arrays that feed it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import compiled, digest, examples, flatbuffer, interpret
from edgeship.artifact import TensorSpec
from edgeship.compilation import COMPILED
from edgeship.errors import BadInput
from edgeship.examples import Examples, Preparation
from edgeship.flatbuffer import Graph
from edgeship.measurement import Feed, OutputSpec
from edgeship.out_folder import ARTIFACT, MANIFEST


@dataclass(frozen=True, eq=False)
class Deliverable:
    """A TFLite file, its graph, and the preparation of its inputs and the target as its manifest has them.

    Of a file compiled for an Edge TPU, which no other machine runs, `twin` is the file that it was compiled from: `graph` is the
    twin's, since signatures are lost in compiling, and `compiled` the graph that is delivered.
    """

    path: Path
    sha256: str
    graph: Graph
    manifest: Path | None
    target: str | None
    preparation: Mapping[str, Preparation]
    twin: Path | None = None
    compiled: Graph | None = None

    @property
    def runnable(self) -> Path:
        """Return the file that this machine runs, to hold a board's answer against."""
        return self.twin or self.path

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """Return the outputs as they lie in memory."""
        return tuple(OutputSpec(spec.name, whole(spec.shape), spec.dtype) for spec in self.graph.interface.outputs)


def joined(first: Feed, second: Feed) -> Feed:
    """Return the examples of both, in order."""
    arrays = tuple(np.concatenate([a, b]) for a, b in zip(first.arrays, second.arrays, strict=True))
    return Feed(first.names, arrays)


def find(argument: str) -> Deliverable:
    """Return the artifact that a command line names: a .tflite file, or the folder of a build.

    Raises:
        BadInput: there is none, or the manifest beside it is of another file.
    """
    path = Path(argument)
    if path.is_dir():
        if not (path / ARTIFACT).is_file():
            raise BadInput(f"{path}: holds no {ARTIFACT}", hint="name a .tflite file or the out folder of a build")
        path = path / (COMPILED if uncompiled_sha(path) and (path / COMPILED).is_file() else ARTIFACT)
    if not path.is_file():
        raise BadInput(f"{path}: no such file", hint="edgeship build makes one: build/<model>/<target>/<recipe>")
    graph = flatbuffer.read(path)
    sha = digest.of_file(path)
    manifest = path.parent / MANIFEST
    said = _manifest(manifest, sha) if manifest.is_file() else None
    twin, compiled_graph = (_twin(path, graph, said), graph) if compiled.is_compiled(graph) else (None, None)
    seen = flatbuffer.read(twin) if twin else graph
    if said is None:
        return Deliverable(path, sha, seen, None, None, {}, twin, compiled_graph)
    return Deliverable(path, sha, seen, manifest, said.get("target"), _preparation(said), twin, compiled_graph)


def _manifest(path: Path, sha: str) -> dict[str, Any] | None:
    """Return the manifest beside an artifact if it is of this very file, compiled or not; one of another says nothing of ours."""
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and sha in (said.get("sha256"), _uncompiled_sha(said)) else None


def _uncompiled_sha(said: Mapping[str, Any]) -> str | None:
    plain = said.get("uncompiled")
    return plain.get("sha256") if isinstance(plain, dict) else None


def uncompiled_sha(folder: Path) -> str | None:
    """Return the sha256 of the file that a build's compiled one was made from, None for a build without one."""
    try:
        said = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    return _uncompiled_sha(said) if isinstance(said, dict) else None


def _twin(path: Path, graph: Graph, said: Mapping[str, Any] | None) -> Path:
    """Return the file that a compiled one was made from: as the manifest says, else by the compiler's naming.

    Raises:
        BadInput: it is not there, or it is of another model.
    """
    plain = path.with_name(ARTIFACT if said else path.name.replace(f"{compiled.SUFFIX}.tflite", ".tflite"))
    lacking = "the file that it was compiled from is not beside it, and no other machine can say what it should compute"
    if plain == path or not plain.is_file():
        raise BadInput(f"{path}: is compiled for the Edge TPU; {lacking}", hint=f"put {plain.name} beside it")
    if said is not None and digest.of_file(plain) != _uncompiled_sha(said):
        raise BadInput(f"{plain}: is not the file that {path.name} was compiled from", hint="build again")
    if _forms(flatbuffer.read(plain)) != _forms(graph):
        raise BadInput(f"{plain}: does not take or give what {path.name} does: it is of another model")
    return plain


def _forms(graph: Graph) -> list[TensorSpec]:
    return [replace(spec, name="") for spec in (*graph.interface.inputs, *graph.interface.outputs)]


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
