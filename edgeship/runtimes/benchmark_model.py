"""TFLite's benchmark_model on a board: the user's own binary, for Android and for boards without Python.

The tool keeps aggregates only. One run gives the time, one the memory (read from /proc by the shell beside it), one the
operators' times, and one for each example the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import digest, edgetpu_delegate, target
from edgeship.benchmark_tool import elf, operator_table, process_memory
from edgeship.benchmark_tool import output as benchmark_output
from edgeship.benchmark_tool import result as benchmark_result
from edgeship.benchmark_tool.output import Output
from edgeship.benchmark_tool.result import Timed
from edgeship.device import Device
from edgeship.edgetpu_delegate import Asked
from edgeship.errors import BadInput, DeviceFault
from edgeship.measurement import Board, Measured, Memory, Operator, Runtime, Trial
from edgeship.progress import OnProgress, Progress
from edgeship.remote import Finished, quote
from edgeship.session import Session, fault_of

TELLS_CONDITIONS = False
SETUP_S = 300.0  # loading the model and a first inference on the slowest board, a GPU's shaders compiled
EXAMPLE_S = 20.0
SLOWER = 40  # a board's own seconds on an emulated one, in ours
BATCH_OF_EXAMPLES = 200  # outputs fetched in one go
_INPUTS = frozenset({"input_layer", "input_layer_shape", "input_layer_value_files"})
TOOL = "./benchmark_model"
_NEEDED = frozenset({"graph", "num_threads", "num_runs", "min_secs", "warmup_runs", "warmup_min_secs"})
_SIGNALS = {132: "SIGILL: it is built for a newer processor", 134: "SIGABRT", 136: "SIGFPE", 139: "SIGSEGV"}
_ABI_MACHINES = {
    "arm64": "aarch64", "arm64-v8a": "aarch64", "aarch64": "aarch64", "armhf": "arm", "armel": "arm",
    "armeabi-v7a": "arm", "amd64": "x86_64", "x86_64": "x86_64", "i386": "i386", "x86": "i386", "riscv64": "riscv",
}  # fmt: skip


@dataclass(frozen=True)
class Ready:
    """The tool stands in the run's folder; `flags` choose the delegate, whose label in the tool's words is `delegate`."""

    version: str
    flags: tuple[str, ...]
    delegate: str
    library: str | None = None


def ready(
    session: Session, device: Device, wanted: target.Runtime, *, home: Path, log: Path, on_progress: OnProgress
) -> Ready:
    """Bring the user's binary to the board, having looked whether it can run there.

    Raises:
        BadInput: the file, or its sha256, is not what the device's entry says, or it is for another machine.
        DeviceFault: `missing`: the entry names no binary, or the board cannot load this one.
    """
    library = edgetpu_delegate.asked(wanted)
    flags, delegate = _delegate(wanted.delegate, library)
    path = _binary(device)
    with path.open("rb") as stream:
        program = elf.read(stream.read(elf.HEAD_BYTES))
    if program is None:
        raise BadInput(f"{path}: not a program for a board (no ELF file, no script)")
    _check_machine(path, program, session.board)
    blob = session.deliver(path, what=path.name, on_progress=on_progress)
    # It runs in the run's folder and goes with it; Android refuses links there, so a copy will do.
    script = f"ln -f {quote(blob)} {TOOL} 2>/dev/null || cp {quote(blob)} {TOOL}; chmod 755 {TOOL} || exit 73"
    if program.interpreter:
        script += f"; [ -e {quote(program.interpreter)} ] || echo lacks-loader"
    if "lacks-loader" in session.checked(script).text:
        raise DeviceFault(
            f"{session.name}: {path.name} is started by {program.interpreter}, which the board does not have",
            fault="missing",
            hint="Android needs the android_ build of the tool, Linux the linux_ one",
        )
    return Ready(f"sha256:{device.benchmark_model_sha256}", flags, delegate, library.library if library else None)


def measure(session: Session, ready: Ready, trial: Trial, *, on_progress: OnProgress) -> Measured:
    """Return aggregates, outputs, memory and operators; what this build of the tool cannot give is None and a doubt.

    Raises:
        DeviceFault: as the session; `failed` with the tool's own words, or with the flag that this build does not know.
    """
    job = _Job(session, ready, trial, on_progress)
    timed = job.time()
    outputs = job.outputs(timed)
    memory = job.memory() if trial.memory else None
    operators = job.operators(timed) if trial.profile else None
    doubts = [*_doubts(timed, ready, trial), *job.doubts]
    words = benchmark_output.in_words(timed.said) or ""
    words = words.replace("EXTERNAL", ready.library) if ready.library else words  # the tool calls any library so
    return Measured(
        runtime=Runtime("benchmark_model", ready.version, words or None),
        samples=timed.samples,
        before=None,
        during=(),
        after=None,
        memory=memory,
        operators=operators,
        outputs=outputs,
        doubts=tuple(dict.fromkeys(doubts)),
    )


def _delegate(name: str | None, library: Asked | None = None) -> tuple[tuple[str, ...], str]:
    """Return the flags for a target's delegate, and its label in the tool's output.

    XNNPACK is what every build applies by itself; asked for by flag, some refuse models that it takes only in part.
    """
    if library is not None:
        return library.flags(), "EXTERNAL"
    known = {
        None: ((), "XNNPACK"),
        "xnnpack": ((), "XNNPACK"),
        "none": (("--use_xnnpack=false",), ""),
        "gpu": (("--use_gpu=true",), "GPU"),
    }
    if name in known:
        return known[name]
    if name in ("nnapi", "hexagon"):
        raise BadInput(
            f"delegate {name}: deprecated by its vendor and not offered",
            hint="a target's runtime may name xnnpack, gpu, none, or the path of an external delegate on the board",
        )
    return (f"--external_delegate_path={name}",), "EXTERNAL"


def _binary(device: Device) -> Path:
    """Return the user's file, having checked that it is the one the entry pins."""
    if device.benchmark_model is None:
        raise DeviceFault(
            f"{device.name}: its entry names no benchmark_model binary, and none can be fetched",
            fault="missing",
            hint=f"edgeship devices add {device.name} … --benchmark-model FILE, with a build for this board from the vendor",
        )
    path = Path(device.benchmark_model).expanduser()
    if not path.is_file():
        raise BadInput(f"{path}: no such file, which the entry of {device.name} names as its benchmark_model")
    found = digest.of_file(path)
    if device.benchmark_model_sha256 is None:
        raise BadInput(
            f"{path}: the entry of {device.name} does not pin it",
            hint=f'if you trust this file: benchmark_model_sha256 = "{found}" in the entry',
        )
    if found != device.benchmark_model_sha256:
        raise BadInput(
            f"{path}: expected sha256 {device.benchmark_model_sha256}; got {found}",
            hint=f"was it replaced? edgeship devices add {device.name} … --benchmark-model FILE pins it anew",
        )
    return path


def _check_machine(path: Path, program: elf.Program, board: Board) -> None:
    """Refuse a binary for another processor, or for another word size."""
    machine = _ABI_MACHINES.get(board.abi or "") or _ABI_MACHINES.get(board.architecture or "")
    if machine == "aarch64" and board.abi is None and board.word_bits == 32:
        machine = "arm"
    if program.machine is not None and machine is not None and program.machine != machine:
        raise BadInput(
            f"{path}: built for {program.machine} ({program.bits} bits); the board's programs are {machine}",
            hint="the vendor publishes builds named by system and processor, such as android_aarch64 and linux_aarch64",
        )


# Its outputs lie in outputs.bin afterwards. The log of the last run is enough: all had the same flags.
_EXAMPLES = """rm -f outputs.bin; i={start}
while [ $i -lt {end} ]; do
    {take}
    rm -f out.bin
    {line} > out.log 2>&1 || {{ code=$?; cat out.log; exit $code; }}
    [ -f out.bin ] || {{ echo edgeship-no-output; break; }}
    cat out.bin >> outputs.bin || {{ echo "No space left" >&2; exit 28; }}
    i=$((i + 1)); echo "edgeship-example $i"
done
cat out.log"""


class _Job:
    """One bench with the tool: the session, what is asked, and the doubts that arise."""

    def __init__(self, session: Session, ready: Ready, trial: Trial, on_progress: OnProgress) -> None:
        self.session, self.ready, self.trial, self.on_progress = session, ready, trial, on_progress
        self.doubts: list[str] = []
        arrays = [np.ascontiguousarray(array) for array in trial.feed.arrays]
        contents: dict[str, Path | bytes] = {f"input {number}": array.tobytes() for number, array in enumerate(arrays)}
        self.sizes = [array[0].nbytes for array in arrays]
        self.blobs = list(session.deliver_all(contents).values())
        mask = f"taskset {sum(1 << cpu for cpu in trial.wanted.cpus):x} " if trial.wanted.cpus else ""
        self.command = f"{mask}{TOOL} --graph={quote(trial.model)} --num_threads={trial.wanted.threads}"
        self.command += "".join(f" {quote(flag)}" for flag in ready.flags)

    def time(self) -> Timed:
        """Run it as wanted and return what it printed, the result file preferred where the build writes one."""
        wanted = self.trial.wanted
        flags = [
            f"--num_runs={wanted.runs}", f"--min_secs={wanted.min_seconds:g}", f"--max_secs={wanted.max_seconds:g}",
            "--warmup_runs=1", f"--warmup_min_secs={wanted.warmup_seconds:g}", "--result_file_path=result.pb",
        ]  # fmt: skip
        script = f"{self._inputs(wanted.batch)}\nexec {self._line(flags, wanted.batch)} 2>&1"
        self._tell("measure", 0)
        done = self.session.run(script, timeout_s=self._patience(2 * wanted.max_seconds))
        said = self._judged(done, done.text)
        timed = benchmark_result.timed(said, self._result())
        if timed is None:
            raise DeviceFault(f"{self.session.name}: benchmark_model ended without figures", fault="failed")
        return timed

    def memory(self) -> Memory | None:
        """Run it again beside a shell that reads /proc/PID: the high-water mark, and what stands above the bare tool."""
        self._tell("memory", 0)
        line = self._line(
            ["--num_runs=3", "--min_secs=1", "--warmup_runs=1", "--warmup_min_secs=0"], self.trial.wanted.batch
        )
        script = process_memory.script(line, bare=f"{TOOL} --graph=bare.fifo", waiting=r"Graph: \[")
        done = self.session.run(f"{self._inputs(self.trial.wanted.batch)}\n{script}", timeout_s=self._patience(4))
        found = process_memory.read(done.text)
        if done.exit_code != 0 or found is None:
            self.doubts.append(f"no memory figures: {done.complaint or 'nothing was seen in /proc'}")
            return None
        return found

    def operators(self, timed: Timed) -> tuple[Operator, ...] | None:
        """Run it with its profiler on, in a run of its own since that costs time."""
        self._tell("operators", 0)
        own = ["--num_runs=20", "--min_secs=0.5", "--max_secs=30", "--warmup_runs=1", "--warmup_min_secs=0"]
        profiled = [
            "--enable_op_profiling=true",
            "--op_profiling_output_mode=csv",
            "--op_profiling_output_file=ops.csv",
        ]
        flags = ["--use_profiler=true"] if timed.said.dialect == "results" else profiled
        line = self._line([*own, *flags], self.trial.wanted.batch)
        script = f"{line} 2>&1 || exit $?; [ ! -f ops.csv ] || {{ echo; cat ops.csv; }}"
        try:
            done = self.session.run(script, timeout_s=self._patience(60))
        except DeviceFault as fault:
            if fault.fault not in ("killed", "timeout"):
                raise
            self.doubts.append(f"no operator times: {fault.message}")
            return None
        found = operator_table.operators(done.text) if done.exit_code == 0 else None
        if found is None:
            self.doubts.append("no operator times: this build of benchmark_model prints none")
        return found

    def outputs(self, timed: Timed) -> tuple[NDArray[Any], ...]:
        """Run every example once and return the raw outputs; none when the build cannot write them, and a doubt."""
        content = None if _INPUTS & set(timed.said.unconsumed) else self._outputs()
        if content is None:
            self.doubts.append(
                "this build of benchmark_model takes no inputs or writes no outputs: they are not compared"
            )
            return ()
        dtypes = [np.dtype(spec.dtype) for spec in self.trial.outputs]
        sizes = [dtype.itemsize * math.prod(spec.shape) for dtype, spec in zip(dtypes, self.trial.outputs, strict=True)]
        if len(content) != sum(sizes) * self.trial.feed.count:
            raise DeviceFault(
                f"{self.session.name}: benchmark_model wrote {len(content)} bytes of outputs, not the"
                f" {sum(sizes) * self.trial.feed.count} that the model has",
                fault="failed",
            )
        table = np.frombuffer(content, np.uint8).reshape(self.trial.feed.count, sum(sizes))
        ends = np.cumsum(sizes)
        return tuple(
            np.ascontiguousarray(table[:, end - size : end]).view(dtype).reshape(-1, *spec.shape)
            for spec, dtype, size, end in zip(self.trial.outputs, dtypes, sizes, ends, strict=True)
        )

    def _outputs(self) -> bytes | None:
        count, content = self.trial.feed.count, b""
        flags = ["--num_runs=1", "--min_secs=0", "--warmup_runs=0", "--warmup_min_secs=0", "--output_filepath=out.bin"]
        for start in range(0, count, BATCH_OF_EXAMPLES):
            end = min(start + BATCH_OF_EXAMPLES, count)
            script = _EXAMPLES.format(start=start, end=end, take=self._take("$i"), line=self._line(flags, 1))
            patience_s = SETUP_S + EXAMPLE_S * (end - start)
            done = self.session.run(script, timeout_s=patience_s, on_line=self._hear_example)
            said = self._judged(done, done.text)
            if "edgeship-no-output" in done.text or "input_layer_value_files" in said.unconsumed:
                return None
            content += self.session.fetch(f"{self.session.folder}/outputs.bin")
        return content

    def _hear_example(self, line: str) -> None:
        if line.startswith("edgeship-example "):
            self._tell("outputs", int(line.split()[1]), self.trial.feed.count)

    def _line(self, flags: Sequence[str], batch: int) -> str:
        return " ".join([self.command, *map(quote, (*flags, *self._input_flags(batch)))])

    def _input_flags(self, batch: int) -> list[str]:
        """Return the flags that name, shape and fill the inputs; a name with a comma cannot be said and is replaced.

        The tool goes by position and only warns of another name; within a file list a colon is doubled.
        """
        feed = self.trial.feed
        names = [name if name and "," not in name else f"input{number}" for number, name in enumerate(feed.names)]
        shapes = [list(array.shape[1:]) for array in feed.arrays]
        if batch != 1:
            shapes = [[batch, *shape[1:]] for shape in shapes]
        files = [f"{name.replace(':', '::')}:in{number}.bin" for number, name in enumerate(names)]
        return [
            f"--input_layer={','.join(names)}",
            f"--input_layer_shape={':'.join(','.join(map(str, shape)) for shape in shapes)}",
            f"--input_layer_value_files={','.join(files)}",
        ]

    def _inputs(self, batch: int) -> str:
        """Return the script that writes in0.bin, in1.bin, …: the first examples, as many as the batch takes."""
        if batch == 1:
            return self._take("0")
        clean = f"rm -f {' '.join(f'in{number}.bin' for number in range(len(self.blobs)))}"
        append = "; ".join(
            f"dd if={quote(blob)} bs={size} count=1 skip=$((i % {self.trial.feed.count})) 2>/dev/null >> in{number}.bin"
            for number, (blob, size) in enumerate(zip(self.blobs, self.sizes, strict=True))
        )
        return f"{clean}; i=0; while [ $i -lt {batch} ]; do {append}; i=$((i + 1)); done"

    def _take(self, which: str) -> str:
        return "; ".join(
            f"dd if={quote(blob)} of=in{number}.bin bs={size} count=1 skip={which} 2>dd.log || {{ head -n 1 dd.log; exit 74; }}"
            for number, (blob, size) in enumerate(zip(self.blobs, self.sizes, strict=True))
        )

    def _judged(self, done: Finished, log: str) -> Output:
        """Return what it said, unless it failed or did not take a flag that the figures rest on."""
        said = benchmark_output.read(log)
        relied = {flag.lstrip("-").partition("=")[0] for flag in self.ready.flags} | _NEEDED
        if self.trial.wanted.batch != 1:
            relied |= _INPUTS
        unknown = sorted(relied & set(said.unconsumed))
        if unknown:
            raise DeviceFault(
                f"{self.session.name}: this build of benchmark_model does not know --{', --'.join(unknown)}",
                fault="failed",
                hint="name a newer build, or another delegate in the target",
            )
        if done.exit_code != 0:
            raise self._failure(done, said)
        return said

    def _failure(self, done: Finished, said: Output) -> DeviceFault:
        if "No space left" in done.complaint or "No space left" in done.text:
            return fault_of(self.session.name, replace(done, errors=b"No space left"))
        words = f"{self.session.name}: benchmark_model"
        lines = done.text.strip().splitlines() or [done.complaint]
        last = lines[-1].strip()[:300]
        if self.ready.library and (known := edgetpu_delegate.explained(*lines, f"exit {done.exit_code}")):
            return DeviceFault(f"{words} failed: {last}: {known.meaning}", fault=known.fault, hint=known.move)
        if done.exit_code == 127 and "taskset" in done.text and TOOL not in last:
            return DeviceFault(f"{self.session.name}: the board has no `taskset`, which `cpus` needs", fault="missing")
        if done.exit_code in (126, 127):
            hint = (
                "`folder` in the device's entry names a place where programs may run" if done.exit_code == 126 else None
            )
            return DeviceFault(f"{words} cannot start there: {last}", fault="missing", hint=hint)
        if done.exit_code in _SIGNALS:
            return DeviceFault(
                f"{words} crashed ({_SIGNALS[done.exit_code]}): {said.complaint or last}", fault="failed"
            )
        return DeviceFault(f"{words} failed (exit {done.exit_code}): {said.complaint or last}", fault="failed")

    def _result(self) -> bytes:
        done = self.session.run("[ ! -f result.pb ] || cat result.pb", timeout_s=60)
        return done.output if done.exit_code == 0 else b""

    def _patience(self, seconds: float) -> float:
        return SETUP_S + SLOWER * seconds

    def _tell(self, stage: str, done: int, total: int = 0) -> None:
        self.on_progress(Progress(f"{stage} on {self.session.name}", done, total))


def _doubts(timed: Timed, ready: Ready, trial: Trial) -> list[str]:
    """Return what is odd about a timed run: what this build did not do, and what the CPU did for another delegate."""
    said, found = timed.said, list(timed.doubts)
    if "p50" not in (timed.samples.aggregate_ms or {}):
        found.append("this build of benchmark_model prints no percentiles: the median is not known")
    if said.rounded and timed.samples.aggregate_ms and "p50" not in timed.samples.aggregate_ms:
        found.append("its times are rounded to 0.01 ms")
    if _INPUTS & set(said.unconsumed):
        found.append("this build of benchmark_model takes no inputs: it was timed on random ones")
    if "max_secs" in said.unconsumed:
        found.append("this build of benchmark_model knows no --max_secs: the run was not cut off")
    if said.dialect == "results" and trial.wanted.threads != 1:
        found.append("LiteRT's benchmark_model may ignore --num_threads (LiteRT issue 3360)")
    if ready.delegate in ("GPU", "EXTERNAL") and (left := benchmark_output.fallback(said, ready.delegate)):
        found.append(left)
    if ready.delegate == "GPU":
        found.append("the GPU delegate may compute in 16-bit floats, as apps have it by default")
    return found
