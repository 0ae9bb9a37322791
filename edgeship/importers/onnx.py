"""ONNX models: simplified, rewritten, and converted by onnx2tf in an environment of its own, without TensorFlow."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship import (
    check_inputs,
    child,
    closeness,
    environment,
    flatbuffer,
    interpret,
    onnx_difference,
    onnx_file,
    onnx_fitting,
    onnx_interface,
    onnx_run,
)
from edgeship.converter import Converter, Refused
from edgeship.errors import BadInput, StageFailed
from edgeship.graph_editor import GraphEditor
from edgeship.graph_editor import Port as TensorPort
from edgeship.importers import Imported, Request
from edgeship.interpret import Job
from edgeship.onnx_interface import OutputPort, Port
from edgeship.progress import OnProgress, Progress

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from edgeship.converter import onnx2tf_runner  # noqa: F401  # its source is part of what decides the result

    Array = np.ndarray[Any, np.dtype[Any]]

SUMMARY = "ONNX models, with weights inside or beside them"
PACKAGES = ("onnx", "onnxruntime")
ENVIRONMENTS = ("onnx2tf",)
SCRIPT = "onnx2tf_runner.py"
TIMEOUT_S, MEMORY_GIB = 600.0, 12.0
_STEPS = 5


@dataclass(frozen=True)
class Route:
    """One way to convert: on which graph, with outputs held in their layout or not, and with which of onnx2tf's options."""

    name: str
    simplified: bool = True
    rewritten: bool = True
    held: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


# Tried in this order; only what gives the source's outputs counts.
ROUTES = (
    Route("onnx2tf"),
    Route("onnx2tf with outputs held in their layout", held=True),
    Route(
        "onnx2tf with plain convolutions and products",
        options={"disable_group_convolution": True, "enable_batchmatmul_unfold": True},
    ),
    Route("onnx2tf on the graph as edgeship found it", rewritten=False),
    Route("onnx2tf without onnxsim", simplified=False),
)


@dataclass(frozen=True, eq=False)
class Work:
    """What every route works on: the source as the reference eats it, and what its own runtime gave for some inputs."""

    request: Request
    folder: Path
    graph: onnx.ModelProto
    outputs: Sequence[OutputPort]
    given: Mapping[str, Array]
    expected: Mapping[str, Array]
    log: Path


@dataclass(frozen=True, eq=False)
class Failure:
    """Why a route does not give the source's outputs; of a file that runs, also what it was made from."""

    text: str
    graph: onnx.ModelProto | None = None
    made: Path | None = None
    report: Path | None = None


def recognizes(source: Path) -> bool:
    """Say whether the file begins as an ONNX model does."""
    return source.is_file() and onnx_file.recognizes(source)


def bring(on_progress: OnProgress, request: Request) -> Imported:
    """Write the reference and the check file of an ONNX model.

    Raises:
        BadInput: the file is damaged, reaches outside its folder, or has shapes that must be given.
        StageFailed: no route gives the source's outputs; the text names the operation, or the layer that differs.
    """
    on_progress(Progress("import", 0, _STEPS, "reading the graph"))
    log = request.log or request.check.with_suffix(".log")
    model = onnx_file.read(request.source)
    inputs = onnx_interface.declared(request.source, model)
    examples = request.examples.examples if request.examples else None
    ports = onnx_interface.ports(request.source, inputs, request.shapes, examples, keep_layout=request.keep_layout)
    specs = [port.spec() for port in ports]
    shapes = {port.declared.name: port.eaten for port in ports}
    given = check_inputs.arrays(request.source, specs, shapes, request.examples, request.seed)
    python = environment.ready(ENVIRONMENTS[0], on_progress=on_progress, log=log)
    with (
        tempfile.TemporaryDirectory(dir=request.check.parent) as scratch,
        Converter("onnx2tf", python, SCRIPT, memory_gib=MEMORY_GIB, log=log, folder=Path(scratch)) as tool,
    ):
        on_progress(Progress("import", 1, _STEPS, "asking onnxruntime"))  # while the converter starts
        answered = onnx_run.outputs(request.source, onnx_file.content(request.source, model), ports, given)
        on_progress(Progress("import", 2, _STEPS, "simplifying the graph"))
        outputs = onnx_interface.output_ports(model, answered.shapes, keep_layout=request.keep_layout)
        expected = {port.name: port.from_source(answered.outputs[port.name]) for port in outputs}
        work = Work(request, Path(scratch), onnx_fitting.fitted(model, ports, outputs), outputs, given, expected, log)
        simplified = _simplified(tool, work.graph, work.folder)
        notes = _by_some_route(tool, work, simplified, on_progress)
        _name(request.reference, list(shapes), list(expected))
    check_inputs.write(request.check, given, expected)
    return Imported(
        checked_against=onnx_run.title(),
        input_names=tuple(shapes),
        output_names=tuple(expected),
        examples=len(next(iter(given.values()))),
        trainable=False,
        notes=(*_notes(ports, outputs), *notes),
        tools={**{name: version(name) for name in PACKAGES}, **environment.versions(ENVIRONMENTS[0])},
    )


def _simplified(tool: Converter, graph: onnx.ModelProto, folder: Path) -> onnx.ModelProto | None:
    """Return the graph with what is constant folded, or None where the simplifier cannot."""
    import onnx

    source, out = folder / "fed.onnx", folder / "simplified.onnx"
    source.write_bytes(graph.SerializeToString())
    try:
        tool.ask({"do": "simplify", "source": str(source), "out": str(out)}, timeout_s=TIMEOUT_S)
    except Refused:
        return None
    made = onnx.ModelProto()
    made.ParseFromString(out.read_bytes())
    return made


def _by_some_route(
    tool: Converter, work: Work, simplified: onnx.ModelProto | None, on_progress: OnProgress
) -> tuple[str, ...]:
    """Write the reference by the first route that gives the source's outputs, and return what is to be said of it.

    Raises:
        StageFailed: none does; the text names the operation, or the layer that differs.
    """
    failures: list[Failure] = []
    tried: list[tuple[bytes, Mapping[str, Any]]] = []
    for route in sorted(ROUTES, key=lambda route: route.held != work.request.keep_layout):
        base = simplified if route.simplified else work.graph
        if base is None:
            continue
        on_progress(Progress("import", 3, _STEPS, f"converting: {route.name}"))
        try:
            graph, notes = _rewritten(tool, base, work) if route.rewritten else (base, ())
        except BadInput as refusal:
            failures.append(Failure(refusal.message))
            continue
        graph = onnx_fitting.held(graph, work.outputs) if route.held else graph
        attempt = (graph.SerializeToString(deterministic=True), route.options)
        if attempt in tried:
            continue
        tried.append(attempt)
        failure = _tried(tool, work, route, graph, work.folder / str(len(tried)), on_progress)
        if failure is None:
            return (
                *notes,
                *((f"converted by {route.name}; the first way failed: {failures[0].text}",) if failures else ()),
            )
        failures.append(failure)
    raise _refusal(work, failures)


def _rewritten(tool: Converter, graph: onnx.ModelProto, work: Work) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return the graph with what the converter cannot do replaced, simplified again where something was."""
    import onnx

    from edgeship import onnx_rewrite

    try:
        made, notes = onnx_rewrite.rewritten(graph)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as fault:
        raise BadInput(f"its graph breaks the format's rules: {onnx_file.first_line(fault)}") from fault
    return ((_simplified(tool, made, work.folder) or made) if notes else made), notes


def _tried(
    tool: Converter, work: Work, route: Route, graph: onnx.ModelProto, folder: Path, on_progress: OnProgress
) -> Failure | None:
    """Convert by one route and write the reference; return why that is not what the source is, or None."""
    folder.mkdir()
    copied = folder / "model.onnx"  # onnx2tf overwrites what it reads
    copied.write_bytes(graph.SerializeToString())
    order = {
        "do": "convert",
        "source": str(copied),
        "folder": str(folder / "out"),
        "inputs": [*work.given, *(name.replace(":", "__") for name in work.given)],  # as onnx2tf writes colons
        "options": dict(route.options),
    }
    try:
        answer = tool.ask(order, timeout_s=TIMEOUT_S)
    except Refused as refusal:
        return Failure(_plain(str(refusal), graph))
    made = Path(answer["file"])
    custom = [operator.name for operator in flatbuffer.read(made).main.operators if operator.custom]
    if custom:
        return Failure(f"TFLite has no operations for {_located(custom, graph)}")
    on_progress(Progress("import", 4, _STEPS, "asking the converted model"))
    feed = folder / "feed.npz"
    check_inputs.write(feed, work.given, {})
    try:
        (ran,) = interpret.outputs([Job(made, feed, str(work.request.source))], log=work.log, timeout_s=TIMEOUT_S)
        found = closeness.held(flatbuffer.read(made), work.expected, ran.outputs)
    except StageFailed as refusal:
        return Failure(refusal.message.removeprefix(f"{work.request.source}: ").partition("; full log")[0])
    if not found.within:
        report = Path(answer["report"]) if answer["report"] else None
        return Failure(_apart(found), graph, made, report)
    shutil.copyfile(made, work.request.reference)
    return None


def _name(reference: Path, inputs: list[str], outputs: list[str]) -> None:
    """Give the reference's inputs and outputs the source's names, of which onnx2tf changes those with colons and such.

    Where names differ, the check has paired them in order.
    """
    found = flatbuffer.read(reference).interface
    if {spec.name for spec in found.inputs} == set(inputs) and {spec.name for spec in found.outputs} == set(outputs):
        return
    editor = GraphEditor(reference)
    editor.inputs = [TensorPort(name, port.tensor) for name, port in zip(inputs, editor.inputs, strict=True)]
    editor.outputs = [TensorPort(name, port.tensor) for name, port in zip(outputs, editor.outputs, strict=True)]
    reference.write_bytes(editor.content())


def _apart(found: closeness.Difference) -> str:
    if not found.comparable:
        return "its outputs are no numbers, or have other shapes"
    return f"error {found.relative_error:.2g} of the outputs' range, tolerance {found.tolerance:g}"


def _located(custom: Sequence[str], graph: onnx.ModelProto) -> str:
    """Name operations that were left over, and the layers that they stand for."""
    kinds = dict.fromkeys(name.removeprefix("ONNX_").upper() for name in custom)
    told = []
    for kind in kinds:
        layers = [node for node in graph.graph.node if node.op_type.upper() == kind]
        told.append(f"{layers[0].op_type} ({onnx_file.layer(layers[0])})" if layers else kind)
    return ", ".join(told)


def _plain(text: str, graph: onnx.ModelProto) -> str:
    """Return the converter's complaint in one line, with the layer that it names in the words of the file."""
    told = dict(re.findall(r"\b(op|node|reason_code|message)=(.+?)(?= \w+=|$)", text.splitlines()[0] if text else ""))
    if "op" in told:
        layers = [node for node in graph.graph.node if node.name == told.get("node")]
        where = onnx_file.layer(layers[0]) if layers else f"'{told.get('node', '')}'"
        return f"onnx2tf cannot convert {told['op']} {where}: {told.get('message') or told.get('reason_code', '')}"
    return f"onnx2tf: {onnx_file.first_line(ValueError(text))}"


def _refusal(work: Work, failures: Sequence[Failure]) -> StageFailed:
    """Return what is said when no route gave the same outputs: of the first, and where its values first differ."""
    source = work.request.source
    differing = next((failure for failure in failures if failure.made), None)
    if differing is None or differing.graph is None or differing.made is None:
        text = failures[0].text if failures else "its graph cannot be simplified"
        return StageFailed(f"{source}: {text}; full log: {work.log}", log=work.log)
    first = {name: array[:1] for name, array in work.given.items()}
    compare = partial(
        onnx_difference.first,
        source=source,
        model=differing.graph,
        converted=differing.made,
        report=differing.report,
        fed=first,
    )
    try:
        suspect = child.run(compare, log=work.log, timeout_s=TIMEOUT_S, memory_gib=interpret.MEMORY_GIB)
    except StageFailed:
        suspect = None
    where = f"; the first layer that differs is {suspect}" if suspect else ""
    return StageFailed(
        f"{source}: the TFLite file does not give what {onnx_run.title()} gives: {differing.text}{where}; full log: {work.log}",
        log=work.log,
    )


def _notes(ports: Sequence[Port], outputs: Sequence[OutputPort]) -> tuple[str, ...]:
    """Say where the reference's inputs and outputs are not shaped as the source's."""
    told = []
    for port in ports:
        if port.channels_last or port.batched:
            how = "channels last" if port.channels_last else "with a batch axis"
            told.append(
                f"input '{port.declared.name}' is {_words(port.eaten)}, {how} (the source's is {_words(port.shape)})"
            )
    for output in outputs:
        if output.channels_last:
            told.append(
                f"output '{output.name}' is {_words(output.given)}, channels last (the source's is {_words(output.shape)})"
            )
    return tuple(told)


def _words(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single value"
