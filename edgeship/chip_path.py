"""The last part of the path where a target has a chip beside its CPU: its compiler, or the forecast, and the target's gates."""

from __future__ import annotations

from edgeship import edgetpu_gates, wording
from edgeship.artifact import Advice
from edgeship.compilation import Compilation, GateVerdict
from edgeship.compilers import COMPILERS
from edgeship.plan import Plan
from edgeship.progress import StageTold
from edgeship.stages import Context, compile_file
from edgeship.store import Done


def compile_artifact(
    context: Context, plan: Plan, artifact: str
) -> tuple[Done[Compilation] | None, tuple[GateVerdict, ...], tuple[Advice, ...]]:
    """Compile an artifact where the target has a chip, and hold the result against the target's gates.

    Without the compiler the forecast stands in: a gate that it sees broken is a warning, and no verdict.

    Raises:
        StageFailed: the compiler gave no file.
    """
    chip = plan.target.accelerator
    if chip is None:
        return None, (), ()
    if plan.compiler is None:
        gates, said = _forecast(context, plan, artifact)
        return None, gates, _heard(context, said)
    runtime = next((one.delegate_runtime for one in plan.target.runtimes if one.delegate), None)
    done = compile_file(context, artifact, chip.kind, plan.compiler, runtime, str(plan.model.source))
    made = done.facts
    context.listener.on_stage(StageTold(done.stage, done.outcome, done.why, done.seconds, wording.compiled(made)))
    gates = edgetpu_gates.of_compiled(plan.target.gates, made)
    return done, gates, _heard(context, _of_compiled(plan, made, gates))


def _of_compiled(plan: Plan, made: Compilation, gates: tuple[GateVerdict, ...]) -> list[Advice]:
    said = [
        Advice("warning", edgetpu_gates.in_words(gate, made.cpu_operators, plan.target.name))
        for gate in gates
        if not gate.passed
    ]
    said += [Advice("note", text) for text in _unmapped(made)]
    if made.stand_in:
        said.append(
            Advice("warning", f"{made.compiler} is edgeship's stand-in: no Edge TPU runs the file that it made")
        )
    said.append(
        Advice(
            "note",
            "quality was measured on this machine with model.tflite, the file that was compiled: there is no Edge TPU here",
        )
    )
    return said


def _unmapped(made: Compilation) -> list[str]:
    """Say of each line of the compiler's table that is not mapped what it means and what to do."""
    return [
        f"{line.count} {line.name} on the CPU: {line.status!r}"
        + (f": {line.meaning}" if line.meaning else "")
        + (f"; {line.suggestion}" if line.suggestion else "")
        for part in made.parts
        for line in part.statuses
        if not line.mapped
    ]


def _forecast(context: Context, plan: Plan, artifact: str) -> tuple[tuple[GateVerdict, ...], list[Advice]]:
    """Say what the forecast says, and how the compiler is installed."""
    assert plan.target.accelerator is not None
    compiler = COMPILERS[plan.target.accelerator.kind]
    text = f"{compiler.NAME} is not installed: model.tflite is not compiled, and what maps is a forecast; install it: {compiler.INSTALL}"
    return (), [Advice("warning", text)]


def _heard(context: Context, said: list[Advice]) -> tuple[Advice, ...]:
    for entry in said:
        context.listener.on_advice(entry)
    return tuple(said)
