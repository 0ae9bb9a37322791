"""A model on an Edge TPU: the forecast of what maps, and, where the compiler is installed, what it says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgeship import compilation, compiled, edgetpu_rules, flatbuffer, forecast
from edgeship import model as models
from edgeship import target as targets
from edgeship.compilation import CompiledFiles
from edgeship.compilers import COMPILERS
from edgeship.compiling import compile_files
from edgeship.errors import BadInput, MissingTool, NothingToDo
from edgeship.flatbuffer import Graph
from edgeship.out_folder import ARTIFACT
from edgeship.progress import OnProgress, silent
from edgeship.run_edgetpu import Forecast
from edgeship.target import Accelerator, Target

USUAL_TARGET = "coral-usb"


@dataclass(frozen=True)
class Question:
    """What the user asked about a file; `runtime` None is the target's own, else the newest known.

    The compiler, where it is installed, cuts the file into `segments`, or compiles it together with others, `beside` it in the
    chip's memory in their order; `out` gets what it makes.
    """

    model: str
    target: str = USUAL_TARGET
    runtime: int | None = None
    several_subgraphs: bool = False
    segments: int = 1
    beside: tuple[str, ...] = ()
    out: Path | None = None


@dataclass(frozen=True)
class Answer:
    """Which file was looked at, for which target, and what was found."""

    model: str
    path: str
    target: str
    forecast: Forecast
    compiled: CompiledFiles | None = None


def examine(question: Question, on_progress: OnProgress = silent) -> Answer:
    """Return what of a model will run on the target's Edge TPU, and what the compiler says where it is installed.

    Raises:
        BadInput: the file or the target cannot be used: not TFLite, not 8-bit, open sizes, no Edge TPU there.
        NothingToDo: the file is compiled already.
        StageFailed: the compiler refused it, hung or broke.
        MissingTool: it is not installed, and files were to be compiled together, or kept.
    """
    target = targets.read(question.target)
    chip = chip_of(target)
    runtime = edgetpu_rules.runtime(question.runtime or forecast.runtime_of(target))
    path = tflite_file(question.model)
    graph = _eight_bit(path)
    beside = [tflite_file(name) for name in question.beside]
    for other in beside:
        _eight_bit(other)
    found = forecast.forecast(graph, chip=chip, runtime=runtime, several_subgraphs=question.several_subgraphs)
    done = compile_files(
        [path, *beside], chip.kind, min_runtime=runtime, segments=question.segments,
        several_subgraphs=question.several_subgraphs, out=question.out, on_progress=on_progress,
    )  # fmt: skip
    if done is None:
        _check_unasked(question, chip)
    else:
        found = replace(found, compiler=compilation.contract(done.made))
    return Answer(question.model, str(path), target.name, found, done)


def withdraw(answer: Answer) -> None:
    """Take away what the compiler left in the user's folder, where what was to stand beside it could not be made."""
    files = answer.compiled.files if answer.compiled else ()
    for file in files:
        file.unlink(missing_ok=True)
    for folder in {file.parent for file in files}:
        if not any(folder.iterdir()):
            folder.rmdir()


def _check_unasked(question: Question, chip: Accelerator) -> None:
    """Refuse, where there is no compiler, what only a compiler can do.

    Raises:
        MissingTool: files were to be compiled together, or kept.
    """
    compiler = COMPILERS[chip.kind]
    kept = question.out if question.segments == 1 else None
    if question.beside or kept is not None:
        asked = "--with compiles files together" if question.beside else "--out keeps what the compiler makes"
        raise MissingTool(
            f"{question.model}: {asked}, and {compiler.NAME} is not installed",
            hint=f"{compiler.INSTALL}; the forecast alone: edgeship edgetpu {question.model}",
        )


def _eight_bit(path: Path) -> Graph:
    """Return the graph of a file that can be compiled.

    Raises:
        BadInput: it is not 8-bit, or has open sizes.
        NothingToDo: it is compiled already.
    """
    graph = flatbuffer.read(path)
    if compiled.is_compiled(graph):
        raise NothingToDo(
            f"{path}: is compiled for the Edge TPU already", hint=f"edgeship inspect {path} shows what is in it"
        )
    forecast.check(graph, path)
    return graph


def chip_of(target: Target) -> Accelerator:
    """Return a target's Edge TPU.

    Raises:
        BadInput: it has none.
    """
    if target.accelerator is None or target.accelerator.kind != "edgetpu":
        known = [one.name for one in targets.read_all() if one.accelerator and one.accelerator.kind == "edgetpu"]
        raise BadInput(f"{target.name}: has no Edge TPU", hint=f"targets that have one: {', '.join(known)}")
    return target.accelerator


def tflite_file(argument: str) -> Path:
    """Return the TFLite file that a command line names: a file, a build's folder, or a model's.

    Raises:
        BadInput: there is none; the text starts with what was named.
    """
    inside = Path(argument) / ARTIFACT
    if inside.is_file():
        return inside
    source = models.find(argument).source
    if not source.is_file() or not flatbuffer.recognizes(source):
        raise BadInput(
            f"{source}: not a TFLite file, and the Edge TPU takes only 8-bit ones",
            hint=f"edgeship build {argument} --target {USUAL_TARGET} makes one of it and says what of it maps",
        )
    return source
