"""onnxruntime, the source's own runtime of ONNX files. For use inside a child process: it may end its process."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.errors import BadInput
from edgeship.onnx_file import first_line

if TYPE_CHECKING:
    import numpy as np

    from edgeship.onnx_interface import Port

    Array = np.ndarray[Any, np.dtype[Any]]

_QUIET = 3  # errors only
_OWN_SOURCE = re.compile(r" Status Message: \S*onnxruntime_src\S+ [^\n(]*(\([^\n)]*\))? ")


@dataclass(frozen=True, eq=False)
class Answered:
    """Outputs by name, the first axis counting the examples, and the shapes that the runtime gives them in."""

    outputs: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]


def title() -> str:
    """Return the runtime's name and version."""
    return f"onnxruntime {version('onnxruntime')}"


def outputs(
    source: Path, content: bytes, ports: Sequence[Port], fed: Mapping[str, Array], *, of_source: bool = True
) -> Answered:
    """Return a model's outputs for what the reference eats, the first axis counting the examples.

    Args:
        source: the model's file, for messages.
        content: the model with all its weights inside.
        fed: examples by input name, as the reference eats them.
        of_source: the model eats what the source eats; otherwise what the reference does.

    Raises:
        BadInput: the runtime refuses the model, does not run it with these shapes, or its outputs change their shapes.
    """
    import numpy as np

    session = _session(source, content)
    names = [entry.name for entry in session.get_outputs()]
    step = max(1, ports[0].eaten[0])
    count = len(next(iter(fed.values())))
    kept: dict[str, list[Array]] = {name: [] for name in names}
    shapes: dict[str, tuple[int, ...]] = {}
    for start in range(0, count, step):
        batch = {port.declared.name: fed[port.declared.name][start : start + step] for port in ports}
        if of_source:
            batch = {port.declared.name: port.to_source(batch[port.declared.name]) for port in ports}
        for name, array in zip(names, _run(source, session, names, batch), strict=True):
            whole = array.ndim and len(array) == step
            shapes[name] = array.shape
            kept[name].append(array if whole else np.repeat(array[None], min(step, count - start), axis=0))
    for name, arrays in kept.items():
        if len({array.shape for array in arrays}) > 1:
            raise BadInput(f"{source}: its output '{name}' changes its shape from input to input, which TFLite cannot")
    return Answered({name: np.concatenate(arrays) for name, arrays in kept.items()}, shapes)


def intermediates(source: Path, model: Any, names: Iterable[str], fed: Mapping[str, Array]) -> dict[str, Array]:
    """Return values inside a model for one batch of what it eats, those that the runtime gives."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    own = {value.name for value in made.graph.output}
    wanted = [name for name in names if name not in own]
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    session = _session(source, made.SerializeToString())
    found = [entry.name for entry in session.get_outputs()]
    return dict(zip(found, _run(source, session, found, fed), strict=True))


def _session(source: Path, content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except _faults() as fault:
        told = _plain(fault)
        hint = "export it with operators of ONNX itself" if "not a registered function" in told else None
        raise BadInput(f"{source}: onnxruntime refuses it: {told}", hint=hint) from fault


def _run(source: Path, session: Any, names: Sequence[str], batch: Mapping[str, Array]) -> list[Array]:
    try:
        found: list[Array] = session.run(list(names), dict(batch))
    except _faults() as fault:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in batch.items())
        raise BadInput(f"{source}: does not run with {shapes}: {_plain(fault)}") from fault
    return found


def _faults() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises; its errors have no parent of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError, TypeError)


def _plain(fault: Exception) -> str:
    """Return the runtime's complaint without its own source lines and codes."""
    text = first_line(ValueError(_OWN_SOURCE.sub(": ", str(fault))))
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text
