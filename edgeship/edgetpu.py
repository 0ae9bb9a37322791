"""A model on an Edge TPU: the forecast of what maps, and, where the compiler is installed, what it says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeship import compiled, edgetpu_rules, flatbuffer, forecast
from edgeship import model as models
from edgeship import target as targets
from edgeship.errors import BadInput, NothingToDo
from edgeship.out_folder import ARTIFACT
from edgeship.run_edgetpu import Forecast
from edgeship.target import Accelerator, Target

USUAL_TARGET = "coral-usb"


@dataclass(frozen=True)
class Question:
    """What the user asked about a file; `runtime` None is the target's own, else the newest known."""

    model: str
    target: str = USUAL_TARGET
    runtime: int | None = None
    several_subgraphs: bool = False


@dataclass(frozen=True)
class Answer:
    """Which file was looked at, for which target, and what was found."""

    model: str
    path: str
    target: str
    forecast: Forecast


def examine(question: Question) -> Answer:
    """Return what of a model will run on the target's Edge TPU.

    Raises:
        BadInput: the file or the target cannot be used: not TFLite, not 8-bit, open sizes, no Edge TPU there.
        NothingToDo: the file is compiled already.
    """
    target = targets.read(question.target)
    chip = chip_of(target)
    runtime = edgetpu_rules.runtime(question.runtime or forecast.runtime_of(target))
    path = _file(question.model)
    graph = flatbuffer.read(path)
    if compiled.is_compiled(graph):
        raise NothingToDo(
            f"{path}: is compiled for the Edge TPU already", hint=f"edgeship inspect {path} shows what is in it"
        )
    forecast.check(graph, path)
    found = forecast.forecast(graph, chip=chip, runtime=runtime, several_subgraphs=question.several_subgraphs)
    return Answer(question.model, str(path), target.name, found)


def chip_of(target: Target) -> Accelerator:
    """Return a target's Edge TPU.

    Raises:
        BadInput: it has none.
    """
    if target.accelerator is None or target.accelerator.kind != "edgetpu":
        known = [one.name for one in targets.read_all() if one.accelerator and one.accelerator.kind == "edgetpu"]
        raise BadInput(f"{target.name}: has no Edge TPU", hint=f"targets that have one: {', '.join(known)}")
    return target.accelerator


def _file(argument: str) -> Path:
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
