"""The last part of the path where a target has a chip beside its CPU: its compiler, or the forecast, and the target's gates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeship import edgetpu_gates, flatbuffer, wording
from edgeship import forecast as forecasting
from edgeship.artifact import Advice
from edgeship.compilation import Compilation, GateVerdict
from edgeship.compilers import COMPILERS
from edgeship.plan import Plan
from edgeship.progress import StageTold
from edgeship.run_edgetpu import Forecast
from edgeship.stages import Context, compile_file
from edgeship.store import Done


@dataclass(frozen=True, eq=False)
class ForChip:
    """What the chip's part of the path came to: the compilation if there was one, the forecast, the gates and what was said."""

    compiled: Done[Compilation] | None = None
    forecast: Forecast | None = None
    gates: tuple[GateVerdict, ...] = ()
    said: tuple[Advice, ...] = ()


def compile_artifact(context: Context, plan: Plan, artifact: str) -> ForChip:
    """Compile an artifact where the target has a chip, and hold the result against the target's gates.

    Without the compiler the forecast stands in: a gate that it sees broken is a warning, and no verdict.

    Raises:
        StageFailed: the compiler gave no file.
    """
    chip = plan.target.accelerator
    if chip is None:
        return ForChip()
    runtime = next((one.delegate_runtime for one in plan.target.runtimes if one.delegate), None)
    foretold = forecasting.forecast(flatbuffer.read(context.store.path(artifact)), chip=chip, runtime=runtime)
    if plan.compiler is None:
        gates, said = _of_forecast(plan, chip.kind, foretold)
        return ForChip(None, foretold, gates, _heard(context, said))
    done = compile_file(context, artifact, chip.kind, plan.compiler, runtime, str(plan.model.source))
    made = done.facts
    context.listener.on_stage(StageTold(done.stage, done.outcome, done.why, done.seconds, wording.compiled(made)))
    gates = edgetpu_gates.of_compiled(plan.target.gates, made)
    return ForChip(done, foretold, gates, _heard(context, _of_compiled(plan, made, gates)))


def _of_compiled(plan: Plan, made: Compilation, gates: tuple[GateVerdict, ...]) -> list[Advice]:
    broken = [gate for gate in gates if not gate.passed]
    said = [Advice("warning", edgetpu_gates.in_words(gate, made.cpu_operators, plan.target.name)) for gate in broken]
    if made.stand_in:
        said.append(
            Advice("warning", f"{made.compiler} is edgeship's stand-in: no Edge TPU runs the file that it made")
        )
    said += [Advice("note", text) for text in _unmapped(made)]
    text = "quality was measured on this machine with model.tflite, which was compiled: there is no Edge TPU in a build"
    return [*said, Advice("note", text)]


def _unmapped(made: Compilation) -> Iterator[str]:
    """Say of each status that is not mapped which operations have it, what it means and what to do."""
    lines = [line for part in made.parts for line in part.statuses if not line.mapped]
    for status in dict.fromkeys(line.status for line in lines):
        mine = [line for line in lines if line.status == status]
        names = ", ".join(f"{line.count} {line.name}" for line in mine)
        meaning = f": {mine[0].meaning}" if mine[0].meaning else ""
        suggestion = f"; {mine[0].suggestion}" if mine[0].suggestion else ""
        yield f"on the CPU: {names}: '{status}'{meaning}{suggestion}"


def _of_forecast(plan: Plan, kind: str, found: Forecast) -> tuple[tuple[GateVerdict, ...], list[Advice]]:
    """Say what is forecast, which gates it would break, and how the compiler is installed."""
    compiler = COMPILERS[kind]
    gates = edgetpu_gates.of_forecast(
        plan.target.gates, cpu_operators=found.cpu_operators, fits_on_chip=found.fits_on_chip
    )
    mapped = sum(entry.on == "edgetpu" for entry in found.operators)
    text = (
        f"{compiler.NAME} is not installed: model.tflite is quantized and not compiled; {mapped} of {len(found.operators)} "
        f"operations are forecast to map; install it: {compiler.INSTALL}"
    )
    broken = [gate for gate in gates if not gate.passed]
    said = [Advice("warning", edgetpu_gates.in_words(gate, found.cpu_operators, plan.target.name)) for gate in broken]
    return gates, [Advice("warning", text), *said, *(Advice("note", one) for one in found.suggestions)]


def _heard(context: Context, said: list[Advice]) -> tuple[Advice, ...]:
    for entry in said:
        context.listener.on_advice(entry)
    return tuple(said)
