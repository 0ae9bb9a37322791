"""The Python interpreter of LiteRT or TFLite on a Linux board, driven by the runner that edgeship pushes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship import edgetpu_delegate, feed_file, resources, target, wheels
from edgeship.device import Device
from edgeship.edgetpu_delegate import Asked
from edgeship.errors import DeviceFault, Fault
from edgeship.measurement import Measured, Memory, Operator, Runtime, Samples, Snapshot, Trial
from edgeship.progress import OnProgress, Progress
from edgeship.remote import quote
from edgeship.runtime_release import Refusal
from edgeship.session import Session

TELLS_CONDITIONS = True
PACKAGES = ("ai-edge-litert", "tflite-runtime")
SETUP_S = 300.0  # starting Python, loading a model and a first inference on the slowest board
EXAMPLE_S = 2.0
SNAPSHOT_EVERY_S = 1.0
_FAULTS: Mapping[str, Fault] = {"memory": "killed", "missing-runtime": "missing", "no-space": "full"}
RUNNER, PROFILER = "runner.py", "profiler.py"


@dataclass(frozen=True)
class Ready:
    """How the board's Python is started so that it finds the runtime, and what the runtime is.

    `tree` is where ours lies on the board, and `archive` what it was made from; both are None for the board's own.
    `delegate` is the library that the target wants loaded.
    """

    name: str
    version: str
    environment: str
    programs: Mapping[str, str]
    tree: str | None = None
    archive: Path | None = None
    delegate: Asked | None = None


def ready(
    session: Session, device: Device, wanted: target.Runtime, *, home: Path, log: Path, on_progress: OnProgress
) -> Ready:
    """Find the runtime on the board, or bring it there into edgeship's own folder.

    Raises:
        MissingTool: this machine has neither uv nor pip.
        DeviceFault: `missing`: the board has no Python, or none that a runtime exists for, or this machine has no network;
            `mismatch`: its runtime is known to crash with the target's delegate.
    """
    board = session.board
    if board.python is None:
        raise DeviceFault(
            f"{session.name}: the board has no Python (tried `{session.python}`)",
            fault="missing",
            hint="apt-get install -y python3 there, or name one with `python` in the device's entry",
        )
    here = {name: resources.board(name) for name in (RUNNER, PROFILER)}
    delegate = edgetpu_delegate.asked(wanted)
    for package in (wanted.name,) if delegate else (wanted.name, *PACKAGES):
        if package in board.runtimes and "numpy" in board.runtimes:
            version = board.runtimes[package]
            _check_pair(session, wanted, package, version)
            programs = session.deliver_all(dict(here), on_progress=on_progress)
            return Ready(package, version, "", programs, delegate=delegate)
    chosen = wheels.choose((wanted,), architecture=board.userland, python=board.python, libc=board.libc)
    if isinstance(chosen, Refusal):
        raise DeviceFault(f"{session.name}: {chosen.reason}", fault="missing", hint=chosen.hint)
    if chosen.numpy is None and "numpy" not in board.runtimes:
        raise DeviceFault(
            f"{session.name}: there are no wheels of numpy for {board.userland}, and the board has none of its own",
            fault="missing",
            hint=f"{chosen.board_numpy or 'install numpy'}, on the board",
        )
    packed = wheels.fetch(chosen, device=session.name, log=log, cache=home / "wheels", on_progress=on_progress)
    tree = session.unpack(packed.path, what=f"{chosen.package} {chosen.version}", on_progress=on_progress)
    programs = session.deliver_all(dict(here), on_progress=on_progress)
    return Ready(chosen.package, chosen.version, f"PYTHONPATH={quote(tree)} ", programs, tree, packed.path, delegate)


def _check_pair(session: Session, wanted: target.Runtime, package: str, version: str) -> None:
    refusal = edgetpu_delegate.pair_refusal(wanted, name=package, version=version, library=session.board.libedgetpu)
    if refusal is not None:
        raise DeviceFault(f"{session.name}: {refusal.reason}", fault="mismatch", hint=refusal.hint)


def measure(session: Session, ready: Ready, trial: Trial, *, on_progress: OnProgress) -> Measured:
    """Measure latency and outputs in one process, memory in a second, operators in a third.

    Raises:
        DeviceFault: as the session; `failed` when the model does not run there.
    """
    wanted = trial.wanted
    feed = session.deliver(feed_file.as_bytes(trial.feed), what="the golden inputs", on_progress=on_progress)
    common: dict[str, Any] = {
        "model": trial.model, "threads": wanted.threads, "cpus": list(wanted.cpus), "batch": wanted.batch,
        "runtime": ready.name, "delegate": ready.delegate.request() if ready.delegate else None,
    }  # fmt: skip
    outputs = f"{session.folder}/outputs.npz"
    apart = wanted.batch != 1  # outputs are compared one example at a time
    order = {
        **common, "action": "measure", "runs": wanted.runs, "min_seconds": wanted.min_seconds,
        "max_seconds": wanted.max_seconds, "warmup_seconds": wanted.warmup_seconds,
        "warmup_max_seconds": max(20.0, 4 * wanted.warmup_seconds), "feed": feed, "outputs": None if apart else outputs,
        "snapshot_every_s": SNAPSHOT_EVERY_S, "sys": "/sys", "proc": "/proc", "beside": trial.beside,
    }  # fmt: skip
    measuring_s = wanted.max_seconds * (2 if trial.beside else 1)
    timeout_s = SETUP_S + trial.slower * measuring_s + EXAMPLE_S * trial.feed.count
    try:
        answer, runtime = _ask(session, ready, RUNNER, order, timeout_s, on_progress)
    except DeviceFault as fault:
        if fault.fault != "missing" or ready.tree is None or ready.archive is None:
            raise
        # What we unpacked there is damaged, as after a power cut: once more.
        session.checked(f"rm -rf {quote(ready.tree)}")
        session.unpack(ready.archive, what=f"{ready.name} {ready.version}", on_progress=on_progress)
        answer, runtime = _ask(session, ready, RUNNER, order, timeout_s, on_progress)
    if apart:
        again = {**common, "action": "outputs", "batch": 1, "feed": feed, "outputs": outputs}
        _ask(session, ready, RUNNER, again, timeout_s, on_progress)
    memory = _memory(session, ready, {**common, "action": "memory", "feed": feed}) if trial.memory else None
    operators, why = _operators(session, ready, {**common, "action": "operators", "feed": feed}, trial.profile)
    return Measured(
        runtime=runtime,
        samples=_samples(answer),
        before=_snapshot(answer.get("before")),
        during=tuple(filter(None, map(_snapshot, answer.get("during", ())))),
        after=_snapshot(answer.get("after")),
        memory=memory,
        operators=operators,
        outputs=feed_file.outputs(io.BytesIO(session.fetch(outputs))),
        doubts=(
            *((f"no operator times: {why}",) if why else ()),
            *((f"so many runs that one in {answer['every']} is kept",) if answer.get("every", 1) > 1 else ()),
            *(("the board's kernel tells no process' memory",) if trial.memory and memory is None else ()),
        ),
    )


def _ask(
    session: Session,
    ready: Ready,
    program: str,
    order: Mapping[str, Any],
    timeout_s: float,
    on_progress: OnProgress,
) -> tuple[dict[str, Any], Runtime]:
    """Run one of the programs with an order; return its result and the runtime that it found."""
    events: dict[str, dict[str, Any]] = {}

    def hear(line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return  # a library's own noise
        if event.get("event") == "progress":
            stage = f"{event['stage']} on {session.name}"
            on_progress(Progress(stage, int(event["done"]), int(event.get("total") or 0)))
        elif "event" in event:
            events[event["event"]] = event

    script = f"{ready.environment}exec {quote(session.python)} {quote(ready.programs[program])}"
    done = session.run(script, timeout_s=timeout_s, stdin=[json.dumps(order).encode()], on_line=hear)
    if "result" not in events:
        error = events.get("error", {})
        fault = _FAULTS.get(str(error.get("kind")), "failed")
        said = error.get("message") or done.complaint or f"exit {done.exit_code}"
        known = edgetpu_delegate.explained(f"exit {done.exit_code}" if not error else said) if ready.delegate else None
        if known is not None:
            text = f"{session.name}: the runner there failed: {said}: {known.meaning}"
            raise DeviceFault(text, fault=known.fault, hint=known.move)
        raise DeviceFault(f"{session.name}: the runner there failed: {said}", fault=fault)
    runtime = events.get("runtime", {})
    name, version = runtime.get("name", ready.name), runtime.get("version", ready.version)
    return events["result"], Runtime(name, version, events["result"].get("delegate"))


def _samples(answer: Mapping[str, Any]) -> Samples:
    return Samples(
        init_ns=answer["init_ns"],
        first_ns=answer["first_ns"],
        warmup_ns=tuple(answer["warmup_ns"]),
        samples_ns=tuple(answer["samples_ns"]),
        starts_ns=tuple(answer["starts_ns"]),
        steady=bool(answer["steady"]),
        every=int(answer.get("every", 1)),
        turns_ns=tuple((int(one), int(other)) for one, other in answer.get("turns_ns", ())),
    )


def _snapshot(table: Mapping[str, Any] | None) -> Snapshot | None:
    if table is None:
        return None
    lists = {key: tuple(table[key]) for key in ("clock_mhz", "governor") if table.get(key)}
    return Snapshot(**{**{key: value for key, value in table.items() if value is not None}, **lists})


def _memory(session: Session, ready: Ready, order: Mapping[str, Any]) -> Memory | None:
    answer, _ = _ask(session, ready, RUNNER, order, SETUP_S, lambda step: None)
    if answer.get("peak_rss_mib") is None:
        return None
    return Memory(
        peak_rss_mib=answer["peak_rss_mib"],
        model_mib=answer.get("model_mib"),
        source=answer.get("source") or "not told",
        anonymous_mib=answer.get("anonymous_mib"),
        proportional_mib=answer.get("proportional_mib"),
        bare_mib=answer.get("bare_mib"),
    )


def _operators(
    session: Session, ready: Ready, order: Mapping[str, Any], profile: bool
) -> tuple[tuple[Operator, ...] | None, str | None]:
    """Return the operators' times, or None and why there are none: they are no reason to lose the rest."""
    if not profile:
        return None, None
    if ready.delegate is not None:
        return None, f"the profiler does not load {ready.delegate.library}, which runs its part as one operation"
    try:
        answer, _ = _ask(session, ready, PROFILER, order, SETUP_S, lambda step: None)
    except DeviceFault as fault:
        if fault.fault in ("failed", "killed", "missing", "timeout"):
            return None, fault.message
        raise
    found = answer.get("operators")
    if not found:
        return None, answer.get("why") or "the runtime gives none"
    total = sum(entry["ms"] for entry in found) or 1.0
    return tuple(Operator(entry["name"], entry["ms"], entry["ms"] / total) for entry in found), None
