"""PyTorch models: exported programs (`.pt2`), or a function that returns one, by litert-torch in an environment of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship import (
    check_inputs,
    closeness,
    environment,
    flatbuffer,
    interpret,
    onnx_interface,
    torch_entry,
    torch_file,
    torch_interface,
)
from edgeship.converter import Converter, Refused
from edgeship.errors import BadInput, EdgeshipError, StageFailed
from edgeship.importers import Imported, Request
from edgeship.interpret import Job
from edgeship.onnx_interface import CHANNELS_FIRST, OutputPort, Port
from edgeship.progress import OnProgress, Progress

if TYPE_CHECKING:
    import numpy as np

    from edgeship.converter import litert_torch_runner  # noqa: F401  # its source is part of what decides the result

    Array = np.ndarray[Any, np.dtype[Any]]

SUMMARY = "PyTorch: exported programs (.pt2), and functions that return a model"
PACKAGES: tuple[str, ...] = ()
ENVIRONMENTS = ("litert-torch",)
TIMEOUT_S, MEMORY_GIB = 800.0, 16.0
CULPRIT_S = 120.0  # spent on looking for one operation among many
_STEPS = 5


@dataclass(frozen=True, eq=False)
class Work:
    """What every route works on: the program, what the reference eats, and what torch gave for it."""

    request: Request
    folder: Path
    program: Path
    ports: Sequence[Port]
    outputs: Mapping[str, bool]
    given: Mapping[str, Array]
    expected: Mapping[str, Array]
    log: Path

    @property
    def told(self) -> dict[str, Any]:
        """Return the part of an order that every order has."""
        inputs = [
            {
                "name": port.declared.name,
                "shape": port.shape,
                "eaten": port.eaten,
                "dtype": port.declared.dtype,
                "channels_last": port.channels_last,
                "batched": port.batched,
            }
            for port in self.ports
        ]
        return {"source": str(self.program), "inputs": inputs}


def recognizes(source: Path) -> bool:
    """Say whether it is an archive with an exported program, or the Python file of a function.

    Raises:
        BadInput: it is another of torch's files: weights only, a pickled module, TorchScript; the hint is the next move.
    """
    return source.is_file() and (source.suffix == ".py" or torch_file.recognizes(source))


def bring(on_progress: OnProgress, request: Request) -> Imported:
    """Write the reference and the check file of an exported program.

    Raises:
        BadInput: the file is damaged, could run code, keeps state, or has shapes that must be given.
        StageFailed: no route gives the program's outputs; the text names the operation, or the layer that differs.
    """
    on_progress(Progress("import", 0, _STEPS, "reading the program"))
    log = request.log or request.check.with_suffix(".log")
    python = environment.ready(ENVIRONMENTS[0], on_progress=on_progress, log=log)
    with (
        tempfile.TemporaryDirectory(dir=request.check.parent) as scratch,
        Converter("litert-torch", python, "litert_torch_runner.py", memory_gib=MEMORY_GIB, log=log) as tool,
    ):
        folder = Path(scratch)
        exported = request.source
        if request.entry is not None:
            on_progress(Progress("import", 0, _STEPS, f"calling {request.entry}, which is code of yours"))
            exported = torch_entry.exported(request.source, request.entry, folder, python, log)
        file = torch_file.read(exported)
        work = _prepared(request, file, exported, folder, log)
        on_progress(Progress("import", 1, _STEPS, "asking torch itself"))
        version, given = _ask(tool, work)
        work = replace(work, expected=_arrays(folder / "asked.npz", list(work.outputs)))
        notes = _by_some_route(tool, work, on_progress)
    check_inputs.write(request.check, work.given, work.expected)
    return Imported(
        checked_against=f"torch {version}",
        input_names=tuple(work.given),
        output_names=tuple(work.outputs),
        examples=len(next(iter(work.given.values()))),
        trainable=False,
        notes=(*torch_interface.notes(work.ports, given), *notes),
        tools=environment.versions(ENVIRONMENTS[0]),
    )


def _prepared(request: Request, file: torch_file.ExportedFile, exported: Path, folder: Path, log: Path) -> Work:
    """Settle shapes and inputs, and write the program as torch may load it."""
    source = request.source
    inputs = torch_interface.declared(source, file)
    outputs = torch_interface.outputs(source, file, keep_layout=request.keep_layout)
    examples = request.examples.examples if request.examples else None
    ports = onnx_interface.ports(source, inputs, request.shapes, examples, keep_layout=request.keep_layout)
    shapes = {port.declared.name: port.eaten for port in ports}
    given = check_inputs.arrays(source, [port.spec() for port in ports], shapes, request.examples, request.seed)
    program = folder / "program.pt2"
    torch_file.write_clean(exported, file, program)
    return Work(request, folder, program, ports, outputs, given, {}, log)


def _ask(tool: Converter, work: Work) -> tuple[str, list[OutputPort]]:
    """Let torch run the program on the check's inputs; return torch's version, and the outputs as it gave them."""
    feed = work.folder / "feed.npz"
    check_inputs.write(feed, work.given, {})
    step = max(1, work.ports[0].eaten[0])
    order = {"do": "ask", **work.told, "outputs": dict(work.outputs), "feed": str(feed)}
    try:
        answer = tool.ask({**order, "out": str(work.folder / "asked.npz"), "step": step}, timeout_s=TIMEOUT_S)
    except Refused as refusal:
        told = ", ".join(f"{port.declared.name} {port.shape}" for port in work.ports)
        raise BadInput(
            f"{work.request.source}: torch cannot load it, or run it with {told}: {_line(refusal)}; full log: {work.log}",
            hint=torch_file.AGAIN,
            log=work.log,
        ) from None
    outputs = []
    for name, last in work.outputs.items():
        shape = tuple(answer["shapes"][name])
        outputs.append(OutputPort(name, tuple(shape[axis] for axis in CHANNELS_FIRST) if last else shape, last))
    return str(answer["torch"]), outputs


def _arrays(path: Path, names: Sequence[str]) -> dict[str, Array]:
    import numpy as np

    with np.load(path, allow_pickle=False) as content:
        return {name: content[f"output:{name}"] for name in names}


def _by_some_route(tool: Converter, work: Work, on_progress: OnProgress) -> tuple[str, ...]:
    """Write the reference by the first route that gives torch's outputs, and return what is to be said of it.

    Raises:
        StageFailed: none does; the text names the operation, or the layer that differs.
    """
    on_progress(Progress("import", 2, _STEPS, "converting: litert-torch"))
    made = work.folder / "made.tflite"
    ran = False
    try:
        tool.ask({"do": "convert", **work.told, "outputs": dict(work.outputs), "out": str(made)}, timeout_s=TIMEOUT_S)
        ran = True
        failure = _apart(work, made)
    except Refused as refusal:
        failure = f"litert-torch cannot convert it: {_line(refusal)}"
    if failure is None:
        shutil.copyfile(made, work.request.reference)
        return ()
    on_progress(Progress("import", 3, _STEPS, "converting: torch's ONNX exporter"))
    other = _by_onnx(tool, work, on_progress)
    if other is None:
        return (f"converted by way of ONNX, since {_short(failure)}",)
    if ran:
        suspect = _suspect(tool, work)
        where = f"; the first operation that differs is {suspect}" if suspect else ""
    else:
        on_progress(Progress("import", 4, _STEPS, "looking for the operation that cannot be converted"))
        where = "" if " at " in failure else _culprit(tool, work)
    raise StageFailed(
        f"{work.request.source}: {failure}{where}; by way of ONNX: {other}; full log: {work.log}", log=work.log
    )


def _apart(work: Work, made: Path) -> str | None:
    """Return why a TFLite file is not what the program is, or None."""
    graph = flatbuffer.read(made)
    custom = sorted({operator.name for operator in graph.main.operators if operator.custom})
    if custom:
        return f"TFLite has no operations for {', '.join(custom)}"
    try:
        job = Job(made, work.folder / "feed.npz", str(work.request.source))
        (ran,) = interpret.outputs([job], log=work.log, timeout_s=TIMEOUT_S)
        found = closeness.held(graph, work.expected, ran.outputs)
    except StageFailed as refusal:
        return refusal.message.removeprefix(f"{work.request.source}: ").partition("; full log")[0]
    if found.within:
        return None
    if not found.comparable:
        return "its outputs are no numbers, or have other shapes"
    return f"error {found.relative_error:.2g} of the outputs' range, tolerance {found.tolerance:g}"


def _by_onnx(tool: Converter, work: Work, on_progress: OnProgress) -> str | None:
    """Write the reference by torch's ONNX exporter and the ONNX importer; return why that failed, or None."""
    from edgeship.importers import IMPORTERS

    out = work.folder / "program.onnx"
    try:
        tool.ask({"do": "to_onnx", **work.told, "outputs": dict(work.outputs), "out": str(out)}, timeout_s=TIMEOUT_S)
    except Refused as refusal:
        return f"torch cannot export it: {_line(refusal)}"
    own = replace(work.request, source=out, check=work.folder / "onnx-check.npz", shapes={}, entry=None)
    try:
        IMPORTERS["onnx"].bring(on_progress, own)
        specs = flatbuffer.read(own.reference).interface.inputs
        same = {spec.name: spec.shape for spec in specs} == {port.declared.name: port.eaten for port in work.ports}
        return _apart(work, own.reference) if same else "its inputs have other names or shapes"
    except EdgeshipError as refusal:
        return refusal.message.removeprefix(f"{out}: ").partition("; full log")[0]


def _suspect(tool: Converter, work: Work) -> str | None:
    """Return the first operation that differs, or None where none can be told."""
    order = {"do": "compare", **work.told, "feed": str(work.folder / "feed.npz"), "folder": str(work.folder)}
    try:
        answer = tool.ask({**order, "tolerance": closeness.TOLERANCE}, timeout_s=TIMEOUT_S)
    except Refused:
        return None
    if answer["suspect"] is None:
        return None
    return f"{answer['suspect']} (error {answer['error']:.2g} of its output's range)"


def _culprit(tool: Converter, work: Work) -> str:
    """Say which operation litert-torch cannot convert by itself, where its complaint does not."""
    order = {"do": "culprit", "source": str(work.program), "seconds": CULPRIT_S}
    try:
        found = tool.ask(order, timeout_s=TIMEOUT_S)["suspect"]
    except Refused:
        return ""
    return f"; what it cannot is {found}" if found else ""


def _short(text: str, longest: int = 160) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


def _line(refusal: Refused) -> str:
    """Return a refusal in one line."""
    lines = [line.strip() for line in str(refusal).splitlines() if line.strip()]
    return (lines or ["no reason given"])[0][:400]
