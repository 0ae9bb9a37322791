"""TFLite files: the reference as they are, quantized ones included."""

from __future__ import annotations

import shutil
import struct
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship import check_inputs, compiled, flatbuffer, interpret, quantized
from edgeship.artifact import TensorSpec
from edgeship.check_inputs import InputSpec
from edgeship.errors import BadInput, StageFailed
from edgeship.importers import Imported, Request
from edgeship.progress import OnProgress, Progress

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

SUMMARY = "TFLite files, float or quantized already"
PACKAGES = ("ai-edge-litert",)
ENVIRONMENTS = ()


def recognizes(source: Path) -> bool:
    """Say whether the file begins as a TFLite flatbuffer does."""
    return source.is_file() and flatbuffer.recognizes(source)


def bring(on_progress: OnProgress, request: Request) -> Imported:
    """Copy a TFLite file, with its open dimensions set, and write what the runtime's plain kernels give for a few inputs.

    The check file holds real values, also for quantized inputs and outputs.

    Raises:
        BadInput: the file is damaged, compiled for an Edge TPU, needs shapes, or the runtime refuses it.
    """
    on_progress(Progress("import", 0, 2, "reading the graph"))
    graph = flatbuffer.read(request.source)
    if compiled.is_compiled(graph):
        hint = f"give the file that it was compiled from; edgeship inspect {request.source} shows what is in this one"
        raise BadInput(
            f"{request.source}: is compiled for the Edge TPU already, and cannot be quantized again", hint=hint
        )
    specs = graph.interface.inputs
    inputs = [_declared(spec) for spec in specs]
    shapes = check_inputs.full_shapes(request.source, inputs, request.shapes)
    shutil.copyfile(request.source, request.reference)
    if any(None in spec.shape[1:] for spec in inputs):
        _set_shapes(request, shapes)
    given = _given(request, specs, inputs, shapes)

    on_progress(Progress("import", 1, 2, "running the plain kernels"))
    expected = _run(request, given)
    check_inputs.write(request.check, given, expected)
    scheme = quantized.already_quantized(graph)
    notes = (f"{request.source.name} is quantized already: {scheme}",) if scheme else ()
    return Imported(
        checked_against=f"TFLite's plain kernels, ai-edge-litert {version('ai-edge-litert')}",
        input_names=tuple(shapes),
        output_names=tuple(expected),
        examples=len(next(iter(given.values()))),
        trainable=False,
        notes=notes,
        tools={"ai-edge-litert": version("ai-edge-litert")},
    )


def _declared(spec: TensorSpec) -> InputSpec:
    shape = tuple(size if size >= 0 else None for size in spec.shape)
    return InputSpec(spec.name, shape, "float32" if spec.scale is not None else spec.dtype)


def _given(
    request: Request, specs: tuple[TensorSpec, ...], inputs: list[InputSpec], shapes: dict[str, tuple[int, ...]]
) -> dict[str, Array]:
    """Return the check's inputs; seeded ones of a quantized input go over all that it can hold."""
    import numpy as np

    given = check_inputs.arrays(request.source, inputs, shapes, request.examples, request.seed)
    if request.examples is not None:
        return given
    random = np.random.default_rng(request.seed)
    for spec in specs:
        if spec.scale is not None and spec.zero_point is not None:
            limits = np.iinfo(spec.dtype)
            stored = random.integers(limits.min, limits.max, given[spec.name].shape, endpoint=True)
            real: Array = np.multiply(stored - spec.zero_point, spec.scale)
            given[spec.name] = real.astype(np.float32)
    return given


def _run(request: Request, given: dict[str, Array]) -> dict[str, Array]:
    import numpy as np

    try:
        runner = interpret.Runner(request.reference, kernels="without-delegates")
        count = len(next(iter(given.values()))) if given else 0
        batches = [
            runner.run({name: array[start : start + runner.batch] for name, array in given.items()})
            for start in range(0, count, runner.batch)
        ]
    except StageFailed as refusal:
        reason = refusal.message.removeprefix(f"{request.reference.name}: ")
        raise BadInput(f"{request.source}: {reason}") from refusal
    if not batches:
        raise BadInput(f"{request.source}: the model takes no inputs")
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _set_shapes(request: Request, shapes: dict[str, tuple[int, ...]]) -> None:
    """Write the reference again with every tensor's shape as the runtime finds it once the inputs have theirs."""
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = Interpreter(model_path=str(request.reference), experimental_op_resolver_type=resolver)
        for entry, shape in zip(interpreter.get_input_details(), shapes.values(), strict=True):
            interpreter.resize_tensor_input(entry["index"], shape)
        interpreter.allocate_tensors()
        model = schema.ModelT.InitFromPackedBuf(request.reference.read_bytes())
        tensors = model.subgraphs[0].tensors
        for entry in interpreter.get_tensor_details():
            if entry["index"] < len(tensors):
                tensors[entry["index"]].shape = [int(size) for size in entry["shape"]]
                tensors[entry["index"]].shapeSignature = None
        builder = flatbuffers.Builder(request.source.stat().st_size)
        builder.Finish(model.Pack(builder), file_identifier=flatbuffer.IDENTIFIER)
    except (ValueError, RuntimeError, TypeError, LookupError, AttributeError, struct.error) as fault:
        wanted = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise BadInput(
            f"{request.source}: does not take the shapes {wanted}: {(str(fault).splitlines() or [''])[0][:300]}"
        ) from fault
    request.reference.write_bytes(bytes(builder.Output()))
