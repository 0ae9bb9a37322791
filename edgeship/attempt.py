"""One bench on one board, from the connection to the record; what can be repeated after a broken connection is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tenacity
from numpy.typing import NDArray

from edgeship import (
    __version__,
    compiled,
    conditions,
    deliverable,
    devices,
    golden,
    host,
    latency,
    runtime_support,
    session,
    target,
    trust,
    watching,
)
from edgeship.android import facts as android_facts
from edgeship.deliverable import Deliverable
from edgeship.device import Device
from edgeship.errors import PASSING, BadInput, DeviceFault
from edgeship.measurement import BenchRecord, Conditions, Feed, Golden, Measured, Runtime, Trial, Wanted
from edgeship.progress import OnProgress, Progress, silent
from edgeship.remote import Connection
from edgeship.run import Quality
from edgeship.runtimes import RUNTIMES
from edgeship.session import SILENCE_S, Session
from edgeship.target import Target

RECONNECT_S = 120  # a Raspberry Pi with a slow card boots in less
REPEATS = 2
SIMULATED_SLOWER = 40.0  # a simulated board's seconds, in ours
RUNS, MIN_SECONDS, WARMUP_SECONDS = 100, 2.0, 0.5  # unless the user says otherwise
MAX_SECONDS = 150.0
ANDROID_FOLDER = "/data/local/tmp/edgeship"
Judge = Callable[[tuple[NDArray[Any], ...]], Quality]


@dataclass(frozen=True, eq=False)
class Assignment:
    """What every board of one bench is given. `expected` are the host's raw outputs of the golden examples."""

    deliverable: Deliverable
    golden: Feed
    expected: tuple[NDArray[Any], ...]
    data: Feed | None
    judge: Judge | None
    metric: str | None  # by which it judges
    runs: int | None
    min_seconds: float | None
    warmup_seconds: float | None
    threads: int | None
    batch: int
    wait_s: int
    governor: str | None
    home: Path
    log: Path
    ending: Ending = field(default_factory=lambda: Ending())
    beside: Deliverable | None = None  # what runs in turns with it, on boards that have noise


class Ending:
    """The connections that stand open, so that somebody else can end them all."""

    def __init__(self) -> None:
        self.ended = False
        self._open: list[Connection] = []

    @contextlib.contextmanager
    def kept(self, connection: Connection) -> Iterator[None]:
        """Close the connection at the end of the block, or when all are ended.

        Raises:
            DeviceFault: all were ended while it came up.
        """
        self._open.append(connection)
        try:
            if self.ended:
                raise DeviceFault(f"{connection.name}: ended before it was measured", fault="lost")
            yield
        finally:
            self._open.remove(connection)
            connection.close()

    def end(self) -> None:
        """Close all; nothing is tried again from now on."""
        self.ended = True
        for connection in tuple(self._open):
            connection.close()


def bench(device: Device, given: Assignment, on_progress: OnProgress) -> BenchRecord:
    """Return what one board brought back.

    Raises:
        DeviceFault: as `devices.connect` and the session; a broken connection only after it was tried again.
        BadInput: the board's runtime cannot run the artifact correctly, or its target refuses it.
    """
    broken: list[str] = []
    while True:
        try:
            connection = (
                _reconnected(device, given.ending, on_progress) if broken else devices.connect(device, on_progress)
            )
            with given.ending.kept(connection):
                made = _on(connection, device, given, on_progress, again=bool(broken))
            doubts = tuple(f"repeated after: {text}" for text in broken)
            return replace(made, doubts=(*made.doubts, *doubts))
        except DeviceFault as fault:
            # What never answered is the user's to mend; what broke in the middle may be only a cable or a reboot.
            if (
                given.ending.ended
                or fault.fault not in PASSING
                or (fault.fault == "unreachable" and not broken)
                or len(broken) == REPEATS
            ):
                raise
            broken.append(fault.message)
            on_progress(Progress(f"{device.name}: again", 0, 0, fault.message))


def _reconnected(device: Device, ending: Ending, on_progress: OnProgress) -> Connection:
    """Return a new connection to a board that was lost, which may be booting; what is ended waits no longer."""
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda fault: not ending.ended and isinstance(fault, DeviceFault) and fault.fault in PASSING
        ),
        wait=tenacity.wait_exponential(min=0.5, max=8),
        stop=tenacity.stop_after_delay(RECONNECT_S),
        before_sleep=lambda state: on_progress(Progress(f"{device.name}: reconnect", state.attempt_number, 0)),
        reraise=True,
    )
    connection: Connection = again(devices.connect, device, on_progress)
    return connection


def _on(
    connection: Connection, device: Device, given: Assignment, on_progress: OnProgress, *, again: bool
) -> BenchRecord:
    kind = target.read(device.target)
    with open_board(
        connection,
        device,
        kind,
        governor=given.governor or device.governor,
        wait_s=max(given.wait_s, SILENCE_S + 5 if again else 0),  # our own lost warden may hold the lease that long
    ) as board:
        measured, wanted = run(board, connection, device, kind, given, on_progress)
    return _record(connection, device, kind, given, board, measured, wanted)


def open_board(
    connection: Connection, device: Device, kind: Target, *, governor: str | None = None, wait_s: int = 0
) -> Any:
    """Return the context of a leased session, with the folder and the facts that this kind of board needs."""
    android = kind.platform.system == "android"
    how = conditions.ANDROID if android else conditions.LINUX
    folder = ANDROID_FOLDER if android else "$HOME/.edgeship"
    return session.opened(
        connection, device, folder=folder, facts=how.facts, read_facts=how.read_facts, governor=governor, wait_s=wait_s
    )


@contextlib.contextmanager
def leased(
    device: Device, kind: Target, *, wait_s: int = 0, on_progress: OnProgress = silent
) -> Iterator[tuple[Session, bool]]:
    """Give a session on a device, and whether the board is a simulated one; the connection ends with it."""
    connection = devices.connect(device, on_progress)
    try:
        with open_board(connection, device, kind, wait_s=wait_s) as session:
            yield session, connection.simulation is not None
    finally:
        connection.close()


def run(
    board: Session, connection: Connection, device: Device, kind: Target, given: Assignment, on_progress: OnProgress
) -> tuple[Measured, Wanted]:
    """See to the runtime, refuse what it cannot run, deliver, measure."""
    chosen = runtime_of(device, kind)
    runtime = RUNTIMES[chosen.name]
    ready = runtime.ready(board, device, chosen, home=given.home, log=given.log, on_progress=on_progress)
    refuse_wrong(given.deliverable, kind, chosen.name, ready, board)
    model = board.deliver(given.deliverable.path, what="the model", on_progress=on_progress)
    wanted = _wanted(given, board, kind, counted=_counted(connection))
    feed = given.golden if given.data is None else deliverable.joined(given.golden, given.data)
    slower = SIMULATED_SLOWER if connection.simulation else Trial.slower
    beside = None
    own_runner = runtime.TELLS_CONDITIONS and not chosen.delegate_library  # on one chip two models push each other out
    if given.beside is not None and own_runner and not _counted(connection):
        beside = _beside(board, given.beside, on_progress)
    trial = Trial(model, wanted, feed, given.deliverable.outputs, slower=slower, beside=beside)
    if runtime.TELLS_CONDITIONS:
        measured = runtime.measure(board, ready, trial, on_progress=on_progress)
    else:
        with watching.watched(board, "android_conditions.sh", android_facts.read_conditions) as watch:
            measured = runtime.measure(board, ready, trial, on_progress=on_progress)
        measured = watch.around(measured)
    board.trim(cap_mib=device.cache_mib)
    return measured, wanted


def _beside(board: Session, other: Deliverable, on_progress: OnProgress) -> str | None:
    """Deliver what a model is timed beside; None where the board has no space for it: then it is timed alone."""
    try:
        return board.deliver(other.path, what="what it is timed beside", on_progress=on_progress)
    except DeviceFault as fault:
        if fault.fault != "full":
            raise
        return None


def _wanted(given: Assignment, board: Session, kind: Target, *, counted: bool) -> Wanted:
    """Return how the run is to be done; a board that counts instructions has no noise to average out.

    Unless the user says so, no more threads than the board has cores: they would only wait for one another.
    """
    usual_threads = 1 if counted else min(kind.threads, board.board.cores or kind.threads)
    usual = (0.2, 0.05) if counted else (MIN_SECONDS, WARMUP_SECONDS)
    min_seconds = usual[0] if given.min_seconds is None else given.min_seconds
    return Wanted(
        threads=given.threads or usual_threads,
        cpus=board.device.cpus,
        batch=given.batch,
        runs=RUNS if given.runs is None else given.runs,
        min_seconds=min_seconds,
        max_seconds=max(MAX_SECONDS, min_seconds),
        warmup_seconds=usual[1] if given.warmup_seconds is None else given.warmup_seconds,
    )


def _counted(connection: Connection) -> bool:
    return connection.simulation is not None and connection.simulation.counted


def runtime_of(device: Device, kind: Target) -> target.Runtime:
    """Return the runtime to use: benchmark_model where the entry names a binary, else the target's first.

    A binary of the user's loads the library that the target's own runtime loads.
    """
    if not device.benchmark_model:
        return kind.runtimes[0]
    named = next((one for one in kind.runtimes if one.name == "benchmark_model"), None)
    change = {"name": "benchmark_model", "version": None, "source": "named by the device's own entry"}
    if kind.runtimes[0].delegate_library:
        return named or kind.runtimes[0].model_copy(update=change)
    return named or target.Runtime.model_validate(change)


def refuse_wrong(deliverable: Deliverable, kind: Target, chosen: str, ready: Any, board: Session) -> None:
    """Refuse an artifact that the board's runtime would run wrongly.

    Raises:
        BadInput: with the operation and the reason.
    """
    runtime = getattr(ready, "name", chosen)
    delegated = _delegated(deliverable, kind, board)
    refusal = runtime_support.refusal(
        deliverable.compiled or deliverable.graph,
        runtime=runtime,
        version=ready.version,
        architecture=board.board.userland,
        delegated=delegated,
    )
    if refusal is not None:
        raise BadInput(f"{deliverable.path}: {board.name}: {refusal.reason}", hint=refusal.hint)


def _delegated(deliverable: Deliverable, kind: Target, board: Session) -> tuple[str, ...]:
    """Return the custom operations that the target's chip takes.

    Raises:
        BadInput: the file is compiled for a chip that the target has not, or for a newer runtime than it has.
    """
    if deliverable.compiled is None:
        return ()
    chip = next((one for one in kind.runtimes if one.delegate_library), None)
    if chip is None:
        text = f"{deliverable.path}: {board.name}: is compiled for the Edge TPU, which a {kind.name} does not have"
        raise BadInput(text, hint=f"bench {deliverable.runnable}: the same model for any TFLite runtime")
    needs = compiled.described(deliverable.compiled, deliverable.path).min_runtime
    if needs is not None and chip.delegate_runtime is not None and needs > chip.delegate_runtime:
        text = f"is compiled for Edge TPU runtime {needs}, and {kind.name} has runtime {chip.delegate_runtime}"
        raise BadInput(f"{deliverable.path}: {board.name}: {text}", hint=f"build it again with --target {kind.name}")
    return (compiled.CUSTOM_OPERATION,)


def _record(
    connection: Connection,
    device: Device,
    kind: Target,
    given: Assignment,
    board: Session,
    measured: Measured,
    wanted: Wanted,
) -> BenchRecord:
    count = given.golden.count
    there = tuple(array[:count] for array in measured.outputs)
    checked = golden_check(
        given.expected, there, given.deliverable, runtime=measured.runtime.name, feed=given.golden, log=given.log
    )
    judged = given.judge if measured.outputs else None
    quality = judged(tuple(array[count:] for array in measured.outputs)) if judged else None
    around = Conditions(
        board=board.board,
        before=measured.before,
        during=measured.during,
        after=measured.after,
        threads=wanted.threads,
        cpus=wanted.cpus,
        batch=wanted.batch,
        counted=_counted(connection),
        unmodelled=connection.simulation.unmodelled if connection.simulation else (),
    )
    believed = trust.judge(
        measured.samples, around, wanted=wanted, runtime=measured.runtime, delegate=runtime_of(device, kind).delegate
    )
    samples = measured.samples
    return BenchRecord(
        device=device.name,
        target=kind.name,
        transport=device.transport,
        simulated=connection.simulation is not None,
        artifact_sha256=given.deliverable.sha256,
        runtime=measured.runtime,
        latency_ms=latency.summarize(samples),
        samples_ms=_ms(samples.samples_ns),
        init_ms=_one_ms(samples.init_ns),
        first_inference_ms=_one_ms(samples.first_ns),
        memory=measured.memory,
        operators=measured.operators,
        golden=checked,
        quality=quality,
        conditions=around,
        valid=believed.valid,
        reasons=believed.reasons,
        doubts=(*believed.doubts, *measured.doubts, *_governor(board), *_unknown(measured.runtime)),
        starts_ms=_ms(samples.starts_ns),
        warmup_ms=_ms(samples.warmup_ns) or (),
        artifact=str(given.deliverable.path),
        edgeship=__version__,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        beside=None if given.beside is None else latency.beside(samples, given.beside.sha256),
    )


def golden_check(
    expected: tuple[NDArray[Any], ...], got: tuple[NDArray[Any], ...], deliverable: Deliverable, *,
    runtime: str, feed: Feed, log: Path,
) -> Golden:  # fmt: skip
    """Hold a board's outputs against this machine's; a tool that hands none out leaves them not compared.

    The last tflite-runtime computes as the plain kernels do, which round elsewhere than XNNPACK of today: seen to differ by
    0.098 on a softmax, and to be equal to the bit to the plain kernels of this machine.
    """
    if not got:
        return Golden(0, 0.0, None, passed=False, why="the tool on the board hands no outputs out", compared=False)
    specs = deliverable.graph.interface.outputs
    checked = golden.check(expected, got, specs)
    if checked.passed or runtime != "tflite-runtime":
        return checked
    return golden.check(host.plain_outputs(deliverable.runnable, feed, log=log), got, specs)


def _governor(board: Session) -> tuple[str, ...]:
    """Say when the governor that was asked for could not be set."""
    words = {
        "refused": "the governor could not be set: that needs root on the board",
        "absent": "the governor could not be set: the board has no frequency scaling",
    }
    return (words[board.governor],) if board.governor in words else ()


def _unknown(runtime: Runtime) -> tuple[str, ...]:
    """Say when nothing is known of what the runtime runs correctly."""
    doubt = runtime_support.doubt(runtime=runtime.name, version=runtime.version)
    return () if doubt is None else (doubt,)


def _ms(nanoseconds: tuple[int, ...] | None) -> tuple[float, ...] | None:
    return None if nanoseconds is None else tuple(value / 1e6 for value in nanoseconds)


def _one_ms(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e6
