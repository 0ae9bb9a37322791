"""Where a converted ONNX model first goes wrong: intermediate tensors of both runtimes, compared in the graph's order."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeship import flatbuffer, interpret, onnx_run
from edgeship.closeness import FLOOR, TOLERANCE
from edgeship.errors import EdgeshipError
from edgeship.onnx_file import layer

if TYPE_CHECKING:
    import onnx

    Array = np.ndarray[Any, np.dtype[Any]]

_FUSED = ("Clip", "Relu", "Tanh")  # TFLite has them inside the operation before
_MOST_AXES = 5  # of a tensor whose axes are tried in every order


@dataclass(frozen=True)
class Suspect:
    """The first operation whose output differs: its name, what it computes, and by how much of that value's range."""

    operation: str
    layer: str
    relative_error: float

    def __str__(self) -> str:
        return f"{self.operation} {self.layer} (error {self.relative_error:.2g} of its output's range)"


def first(
    source: Path, model: onnx.ModelProto, converted: Path, report: Path | None, fed: Mapping[str, Array]
) -> Suspect | None:
    """Return the first operation that differs, or None where none can be told: what the runtimes refuse is not compared.

    Args:
        source: the file's name, for messages.
        model: the graph as it was given to the converter.
        converted: the TFLite file made of it.
        report: onnx2tf's own list of which tensor became which.
        fed: one batch of what both eat, by input name.
    """
    places = _places(converted, report)
    names = [name for node in model.graph.node for name in node.output if name]
    try:
        ours = onnx_run.intermediates(source, model, names, fed)
        runner = interpret.Runner(converted, name=source.name, kernels="without-delegates", keep_all=True)
        runner.run(fed)
        theirs = {name: runner.tensor(place) for name, place in places.items() if name in ours}
    except (EdgeshipError, ValueError, RuntimeError):
        return None
    return _first(model.graph, ours, theirs)


def _first(graph: onnx.GraphProto, ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> Suspect | None:
    """Return the first operation that differs, and goes on to: one that all its readers give rightly was only fused."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    errors: dict[str, float] = {}
    for node in graph.node:
        for name in node.output:
            if name in ours and name in theirs:
                fused = [reader.output[0] for reader in readers.get(name, ()) if reader.op_type in _FUSED]
                expected = [ours[one] for one in (name, *fused) if one in ours]
                found = [error for error in (_error(one, theirs[name]) for one in expected) if error is not None]
                errors |= {name: min(found)} if found else {}
    for node in graph.node:
        for name in node.output:
            after = [errors[one] for reader in readers.get(name, ()) for one in reader.output if one in errors]
            if errors.get(name, 0.0) > TOLERANCE and (not after or max(after) > TOLERANCE):
                return Suspect(node.op_type, layer(node), errors[name])
    return None


def _places(converted: Path, report: Path | None) -> dict[str, int]:
    """Return the index of the tensor that each ONNX value became: by onnx2tf's report, else by its name."""
    tensors = {tensor.name: tensor.index for tensor in flatbuffer.read(converted).main.tensors}
    found = dict(tensors)
    if report is not None:
        for record in json.loads(report.read_text())["records"]:
            place = tensors.get(record.get("resolved_tflite_tensor_name") or "")
            if place is not None:
                found[record["onnx_output_name"]] = place
    return found


def _error(ours: Array, theirs: Array) -> float | None:
    """Return the largest difference relative to the range, in whichever order of axes is nearest; None: not comparable."""
    if ours.dtype.kind not in "fiub" or not np.isfinite(ours).all():
        return None
    if ours.size != theirs.size:
        return None
    ours, theirs = np.squeeze(ours).astype(np.float64), np.squeeze(theirs).astype(np.float64)
    spread = max(float(np.ptp(ours)) if ours.size > 1 else float(np.abs(ours).max(initial=0.0)), FLOOR)
    errors = [
        float(np.abs(ours - theirs.transpose(order)).max(initial=0.0))
        for order in itertools.permutations(range(theirs.ndim))
        if theirs.ndim <= _MOST_AXES and theirs.transpose(order).shape == ours.shape
    ]
    if not errors:
        return None
    return min(errors) / spread if np.isfinite(min(errors)) else float("inf")
